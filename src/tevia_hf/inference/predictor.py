"""Prediction of masks for any number of texts per image, each image decoded, preprocessed and encoded once."""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from ..io import MedicalImage, load_image
from ..io.parallel import on_all_cores
from ..io.regions import load_parts
from ..labels_tevia import class_names
from ..logits_tevia import NonFiniteLogitsError, labels_from_probabilities, mean_probability
from ..option_checks_tevia import check_count, check_share
from .answers import Answer, ClassStatistics, Prediction, joined
from .backends import AnyModel, AnyProcessor, network_of
from .tiles import Box, Tiles, Tiling, blended_rows

LARGE_SIDE = 4096  # in pixels; above it, an image in one pass causes a warning


class PreparedImage(NamedTuple):
    """An image as read, and its preprocessed pixels `(3, height, width)`."""

    image: MedicalImage
    pixel_values: Any
    name: str


class EncodedImages(NamedTuple):
    """Features of a batch of images, with the original (height, width) of each, and its pixels' size in mm if known."""

    features: Any
    sizes: list[tuple[int, int]]
    names: list[str]
    spacings: list[tuple[float, float] | None]


class Predictor:
    """Masks of images for any number of texts.

    `prepare` decodes, checks and preprocesses an image, `encode` computes the features of a batch, and `masks` predicts
    masks for one text per image; it can be called repeatedly. `predictions` does all of this for many images, and
    predicts once where several conditions give a whole batch the same texts.

    Args:
        model: a `TeViAForSegmentation`, or an `ExportedModel`.
        processor: its `TeViAProcessor`, or `ExportedProcessor`.
        threshold: on the lesion's probability, for models with one label.
        batch_size: number of images per forward pass.
        text_features: a `TextFeatureCache`, or `ExportedTextFeatures`, to share between predictors.
        with_statistics: whether `predictions` include area and mean probability of each class.
        with_probabilities: whether `predictions` include the probability of each label in each pixel.
        tiling: how `predictions` divides images into tiles; None for images in one pass.
        fuse: compute with `model.fuse_for_inference()`, if possible: faster, for a model that does not change later.

    Raises `ValueError` for a threshold or batch size out of range.
    """

    def __init__(
        self,
        model: AnyModel,
        processor: AnyProcessor,
        threshold: float = 0.5,
        batch_size: int = 16,
        text_features: Any = None,
        with_statistics: bool = False,
        with_probabilities: bool = False,
        tiling: Tiling | None = None,
        fuse: bool = False,
    ):
        check_predictor_options(threshold, batch_size)
        self.model, self.processor = model, processor
        self.network = network_of(model, processor, fuse, text_features)
        self.threshold, self.batch_size, self.tiling = threshold, batch_size, tiling
        self.with_statistics, self.with_probabilities = with_statistics, with_probabilities
        self.classes = class_names(model.config.id2label or {})
        self._has_warned = False

    def prepare(self, image: Any, name: str = "0") -> PreparedImage:
        """Prepares an image (path, `ImageRef`, PIL image, array, tensor or undecoded column entry) for `encode`.

        Raises `ValueError` or `OSError` if it cannot be read or used, e.g. because of NaN pixels.
        """
        loaded = image if isinstance(image, MedicalImage) else load_image(image)
        pixel_values = self.network.pixel_values(loaded.array)
        self._warn_of_shrinking(loaded, name)
        return PreparedImage(loaded, pixel_values, name)

    def _warn_of_shrinking(self, image: MedicalImage, name: str) -> None:
        """Warns once about an image so large that details are lost when it is resized to the model's input."""
        height, width = image.array.shape[:2]
        settings = self.processor.image_processor
        is_small = max(height, width) <= LARGE_SIDE or not settings.do_resize
        if is_small or self.tiling is not None or self._has_warned:
            return
        self._has_warned = True
        input_size = f"{settings.size['height']} x {settings.size['width']}"
        warnings.warn(
            f"{name} has {height} x {width} pixels and is resized to {input_size}, as are other large images: small "
            "lesions disappear. `--tile 512` (`tiling=Tiling(512)`) predicts images in tiles, for models trained on "
            "such tiles.",
            UserWarning,
            stacklevel=2,
        )

    def encode(self, prepared: Sequence[PreparedImage]) -> EncodedImages:
        """Features of images whose `pixel_values` have the same size."""
        features = self.network.encode([image.pixel_values for image in prepared])
        sizes = [image.image.array.shape[:2] for image in prepared]
        spacings = [image.image.spacing_mm for image in prepared]
        return EncodedImages(features, sizes, [image.name for image in prepared], spacings)

    def ask(self, encoded: EncodedImages, texts: Sequence[str], **options: Any) -> Any:
        """The model's output for one text per image, "" for none; or for several texts of a single image."""
        return self.network.ask(encoded.features, texts, **options)

    def masks(self, encoded: EncodedImages, texts: Sequence[str]) -> list[np.ndarray]:
        """A label map uint8 (height, width) for each image, at its original size.

        Raises `NonFiniteLogitsError`, with the images' names, if logits are not finite.
        """
        return [answer.mask for answer in self._answers(encoded, texts)]

    def _answers(self, encoded: EncodedImages, texts: Sequence[str]) -> list[Answer]:
        maps = self._probabilities(encoded, texts)
        return [self._answer(own, spacing) for own, spacing in zip(maps, encoded.spacings, strict=True)]

    def _probabilities(self, encoded: EncodedImages, texts: Sequence[str]) -> list[np.ndarray]:
        """Those of each image, (num_labels, height, width)."""
        try:
            return self.network.probabilities(encoded.features, texts, encoded.sizes)
        except NonFiniteLogitsError as error:
            names = list(
                dict.fromkeys(encoded.names[index] for index in error.indices)
            )  # of tiles, that of their image
            raise NonFiniteLogitsError(error.indices, names) from error

    def _answer(self, probabilities: np.ndarray, spacing_mm: tuple[float, float] | None) -> Answer:
        labels = labels_from_probabilities(probabilities, self.threshold)
        statistics = self._statistics(labels, probabilities, spacing_mm) if self.with_statistics else {}
        stored = probabilities.astype(np.float16) if self.with_probabilities else None
        return Answer(labels, statistics, stored)

    def _statistics(
        self, labels: np.ndarray, probabilities: np.ndarray, spacing_mm: Sequence[float] | None
    ) -> dict[str, ClassStatistics]:
        statistics = {}
        for label, name in self.classes.items():
            pixels = int((labels == label).sum())
            mm2 = None if spacing_mm is None else pixels * float(spacing_mm[0]) * float(spacing_mm[1])
            statistics[name] = ClassStatistics(pixels, mm2, mean_probability(labels, probabilities, label))
        return statistics

    def predictions(self, requests: Iterable[tuple[Mapping[str, Any], Sequence[str]]]) -> Iterator[Prediction]:
        """The predictions of all images, in order; the error of an image does not affect the others.

        While the network computes a batch, the images of the next one are read in other threads.

        Args:
            requests: pairs of an example, which is a mapping with "image" and, for errors, "id", and its texts, one or
                more; a batch ends after an example with "ends_batch". They are read once, little more than a batch
                ahead.
        """
        if self.tiling is not None:
            yield from self._tiled_predictions(requests, self.tiling)
            return
        prepared = on_all_cores(self._prepared_or_error, enumerate(requests), ahead=self.batch_size)
        while batch := taken(prepared, self.batch_size):
            results: list[Prediction | None] = [None] * len(batch)
            # One batch of the network holds images of one size, and as many texts of each.
            groups: dict[tuple[int, ...], list[tuple[int, PreparedImage]]] = {}
            for index, ((position, (example, texts)), image) in enumerate(batch):
                if isinstance(image, Exception):
                    results[index] = Prediction(example, name_of(example, position), None, [], image)
                else:
                    groups.setdefault((*image.pixel_values.shape, len(texts)), []).append((index, image))
            for group in groups.values():
                indices, images = zip(*group, strict=True)
                requested = [batch[index][0][1] for index in indices]
                outcomes = self._answers_or_error(images, [texts for _, texts in requested])
                for image, (example, _), index, outcome in zip(images, requested, indices, outcomes, strict=True):
                    results[index] = Prediction(example, image.name, image.image, *outcome)
            yield from filter(None, results)

    def _prepared_or_error(
        self, request: tuple[int, tuple[Mapping[str, Any], Sequence[str]]]
    ) -> PreparedImage | Exception:
        position, (example, _) = request
        value = example["image"]
        try:
            return self.prepare(with_spacing(load_image(value), example), name_of(example, position))
        except Exception as error:  # the libraries that read medical files raise errors of any kind
            return error

    def _answers_or_error(
        self, images: Sequence[PreparedImage], texts: Sequence[Sequence[str]]
    ) -> list[tuple[list[Answer], NonFiniteLogitsError | None]]:
        """The answers, or the error, of each of several images of one size with equally many texts."""
        encoded = self.encode(images)
        texts_of_batch = list(zip(*texts, strict=True))
        try:
            # Always the whole batch, so that a mask does not depend on the other texts that are asked for.
            answers = {
                batch_texts: self._answers(encoded, batch_texts) for batch_texts in dict.fromkeys(texts_of_batch)
            }
        except NonFiniteLogitsError as error:
            if len(images) == 1:
                return [([], error)]
            pairs = zip(images, texts, strict=True)
            return [self._answers_or_error([image], [own_texts])[0] for image, own_texts in pairs]
        return [([answers[each][index] for each in texts_of_batch], None) for index in range(len(images))]

    def _tiled_predictions(
        self, requests: Iterable[tuple[Mapping[str, Any], Sequence[str]]], tiling: Tiling
    ) -> Iterator[Prediction]:
        """`predictions` in tiles: of one image after the other, as one of them may fill the memory."""
        for position, (example, texts) in enumerate(requests):
            name, value = name_of(example, position), example["image"]
            try:
                image = with_spacing(load_parts(value), example)
            except Exception as error:  # see `_prepared_or_error`
                yield Prediction(example, name, None, [], error)
                continue
            try:
                prediction = Prediction(example, name, image, self._tiled_answers(image, texts, name, tiling))
            except ValueError as error:  # a damaged or unusable part, or logits that are not finite
                prediction = Prediction(example, name, None, [], error)
            yield prediction

    def _tiled_answers(self, image: MedicalImage, texts: Sequence[str], name: str, tiling: Tiling) -> list[Answer]:
        """The answer for each text; a tile is encoded once for all of them."""
        distinct, tiles = list(dict.fromkeys(texts)), Tiles(image.array)
        results = self._tile_probabilities(tiles, distinct, name, tiling.boxes(*tiles.size))
        parts = [
            [self._answer(own, image.spacing_mm) for own in rows] for rows in blended_rows(results, tiling, *tiles.size)
        ]
        answers = {text: joined(own) for text, *own in zip(distinct, *parts, strict=True)}
        return [answers[text] for text in texts]

    def _tile_probabilities(
        self, tiles: Tiles, texts: Sequence[str], name: str, boxes: Iterable[Box]
    ) -> Iterator[tuple[Box, np.ndarray]]:
        """The probabilities (texts, num_labels, height, width) of each tile."""

        def prepared(box: Box) -> PreparedImage:
            return self.prepare(MedicalImage(tiles.tile(box)), name)

        results = on_all_cores(prepared, boxes, ahead=self.batch_size)
        while batch := list(islice(results, self.batch_size)):
            encoded = self.encode([image for _, image in batch])
            maps = [self._probabilities(encoded, [text] * len(batch)) for text in texts]
            for (box, _), *own in zip(batch, *maps, strict=True):
                yield box, np.stack(own)


def with_spacing(image: MedicalImage, example: Mapping[str, Any]) -> MedicalImage:
    """The image with the size of pixels that its example gives, if it does."""
    spacing = example.get("spacing_mm")
    return image._replace(spacing_mm=tuple(spacing)) if spacing else image


def taken(prepared: Iterator[Any], most: int) -> list[Any]:
    """The next results of `on_all_cores` for one batch."""
    batch = []
    for result in islice(prepared, most):
        batch.append(result)
        if result[0][1][0].get("ends_batch"):
            break
    return batch


def name_of(example: Mapping[str, Any], position: int) -> str:
    """The example's id, or its position."""
    return str(position if example.get("id") is None else example["id"])


def check_predictor_options(threshold: float, batch_size: int) -> None:
    """Raises `ValueError` if one of the two is out of range."""
    check_share("threshold", threshold)
    check_count("batch_size", batch_size)
