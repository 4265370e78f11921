"""`tevia_hf.inference.predict` by its earlier name."""

from ..inference.items import list_images
from ..inference.predict import predict, predict_files, predict_masks

__all__ = ["list_images", "predict", "predict_files", "predict_masks"]
