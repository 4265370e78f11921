"""Training callbacks: momentum prototypes, selection of the best model and early stopping once prototypes are active,
deep supervision, and the epoch of the augmentation.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from transformers import EarlyStoppingCallback, TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.utils import logging

from ..option_checks_tevia import check_count
from .adapters import check_not_wrapped, save_prototypes_with_adapter, unwrapped
from .epochs import EpochCounter
from .observing import TrainingObserver, reduce_over_ranks

logger = logging.get_logger(__name__)

NO_LABELS = (
    "the model was given no `labels` in training. A custom loss that removes them from the model's inputs hides them, "
    "and so does the Trainer for `compute_loss_func` and `label_smoothing_factor`: keep them, e.g. in a Trainer whose "
    "`compute_loss` calls `model(**inputs)` with them, and let the model return its `ModelOutput`."
)
NO_FOREGROUND = (
    "none of the labels that the model was given marks a lesion. Check the masks, e.g. by `tevia check-data`, and the "
    "labels that the collator returns."
)
TWO_CALLBACKS = (
    "The Trainer has two `MomentumPrototypeCallback`s: the first, with {} warm-up epochs, updates the prototypes, and "
    "the second, with {}, does nothing. Give one: `build_trainer` adds its own, whose warm-up is the argument "
    "`prototype_warmup_epochs`."
)


@dataclass
class PrototypeRun:
    """Progress of the prototypes in one run, and its initial state."""

    memory: Any
    state: TrainerState
    first_step: int
    memory_before: dict[str, torch.Tensor]
    has_acted: bool  # whether prototypes were active at some step
    has_collected: bool  # whether any sample was collected
    is_too_short: bool = False
    saw_labels: bool = False
    momentum_steps: int = 0


class ResumableSchedule(ExportableState):
    """Base of callbacks whose settings a resumed run may change: its arguments override those of the checkpoint."""

    is_restored = False  # True if the Trainer restored this callback from a checkpoint
    field_of = {"warmup_epochs": "prototype_warmup_epochs"}  # attribute -> optional field of the arguments

    def follow(self, args: TrainingArguments, state: TrainerState) -> None:
        """Called when training begins."""
        for attribute, name in self.field_of.items():
            if self.is_restored and getattr(args, name, None) is not None:
                setattr(self, attribute, getattr(args, name))
        # The Trainer looks for this entry when it saves, also after resuming from a checkpoint without it.
        saved: Any = state.stateful_callbacks
        saved.setdefault(type(self).__name__, self.state())


class MomentumPrototypeCallback(TrainingObserver, ResumableSchedule):
    r"""Updates the model's prototype memory: a plain mean over one epoch, then a momentum step per optimizer step.

    With `v` the mean foreground vector of all samples of a step that have foreground, on all ranks:

    - epochs before `warmup_epochs`: nothing;
    - epoch `warmup_epochs`: `P` becomes the mean over all samples of that epoch, the gate still off;
    - later: the gate is on and `P <- a P + (1 - a) v` (paper; `a` is the config's `prototype_momentum`).

    A model whose prototypes are already active, such as one that is fine-tuned, takes momentum steps at once.
    Epochs are counted in steps (`EpochCounter`) and all other state is in the model's buffers, so that a resumed run
    equals an uninterrupted one; a run that is retried, as by `auto_find_batch_size`, starts from its initial memory.
    The model is not modified: a forward hook accumulates its outputs in training mode, for which it needs `labels`.
    A warning at the end of training names expected updates that did not happen, with the reason. During a run the
    memory refers to the callback that updates it; a second one in the same Trainer does nothing, and warns. A
    `peft.PeftModel` saves the prototypes with its adapter. Raises `ValueError` for what `torch.compile(model)` returns.

    Args:
        warmup_epochs: epochs before the one that collects the mean (published: 20).
    """

    def __init__(self, warmup_epochs: int = 1):
        self.warmup_epochs = check_count("warmup_epochs", warmup_epochs, example="1", least=0)
        self.epochs = EpochCounter()
        self.run: PrototypeRun | None = None
        self.sums: list[torch.Tensor] | None = (
            None  # since the last step: one row per scale, its last entry the number of samples
        )

    def state(self) -> dict:
        return {
            "args": {"warmup_epochs": self.warmup_epochs},
            # The first is read by `EpochCounter.begin`.
            "attributes": {"steps_per_epoch": self.epochs.steps_per_epoch, "is_restored": True},
        }

    def on_init_end(self, args, state, control, model=None, **kwargs):
        check_not_wrapped(model)
        save_prototypes_with_adapter(model)  # before a checkpoint is loaded

    def on_train_begin(self, args, state, control, model=None, train_dataloader=None, **kwargs):
        check_not_wrapped(model)
        save_prototypes_with_adapter(model)
        memory = model.prototype_memory
        if self.run is not None and self.run.memory is not memory:
            self.stop()  # an interrupted run on another model
        if memory is None:
            return
        keeper = memory.keeper
        if (interrupted := keeper and keeper.run) is not None:
            if interrupted.state is state:
                logger.warning(TWO_CALLBACKS.format(keeper.warmup_epochs, self.warmup_epochs))
                return
            keeper.stop()
            if interrupted.first_step == state.global_step:
                memory.load_state_dict(interrupted.memory_before)
        memory.keeper = self
        before = copy.deepcopy(memory.state_dict())
        self.run = run = PrototypeRun(memory, state, state.global_step, before, memory.is_active, bool(memory.count))
        self.epochs.begin(args, state, train_dataloader)
        self.follow(args, state)
        self.attach(model)
        run.is_too_short = not run.has_acted and state.num_train_epochs <= self.warmup_epochs + 1
        if run.is_too_short:
            logger.warning(f"{state.num_train_epochs} epochs end {self.before_activation()}")

    def observe(self, outputs) -> None:
        """Adds one forward pass: a row of sums per scale, its last entry the number of samples with foreground."""
        embeddings = getattr(outputs, "visual_embeddings", None)  # (batch, channels) per scale
        if embeddings is None or self.run is None:
            return
        self.run.saw_labels = True
        sums = [torch.cat([v.sum(0), v.any(-1).sum(0, keepdim=True)]) for v in (e.detach().float() for e in embeddings)]
        self.sums = sums if self.sums is None else [a + b for a, b in zip(self.sums, sums, strict=True)]

    def on_epoch_begin(self, args, state, control, model=None, **kwargs):
        run, memory = self.run, model.prototype_memory
        if run and not run.has_acted and memory.count > 0 and self.epochs.next_epoch(state) > self.warmup_epochs:
            memory.activate()
            run.has_acted = True

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if self.epochs.is_shifted:
            self.on_epoch_begin(args, state, control, model)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        """Updates the memory with the vectors observed on all ranks since the last step."""
        if self.run is None:
            return
        memory, sums, self.sums = model.prototype_memory, self.sums, None
        if sums is None:  # this rank saw no labels, but the others wait in the all-reduce
            sums = [torch.cat([torch.zeros_like(p), p.new_zeros(1)]) for p in memory.prototypes]
        sums = [reduce_over_ranks(row) for row in sums]
        samples = int(min(row[-1] for row in sums))
        if samples == 0:
            return
        means = [row[:-1] / row[-1] for row in sums]
        if memory.is_active:
            memory.momentum_step(means)
            self.run.momentum_steps += 1
        elif self.epochs.last_epoch(state) >= self.warmup_epochs:
            memory.collect(means, samples)
            self.run.has_collected = True

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        self.epochs.end_pass(state)
        # A data set without length may end within the forward passes of a step, which the Trainer then skips.
        self.on_step_end(args, state, control, model)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        if (run := self.run) is None:
            return
        for fault in (self.missed_update(run, state), self.unused_prototypes(run, args, state)):
            if fault is not None and state.is_world_process_zero:
                logger.warning(fault)
        self.stop()

    def missed_update(self, run: PrototypeRun, state: TrainerState) -> str | None:
        """A warning about a scheduled update that did not happen, with the reason; None if all did."""
        last = self.epochs.last_epoch(state)
        if state.global_step == run.first_step or run.momentum_steps:
            return None
        cause = NO_FOREGROUND if run.saw_labels else NO_LABELS
        if run.has_acted:
            return f"Prototypes are active but took no momentum step: {cause}"
        if last >= self.warmup_epochs and not run.has_collected:
            return f"No prototype was collected, and none is active: {cause}"
        if last > self.warmup_epochs or run.is_too_short:
            return None
        return f"Training ended in epoch {last + 1} (step {state.global_step}), {self.before_activation()}"

    def before_activation(self) -> str:
        return (
            f"before prototypes become active, in epoch {self.warmup_epochs + 2}: train longer or lower "
            "`warmup_epochs` (of a recipe, `prototype_warmup_epochs`)."
        )

    def unused_prototypes(self, run: PrototypeRun, args, state: TrainerState) -> str | None:
        """A warning if the Trainer loaded a best model from before the prototypes became active."""
        if not (args.load_best_model_at_end and state.best_global_step and run.has_acted) or run.memory.is_active:
            return None
        best = self.epochs.epoch_of(state.best_global_step - 1) + 1
        return (
            f"`load_best_model_at_end` loaded the model of epoch {best} (step {state.best_global_step}), whose "
            f"prototypes are not active: they are from epoch {self.warmup_epochs + 2} on. To select among the models "
            f"with prototypes, set `eval_delay={self.warmup_epochs + 2}`, or use `build_trainer`, which does so."
        )

    def stop(self) -> None:
        self.detach()
        if self.run is not None:
            self.run.memory.keeper = None
        self.run = self.sums = None


class PrototypeAwareSelection(TrainerCallback):
    """Restarts the selection of the best model once prototypes are active, so that no earlier state is loaded.

    A run that ends before that keeps its best model. Checkpoints and the log are not affected.
    """

    def __init__(self) -> None:
        self.has_begun = True

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        memory = model.prototype_memory
        self.has_begun = memory is None or memory.is_active

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if not self.has_begun and model.prototype_memory.is_active:
            self.has_begun = True
            state.best_metric = state.best_global_step = state.best_model_checkpoint = None


class PrototypeAwareEarlyStopping(EarlyStoppingCallback, ResumableSchedule):
    """Stops after `early_stopping_patience` evaluations without a better score, counted once prototypes are active.

    Args:
        warmup_epochs: see `MomentumPrototypeCallback`.
    """

    field_of = ResumableSchedule.field_of | {"early_stopping_patience": "early_stopping_patience"}

    def __init__(self, early_stopping_patience: int = 1, early_stopping_threshold: float = 0.0, warmup_epochs: int = 1):
        check_count("early_stopping_patience", early_stopping_patience, example="5")
        super().__init__(early_stopping_patience, early_stopping_threshold)
        self.warmup_epochs = check_count("warmup_epochs", warmup_epochs, example="1", least=0)
        self.epochs = EpochCounter()

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        self.follow(args, state)
        self.epochs.begin(args, state, train_dataloader)

    def on_epoch_end(self, args, state, control, **kwargs):
        self.epochs.end_pass(state)

    def on_evaluate(self, args, state, control, metrics, **kwargs):  # type: ignore[override]  # as its parent does
        if self.epochs.last_epoch(state) > self.warmup_epochs:
            super().on_evaluate(args, state, control, metrics, **kwargs)

    def state(self) -> dict:
        saved = super().state()
        saved["args"]["warmup_epochs"] = self.warmup_epochs
        saved["attributes"]["is_restored"] = True
        return saved


class DeepSupervisionCallback(TrainerCallback):
    """Removes the auxiliary heads when training ends, and restores them when it is resumed.

    `add_auxiliary_heads` adds them beforehand, as the optimizer and other ranks must know them.
    """

    def __init__(self) -> None:
        self.heads = None

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        unwrapped(model).auxiliary_heads = unwrapped(model).auxiliary_heads or self.heads

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self.heads, unwrapped(model).auxiliary_heads = unwrapped(model).auxiliary_heads, None


class AugmentationEpochCallback(TrainerCallback):
    """Sets the epoch of the augmentation, so that it differs in every epoch."""

    def __init__(self, augmentation):
        self.augmentation = augmentation
        self.epochs = EpochCounter()

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        self.epochs.begin(args, state, train_dataloader)

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.augmentation.set_epoch(self.epochs.next_epoch(state))

    def on_epoch_end(self, args, state, control, **kwargs):
        self.epochs.end_pass(state)
