"""The peak memory of one variant, measured in a process of its own: `python -m tevia_hf.benchmark.memory`.

Graphs are measured without torch, as they run where it is not installed.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path

from .variants import VARIANTS, Case, Inputs, Subject

GRAPHS = """
import json, resource, sys
sys.modules["torch"] = None
import numpy as np
from pathlib import Path
from tevia_hf.inference.exported import ExportedModel

folder, about, (batch, side, tokens) = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
model, text = ExportedModel(folder, about), ()
if model.config.use_text:
    ids = np.ones((batch, tokens), np.int64)
    text = (model.encode_text(ids, ids), ids)
model(np.zeros((batch, 3, side, side), np.float32), *text)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak_of(variant: str, model: str | None, folder: Path, about: dict | None, case: Case) -> float:
    """The largest resident memory of a process that loads a variant and computes one batch, in 1e6 bytes.

    Args:
        folder: of the exported graphs.
        about: `export.json` of these; `None` for a variant in torch.
    """
    command = [sys.executable, "-m", __name__, variant, json.dumps([model, str(folder), *case])]
    if about is not None:
        command = [sys.executable, "-c", GRAPHS, str(folder), json.dumps(about), json.dumps(case)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"The memory of {variant} could not be measured: {result.stderr[-500:]}")
    return int(result.stdout.split()[-1]) * 1024 / 1e6  # Linux counts in 1,024 bytes


def main(variant: str, settings: str) -> None:
    model, folder, *case = json.loads(settings)
    VARIANTS[variant](Subject(model, Path(folder)), Inputs.of(Case(*case)))()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    import torch

    with torch.no_grad():
        main(*sys.argv[1:])
