"""The `evaluate` module returns the package's own scores, without network access."""

from pathlib import Path

import evaluate
import numpy as np
import pytest
from huggingface_hub import RepoCard

from tevia_hf import METRICS, segmentation_metrics

METRIC = Path(__file__).parents[1] / "spaces" / "tevia-metric"


@pytest.fixture(scope="module")
def metric(tmp_path_factory):
    return evaluate.load(str(METRIC), cache_dir=str(tmp_path_factory.mktemp("metric")))


def masks(seed):
    rng = np.random.default_rng(seed)
    return [(rng.random(size) < 0.4).astype(np.uint8) for size in ((12, 9), (7, 15), (20, 20))]


def test_the_metric_module_returns_the_packages_scores_for_masks_of_any_sizes(metric):
    predictions, references = masks(0), masks(1)
    spacing = [(0.5, 0.7)] * 3
    result = metric.compute(predictions=predictions, references=references, spacing_mm=spacing, surface_tolerance=1.0)
    assert result == pytest.approx(segmentation_metrics(predictions, references, spacing, 1.0))


def test_the_metric_module_adds_up_batches(metric):
    predictions, references = masks(2), masks(3)
    for prediction, reference in zip(predictions, references, strict=True):
        metric.add(prediction=prediction, reference=reference)
    assert metric.compute(outlines=False) == pytest.approx(
        segmentation_metrics(predictions, references, outlines=False)
    )


@pytest.mark.parametrize(
    ("value", "advice"), [(0.9, "threshold probabilities"), (-1, "labels from 0"), (256, "labels from 0")]
)
def test_values_that_are_no_labels_are_refused(value, advice, metric):
    with pytest.raises(ValueError, match=advice):
        metric.compute(predictions=[[[value, 0.0]]], references=[[[1, 0]]])


def test_its_own_example_is_correct(metric):
    result = metric.compute(predictions=[[[0, 1], [0, 1]]], references=[[[0, 1], [0, 0]]])
    assert result["dice"] == 0.6666666666666666 and "0.6666666666666666" in metric.inputs_description


def test_its_description_and_its_card_name_every_metric(metric):
    card = (METRIC / "README.md").read_text(encoding="utf-8")
    for key, declared in METRICS.items():
        assert f"`{key}` ({declared.label})" in metric.description and key in metric.inputs_description
        assert f"`{key}`" in card


def test_its_card_is_read_by_the_hubs_loader():
    card = RepoCard.load(METRIC / "README.md", ignore_metadata_errors=False)
    data = card.data.to_dict()
    assert data["tags"] == ["evaluate", "metric"] and data["sdk"] == "static" and len(data["short_description"]) <= 60
    assert (METRIC / "index.html").is_file()
