"""AdamW with a moving average of the weights, which is evaluated and saved in their place."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback

from ..option_checks_tevia import check_share_below_one

OTHER = "other_weights"  # in a parameter's state: the trained weights while the model holds the average, and vice versa
HOLDS_AVERAGE = "model_holds_average"  # in the first group
STEPS = "averaged_steps"  # in the first group


class AveragingAdamW(torch.optim.AdamW):
    r"""AdamW with an exponential moving average of its weights, which the model holds whenever it is not training.

    After step n (from 1) `A <- d A + (1 - d) W` with `d = min(decay, (1 + n) / (10 + n))`, so that the first, large
    steps are soon forgotten. As with schedule-free optimizers, the Trainer calls `train()` before each forward pass of
    the training, which puts W into the model, and `eval()` before an evaluation, which puts A there; `step()` ends with
    `eval()`, so that checkpoints and the trained model are A. The state holds the other of the two, so that a resumed
    run equals an uninterrupted one. The running statistics of batch norms use the same d in place of their own
    momentum, so that they match the averaged weights: a lag costs many points of Dice while the learning rate is high.

    Args:
        groups: parameter groups of `torch.optim.AdamW`.
        decay: share of the old average in a step; 0 evaluates and saves the weights themselves.
        unsaved: parameters that the model does not save; the state keeps them for a resumed run, whatever the decay.
        norms: the model's batch norms.
        passes: forward passes per step.

    Raises `ValueError` if weights in half precision would be averaged.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        decay: float = 0.0,
        unsaved: Iterable[torch.nn.Parameter] = (),
        norms: Iterable[Any] = (),
        passes: int = 1,
        **settings: Any,
    ):
        super().__init__(groups, **settings)
        self.decay, self.passes = check_share_below_one("decay", decay, example="0.98"), passes
        parameters = [p for group in self.param_groups for p in group["params"]]
        if decay and any(p.dtype in (torch.float16, torch.bfloat16) for p in parameters):
            raise ValueError(
                "`weight_average_decay` needs weights in float32: load the model in float32 and train with `--bf16 "
                "true`, which computes in half precision and keeps the weights."
            )
        self.averaged = set(parameters if decay else unsaved)
        self.norms = list(norms)
        self.restore_momenta()  # an interrupted run may have left other momenta

    def begin(self) -> None:
        """Restarts the average from the weights of the model."""
        self.param_groups[0] |= {HOLDS_AVERAGE: False, STEPS: 0}
        for values in self.state.values():
            values.pop(OTHER, None)

    def train(self) -> None:
        """Puts the trained weights into the model."""
        self.swap(to_average=False)
        for parameter, values in self.state.items():
            if parameter not in self.averaged:  # left by a resumed run that averaged more parameters
                values.pop(OTHER, None)
        decay = self.decay_at(self.param_groups[0].get(STEPS, 0) + 1) ** (1 / self.passes)
        for norm in self.norms if self.decay else ():
            vars(norm).setdefault("own_momentum", norm.momentum)
            norm.momentum = 1 - decay

    def eval(self) -> None:
        """Puts the average into the model."""
        self.swap(to_average=True)
        self.restore_momenta()

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = super().step(closure)
        self.param_groups[0][STEPS] = steps = self.param_groups[0].get(STEPS, 0) + 1
        stepped = [(p, self.state[p]) for p in self.averaged if p in self.state]
        for parameter, values in stepped:
            if OTHER not in values:
                values[OTHER] = parameter.detach().clone()
        if stepped:
            average = get_ema_multi_avg_fn(self.decay_at(steps))
            average([values[OTHER] for _, values in stepped], [p.detach() for p, _ in stepped], None)
        self.eval()
        return loss

    @torch.no_grad()
    def swap(self, to_average: bool) -> None:
        """Puts the average or the trained weights into the model, and the other into the state."""
        if self.param_groups[0].get(HOLDS_AVERAGE, False) != to_average:
            self.param_groups[0][HOLDS_AVERAGE] = to_average
            for parameter, values in self.state.items():
                if OTHER in values:
                    parameter.data, values[OTHER] = values[OTHER], parameter.data

    def decay_at(self, step: int) -> float:
        return min(self.decay, (1 + step) / (10 + step))

    def restore_momenta(self) -> None:
        for norm in self.norms:
            norm.momentum = vars(norm).pop("own_momentum", norm.momentum)


class AverageCallback(TrainerCallback):
    """Puts the average into the model also after forward passes without a step, e.g. at the end of a stream.

    A training that is not resumed starts from the weights of the model, even if the optimizer was used before.
    """

    def __init__(self, optimizer: AveragingAdamW):
        self.optimizer = optimizer

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:
            self.optimizer.begin()

    def on_step_end(self, args, state, control, **kwargs):
        self.optimizer.eval()

    on_epoch_end = on_train_end = on_step_end
