"""`tevia_hf.inference.predict` by its earlier name."""

from ..inference.predict import list_images, predict, predict_files, predict_masks

__all__ = ["list_images", "predict", "predict_files", "predict_masks"]
