"""What a `Predictor` computes with: a model in torch, or one that was exported."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np


class Network(ABC):
    """A model and its processor. Images are NumPy arrays before it, and probabilities after it."""

    @abstractmethod
    def pixel_values(self, image: np.ndarray) -> Any:
        """The preprocessed pixels `(3, height, width)` of an image `(height, width[, channels])`."""

    @abstractmethod
    def encode(self, pixel_values: Sequence[Any]) -> Any:
        """The features of images whose `pixel_values` have the same size."""

    @abstractmethod
    def ask(self, features: Any, texts: Sequence[str], **options: Any) -> Any:
        """The output, with `logits`, for one text per image, "" for none; or for several texts of a single image."""

    @abstractmethod
    def probabilities(self, features: Any, texts: Sequence[str], sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Float32 (num_labels, height, width) for each image, at these sizes.

        Raises `NonFiniteLogitsError` for logits that are not finite.
        """
