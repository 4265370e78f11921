"""Files read on all cores, and each once: what it showed is kept until it changes."""

import json
import math
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from hashlib import sha1
from pathlib import Path
from typing import Any, TypeVar

import datasets

from tevia_hf import __version__
from tevia_hf.io import ImageRef
from tevia_hf.io.output_dir import write_whole
from tevia_hf.io.readers import is_read_here

Item = TypeVar("Item")
Result = TypeVar("Result")
FORMAT = [3, __version__]  # count on where reading the same file gives something else
MOST_THREADS = 8  # beyond which disks and memory are what is waited for
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of a container: microseconds, and of how many
SETTLED = 2  # seconds, in which a file may change again without another time of change


def on_all_cores(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
    """Each item with what the function gives of it, in order; only few are held at once.

    By threads: decoders leave Python's lock, and readers and transforms of one's own need not be pickled.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no container, or one without a quota
        quota, period = CPU_QUOTA.read_text().split()
        cores = min(cores, math.ceil(int(quota) / int(period)))
    threads = max(1, min(MOST_THREADS, cores // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > 2 * threads:
                item, future = waiting.popleft()
                yield item, future.result()
        for item, future in waiting:
            yield item, future.result()


def remembered(what: Sequence[Any], files: Sequence[ImageRef], read: Callable[[], Any], cache: bool = True) -> Any:
    """What `read` gives, as JSON holds it; of files that have not changed since it did, without reading.

    Kept in the folder `tevia_hf` of the cache of `datasets` (`HF_DATASETS_CACHE`), unless `datasets.disable_caching()`
    was called. Files that have just been written, and those of readers of one's own, are read every time.

    `what` decides the result beside the files, which count by path, size and time of change; there are none where the
    pixels are held in memory.
    """
    if not (cache and files and datasets.is_caching_enabled() and all(map(is_read_here, files))):
        return read()
    try:
        states = [file.path.stat() for file in files]
    except OSError:
        return read()  # whose error names the file
    key = [*FORMAT, *what, *(str(replace(file, path=file.path.absolute())) for file in files)]
    entry = Path(datasets.config.HF_DATASETS_CACHE, "tevia_hf", sha1(json.dumps(key).encode()).hexdigest() + ".json")
    key += [[state.st_size, state.st_mtime_ns] for state in states]
    with suppress(OSError, ValueError, TypeError):  # missing, damaged, or not of this package
        digest, content = entry.read_text(encoding="utf-8").split("\n", 1)
        held, result = json.loads(content)
        if held == key and digest == sha1(content.encode()).hexdigest():
            return result
    result = read()
    if max(state.st_mtime for state in states) < time.time() - SETTLED:
        content = json.dumps([key, result])
        with suppress(OSError):  # a full or read-only disk
            write_whole(entry, f"{sha1(content.encode()).hexdigest()}\n{content}")
    return result
