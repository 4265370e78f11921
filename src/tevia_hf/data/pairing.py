"""Images and masks that belong together by name."""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tevia_hf.data.example import Example, ImageRef
from tevia_hf.data.listing import Problem
from tevia_hf.io import has_slices, is_image_file, parse_address, stem

_MASK_NAME = re.compile(r"^mask_|_mask(_\d+)?$", re.IGNORECASE)


class Pairs(NamedTuple):
    """Image and masks by example id, and what is wrong with the files."""

    images: dict[str, ImageRef]
    masks: dict[str, tuple[ImageRef, ...]]
    problems: list[Problem]


def example_id(file_name: str) -> str:
    """What the image, the mask and the row of an example share: "covid_1" of "mask_covid_1.png" and "covid_1.jpg".

    So too "scan_40" of slice 40, "scan.nii.gz#40", and "benign (1)" of "benign (1)_mask_2.png".
    """
    name = file_name.strip().replace("\\", "/").rsplit("/", 1)[-1]
    return _MASK_NAME.sub("", stem(name) if is_image_file(name) else name)


def pair_files(images: Path, masks: Path, splits: tuple[str, ...]) -> Pairs:
    """The image and mask files of two folders, which may be one: there masks are known by their names."""
    image_files, mask_files = (sorted(filter(is_image_file, folder.iterdir())) for folder in (images, masks))
    if images == masks:
        image_files = [path for path in image_files if not _MASK_NAME.search(stem(path))]
        mask_files = [path for path in mask_files if _MASK_NAME.search(stem(path))]
    by_id, image_twins = _group(image_files, may_share=lambda path: False)
    masks_by_id, mask_twins = _group(mask_files, may_share=lambda path: bool(_MASK_NAME.search(stem(path))))
    problems = [Problem(text, splits) for text in image_twins + mask_twins]
    masks_of = {name: tuple(map(parse_address, paths)) for name, paths in masks_by_id.items()}
    return Pairs({name: parse_address(paths[0]) for name, paths in by_id.items()}, masks_of, problems)


def example_of(address: str, pairs: Pairs) -> Example:
    """Image and masks that a row names, as far as they are there, and its volume, or else itself, as group.

    A slice that the row names goes over to both volumes.
    """
    name, wanted = example_id(address), parse_address(address)
    image, masks = pairs.images.get(name), pairs.masks.get(name, ())
    if wanted.number is None:
        return Example(name, name, image, masks)
    volume = example_id(wanted.path.name)
    image = image or next(iter(_slices(filter(None, [pairs.images.get(volume)]), wanted)), None)
    return Example(name, volume, image, masks or _slices(pairs.masks.get(volume, ()), wanted))


def examples_of_files(pairs: Pairs) -> list[Example]:
    """An example for each id of which there is a file, where no table says more."""
    names = sorted(pairs.images.keys() | pairs.masks.keys())
    return [Example(name, name, pairs.images.get(name), pairs.masks.get(name, ())) for name in names]


def unused_files(pairs: Pairs, addresses: list[str]) -> list[str]:
    """The files that no row speaks of, itself or by one of its slices."""
    mentioned = {example_id(part) for address in addresses for part in (address, str(parse_address(address).path))}
    files = {str(image): name for name, image in pairs.images.items()}
    files |= {str(mask): name for name, masks in pairs.masks.items() for mask in masks}
    return [path for path, name in files.items() if name not in mentioned]


def _group(paths: list[Path], may_share: Callable[[Path], bool]) -> tuple[dict[str, list[Path]], list[str]]:
    """Files by example id, and those that are twins: the same id and no reason to be several."""
    groups: dict[str, list[Path]] = {}
    twins = []
    for path in paths:
        group = groups.setdefault(example_id(path.name), [])
        if group and (not may_share(path) or stem(path) in map(stem, group)):
            twins.append(f"'{group[0].name}' and '{path.name}' belong to the same example: keep one file of each")
        else:
            group.append(path)
    return groups, twins


def _slices(volumes: Iterable[ImageRef], wanted: ImageRef) -> tuple[ImageRef, ...]:
    """The slice, and the window it is seen through, of each volume."""
    return tuple(replace(wanted, path=volume.path) for volume in volumes if has_slices(volume))
