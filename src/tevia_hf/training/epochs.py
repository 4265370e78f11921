"""Which epoch a run is in: one answer for map-style and iterable sets, `max_steps`, resumed and retried runs."""

import math
from dataclasses import dataclass
from typing import Any

from transformers import TrainerState, TrainingArguments


@dataclass
class EpochCounter:
    """Counts epochs, from 0, in optimiser steps: an epoch is as many of them as one pass over the data takes.

    The step is what the Trainer saves, so that a resumed run is where the interrupted one was, whether or not it skips
    the data seen before. `state.epoch` does not serve: for a set without length it is hardly more than the number of
    passes. How many steps a pass takes is known from the data loader's length, or else once the first pass is over; a
    callback that saves `steps_per_epoch` among its attributes hands it to a resumed run.
    """

    steps_per_epoch: int | None = None
    is_shifted: bool = False  # epochs begin amid the Trainer's passes, which a resumed run began anew

    def begin(self, args: TrainingArguments, state: TrainerState, dataloader: Any) -> None:
        """Called when training begins, also when it is resumed, or retried with another batch size."""
        batches = length(dataloader)
        if batches is not None:
            self.steps_per_epoch = max(math.ceil(batches / args.gradient_accumulation_steps), 1)
        else:
            self.steps_per_epoch = saved_steps_per_epoch(state) if state.global_step else None
        begins_anew = batches is None or args.ignore_data_skip
        self.is_shifted = begins_anew and state.global_step % (self.steps_per_epoch or state.global_step or 1) > 0

    def end_pass(self, state: TrainerState) -> None:
        """Called at the end of every pass over the data."""
        if self.steps_per_epoch is None and state.global_step:
            self.steps_per_epoch = state.global_step

    def next_epoch(self, state: TrainerState) -> int:
        """The epoch of the coming optimiser step."""
        return self.epoch_of(state.global_step)

    def last_epoch(self, state: TrainerState) -> int:
        """The epoch of the optimiser step that was taken last."""
        return self.epoch_of(max(state.global_step - 1, 0))

    def epoch_of(self, step: int) -> int:
        return step // self.steps_per_epoch if self.steps_per_epoch else 0


def length(dataloader: Any) -> int | None:
    """How many batches a data loader gives; `None` where nobody knows."""
    try:
        return len(dataloader)
    except (TypeError, AttributeError, RuntimeError):
        return None


def saved_steps_per_epoch(state: TrainerState) -> int | None:
    """What the callbacks of the interrupted run knew of the length of a pass."""
    callbacks: Any = state.stateful_callbacks or {}  # what each saved, by its class; a list for several of one class
    known = [
        saved["attributes"]["steps_per_epoch"]
        for entry in callbacks.values()
        for saved in (entry if isinstance(entry, list) else [entry])
        if saved.get("attributes", {}).get("steps_per_epoch")
    ]
    return known[-1] if known else None
