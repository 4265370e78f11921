"""A cache of what is read from files, until they change."""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from hashlib import sha1
from pathlib import Path
from typing import Any

import datasets

from tevia_hf import __version__
from tevia_hf.io import ImageRef
from tevia_hf.io.output_dir import write_whole
from tevia_hf.io.readers import is_read_here

FORMAT = [3, __version__]  # increment when reading the same file gives another result
SETTLED = 2  # seconds after a write in which a file can change again with the same modification time


def remembered(what: Sequence[Any], files: Sequence[ImageRef], read: Callable[[], Any], cache: bool = True) -> Any:
    """The JSON result of `read`, from the cache if the files have not changed.

    The cache is the folder `tevia_hf` in the cache of `datasets` (`HF_DATASETS_CACHE`), unless
    `datasets.disable_caching()` was called. Files written within the last seconds, and files of user-defined readers,
    are read every time.

    `what` holds all other inputs of the result. Files are identified by path, size and modification time; without
    files (pixels in memory) nothing is cached.
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
        stored_key, result = json.loads(content)
        if stored_key == key and digest == sha1(content.encode()).hexdigest():
            return result
    result = read()
    if max(state.st_mtime for state in states) < time.time() - SETTLED:
        content = json.dumps([key, result])
        with suppress(OSError):  # a full or read-only disk
            write_whole(entry, f"{sha1(content.encode()).hexdigest()}\n{content}")
    return result
