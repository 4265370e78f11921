"""Damages small valid files in many ways and counts the outcomes of reading them: results, errors, or worse.

python tools/mutated_files.py --seconds 300 --output benchmarks/results/mutated_files.md --keep findings
"""

import argparse
import contextlib
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mutated_samples import SAMPLES
from mutations import mutated, repacked

from tevia_hf.data.tables import read_table
from tevia_hf.io import has_slices, read_image
from tevia_hf.io.markdown import markdown_table
from tevia_hf.training.arguments import parse_recipe

MAX_SECONDS, MAX_BYTES = 10, 2**30
RESULT, REFUSAL, CRASH, HANG, OVER = KINDS = "results refusals crashes hangs over".split()


def read_as_image(path: Path) -> Any:
    address = f"{path}#middle" if has_slices(path) else path
    with contextlib.suppress(ValueError):  # e.g. a colour image is no mask
        read_image(address, is_mask=True)
    return read_image(address)


READERS: dict[str, Callable[[Path], Any]] = {"csv": read_table, "xlsx": read_table, "recipe": parse_recipe}


def serve(kind: str, connection: Any) -> None:
    """Reads the paths that it receives and sends the outcome of each."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    initial = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    allocated = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (allocated + 4 * MAX_BYTES,) * 2)
    while True:
        path, answer = connection.recv(), (RESULT, "")
        try:
            READERS.get(kind, read_as_image)(path)
        except (ValueError, FileNotFoundError) as error:
            lacks_memory = isinstance(error.__cause__, MemoryError) or "Unable to allocate" in str(error)
            answer = (OVER if lacks_memory else REFUSAL, str(error))
        except MemoryError as error:
            answer = (OVER, str(error))
        except BaseException as error:  # the kind of failure to be detected
            answer = (CRASH, f"{type(error).__name__}: {error}")
        is_over = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - initial) * 1024 > MAX_BYTES
        connection.send((OVER, answer[1]) if is_over else answer)


def run(kind: str, seconds: float, seed: int, keep: Path | None) -> Counter:
    rng, counts, child, context = random.Random(seed), Counter(), None, multiprocessing.get_context("fork")
    samples, end = SAMPLES[kind](), time.monotonic() + seconds
    folder = Path(tempfile.mkdtemp())
    while time.monotonic() < end:
        if child is None:
            connection, remote = context.Pipe()
            child = context.Process(target=serve, args=(kind, remote), daemon=True)
            child.start()
            remote.close()
        name = rng.choice(list(samples))
        content = rng.choice((mutated, lambda *parts, name=name: repacked(parts[0], name, *parts[1:])))(
            rng, samples[name], samples[rng.choice(list(samples))]
        )
        path = folder / name
        path.write_bytes(content)
        connection.send(path)
        try:
            outcome, reason = connection.recv() if connection.poll(MAX_SECONDS) else (HANG, "")
        except (EOFError, ConnectionResetError):
            outcome, reason = CRASH, "the process ended"
        counts[outcome] += 1
        if outcome not in (RESULT, REFUSAL):
            child.kill()
            child = None
            sys.stderr.write(f"{kind} {outcome} {name} {counts.total()}: {reason[:300]}\n")
            if keep:
                (keep / f"{outcome}_{counts[outcome]}_{name}").write_bytes(content)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300, help="for each reader")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", nargs="+", choices=list(SAMPLES), default=list(SAMPLES))
    parser.add_argument("--keep", type=Path, help="folder for the files that did not give a result or an error message")
    parser.add_argument("--output", type=Path, help="where to write the table")
    options = parser.parse_args()
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    rows = []
    for kind in options.readers:
        counts = run(kind, options.seconds, options.seed, options.keep)
        rows.append([kind, counts.total(), *(counts[name] for name in KINDS)])
    header = ["reader", "files tried", "results", "refusals", "crashes", "hangs", "over 1 GB"]
    text = markdown_table(header, rows) + "\n"
    sys.stdout.write(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
