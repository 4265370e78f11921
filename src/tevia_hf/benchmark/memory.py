"""The peak memory of one variant on Linux, in a process of its own.

Graphs are measured without torch, as they run where it is not installed.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from .variants import GRAPHS, Case, Subject

PROGRAM_IN_TORCH = """
import json, sys
import torch
from pathlib import Path
from tevia_hf.benchmark.variants import VARIANTS, Case, Inputs, Subject

variant, model, folder, case = json.loads(sys.argv[1])
with torch.no_grad():
    VARIANTS[variant](Subject(model, Path(folder)), Inputs.of(Case(*case)))()
print(Path("/proc/self/status").read_text())
"""
PROGRAM_OF_GRAPHS = """
import json, sys
sys.modules["torch"] = None
import numpy as np
from pathlib import Path
from tevia_hf.inference.exported import ExportedModel

folder, (about, dtype, (batch, side, tokens)) = Path(sys.argv[1]), json.loads(sys.argv[2])
model, text = ExportedModel(folder, about, dtype), ()
if model.config.use_text:
    ids = np.ones((batch, tokens), np.int64)
    text = (model.encode_text(ids, ids), ids)
model(np.zeros((batch, 3, side, side), np.float32), *text)
print(open("/proc/self/status").read())
"""
PEAK = re.compile(r"VmHWM:\s+(\d+) kB")  # `ru_maxrss` would begin with the peak of the process that starts this one


def peak_of(variant: str, subject: Subject, case: Case) -> float:
    """The largest resident memory of a process that loads a variant and computes one batch, in 1e6 bytes."""
    if not Path("/proc/self/status").is_file():
        raise ValueError("The peak memory of a process is read from /proc, which this system lacks: use Linux.")
    if (kind := GRAPHS.get(variant)) is None:
        command = [PROGRAM_IN_TORCH, json.dumps([variant, subject.given, str(subject.folder), case])]
    else:
        about = subject.exported(*kind).about
        command = [PROGRAM_OF_GRAPHS, str(subject.graphs(kind.to, kind.int8)), json.dumps([about, kind.dtype, case])]
    result = subprocess.run([sys.executable, "-c", *command], capture_output=True, text=True)
    if result.returncode:
        raise RuntimeError(f"The memory of {variant} could not be measured: {result.stderr[-500:]}")
    return int(PEAK.findall(result.stdout)[0]) * 1024 / 1e6
