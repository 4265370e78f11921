"""`pipeline("text-guided-image-segmentation", model=...)`: pictures and sentences in, masks of their size out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers.image_utils import load_image
from transformers.pipelines.base import Pipeline

TASK = "text-guided-image-segmentation"
LESION_COLOUR = np.array([230, 159, 0], np.float32)
FILL_OPACITY = 0.45


class TeViASegmentationPipeline(Pipeline):
    """Masks of the pictures' own size, with scores, from pictures and sentences.

    `pipe(image, "sentence")`, `pipe([image, ...], ["sentence", ...])`, `pipe({"image": ..., "text": ...})` or a list or
    generator of such mappings, with `batch_size=` for several at once.
    """

    _load_processor = True  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]

    def __call__(self, inputs: Any, text: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]
        """A list of `{"label", "score", "mask"}` for a picture, or a list of these lists for several.

        Args:
            inputs: pictures as PIL, array, tensor, path or URL; mappings with "image" and "text"; or lists of either.
            text: a sentence for each picture, or one for all; None or "" for none. Not beside mappings.
            threshold: on the lesion's probability (0.5), for models with one label.
            overlay: True adds "overlay", the RGB picture with the mask in orange.
            batch_size: pictures that go through the network together.

        A model with one label gives one entry a picture, its mask all zero where nothing was found; with several, one
        for each label found but the background. "mask" is a PIL picture of 0 and 255, "score" the mean probability
        inside it (of an empty mask 0).

        Raises `ValueError` where counts differ or texts are given twice; the processor's errors besides.
        """
        return super().__call__(paired(inputs, text), **kwargs)

    def _sanitize_parameters(self, threshold: float | None = None, overlay: bool | None = None, **unknown: Any):
        if unknown:
            raise TypeError(f"The pipeline has no option {sorted(unknown)}: it takes threshold, overlay, batch_size.")
        if threshold is not None and not 0 <= threshold <= 1:
            raise ValueError(f"threshold is {threshold}: give a probability from 0 to 1.")
        options = {"threshold": threshold, "overlay": overlay}
        return {}, {}, {name: value for name, value in options.items() if value is not None}

    def preprocess(self, input_: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        image = input_["image"]
        if isinstance(image, str) and image.startswith(("http://", "https://")):
            image = load_image(image)
        picture = self.processor.image_processor.read_image(image)  # (1 or 3, height, width)
        inputs = self.processor([picture], [input_.get("text")])
        return {**inputs, "picture": [picture]}

    def _forward(self, input_tensors: dict[str, Any], **_: Any) -> dict[str, Any]:  # type: ignore[override]
        pictures = input_tensors.pop("picture")
        return {"logits": self.model(**input_tensors).logits, "picture": pictures}

    def postprocess(  # type: ignore[override]
        self, model_outputs: dict[str, Any], threshold: float = 0.5, overlay: bool = False
    ) -> list[dict[str, Any]]:
        picture = model_outputs["picture"][0]
        (probabilities,) = self.processor.post_process_segmentation(
            Outputs(model_outputs["logits"]), target_sizes=[tuple(picture.shape[-2:])], return_probabilities=True
        )  # (labels, height, width)
        if len(probabilities) == 1:
            found = {0: probabilities[0] > threshold}
        else:
            labels = probabilities.argmax(0)
            found = {int(label): labels == label for label in labels.unique() if label > 0}
        return [self.entry(label, mask, probabilities[label], picture, overlay) for label, mask in found.items()]

    def entry(
        self, label: int, mask: torch.Tensor, probabilities: torch.Tensor, picture: torch.Tensor, with_overlay: bool
    ) -> dict[str, Any]:
        area = mask.cpu().numpy()
        score = probabilities[mask].mean().item() if area.any() else 0.0
        entry = {
            "label": self.model.config.id2label[label],
            "score": score,
            "mask": Image.fromarray(area.astype(np.uint8) * 255),
        }
        return entry | ({"overlay": tinted(picture, area)} if with_overlay else {})

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Writes model and processor, with the code that loads them where this package is not installed."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class Outputs:
    """What post-processing reads of the model's output."""

    def __init__(self, logits: torch.Tensor):
        self.logits = logits


def paired(inputs: Any, text: Any) -> Any:
    """Mappings with "image" and "text": one, a list of them, or a generator as it is."""
    if isinstance(inputs, (Mapping, Iterator)) or (is_several(inputs) and len(inputs) and is_mapping(inputs[0])):
        if text is not None:
            raise ValueError("The inputs are mappings or a generator, which hold their own text: leave `text` out.")
        return inputs
    if not is_several(inputs):
        return {"image": inputs, "text": text}
    texts = [text] * len(inputs) if text is None or isinstance(text, str) else list(text)
    if len(texts) != len(inputs):
        raise ValueError(f'{len(inputs)} images but {len(texts)} texts: give one text an image, None or "" for none.')
    return [{"image": image, "text": sentence} for image, sentence in zip(inputs, texts, strict=True)]


def is_several(inputs: Any) -> bool:
    return isinstance(inputs, Sequence) and not isinstance(inputs, (str, bytes)) or hasattr(inputs, "column_names")


def is_mapping(item: Any) -> bool:
    return isinstance(item, Mapping)


def tinted(picture: torch.Tensor, area: np.ndarray) -> Image.Image:
    """The picture in RGB, the area in translucent orange."""
    pixels = picture.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy() * 255  # (height, width, 3)
    pixels = np.where(area[..., None], pixels * (1 - FILL_OPACITY) + LESION_COLOUR * FILL_OPACITY, pixels)
    return Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))


# For `config.json`, so that `pipeline(task, model=..., trust_remote_code=True)` finds this class without the package.
CUSTOM_PIPELINES = {
    TASK: {
        "impl": "pipeline_tevia.TeViASegmentationPipeline",
        "pt": ["AutoModelForSemanticSegmentation"],
        "type": "multimodal",
    }
}

__all__ = ["CUSTOM_PIPELINES", "TASK", "TeViASegmentationPipeline"]
