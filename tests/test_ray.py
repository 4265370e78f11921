"""Prediction on a Ray cluster; needs the extra `ray`, which the workflow `ray` installs."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import tiny_processor, tiny_reader

import tevia_hf
from tevia_hf.inference.outputs import Outputs

pytest.importorskip("ray")
# A loss is noticed within a second or two; by default Ray takes twenty.
SOON = {"RAY_health_check_initial_delay_ms": "0", "RAY_health_check_period_ms": "500"}


@pytest.mark.once
def test_a_cluster_that_loses_a_driver_and_a_node_makes_every_mask_once_and_the_same(tmp_path):
    """In a process of its own, whose end is that of all nodes. The example runs there too, on the same cluster."""
    paths = [str(Path(tevia_hf.__file__).parents[1]), str(Path(__file__).parent)]
    environment = {**os.environ, **SOON, "PYTHONPATH": os.pathsep.join(paths), "RAY_USAGE_STATS_ENABLED": "0"}
    script = str(Path(__file__).with_name("ray_cluster.py"))
    result = subprocess.run(
        [sys.executable, script, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=600
    )
    assert result.returncode == 0, result.stderr[-3000:]


def test_a_node_with_other_weights_ends_the_job(tmp_path):
    from tevia_hf.inference.ray_engine import BatchPredictor

    model = str(tmp_path / "model")
    tiny_reader().save_pretrained(model)
    tiny_processor().save_pretrained(model)
    actor = BatchPredictor(model, "cpu", "digest of others", {}, Outputs(tmp_path / "out"))
    (error,) = map(pickle.loads, actor({"items": [b""]})["row"])
    assert isinstance(error, ValueError) and not (tmp_path / "out").exists()
    for part in (f"{model} on node ", "its weights are not those of the job", "must read the same model"):
        assert part in str(error)
