"""Time and peak memory of predicting a whole CT-like volume, by the number of its slices.

    python benchmarks/volumes.py MODEL [SLICES ...]     # 512 x 512 x 100 and 300 by default

Each volume is predicted by the command, in a process of its own, whose peak resident memory is that of all its threads.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nibabel
import numpy as np

SIDE, WINDOW = 512, "--window=-600,1500"
TEXT = "Unilateral pulmonary infection, one infected area, middle left lung."


def write_scan(path: Path, slices: int) -> None:
    """A body with two lungs, and in the middle third a lesion in one of them, in Hounsfield units with noise."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(*2 * [np.linspace(-1, 1, SIDE)], indexing="ij")
    body = np.where(x**2 + y**2 < 0.8, 40, -1000)
    for side in (-0.4, 0.4):
        body = np.where((x - side) ** 2 / 0.1 + y**2 / 0.25 < 1, -800, body)
    with_lesion = np.where((x - 0.4) ** 2 + (y - 0.1) ** 2 < 0.02, 30, body)
    volume = np.empty((SIDE, SIDE, slices), np.int16)
    for number in range(slices):
        own = with_lesion if slices <= 3 * number < 2 * slices else body
        volume[:, :, number] = own + rng.normal(0, 20, own.shape)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-0.7, -0.7, 1.5, 1])), path)


def main(model: str, *numbers: str) -> None:
    for slices in map(int, numbers or ("100", "300")):
        with tempfile.TemporaryDirectory() as root:
            write_scan(scan := Path(root, "scan.nii.gz"), slices)
            command = [sys.executable, "-m", "tevia_cli", "predict", model, str(scan), "--text", TEXT, WINDOW]
            start, quiet = time.perf_counter(), {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            process = subprocess.Popen([*command, "--output-dir", f"{root}/out"], **quiet)
            _, status, usage = os.wait4(process.pid, 0)
            seconds, code = time.perf_counter() - start, os.waitstatus_to_exitcode(status)
            print(f"{slices} slices: {seconds:.1f} s, {usage.ru_maxrss / 1e3:.0f} MB, exit code {code}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
