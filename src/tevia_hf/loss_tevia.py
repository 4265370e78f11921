"""Segmentation losses on logits, all without ignored pixels.

`LOSSES` declares them, `register_loss` adds custom ones, and the config weights them.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from .labels_tevia import IGNORE_INDEX, ForeignValuesError, highest_label

DICE_SMOOTH = 1e-5
OTHER_LOSSES = ("alignment", "auxiliary")  # weighted by the config as well, but not losses of the predicted mask


class Loss(NamedTuple):
    """A term of the segmentation loss.

    Args:
        function: `(logits, labels) -> scalar`; logits `(batch, num_labels, height, width)`, one channel for sigmoid or
            several for softmax with background 0; labels `(batch, height, width)`, 255 where ignored.
        default_weight: its factor if the config has no field for it.
    """

    function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    default_weight: float = 0.0


def segmentation_loss(logits: torch.Tensor, labels: torch.Tensor, config: Any) -> torch.Tensor:
    """The weighted sum of `LOSSES`, a scalar.

    Args:
        logits: see `Loss`.
        labels: see `Loss`; integers below `max(num_labels, 2)`, or 255 where ignored.
        config: a `TeViAConfig`, whose `NAME_loss_weight` is the factor of the loss NAME; with 0 it is not computed.
    """
    if not torch.compiler.is_compiling():
        check_registered(config)
    total = logits.new_zeros(())
    for name, loss in LOSSES.items():
        if weight := getattr(config, f"{name}_loss_weight", loss.default_weight):
            total = total + weight * loss.function(logits, labels)
    return total


def deep_supervision_loss(masks: Sequence[torch.Tensor], labels: torch.Tensor, config: Any) -> torch.Tensor:
    """The sum over coarse masks of soft Dice and cross-entropy, weighted as for the full-resolution mask: a scalar.

    A cell of a coarse mask is compared with the share of its pixels that each label covers, so that lesions smaller
    than a cell contribute. Registered losses, which do not support shares, are not used.

    Args:
        masks: logits `(batch, num_labels, height / stride, width / stride)` for some strides.
        labels: see `Loss`.
        config: a `TeViAConfig`.
    """
    losses = []
    for logits in masks:
        log_probabilities = all_log_probabilities(logits.float())  # (batch, labels, height, width)
        shares = label_shares(labels, log_probabilities)
        counted = shares.sum(1, keepdim=True)
        dice = dice_distance(log_probabilities[:, 1:].exp() * counted, shares[:, 1:])
        losses.append(getattr(config, "dice_loss_weight", LOSSES["dice"].default_weight) * dice)
        cross_entropy = -(shares * log_probabilities).sum() / counted.sum().clamp(min=1)
        losses.append(config.cross_entropy_loss_weight * cross_entropy)
    return torch.stack(losses).sum()


def register_loss(
    name: str, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], exist_ok: bool = False
) -> None:
    """Adds a loss to `LOSSES`, used by models whose config has `NAME_loss_weight`.

    Args:
        name: such as "boundary", for `TeViAConfig(boundary_loss_weight=0.5)` or that field under `config` in a recipe.
        function: see `Loss`.
        exist_ok: replace a loss of this name.

    Raises `ValueError` if the name is taken or cannot be part of a field name.
    """
    if not name.isidentifier() or name in OTHER_LOSSES:
        raise ValueError(f"'{name}' cannot name a loss of masks: give an identifier such as 'boundary'.")
    if name in LOSSES and not exist_ok:
        raise ValueError(f"There is a loss '{name}': choose another name, or pass exist_ok=True to replace it.")
    LOSSES[name] = LOSSES.get(name, Loss(function))._replace(function=function)


def check_registered(config: Any) -> None:
    """Raises `ValueError` if a config weights a loss that is not registered."""
    known = {f"{name}_loss_weight" for name in (*LOSSES, *OTHER_LOSSES)}
    weights = {name: weight for name, weight in vars(config).items() if name.endswith("_loss_weight")}
    if unknown := [name for name, weight in weights.items() if weight and name not in known]:
        raise ValueError(f"The config has {unknown[0]}, an unregistered loss: call `register_loss`, or set it to 0.")


def check_labels(labels: torch.Tensor, logits: torch.Tensor) -> None:
    """Raises `ValueError` if labels do not have the logits' batch and size, or hold invalid values."""
    batch, channels, height, width = logits.shape
    if labels.shape != (batch, height, width):
        raise ValueError(
            f"`labels` has shape {tuple(labels.shape)}, but for these images it must be {(batch, height, width)}: make "
            "it by `processor(images, texts, segmentation_maps=masks)`."
        )
    if torch.compiler.is_compiling():
        return
    if ((labels < 0) | ((labels > highest_label(channels)) & (labels != IGNORE_INDEX))).any():
        raise ForeignValuesError("`labels`", labels.unique().cpu().numpy(), channels, white_is_lesion=False)


def soft_dice_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """One minus the soft Dice of each image and foreground class, averaged (published smoothing: 1e-5)."""
    counted = (labels != IGNORE_INDEX).unsqueeze(1)  # (batch, 1, height, width)
    probabilities = foreground_probabilities(logits.float()) * counted  # (batch, classes, height, width)
    return dice_distance(probabilities, foreground_targets(labels, probabilities.shape[1]))


def dice_distance(probabilities: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """`soft_dice_loss` of probabilities and targets `(batch, classes, height, width)`, both 0 where ignored."""
    intersection = (probabilities * targets).sum((2, 3))  # (batch, classes)
    total = probabilities.sum((2, 3)) + targets.sum((2, 3))
    return (1 - (2 * intersection + DICE_SMOOTH) / (total + DICE_SMOOTH)).mean()


def cross_entropy_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Binary or multi-class cross-entropy, the mean over pixels that are not ignored; 0 without any."""
    counted = labels != IGNORE_INDEX
    if logits.shape[1] == 1:
        losses = F.binary_cross_entropy_with_logits(logits[:, 0].float(), labels.float(), reduction="none")
    else:
        losses = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="none")
    return (losses * counted).sum() / counted.sum().clamp(min=1)


def foreground_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """`(batch, classes, height, width)` without the background: one sigmoid channel, or softmax without channel 0."""
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)[:, 1:]


def all_log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Log-probabilities of each label, background first, `(batch, labels, height, width)`."""
    if logits.shape[1] > 1:
        return logits.log_softmax(1)
    return torch.cat([F.logsigmoid(-logits), F.logsigmoid(logits)], 1)


def label_shares(labels: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The share of each cell of coarse masks that every label covers, of their shape; ignored pixels have no label."""
    values = torch.arange(masks.shape[1], device=labels.device).view(1, -1, 1, 1)
    covered = labels.unsqueeze(1) == values  # (batch, labels, height, width)
    return F.avg_pool2d(covered.float(), kernel_size=labels.shape[-1] // masks.shape[-1])


def foreground_targets(labels: torch.Tensor, classes: int) -> torch.Tensor:
    """One binary map per foreground class, `(batch, classes, height, width)`."""
    values = torch.arange(1, classes + 1, device=labels.device).view(1, -1, 1, 1)
    return (labels.unsqueeze(1) == values).float()


LOSSES: dict[str, Loss] = {
    "dice": Loss(soft_dice_loss, default_weight=1.0),
    "cross_entropy": Loss(cross_entropy_loss),
}

__all__ = [
    "LOSSES",
    "Loss",
    "check_labels",
    "cross_entropy_loss",
    "deep_supervision_loss",
    "register_loss",
    "segmentation_loss",
    "soft_dice_loss",
]
