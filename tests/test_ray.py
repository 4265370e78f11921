"""Prediction on a Ray cluster; needs the extra `ray`, which the tested environment leaves out."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import tevia_hf

pytest.importorskip("ray")


def test_a_cluster_that_loses_a_node_makes_every_mask_once_and_the_same(tmp_path):
    paths = [str(Path(tevia_hf.__file__).parents[1]), str(Path(__file__).parent)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "RAY_USAGE_STATS_ENABLED": "0"}
    script = str(Path(__file__).with_name("ray_cluster.py"))
    result = subprocess.run(
        [sys.executable, script, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr[-3000:]
