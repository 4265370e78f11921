"""Segmentation losses on logits; ignored pixels are left out of all of them."""

import torch
import torch.nn.functional as F

from .labels_tevia import IGNORE_INDEX, highest_label, refusal

DICE_SMOOTH = 1e-5


def segmentation_loss(logits: torch.Tensor, labels: torch.Tensor, cross_entropy_weight: float = 1.0) -> torch.Tensor:
    """Soft Dice plus weighted cross-entropy, a scalar.

    Args:
        logits: `(batch, num_labels, height, width)`; one channel is read by sigmoid, more by softmax with background 0.
        labels: `(batch, height, width)` integers below `max(num_labels, 2)`, or 255 where they are ignored.
        cross_entropy_weight: factor of the cross-entropy; 0 leaves the published loss, soft Dice alone.
    """
    dice = soft_dice_loss(logits, labels)
    if cross_entropy_weight == 0:
        return dice
    return dice + cross_entropy_weight * cross_entropy_loss(logits, labels)


def check_labels(labels: torch.Tensor, logits: torch.Tensor) -> None:
    """Raises `ValueError` where labels do not have the logits' batch and size, or hold values that are no labels."""
    batch, channels, height, width = logits.shape
    if labels.shape != (batch, height, width):
        raise ValueError(f"For these images `labels` must be {(batch, height, width)}, not {tuple(labels.shape)}.")
    if torch.compiler.is_compiling():
        return
    if ((labels < 0) | ((labels > highest_label(channels)) & (labels != IGNORE_INDEX))).any():
        raise ValueError(refusal("`labels`", labels.unique().cpu().numpy(), channels, white_is_lesion=False))


def soft_dice_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """One minus the soft Dice of each image and foreground class, averaged (published: smooth 1e-5 above and below)."""
    counted = (labels != IGNORE_INDEX).unsqueeze(1)  # (batch, 1, height, width)
    probabilities = foreground_probabilities(logits.float()) * counted  # (batch, classes, height, width)
    targets = foreground_targets(labels, probabilities.shape[1])
    intersection = (probabilities * targets).sum((2, 3))  # (batch, classes)
    total = probabilities.sum((2, 3)) + targets.sum((2, 3))
    return (1 - (2 * intersection + DICE_SMOOTH) / (total + DICE_SMOOTH)).mean()


def cross_entropy_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Binary or multi-class cross-entropy per counted pixel; 0 where no pixel counts."""
    counted = labels != IGNORE_INDEX
    if logits.shape[1] == 1:
        losses = F.binary_cross_entropy_with_logits(logits[:, 0].float(), labels.float(), reduction="none")
    else:
        losses = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="none")
    return (losses * counted).sum() / counted.sum().clamp(min=1)


def foreground_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """`(batch, classes, height, width)` without the background: one sigmoid channel, or softmax without channel 0."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)[:, 1:]


def foreground_targets(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """One binary map a foreground class, `(batch, classes, height, width)`."""
    values = torch.arange(1, classes + 1, device=labels.device).view(1, -1, 1, 1)
    return (labels.unsqueeze(1) == values).float()


__all__ = ["check_labels", "segmentation_loss", "soft_dice_loss", "cross_entropy_loss"]
