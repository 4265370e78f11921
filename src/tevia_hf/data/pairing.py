"""Images and masks that belong together by name."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tevia_hf.data.affixes import Affix, affixes_of_both, find_affixes
from tevia_hf.data.example import Example, ImageRef
from tevia_hf.data.listing import Listing, Problem
from tevia_hf.io import has_slices, is_image_file, parse_address, stem, supported_suffixes
from tevia_hf.io.address import is_clutter

_MASK_NAME = re.compile(r"^mask_|_mask(_\d+)?$", re.IGNORECASE)
_CHANNEL = re.compile(r"(?P<name>.+)_\d{4}")  # of nnU-Net
_SHOWN = 3


class Files(NamedTuple):
    """What a folder holds: images by suffix, other files, and how many are clutter or folders."""

    folder: Path
    images: list[Path]
    others: list[Path]
    clutter: list[Path]
    folders: list[Path]


class Pairs(NamedTuple):
    """Image and masks by example id, and what is wrong with the files.

    `image_affix` and `mask_affix` are left out of the ids, `files` are those of both folders (once where they are one),
    `example_ids` what `example_id` makes of their names.
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
        """The example id of a row that names an image, a mask or neither's suffix, or a slice of one."""
        name, file_name = self.example_ids.get(address) or example_id(address), parse_address(address).path.name
        volume = name if file_name == address else example_id(file_name)
        own_part = name.removeprefix(volume)
        stripped = [affix.strip(volume) for affix in (Affix(), self.mask_affix, self.image_affix)]
        known = [other for other in stripped if other in self.images or other in self.masks]
        return known[0] + own_part if known and name.startswith(volume) else name


def example_id(file_name: str) -> str:
    """What the image, the mask and the row of an example share: "covid_1" of "mask_covid_1.png" and "covid_1.jpg".

    So too "scan_40" of slice 40, "scan.nii.gz#40", and "benign (1)" of "benign (1)_mask_2.png". Letters with accents
    are in Unicode's form NFC, however the file's name spells them.
    """
    name = unicodedata.normalize("NFC", file_name.strip().replace("\\", "/").rsplit("/", 1)[-1])
    if not is_image_file(image := parse_address(name)):
        return _MASK_NAME.sub("", name)
    whole = stem(ImageRef(image.path))
    return _MASK_NAME.sub("", whole) + stem(image).removeprefix(whole)


def pair_files(images: Path, masks: Path, splits: tuple[str, ...]) -> Pairs:
    """The image and mask files of two folders, which may be one: there masks are known by their names."""
    files = {"image": list_files(images)} | ({"mask": list_files(masks)} if masks != images else {})
    image_files, mask_files = files["image"].images, files.get("mask", files["image"]).images
    if images == masks:
        image_files = [path for path in image_files if not _MASK_NAME.search(stem(path))]
        mask_files = [path for path in mask_files if _MASK_NAME.search(stem(path))]
    image_ids, mask_ids = ({path: example_id(path.name) for path in paths} for paths in (image_files, mask_files))
    affixes = (Affix(), Affix(), []) if images == masks else _affixes({*image_ids.values()}, {*mask_ids.values()})
    image_affix, mask_affix, doubts = affixes
    by_id, repeated_images = _group(image_ids, image_affix, may_share=lambda path: False)
    masks_by_id, repeated_masks = _group(mask_ids, mask_affix, lambda path: bool(_MASK_NAME.search(stem(path))))
    problems = [Problem(text, splits) for text in repeated_images + repeated_masks + doubts]
    masks_of = {name: tuple(map(parse_address, paths)) for name, paths in masks_by_id.items()}
    images_of = {name: parse_address(paths[0]) for name, paths in by_id.items()}
    example_ids = {path.name: name for path, name in (image_ids | mask_ids).items()}
    return Pairs(images_of, masks_of, problems, files, example_ids, image_affix, mask_affix, splits)


def list_files(folder: Path) -> Files:
    found = Files(folder, [], [], [], [])
    for path in sorted(folder.iterdir()):
        if is_clutter(path):
            found.clutter.append(path)
        elif path.is_file():
            (found.images if is_image_file(path) else found.others).append(path)
        elif path.is_dir():
            found.folders.append(path)
    return found


def _affixes(images: set[str], masks: set[str]) -> tuple[Affix, Affix, list[str]]:
    """What to leave out of the ids of images and masks, and why some names do not tell which belong together."""
    if not images or not masks:
        return Affix(), Affix(), []
    of_masks = find_affixes(masks, images)
    of_images = [] if of_masks else find_affixes(images, masks)
    if len(found := of_masks + of_images) > 1:
        kind = "masks" if of_masks else "images"
        doubt = f"either {' or '.join(map(str, found))} could be left out of the names of all {kind}: rename the files"
        return Affix(), Affix(), [doubt]
    if found:
        return (Affix(), found[0], []) if of_masks else (found[0], Affix(), [])
    if images.isdisjoint(masks) and (both := affixes_of_both(images, masks)):
        return (*both, [])
    return Affix(), Affix(), _named_apart(images, masks)


def _named_apart(images: set[str], masks: set[str]) -> list[str]:
    """Why no mask, or only few, have an image."""
    channels = defaultdict(list)
    for name in sorted(images - masks):
        if match := _CHANNEL.fullmatch(name):
            channels[match["name"]].append(name)
    if several := next((names for base, names in channels.items() if base in masks and len(names) > 1), None):
        return [
            f"there are several channels an image ({', '.join(several[:_SHOWN])}): one file an image is read. Leave "
            "one channel of each in the folder, or join up to three into one RGB file"
        ]
    if images.isdisjoint(masks):
        return [
            f"no mask is named like an image: images are e.g. '{min(images)}', masks '{min(masks)}'. Give both the "
            "same name; an ending or beginning common to all masks (or to all images) may stay"
        ]
    return []


def example_of(address: str, pairs: Pairs) -> Example:
    """Image and masks that a row names, as far as they are there, and its volume, or else itself, as group.

    A slice that the row names goes over to both volumes.
    """
    name, wanted = pairs.id_of(address), parse_address(address)
    image, masks = pairs.images.get(name), pairs.masks.get(name, ())
    if wanted.number is None:
        return Example(name, name, image, masks)
    volume = pairs.id_of(wanted.path.name)
    image = image or next(iter(_slices(filter(None, [pairs.images.get(volume)]), wanted)), None)
    return Example(name, volume, image, masks or _slices(pairs.masks.get(volume, ()), wanted))


def examples_of_files(pairs: Pairs) -> list[Example]:
    """An example for each id of which there is a file, where no table says more."""
    names = sorted(pairs.images.keys() | pairs.masks.keys())
    return [Example(name, name, pairs.images.get(name), pairs.masks.get(name, ())) for name in names]


def unused_files(pairs: Pairs, addresses: list[str]) -> list[str]:
    """The files that no row speaks of, itself or by one of its slices."""
    parts = {part for address in addresses for part in (address, str(parse_address(address).path))}
    mentioned = set(map(pairs.id_of, parts))
    files = {str(image): name for name, image in pairs.images.items()}
    files |= {str(mask): name for name, masks in pairs.masks.items() for mask in masks}
    return [path for path, name in files.items() if name not in mentioned]


def add_file_findings(listing: Listing, pairs: Pairs) -> Listing:
    """The listing with what is wrong with its files, and which of them, or of their names, were left out."""
    listing.problems = [*pairs.problems, *listing.problems]
    for kind, affix in (("images", pairs.image_affix), ("masks", pairs.mask_affix)):
        if affix != Affix():
            listing.warnings.append(f"{affix} of all {kind} in {listing.source} is left out of their names")
    lack = {
        "image": {example.id for example in listing.examples if example.image is None},
        "mask": {example.id for example in listing.examples if not example.masks},
    }
    for kind, files in pairs.files.items():
        if files.clutter:
            names = ", ".join(path.name for path in files.clutter[:_SHOWN])
            listing.notes.append(f"{files.folder} holds {_count(files.clutter)} of no data ({names}), left out")
        if files.folders:
            names = ", ".join(path.name for path in files.folders[:_SHOWN])
            listing.warnings.append(f"{files.folder} holds {_count(files.folders, 'folder')} ({names}), not searched")
        _add_unread(listing, pairs.splits, kind, files, lack[kind])
    return listing


def _add_unread(listing: Listing, splits: tuple[str, ...], kind: str, files: Files, lack: set[str]) -> None:
    """Adds files that are no images by their suffix: a problem where an example lacks one of them, else a warning."""
    by_suffix: dict[str, list[Path]] = defaultdict(list)
    for path in files.others:
        by_suffix[path.suffix.lower()].append(path)
    convert = f"convert to PNG (read are {', '.join(supported_suffixes())})"
    for suffix, paths in by_suffix.items():
        ending = f"{_count(paths)} ending in {suffix}" if suffix else f"{_count(paths)} without a suffix"
        needed = [path.name for path in paths if {example_id(path.name), example_id(path.stem)} & lack]
        if needed or not files.images:
            names = ", ".join(f"'{name}'" for name in (needed or [path.name for path in paths])[:_SHOWN])
            text = f"{files.folder} holds {ending} ({names}), not readable as an image: {convert}"
            listing.problems.append(Problem(text, splits, can_be_skipped=bool(files.images)))
        else:
            listing.warnings.append(f"{files.folder} holds {ending}, no image by the suffix and left out")
    if not files.images and not files.others and not listing.examples:
        listing.problems.append(Problem(f"{files.folder} holds no {kind}: put them there, not into folders", splits))


def _count(paths: list[Path], what: str = "file") -> str:
    return f"{len(paths)} {what}{'' if len(paths) == 1 else 's'}"


def _group(
    ids: Mapping[Path, str], affix: Affix, may_share: Callable[[Path], bool]
) -> tuple[dict[str, list[Path]], list[str]]:
    """Files by example id, `ids` less the affix, and those that repeat one: the same id, no reason to be several."""
    groups: dict[str, list[Path]] = {}
    repeated = []
    for path, name in ids.items():
        group = groups.setdefault(affix.strip(name), [])
        if group and (not may_share(path) or stem(path) in map(stem, group)):
            repeated.append(f"'{group[0].name}' and '{path.name}' belong to the same example: keep one file of each")
        else:
            group.append(path)
    return groups, repeated


def _slices(volumes: Iterable[ImageRef], wanted: ImageRef) -> tuple[ImageRef, ...]:
    """The slice, and the window it is seen through, of each volume."""
    return tuple(replace(wanted, path=volume.path) for volume in volumes if has_slices(volume))
