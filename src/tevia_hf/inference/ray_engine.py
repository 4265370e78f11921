"""Prediction on a Ray cluster: each actor holds the model, and predicts and writes whole batches of a job."""

import os
import pickle
import socket
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..extras import needed_for
from .backends import load_predicting
from .identity import weights_digest
from .items import Item, Row
from .job import Engine, rows_locally
from .manifest import Record
from .outputs import OutputError, Outputs
from .predictor import Predictor

with needed_for("Prediction on Ray"):
    import ray
    import ray.data

# Kinds of the errors that end a job, which actors return in place of rows: Ray would wrap or retry them.
FATAL = (OutputError, ValueError)


class BatchPredictor:
    """An actor: loads the model once, and predicts batches of items.

    Args:
        model: name or folder, which every node can read.
        device: see `load_predicting`.
        digest: of the weights that the job expects; a node may hold other ones under the same name.
        options: of the `Predictor`.
        outputs: what is written, to a folder that all nodes share.
    """

    def __init__(self, model: str, device: str | None, digest: str, options: dict[str, Any], outputs: Outputs):
        self.error: Exception | None = None
        self.outputs = outputs
        try:
            network, processor = load_predicting(model, device)
            if weights_digest(network) != digest:
                raise ValueError("its weights are not those of the job")
            self.predictor = Predictor(network, processor, **options)
        except (ValueError, OSError) as error:
            hint = "all nodes must read the same model, by the same name or from a shared folder."
            self.error = ValueError(f"{model} on node {socket.gethostname()}: {error}: {hint}")

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[bytes]]:
        """The pickled rows of the items, and the error that should end the job, if there is one."""
        rows: list[Record | Exception] = []
        for content in batch["items"]:
            try:
                if self.error is not None:
                    raise self.error
                items, done = pickle.loads(content)
                rows += rows_locally(self.predictor, self.outputs, [items], done)
            except FATAL as error:
                rows.append(error)
        return {"row": [pickle.dumps(row) for row in rows]}


def rows_on_ray(model: str, device: str | None = None) -> Engine:
    """The engine of `run_job` that divides the batches among the nodes of a cluster.

    Ray is connected to as `ray.init()` does, if it is not yet: to the cluster in `RAY_ADDRESS`, or a new one on this
    machine, which sends no usage reports unless `RAY_USAGE_STATS_ENABLED` is 1. There is an actor for each GPU, or for
    each CPU. What a lost node was working on is done by another.

    Args:
        model: name or folder, which every node can read.
        device: "cpu" to leave GPUs alone; by default the GPUs, if there are some.
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
    was_connected = ray.is_initialized()
    if not was_connected:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init()
    seen = set(done)
    try:
        for result in dataset_of_rows(model, device, predictor, outputs, unfinished, done).iter_rows():
            row = pickle.loads(result["row"])
            if isinstance(row, Exception):
                raise row
            if row["name"] not in seen:  # again, if its node was lost after it had been made
                seen.add(row["name"])
                yield row
    finally:
        if not was_connected:
            ray.shutdown()


def dataset_of_rows(
    model: str,
    device: str | None,
    predictor: Predictor,
    outputs: Outputs,
    unfinished: Sequence[Sequence[Item]],
    done: Collection[str],
) -> ray.data.Dataset:
    """The rows, which are made while they are read: one block a batch, so that masks are those of one process."""
    options = {
        "threshold": predictor.threshold,
        "batch_size": predictor.batch_size,
        "with_statistics": predictor.with_statistics,
        "with_probabilities": predictor.with_probabilities,
        "tiling": predictor.tiling,
        "fuse": True,
    }
    name = str(Path(model).resolve()) if Path(model).is_dir() else model
    shared = outputs._replace(folder=outputs.folder.resolve())
    contents = [
        pickle.dumps(([with_absolute_path(item) for item in batch], {item.name for item in batch} & set(done)))
        for batch in unfinished
    ]
    gpus = 0 if device == "cpu" else int(ray.cluster_resources().get("GPU", 0))
    actors = gpus or max(1, int(ray.cluster_resources().get("CPU", 1)))
    rows = ray.data.from_items(
        [{"items": content} for content in contents], override_num_blocks=len(contents)
    ).map_batches(
        BatchPredictor,
        fn_constructor_args=(name, device, weights_digest(predictor.model), options, shared),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
        num_gpus=1 if gpus else None,
    )
    rows.context.enable_progress_bars = False  # the job has its own
    return rows


def with_absolute_path(item: Item) -> Item:
    """The item with a path that holds in the working directory of any node."""
    image = item.image
    if isinstance(image, Row):
        return item._replace(image=replace(image, path=image.path.absolute())) if image.path else item
    return item._replace(image=replace(image, path=image.path.absolute()))
