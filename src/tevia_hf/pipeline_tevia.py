"""`pipeline("text-guided-image-segmentation", model=...)`: masks of images from images and texts."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from http.client import HTTPException
from io import BytesIO, IOBase
from itertools import repeat
from typing import Any, ClassVar, cast
from urllib.request import urlopen

import numpy as np
import torch
from PIL import Image
from transformers import Pipeline

from .colours_tevia import FILL_OPACITY, colour_of
from .labels_tevia import WHITE, class_names
from .logits_tevia import labels_from_probabilities, mean_probability
from .option_checks_tevia import check_count, check_share
from .processing_tevia import TeViAProcessor

TASK = "text-guided-image-segmentation"
DOWNLOAD_TIMEOUT = 30  # seconds
# The columns of a data set. Any other key may be a text under another name, which must not be dropped silently.
ROW_KEYS = ("image", "text", "mask", "id", "group", "spacing_mm")


class TeViASegmentationPipeline(Pipeline):
    """Masks with scores, at the size of the images, from images and texts.

    `pipe(image, "text")`, `pipe([image, ...], ["text", ...])`, `pipe({"image": ..., "text": ...})`, or a list, a data
    set or a generator of such mappings; `batch_size=` sets how many are processed at once. The other columns of
    `load_segmentation_dataset` are ignored.
    """

    processor: TeViAProcessor
    # With the package installed, `tevia_hf.auto` sets a reader, which returns the slices of a path that holds several.
    volume_reader: ClassVar[Callable[[Any], Any]] = staticmethod(lambda path: None)

    _load_processor = True  # type: ignore[assignment]  # transformers types it as None, as the next three
    _load_image_processor = False  # type: ignore[assignment]  # see above
    _load_feature_extractor = False  # type: ignore[assignment]  # see above
    _load_tokenizer = False  # type: ignore[assignment]  # see above

    def __init__(self, *args: Any, **kwargs: Any):
        if kwargs.get("batch_size") is not None:
            check_count("batch_size", kwargs["batch_size"], example="8")
        super().__init__(*args, **kwargs)

    def __call__(self, inputs: Any, text: Any = None, **kwargs: Any) -> Any:  # type: ignore[override]  # two inputs
        """A list of `{"label", "score", "area", "mask"}` for one image, a list of such lists for several.

        Args:
            inputs: an image (PIL, array, tensor, path or URL), or a mapping with "image" and "text"; or a list, tuple,
                data set or generator of these. For a data set or generator the result is an iterator, which reads the
                inputs as it proceeds.
            text: a text for each image, or one for all; None or "" for none. Not together with mappings.
            threshold: on the lesion's probability (default 0.5), for models with one label.
            overlay: True adds "overlay", the RGB image with the mask in its label's colour, orange for label 1.
            batch_size: number of images per forward pass.

        A model with one label returns one entry per image, its mask all zero if no lesion is predicted; with several
        labels, one entry for each predicted label other than the background. "mask" is a PIL image of 0 and 255,
        "score" the mean probability inside it, 0 for an empty mask, and "area" its number of pixels. With the package
        installed, the path of a volume (NIfTI, a folder of a DICOM series, several frames) gives one list for all its
        slices, whose "mask" is a nibabel image of 0 and 1 in the position of the volume.

        Warns about a missing text if the model was never trained without one (`text_dropout=0`).
        Raises `ValueError` if counts differ, texts are given twice, a mapping has other keys, a URL has no image, the
        threshold or batch size is out of range, or logits are not finite; and the errors of the processor.
        """
        if kwargs.get("batch_size") is not None:
            check_count("batch_size", kwargs["batch_size"], example="8")
        pairs = paired(inputs, text)
        if isinstance(pairs, Mapping) and (volume := type(self).volume_reader(pairs["image"])) is not None:
            return self.segment_volume(volume, pairs["text"], **kwargs)
        return [] if pairs == [] else super().__call__(pairs, **kwargs)

    def segment_volume(self, volume: Any, text: str | None, **kwargs: Any) -> list[dict[str, Any]]:
        """The entries of a volume, joined over its slices.

        Args:
            volume: `tevia_hf.io.volume.Volume`.
            text: of all slices.
            kwargs: options of a call.
        """
        slices = ({"image": volume.slice(number).array, "text": text} for number in range(volume.count))
        joined: dict[str, dict[str, Any]] = {}
        for number, entries in enumerate(self(slices, **kwargs)):
            for entry in entries:
                if "overlay" in entry:
                    raise ValueError("A volume has no overlay: leave `overlay` out, or give slices: scan.nii.gz#40.")
                if entry["label"] not in joined:
                    voxels = np.zeros(volume.grid.shape, np.uint8)
                    joined[entry["label"]] = {"label": entry["label"], "score": 0.0, "area": 0, "mask": voxels}
                whole = joined[entry["label"]]
                whole["score"] += entry["score"] * entry["area"]
                whole["area"] += entry["area"]
                whole["mask"][volume.grid.place(number)] = volume.grid.as_stored(np.asarray(entry["mask"]) // WHITE)
        for whole in joined.values():
            whole |= {"score": whole["score"] / max(whole["area"], 1), "mask": volume.grid.mask(whole["mask"])}
        volume.close()
        names = class_names(cast(Any, self.model.config).id2label).values()
        return [joined[name] for name in names if name in joined]

    def _sanitize_parameters(self, threshold: float | None = None, overlay: bool | None = None, **unknown: Any):
        if unknown:
            raise TypeError(
                f"The pipeline has no option {sorted(unknown)}: it takes text, threshold, overlay, batch_size."
            )
        if threshold is not None:
            check_share("threshold", threshold)
        options = {"threshold": threshold, "overlay": overlay}
        return {}, {}, {name: value for name, value in options.items() if value is not None}

    def preprocess(self, input_: Mapping[str, Any], **_: Any) -> dict[str, Any]:
        """ "pixel_values" and "text" of one input, and "image", its pixels (1 or 3, height, width)."""
        image, text = input_["image"], input_.get("text")
        if isinstance(image, str) and image.startswith(("http://", "https://")):
            image = download_image(image)
        pixels = self.processor.image_processor.read_image(image, input_.get("index", 0))  # (1 or 3, height, width)
        if self.model.config.use_text and self.model.config.text_dropout == 0 and not (text or "").strip():
            warnings.warn(
                "The model was never trained without a text (`text_dropout=0`): give one, a mask predicted without "
                "it is unreliable.",
                UserWarning,
                stacklevel=2,
            )
        inputs = self.processor([pixels], input_data_format="channels_first")
        return {**inputs, "text": text or "", "image": [pixels]}

    def _forward(self, input_tensors: dict[str, Any], **_: Any) -> dict[str, Any]:  # type: ignore[override]  # a dictionary
        pixel_values, texts = input_tensors["pixel_values"], input_tensors["text"]  # one text, or those of a batch
        inputs = (
            {} if not self.model.config.use_text else self.text_inputs([texts] if isinstance(texts, str) else texts)
        )
        return {"logits": self.model(pixel_values, **inputs).logits, "image": input_tensors["image"]}

    def text_inputs(self, texts: Sequence[str]) -> dict[str, torch.Tensor]:
        """The features and attention mask of a batch, of which each distinct text is encoded once."""
        distinct = list(dict.fromkeys(texts))
        tokens = self.processor(text=distinct).to(self.model.device)
        rows = [distinct.index(text) for text in texts]
        features = cast(Any, self.model).encode_text(**tokens)[rows]
        return {"text_features": features, "attention_mask": tokens["attention_mask"][rows]}

    def postprocess(  # type: ignore[override]  # its options are named
        self, model_outputs: dict[str, Any], threshold: float = 0.5, overlay: bool = False
    ) -> list[dict[str, Any]]:
        pixels = model_outputs["image"][0]
        (probabilities,) = self.processor.post_process_segmentation(
            Outputs(model_outputs["logits"]), target_sizes=[tuple(pixels.shape[-2:])], return_probabilities=True
        )  # (labels, height, width)
        labels = labels_from_probabilities(probabilities, threshold)
        names = class_names(cast(Any, self.model.config).id2label)
        shown = names if len(probabilities) == 1 else [int(label) for label in labels.unique() if label > 0]
        return [self.entry(label, names[label], labels, probabilities, pixels, overlay) for label in shown]

    def entry(
        self,
        label: int,
        name: str,
        labels: torch.Tensor,
        probabilities: torch.Tensor,
        pixels: torch.Tensor,
        with_overlay: bool,
    ) -> dict[str, Any]:
        area = (labels == label).cpu().numpy()
        entry = {
            "label": name,
            "score": mean_probability(labels, probabilities, label) or 0.0,
            "area": int(area.sum()),
            "mask": Image.fromarray(area.astype(np.uint8) * WHITE),
        }
        return entry | ({"overlay": draw_overlay(pixels, area, colour_of(label))} if with_overlay else {})

    def save_pretrained(self, save_directory: Any, **kwargs: Any) -> None:
        """Saves model and processor, with the code to load them without this package."""
        self.model.save_pretrained(save_directory, **kwargs)
        self.processor.save_pretrained(save_directory, **kwargs)


class Outputs:
    """The part of the model's output that post-processing needs."""

    def __init__(self, logits: torch.Tensor):
        self.logits = logits


def paired(inputs: Any, text: Any) -> Any:
    """Mappings of "image", "text" and "index": one, a list, a data set or, for inputs without length, a generator."""
    if is_single(inputs):
        return pair(inputs, text, 0)
    if not (hasattr(inputs, "__len__") and hasattr(inputs, "__getitem__")):
        texts = repeat(text) if text is None or isinstance(text, str) else text
        both = zip(inputs, texts, strict=not isinstance(texts, repeat))
        return (pair(item, own_text, index) for index, (item, own_text) in enumerate(both))
    pairs = Pairs(inputs, text)
    return [pairs[index] for index in range(len(pairs))] if isinstance(inputs, (list, tuple)) else pairs


class Pairs(torch.utils.data.Dataset):
    """The inputs with their texts, read on access."""

    def __init__(self, inputs: Any, text: Any):
        self.inputs = inputs
        self.texts = [text] * len(inputs) if text is None or isinstance(text, str) else list(text)
        if len(self.texts) != len(inputs):
            raise ValueError(
                f'{len(inputs)} images but {len(self.texts)} texts: give one text an image, None or "" for none.'
            )

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return pair(self.inputs[index], self.texts[index], index)


def is_single(inputs: Any) -> bool:
    """Whether the inputs are a single image, path or mapping, or at least cannot be iterated."""
    kinds = (str, bytes, os.PathLike, IOBase, Mapping, Image.Image, np.ndarray, torch.Tensor)
    return isinstance(inputs, kinds) or not (hasattr(inputs, "__iter__") or hasattr(inputs, "__getitem__"))


def pair(item: Any, text: Any, index: int) -> dict[str, Any]:
    """An input with its text and its index, for errors."""
    if isinstance(item, Mapping):
        if text is not None:
            raise ValueError("The inputs are mappings, which hold their own text: leave `text` out.")
        check_keys(item, index)
        item, text = item["image"], item.get("text")
    if not isinstance(text, (str, type(None))):
        raise TypeError(f"text {index} is a {type(text).__name__}: give a string, or None for no text.")
    return {"image": item, "text": text, "index": index}


def check_keys(item: Mapping[str, Any], index: int) -> None:
    if "image" not in item:
        raise ValueError(f'Input {index} has no image but {sorted(item)}: give {{"image": ..., "text": ...}}.')
    if unknown := [key for key in item if key not in ROW_KEYS]:
        raise ValueError(
            f'Input {index} has keys that the pipeline does not read, {unknown}: give {{"image": ..., "text": ...}} '
            f"without others (a data set's {', '.join(ROW_KEYS[2:])} are ignored)."
        )


def download_image(url: str) -> Image.Image:
    """The image at a URL, at its own bit depth."""
    try:
        with urlopen(url, timeout=DOWNLOAD_TIMEOUT) as response:
            image = Image.open(BytesIO(response.read()))
    except (OSError, HTTPException, Image.DecompressionBombError) as error:
        raise ValueError(f"{url} cannot be read ({error}): give the URL of an image.") from error
    image.filename = url  # for errors
    return image


def draw_overlay(pixels: torch.Tensor, area: np.ndarray, colour: tuple[int, int, int]) -> Image.Image:
    """The image in RGB, the area in a translucent colour."""
    rgb = pixels.expand(3, -1, -1).permute(1, 2, 0).cpu().numpy() * WHITE  # (height, width, 3)
    mixed = rgb * (1 - FILL_OPACITY) + np.array(colour, np.float32) * FILL_OPACITY
    rgb = np.where(area[..., None], mixed, rgb)
    return Image.fromarray(rgb.round().clip(0, WHITE).astype(np.uint8))


# For `config.json`, so that `pipeline(task, model=..., trust_remote_code=True)` finds this class without the package.
CUSTOM_PIPELINES = {
    TASK: {
        "impl": "pipeline_tevia.TeViASegmentationPipeline",
        "pt": ["AutoModelForSemanticSegmentation"],
        "type": "multimodal",
    }
}

__all__ = ["CUSTOM_PIPELINES", "TASK", "TeViASegmentationPipeline"]
