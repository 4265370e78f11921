"""Masks from a model: for examples in memory, or for files on disk."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..data.collate import SegmentationCollator
from ..data.decoding import decode_image
from ..data.pairing import example_id
from ..data.tables import sentences_for
from ..extras import needed_for
from ..image_processing_tevia import NonFiniteLogitsError
from ..io import (
    ImageRef,
    MedicalImage,
    is_image_file,
    parse_address,
    read_image,
    stem,
    supported_suffixes,
    with_window,
    write_mask,
)
from ..io.address import Window, check_window
from ..io.clutter import is_clutter
from ..io.output_dir import claim_output_dir
from ..labels_tevia import is_lesion
from ..option_checks_tevia import check_count, check_share
from ..visualization import overlay
from .loading import load_trained
from .text_features import TextFeatureCache

with needed_for("Predicting files"):
    import pandas as pd
    from datasets.utils import tqdm


@torch.no_grad()
def predict_masks(
    model,
    processor,
    examples: Sequence[Mapping[str, Any]],
    threshold: float = 0.5,
    batch_size: int = 16,
    description: str | None = "Predicting",
    sentences: TextFeatureCache | None = None,
) -> list[np.ndarray]:
    """A label map uint8 `(height, width)` for each example, at its image's own size.

    Args:
        model, processor: a `TeViAForSegmentation` and its `TeViAProcessor`.
        examples: mappings with "image" (path, picture, array or undecoded column entry) and "text" ("" for none).
        threshold: on the lesion's probability, for models with one label.
        description: of the progress bar; `None` shows none.
        sentences: a cache to go on with.

    Raises `ValueError` for an option out of its range and for logits that are not finite, with the images' names.
    """
    check_options(threshold, batch_size)
    was_training = model.training
    model.eval()
    if sentences is None and model.config.use_text:
        sentences = TextFeatureCache(model, processor)
    collator = SegmentationCollator(processor, text_features=sentences)
    masks: list[np.ndarray] = []
    for start in tqdm(range(0, len(examples), batch_size), desc=description, disable=description is None):
        batch = [load_input(example) for example in examples[start : start + batch_size]]
        inputs = {name: tensor.to(model.device) for name, tensor in collator(batch).items()}
        sizes = [example["image"].shape[:2] for example in batch]
        try:
            maps = processor.post_process_segmentation(model(**inputs), target_sizes=sizes, threshold=threshold)
        except NonFiniteLogitsError as error:
            places = [start + index for index in error.indices]
            names = [str(examples[place].get("id") or place) for place in places]
            raise NonFiniteLogitsError(places, names) from error
        masks += [label_map.cpu().numpy() for label_map in maps]
    model.train(was_training)
    return masks


def check_options(threshold: float, batch_size: int) -> None:
    """Raises `ValueError` where one of the two is out of its range."""
    check_share("threshold", threshold)
    check_count("batch_size", batch_size)


def load_input(example: Mapping[str, Any]) -> dict[str, Any]:
    """An example's decoded image `(height, width[, channels])` and its text; its mask is left out."""
    return {"image": decode_image(example), "text": example["text"], "id": example.get("id")}


def predict(
    model,
    processor,
    images: Sequence[str | Path | ImageRef],
    texts: Sequence[str],
    output_dir: str | Path,
    threshold: float = 0.5,
    batch_size: int = 16,
    mask_suffix: str = ".png",
) -> pd.DataFrame:
    """Writes a mask `NAME.png` and a picture `overlays/NAME.png` for each image file, and says what became of it.

    Args:
        images, texts: one sentence an image, "" for none. An image may name a slice and a window (`io.parse_address`).
        output_dir: folder to write to, batch by batch; the table goes there too, as `predictions.csv`.
        mask_suffix: ".png"; or ".nii.gz" or ".nii" for masks that keep the image's spacing and place.

    Returns one row a file: `image, text, mask, overlay, foreground` (share of the picture) and `error`, empty where
    all went well. A file that cannot be read, has logits that are not finite, or whose mask cannot be written costs its
    own row only. Raises `ValueError` for an option out of its range, where counts differ or two images would be written
    to one name, and where the logits of no image are finite.
    """
    check_options(threshold, batch_size)
    files = [parse_address(image) for image in images]
    names, folder = output_names(files, texts), Path(output_dir)
    if folder.resolve() in {file.path.resolve().parent for file in files}:
        raise ValueError(f"{folder} holds the images themselves, and masks would replace them: name another folder.")
    (folder / "overlays").mkdir(parents=True, exist_ok=True)
    rows = [
        {"image": str(image), "text": text, "mask": "", "overlay": "", "foreground": float("nan"), "error": ""}
        for image, text in zip(images, texts, strict=True)
    ]
    sentences = TextFeatureCache(model, processor) if model.config.use_text else None
    predicted, not_finite = 0, list[str]()
    for start in tqdm(range(0, len(rows), batch_size), desc="Predicting"):
        batch = rows[start : start + batch_size]
        examples = [read_or_report(row, file, processor) for row, file in zip(batch, files[start:], strict=False)]
        readable = [{**example, "image": example["image"].array} for example in examples if example is not None]
        masks = iter(masks_or_errors(model, processor, readable, threshold, sentences))
        for row, example, name in zip(batch, examples, names[start:], strict=False):
            if example is not None:
                path, mask = folder / f"{name}{mask_suffix}", next(masks)
                write_or_report(row, path, example["image"], mask, model.config.num_labels)
                not_finite += [str(row["image"])] if isinstance(mask, NonFiniteLogitsError) else []
                predicted += 1
    table = pd.DataFrame(rows)
    table.to_csv(folder / "predictions.csv", index=False)
    if predicted and len(not_finite) == predicted:
        raise NonFiniteLogitsError(range(predicted), not_finite)
    return table


def predict_files(
    model: str,
    images: Sequence[str | Path],
    output_dir: str | Path,
    *,
    text: str = "",
    sentences: str | Path | None = None,
    window: Window | None = None,
    threshold: float = 0.5,
    batch_size: int = 16,
    mask_suffix: str = ".png",
    overwrite: bool = False,
) -> pd.DataFrame:
    """The masks of `tevia predict`, by a model's name or folder; returns the table of `predict`.

    Args:
        images: files or folders; slices as scan.nii.gz#40.
        output_dir: folder to write to; `overwrite` deletes an earlier output there.
        text: for every image, in place of which `sentences` names a table with the columns Image, Description.
        window: (centre, width) that DICOM and NIfTI are seen through.
        threshold, batch_size, mask_suffix: as of `predict`.

    Raises `ValueError` for an option out of its range before anything is loaded.
    """
    check_options(threshold, batch_size)
    if window is not None:
        check_window(window)
    found = list_images(images)
    if window is not None:
        found = [with_window(image, window) for image in found]
    texts = sentences_from_table(sentences, found) if sentences is not None else [text] * len(found)
    network, processor = load_trained(model)
    claim_output_dir(output_dir, overwrite=overwrite, inputs=[model, *found, sentences])
    return predict(network, processor, found, texts, output_dir, threshold, batch_size, mask_suffix)


def read_or_report(row: dict[str, Any], file: ImageRef, processor) -> dict[str, Any] | None:
    """The row's image and text; `None`, and the reason in the row, where the image cannot be used."""
    try:
        image = read_image(file)
        # Refuses here what would cost the whole batch there, such as NaN pixels.
        processor.image_processor(image.array, input_data_format="channels_last")
    except Exception as error:  # the libraries that read medical files raise errors of any kind
        row["error"] = described(row, error)
        return None
    return {"image": image, "text": row["text"], "id": row["image"]}


def output_names(images: Sequence[ImageRef], texts: Sequence[str]) -> list[str]:
    """The stem of each image; `ValueError` where two share one, or texts and images differ in number."""
    if len(images) != len(texts):
        raise ValueError(f"{len(images)} images but {len(texts)} texts: give one text an image, '' for none.")
    names = [stem(path) for path in images]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"Images share the names {repeated[:5]} and so their output: predict them in separate calls.")
    return names


def list_images(paths: Sequence[str | Path]) -> list[str | Path | ImageRef]:
    """The image files among files and folders (not their subfolders), sorted within a folder; no hidden ones.

    Raises `ValueError` where a path does not exist or a folder holds no image.
    """
    images: list[str | Path | ImageRef] = []
    for path in map(Path, paths):
        found = [path]
        if path.is_dir():
            found = sorted(file for file in path.iterdir() if is_image_file(file) and not is_clutter(file))
        if not found or not parse_address(path).path.exists():
            suffixes = ", ".join(supported_suffixes())
            raise ValueError(f"No image at {path}: give image files, or folders with {suffixes} files.")
        images += found
    return images


def sentences_from_table(table_path: str | Path, images: Sequence[str | Path | ImageRef]) -> list[str]:
    """The sentence of each image from a CSV or xlsx with the columns `Image` and `Description`; "" where that is empty.

    Raises `ValueError` for images without a row, several rows of one image, and rows without an image.
    """
    return [text or "" for text in sentences_for(table_path, [example_id(Path(image).name) for image in images])]


def masks_or_errors(
    model, processor, examples: Sequence[Mapping[str, Any]], threshold: float, sentences: TextFeatureCache | None
) -> list[np.ndarray | NonFiniteLogitsError]:
    """The mask of each example of a batch, or why there is none."""
    if not examples:
        return []
    try:
        return [*predict_masks(model, processor, examples, threshold, len(examples), None, sentences)]
    except NonFiniteLogitsError as error:
        if len(examples) == 1:
            return [error]
    return [
        found for example in examples for found in masks_or_errors(model, processor, [example], threshold, sentences)
    ]


def write_or_report(
    row: dict[str, Any], path: Path, image: MedicalImage, mask: np.ndarray | NonFiniteLogitsError, num_labels: int
) -> None:
    """Writes mask and overlay, and in the row what became of them: their paths, or why they are missing."""
    if isinstance(mask, NonFiniteLogitsError):
        row["error"] = str(mask)
        return
    overlay_path = path.parent / "overlays" / f"{stem(path)}.png"
    try:
        written = write_mask(path, mask, num_labels, like=image)
        row.update(mask=str(written), foreground=float(is_lesion(mask).mean()))
        overlay(image.array, mask).save(overlay_path)
        row["overlay"] = str(overlay_path)
    except Exception as error:  # as of `read_or_report`
        row["error"] = described(row, error)
        part = overlay_path if row["mask"] else path
        if part.is_file():  # written in part
            part.unlink()


def described(row: Mapping[str, Any], error: Exception) -> str:
    """What an error tells, with the file's name, which some leave out."""
    if isinstance(error, (ValueError, OSError)):
        return str(error) if Path(row["image"]).name in str(error) else f"{row['image']}: {error}"
    return f"{row['image']}: {type(error).__name__}: {' '.join(str(error).split())}"
