"""Work in processes of their own, a GPU and a share of the CPU's threads to each; and each launcher's share of it."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed

# By these torchrun and MPI tell a process that it is one of several.
LAUNCHER_VARIABLES = (
    "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "GROUP_RANK", "GROUP_WORLD_SIZE", "ROLE_RANK",
    "ROLE_WORLD_SIZE", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT", "PMI_RANK", "PMI_SIZE", "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK", "MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE",
)  # fmt: skip
Item = TypeVar("Item")


class Slot(NamedTuple):
    """What one process at a time works with: so many CPU threads, and a GPU or none of its own."""

    threads: int
    gpu: str | None = None

    def variables(self) -> dict[str, str]:
        gpu = {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}
        return {"OMP_NUM_THREADS": str(self.threads), **gpu}


class Work(NamedTuple):
    """A call `target(*args)`, which may be pickled, and the file that its output goes to."""

    target: Callable[..., None]
    args: tuple
    log: Path


def share_of(items: Sequence[Item], environ: Mapping[str, str]) -> list[Item]:
    """The items that this process of a torchrun, of a SLURM array, or of both, takes; all of them without either.

    Raises `ValueError` for a SLURM array whose numbers have gaps.
    """
    index, count = array_position(environ)
    size = int(environ.get("WORLD_SIZE", 1))
    return list(items)[index * size + int(environ.get("RANK", 0)) :: count * size]


def array_position(environ: Mapping[str, str]) -> tuple[int, int]:
    """Number from 0 of this task of a SLURM array, and the number of its tasks."""
    number, least, step, count = (
        int(environ.get(f"SLURM_ARRAY_TASK_{name}", default))
        for name, default in (("ID", 0), ("MIN", 0), ("STEP", 1), ("COUNT", 1))
    )
    index = (number - least) // step if count > 1 else 0
    if (number - least) % step or index >= count:
        raise ValueError(
            f"Task {number} of {count} from {least} in a SLURM array: number it without gaps, as --array=0-{count - 1}."
        )
    return index, count


def slots_for(items: int, workers: int | None, use_gpus: bool, environ: Mapping[str, str]) -> list[Slot]:
    """The slots of this process: `workers`, by default one a GPU, else one a CPU core, but no more than items.

    Of a machine's cores and GPUs, each process of a torchrun there takes its share.
    """
    rank, ranks = int(environ.get("LOCAL_RANK", 0)), int(environ.get("LOCAL_WORLD_SIZE", 1))
    cores = max(1, available_cores() // ranks)
    all_gpus = available_gpus(environ) if use_gpus else []
    gpus = all_gpus[rank::ranks] or all_gpus[:1]
    count = max(1, min(workers or len(gpus) or cores, items))
    return [Slot(max(1, cores // count), gpus[index % len(gpus)] if gpus else None) for index in range(count)]


def available_cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_gpus(environ: Mapping[str, str]) -> list[str]:
    named = environ.get("CUDA_VISIBLE_DEVICES")
    numbers = range(torch.cuda.device_count())
    return named.split(",")[: len(numbers)] if named else [str(number) for number in numbers]


def wait_for_all_ranks(environ: Mapping[str, str]) -> None:
    """Under torchrun, until all its processes are here: it stops the others when one leaves with an error."""
    if int(environ.get("WORLD_SIZE", 1)) > 1:
        with environment({name: environ.get(name) for name in LAUNCHER_VARIABLES}):
            torch.distributed.init_process_group("gloo", timeout=timedelta(days=365))
            torch.distributed.destroy_process_group()


@contextmanager
def environment(changes: Mapping[str, str | None]) -> Iterator[None]:
    """The process's environment with these variables for a while; `None` takes one out."""
    before = {name: os.environ.get(name) for name in changes}
    try:
        set_variables(changes)
        yield
    finally:
        set_variables(before)


def set_variables(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def run_all(works: Sequence[Work], slots: Sequence[Slot]) -> list[int]:
    """Does each work in a fresh process, a slot to each, as many at once as there are slots; their exit codes.

    One that fails, or is killed, stops no other. All are stopped where this call is.
    """
    waiting, free, codes = list(enumerate(works)), list(slots), dict.fromkeys(range(len(works)), 0)
    running: dict[Any, tuple[int, Slot]] = {}
    try:
        while waiting or running:
            while waiting and free:
                (number, work), slot = waiting.pop(0), free.pop(0)
                running[start(work, slot)] = number, slot
            wait([process.sentinel for process in running])
            for process in [process for process in running if not process.is_alive()]:
                number, slot = running.pop(process)
                codes[number] = process.exitcode
                free.append(slot)
    finally:
        for process in running:
            process.terminate()
    return list(codes.values())


def start(work: Work, slot: Slot) -> Any:
    """The started process, whose environment is set before it imports torch."""
    work.log.parent.mkdir(parents=True, exist_ok=True)
    with work.log.open("a", encoding="utf-8") as log:
        gpu = "" if slot.gpu is None else f", GPU {slot.gpu}"
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}: threads {slot.threads}{gpu}\n")
    process = multiprocessing.get_context("spawn").Process(target=do, args=(work,))
    with environment(slot.variables()):
        process.start()
    return process


def do(work: Work) -> None:
    """The work, in a process of its own, its output going to the log."""
    with work.log.open("a", encoding="utf-8") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    Thread(target=end_with_parent, daemon=True).start()
    work.target(*work.args)


def end_with_parent() -> None:
    """Ends this process once its parent is gone, so that nobody else finds its folder being written to."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
