"""Pairing of images and masks by file name."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tevia_hf.data.affixes import Affix, affixes_of_both, find_affixes
from tevia_hf.data.example import MASK_NAME, Example, ImageRef, example_id
from tevia_hf.data.listing import Listing, Problem
from tevia_hf.io import has_slices, is_image_file, parse_address, stem, supported_suffixes
from tevia_hf.io.address import is_clutter

_CHANNEL = re.compile(r"(?P<name>.+)_\d{4}")  # of nnU-Net
_SHOWN = 3


class Files(NamedTuple):
    """The content of a folder: images (by suffix), other files, clutter and folders."""

    folder: Path
    images: list[Path]
    others: list[Path]
    clutter: list[Path]
    folders: list[Path]


class Pairs(NamedTuple):
    """Images and masks by example id, and problems of the files.

    `image_affix` and `mask_affix` are stripped from the ids, `files` lists both folders (once if they are the same) and
    `example_ids` maps file names to the result of `example_id`.
    """

    images: dict[str, ImageRef]
    masks: dict[str, tuple[ImageRef, ...]]
    problems: list[Problem]
    files: dict[str, Files]
    example_ids: dict[str, str]
    image_affix: Affix = Affix()
    mask_affix: Affix = Affix()
    splits: tuple[str, ...] = ()

    def id_of(self, address: str) -> str:
        """The example id of a row that names an image or a mask, with or without suffix, or a slice of one."""
        name, file_name = self.example_ids.get(address) or example_id(address), parse_address(address).path.name
        volume = name if file_name == address else example_id(file_name)
        own_part = name.removeprefix(volume)
        stripped = [affix.strip(volume) for affix in (Affix(), self.mask_affix, self.image_affix)]
        known = [other for other in stripped if other in self.images or other in self.masks]
        return known[0] + own_part if known and name.startswith(volume) else name


def pair_files(images: Path, masks: Path, splits: tuple[str, ...]) -> Pairs:
    """The image and mask files of two folders; if both are the same folder, masks are recognized by their names."""
    files = {"image": list_files(images)} | ({"mask": list_files(masks)} if masks != images else {})
    image_files, mask_files = files["image"].images, files.get("mask", files["image"]).images
    if images == masks:
        image_files = [path for path in image_files if not MASK_NAME.search(stem(path))]
        mask_files = [path for path in mask_files if MASK_NAME.search(stem(path))]
    image_ids, mask_ids = ({path: example_id(path.name) for path in paths} for paths in (image_files, mask_files))
    affixes = (Affix(), Affix(), []) if images == masks else _affixes({*image_ids.values()}, {*mask_ids.values()})
    image_affix, mask_affix, ambiguities = affixes
    by_id, repeated_images = _group(image_ids, image_affix, may_share=lambda path: False)
    masks_by_id, repeated_masks = _group(mask_ids, mask_affix, lambda path: bool(MASK_NAME.search(stem(path))))
    problems = [Problem(text, splits) for text in repeated_images + repeated_masks + ambiguities]
    masks_of = {name: tuple(map(parse_address, paths)) for name, paths in masks_by_id.items()}
    images_of = {name: parse_address(paths[0]) for name, paths in by_id.items()}
    example_ids = {path.name: name for path, name in (image_ids | mask_ids).items()}
    return Pairs(images_of, masks_of, problems, files, example_ids, image_affix, mask_affix, splits)


def list_files(folder: Path) -> Files:
    files = Files(folder, [], [], [], [])
    for path in sorted(folder.iterdir()):
        if is_clutter(path):
            files.clutter.append(path)
        elif path.is_file():
            (files.images if is_image_file(path) else files.others).append(path)
        elif path.is_dir():
            files.folders.append(path)
    return files


def _affixes(images: set[str], masks: set[str]) -> tuple[Affix, Affix, list[str]]:
    """The affixes to strip from the ids of images and masks, and problems of names that do not match."""
    if not images or not masks:
        return Affix(), Affix(), []
    mask_affixes = find_affixes(masks, images)
    image_affixes = [] if mask_affixes else find_affixes(images, masks)
    if len(affixes := mask_affixes + image_affixes) > 1:
        kind = "masks" if mask_affixes else "images"
        choices = " or ".join(map(str, affixes))
        problem = f"either {choices} could be left out of the names of all {kind}: rename the files"
        return Affix(), Affix(), [problem]
    if affixes:
        return (Affix(), affixes[0], []) if mask_affixes else (affixes[0], Affix(), [])
    if images.isdisjoint(masks) and (both := affixes_of_both(images, masks)):
        return (*both, [])
    return Affix(), Affix(), _named_apart(images, masks)


def _named_apart(images: set[str], masks: set[str]) -> list[str]:
    """Problems where no mask, or only some, have an image."""
    channels = defaultdict(list)
    for name in sorted(images - masks):
        if match := _CHANNEL.fullmatch(name):
            channels[match["name"]].append(name)
    if several := next((names for base, names in channels.items() if base in masks and len(names) > 1), None):
        return [
            f"there are several channels per image ({', '.join(several[:_SHOWN])}): one file per image is read. Keep "
            "one channel of each in the folder, or join up to three into one RGB file"
        ]
    if images.isdisjoint(masks):
        return [
            f"no mask is named like an image: images are e.g. '{min(images)}', masks '{min(masks)}'. Give both the "
            "same name; a suffix or prefix common to all masks (or to all images) is allowed"
        ]
    return []


def example_of(address: str, pairs: Pairs) -> Example:
    """The example of a row, with the image and masks that exist; its group is its volume, or else itself.

    A slice named by the row is applied to both the image and the mask volume.
    """
    name, slice_ref = pairs.id_of(address), parse_address(address)
    image, masks = pairs.images.get(name), pairs.masks.get(name, ())
    if slice_ref.number is None:
        return Example(name, name, image, masks)
    volume = pairs.id_of(slice_ref.path.name)
    image = image or next(iter(_slices(filter(None, [pairs.images.get(volume)]), slice_ref)), None)
    return Example(name, volume, image, masks or _slices(pairs.masks.get(volume, ()), slice_ref))


def examples_of_files(pairs: Pairs) -> list[Example]:
    """An example for each id that has a file, for folders without a table."""
    names = sorted(pairs.images.keys() | pairs.masks.keys())
    return [Example(name, name, pairs.images.get(name), pairs.masks.get(name, ())) for name in names]


def unused_files(pairs: Pairs, addresses: list[str]) -> list[str]:
    """The files that no row names, neither as a whole nor by a slice."""
    parts = {part for address in addresses for part in (address, str(parse_address(address).path))}
    mentioned = set(map(pairs.id_of, parts))
    files = {str(image): name for name, image in pairs.images.items()}
    files |= {str(mask): name for name, masks in pairs.masks.items() for mask in masks}
    return [path for path, name in files.items() if name not in mentioned]


def add_file_findings(listing: Listing, pairs: Pairs) -> Listing:
    """The listing with problems and warnings about its files: unpaired, skipped, or with stripped names."""
    listing.problems = [*pairs.problems, *listing.problems]
    for kind, affix in (("images", pairs.image_affix), ("masks", pairs.mask_affix)):
        if affix != Affix():
            listing.warnings.append(f"{affix} of all {kind} in {listing.source} is stripped from their names")
    lacking = {
        "image": {example.id for example in listing.examples if example.image is None},
        "mask": {example.id for example in listing.examples if not example.masks},
    }
    for kind, files in pairs.files.items():
        if files.clutter:
            names = ", ".join(path.name for path in files.clutter[:_SHOWN])
            listing.notes.append(f"{files.folder} holds {_count(files.clutter)} that are no data ({names}), ignored")
        if files.folders:
            names = ", ".join(path.name for path in files.folders[:_SHOWN])
            listing.warnings.append(f"{files.folder} holds {_count(files.folders, 'folder')} ({names}), not searched")
        _add_unread(listing, pairs.splits, kind, files, lacking[kind])
    return listing


def _add_unread(listing: Listing, splits: tuple[str, ...], kind: str, files: Files, lacking: set[str]) -> None:
    """Adds files without an image suffix: a problem if an example lacks one of them, else a warning."""
    by_suffix: dict[str, list[Path]] = defaultdict(list)
    for path in files.others:
        by_suffix[path.suffix.lower()].append(path)
    convert = f"convert to PNG (supported: {', '.join(supported_suffixes())})"
    for suffix, paths in by_suffix.items():
        ending = f"{_count(paths)} ending in {suffix}" if suffix else f"{_count(paths)} without a suffix"
        needed = [path.name for path in paths if {example_id(path.name), example_id(path.stem)} & lacking]
        if needed or not files.images:
            names = ", ".join(f"'{name}'" for name in (needed or [path.name for path in paths])[:_SHOWN])
            text = f"{files.folder} holds {ending} ({names}), not readable as an image: {convert}"
            listing.problems.append(Problem(text, splits, can_be_skipped=bool(files.images)))
        else:
            listing.warnings.append(f"{files.folder} holds {ending}, no image suffix: ignored")
    if not files.images and not files.others and not listing.examples:
        listing.problems.append(Problem(f"{files.folder} holds no {kind}: put them directly into this folder", splits))


def _count(paths: list[Path], what: str = "file") -> str:
    return f"{len(paths)} {what}{'' if len(paths) == 1 else 's'}"


def _group(
    ids: Mapping[Path, str], affix: Affix, may_share: Callable[[Path], bool]
) -> tuple[dict[str, list[Path]], list[str]]:
    """Files by example id (`ids` without the affix), and messages for files that share an id but must not."""
    groups: dict[str, list[Path]] = {}
    repeated = []
    for path, name in ids.items():
        group = groups.setdefault(affix.strip(name), [])
        if group and (not may_share(path) or stem(path) in map(stem, group)):
            repeated.append(f"'{group[0].name}' and '{path.name}' belong to the same example: keep one file of each")
        else:
            group.append(path)
    return groups, repeated


def _slices(volumes: Iterable[ImageRef], slice_ref: ImageRef) -> tuple[ImageRef, ...]:
    """The slice, with its window, of each volume."""
    return tuple(replace(slice_ref, path=volume.path) for volume in volumes if has_slices(volume))
