"""Scores of a set of images from those of each: means, ratios, intervals, and scores per class."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from tevia_hf.intervals import Interval, ratio_intervals
from tevia_hf.mask_scores import Sums
from tevia_hf.metric_table import DISTANCE, METRICS, POOLED

EMPTY_MASK_RULE = (
    "Empty masks: if neither mask holds a lesion, a score is 1 (a distance 0). For a missed lesion, and a false one in "
    "an image without any, `dice`, `iou` and `surface_dice` are 0 and `hd95` is the image's diagonal. Without "
    "predicted lesions `lesion_precision` is 1, without true ones `lesion_recall`."
)
ADVICE_FOR_FAILURE = (
    "Train longer (`num_train_epochs`), try another `learning_rate`, check masks and texts with `tevia check-data`; if "
    "most masks are empty, train on more images with lesions."
)
FALSE_POSITIVES = "false_positives"
BOTH = "_both"  # suffix of a distance over the images whose masks both hold the class


class ImageScores(NamedTuple):
    """The scores of one image.

    Args:
        values: metric -> score.
        sums: metric -> sums, for metrics that are ratios over the whole set.
        predicted_pixels: number of lesion pixels in the prediction, without ignored ones.
        true_pixels: number of lesion pixels in the reference.
        classes: label -> scores of this class alone, if classes were requested.
    """

    values: dict[str, float]
    sums: dict[str, Sums]
    predicted_pixels: int
    true_pixels: int
    classes: Mapping[int, "ImageScores"] = {}


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class, or of all lesions, on a set of images.

    Args:
        images: number of images whose true mask holds the class.
        absent: number of other images.
        predicted: number of images whose predicted mask holds the class.
        both: number of images whose masks both hold it.
        scores: metric -> mean over `images`; for a ratio of sums, over all images. Distances, which an empty mask makes
            as large as the image, are also given over `both`, as "hd95_both". "false_positives" is the share of
            `absent` whose predicted mask holds the class. `None` without such images, and for a ratio whose
            denominator is 0, such as the precision of a class that is never predicted.
        intervals: metric -> bootstrap 95 % interval, resampled by group; empty if not requested.
        counts: metric -> numerator and denominator of a ratio of sums, such as detected and true lesions.
    """

    images: int
    absent: int
    predicted: int
    both: int
    scores: dict[str, float | None]
    intervals: dict[str, Interval | None]
    counts: dict[str, tuple[float, float]]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def summarize(scores: Sequence[ImageScores]) -> dict[str, float]:
    """The scores of a set of images.

    `dice, iou, accuracy, hd95, surface_dice` are means over images; `dice_pooled, iou_pooled` treat all pixels as those
    of one image, with a mean over the labels present in any; `lesion_precision, lesion_recall` are over all lesions.
    """
    return {key: ratio_of_sums(*sums) for key, sums in ratio_sums(scores).items()}


def score_intervals(
    scores: Sequence[ImageScores], groups: Sequence[str] | None = None, seed: int = 0
) -> dict[str, Interval | None]:
    """Bootstrap 95 % interval of each value of `summarize`; `None` if there is only one group.

    Args:
        groups: the patient of each image. Patients are resampled, since images of one patient are not independent; by
            default each image is a group of its own.
    """
    return ratio_intervals(ratio_sums(scores), groups, seed)


def class_scores(
    scores: Sequence[ImageScores], groups: Sequence[str] | None = None, seed: int = 0, with_intervals: bool = True
) -> ClassScores:
    """The scores of a set of images, those with and without a lesion apart.

    Args:
        scores: of all images: of all classes, or `ImageScores.classes[label]` of one.
        groups: the patient of each image, see `score_intervals`.
        seed: of the intervals.
        with_intervals: `False` leaves the intervals out.
    """
    is_true = np.array([score.true_pixels > 0 for score in scores])
    is_predicted = np.array([score.predicted_pixels > 0 for score in scores])
    group_of = np.asarray(groups if groups is not None else np.arange(len(scores)), dtype=str)
    sums = _sums_and_images(scores, is_true, is_predicted)
    return ClassScores(
        images=int(is_true.sum()),
        absent=int((~is_true).sum()),
        predicted=int(is_predicted.sum()),
        both=int((is_true & is_predicted).sum()),
        scores={
            key: ratio_of_sums(tops[used], bottoms[used]) if used.any() else None
            for key, (tops, bottoms, used) in sums.items()
        },
        intervals=_intervals_over_images(sums, group_of, seed) if with_intervals else {},
        counts={key: (float(sums[key][0].sum()), float(sums[key][1].sum())) for key in scores[0].sums},
    )


def _sums_and_images(
    scores: Sequence[ImageScores], is_true: np.ndarray, is_predicted: np.ndarray
) -> dict[str, tuple[np.ndarray, ...]]:
    """Metric -> numerators, denominators and the images that its value in `ClassScores` is computed over."""
    parts: dict[str, tuple[np.ndarray, ...]] = {}
    for key, (tops, bottoms) in ratio_sums(scores).items():
        if key in scores[0].sums:
            parts[key] = tops, bottoms, np.any(bottoms, axis=1)  # others would have no effect, except on resamples
        else:
            parts[key] = tops, bottoms, is_true
            if METRICS[key].unit == DISTANCE:
                parts[key + BOTH] = tops, bottoms, is_true & is_predicted
    parts[FALSE_POSITIVES] = is_predicted[:, None].astype(float), np.ones((len(scores), 1)), ~is_true
    return parts


def _intervals_over_images(
    sums: Mapping[str, tuple[np.ndarray, ...]], groups: np.ndarray, seed: int
) -> dict[str, Interval | None]:
    """The interval of each score over its images; scores over the same images share their resamples."""
    shared: dict[bytes, list[str]] = {}
    for key, (_, _, used) in sums.items():
        shared.setdefault(used.tobytes(), []).append(key)
    intervals: dict[str, Interval | None] = dict.fromkeys(sums)
    for keys in shared.values():
        used = sums[keys[0]][2]
        if used.any():
            parts = {key: (sums[key][0][used], sums[key][1][used]) for key in keys}
            intervals |= ratio_intervals(parts, groups[used], seed)
    return intervals


def failure_text(foreground: ClassScores) -> str:
    """What to do about a model none of whose predicted pixels lies on a lesion of its class; "" otherwise."""
    if not foreground.images or foreground.scores[POOLED] != 0:
        return ""
    marks = "no predicted pixel lies on a lesion of its class" if foreground.predicted else "the model marks nothing"
    return f"Recall 0: {marks}; images with a lesion: {foreground.images}. {ADVICE_FOR_FAILURE}"


def scores_by_class(
    scores: Sequence[ImageScores], classes: Mapping[int, str], **options: Any
) -> dict[str, ClassScores]:
    """Name -> scores of each class, for images scored with these `classes`; `options` are those of `class_scores`.

    Empty for a single class, whose scores are those of all lesions.
    """
    if len(classes) < 2:
        return {}
    return {
        name: class_scores([score.classes[label] for score in scores], **options) for label, name in classes.items()
    }


def ratio_sums(scores: Sequence[ImageScores]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Every score as a ratio of sums: numerators and denominators (images, labels); for means there is one label."""
    means = {
        key: np.array([[score.values[key]] for score in scores])
        for key in scores[0].values
        if key not in scores[0].sums
    }
    ratios = {key: _sums_by_label([score.sums[key] for score in scores]) for key in scores[0].sums}
    return {key: (values, np.ones_like(values)) for key, values in means.items()} | ratios


def _sums_by_label(sums: Sequence[Sums]) -> tuple[np.ndarray, np.ndarray]:
    """(images, labels) numerators and denominators, 0 if an image lacks a label."""
    labels = sorted({label for image_sums in sums for label in image_sums})
    top, bottom = (
        np.array([[image_sums.get(label, (0, 0))[index] for label in labels] for image_sums in sums])
        for index in (0, 1)
    )
    return top, bottom


def ratio_of_sums(numerators: np.ndarray, denominators: np.ndarray) -> float:
    """Ratio of the sums over images, a mean over labels; 1 for a label whose denominator is 0."""
    top, bottom = numerators.sum(0), denominators.sum(0)
    ratios = np.divide(top, bottom, out=np.ones(len(top)), where=bottom > 0)
    return float(np.mean(ratios)) if len(ratios) else 1.0


def class_key(metric: str, name: str) -> str:
    """The key of a class's score in flat mappings and tables, such as "dice/benign"."""
    return f"{metric}/{name}"
