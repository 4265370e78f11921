"""What an interrupted run left behind."""

import json
from pathlib import Path
from typing import Any


def last_complete_checkpoint(folder: Path) -> str:
    """The newest checkpoint that was written to its end, so that a run killed while saving still goes on.

    Raises `ValueError` where there is none.
    """
    complete = complete_checkpoints(folder)
    if not complete:
        raise ValueError(f"{folder} holds no complete checkpoint to resume from: leave `resume` out to start anew.")
    return str(complete[max(complete)])


def complete_checkpoints(folder: Path) -> dict[int, Path]:
    """Step -> checkpoint, of those that were written to their end."""
    # The trainer's state is the last file of a checkpoint to be written.
    paths = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json") if whole_json(path) is not None]
    return {int(path.name.rpartition("-")[2]): path for path in paths}


def whole_json(path: Path) -> Any:
    """What a file holds; `None` where it is missing or was not written to its end."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
