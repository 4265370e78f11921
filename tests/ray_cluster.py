"""Predicts the same images in one process and on a Ray cluster of two nodes, one of which is lost while it works.

Run by test_ray.py. The nodes are at an address of the loopback device, and start in another folder than the one in
which the job's paths are relative.
"""

import json
import os
import runpy
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ray
import torch
from killing import Killed, kill_after
from PIL import Image
from ray.cluster_utils import Cluster
from tiny import tiny_processor, tiny_reader

from tevia_hf import predict_files
from tevia_hf.data.features import dataset_from_rows
from tevia_hf.inference import ray_engine
from tevia_hf.inference.items import items_of
from tevia_hf.inference.job import run_job

COUNT, TEXT = 12, "left lung"
ADDRESS = "127.0.0.2"
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False, "node_ip_address": ADDRESS}
JOB = {"text": TEXT, "batch_size": 2}
EXAMPLE = Path(__file__).parents[1] / "examples" / "batch_inference_ray.py"


class Watched(ray_engine.BatchPredictor):
    """An actor that never finishes on one of the nodes, which it tells once it has written a batch there."""

    lost_node, told = "", Path()

    def __call__(self, batch):
        rows = super().__call__(batch)
        if ray.get_runtime_context().get_node_id() == self.lost_node:
            self.told.touch()
            time.sleep(600)
        return rows


def main(root: Path) -> None:
    os.chdir("/")
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    other = cluster.add_node(**NODE)
    ray.init(address=cluster.address, _node_ip_address=ADDRESS, log_to_driver=False)
    os.chdir(root)
    write_job()
    local = predict_files("model", ["images"], "local", **JOB)
    for check in (killed_between_rows, refused_with_other_weights, the_example):
        timed(check)
    timed(resumed_while_a_node_is_lost, cluster, other, local)
    ray.shutdown()
    cluster.shutdown()


def timed(check, *arguments) -> None:
    start = time.monotonic()
    check(*arguments)
    print(f"{check.__name__}: {time.monotonic() - start:.0f} s", flush=True)


def write_job() -> None:
    """Images, one of them broken, and a model."""
    Path("images").mkdir()
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        Image.fromarray(rng.integers(0, 255, (40, 40 + index), dtype=np.uint8)).save(f"images/{index}.png")
    Path("images/broken.png").write_bytes(b"no image")
    tiny_reader().save_pretrained("model")
    tiny_processor().save_pretrained("model")


def rows_of_ray() -> list[str]:
    return [json.loads(line)["name"] for line in Path("ray/manifest.jsonl").read_text().splitlines()[1:]]


def killed_between_rows() -> None:
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        names = kill_after(patch, 3)
        predict_files("model", ["images"], "ray", engine="ray", **JOB)
    assert rows_of_ray() == names and len(names) == 3


def refused_with_other_weights() -> None:
    """The driver holds other weights than the folder, as nodes with different files do."""
    model = tiny_reader()
    with torch.no_grad():
        model.decode_head.classifier.bias.add_(1)
    engine = ray_engine.rows_on_ray("model")
    with pytest.raises(ValueError, match=r"model on node .*not those of the job.*must read the same model"):
        run_job(model, tiny_processor(), items_of(["images/0.png"], [TEXT]), "refused", engine=engine)


def resumed_while_a_node_is_lost(cluster: Cluster, other, local: pd.DataFrame) -> None:
    Watched.lost_node, Watched.told = other.node_id, Path("working").resolve()
    loss = threading.Thread(target=lose, args=(cluster, other))
    loss.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_engine, "BatchPredictor", Watched)
        table = predict_files("model", ["images"], "ray", engine="ray", resume=True, **JOB)
    loss.join()
    assert Watched.told.exists() and not [node for node in ray.nodes() if node["Alive"] and is_lost(node)]
    assert sorted(rows_of_ray()) == sorted(local["name"])
    columns = ["name", "pixels", "probability", "status", "error"]
    assert table[columns].equals(local[columns]) and list(table["status"]).count("failed") == 1
    for path in Path("local").rglob("*.[pj][np]g"):
        assert path.read_bytes() == (Path("ray") / path.relative_to("local")).read_bytes(), path


def is_lost(node) -> bool:
    return node["NodeID"] == Watched.lost_node


def lose(cluster: Cluster, node) -> None:
    """Kills a node once it has told that it works, with a batch whose rows it has not returned."""
    while not Watched.told.exists():
        time.sleep(0.01)
    cluster.remove_node(node, allow_graceful=False)


def the_example() -> None:
    """From a parquet file that holds the images."""
    paths = [Path(f"images/{index}.png") for index in range(3)]
    rows = [{"id": path.stem, "text": TEXT, "image": path, "mask": path} for path in paths]
    dataset_from_rows(rows).map(lambda row: row).to_parquet("images.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(EXAMPLE), str(Path("model").resolve()), "images.parquet", "example"])
        runpy.run_path(str(EXAMPLE), run_name="__main__")
    table = pd.read_parquet("example/table").sort_values("id")
    assert list(table["id"]) == ["0", "1", "2"] and set(table["error"]) == {""}
    for path, share in zip(paths, table["foreground"], strict=True):
        mask, expected = (np.asarray(Image.open(f"{folder}/{path.name}")) for folder in ("example", "local"))
        assert np.mean(mask != expected) < 0.01 and share == (mask > 0).mean()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
