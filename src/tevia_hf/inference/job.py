"""A prediction job: masks of any number of images, written as they are made, which can be resumed and divided."""

import csv
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from io import StringIO
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

from tqdm.auto import tqdm

from ..io import ImageRef
from ..io.output_dir import check_output_dir, claim_output_dir, remove_parts, write_whole
from ..io.parallel import on_all_cores
from ..logits_tevia import NonFiniteLogitsError
from ..option_checks_tevia import check_choice
from .answers import Prediction
from .backends import AnyModel, AnyProcessor, precision_of
from .identity import pixel_settings, weights_digest
from .items import Item, Row, batches
from .manifest import PATTERN, Manifest, Record, read_records
from .outputs import (
    LESIONS,
    MASK,
    NOT_FINITE,
    OVERLAY,
    OVERLAYS,
    PROBABILITIES,
    PROBABILITY_MAP,
    Outputs,
    by_class,
    stop_if_fatal,
)
from .predictor import Predictor
from .shards import WHOLE, Shard
from .tiles import Tiling
from .volume_outputs import VOLUME, requests_for

TABLE, LESION_TABLE = "predictions.csv", "lesions.csv"
DONE, FAILED, MISSING = "done", "failed", "missing"  # values of the column `status`
TEXT_COLUMNS = ("name", "image", "text", MASK, OVERLAY, PROBABILITY_MAP, "status", "error")  # the others are numbers
OnError = Literal["skip", "raise"]
# Of a predictor, the outputs to write, batches of items, and the names of the finished ones among these: new rows.
Engine = Callable[[Predictor, Outputs, Sequence[Sequence[Item]], Collection[str]], Iterator[Record]]


def run_job(
    model: AnyModel,
    processor: AnyProcessor,
    items: Sequence[Item],
    output_dir: str | Path,
    *,
    threshold: float = 0.5,
    batch_size: int = 16,
    tiling: Tiling | None = None,
    mask_suffix: str = ".png",
    overlays: bool = True,
    probabilities: bool = False,
    statistics: bool = False,
    on_error: OnError = "skip",
    resume: bool = False,
    overwrite: bool = False,
    shard: Shard = WHOLE,
    merge: bool = False,
    engine: Engine | None = None,
    inputs: Iterable[str | PathLike | None] = (),
) -> list[Record]:
    """Writes the masks of all items and a table of them, `predictions.csv`, whose rows it returns.

    Each mask is on disk, and recorded in `manifest.jsonl`, soon after the network made it: after a kill, `resume`
    predicts what is missing, and the outputs are those of an unbroken run.

    Args:
        model: a `TeViAForSegmentation`, or an `ExportedModel`.
        processor: its `TeViAProcessor`, or `ExportedProcessor`.
        items: the masks to predict, see `items_of` and `job_of`.
        output_dir: folder to write to.
        threshold: on the lesion's probability, for models with one label.
        batch_size: number of images, or tiles of an image, per forward pass.
        tiling: how images are divided into tiles, e.g. `Tiling(512)`; by default each is resized and predicted at once.
        mask_suffix: ".png"; or ".nii.gz" or ".nii" for masks that keep the image's spacing and position.
        overlays: write `overlays/NAME.jpg` too.
        probabilities: write `probabilities/NAME.npy` too: float16 (height, width), or with several labels (num_labels,
            height, width).
        statistics: measure each lesion too, see `lesion_statistics`: one row for each in `lesions.csv`, and their
            number, volume and longest diameter in the table.
        on_error: "skip" reports an image that cannot be read or predicted in its row; "raise" stops there.
        resume: continue an earlier job in the folder, or begin it; failed items are tried again.
        overwrite: delete an earlier output in the folder.
        shard: the part of the items for this process, of several that write to the same folder; by default all. The
            table of a divided job is written by a call with `merge`, or by one with `resume` and without `shard`.
        merge: predict nothing, but put together the table of what the shards have finished.
        engine: what writes the outputs and returns the rows; by default this process (`rows_locally`).
        inputs: paths that must not lie in the folder if `overwrite` deletes it.

    A row has the columns `name, image, text, mask, overlay, probabilities, foreground` (share of the image),
    `pixels`, `mm2` (empty if the size of pixels is unknown), `probability` (mean inside the mask, empty without one),
    `status` ("done", "failed" or "missing") and `error`, empty on success. With several classes there are
    `pixels/NAME`, `mm2/NAME` and `probability/NAME` for each.

    Raises `ValueError` for an option out of range, a folder that holds the outputs of another job, and if the logits of
    no image are finite; `OutputError` if the disk is full or read-only.
    """
    if isinstance(engine, str):
        raise ValueError(
            f"engine is '{engine}', but a job takes a function: call `predict_files(..., engine=\"{engine}\")`, or "
            "give `rows_on_ray(MODEL)` for a Ray cluster, with the name or folder of the model."
        )
    predictor = Predictor(
        model,
        processor,
        threshold,
        batch_size,
        with_statistics=True,
        with_probabilities=probabilities,
        tiling=tiling,
        fuse=True,
    )
    if not model.config.use_text and any(item.text.strip() for item in items):
        warnings.warn("The model has `use_text=False` and takes no text: texts are ignored.", UserWarning, stacklevel=2)
    folder = Path(output_dir)
    num_labels = processor.image_processor.num_labels
    outputs = Outputs(folder, mask_suffix, overlays, probabilities, statistics, predictor.classes, num_labels)
    inputs = [*inputs, *(item.image.path for item in items if isinstance(item.image, ImageRef))]
    check_job_folder(
        folder,
        items,
        inputs,
        resume=resume,
        overwrite=overwrite,
        shard=shard,
        merge=merge,
        on_error=on_error,
        probabilities=probabilities,
        statistics=statistics,
    )
    with stop_if_fatal(folder):
        claim_output_dir(folder, resume=not overwrite, overwrite=overwrite, inputs=inputs)
        if shard.count == 1 and not merge:
            remove_parts(folder)  # which no other process is writing
    settings = {
        "weights": weights_digest(model),
        "image_processor": pixel_settings(processor.image_processor),
        "dtype": precision_of(model),
        "threshold": threshold,
        "tiling": None if tiling is None else asdict(tiling),
        **{name: value for name, value in outputs._asdict().items() if name != "folder"},
    }
    own = [item for batch in batches(items, batch_size)[shard.index :: shard.count] for item in batch]
    with Manifest(manifest_path(folder, shard), settings, is_read_only=merge) as manifest:
        try:
            if not merge:
                predict_pending(engine or rows_locally, predictor, outputs, own, manifest, on_error)
        except BaseException:
            with suppress(OSError):  # the reason of the end is reported
                write_tables(own, manifest.rows, outputs, shard)
            raise
        with stop_if_fatal(folder):
            return write_tables(own, manifest.rows, outputs, shard)


def write_tables(items: Sequence[Item], rows: Mapping[str, Record], outputs: Outputs, shard: Shard) -> list[Record]:
    """The table of a job, which is written unless the job is divided, as is that of the lesions."""
    table = table_of(items, rows, outputs)
    if shard.count == 1:
        write_whole(outputs.folder / TABLE, as_csv(columns_of(items, outputs), table))
        if outputs.statistics:
            from ..lesion_measures import Lesion  # needs the extra `metrics`

            columns = ["name", "image", "text", *Lesion._fields]
            write_whole(outputs.folder / LESION_TABLE, as_csv(columns, lesions_of(table, rows)))
    return table


def as_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows as CSV; a value that is missing or `None` is empty."""
    text = StringIO()
    writer = csv.DictWriter(text, columns, lineterminator=os.linesep)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def predict_pending(
    engine: Engine,
    predictor: Predictor,
    outputs: Outputs,
    items: Sequence[Item],
    manifest: Manifest,
    on_error: OnError,
) -> None:
    """Predicts the items that are not finished, and records their rows as they are made."""
    done = {item.name for item in items if is_done(item, manifest.rows.get(item.name), outputs.folder)}
    unfinished = [batch for batch in batches(items, predictor.batch_size) if any(i.name not in done for i in batch)]
    not_finite, has_finite = list[str](), bool(done)
    rows = engine(predictor, outputs, unfinished, done)
    for row in tqdm(rows, "Predicting", len(items), initial=len(done), unit=" images"):
        with stop_if_fatal(outputs.folder):
            manifest.add(row)
        if row["error"] and on_error == "raise":
            raise ValueError(row["error"])
        not_finite += [row["image"]] if row.get(NOT_FINITE) else []
        has_finite |= not row["error"]
    if not_finite and not has_finite:
        raise NonFiniteLogitsError(range(len(not_finite)), not_finite)


def rows_locally(
    predictor: Predictor, outputs: Outputs, unfinished: Sequence[Sequence[Item]], done: Collection[str]
) -> Iterator[Record]:
    """Writes the outputs of the items in these batches that are not done, and returns their rows, in order.

    Reading, the network and writing overlap: files are read and written in other threads.
    """

    def answers() -> Iterator[tuple[Item, Prediction, int]]:
        for prediction in predictor.predictions(requests_for(unfinished, outputs, done)):
            own = enumerate(prediction.example["items"])
            yield from ((item, prediction, index) for index, item in own if item.name not in done)

    def write(answer: tuple[Item, Prediction, int]) -> Record | None:
        item, prediction, index = answer
        if "volumes" not in prediction.example:
            return outputs.write(item, prediction, index)
        return prediction.example["volumes"][index].add(prediction, index)

    for (_, prediction, index), row in on_all_cores(write, answers(), ahead=predictor.batch_size):
        if row is not None:
            yield row
        elif prediction.example["is_last"]:  # the other slices are written, as results come in order
            yield prediction.example["volumes"][index].row()


def manifest_path(folder: Path, shard: Shard) -> Path:
    """The manifest of a process: each shard has one, so that they can write at the same time."""
    return folder / (f"manifest-{shard.index}-of-{shard.count}.jsonl" if shard.count > 1 else "manifest.jsonl")


def is_done(item: Item, row: Record | None, folder: Path) -> bool:
    """Whether an item was finished with the same image and text, and its files are still there."""
    if row is None or row["error"] or (row["image"], row["text"]) != (item.label, item.text):
        return False
    files = [row[name] for name in (MASK, OVERLAY, PROBABILITY_MAP) if row.get(name)]
    return item.state() in (None, row["state"]) and all((folder / name).is_file() for name in files)


def columns_of(items: Sequence[Item], outputs: Outputs) -> list[str]:
    """The columns of the table of a job."""
    is_written = {MASK: True, OVERLAY: outputs.overlays, PROBABILITY_MAP: outputs.probabilities}
    files = [name for name, written in is_written.items() if written]
    has_volumes = any(item.is_volume for item in items)
    measures = outputs.columns() + (by_class([VOLUME], outputs.classes.values()) if has_volumes else [])
    return ["name", "image", "text", *files, "foreground", *measures, "status", "error"]


def table_of(items: Sequence[Item], rows: Mapping[str, Record], outputs: Outputs) -> list[Record]:
    """The rows of the table of a job, in the order of its items; measures of items without a mask are `None`."""
    columns, table = columns_of(items, outputs), []
    for item in items:
        row = rows.get(item.name)
        if row is not None and (row["image"], row["text"]) != (item.label, item.text):
            row = None  # of an earlier text
        if row is not None and not row["error"] and not is_done(item, row, outputs.folder):
            row = None  # of an earlier image, or its files were deleted
        status = MISSING if row is None else FAILED if row["error"] else DONE
        row = {"name": item.name, "image": item.label, "text": item.text, "error": "", "status": status} | (row or {})
        files = [name for name in (MASK, OVERLAY, PROBABILITY_MAP) if name in columns]
        row |= {name: str(outputs.folder / row[name]) if row.get(name) else "" for name in files}
        values = {name: row.get(name) for name in columns}
        table.append({name: encodable(value) if isinstance(value, str) else value for name, value in values.items()})
    return table


def encodable(text: str) -> str:
    """The text with bytes of file names that are not UTF-8 as "\\udce9", which no table could hold otherwise."""
    return text.encode(errors="backslashreplace").decode()


def lesions_of(table: Sequence[Record], rows: Mapping[str, Record]) -> Iterator[Record]:
    """One row for each lesion of the finished masks: `name, image, text`, and the fields of a `Lesion`."""
    of_name = {encodable(name): row for name, row in rows.items()}
    for one in table:
        for lesion in of_name[one["name"]][LESIONS] if one["status"] == DONE else ():
            yield {name: one[name] for name in ("name", "image", "text")} | lesion


def check_job_folder(
    output_dir: str | Path,
    items: Sequence[Item],
    inputs: Iterable[str | PathLike | None] = (),
    *,
    resume: bool = False,
    overwrite: bool = False,
    shard: Shard = WHOLE,
    merge: bool = False,
    on_error: str = "skip",
    probabilities: bool = False,
    statistics: bool = False,
    **_: Any,
) -> None:
    """Raises `ValueError` for options that contradict each other, and for a folder that the job must not use."""
    check_choice("on_error", on_error, get_args(OnError))
    if (probabilities or statistics) and (volumes := [item.label for item in items if item.is_volume]):
        raise ValueError(
            f"`probabilities` and `statistics` are for images, but {volumes[0]} is a volume: leave them out, or give "
            "slices, e.g. scan.nii.gz#40."
        )
    if statistics:
        from ..lesion_measures import Lesion as Lesion  # needs the extra `metrics`, before any image is read
    folder = Path(output_dir)
    written_to = {folder.resolve(), *(folder.resolve() / name for name in (OVERLAYS, PROBABILITIES))}
    files = [item.image.path for item in items if not isinstance(item.image, Row)]
    if written_to & {place for file in files for place in (file.resolve().parent, file.parent.resolve())}:
        raise ValueError(f"{folder} holds the images themselves, and masks would replace them: name another folder.")
    if merge and (resume or overwrite or shard.count > 1):
        raise ValueError("`merge` predicts nothing: give it without `resume`, `overwrite` and `shard`.")
    if overwrite and shard.count > 1:
        raise ValueError("`overwrite` would delete the outputs of other shards: delete the folder before all of them.")
    own = manifest_path(folder, shard)
    manifests = [path for path in folder.glob(PATTERN) if shard.count == 1 or path == own]
    if merge and not manifests:
        raise ValueError(f"{folder} holds no outputs to merge: predict the shards first, with the same output folder.")
    if manifests and not (resume or overwrite or merge):
        finished = len({row["name"] for path in manifests for row in read_records(path)[1:] if not row["error"]})
        raise ValueError(
            f"{folder} holds {finished} finished masks of {len(items)}: continue with `--resume` (`resume=True`), "
            "start again with `--overwrite` (`overwrite=True`), or name another folder."
        )
    has_begun = any(folder.glob(PATTERN))  # perhaps by other shards
    check_output_dir(folder, resume=has_begun and not overwrite, overwrite=overwrite, inputs=inputs)
