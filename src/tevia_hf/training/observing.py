"""Callbacks that observe the model's outputs in training, and logging of the parts of the loss."""

from typing import Any

import torch
import torch.distributed
from transformers import Trainer, TrainerCallback

PARTS_OF_LOSS = ("segmentation_loss", "auxiliary_loss", "alignment_loss")


class TrainingObserver(TrainerCallback):
    """Base of callbacks that observe the model's outputs in training mode, by a forward hook during a run.

    Subclasses implement `observe(outputs)`. Of a compiled model the hook stays outside of the compiled graph.
    """

    hook: Any = None

    def attach(self, model: torch.nn.Module) -> None:
        self.detach()  # a run that failed may have left its hook
        self.hook = model.register_forward_hook(self.see)

    def detach(self) -> None:
        if self.hook is not None:
            self.hook.remove()
        self.hook = None

    @torch.compiler.disable
    def see(self, model: torch.nn.Module, inputs: tuple, outputs: Any) -> None:
        if model.training:
            self.observe(outputs)

    def observe(self, outputs: Any) -> None:
        """Sees the outputs of a forward pass in training; of subclasses."""
        raise NotImplementedError


class LossLoggingCallback(TrainingObserver):
    """Adds the parts of the training loss to every log record that has `loss`.

    These are `segmentation_loss`, `auxiliary_loss` and `alignment_loss`, averaged as the Trainer averages `loss`: over
    the forward passes of a step and all ranks, then over the steps since the last record. `loss` is therefore
    `segmentation_loss` plus the others times the config's weights. A model without text has no `alignment_loss`, one
    without auxiliary heads no `auxiliary_loss`; steps with a custom loss are ignored.

    `LossLoggingCallback.add_to(trainer)` inserts it before the reporters, so that TensorBoard, trackio or W&B receive
    the parts; in `Trainer(callbacks=...)` it runs after them and affects the console and `log_history` only.
    """

    def __init__(self) -> None:
        self.reset_step()
        self.reset_window()

    @classmethod
    def add_to(cls, trainer: Trainer) -> None:
        trainer.callback_handler.callbacks.insert(0, cls())

    def reset_step(self) -> None:
        self.step: dict[str, list[torch.Tensor]] = {name: [] for name in PARTS_OF_LOSS}

    def reset_window(self) -> None:
        """Resets the (sum of step means, number of steps) of each loss."""
        self.window = dict.fromkeys(self.step, torch.zeros(2))

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.reset_step()
        self.reset_window()
        self.attach(model)

    def on_train_end(self, args, state, control, **kwargs):
        self.detach()

    def observe(self, outputs) -> None:
        for name, losses in self.step.items():
            if (loss := getattr(outputs, name, None)) is not None:
                losses.append(loss.detach().float().reshape(()))

    def on_step_end(self, args, state, control, **kwargs):
        for name, losses in self.step.items():
            if losses:
                mean = torch.stack([loss.to(losses[0].device) for loss in losses]).mean()
                self.window[name] = self.window[name].to(mean.device) + torch.stack([mean, torch.ones_like(mean)])
        self.reset_step()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" not in (logs or {}):
            return
        sums = torch.stack([self.window[name].to(args.device) for name in self.step])  # (losses, 2)
        self.reset_window()
        for name, (total, steps) in zip(self.step, reduce_over_ranks(sums).tolist(), strict=True):
            if steps:
                logs[name] = total / steps
                state.log_history[-1][name] = logs[name]  # the Trainer copied the record earlier


def reduce_over_ranks(values: torch.Tensor) -> torch.Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values
