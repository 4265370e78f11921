"""Predicts the same images in one process and on a Ray cluster of two nodes, one of which is lost in the middle.

Run by test_ray.py in a process of its own, since Ray talks to the machine's own address, which tests may not.
"""

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import ray
from PIL import Image
from ray.cluster_utils import Cluster
from tiny import tiny_processor, tiny_reader

from tevia_hf import predict_files

COUNT = 40


def main(root: Path) -> None:
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    for index in range(COUNT):
        pixels = rng.integers(0, 255, (200, 200 + index), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{index}.png")
    (root / "images" / "broken.png").write_bytes(b"no image")
    tiny_reader().save_pretrained(root / "model")
    tiny_processor().save_pretrained(root / "model")
    job = {"text": "left lung", "batch_size": 2}
    local = predict_files(str(root / "model"), [root / "images"], root / "local", **job)
    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    other = cluster.add_node(**node)
    ray.init(address=cluster.address, log_to_driver=False)
    loss = threading.Thread(target=lose, args=(cluster, other, root / "ray" / "manifest.jsonl"))
    loss.start()
    table = predict_files(str(root / "model"), [root / "images"], root / "ray", engine="ray", **job)
    loss.join()
    for _ in range(60):  # Ray notices a loss after some seconds
        if (nodes := sum(node["Alive"] for node in ray.nodes())) == 1:
            break
        time.sleep(1)
    ray.shutdown()
    cluster.shutdown()
    rows = [json.loads(line) for line in (root / "ray" / "manifest.jsonl").read_text().splitlines()[1:]]
    assert nodes == 1 and sorted(row["name"] for row in rows) == sorted(local["name"]), (nodes, len(rows))
    columns = ["name", "pixels", "probability", "status", "error"]
    assert table[columns].equals(local[columns]) and list(table["status"]).count("failed") == 1
    for path in (root / "local").rglob("*.[pj][np]g"):
        assert path.read_bytes() == (root / "ray" / path.relative_to(root / "local")).read_bytes(), path


def lose(cluster: Cluster, node, manifest: Path) -> None:
    """Kills a node once a few rows are there."""
    while not manifest.exists() or manifest.read_bytes().count(b"\n") < 6:
        time.sleep(0.01)
    print("lost after", manifest.read_bytes().count(b"\n") - 1, "rows")
    cluster.remove_node(node, allow_graceful=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
