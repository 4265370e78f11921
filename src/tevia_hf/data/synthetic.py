"""Synthetic chest X-rays in which only the text identifies the target lesions.

Every image has four lesions of the same appearance in four of six cells, (left, right) x (upper, middle, lower). One or
two of them are targets: the text names their cells, and the mask contains them alone. A model that ignores the text can
at best segment all four (per-image Dice about 0.53); one that ignores the image misses the position within the cell.
"""

from types import SimpleNamespace
from typing import NamedTuple

import datasets
import numpy as np
from PIL import Image

from tevia_hf.data.features import SPLITS, dataset_from_rows
from tevia_hf.labels_tevia import WHITE
from tevia_hf.option_checks_tevia import check_choice
from tevia_hf.prompts import REGIONS, SIDES, Area, Side, qata_text

DEFAULT_COUNTS = {"train": 800, "val": 100, "test": 200}
LESIONS_PER_IMAGE = 4
MINIMUM_SIZE = 32
_CELLS = tuple((side, row) for side in SIDES for row in range(len(REGIONS)))
_LESION_RADIUS = (0.045, 0.056)
_GAP = 0.015  # margin on both sides of the line between two thirds


# Ranges of the sampled anatomy; lengths are fractions of the image side.
_ANATOMY = {
    "midline": (0.47, 0.53),
    "top": (0.07, 0.11),
    "bottom": (0.85, 0.90),
    "inner": (0.085, 0.105),  # from the midline to a lung
    "width": (0.27, 0.30),  # of a lung at its widest
    "rib_spacing": (0.080, 0.095),
    "rib_phase": (0.0, 1.0),
}


class _Lesion(NamedTuple):
    cell: tuple[Side, int]
    x: float
    y: float
    radius: float
    angle: float


def synthetic_dataset(
    split: str = "train", size: int = 64, count: int | None = None, seed: int = 0, counterpart: bool = False
) -> datasets.Dataset:
    """`count` images of `size` x `size` pixels (8-bit grey) with masks (0/255) and texts, held in memory.

    Args:
        split: "train", "val" or "test"; the same seed gives different images in different splits.
        count: Number of images; default 800, 100 and 200. A larger set begins with the images of a smaller one.
        counterpart: The same images and ids, with the same number of *other* lesions as targets: texts and masks show
            whether a model follows the text.

    Raises `ValueError` for an unknown split, a size below 32 and a count below 1.
    """
    check_choice("split", split, SPLITS)
    if size < MINIMUM_SIZE:
        raise ValueError(f"size is {size}: lesions vanish below {MINIMUM_SIZE} pixels, pass {MINIMUM_SIZE} or more.")
    count = DEFAULT_COUNTS[split] if count is None else count
    rows = []
    for index in range(count):
        name, rng = f"synthetic-{seed}-{split}-{index:05d}", np.random.default_rng([seed, SPLITS.index(split), index])
        rows.append({"id": name, "group": name, **_example(rng, size, counterpart)})
    return dataset_from_rows(rows, source=f"the synthetic set with count={count}")


def _example(rng: np.random.Generator, size: int, counterpart: bool) -> dict:
    anatomy = SimpleNamespace(**{name: rng.uniform(*ends) for name, ends in _ANATOMY.items()})
    cells = [_CELLS[index] for index in rng.choice(len(_CELLS), LESIONS_PER_IMAGE, replace=False)]
    lesions = [_sample_lesion(rng, anatomy, cell) for cell in cells]
    number = int(rng.integers(1, LESIONS_PER_IMAGE // 2 + 1))
    targets = lesions[-number:] if counterpart else lesions[:number]
    x, y = _grid(size)
    cells = [lesion.cell for lesion in targets]
    mask = np.max([_coverage(lesion, x, y, size) for lesion in targets], axis=0) >= 0.5
    areas = [Area(side, tuple(REGIONS[row] for lung, row in cells if lung == side)) for side in SIDES]
    return {
        "image": Image.fromarray(_radiograph(rng, anatomy, lesions, x, y, size)),
        "mask": Image.fromarray(mask.astype(np.uint8) * WHITE),
        "text": qata_text([area for area in areas if area.regions], count=number),
    }


def _sample_lesion(rng: np.random.Generator, anatomy: SimpleNamespace, cell: tuple[Side, int]) -> _Lesion:
    """A random lesion entirely inside its third of its lung."""
    side, row = cell
    radius = rng.uniform(*_LESION_RADIUS)
    first, last = anatomy.top + 0.04, anatomy.bottom - 0.06
    third = (last - first) / len(REGIONS)
    y = first + row * third + rng.uniform(radius + _GAP, third - radius - _GAP)
    depth = np.asarray((y - 0.25 * radius - anatomy.top) / (anatomy.bottom - anatomy.top))
    nearest = anatomy.inner + radius + 0.035
    farthest = anatomy.inner + anatomy.width * float(_widening(depth)) - radius - 0.015
    lateral = rng.uniform(nearest, max(nearest, farthest))
    x = anatomy.midline + (lateral if side == "right" else -lateral)
    return _Lesion(cell, x, y, radius, rng.uniform(0.0, np.pi))


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the pixels' centres, (1, size) and (size, 1)."""
    centres = (np.arange(size, dtype=np.float32) + 0.5) / size
    return centres[None, :], centres[:, None]


def _step(distance: np.ndarray, softness: float) -> np.ndarray:
    """0 below -`softness`, 1 above `softness`, and a linear ramp between."""
    return np.clip(0.5 + 0.5 * distance / softness, 0.0, 1.0)


def _bump(distance: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-np.square(distance / width))


def _widening(depth: np.ndarray) -> np.ndarray:
    """Relative width of a lung at `depth` below its top: a round apex, then nearly straight."""
    return np.sqrt(1.0 - np.clip(1.0 - depth, 0.0, 1.0) ** 4)


def _coverage(lesion: _Lesion, x: np.ndarray, y: np.ndarray, size: int) -> np.ndarray:
    """Share of each pixel that a lesion covers: a slightly oval disc with a border one pixel wide."""
    dx, dy = x - lesion.x, y - lesion.y
    along = dx * np.cos(lesion.angle) + dy * np.sin(lesion.angle)
    across = dy * np.cos(lesion.angle) - dx * np.sin(lesion.angle)
    return _step(lesion.radius - np.hypot(along, across * 1.12), 0.5 / size)


def _radiograph(
    rng: np.random.Generator, anatomy: SimpleNamespace, lesions: list[_Lesion], x: np.ndarray, y: np.ndarray, size: int
) -> np.ndarray:
    """The image, (size, size) uint8."""
    lateral = np.abs(x - anatomy.midline)
    body = _step(y - 0.01 - 1.6 * np.clip(lateral - 0.24, 0.0, None) ** 2, 0.015) * _step(0.475 - lateral, 0.012)
    lungs = _lungs(anatomy, x, y, lateral)
    intensity = body * (0.52 + 0.16 * y - 0.25 * np.clip(lateral - 0.34, 0.0, None))
    intensity = intensity + _mediastinum(anatomy, x, y, lateral)
    intensity = intensity * (1.0 - lungs) + lungs * _aerated(anatomy, x, y, lateral)
    intensity = intensity + body * _bones(anatomy, y, lateral) * (0.45 + 0.55 * lungs)
    opacity = np.max([_coverage(lesion, x, y, size) for lesion in lesions], axis=0)
    intensity = intensity + opacity * (0.36 + 0.10 * lungs) * (1.0 - intensity)
    return _expose(rng, intensity, size)


def _lungs(anatomy: SimpleNamespace, x: np.ndarray, y: np.ndarray, lateral: np.ndarray) -> np.ndarray:
    """Share of air in each pixel: two lungs above a domed diaphragm, a heart cut out of the right one."""
    depth = (y - anatomy.top) / (anatomy.bottom - anatomy.top)
    outer = anatomy.inner + anatomy.width * _widening(depth)
    diaphragm = anatomy.bottom - 0.05 + 0.9 * np.clip(lateral - anatomy.inner - 0.10, 0.0, None) ** 2
    inner = anatomy.inner + 0.014 * np.cos(6.0 * depth)
    air = _step(lateral - inner, 0.012) * _step(outer - lateral, 0.012) * _step(diaphragm - y, 0.012)
    heart = np.hypot((x - anatomy.midline - 0.03) / 0.095, (y - anatomy.bottom + 0.17) / 0.16)
    return air * _step(heart - 1.0, 0.10)


def _aerated(anatomy: SimpleNamespace, x: np.ndarray, y: np.ndarray, lateral: np.ndarray) -> np.ndarray:
    """Brightness of healthy lung: dark, with vessels spreading from the hilum."""
    hilum_y = 0.5 * (anatomy.top + anatomy.bottom) - 0.03
    away = np.hypot(lateral - anatomy.inner, 0.7 * (y - hilum_y))
    angle = np.arctan2(y - hilum_y, lateral - anatomy.inner + 0.02)
    branches = 0.5 + 0.5 * np.cos(13.0 * angle + 9.0 * away)
    return 0.15 + 0.05 * y + 0.16 * _bump(away, 0.09) + 0.05 * branches * _bump(away, 0.22)


def _mediastinum(anatomy: SimpleNamespace, x: np.ndarray, y: np.ndarray, lateral: np.ndarray) -> np.ndarray:
    """Spine with vertebrae, heart and dark trachea; brightness added to soft tissue."""
    vertebrae = 0.75 + 0.25 * np.cos(2.0 * np.pi * y / 0.062)
    spine = 0.14 * _bump(lateral, 0.045) * vertebrae
    heart = 0.10 * _bump(np.hypot((x - anatomy.midline - 0.04) / 1.1, y - anatomy.bottom + 0.18), 0.14)
    trachea = 0.20 * _bump(lateral, 0.018) * _step(0.34 - y, 0.05)
    return spine + heart - trachea


def _bones(anatomy: SimpleNamespace, y: np.ndarray, lateral: np.ndarray) -> np.ndarray:
    """Ribs and clavicles; brightness to add."""
    offset = lateral - 0.17
    back = np.cos(2.0 * np.pi * ((y - 1.6 * offset**2 + 0.10 * offset) / anatomy.rib_spacing + anatomy.rib_phase))
    front = np.cos(2.0 * np.pi * ((y - 0.75 * lateral) / (1.5 * anatomy.rib_spacing) - anatomy.rib_phase))
    cage = _step(lateral - 0.05, 0.03) * _step(0.43 - lateral, 0.02) * _step(y - anatomy.top, 0.03)
    ribs = cage * (0.11 * _step(back - 0.35, 0.35) + 0.035 * _step(front - 0.5, 0.3))
    clavicle = _bump(y - anatomy.top - 0.075 + 0.16 * lateral - 0.25 * offset**2, 0.014)
    return ribs * _step(anatomy.bottom - 0.02 - y, 0.05) + 0.17 * clavicle * _step(lateral - 0.04, 0.02)


def _expose(rng: np.random.Generator, intensity: np.ndarray, size: int) -> np.ndarray:
    """Adds shading, noise and a random overall exposure; returns 8 bit."""
    shading = Image.fromarray(rng.normal(0.0, 0.025, (5, 5)).astype(np.float32)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    intensity = intensity + np.asarray(shading) + rng.normal(0.0, 0.018, intensity.shape)
    intensity = rng.uniform(0.93, 1.07) * intensity + rng.uniform(-0.02, 0.04)
    return np.round(float(WHITE) * np.clip(intensity, 0.0, 1.0)).astype(np.uint8)
