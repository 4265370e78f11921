"""Work on many files at the same time."""

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
MAX_THREADS = 8  # with more, disk and memory are the bottleneck
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: quota and period in microseconds


def on_all_cores(
    function: Callable[[Item], Result], items: Iterable[Item], ahead: int = 0
) -> Iterator[tuple[Item, Result]]:
    """Pairs of item and result of the function, in order; few results are in memory at a time.

    `ahead` is the number of further results to compute while the caller is busy, e.g. with a batch of that size.

    Runs in threads: decoders release the GIL, and user-defined readers and transforms need not be picklable.
    """
    threads = max(1, min(MAX_THREADS, core_count() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
    pending: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            pending.append((item, pool.submit(function, item)))
            if len(pending) > ahead + 2 * threads:
                item, future = pending.popleft()
                yield item, future.result()
        for item, future in pending:
            yield item, future.result()


def core_count() -> int:
    """The number of cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no container, or one without a quota
        quota, period = CPU_QUOTA.read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return cores
