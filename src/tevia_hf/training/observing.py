"""Callbacks that see what the model returns in training, and the two losses in the Trainer's log."""

from typing import Any

import torch
import torch.distributed
from transformers import Trainer, TrainerCallback

PARTS_OF_LOSS = ("segmentation_loss", "auxiliary_loss", "alignment_loss")


class TrainingObserver(TrainerCallback):
    """Base of callbacks that see the model's outputs in training mode, by a forward hook while a run lasts.

    A subclass defines `observe(outputs)`.
    """

    hook: Any = None

    def attach(self, model: torch.nn.Module) -> None:
        self.detach()  # a run that ended in an error left its hook behind
        self.hook = model.register_forward_hook(self.see)

    def detach(self) -> None:
        if self.hook is not None:
            self.hook.remove()
        self.hook = None

    def see(self, model: torch.nn.Module, inputs: tuple, outputs: Any) -> None:
        if model.training:
            self.observe(outputs)

    def observe(self, outputs: Any) -> None:
        raise NotImplementedError


class LossLoggingCallback(TrainingObserver):
    """Adds the parts of the training steps' loss to every record of the log that has `loss`.

    They are `segmentation_loss`, `auxiliary_loss` and `alignment_loss`, averaged as the Trainer averages `loss`: over
    the forward passes of a step and all ranks, then over the steps since the last record; so `loss` is
    `segmentation_loss` plus the config's weights times the others. A model without text has no `alignment_loss`, one
    without auxiliary heads no `auxiliary_loss`; steps whose loss is not the model's own add nothing.

    `LossLoggingCallback.add_to(trainer)` puts it before the reporters, so that TensorBoard, trackio or W&B get them;
    given as one of `Trainer(callbacks=...)` it runs after them, and serves the console and `log_history` alone.
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
        """Sums of the steps' means and, behind them, of how many there were, by loss."""
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
                state.log_history[-1][name] = logs[name]  # the Trainer's record is a copy, made before


def reduce_over_ranks(values: torch.Tensor) -> torch.Tensor:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(values)
    return values
