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
from killing import Killed, kill_after
from PIL import Image
from ray.cluster_utils import Cluster
from tiny import tiny_processor, tiny_reader

from tevia_hf import predict_files
from tevia_hf.inference import ray_engine

COUNT, TEXT = 12, "left lung"
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False, "node_ip_address": "127.0.0.2"}
JOB = {"text": TEXT, "batch_size": 2}
EXAMPLE = Path(__file__).parents[1] / "examples" / "batch_inference_ray.py"


class Watched(ray_engine.BatchPredictor):
    """An actor that writes a batch on one of the nodes, and never returns its rows; others wait for that."""

    lost_node, written = "", Path()

    def __call__(self, batch):
        is_lost = ray.get_runtime_context().get_node_id() == self.lost_node
        if not is_lost:
            wait_for(self.written)
        rows = super().__call__(batch)
        if is_lost:
            self.written.touch()
            time.sleep(600)
        return rows


def wait_for(path: Path) -> None:
    for _ in range(1200):
        if path.exists():
            return
        time.sleep(0.1)
    raise TimeoutError(path)


def main(root: Path) -> None:
    os.chdir("/")
    cluster = Cluster(initialize_head=True, head_node_args=NODE)
    other = cluster.add_node(**NODE)
    ray.init(address=cluster.address, log_to_driver=False)
    os.chdir(root)
    write_job()
    local = predict_files("model", ["images"], "local", **JOB)
    try:
        timed(killed_between_rows)
        timed(the_example)
        timed(resumed_while_a_node_is_lost, cluster, other, local)
    finally:
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


def resumed_while_a_node_is_lost(cluster: Cluster, other, local: pd.DataFrame) -> None:
    Watched.lost_node, Watched.written = other.node_id, Path("written").resolve()
    loss = threading.Thread(target=lose, args=(cluster, other))
    loss.start()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray_engine, "BatchPredictor", Watched)
        table = predict_files("model", ["images"], "ray", engine="ray", resume=True, **JOB)
    loss.join()
    assert Watched.written.exists() and [node["Alive"] for node in ray.nodes()].count(True) == 1
    assert sorted(rows_of_ray()) == sorted(local["name"])
    columns = ["name", "pixels", "probability", "status"]
    assert table[columns].equals(local[columns]) and list(table["name"][table["status"] == "failed"]) == ["broken"]
    for path in Path("local").rglob("*.[pj][np]g"):
        assert path.read_bytes() == (Path("ray") / path.relative_to("local")).read_bytes(), path


def lose(cluster: Cluster, node) -> None:
    """Kills a node at a moment when it has a batch, of which no row is recorded."""
    wait_for(Watched.written)
    cluster.remove_node(node, allow_graceful=False)


def the_example() -> None:
    """From a parquet file that holds the images."""
    paths = [Path(f"images/{index}.png") for index in range(3)]
    rows = [{"id": path.stem, "text": TEXT, "image": {"bytes": path.read_bytes(), "path": None}} for path in paths]
    pd.DataFrame(rows).to_parquet("images.parquet")
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
