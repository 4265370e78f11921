"""Prediction on a Ray cluster: each actor holds the model, and predicts and writes whole batches of a job."""

import json
import pickle
from collections.abc import Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..extras import needed_for
from .items import Item
from .job import Engine, rows_locally
from .loading import load_trained
from .manifest import Record
from .outputs import OutputError, Outputs
from .predictor import Predictor

with needed_for("Prediction on Ray"):
    import ray
    import ray.data

FATAL = "fatal"  # key of a record with the message of an `OutputError`


class BatchPredictor:
    """An actor: loads the model once, and predicts batches of items.

    Args:
        model: name or folder, which every node can read.
        device: see `load_trained`.
        options: of the `Predictor`.
        outputs: what is written, to a folder that all nodes share.
    """

    def __init__(self, model: str, device: str | None, options: dict[str, Any], outputs: Outputs):
        self.predictor = Predictor(*load_trained(model, device), **options)
        self.outputs = outputs

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        """The rows of the items, as JSON; one with the message of an error that should end the job."""
        rows: list[Record] = []
        for content in batch["items"]:
            items, done = pickle.loads(content)
            try:
                rows += rows_locally(self.predictor, self.outputs, [items], done)
            except OutputError as error:
                rows.append({FATAL: str(error)})
        return {"row": [json.dumps(row) for row in rows]}


def rows_on_ray(model: str, device: str | None = None) -> Engine:
    """The engine of `run_job` that divides the batches among the nodes of a cluster.

    Ray is connected to as `ray.init()` does, if it is not yet: to the cluster in `RAY_ADDRESS`, or a new one on this
    machine. There is an actor for each GPU, or for each CPU. What a lost node was working on is done by another.

    Args:
        model: name or folder, which every node can read.
    """
    return partial(predicted_rows, model, device)


def predicted_rows(
    model: str,
    device: str | None,
    predictor: Predictor,
    outputs: Outputs,
    unfinished: Sequence[Sequence[Item]],
    done: Collection[str],
) -> Iterator[Record]:
    """The rows of the items, each once, in the order in which they are made."""
    if not unfinished:
        return
    if not ray.is_initialized():
        ray.init()
    options = {
        "threshold": predictor.threshold,
        "batch_size": predictor.batch_size,
        "with_statistics": predictor.with_statistics,
        "with_probabilities": predictor.with_probabilities,
    }
    name = str(Path(model).resolve()) if Path(model).is_dir() else model
    shared = outputs._replace(folder=outputs.folder.resolve())
    contents = [pickle.dumps((batch, {item.name for item in batch} & set(done))) for batch in unfinished]
    has_gpus = ray.cluster_resources().get("GPU", 0) >= 1
    results = ray.data.from_items(
        [{"items": content} for content in contents], override_num_blocks=len(contents)
    ).map_batches(
        BatchPredictor,
        fn_constructor_args=(name, device, options, shared),
        batch_size=1,
        concurrency=(1, max(1, int(ray.cluster_resources()["GPU" if has_gpus else "CPU"]))),
        num_gpus=1 if has_gpus else None,
    )
    seen = set(done)
    for result in results.iter_rows():
        row = json.loads(result["row"])
        if FATAL in row:
            raise OutputError(row[FATAL])
        if row["name"] not in seen:  # again, if its node was lost after it had been made
            seen.add(row["name"])
            yield row
