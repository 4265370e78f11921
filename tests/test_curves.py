"""The chart of a run: which values it shows, where prototypes act, and that it is there beside the model."""

import numpy as np
import pytest
from PIL import Image

from tevia_hf import metric_table
from tevia_hf.charts import draw_training_curves, training_curves

LOG = [
    {"loss": 1.0, "segmentation_loss": 0.9, "alignment_loss": 1.0, "epoch": 1.0, "step": 3},
    {"eval_loss": 1.1, "eval_dice": 0.4, "eval_dice_pooled": 0.5, "epoch": 1.0, "step": 3},
    {"loss": 0.5, "segmentation_loss": 0.4, "alignment_loss": 1.0, "epoch": 2.0, "step": 6},
    {"eval_loss": 0.6, "eval_dice": 0.6, "eval_dice_pooled": 0.7, "epoch": 2.0, "step": 6},
    {"train_loss": 0.75, "train_runtime": 1.0, "epoch": 2.0, "step": 6},
]


def test_curves_are_the_losses_and_scores_of_the_log_over_its_epochs():
    curves = training_curves(LOG)
    assert curves["segmentation_loss"] == ([1.0, 2.0], [0.9, 0.4])
    assert curves["eval_dice_pooled"] == ([1.0, 2.0], [0.5, 0.7])
    names = {"loss", "segmentation_loss", "alignment_loss", "eval_loss", "eval_dice", "eval_dice_pooled"}
    assert curves.keys() == names


def test_the_scores_are_those_of_the_primary_metric(monkeypatch):
    monkeypatch.setattr(metric_table, "PRIMARY", "iou")
    curves = training_curves([record | {"eval_iou": 0.3} for record in LOG])
    assert curves["eval_iou"] == ([1.0, 1.0, 2.0, 2.0, 2.0], [0.3] * 5) and "eval_dice" not in curves


def test_a_run_without_validation_has_one_panel_of_half_the_width():
    both = draw_training_curves(LOG)
    alone = draw_training_curves([record for record in LOG if "loss" in record])
    assert both.mode == alone.mode == "RGB"
    assert both.width == 2 * alone.width and both.height == alone.height


def vertical_lines(image: Image.Image) -> int:
    """How many columns are dark over more than a third of the height."""
    return int(((np.asarray(image.convert("L")) < 128).mean(0) > 0.35).sum())


def test_a_line_shows_from_where_on_prototypes_act():
    assert vertical_lines(draw_training_curves(LOG, 1.4)) > vertical_lines(draw_training_curves(LOG))


def test_a_log_without_losses_is_refused():
    with pytest.raises(ValueError, match="no loss and no score: train with `logging_steps`"):
        draw_training_curves(LOG[-1:])
