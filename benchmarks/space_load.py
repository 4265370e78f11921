"""Load test of the demo Space: concurrent clients on its endpoint, their waiting times, and the server's memory.

python benchmarks/space_load.py                      # 8 clients, 200 requests
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from gradio_client import Client, handle_file
from PIL import Image

from tevia_hf import load_segmentation_dataset

SPACE = Path(__file__).parents[1] / "spaces" / "tevia-demo" / "app.py"
QUARTERS = 4


def start_server() -> tuple[subprocess.Popen, str]:
    """Starts the Space in a process of its own on the loopback interface; returns process and URL."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, str(SPACE)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    for line in process.stdout or []:
        if found := re.search(r"http://127\.0\.0\.1:\d+", line):
            threading.Thread(target=process.stdout.read, daemon=True).start()  # a full pipe would block the server
            return process, found[0]
    raise SystemExit(f"The Space did not start: run `python {SPACE}` to see why.")


def resident_mib(process: subprocess.Popen) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def image_files(folder: str) -> list[tuple[str, str, str]]:
    """Images of 256 x 256 pixels, and one of the size of a radiograph."""
    pairs = (
        load_segmentation_dataset("synthetic", split="test", size=256, count=8, counterpart=c) for c in (False, True)
    )
    files = []
    for number, (target, other) in enumerate(zip(*pairs, strict=True)):
        path = f"{folder}/{number}.png"
        target["image"].save(path)
        files.append((path, target["text"], other["text"]))
    with Image.open(path) as image:
        image.resize((2500, 3000)).save(path)
    return files


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--requests", type=int, default=200)
    arguments = parser.parse_args()
    process, url = start_server()
    memory: list[float] = []

    def ask(job: int) -> float | Exception:
        client, (path, text, other) = clients[job % arguments.clients], files_and_texts[job % len(files_and_texts)]
        start = time.perf_counter()
        try:
            answer = client.predict(handle_file(path), text, what_if=other, api_name="/segment")
            assert answer[1] and answer[3]
        except Exception as error:
            return error
        finally:
            memory.append(resident_mib(process))
        return time.perf_counter() - start

    with tempfile.TemporaryDirectory() as folder:
        files_and_texts = image_files(folder)
        clients = [Client(url, verbose=False, download_files=folder) for _ in range(arguments.clients)]
        before, start = resident_mib(process), time.perf_counter()
        with ThreadPoolExecutor(arguments.clients) as pool:
            results = list(pool.map(ask, range(arguments.requests)))
        seconds = time.perf_counter() - start
    process.terminate()
    waits = [wait for wait in results if isinstance(wait, float)]
    errors = [error for error in results if isinstance(error, Exception)]
    quarters = [max(part) for part in np.array_split(memory, QUARTERS)]
    print(f"{arguments.clients} clients, {arguments.requests} requests, {os.cpu_count()} cores: {len(errors)} errors")
    print(f"{arguments.requests / seconds:.1f} requests per second; waiting, in s: " + percentiles(waits))
    print(
        f"server's memory in MiB: {before:.0f} before, at most in each quarter "
        + ", ".join(f"{q:.0f}" for q in quarters)
    )
    for error in errors[:3]:
        print(f"{type(error).__name__}: {error}")
    return 1 if errors else 0


def percentiles(waits: list[float]) -> str:
    return ", ".join(f"p{share} {np.percentile(waits, share):.2f}" for share in (50, 95, 99)) if waits else "-"


if __name__ == "__main__":
    sys.exit(main())
