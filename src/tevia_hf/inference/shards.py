"""Division of a job among processes."""

import os
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Shard:
    """A part of a job: each process of `count` takes another one, by its `index` from 0."""

    index: int
    count: int


WHOLE = Shard(0, 1)  # of a job that is not divided


def parse_shard(text: str) -> Shard:
    """The shard written as "0/3". Raises `ValueError` for other text."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    shard = Shard(int(match[1]), int(match[2])) if match else None
    if shard is None or shard.index >= shard.count:
        raise ValueError(f"shard is '{text}': give index and number, as in 0/3, 1/3 and 2/3 for three processes.")
    return shard


def shard_of_process() -> Shard:
    """The shard of this process among those started by `torchrun` or another launcher that sets RANK and WORLD_SIZE.

    Raises `ValueError` if these are no rank and number of processes.
    """
    if not {"RANK", "WORLD_SIZE"} <= set(os.environ):
        return WHOLE
    return parse_shard(f"{os.environ['RANK']}/{os.environ['WORLD_SIZE']}")
