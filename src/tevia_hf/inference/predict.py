"""Prediction of masks, for examples in memory or for files."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from ..extras import needed_for
from ..io.address import Plane, Window, check_window
from ..logits_tevia import NonFiniteLogitsError
from ..option_checks_tevia import check_choice
from .backends import AnyModel, AnyProcessor, check_dtype, load_predicting
from .items import ImagePath, items_of
from .job import TEXT_COLUMNS, check_job_folder, run_job
from .manifest import Record
from .predictor import Predictor, check_predictor_options
from .sources import job_of
from .tiles import Tiling

if TYPE_CHECKING:
    import pandas as pd


def predict_masks(
    model: AnyModel,
    processor: AnyProcessor,
    examples: Sequence[Mapping[str, Any]],
    threshold: float = 0.5,
    batch_size: int = 16,
    description: str | None = "Predicting",
) -> list[np.ndarray]:
    """A label map uint8 `(height, width)` for each example, at the size of its image.

    Args:
        model: a `TeViAForSegmentation`, or an `ExportedModel`.
        processor: its `TeViAProcessor`, or `ExportedProcessor`.
        examples: mappings with "image" (path, image, array or undecoded column entry) and "text" ("" for none).
        threshold: on the lesion's probability, for models with one label.
        batch_size: number of images per forward pass.
        description: of the progress bar; `None` hides it.

    Raises `ValueError` for an option out of range, for an image that cannot be used and for logits that are not finite,
    with the images' names.
    """
    predictor = Predictor(model, processor, threshold, batch_size, fuse=True)
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
    model: AnyModel,
    processor: AnyProcessor,
    images: Sequence[ImagePath],
    texts: Sequence[str],
    output_dir: str | Path,
    threshold: float = 0.5,
    batch_size: int = 16,
    mask_suffix: str = ".png",
    **options: Any,
) -> "pd.DataFrame":
    """Writes a mask `NAME.png` and an overlay `overlays/NAME.jpg` for each image file, and returns a table of them.

    The mask of a volume is `NAME.nii.gz`, with the shape and position of the volume.

    Args:
        model: a `TeViAForSegmentation`, or an `ExportedModel`.
        processor: its `TeViAProcessor`, or `ExportedProcessor`.
        images: image files, NIfTI or multi-frame volumes, and folders of a DICOM series; a name may include a slice or
            the plane of all slices, and a window, as in "scan.nii.gz#40@-600,1500" or "scan.nii.gz#coronal:all".
        texts: one text per image, "" for none.
        output_dir: folder to write to; the table is saved there as `predictions.csv`.
        threshold: on the lesion's probability, for models with one label.
        batch_size: number of images per forward pass.
        mask_suffix: ".png"; or ".nii.gz" or ".nii" for masks that keep the image's spacing and position. Those of
            volumes always do.
        options: other arguments of `run_job`, such as `resume`, `probabilities` and `tiling`.

    Returns the rows of `run_job` as a table, and raises its errors. An image that is given several times has a mask for
    each of its texts.
    """
    import_pandas()  # before anything is predicted
    items = items_of(images, texts)
    options = {"threshold": threshold, "batch_size": batch_size, "mask_suffix": mask_suffix, **options}
    return as_frame(run_job(model, processor, items, output_dir, **options))


def predict_files(
    model: str,
    images: Sequence[ImagePath],
    output_dir: str | Path,
    *,
    text: str = "",
    text_table: str | Path | None = None,
    window: Window | None = None,
    plane: Plane | None = None,
    series: str | None = None,
    threshold: float = 0.5,
    batch_size: int = 16,
    tile: int | None = None,
    overlap: float | None = None,
    device: str | None = None,
    dtype: str = "float32",
    engine: str = "local",
    as_rows: bool = False,
    **options: Any,
) -> "pd.DataFrame | list[Record]":
    """Predicts the masks of `tevia predict`, by a model's name or folder; returns the rows of `run_job` as a table.

    Args:
        model: name or folder of a TeViA model.
        images: files, volumes or folders, slices as scan.nii.gz#40; or one table, parquet file or saved data set of
            images and texts. See `job_of`.
        output_dir: folder to write to.
        text: of images that have no other.
        text_table: file with the columns Image, Description and, if given, Name. See `items_of_table`.
        window: (centre, width) of grey values, for DICOM and NIfTI.
        plane: of the slices of NIfTI volumes: "axial", "coronal" or "sagittal"; by default the one they are stored in.
        series: number, UID or description of the series to take from a folder that holds several.
        threshold: on the lesion's probability, for models with one label.
        batch_size: number of images, or tiles of an image, per forward pass.
        tile: side of the tiles in which images are predicted, in pixels: see `Tiling`; by default images are resized.
        overlap: of tiles, as a share of their side; by default 0.25.
        device: to compute on, e.g. "cuda:1"; by default the GPU, if there is one.
        dtype: "float32" or "bfloat16".
        engine: "local", or "ray" to divide the images among the nodes of a Ray cluster, which all read the same files.
        as_rows: return the rows as dictionaries, without pandas.
        options: other arguments of `run_job`.

    Raises the errors of `run_job`, as far as possible before the model is loaded.
    """
    check_predictor_options(threshold, batch_size)
    check_choice("engine", engine, ("local", "ray"))
    check_dtype(dtype)
    if not as_rows:
        import_pandas()
    if engine == "ray" and dtype != "float32":
        raise ValueError(f"The engine ray computes in float32 alone, not in {dtype}: leave `dtype` out.")
    tiling = Tiling.of(tile, overlap)
    if window is not None:
        check_window(window)
    items = job_of(images, text, text_table, plane, series)
    if window is not None:
        items = [item.with_window(window) for item in items]
    inputs = [model, *images, text_table]
    check_job_folder(output_dir, items, inputs, **options)
    if engine == "ray":
        from .ray_engine import rows_on_ray  # needs the extra `ray`

        options["engine"] = rows_on_ray(model, device)
    network, processor = load_predicting(model, "cpu" if engine == "ray" else device, dtype)
    options |= {"threshold": threshold, "batch_size": batch_size, "tiling": tiling}
    rows = run_job(network, processor, items, output_dir, inputs=inputs, **options)
    return rows if as_rows else as_frame(rows)


def import_pandas() -> Any:
    with needed_for("A table of predictions"):
        import pandas
    return pandas


def as_frame(rows: Sequence[Record]) -> "pd.DataFrame":
    """The rows of a job as a data frame, with NaN for measures that are missing."""
    pd = import_pandas()
    frame = pd.DataFrame(rows)
    measures = [name for name in frame.columns if name not in TEXT_COLUMNS]
    whole = {name: "Int64" for name in measures if name.partition("/")[0] in ("pixels", "lesions")}
    return frame.astype(dict.fromkeys(measures, float) | whole)
