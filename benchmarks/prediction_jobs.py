"""Rate, memory and safety of prediction jobs.

    python benchmarks/prediction_jobs.py rate MODEL IMAGES [COUNT]       # images a second: network alone, and jobs
    python benchmarks/prediction_jobs.py memory MODEL IMAGES [COUNT]     # resident memory after each tenth of a job
    python benchmarks/prediction_jobs.py kills SEED -- SUBCOMMAND ...    # kill -9 at 20 random moments of a command

IMAGES is a folder; COUNT images are taken, several times if it holds fewer. `rate` interleaves the network alone with
jobs, as other processes disturb both. To compare two versions, run both, each with its `src` on PYTHONPATH.
"""

import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from datasets import disable_progress_bars

from tevia_hf import Predictor, TeViAForSegmentation, TeViAProcessor, predict

TEXT = "Bilateral pulmonary infection, two infected areas, upper left lung and upper right lung."
BATCH, HELD, KILLS = 16, 64, 20


def load(model: str, folder: str, count: int):
    network, processor = TeViAForSegmentation.from_pretrained(model).eval(), TeViAProcessor.from_pretrained(model)
    images = sorted(Path(folder).iterdir())
    return network, processor, [images[index % len(images)] for index in range(count)]


def rate(model: str, folder: str, count: str = "2000") -> None:
    network, processor, images = load(model, folder, int(count))
    predictor = Predictor(network, processor, batch_size=BATCH)
    held = [predictor.prepare(image) for image in images[:HELD]]

    def network_alone(number: int = 320) -> float:
        start = time.perf_counter()
        for first in range(0, number, BATCH):
            batch = held[first % HELD : first % HELD + BATCH]
            predictor.masks(predictor.encode(batch), [TEXT] * len(batch))
        return number / (time.perf_counter() - start)

    network_alone(HELD)
    has_overlays = "overlays" in getattr(predict, "__doc__", "") and hasattr(Predictor, "_answers")
    for options in ({"overlays": False}, {}) if has_overlays else ({},):
        before = network_alone()
        with tempfile.TemporaryDirectory() as out:
            start, cpu = time.perf_counter(), time.process_time()
            predict(network, processor, images, [TEXT] * len(images), Path(out, "out"), batch_size=BATCH, **options)
            job = len(images) / (time.perf_counter() - start)
            cpu = (time.process_time() - cpu) / len(images)
        alone = (before + network_alone()) / 2
        print(
            f"{options or 'overlays'}: network {alone:.1f}, job {job:.1f} a second, {job / alone:.0%}; {cpu:.4f} CPU s"
        )


def memory(model: str, folder: str, count: str = "10000") -> None:
    from tevia_hf.inference.manifest import Manifest

    network, processor, images = load(model, folder, int(count))
    rows, usual, process = [0], Manifest.add, psutil.Process()

    def add(self, row) -> None:
        usual(self, row)
        rows[0] += 1
        if rows[0] % (len(images) // 10) == 0:
            print(f"{rows[0]} items: {process.memory_info().rss / 1e6:.0f} MB", flush=True)

    Manifest.add = add
    with tempfile.TemporaryDirectory() as out:
        predict(network, processor, images, [f"{TEXT} {index}" for index in range(len(images))], Path(out, "out"))
    print(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.0f} MB")


def kills(seed: str, *command: str) -> None:
    """Runs the command whole; then starts it again and again with `--resume`, and kills it, until 20 were killed.

    A process is killed at a random moment after it has recorded its first new item.
    """
    rng, killed, jobs = random.Random(int(seed)), 0, 0
    with tempfile.TemporaryDirectory() as root:
        whole = Path(root, "whole")
        process = run(*command, "--output-dir", str(whole))
        wait_for_line(process, whole, 1)
        start = time.perf_counter()
        process.wait()
        duration, expected = time.perf_counter() - start, outputs(whole)
        print(f"unbroken: {len(expected)} files, {lines_in(whole)} lines, {duration:.1f} s from the first line on")
        while killed < KILLS:
            jobs += 1
            folder, code = Path(root, f"job-{jobs}"), None
            while code is None:
                process, known = run(*command, "--output-dir", str(folder), "--resume"), lines_in(folder)
                wait_for_line(process, folder, known + 1)
                try:
                    code = process.wait(rng.uniform(0, duration / 2) if killed < KILLS else None)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    killed += 1
                    print(f"kill {killed}: {lines_in(folder)} lines", flush=True)
            result, lines = outputs(folder), names_in(folder)
            differing = [name for name in expected | result if expected.get(name) != result.get(name)]
            lost, doubled = len(set(names_in(whole)) - set(lines)), len(lines) - len(set(lines))
            print(
                f"job {jobs}: {lost} lost, {doubled} doubled rows; of {len(result)} files differ: {differing}",
                flush=True,
            )


def wait_for_line(process: subprocess.Popen, folder: Path, count: int) -> None:
    while process.poll() is None and lines_in(folder) < count:
        time.sleep(0.01)


def lines_in(folder: Path) -> int:
    """The number of rows in the manifest."""
    path = folder / "manifest.jsonl"
    return max(0, path.read_bytes().count(b"\n") - 1) if path.exists() else 0


def names_in(folder: Path) -> list[str]:
    return [json.loads(line)["name"] for line in (folder / "manifest.jsonl").read_text().splitlines()[1:]]


def run(*command: str) -> subprocess.Popen:
    code = "import sys; from tevia_cli.main import main; sys.exit(main(sys.argv[1:]))"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen([sys.executable, "-c", code, *command], start_new_session=True, **quiet)


def outputs(folder: Path) -> dict[str, bytes]:
    """The content of all files but the manifest, whose lines are in the order in which they were made."""
    files = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    content = {name: path.read_bytes() for name, path in files.items() if not name.endswith(".jsonl")}
    return {name: value.replace(str(folder).encode(), b"") for name, value in content.items()}


if __name__ == "__main__":
    disable_progress_bars()
    name, *arguments = [argument for argument in sys.argv[1:] if argument != "--"]
    {"rate": rate, "memory": memory, "kills": kills}[name](*arguments)
