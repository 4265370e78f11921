"""Validates predicted and reference masks, and converts them to label maps that can be compared."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tevia_hf.labels_tevia import IGNORE_INDEX, WhiteReading, values_of

PADDING = -100  # with which `transformers.Trainer` pads arrays of different sizes

Pair = tuple[np.ndarray, np.ndarray]


def label_pairs(
    predictions: Sequence[Any], references: Sequence[Any], white_is_lesion: bool | None = None
) -> Iterator[Pair]:
    """Each prediction and its reference as label maps (height, width), the prediction 0 where the reference is ignored.

    Args:
        predictions: integer labels.
        references: the true labels. Rows and columns of -100 at the bottom and right, with which the Trainer pads, are
            cropped from both masks; other pixels of -100 are ignored.
        white_is_lesion: True reads 255 as the lesion in both, False as ignored; None raises an error for references
            that hold 255 but no label anywhere.

    Raises `ValueError` for masks that are not label maps, with the image's index and how to fix it.
    """
    for index, pair in enumerate(zip(predictions, references, strict=True)):
        for part, mask in zip(("Prediction", "Reference"), pair, strict=True):
            _check_is_label_map(np.asarray(mask), f"{part} of image {index}")
    decision = _white_is_lesion(references, white_is_lesion)
    for index, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        yield _label_pair(np.asarray(prediction), np.asarray(reference), decision, f"image {index}")


def _label_pair(prediction: np.ndarray, reference: np.ndarray, white_is_lesion: bool, name: str) -> Pair:
    names = [f"Prediction of {name}", f"Reference of {name}"]
    if prediction.shape != reference.shape:
        raise ValueError(
            f"{names[0]} has shape {prediction.shape} but its reference {reference.shape}: resize the prediction to "
            "the reference (`post_process_segmentation(..., target_sizes=...)`)."
        )
    is_padding = reference == PADDING
    if is_padding.all():
        raise ValueError(f"{names[1]} is nothing but padding ({PADDING}): give its labels.")
    if is_padding.any():
        height, width = (int(np.flatnonzero(~is_padding.all(axis))[-1]) + 1 for axis in (1, 0))
        reference = np.where(is_padding, IGNORE_INDEX, reference)[:height, :width]
        prediction = prediction[:height, :width]
    if white_is_lesion:
        prediction, reference = (np.where(mask == IGNORE_INDEX, 1, mask) for mask in (prediction, reference))
    compared = np.where(reference == IGNORE_INDEX, 0, prediction)
    return _as_labels(compared, names[0], IGNORE_INDEX - 1), _as_labels(reference, names[1], IGNORE_INDEX)


def _check_is_label_map(mask: np.ndarray, name: str) -> None:
    """Raises `ValueError` for other shapes and values, with code that converts them to labels."""
    if mask.ndim != 2 or mask.size == 0:
        line = "mask.argmax(0)" if mask.ndim == 3 and len(mask) > 1 else "mask[0]"
        raise ValueError(
            f"{name} has shape {mask.shape}: give labels (height, width), e.g. `{line}`, one mask an image."
        )
    if mask.dtype.kind not in "biuf":
        raise ValueError(f"{name} is of the type {mask.dtype}: give integer labels, `mask.astype('uint8')`.")
    if not np.isfinite(mask).all():
        raise ValueError(f"{name} holds NaN or infinite numbers, which are not labels: look for their cause.")
    if mask.dtype.kind == "f" and (mask != np.round(mask)).any():
        are_shares = (mask >= 0).all() and (mask <= 1).all()
        line = "(mask > 0.5).astype('uint8')" if are_shares else "(mask > 0).astype('uint8')"
        kind = "probabilities" if are_shares else "logits"
        raise ValueError(f"{name} holds numbers that are not labels: threshold {kind}, `{line}`.")


def _as_labels(mask: np.ndarray, name: str, highest: int) -> np.ndarray:
    """The labels as uint8. Raises `ValueError` for values that are not labels."""
    for invalid in mask[(mask < 0) | (mask > highest)][:1]:
        advice = "write the lesion as 1" if invalid == IGNORE_INDEX else "give labels from 0 to 254"
        raise ValueError(f"{name} holds {invalid:g}, which is not a label: {advice}.")
    return mask.astype(np.uint8)


def _white_is_lesion(references: Sequence[Any], declared: bool | None) -> bool:
    """Whether 255 is the lesion. Raises `ValueError` if that is undecided, or references disagree."""
    if declared is False:
        return False
    reading = WhiteReading(declared=declared)
    for index, reference in enumerate(map(np.asarray, references)):
        reading.add(f"reference {index}", values_of(reference[reference != PADDING]))
    if reading.is_open and reading.without_white is None:
        raise ValueError(
            f"{reading.without_labels[0]} holds 255 and none of the references a label, so that 255 may be the lesion "
            "or ignored: pass `white_is_lesion=True` or `white_is_lesion=False`."
        )
    return bool(declared or reading.without_labels) and reading.white_is_lesion()
