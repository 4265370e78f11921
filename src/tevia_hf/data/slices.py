"""Expansion of volumes with label volumes to their slices."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from tevia_hf.data.example import Example
from tevia_hf.data.listing import Listing, Problem
from tevia_hf.io import ImageRef
from tevia_hf.io.address import Plane
from tevia_hf.io.grid import grid_fault
from tevia_hf.io.nifti import NiftiVolume
from tevia_hf.io.volumes import as_volume, is_nifti, open_volume

ALL, LESION = "all", "lesion"
RESAMPLE = "resample the mask to the grid of the image (nearest neighbour), or pair it with the right image"


def check_slices(value: str | int) -> str | int:
    """The value as `with_slices` takes it. Raises `ValueError` for another one."""
    if value in (ALL, LESION):
        return value
    if str(value).isdecimal() and int(value) > 0:
        return int(value)
    raise ValueError(f"slices is '{value}': give 'all', 'lesion', or a number n for every n-th slice.")


def with_slices(listing: Listing, slices: str | int = ALL) -> Listing:
    """The listing with an example for each slice of a NIfTI volume, in the plane in which the image's are stored.

    They have the text and the group of the volume, so that no split cuts through it. Slices with rows of their own, in
    the same plane, are examples whatever `slices` is. Volumes whose labels lie on another grid become problems.

    Args:
        slices: "all"; "lesion" for those in which a mask has a label; or n for every n-th.
    """
    own_rows = {example.id for example in listing.examples}
    examples: list[Example] = []
    problems: list[Problem] = []
    planes: dict[Path, Plane] = {}
    for example in listing.examples:
        image = example.image
        if image is None or not example.masks or not is_nifti(image) or not (image := as_volume(image)).is_volume:
            examples.append(with_volume(example))
            continue
        try:
            planes[image.path] = image.plane
            expanded = slices_of(example, image, slices)
            examples += [one for one in expanded if one.id not in own_rows]
        except ValueError as error:
            problems.append(Problem(str(error), (str(example.split),), can_be_skipped=True))
    problems += cut_volumes(examples)
    for example in examples:
        own = example.image
        if own is not None and planes.get(own.path, own.plane) != own.plane:
            text = (
                f"'{own.name}' is a slice in another plane than the others of its volume: write "
                f"{own.path.name}#{planes[own.path]}:NUMBER"
            )
            problems.append(Problem(text, (str(example.split),), can_be_skipped=True))
    return replace(listing, examples=examples, problems=[*listing.problems, *problems])


def cut_volumes(examples: Sequence[Example]) -> list[Problem]:
    """The volumes of which slices are in several splits."""
    splits: dict[Path, set[str]] = {}
    for example in examples:
        if example.image is not None and isinstance(example.image.number, int):
            splits.setdefault(example.image.path, set()).add(str(example.split))
    return [
        Problem(
            f"the slices of {path} are in the splits {sorted(own)}: give all rows of a volume one", tuple(sorted(own))
        )
        for path, own in splits.items()
        if len(own) > 1
    ]


def with_volume(example: Example) -> Example:
    """The example with the id of its volume, if it is a slice that has a row of its own."""
    number = "" if example.image is None else f"_{example.image.number}"
    return (
        replace(example, volume=example.id.removesuffix(number)) if number and example.id.endswith(number) else example
    )


def slices_of(example: Example, image: ImageRef, slices: str | int) -> Iterator[Example]:
    """The chosen slices of a volume as examples. Raises `ValueError` if image and masks differ in space."""
    volume = NiftiVolume(image)
    masks = [replace(mask, plane=image.plane, number="all") for mask in example.masks]
    for mask in masks:
        if not is_nifti(mask):
            raise ValueError(f"image {image.path} is a volume, but its mask {mask.path} is none: save it as NIfTI too")
        if fault := difference(volume, NiftiVolume(mask, is_mask=True)):
            raise ValueError(f"image {image.path}: {fault}")
    numbers = range(0, volume.count, slices if isinstance(slices, int) else 1)
    has_lesion = numbers_with_label(masks, numbers) if slices == LESION else numbers
    for number in has_lesion:
        parts = (replace(image, number=number), *(replace(mask, number=number) for mask in masks))
        yield replace(example, id=f"{example.id}_{number}", image=parts[0], masks=parts[1:], volume=example.id)


def difference(image: NiftiVolume, mask: NiftiVolume) -> str | None:
    """How the grid of a mask volume differs from that of its image, and the fix; `None` if they are one."""
    if image.is_placed != mask.is_placed:
        lacking = mask if image.is_placed else image
        return (
            f"{lacking.path} has no position (qform and sform codes are 0), so that its left and right are unknown. "
            "Save it with the affine of the other if it has the same axes: nibabel.Nifti1Image(voxels, other.affine)"
        )
    if image.count != mask.count:
        shapes = [" x ".join(map(str, volume.grid.size)) for volume in (mask, image)]
        return f"the mask {mask.path} is {shapes[0]} (columns, rows, slices), but the image {shapes[1]}: {RESAMPLE}"
    ends = (0, image.count - 1)
    return next(filter(None, (grid_fault(image.outline(number), mask.outline(number)) for number in ends)), None)


def numbers_with_label(masks: Sequence[ImageRef], numbers: Iterable[int]) -> list[int]:
    """The slices in which a mask has a label other than 0."""
    with TemporaryDirectory() as folder:
        volumes = [open_volume(mask, Path(folder), is_mask=True) for mask in masks]
        return [number for number in numbers if any(volume.slice(number).array.any() for volume in volumes)]
