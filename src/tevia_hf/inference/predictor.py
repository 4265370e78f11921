"""Prediction of masks for any number of texts per image, each image decoded, preprocessed and encoded once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import torch

from ..io import MedicalImage, load_image
from ..labels_tevia import class_names
from ..logits_tevia import NonFiniteLogitsError, labels_from_probabilities, mean_probability
from ..modeling_tevia import TeViAForSegmentation
from ..option_checks_tevia import check_count, check_share
from ..outputs_tevia import TeViAImageFeatures, TeViASegmentationOutput
from ..processing_tevia import TeViAProcessor
from .text_features import TextFeatureCache


class PreparedImage(NamedTuple):
    """An image as read, and its preprocessed pixels `(3, height, width)`."""

    image: MedicalImage
    pixel_values: torch.Tensor
    name: str


class EncodedImages(NamedTuple):
    """Features of a batch of images, with the original (height, width) of each, and its pixels' size in mm if known."""

    features: TeViAImageFeatures
    sizes: list[tuple[int, int]]
    names: list[str]
    spacings: list[tuple[float, float] | None]


class ClassStatistics(NamedTuple):
    """The size of one class in a mask.

    Args:
        pixels: its area.
        mm2: its area, if the size of the image's pixels is known.
        probability: mean probability of the class inside its mask; `None` if that is empty.
    """

    pixels: int
    mm2: float | None
    probability: float | None


class Prediction(NamedTuple):
    """The result for one example: a label map uint8 (height, width) per text, or the error that occurred.

    `statistics` has, for each mask, those of each class by name; it is empty unless the predictor has
    `with_statistics`.
    """

    example: Mapping[str, Any]
    name: str
    image: MedicalImage | None
    masks: list[np.ndarray]
    error: Exception | None = None
    statistics: Sequence[dict[str, ClassStatistics]] = ()


class Predictor:
    """Masks of images for any number of texts.

    `prepare` decodes, checks and preprocesses an image, `encode` computes the features of a batch, and `masks` predicts
    masks for one text per image; it can be called repeatedly. `predictions` does all of this for many images, and
    predicts once where several conditions give a whole batch the same texts.

    Args:
        model: a `TeViAForSegmentation`.
        processor: its `TeViAProcessor`.
        threshold: on the lesion's probability, for models with one label.
        batch_size: number of images per forward pass.
        text_features: a cache to share between predictors.
        with_statistics: whether `predictions` include area and mean probability of each class.

    Raises `ValueError` for a threshold or batch size out of range.
    """

    def __init__(
        self,
        model: TeViAForSegmentation,
        processor: TeViAProcessor,
        threshold: float = 0.5,
        batch_size: int = 16,
        text_features: TextFeatureCache | None = None,
        with_statistics: bool = False,
    ):
        check_predictor_options(threshold, batch_size)
        self.model, self.processor = model, processor
        self.threshold, self.batch_size = threshold, batch_size
        self.with_statistics, self.classes = with_statistics, class_names(model.config.id2label or {})
        uses_text = bool(model.config.use_text)
        self.text_features = text_features or (TextFeatureCache(model, processor) if uses_text else None)

    def prepare(self, image: Any, name: str = "0") -> PreparedImage:
        """Prepares an image (path, `ImageRef`, PIL image, array, tensor or undecoded column entry) for `encode`.

        Raises `ValueError` or `OSError` if it cannot be read or used, e.g. because of NaN pixels.
        """
        loaded = image if isinstance(image, MedicalImage) else load_image(image)
        inputs = self.processor.image_processor(loaded.array, input_data_format="channels_last")
        return PreparedImage(loaded, inputs["pixel_values"][0], name)

    def encode(self, prepared: Sequence[PreparedImage]) -> EncodedImages:
        """Features of images whose `pixel_values` have the same size."""
        pixel_values = torch.stack([image.pixel_values for image in prepared]).to(self.model.device)
        with evaluating(self.model):
            features = self.model.encode_image(pixel_values)
        sizes = [image.image.array.shape[:2] for image in prepared]
        spacings = [image.image.spacing_mm for image in prepared]
        return EncodedImages(features, sizes, [image.name for image in prepared], spacings)

    def ask(self, encoded: EncodedImages, texts: Sequence[str], **options: Any) -> TeViASegmentationOutput:
        """The model's output for one text per image, "" for none; or for several texts of a single image."""
        inputs: dict[str, torch.Tensor] = {}
        if self.text_features is not None:
            features, attention_mask = self.text_features(list(texts))
            device = self.model.device
            inputs = {"text_features": features.to(device), "attention_mask": attention_mask.to(device)}
        with evaluating(self.model):
            return self.model(image_features=encoded.features, **inputs, **options)

    def masks(self, encoded: EncodedImages, texts: Sequence[str]) -> list[np.ndarray]:
        """A label map uint8 (height, width) for each image, at its original size.

        Raises `NonFiniteLogitsError`, with the images' names, if logits are not finite.
        """
        return [mask for mask, _ in self._measured_masks(encoded, texts, with_statistics=False)]

    def _measured_masks(
        self, encoded: EncodedImages, texts: Sequence[str], with_statistics: bool
    ) -> list[tuple[np.ndarray, dict[str, ClassStatistics]]]:
        """The mask of each image and the statistics of its classes, none without `with_statistics`."""
        try:
            maps = self.processor.post_process_segmentation(
                self.ask(encoded, texts), target_sizes=encoded.sizes, return_probabilities=True
            )
        except NonFiniteLogitsError as error:
            raise NonFiniteLogitsError(error.indices, [encoded.names[index] for index in error.indices]) from error
        results = []
        for probabilities, spacing in zip(maps, encoded.spacings, strict=True):
            labels = labels_from_probabilities(probabilities, self.threshold)
            statistics = self._statistics(labels, probabilities, spacing) if with_statistics else {}
            results.append((labels.cpu().numpy(), statistics))
        return results

    def _statistics(
        self, labels: torch.Tensor, probabilities: torch.Tensor, spacing_mm: Sequence[float] | None
    ) -> dict[str, ClassStatistics]:
        statistics = {}
        for label, name in self.classes.items():
            pixels = int((labels == label).sum())
            mm2 = None if spacing_mm is None else pixels * float(spacing_mm[0]) * float(spacing_mm[1])
            statistics[name] = ClassStatistics(pixels, mm2, mean_probability(labels, probabilities, label))
        return statistics

    def predictions(self, requests: Iterable[tuple[Mapping[str, Any], Sequence[str]]]) -> Iterator[Prediction]:
        """The predictions of all images, in order; the error of an image does not affect the others.

        Args:
            requests: pairs of an example, which is a mapping with "image" and, for errors, "id", and its texts, equally
                many for every example. They are read once, batch by batch.
        """
        requests, positions = iter(requests), count()
        while batch := list(islice(requests, self.batch_size)):
            results: list[Prediction | None] = [None] * len(batch)
            by_size: dict[tuple[int, ...], list[tuple[int, PreparedImage]]] = {}
            for index, (example, _) in enumerate(batch):
                position, value = next(positions), example["image"]
                name = str(position if example.get("id") is None else example["id"])
                try:
                    image = self.prepare(value, name)
                    if spacing := example.get("spacing_mm"):
                        image = image._replace(image=image.image._replace(spacing_mm=tuple(spacing)))
                except Exception as error:  # the libraries that read medical files raise errors of any kind
                    results[index] = Prediction(example, name, None, [], error)
                else:
                    by_size.setdefault(image.pixel_values.shape, []).append((index, image))
            for group in by_size.values():
                indices, images = zip(*group, strict=True)
                outcomes = self._masks_or_error(images, [batch[index][1] for index in indices])
                for index, image, outcome in zip(indices, images, outcomes, strict=True):
                    results[index] = Prediction(batch[index][0], image.name, image.image, *outcome)
            yield from filter(None, results)

    def _masks_or_error(
        self, images: Sequence[PreparedImage], texts: Sequence[Sequence[str]]
    ) -> list[tuple[list[np.ndarray], NonFiniteLogitsError | None, list[dict[str, ClassStatistics]]]]:
        """The masks, error and statistics of each of several images of one size."""
        encoded = self.encode(images)
        texts_of_batch = list(zip(*texts, strict=True))
        try:
            # Always the whole batch, so that a mask does not depend on the other texts that are asked for.
            measured = {
                batch_texts: self._measured_masks(encoded, batch_texts, self.with_statistics)
                for batch_texts in dict.fromkeys(texts_of_batch)
            }
        except NonFiniteLogitsError as error:
            if len(images) == 1:
                return [([], error, [])]
            pairs = zip(images, texts, strict=True)
            return [self._masks_or_error([image], [own_texts])[0] for image, own_texts in pairs]
        results: list[tuple[list[np.ndarray], NonFiniteLogitsError | None, list[dict[str, ClassStatistics]]]] = []
        for index in range(len(images)):
            masks, statistics = zip(*(measured[batch_texts][index] for batch_texts in texts_of_batch), strict=True)
            results.append((list(masks), None, list(statistics) if self.with_statistics else []))
        return results


def check_predictor_options(threshold: float, batch_size: int) -> None:
    """Raises `ValueError` if one of the two is out of range."""
    check_share("threshold", threshold)
    check_count("batch_size", batch_size)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """Context without gradients and with the model in evaluation mode, which is restored afterwards."""
    was_training = model.training
    if was_training:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if was_training:
            model.train()
