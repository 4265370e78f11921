"""Prediction of masks, for examples in memory or for files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..data.pairing import example_id
from ..data.tables import texts_for
from ..extras import needed_for
from ..io import (
    ImageRef,
    is_image_file,
    parse_address,
    stem,
    supported_suffixes,
    with_window,
    write_mask,
)
from ..io.address import Window, check_window, is_clutter
from ..io.output_dir import claim_output_dir
from ..labels_tevia import is_lesion
from ..logits_tevia import NonFiniteLogitsError
from ..modeling_tevia import TeViAForSegmentation
from ..processing_tevia import TeViAProcessor
from ..visualization import overlay
from .loading import load_trained
from .predictor import ClassStatistics, Prediction, Predictor, check_predictor_options

with needed_for("Predicting files"):
    import pandas as pd
    from datasets.utils import tqdm


def predict_masks(
    model: TeViAForSegmentation,
    processor: TeViAProcessor,
    examples: Sequence[Mapping[str, Any]],
    threshold: float = 0.5,
    batch_size: int = 16,
    description: str | None = "Predicting",
) -> list[np.ndarray]:
    """A label map uint8 `(height, width)` for each example, at the size of its image.

    Args:
        model: a `TeViAForSegmentation`.
        processor: its `TeViAProcessor`.
        examples: mappings with "image" (path, image, array or undecoded column entry) and "text" ("" for none).
        threshold: on the lesion's probability, for models with one label.
        batch_size: number of images per forward pass.
        description: of the progress bar; `None` hides it.

    Raises `ValueError` for an option out of range, for an image that cannot be used and for logits that are not finite,
    with the images' names.
    """
    predictor = Predictor(model, processor, threshold, batch_size)
    requests = ((example, [example["text"] or ""]) for example in examples)
    return [mask for _, (mask,) in masks_of_each(predictor, requests, len(examples), description)]


def masks_of_each(
    predictor: Predictor,
    requests: Iterable[tuple[Mapping[str, Any], Sequence[str]]],
    total: int,
    description: str | None = "Predicting",
) -> Iterator[tuple[Mapping[str, Any], list[np.ndarray]]]:
    """Each example with its masks, one for each of its texts; holds one batch in memory.

    Args:
        requests: see `Predictor.predictions`.
        total: number of requests, for the progress bar.

    Raises `ValueError` for the first image that cannot be used or has logits that are not finite, with its name.
    """
    predictions = predictor.predictions(requests)
    for prediction in tqdm(predictions, description, total, disable=description is None):
        if isinstance(prediction.error, NonFiniteLogitsError):  # its message names the image
            raise prediction.error
        if prediction.error is not None:
            raise ValueError(f"image of example '{prediction.name}': {prediction.error}") from prediction.error
        yield prediction.example, prediction.masks


def predict(
    model: TeViAForSegmentation,
    processor: TeViAProcessor,
    images: Sequence[str | Path | ImageRef],
    texts: Sequence[str],
    output_dir: str | Path,
    threshold: float = 0.5,
    batch_size: int = 16,
    mask_suffix: str = ".png",
) -> pd.DataFrame:
    """Writes a mask `NAME.png` and an overlay `overlays/NAME.png` for each image file, and returns a table of them.

    Args:
        model: a `TeViAForSegmentation`.
        processor: its `TeViAProcessor`.
        images: image files; a name may include a slice and a window, as in "scan.nii.gz#40@-600,1500".
        texts: one text per image, "" for none.
        output_dir: folder to write to, batch by batch; the table is saved there as `predictions.csv`.
        threshold: on the lesion's probability, for models with one label.
        batch_size: number of images per forward pass.
        mask_suffix: ".png"; or ".nii.gz" or ".nii" for masks that keep the image's spacing and position.

    Returns one row per file: `image, text, mask, overlay, foreground` (share of the image), `pixels`, `mm2` (empty if
    the size of pixels is unknown), `probability` (mean inside the mask, empty without one) and `error`, empty on
    success. With several classes there are `pixels/NAME`, `mm2/NAME` and `probability/NAME` for each. If a file cannot
    be read, has logits that are not finite or its mask cannot be written, the error is in its row and the others are
    not affected. Raises `ValueError` for an option out of range, if counts differ or two images have the same output
    name, and if the logits of no image are finite.
    """
    predictor = Predictor(model, processor, threshold, batch_size, with_statistics=True)
    files = [parse_address(image) for image in images]
    names, folder = output_names(files, texts), Path(output_dir)
    if folder.resolve() in {file.path.resolve().parent for file in files}:
        raise ValueError(f"{folder} holds the images themselves, and masks would replace them: name another folder.")
    (folder / "overlays").mkdir(parents=True, exist_ok=True)
    measures = dict.fromkeys(["foreground", *statistics_columns(predictor.classes.values())], float("nan"))
    rows = [
        {"image": str(image), "text": text, "mask": "", "overlay": "", **measures, "error": ""}
        for image, text in zip(images, texts, strict=True)
    ]
    examples = [{"image": file, "id": str(image)} for file, image in zip(files, images, strict=True)]
    predictions = predictor.predictions(zip(examples, [[text] for text in texts], strict=True))
    not_finite, has_finite = list[str](), False
    for row, name, prediction in zip(rows, names, tqdm(predictions, "Predicting", len(rows)), strict=True):
        paths = folder / f"{name}{mask_suffix}", folder / "overlays" / f"{name}.png"
        write_or_report(row, *paths, prediction, processor.image_processor.num_labels)
        not_finite += [str(row["image"])] if isinstance(prediction.error, NonFiniteLogitsError) else []
        has_finite |= bool(prediction.masks)
    table = pd.DataFrame(rows)
    table = table.astype({name: "Int64" for name in table if name.partition("/")[0] == "pixels"})  # whole, or missing
    table.to_csv(folder / "predictions.csv", index=False)
    if not_finite and not has_finite:
        raise NonFiniteLogitsError(range(len(not_finite)), not_finite)
    return table


def predict_files(
    model: str,
    images: Sequence[str | Path],
    output_dir: str | Path,
    *,
    text: str = "",
    text_table: str | Path | None = None,
    window: Window | None = None,
    threshold: float = 0.5,
    batch_size: int = 16,
    mask_suffix: str = ".png",
    overwrite: bool = False,
) -> pd.DataFrame:
    """Predicts the masks of `tevia predict`, by a model's name or folder; returns the table of `predict`.

    Args:
        model: name or folder of a TeViA model.
        images: files or folders; slices as scan.nii.gz#40.
        output_dir: folder to write to.
        text: for every image, unless `text_table` is given.
        text_table: file with the columns Image, Description.
        window: (centre, width) of grey values, for DICOM and NIfTI.
        threshold: on the lesion's probability, for models with one label.
        batch_size: number of images per forward pass.
        mask_suffix: ".png"; or ".nii.gz" or ".nii" for masks that keep the image's spacing and position.
        overwrite: delete an earlier output in `output_dir`.

    Raises `ValueError` for an option out of range, before anything is loaded.
    """
    check_predictor_options(threshold, batch_size)
    if window is not None:
        check_window(window)
    files = list_images(images)
    if window is not None:
        files = [with_window(file, window) for file in files]
    texts = texts_from_table(text_table, files) if text_table is not None else [text] * len(files)
    network, processor = load_trained(model)
    claim_output_dir(output_dir, overwrite=overwrite, inputs=[model, *files, text_table])
    return predict(network, processor, files, texts, output_dir, threshold, batch_size, mask_suffix)


def output_names(images: Sequence[ImageRef], texts: Sequence[str]) -> list[str]:
    """The stem of each image. Raises `ValueError` if two are equal, or texts and images differ in number."""
    if len(images) != len(texts):
        raise ValueError(f"{len(images)} images but {len(texts)} texts: give one text per image, '' for none.")
    names = [stem(path) for path in images]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"Several images are named {repeated[:5]}, and their outputs would overwrite each other: rename them, or "
            "predict each folder into its own output folder."
        )
    return names


def list_images(paths: Sequence[str | Path]) -> list[str | Path | ImageRef]:
    """The given files, and the image files in the given folders, sorted, without hidden files and subfolders.

    Raises `ValueError` if a path does not exist or a folder holds no image.
    """
    images: list[str | Path | ImageRef] = []
    for path in map(Path, paths):
        files = [path]
        if path.is_dir():
            files = sorted(file for file in path.iterdir() if is_image_file(file) and not is_clutter(file))
        if not files or not parse_address(path).path.exists():
            suffixes = ", ".join(supported_suffixes())
            raise ValueError(f"No image at {path}: give image files, or folders with {suffixes} files.")
        images += files
    return images


def texts_from_table(table_path: str | Path, images: Sequence[str | Path | ImageRef]) -> list[str]:
    """The text of each image from a CSV or xlsx with the columns `Image` and `Description`; "" for empty cells.

    Raises `ValueError` for images without a row, several rows of one image, and rows without an image.
    """
    return [text or "" for text in texts_for(table_path, [example_id(Path(image).name) for image in images])]


def statistics_columns(names: Iterable[str]) -> list[str]:
    """The columns of the statistics of these classes; with one, without its name."""
    names = list(names)
    return [field if len(names) == 1 else f"{field}/{name}" for name in names for field in ClassStatistics._fields]


def write_or_report(
    row: dict[str, Any], path: Path, overlay_path: Path, prediction: Prediction, num_labels: int
) -> None:
    """Writes mask and overlay, and adds their paths and the statistics, or the error, to the row."""
    if prediction.error is not None:
        row["error"] = error_text(row, prediction.error)
        return
    mask = prediction.masks[0]
    try:
        written = write_mask(path, mask, num_labels, like=prediction.image)
        row.update(mask=str(written), foreground=float(is_lesion(mask).mean()))
        (statistics,) = prediction.statistics
        values = [float("nan") if value is None else value for one in statistics.values() for value in one]
        row.update(zip(statistics_columns(statistics), values, strict=True))
        overlay(prediction.image.array, mask).save(overlay_path)  # type: ignore[union-attr]  # set if there is no error
        row["overlay"] = str(overlay_path)
    except Exception as error:  # the libraries that write medical files raise errors of any kind
        row["error"] = error_text(row, error)
        incomplete = overlay_path if row["mask"] else path
        if incomplete.is_file():
            incomplete.unlink()


def error_text(row: Mapping[str, Any], error: Exception) -> str:
    """The message of an error, with the file's name, which some messages lack."""
    if isinstance(error, (ValueError, OSError)):
        return str(error) if Path(row["image"]).name in str(error) else f"{row['image']}: {error}"
    return f"{row['image']}: {type(error).__name__}: {' '.join(str(error).split())}"
