"""Complete checkpoints of an interrupted run."""

import json
from pathlib import Path
from typing import Any


def last_complete_checkpoint(folder: Path) -> str:
    """The newest checkpoint that was written completely, so that a run killed while saving can be resumed.

    Raises `ValueError` if there is none.
    """
    complete = complete_checkpoints(folder)
    if not complete:
        raise ValueError(
            f"{folder} holds no complete checkpoint to resume from: leave `resume` out to start a new run."
        )
    return str(complete[max(complete)])


def complete_checkpoints(folder: Path) -> dict[int, Path]:
    """Step -> checkpoint, for completely written checkpoints."""
    # The Trainer writes its state last.
    paths = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json") if whole_json(path) is not None]
    return {int(path.name.rpartition("-")[2]): path for path in paths}


def whole_json(path: Path) -> Any:
    """The content of a JSON file; `None` if it is missing or incomplete."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
