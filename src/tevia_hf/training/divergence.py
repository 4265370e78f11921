"""Detection of NaN and infinite values in training, which stops with the information needed to find the cause."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import TrainerState, TrainingArguments

from ..data.collate import IDS
from ..data.faults import some_of
from ..pretrained_tevia import non_finite
from .adapters import unwrapped
from .checkpoints import complete_checkpoints
from .observing import TrainingObserver

MAX_IDS = 20  # that a message names


class TrainingDivergedError(RuntimeError):
    """A loss, logits, a gradient, a weight or a prototype became NaN or infinite.

    Args:
        step: the optimizer step, from 1.
        ids: of the examples in the batch; empty if they are unknown.
        checkpoint: the last finite one, or `None`.
    """

    def __init__(self, message: str, step: int = 0, ids: Sequence[str] = (), checkpoint: Path | None = None):
        super().__init__(message)
        self.step, self.ids, self.checkpoint = step, list(ids), checkpoint


class DivergenceCallback(TrainingObserver):
    """Raises `TrainingDivergedError` at the step where a value becomes NaN or infinite, before it is saved.

    Checks the loss and logits of every forward pass, in training and in evaluations during it; the gradients before the
    optimizer step; weights, running statistics and prototypes after it. No checkpoint or best model therefore contains
    such values. With `fp16` gradients are not checked: they may be infinite, as the gradient scaler skips such steps.

    The message names the ids of the batch if the collator returns them (`build_trainer` sets this up, as does
    `SegmentationCollator(processor, with_ids=True)`). A forward pre-hook removes them from the model's inputs; it stays
    on the model for evaluations after training and has no effect without ids. Add this callback after other callbacks
    that change the model.
    """

    args: TrainingArguments  # set when a run begins
    trainer_state: TrainerState

    def on_init_end(self, args, state, control, model=None, **kwargs):
        remove_ids_from_inputs(model)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.args, self.trainer_state = args, state
        remove_ids_from_inputs(model)
        unwrapped(model).last_ids = []
        self.check_weights(model, state.global_step)
        self.attach(model)

    @torch.compiler.disable
    def see(self, model: torch.nn.Module, inputs: tuple, outputs: Any) -> None:
        step = self.trainer_state.global_step + model.training
        for name in ("loss", "logits"):
            value = outputs.get(name) if isinstance(outputs, Mapping) else None
            if value is not None and not value.detach().isfinite().all():
                where = "" if model.training else " of the evaluation"
                self.stop(f"the {name}{where}", step, model)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        self.check_gradients(model, state.global_step + 1)

    on_substep_end = on_pre_optimizer_step

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.check_weights(model, state.global_step)

    on_epoch_end = on_step_end

    def on_train_end(self, args, state, control, **kwargs):
        self.detach()

    def check_gradients(self, model: torch.nn.Module, step: int) -> None:
        gradients = [p.grad.detach() for p in model.parameters() if p.grad is not None]
        if self.args.fp16 or not gradients:
            return
        # The squares in the usual norm, which is computed eight times as fast on CPUs, can overflow.
        norms = (torch.nn.utils.get_total_norm(gradients, norm_type) for norm_type in (2, torch.inf))
        if not any(norm.isfinite() for norm in norms):
            # Clipping by the global norm makes all gradients NaN, so no weight can be named.
            self.stop("the gradient", step, model)

    def check_weights(self, model: torch.nn.Module, step: int) -> None:
        if names := non_finite(model, trainable_only=True):
            self.stop(some_of(names), step, model)

    def stop(self, what: str, step: int, model: torch.nn.Module) -> None:
        """Removes this callback's hook from the model and raises the error."""
        self.detach()
        ids = getattr(unwrapped(model), "last_ids", [])
        checkpoint = last_finite_checkpoint(Path(str(self.args.output_dir)))
        epoch = f" (epoch {self.trainer_state.epoch:.2f})" if self.trainer_state.epoch is not None else ""
        rank = f" on process {self.args.process_index}" if self.args.world_size > 1 else ""
        lines = [
            f"Training is no longer finite: at step {step}{epoch}{rank} {what} became NaN or infinite.",
            f"The batch: {some_of(ids, MAX_IDS)}." if ids else "",
            f"The last finite checkpoint is {checkpoint}." if checkpoint else "There is no finite checkpoint yet.",
            # advice, without settings that the run already has
            f"Lower `learning_rate` (it is {self.args.learning_rate:g}), or lengthen the warm-up (`warmup_steps`).",
            "" if self.args.max_grad_norm else "Clip the gradients (`max_grad_norm: 1`).",
            "Compute in bfloat16 (`bf16: true`) or float32 instead of float16." if self.args.fp16 else "",
            "If it is always the same batch, check its images, masks and texts.",
        ]
        raise TrainingDivergedError(" ".join(filter(None, lines)), step, ids, checkpoint)


def last_finite_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint whose weights are all finite; `None` without one."""
    for _, checkpoint in sorted(complete_checkpoints(folder).items(), reverse=True):
        if all(map(is_finite, checkpoint.glob("*.safetensors"))):
            return checkpoint
    return None


def is_finite(weights: Path) -> bool:
    """Whether all tensors of a file are finite; one at a time, as memory may be short."""
    with safe_open(weights, framework="pt") as file:
        return all(file.get_tensor(name).isfinite().all() for name in file.keys())  # noqa: SIM118, not iterable


def remove_ids_from_inputs(model: torch.nn.Module) -> None:
    """Registers, once per model, a hook that removes `ids` from its inputs and remembers them."""
    base = unwrapped(model)
    if not hasattr(base, "last_ids"):
        base.last_ids = []
        base.register_forward_pre_hook(remember_ids, with_kwargs=True)


@torch.compiler.disable  # it would be compiled anew for every batch's ids
def remember_ids(model: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
    """Forward pre-hook of `remove_ids_from_inputs`; a module-level function, so that the model can be pickled."""
    if IDS not in kwargs:
        return None
    model.last_ids = kwargs[IDS]
    return args, {name: value for name, value in kwargs.items() if name != IDS}
