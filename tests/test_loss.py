"""Segmentation losses on logits, against values computed by hand, MONAI and torch."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from monai.losses import DiceLoss

from tevia_hf import TeViAConfig
from tevia_hf.loss_tevia import check_labels, cross_entropy_loss, segmentation_loss, soft_dice_loss

CERTAIN = 40.0
LOSSES = {
    "dice": soft_dice_loss,
    "cross-entropy": cross_entropy_loss,
    "both": partial(segmentation_loss, config=TeViAConfig()),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
one_and_three_labels = pytest.mark.parametrize("num_labels", [1, 3])


def case(num_labels, seed=0, size=(5, 7)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, num_labels, *size, generator=generator)
    return logits, torch.randint(0, max(num_labels, 2), (2, *size), generator=generator)


def row(*values):
    """Labels of one image with one row: `(1, 1, width)`."""
    return torch.tensor([[values]])


def certain(labels, num_labels):
    """Logits with probabilities of almost 0 and 1."""
    if num_labels == 1:
        return CERTAIN * (2.0 * labels - 1).unsqueeze(1)
    return CERTAIN * F.one_hot(labels, num_labels).movedim(-1, 1).float()


# Computed by hand


def test_dice_of_even_odds_on_half_a_foreground():
    # 2 * (0.5 + 0.5) over (4 * 0.5 + 2)
    torch.testing.assert_close(soft_dice_loss(torch.zeros(1, 1, 1, 4), row(1, 1, 0, 0)), torch.tensor(0.5))


def test_dice_of_even_odds_among_three_labels():
    # Class 1: 2 * 1/3 over (3/3 + 1); class 2: the same.
    loss = soft_dice_loss(torch.zeros(1, 3, 1, 3), row(0, 1, 2))
    torch.testing.assert_close(loss, torch.tensor(2 / 3))


def test_dice_is_a_mean_over_images_not_pixels():
    labels = torch.stack([torch.ones(4, 4), torch.zeros(4, 4)]).long()
    labels[1, 0, 0] = 1
    logits = certain(torch.ones_like(labels), 1)
    # The first image is correct; the second detects one pixel of sixteen.
    torch.testing.assert_close(soft_dice_loss(logits, labels), torch.tensor((0 + 1 - 2 / 17) / 2))


def test_background_is_no_class_of_the_dice():
    labels = row(0, 0, 0, 1)
    logits = certain(row(0, 0, 0, 0), 2)
    torch.testing.assert_close(soft_dice_loss(logits, labels), torch.tensor(1.0), atol=1e-4, rtol=0)


@pytest.mark.parametrize(("num_labels", "expected"), [(1, math.log(2)), (3, math.log(3))])
def test_cross_entropy_of_even_odds_is_the_log_of_the_choices(num_labels, expected):
    logits, labels = case(num_labels)
    torch.testing.assert_close(cross_entropy_loss(torch.zeros_like(logits), labels), torch.tensor(expected))


@every_loss
@one_and_three_labels
def test_a_certain_and_correct_prediction_has_no_loss(loss, num_labels):
    _, labels = case(num_labels)
    assert loss(certain(labels, num_labels), labels) < 1e-5


@pytest.mark.parametrize("weight", [0, 0.5, 1])
@one_and_three_labels
def test_the_loss_is_dice_plus_weighted_cross_entropy(weight, num_labels):
    logits, labels = case(num_labels)
    expected = soft_dice_loss(logits, labels) + weight * cross_entropy_loss(logits, labels)
    config = TeViAConfig(cross_entropy_loss_weight=weight)
    torch.testing.assert_close(segmentation_loss(logits, labels, config), expected)


# Against the libraries


def test_binary_dice_is_monais():
    logits, labels = case(1)
    theirs = DiceLoss(sigmoid=True, smooth_nr=1e-5, smooth_dr=1e-5)(logits, labels.unsqueeze(1))
    torch.testing.assert_close(soft_dice_loss(logits, labels), theirs)


def test_multi_class_dice_is_monais():
    logits, labels = case(3)
    options = {"softmax": True, "to_onehot_y": True, "include_background": False}
    theirs = DiceLoss(**options, smooth_nr=1e-5, smooth_dr=1e-5)(logits, labels.unsqueeze(1))
    torch.testing.assert_close(soft_dice_loss(logits, labels), theirs)


def test_binary_cross_entropy_is_torchs():
    logits, labels = case(1)
    theirs = F.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    torch.testing.assert_close(cross_entropy_loss(logits, labels), theirs)


def test_multi_class_cross_entropy_is_torchs_with_ignored_pixels_too():
    logits, labels = case(3)
    labels[:, 0] = 255
    torch.testing.assert_close(cross_entropy_loss(logits, labels), F.cross_entropy(logits, labels, ignore_index=255))


# Ignored and empty


@every_loss
@one_and_three_labels
def test_predictions_of_ignored_pixels_change_nothing(loss, num_labels):
    logits, labels = case(num_labels)
    labels[:, 1:3] = 255
    other = logits.clone()
    other[:, :, 1:3] = 30 * torch.randn_like(other[:, :, 1:3])
    other.requires_grad_()
    value = loss(other, labels)
    torch.testing.assert_close(value, loss(logits, labels))
    value.backward()
    assert not other.grad[:, :, 1:3].any() and other.grad[:, :, 3:].all()


@every_loss
@one_and_three_labels
def test_ignoring_pixels_equals_cutting_them_off(loss, num_labels):
    logits, labels = case(num_labels)
    ignoring = labels.clone()
    ignoring[..., 4:] = 255
    torch.testing.assert_close(loss(logits, ignoring), loss(logits[..., :4], labels[..., :4]))


@every_loss
@one_and_three_labels
@pytest.mark.parametrize("value", [0, 255], ids=["empty", "ignored"])
def test_a_mask_without_foreground_has_a_finite_loss_and_gradient(loss, num_labels, value):
    logits = case(num_labels)[0].requires_grad_()
    result = loss(logits, torch.full((2, 5, 7), value))
    result.backward()
    assert result.isfinite() and logits.grad.isfinite().all()


def test_an_empty_prediction_without_lesion_has_no_loss():
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    assert soft_dice_loss(certain(labels, 1), labels) < 1e-5


@every_loss
def test_losses_of_half_precision_logits_are_computed_in_float32(loss):
    logits, labels = case(1, size=(64, 64))
    half = logits.bfloat16()
    value = loss(half, labels)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(half.float(), labels))


@pytest.mark.parametrize(("channels", "value"), [(1, 2), (3, 3), (1, -1)])
def test_labels_that_the_model_does_not_have_are_refused(channels, value):
    labels = torch.full((1, 4, 4), value)
    with pytest.raises(
        ValueError, match=rf"`labels` holds 1 values that are not labels \({value}\); num_labels={channels} allows"
    ):
        check_labels(labels, torch.zeros(1, channels, 4, 4))


@pytest.mark.parametrize(("channels", "values"), [(1, [0, 1, 255]), (3, [0, 1, 2, 255])])
def test_every_label_of_the_model_and_ignore_pass(channels, values):
    labels = torch.tensor(values).view(1, 1, -1)
    check_labels(labels, torch.zeros(1, channels, 1, len(values)))
