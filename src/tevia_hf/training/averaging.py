"""AdamW that keeps the moving average of the weights, which is what is evaluated and saved."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.optim.swa_utils import get_ema_multi_avg_fn
from transformers import TrainerCallback

from ..option_checks_tevia import check_share_below_one

OTHER = "other_weights"  # in the state of a parameter: the trained weights while the model holds the average, or it
IS_LENT = "model_holds_average"  # in the first group, as is
STEPS = "averaged_steps"


class AveragingAdamW(torch.optim.AdamW):
    r"""AdamW with an exponential moving average of its weights, which the model holds whenever it does not train.

    After step n (from 1) `A <- d A + (1 - d) W` with `d = min(decay, (1 + n) / (10 + n))`, so that the first, large
    steps are soon forgotten. As with schedule-free optimizers, the Trainer calls `train()` before each forward pass of
    the training, which puts W into the model, and `eval()` before an evaluation, which puts A there; `step()` ends by
    `eval()`, so that whatever is saved, and the trained model, is A. The state holds the other of the two: a resumed
    run equals an unbroken one. Running statistics of batch norms follow with the same d in place of their own momentum,
    so that they belong to the same steps as the weights: lagging ones cost many points of Dice while the learning rate
    is high.

    Args:
        groups: of parameters, as `torch.optim.AdamW` takes them.
        decay: share of the old average in a step; 0 evaluates and saves the weights as they are.
        unsaved: parameters that the model does not save, kept here for a resumed run whatever the decay.
        norms: the model's batch norms.
        passes: forward passes in a step.

    Raises `ValueError` where weights in half precision would be averaged.
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
                "`weight_average_decay` needs weights in float32: load the model so, and train by `--bf16 true`, which "
                "computes in half precision and keeps the weights."
            )
        self.averaged = set(parameters if decay else unsaved)
        self.norms = list(norms)
        self.restore_momenta()  # that a run which was broken off left behind

    def begin(self) -> None:
        """Starts anew from what the model holds."""
        self.param_groups[0] |= {IS_LENT: False, STEPS: 0}
        for values in self.state.values():
            values.pop(OTHER, None)

    def train(self) -> None:
        """Puts the trained weights into the model."""
        self.lend(average=False)
        for parameter, values in self.state.items():
            if parameter not in self.averaged:  # of a resumed run that averaged more
                values.pop(OTHER, None)
        decay = self.decay_at(self.param_groups[0].get(STEPS, 0) + 1) ** (1 / self.passes)
        for norm in self.norms if self.decay else ():
            vars(norm).setdefault("own_momentum", norm.momentum)
            norm.momentum = 1 - decay

    def eval(self) -> None:
        """Puts the average into the model."""
        self.lend(average=True)
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
    def lend(self, average: bool) -> None:
        """Makes the model hold the average, or the weights that are trained, and the state the other."""
        if self.param_groups[0].get(IS_LENT, False) != average:
            self.param_groups[0][IS_LENT] = average
            for parameter, values in self.state.items():
                if OTHER in values:
                    parameter.data, values[OTHER] = values[OTHER], parameter.data

    def decay_at(self, step: int) -> float:
        return min(self.decay, (1 + step) / (10 + step))

    def restore_momenta(self) -> None:
        for norm in self.norms:
            norm.momentum = vars(norm).pop("own_momentum", norm.momentum)


class AverageCallback(TrainerCallback):
    """Makes the model hold the average also after forward passes without a step, e.g. at the end of a stream.

    A training that is not resumed begins with what the model holds, also where the optimizer was used before.
    """

    def __init__(self, optimizer: AveragingAdamW):
        self.optimizer = optimizer

    def on_train_begin(self, args, state, control, **kwargs):
        if state.global_step == 0:
            self.optimizer.begin()

    def on_step_end(self, args, state, control, **kwargs):
        self.optimizer.eval()

    on_epoch_end = on_train_end = on_step_end
