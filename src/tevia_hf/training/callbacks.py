"""What happens between training steps: prototypes are collected and moved, patience is counted."""

import math

import torch
import torch.distributed
from transformers import EarlyStoppingCallback, TrainerCallback
from transformers.utils import logging

logger = logging.get_logger(__name__)


class MomentumPrototypeCallback(TrainerCallback):
    r"""Keeps the model's prototype memory: a plain mean over one epoch, then a momentum step per optimiser step.

    With `v` the mean foreground vector of all samples of a step that have foreground, on all ranks:

    - epochs before `warmup_epochs`: nothing;
    - epoch `warmup_epochs`: `P` becomes the mean over all samples of that epoch, the gate still off;
    - later: the gate is on and `P <- a P + (1 - a) v` (paper; `a` is the config's `prototype_momentum`).

    A model whose prototypes are active already, such as one that is trained further, takes momentum steps at once.
    The phase is read from the trainer's state and everything else lies in the model's buffers, so that a resumed run
    equals an unbroken one. The model is left alone: a forward hook adds up what it returned in training mode.

    Args:
        warmup_epochs: epochs before the collecting one (published: 20).
    """

    def __init__(self, warmup_epochs: int = 1):
        self.warmup_epochs = warmup_epochs
        self.hook = None
        self.sums: list[torch.Tensor] | None = None

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        memory = model.prototype_memory
        if memory is not None and not memory.is_active and state.num_train_epochs <= self.warmup_epochs + 1:
            logger.warning(
                f"{state.num_train_epochs} epochs end before prototypes act, which they do from epoch "
                f"{self.warmup_epochs + 2} on: train longer or lower `prototype_warmup_epochs`."
            )
        self.detach()  # a run that ended in an error left its hook behind
        if model.prototype_memory is not None:
            self.hook = model.register_forward_hook(self.observe)

    def on_train_end(self, args, state, control, **kwargs):
        self.detach()

    def detach(self) -> None:
        if self.hook is not None:
            self.hook.remove()
        self.hook = self.sums = None

    def observe(self, model, inputs, outputs) -> None:
        """Adds one forward pass: a row of sums a scale, the number of samples with foreground as its last entry."""
        if not model.training or outputs.visual_embeddings is None:
            return
        sums = [with_count(vectors.detach().float()) for vectors in outputs.visual_embeddings]
        self.sums = sums if self.sums is None else [a + b for a, b in zip(self.sums, sums, strict=True)]

    def on_epoch_begin(self, args, state, control, model=None, **kwargs):
        memory = model.prototype_memory
        collected = memory is not None and not memory.is_active and memory.count > 0
        if collected and math.floor(state.epoch or 0) > self.warmup_epochs:
            memory.activate()

    def on_step_end(self, args, state, control, model=None, **kwargs):
        memory = model.prototype_memory
        if memory is None:
            return
        sums, self.sums = self.sums, None
        if sums is None:  # this rank saw no labels; the others still wait for its share
            sums = [torch.cat([torch.zeros_like(p), p.new_zeros(1)]) for p in memory.prototypes]
        sums = [reduce_over_ranks(row) for row in sums]
        samples = int(min(row[-1] for row in sums))
        if samples > 0:
            self.commit(memory, math.ceil(state.epoch) - 1, [row[:-1] / row[-1] for row in sums], samples)

    def commit(self, memory, epoch: int, means: list[torch.Tensor], samples: int) -> None:
        if memory.is_active:
            memory.momentum_step(means)
        elif epoch >= self.warmup_epochs:
            memory.collect(means, samples)


def with_count(vectors: torch.Tensor) -> torch.Tensor:
    """The sum over a batch `(batch, channels)` and, behind it, how many rows are not zero: `(channels + 1,)`."""
    return torch.cat([vectors.sum(0), vectors.any(-1).sum().reshape(1).to(vectors.dtype)])


def reduce_over_ranks(values: torch.Tensor) -> torch.Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values


class PrototypeAwareEarlyStopping(EarlyStoppingCallback):
    """Stops after `early_stopping_patience` evaluations without a better score, counted once prototypes are active.

    Args:
        warmup_epochs: as in `MomentumPrototypeCallback`.
    """

    def __init__(self, early_stopping_patience: int = 1, early_stopping_threshold: float = 0.0, warmup_epochs: int = 1):
        super().__init__(early_stopping_patience, early_stopping_threshold)
        self.warmup_epochs = warmup_epochs

    def on_evaluate(self, args, state, control, metrics, **kwargs):  # type: ignore[override]  # as its parent does
        if state.epoch > self.warmup_epochs + 1:
            super().on_evaluate(args, state, control, metrics, **kwargs)

    def state(self) -> dict:
        saved = super().state()
        saved["args"]["warmup_epochs"] = self.warmup_epochs
        return saved


class AugmentationEpochCallback(TrainerCallback):
    """Tells the augmentation which epoch it is, so that every epoch varies the pictures anew."""

    def __init__(self, augmentation):
        self.augmentation = augmentation

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.augmentation.set_epoch(math.floor(state.epoch or 0))
