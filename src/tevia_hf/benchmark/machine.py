"""The machine that a benchmark runs on: its processor, and what that computes and reads at most."""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch

SIDE = 2048  # of the square matrices
READ = 64 * 2**20  # numbers that are summed to measure the memory
CLASSES = {
    "amx_bf16": "AMX",
    "avx512_bf16": "AVX-512 with VNNI and BF16",
    "avx512_vnni": "AVX-512 with VNNI",
    "avx512_f": "AVX-512",
    "avx2": "AVX2",
}


class Machine(NamedTuple):
    """What the times of a benchmark depend on.

    Args:
        processor: its name.
        kind: the best instructions that it has, such as "AVX2".
        threads: number of threads that torch computes with.
        gflops: rate of float32 matrix products, in 1e9 operations per second.
        gbytes: rate of reading memory, in 1e9 bytes per second.
    """

    processor: str
    kind: str
    threads: int
    gflops: float
    gbytes: float

    @classmethod
    def measured(cls) -> "Machine":
        left, right, numbers = torch.rand(SIDE, SIDE), torch.rand(SIDE, SIDE), torch.rand(READ)
        gflops = 2 * SIDE**3 / fastest(lambda: left @ right) / 1e9
        gbytes = 4 * READ / fastest(numbers.sum) / 1e9
        name = torch.cpu.get_capabilities()["cpu_name"]
        return cls(str(name), kind_of_processor(), torch.get_num_threads(), gflops, gbytes)

    def best(self, again: "Machine") -> "Machine":
        """The machine with the higher rates of two measurements."""
        return self._replace(gflops=max(self.gflops, again.gflops), gbytes=max(self.gbytes, again.gbytes))


def fastest(act: Callable[[], object], times: int = 7) -> float:
    """The shortest of several times, in seconds."""
    return min(seconds(act) for _ in range(times))


def seconds(act: Callable[[], object]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def interleaved(acts: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """The median seconds of each act. They take turns, so that what slows the machine slows all; once not measured."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(rounds + 1):
        for name, act in acts.items():
            times[name].append(seconds(act))
    return {name: median(own[1:]) for name, own in times.items()}


def kind_of_processor() -> str:
    """The best instructions of the processor that matter here, or its architecture."""
    known = torch.cpu.get_capabilities()
    return next((name for flag, name in CLASSES.items() if known.get(flag)), str(known["architecture"]))
