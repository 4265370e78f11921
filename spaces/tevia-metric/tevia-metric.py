"""Overlap, outlines and lesions of segmentation masks, as an `evaluate` metric; the figures are those of tevia_hf."""

import datasets
import evaluate
import numpy as np

from tevia_hf import METRICS, segmentation_metrics

_DESCRIPTION = f"""
Scores of predicted masks: {"; ".join(f"`{key}` ({metric.label})" for key, metric in METRICS.items())}. Two empty masks
are a perfect match; where one is empty, overlap is 0 and `hd95` the image's diagonal.
"""
_KWARGS_DESCRIPTION = f"""
Args:
    predictions: masks (height, width) of labels, 0 the background, as lists or arrays of any sizes.
    references: the true masks; 255 is ignored beside labels.
    spacing_mm: one (row, column) pixel size in mm an image; without it `hd95` is in pixels.
    surface_tolerance: how far boundaries may lie apart to count as equal in `surface_dice`, in the unit of `hd95`.
    white_is_lesion: True reads 255 as the lesion in all masks, False as ignored; needed where no reference has a label.
    outlines: False leaves out {" and ".join(f"`{key}`" for key, metric in METRICS.items() if metric.of_boundaries)},
        which take most of the time.
Returns:
    a dict of `{", ".join(METRICS)}`.
Examples:
    >>> metric = evaluate.load("spaces/tevia-metric")
    >>> metric.compute(predictions=[[[0, 1], [0, 1]]], references=[[[0, 1], [0, 0]]])["dice"]
    0.6666666666666666
"""
_CITATION = """
@article{zeng2025tevia,
  title = {Harnessing Text Insights with Visual Alignment for Medical Image Segmentation},
  author = {Zeng and others},
  journal = {IEEE Transactions on Medical Imaging},
  year = {2025},
  doi = {10.1109/TMI.2025.3601359}
}
"""


class TeViAMetric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        mask = datasets.Sequence(datasets.Sequence(datasets.Value("float32")))  # uint8 would cut 0.9 down to 0
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_KWARGS_DESCRIPTION,
            features=datasets.Features({"predictions": mask, "references": mask}),
        )

    def _compute(self, predictions, references, **options):
        masks = ([np.asarray(mask, np.float32) for mask in masks] for masks in (predictions, references))
        return segmentation_metrics(*masks, **options)
