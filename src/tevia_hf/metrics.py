"""Overlap of predicted and true masks, in the two definitions that the literature mixes."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

IGNORE_LABEL = 255


def image_metrics(prediction: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """`dice` and `iou` of one image, fractions of 1.

    Both are 2-D integer arrays of labels, 0 the background; 255 in the reference is ignored. With several labels: mean
    over the foreground labels present in prediction or reference. Both empty = 1; one empty = 0.

    Raises `ValueError` when shapes differ or the prediction holds 255.
    """
    return _scores(_label_counts(prediction, reference, "the image"))


def segmentation_metrics(predictions: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> dict[str, float]:
    """`dice`, `iou` (mean over images) and `dice_pooled`, `iou_pooled` (all pixels as one image), fractions of 1.

    Lists of 2-D integer arrays of any sizes, read as `image_metrics` reads them; pooled scores are a mean over the
    foreground labels present anywhere.

    Raises `ValueError` when counts or shapes differ, naming the index, or nothing is given.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions but {len(references)} references: give one for each.")
    if len(predictions) == 0:
        raise ValueError("No predictions were given: hand over at least one prediction and its reference.")
    pairs = enumerate(zip(predictions, references, strict=True))
    counts = [_label_counts(prediction, reference, f"image {index}") for index, (prediction, reference) in pairs]
    scores = [_scores(of_image) for of_image in counts]
    pooled = _scores(sum(counts, Counter()))
    means = {name: float(np.mean([score[name] for score in scores])) for name in ("dice", "iou")}
    return means | {"dice_pooled": pooled["dice"], "iou_pooled": pooled["iou"]}


def _label_counts(prediction: np.ndarray, reference: np.ndarray, name: str) -> Counter:
    """Pixels by (label, "both" | "sum") over the foreground labels that occur."""
    prediction, reference = np.asarray(prediction), np.asarray(reference)
    if prediction.shape != reference.shape:
        raise ValueError(
            f"Prediction of {name} has shape {prediction.shape} but its reference {reference.shape}: resize the "
            "prediction to the reference (`post_process_segmentation(..., target_sizes=...)`)."
        )
    if (prediction == IGNORE_LABEL).any():
        raise ValueError(f"Prediction of {name} holds 255, which is no label: write the lesion as 1.")
    kept = reference != IGNORE_LABEL
    prediction, reference = prediction[kept], reference[kept]
    counts: Counter = Counter()
    for label in np.union1d(prediction, reference):
        if label:
            is_predicted, is_true = prediction == label, reference == label
            counts[int(label), "both"] = int((is_predicted & is_true).sum())
            counts[int(label), "sum"] = int(is_predicted.sum() + is_true.sum())
    return counts


def _scores(counts: Counter) -> dict[str, float]:
    labels = {label for label, _ in counts}
    if not labels:
        return {"dice": 1.0, "iou": 1.0}
    both = np.array([counts[label, "both"] for label in labels])
    total = np.array([counts[label, "sum"] for label in labels])
    return {"dice": float((2 * both / total).mean()), "iou": float((both / (total - both)).mean())}
