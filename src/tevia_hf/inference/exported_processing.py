"""The processor of an exported model: `TeViAProcessor` in NumPy, for one image or text at a time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..decoding_tevia import channels_first, unit_pixels
from ..extras import needed_for
from ..logits_tevia import NonFiniteLogitsError
from ..option_checks_tevia import check_choice
from ..text_checks_tevia import unfamiliar_words, warn_of_truncation, warn_of_unfamiliar
from .resizing import resized

MODES = {0: "nearest", 2: "bilinear", 3: "bicubic"}  # by PIL's number, as image processors save them
FLAT_STD = 1e-5  # of `TeViAImageProcessor`


class ExportedImageProcessor:
    """Images to the pixels that the segmenter takes, and its logits to probabilities, as `TeViAImageProcessor` does.

    Args:
        settings: those that affect the pixels, see `pixel_settings`.
    """

    def __init__(self, settings: Mapping[str, Any]):
        check_choice("normalization", settings["normalization"], ("zscore", "fixed"))
        self.settings = dict(settings)
        self.num_labels, self.do_resize = int(settings["num_labels"]), bool(settings["do_resize"])
        self.size: dict[str, int] = settings["size"]

    def to_dict(self) -> dict[str, Any]:
        return dict(self.settings)

    def read_image(self, image: np.ndarray, index: int = 0, input_data_format: str | None = None) -> np.ndarray:
        """An image as float32 (1 or 3, height, width) in [0, 1]. Raises `ValueError` for NaN and other shapes."""
        name = f"image {index}"
        return unit_pixels(channels_first(image, name, input_data_format), name)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The pixels float32 (3, height, width) of an image (height, width[, channels])."""
        pixels, settings = self.read_image(image, input_data_format="channels_last"), self.settings
        if settings["swap_axes"]:
            pixels = pixels.swapaxes(-1, -2)
        if self.do_resize:
            size = (self.size["height"], self.size["width"])
            pixels = resized(pixels, size, MODES[settings["resample"]], settings["do_antialias"])
        if settings["do_normalize"] and settings["normalization"] == "zscore":
            mean, std = (
                statistic(pixels, axis=(1, 2), keepdims=True, dtype=np.float64) for statistic in (np.mean, np.std)
            )
            pixels = (pixels - mean) / np.maximum(std, FLAT_STD)
        pixels = np.broadcast_to(pixels, (3, *pixels.shape[1:]))
        if settings["do_normalize"] and settings["normalization"] == "fixed":
            mean, std = (np.float32(settings[name]).reshape(-1, 1, 1) for name in ("image_mean", "image_std"))
            pixels = (pixels - mean) / std
        return np.ascontiguousarray(pixels, dtype=np.float32)

    def probabilities(self, logits: np.ndarray, sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """Float32 (num_labels, height, width) for each image, of logits (batch, num_labels, H, W).

        Raises `NonFiniteLogitsError` for NaN and infinity.
        """
        if not (is_finite := np.isfinite(logits).all((1, 2, 3))).all():
            raise NonFiniteLogitsError(np.flatnonzero(~is_finite).tolist())
        if logits.shape[1] == 1:
            maps = 1 / (1 + np.exp(-logits.clip(-80, 80)))  # beyond, float32 overflows and the sigmoid is 0 or 1
        else:
            maps = np.exp(logits - logits.max(1, keepdims=True))
            maps /= maps.sum(1, keepdims=True)
        if self.settings["swap_axes"]:
            maps = maps.swapaxes(-1, -2)
        return [resized(own, size, "bilinear") for own, size in zip(maps, sizes, strict=True)]


class ExportedProcessor:
    """The processor of an exported model.

    Args:
        settings: of the image processor.
        tokenizer: the file `tokenizer.json`; `None` for a vision-only model.
        max_text_length: in tokens; longer texts are truncated.
        known_words: see `TeViAProcessor`.
        truncation_side: where tokens of longer texts are left out, "right" or "left".
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        tokenizer: Path | None,
        max_text_length: int,
        known_words: Sequence[str] | None = None,
        truncation_side: str = "right",
    ):
        self.image_processor = ExportedImageProcessor(settings)
        self.max_text_length, self.known_words = max_text_length, known_words
        if tokenizer is not None:
            with needed_for("Reading texts"):
                from tokenizers import Tokenizer
            # Two, since threads may share them, and truncation is a setting of a tokenizer.
            self.whole, self.truncated = (Tokenizer.from_file(str(tokenizer)) for _ in range(2))
            for each in (self.whole, self.truncated):
                each.no_padding()
            self.whole.no_truncation()
            self.truncated.enable_truncation(max_text_length, direction=truncation_side)

    def tokens(self, text: str) -> tuple[np.ndarray, np.ndarray]:
        """`input_ids` and `attention_mask`, both (1, tokens) int64.

        Warns about a text that is truncated, and about one of mostly unfamiliar words.
        """
        warn_of_unfamiliar([text], self.known_words)
        encoding = self.whole.encode(text)
        if len(encoding.ids) > self.max_text_length:
            warn_of_truncation({text: len(encoding.ids)}, self.max_text_length, self.max_text_length)
            encoding = self.truncated.encode(text)
        return np.array([encoding.ids], np.int64), np.array([encoding.attention_mask], np.int64)

    def unfamiliar_words(self, text: str) -> list[str]:
        """See `TeViAProcessor`."""
        return unfamiliar_words(text, self.known_words)
