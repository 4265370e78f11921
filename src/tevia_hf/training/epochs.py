"""The epoch of a run, for map-style and iterable data sets, `max_steps`, resumed and retried runs."""

import math
from dataclasses import dataclass
from typing import Any

from transformers import TrainerState, TrainingArguments


@dataclass
class EpochCounter:
    """Counts epochs, from 0, in optimizer steps: an epoch has as many steps as one pass over the data.

    The Trainer saves the step, so that a resumed run continues at the right epoch, whether or not it skips the data
    seen before. `state.epoch` is not usable: for a data set without length it is little more than the number of passes.
    The number of steps per pass is known from the length of the data loader, or else after the first pass; a callback
    that saves `steps_per_epoch` among its attributes passes it to a resumed run.
    """

    steps_per_epoch: int | None = None
    is_shifted: bool = False  # whether epochs begin within the Trainer's passes, because a resumed run restarted one

    def begin(self, args: TrainingArguments, state: TrainerState, dataloader: Any) -> None:
        """Called when training begins, also when it is resumed, or retried with another batch size."""
        batches = length(dataloader)
        if batches is not None:
            self.steps_per_epoch = max(math.ceil(batches / args.gradient_accumulation_steps), 1)
        else:
            self.steps_per_epoch = saved_steps_per_epoch(state) if state.global_step else None
        restarts_pass = batches is None or args.ignore_data_skip
        self.is_shifted = restarts_pass and state.global_step % (self.steps_per_epoch or state.global_step or 1) > 0

    def end_pass(self, state: TrainerState) -> None:
        """Called at the end of every pass over the data."""
        if self.steps_per_epoch is None and state.global_step:
            self.steps_per_epoch = state.global_step

    def next_epoch(self, state: TrainerState) -> int:
        """The epoch of the next optimizer step."""
        return self.epoch_of(state.global_step)

    def last_epoch(self, state: TrainerState) -> int:
        """The epoch of the last optimizer step."""
        return self.epoch_of(max(state.global_step - 1, 0))

    def epoch_of(self, step: int) -> int:
        return step // self.steps_per_epoch if self.steps_per_epoch else 0


def length(dataloader: Any) -> int | None:
    """The number of batches of a data loader; `None` if it is unknown."""
    try:
        return len(dataloader)
    except (TypeError, AttributeError, RuntimeError):
        return None


def saved_steps_per_epoch(state: TrainerState) -> int | None:
    """`steps_per_epoch` saved by the callbacks of the interrupted run."""
    callbacks: Any = state.stateful_callbacks or {}  # class -> saved state; a list for several of one class
    known = [
        saved["attributes"]["steps_per_epoch"]
        for entry in callbacks.values()
        for saved in (entry if isinstance(entry, list) else [entry])
        if saved.get("attributes", {}).get("steps_per_epoch")
    ]
    return known[-1] if known else None
