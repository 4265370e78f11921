"""Logits to probabilities and label maps, for models with one label and with several.

Labels are read off tensors and off NumPy's arrays, without an import of torch: exported models run without it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

Array = TypeVar("Array", "torch.Tensor", np.ndarray)


class NonFiniteLogitsError(ValueError):
    """Raised for logits with NaN or infinity; `indices` are those of the images in the batch, from 0."""

    def __init__(self, indices: Sequence[int], names: Sequence[str] | None = None):
        self.indices = list(indices)
        shown = [str(index) for index in self.indices] if names is None else list(names)
        more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
        super().__init__(
            f"The logits of image {', '.join(shown[:5])}{more} are not finite (NaN or infinity), so there is no mask. "
            "In float16 large values overflow: compute in float32 or bfloat16. If that does not help, look for weights "
            "that are not finite."
        )


def check_logits(logits: "torch.Tensor") -> None:
    """Raises `NonFiniteLogitsError` if logits `(batch, ...)` hold NaN or infinity."""
    is_finite = logits.isfinite().flatten(1).all(1)
    if not is_finite.all():
        raise NonFiniteLogitsError((~is_finite).nonzero().flatten().tolist())


def probabilities_from_logits(logits: "torch.Tensor") -> "torch.Tensor":
    """Probabilities `(batch, num_labels, height, width)` float32: sigmoid of one label, softmax of several.

    Raises the errors of `check_logits`.
    """
    check_logits(logits)
    return logits.float().sigmoid() if logits.shape[1] == 1 else logits.float().softmax(1)


def labels_from_probabilities(probabilities: Array, threshold: float = 0.5) -> Array:
    """Labels `(..., height, width)` uint8 of `(..., num_labels, height, width)`.

    Args:
        threshold: which the probability of a single label must exceed; of several the most probable one is chosen.
    """
    is_single = probabilities.shape[-3] == 1
    labels = probabilities[..., 0, :, :] > threshold if is_single else probabilities.argmax(-3)
    return labels.astype(np.uint8) if isinstance(labels, np.ndarray) else labels.byte()


def lesion_probability(probabilities: "torch.Tensor") -> "torch.Tensor":
    """The probability `(..., height, width)` of any label but the background."""
    first = probabilities.select(-3, 0)
    return first if probabilities.shape[-3] == 1 else 1 - first


def mean_probability(labels: Array, probabilities: Array, label: int) -> float | None:
    """The mean probability of a label inside its mask; `None` if the mask is empty.

    Args:
        labels: `(height, width)`, from these probabilities.
        probabilities: `(num_labels, height, width)`.
        label: from 1; 1 is the lesion with one label.
    """
    inside = probabilities[label if len(probabilities) > 1 else 0][labels == label]
    return inside.mean().item() if len(inside) else None


def labels_from_logits(logits: "torch.Tensor") -> "torch.Tensor":
    """Labels `(batch, height, width)` uint8 of logits `(batch, num_labels, height, width)`, at the logits' size.

    A single label is chosen where its probability exceeds 0.5; of several the most probable one. In a plain `Trainer`
    use `preprocess_logits_for_metrics=lambda logits, labels: labels_from_logits(logits)`.

    Raises `NonFiniteLogitsError`, a `ValueError`, for NaN or infinity.
    """
    check_logits(logits)
    return labels_from_probabilities(logits, threshold=0.0)  # sigmoid and softmax are monotonic


__all__ = [
    "NonFiniteLogitsError",
    "labels_from_logits",
    "labels_from_probabilities",
    "lesion_probability",
    "mean_probability",
    "probabilities_from_logits",
]
