"""How well predicted masks fit the true ones: overlap in both definitions in use, outlines, and lesions.

Empty masks: where neither mask holds a label, every score is perfect (1, and a distance of 0). Where only one does,
`dice`, `iou` and `surface_dice` are 0 and `hd95` is the picture's diagonal, the largest distance there can be.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from tevia_hf.intervals import Interval, ratio_interval
from tevia_hf.labels import IGNORE_INDEX, is_lesion

SURFACE_TOLERANCE = 2.0
LESION_OVERLAP = 0.1
TOUCHING = np.ones((3, 3), bool)  # pixels that meet at a corner belong to one lesion
PERFECT = {"dice": 1.0, "iou": 1.0, "hd95": 0.0, "surface_dice": 1.0}
MEANS = ("dice", "iou", "accuracy", "hd95", "surface_dice")
Spacing = tuple[float, float]


class ImageScores(NamedTuple):
    """One image's `values` by name, and what the pooled scores add up: pixels and lesions by (label, kind)."""

    values: dict[str, float]
    pixels: Counter
    lesions: Counter


def image_metrics(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: Spacing | None = None,
    surface_tolerance: float = SURFACE_TOLERANCE,
) -> dict[str, float]:
    """The scores of one image: `dice, iou, accuracy, surface_dice, lesion_precision, lesion_recall`, and `hd95`.

    All are fractions of 1, but `hd95` is in mm, or in pixels where no spacing is given.

    Args:
        prediction, reference: (height, width) integer labels, 0 the background; 255 in the reference is ignored, as if
            neither mask held anything there. With several labels each score is a mean over those present in either.
        spacing_mm: (row, column) size of a pixel.
        surface_tolerance: how far outlines may lie apart to count as equal in `surface_dice`, in the unit of `hd95`.

    `hd95` is the 95th percentile of the distances from each outline to the other, the larger of both directions.
    A true lesion is found, and a predicted one is right, where the other mask covers a tenth of it or more; without
    true (predicted) lesions, recall (precision) is 1.

    Raises `ValueError` when shapes differ or the prediction holds 255.
    """
    return score_image(prediction, reference, spacing_mm, surface_tolerance).values


def segmentation_metrics(
    predictions: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    spacing_mm: Sequence[Spacing | None] | None = None,
    surface_tolerance: float = SURFACE_TOLERANCE,
    outlines: bool = True,
) -> dict[str, float]:
    """The scores of a set of images, as `summarize` gives them.

    Args:
        predictions, references: lists of label arrays of any sizes, read as `image_metrics` reads them.
        spacing_mm: one (row, column) an image; mm are used where every image has one, else pixels.
        outlines: `False` leaves out `hd95` and `surface_dice`, most of the time it takes.

    Raises `ValueError` when counts or shapes differ, naming the index, or nothing is given.
    """
    return summarize(score_images(predictions, references, spacing_mm, surface_tolerance, outlines))


def score_images(
    predictions: Sequence[np.ndarray],
    references: Sequence[np.ndarray],
    spacing_mm: Sequence[Spacing | None] | None = None,
    surface_tolerance: float = SURFACE_TOLERANCE,
    outlines: bool = True,
) -> list[ImageScores]:
    """The scores of each image; arguments and errors as of `segmentation_metrics`."""
    spacings = common_spacing(spacing_mm, len(references))
    if not len(predictions) == len(references) == len(spacings):
        raise ValueError(
            f"{len(predictions)} predictions but {len(references)} references and {len(spacings)} spacings: give one "
            "for each."
        )
    if len(predictions) == 0:
        raise ValueError("No predictions were given: hand over at least one prediction and its reference.")
    trios = enumerate(zip(predictions, references, spacings, strict=True))
    return [
        score_image(prediction, reference, spacing, surface_tolerance, outlines, f"image {index}")
        for index, (prediction, reference, spacing) in trios
    ]


def common_spacing(spacing_mm: Sequence[Spacing | None] | None, count: int) -> Sequence[Spacing | None]:
    """The spacings where every image has one; else none at all, so that a mean does not mix millimetres and pixels."""
    if spacing_mm is None or any(spacing is None for spacing in spacing_mm):
        return [None] * count
    return spacing_mm


def summarize(scores: Sequence[ImageScores]) -> dict[str, float]:
    """One value a score of the set.

    `dice, iou, accuracy, hd95, surface_dice` are means over images; `dice_pooled, iou_pooled` count all pixels as those
    of one image, a mean over the labels present anywhere; `lesion_precision, lesion_recall` count all lesions.
    """
    return {name: float(np.mean(_ratios(*parts))) for name, parts in _parts(scores).items()}


def score_intervals(
    scores: Sequence[ImageScores], groups: Sequence[str] | None = None, seed: int = 0
) -> dict[str, Interval | None]:
    """Bootstrap 95 % interval of each value of `summarize`; `None` where there is but one group to draw.

    Args:
        groups: the patient of each image. Whole groups are drawn, since images of one patient are no independent
            evidence; by default each image is its own.
    """
    return {name: ratio_interval(*parts, groups=groups, seed=seed) for name, parts in _parts(scores).items()}


def score_image(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Spacing | None = None,
    surface_tolerance: float = SURFACE_TOLERANCE,
    outlines: bool = True,
    name: str = "the image",
) -> ImageScores:
    prediction, reference = _without_ignored(np.asarray(prediction), np.asarray(reference), name)
    labels = [int(label) for label in np.union1d(prediction, reference) if is_lesion(label)]
    pairs = {label: (prediction == label, reference == label) for label in labels}
    pixels = Counter({key: value for label, pair in pairs.items() for key, value in _pixel_counts(label, *pair)})
    lesions = Counter({key: value for label, pair in pairs.items() for key, value in _lesion_counts(label, *pair)})
    counted = reference != IGNORE_INDEX
    values = {
        **_overlap(pixels),
        "accuracy": float((prediction == reference)[counted].mean()) if counted.any() else 1.0,
        **(_outline_scores(list(pairs.values()), spacing, surface_tolerance) if outlines else {}),
        "lesion_precision": _share(lesions, "right", "predicted"),
        "lesion_recall": _share(lesions, "found", "true"),
    }
    return ImageScores(values, pixels, lesions)


def _without_ignored(prediction: np.ndarray, reference: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The prediction with background where the reference says "do not count"."""
    if prediction.shape != reference.shape:
        raise ValueError(
            f"Prediction of {name} has shape {prediction.shape} but its reference {reference.shape}: resize the "
            "prediction to the reference (`post_process_segmentation(..., target_sizes=...)`)."
        )
    if (prediction == IGNORE_INDEX).any():
        raise ValueError(f"Prediction of {name} holds 255, which is no label: write the lesion as 1.")
    return np.where(reference == IGNORE_INDEX, 0, prediction), reference


def _pixel_counts(label: int, predicted: np.ndarray, true: np.ndarray) -> Iterable[tuple[tuple[int, str], int]]:
    yield (label, "both"), int((predicted & true).sum())
    yield (label, "sum"), int(predicted.sum() + true.sum())


def _lesion_counts(label: int, predicted: np.ndarray, true: np.ndarray) -> Iterable[tuple[tuple[int, str], int]]:
    for (every, good), lesions, cover in (
        (("predicted", "right"), predicted, true),
        (("true", "found"), true, predicted),
    ):
        components, count = ndimage.label(lesions, TOUCHING)
        covered = ndimage.mean(cover, components, range(1, count + 1)) if count else np.zeros(0)
        yield (label, every), count
        yield (label, good), int((np.asarray(covered) >= LESION_OVERLAP).sum())


def _overlap(pixels: Counter) -> dict[str, float]:
    labels = {label for label, _ in pixels}
    if not labels:
        return {"dice": PERFECT["dice"], "iou": PERFECT["iou"]}
    both = np.array([pixels[label, "both"] for label in labels])
    total = np.array([pixels[label, "sum"] for label in labels])
    return {"dice": float((2 * both / total).mean()), "iou": float((both / (total - both)).mean())}


def _outline_scores(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], spacing: Spacing | None, tolerance: float
) -> dict[str, float]:
    scores = [_outline_pair(predicted, true, spacing or (1.0, 1.0), tolerance) for predicted, true in pairs]
    hd95, surface_dice = np.mean(scores, axis=0) if scores else (PERFECT["hd95"], PERFECT["surface_dice"])
    return {"hd95": float(hd95), "surface_dice": float(surface_dice)}


def _outline_pair(predicted: np.ndarray, true: np.ndarray, spacing: Spacing, tolerance: float) -> tuple[float, float]:
    if not (predicted.any() and true.any()):
        return float(np.hypot(*np.multiply(true.shape, spacing))), 0.0
    import torch  # both take seconds to load, which overlap alone need not wait for
    from monai.metrics import compute_hausdorff_distance, compute_surface_dice

    a, b = (torch.from_numpy(np.ascontiguousarray(mask))[None, None] for mask in (predicted, true))
    hd95 = compute_hausdorff_distance(a, b, include_background=True, percentile=95, spacing=list(spacing))
    surface_dice = compute_surface_dice(a, b, [tolerance], include_background=True, spacing=list(spacing))
    return float(hd95), float(surface_dice)


def _share(lesions: Counter, good: str, every: str) -> float:
    total = sum(value for (_, kind), value in lesions.items() if kind == every)
    return sum(value for (_, kind), value in lesions.items() if kind == good) / total if total else 1.0


def _parts(scores: Sequence[ImageScores]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every score of the set as a ratio of sums: numerators and denominators (images, labels), labels 1 for most."""
    means = {name: np.array([[score.values[name]] for score in scores]) for name in MEANS if name in scores[0].values}
    labels = sorted({label for score in scores for label, _ in score.pixels})
    both, total = (np.array([[score.pixels[label, kind] for label in labels] for score in scores]) for kind in _KINDS)
    lesions = {
        kind: np.array([[sum(n for (_, k), n in score.lesions.items() if k == kind)] for score in scores])
        for kind in ("predicted", "right", "true", "found")
    }
    return {
        **{name: (values, np.ones_like(values)) for name, values in means.items()},
        "dice_pooled": (2 * both, total),
        "iou_pooled": (both, total - both),
        "lesion_precision": (lesions["right"], lesions["predicted"]),
        "lesion_recall": (lesions["found"], lesions["true"]),
    }


_KINDS = ("both", "sum")


def _ratios(numerators: np.ndarray, denominators: np.ndarray) -> np.ndarray:
    """Sum over images by sum over images, one value a label; 1 where there was nothing to count."""
    top, bottom = numerators.sum(0), denominators.sum(0)
    ratios = np.divide(top, bottom, out=np.ones(len(top)), where=bottom > 0)
    return ratios if len(ratios) else np.ones(1)
