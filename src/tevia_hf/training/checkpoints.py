"""What an interrupted run left behind."""

import json
from pathlib import Path


def last_complete_checkpoint(folder: Path) -> str:
    """The newest checkpoint that was written to its end, so that a run killed while saving still goes on.

    Raises `ValueError` where there is none.
    """
    # The trainer's state is the last file of a checkpoint to be written.
    complete = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json") if is_json(path)]
    if not complete:
        raise ValueError(f"{folder} holds no complete checkpoint to resume from: leave `resume` out to start anew.")
    return str(max(complete, key=lambda path: int(path.name.rpartition("-")[2])))


def is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return False
    return True
