"""A model asked about images: each is decoded, checked, preprocessed and encoded once, whatever number of texts."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count, islice
from typing import Any, NamedTuple

import numpy as np
import torch

from ..io import MedicalImage, load_image
from ..logits_tevia import NonFiniteLogitsError
from ..modeling_tevia import TeViAForSegmentation
from ..option_checks_tevia import check_count, check_share
from ..outputs_tevia import TeViAImageFeatures, TeViASegmentationOutput
from ..processing_tevia import TeViAProcessor
from .text_features import TextFeatureCache


class PreparedImage(NamedTuple):
    """An image as it was read, and the pixels `(3, height, width)` that the network is given."""

    image: MedicalImage
    pixel_values: torch.Tensor
    name: str


class EncodedImages(NamedTuple):
    """A batch of images as the vision encoder sees them, with their own (height, width)."""

    features: TeViAImageFeatures
    sizes: list[tuple[int, int]]
    names: list[str]

    def select(self, indices: Sequence[int]) -> "EncodedImages":
        """Some of the images, in this order."""
        if list(indices) == list(range(len(self.names))):
            return self
        features = self.features._replace(maps=tuple(maps[list(indices)] for maps in self.features.maps))
        return EncodedImages(
            features, [self.sizes[index] for index in indices], [self.names[index] for index in indices]
        )


class Prediction(NamedTuple):
    """What became of one example: a label map uint8 (height, width) a text, or the error that stood in the way.

    Equal texts share one array.
    """

    example: Mapping[str, Any]
    name: str
    image: MedicalImage | None
    masks: list[np.ndarray]
    error: Exception | None = None


class Predictor:
    """Masks of images for any number of texts.

    `prepare` decodes, checks and preprocesses an image, `encode` sends a batch of them through the vision encoder, and
    `masks` asks about the batch, a text an image, as often as wanted. `predictions` does all of it for many images, and
    asks each distinct text of an image once.

    Args:
        model, processor: a `TeViAForSegmentation` and its `TeViAProcessor`.
        threshold: on the lesion's probability, for models with one label.
        batch_size: images that go through the network together.
        text_features: a cache to share; each distinct text is encoded once.

    Raises `ValueError` for a threshold or batch size out of its range.
    """

    def __init__(
        self,
        model: TeViAForSegmentation,
        processor: TeViAProcessor,
        threshold: float = 0.5,
        batch_size: int = 16,
        text_features: TextFeatureCache | None = None,
    ):
        check_predictor_options(threshold, batch_size)
        self.model, self.processor = model, processor
        self.threshold, self.batch_size = threshold, batch_size
        uses_text = bool(model.config.use_text)
        self.text_features = text_features or (TextFeatureCache(model, processor) if uses_text else None)

    def prepare(self, image: Any, name: str = "0") -> PreparedImage:
        """An image (path, `ImageRef`, PIL image, array, tensor or undecoded column entry), ready to be encoded.

        Raises `ValueError` or `OSError` for one that cannot be read or used, such as one with NaN pixels.
        """
        loaded = image if isinstance(image, MedicalImage) else load_image(image)
        inputs = self.processor.image_processor(loaded.array, input_data_format="channels_last")
        return PreparedImage(loaded, inputs["pixel_values"][0], name)

    def encode(self, prepared: Sequence[PreparedImage]) -> EncodedImages:
        """One pass of the vision encoder over images whose `pixel_values` are of one size."""
        pixel_values = torch.stack([image.pixel_values for image in prepared]).to(self.model.device)
        with evaluating(self.model):
            features = self.model.encode_image(pixel_values)
        sizes = [image.image.array.shape[:2] for image in prepared]
        return EncodedImages(features, sizes, [image.name for image in prepared])

    def ask(self, encoded: EncodedImages, texts: Sequence[str], **options: Any) -> TeViASegmentationOutput:
        """The model's output for a text an image, "" for none; or for several texts about one image."""
        inputs: dict[str, torch.Tensor] = {}
        if self.text_features is not None:
            features, attention_mask = self.text_features(list(texts))
            device = self.model.device
            inputs = {"text_features": features.to(device), "attention_mask": attention_mask.to(device)}
        with evaluating(self.model):
            return self.model(image_features=encoded.features, **inputs, **options)

    def masks(self, encoded: EncodedImages, texts: Sequence[str]) -> list[np.ndarray]:
        """A label map uint8 (height, width) for each image, of its own size.

        Raises `NonFiniteLogitsError`, with the images' names, for logits that are not finite.
        """
        try:
            maps = self.processor.post_process_segmentation(
                self.ask(encoded, texts), target_sizes=encoded.sizes, threshold=self.threshold
            )
        except NonFiniteLogitsError as error:
            raise NonFiniteLogitsError(error.indices, [encoded.names[index] for index in error.indices]) from error
        return [labels.cpu().numpy() for labels in maps]

    def predictions(self, requests: Iterable[tuple[Mapping[str, Any], Sequence[str]]]) -> Iterator[Prediction]:
        """What becomes of each image, in order; an image at fault costs its own prediction only.

        Args:
            requests: each an example, a mapping with "image" and, for errors, "id", and the texts to ask about it, as
                many of every one. They are read once, batch by batch.
        """
        requests, places = iter(requests), count()
        while batch := list(islice(requests, self.batch_size)):
            results: list[Prediction | None] = [None] * len(batch)
            by_size: dict[tuple[int, ...], list[tuple[int, PreparedImage]]] = {}
            for index, (example, _) in enumerate(batch):
                place, value = next(places), example["image"]
                name = str(place if example.get("id") is None else example["id"])
                try:
                    image = self.prepare(value, name)
                except Exception as error:  # the libraries that read medical files raise errors of any kind
                    results[index] = Prediction(example, name, None, [], error)
                else:
                    by_size.setdefault(image.pixel_values.shape, []).append((index, image))
            for group in by_size.values():
                indices, images = zip(*group, strict=True)
                answers = self._answers(images, [batch[index][1] for index in indices])
                for index, image, answer in zip(indices, images, answers, strict=True):
                    results[index] = Prediction(batch[index][0], image.name, image.image, *answer)
            yield from filter(None, results)

    def _answers(
        self, images: Sequence[PreparedImage], texts: Sequence[Sequence[str]]
    ) -> list[tuple[list[np.ndarray], NonFiniteLogitsError | None]]:
        """The masks of each of several images of one size, or why there are none."""
        encoded = self.encode(images)
        answers: list[dict[str, np.ndarray]] = [{} for _ in images]
        try:
            for asked in zip(*texts, strict=True):
                new = [index for index, text in enumerate(asked) if text not in answers[index]]
                masks = self.masks(encoded.select(new), [asked[index] for index in new]) if new else []
                for index, mask in zip(new, masks, strict=True):
                    answers[index][asked[index]] = mask
        except NonFiniteLogitsError as error:
            if len(images) == 1:
                return [([], error)]
            alone = (self._answers([image], [asked]) for image, asked in zip(images, texts, strict=True))
            return [answer for (answer,) in alone]
        return [([found[text] for text in asked], None) for found, asked in zip(answers, texts, strict=True)]


def check_predictor_options(threshold: float, batch_size: int) -> None:
    """Raises `ValueError` where one of the two is out of its range."""
    check_share("threshold", threshold)
    check_count("batch_size", batch_size)


@contextmanager
def evaluating(model: torch.nn.Module) -> Iterator[None]:
    """No gradients and no dropout inside; a model in training is in training again afterwards."""
    was_training = model.training
    if was_training:
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        if was_training:
            model.train()
