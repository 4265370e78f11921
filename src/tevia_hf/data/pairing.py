"""Images and masks that belong together by name."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from tevia_hf.data.features import SPLITS, lesion_pixels, one_channel
from tevia_hf.data.listing import Problem, Row
from tevia_hf.io import is_image_file, parse_address, read_image, stem
from tevia_hf.metrics import IGNORE_LABEL

_MASK_NAME = re.compile(r"^mask_|_mask(_\d+)?$", re.IGNORECASE)


class Pairs(NamedTuple):
    """Image and masks by example id, and what is wrong with the files."""

    images: dict[str, Path]
    masks: dict[str, list[Path]]
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
    return Pairs({name: paths[0] for name, paths in by_id.items()}, masks_by_id, problems)


def row_of(name: str, address: str, pairs: Pairs) -> Row:
    """Image and mask of an example, None where missing, and its volume, or else itself, as group.

    A slice that its row names goes over to both volumes.
    """
    image, mask = pairs.images.get(name), pairs.masks.get(name, [])
    fragment = address.partition("#")[2] if parse_address(address).number is not None else ""
    volume = example_id(address.partition("#")[0]) if fragment else name
    if fragment:
        image = image or _slice(pairs.images.get(volume), fragment)
        mask = mask or [path for path in (_slice(path, fragment) for path in pairs.masks.get(volume, [])) if path]
    return {"id": name, "image": image, "mask": mask[0] if len(mask) == 1 else mask or None, "group": volume}


def unused_files(pairs: Pairs, addresses: list[str]) -> list[str]:
    """The files that no row speaks of, itself or by one of its slices."""
    mentioned = {example_id(part) for address in addresses for part in (address, address.partition("#")[0])}
    files = {**{str(path): name for name, path in pairs.images.items()}}
    files |= {str(path): name for name, paths in pairs.masks.items() for path in paths}
    return [path for path, name in files.items() if name not in mentioned]


def join_masks(rows: list[Row]) -> list[Problem]:
    """Puts one mask in the place of several of one example: what is lesion in any of them. Says what cannot be.

    "Do not count" (255 beside labels) of one file holds where no other marks a lesion.
    """
    problems = []
    for row in rows:
        if isinstance(row["mask"], list):
            try:
                row["mask"] = _union(row["mask"])
            except (ValueError, OSError) as error:
                splits = (row["split"],) if row["split"] else SPLITS
                problems.append(Problem(f"masks of '{row['id']}' cannot be joined: {error}", splits))
                row["mask"] = row["mask"][0]
    return problems


def _union(paths: list[Path]) -> Image.Image:
    masks = [_labels_of(path) for path in paths]
    if len({mask.shape for mask in masks}) > 1:
        sizes = ", ".join(f"{path.name} is {mask.shape}" for path, mask in zip(paths, masks, strict=True))
        raise ValueError(f"{sizes}. Bring them to the size of the image.")
    lesion, ignored = np.any(np.equal(masks, 1), axis=0), np.any(np.equal(masks, IGNORE_LABEL), axis=0)
    return Image.fromarray(np.where(lesion, 1, np.where(ignored, IGNORE_LABEL, 0)).astype(np.uint8))


def _labels_of(path: Path) -> np.ndarray:
    """(height, width) of 0, 1 for lesion and 255 for "do not count"."""
    mask = read_image(path, is_mask=True).array
    if not np.isin(mask, (0, 1, IGNORE_LABEL)).all():
        raise ValueError(f"{path.name} holds values other than 0, 1 and 255. Binarise it (mask > 127).")
    lesion, marked = lesion_pixels(mask), one_channel(mask) > 0
    return np.where(lesion, 1, np.where(marked, IGNORE_LABEL, 0)).astype(np.uint8)


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


def _slice(path: Path | None, fragment: str) -> Path | None:
    return Path(f"{path}#{fragment}") if path and parse_address(f"{path}#0").number is not None else None
