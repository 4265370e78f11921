"""The moving average of the trained weights, which is what is evaluated and saved."""

from collections.abc import Collection, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import torch
from transformers import TrainerCallback

from ..backbone_tevia import BATCH_NORMS
from ..option_checks_tevia import check_share_below_one
from .adapters import unwrapped

KEPT = "tevia_kept_weights"  # beside Adam's moments in the optimizer's state of a parameter
SWAPPED = "tevia_model_holds_average"  # in the optimizer's first group, and so in every checkpoint
_MOMENTA: WeakKeyDictionary[Any, float | None] = WeakKeyDictionary()  # of batch norms before a run changed them


class WeightAveragingCallback(TrainerCallback):
    r"""Evaluates, saves and ends with the exponential moving average of the trained weights.

    After optimiser step n (from 1) `A <- d A + (1 - d) W` with `d = min(decay, (1 + n) / (10 + n))`, so that the first,
    large steps are soon forgotten. While the model is evaluated or saved, and when training has ended, it holds A and
    the optimizer's state W; between these it is the other way round. So the model of a checkpoint is ready for use, its
    `optimizer.pt` holds the rest, and a resumed run equals an unbroken one. Running statistics of batch norms follow
    with the same d in place of their own momentum, so that they belong to the same steps as the weights: lagging ones
    cost many points of Dice while the learning rate is high. Prototypes are an average by themselves.

    What the model has for training alone and does not save (auxiliary heads) is kept in the optimizer's state too; from
    a checkpoint that another callback asks for when this one does not see it, such heads begin anew.

    Args:
        decay: share of the old average in a step; 0 evaluates and saves the weights as they are.

    It should be the last of a Trainer's callbacks, as it follows what the others decide about saving.

    Raises `ValueError` where weights in half precision would be averaged.
    """

    def __init__(self, decay: float = 0.0):
        self.decay = check_share_below_one("decay", decay, example="0.98")
        self.norms: list[Any] = []

    def on_train_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        check_precision(model, self.decay)
        self.norms = [module for module in model.modules() if isinstance(module, BATCH_NORMS)]
        self.restore_momenta()  # that a run which was broken off left behind
        if state.global_step == 0:
            optimizer.param_groups[0][SWAPPED] = False
            forget(optimizer)

    def followed(self, model: Any) -> Iterator[torch.nn.Parameter]:
        """The parameters that are averaged, or else those that the model does not save."""
        unsaved = unwrapped(model)._keys_to_ignore_on_save
        return (p for name, p in unwrapped(model).named_parameters() if self.decay or name in unsaved)

    @torch.no_grad()
    def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
        decay = self.decay_at(state.global_step)
        followed = set(self.followed(model))
        for parameter, values in states(optimizer):
            if parameter in followed and KEPT in values:
                values[KEPT].lerp_(parameter, 1 - decay)
            elif parameter in followed:
                values[KEPT] = parameter.detach().clone()
        self.on_epoch_end(args, state, control, optimizer=optimizer)

    def on_epoch_end(self, args, state, control, optimizer=None, **kwargs):
        is_last = control.should_training_stop or state.global_step >= state.max_steps
        if is_last or control.should_evaluate or control.should_save:
            hold(optimizer, average=True)

    def on_epoch_begin(self, args, state, control, model=None, optimizer=None, **kwargs):
        hold(optimizer, average=False)
        forget(optimizer, but=set(self.followed(model)))  # of a resumed run that averaged more

    def on_step_begin(self, args, state, control, optimizer=None, **kwargs):
        hold(optimizer, average=False)
        decay = self.decay_at(state.global_step + 1) ** (1 / args.gradient_accumulation_steps)
        for norm in self.norms if self.decay else ():
            _MOMENTA.setdefault(norm, norm.momentum)
            norm.momentum = 1 - decay

    def on_train_end(self, args, state, control, **kwargs):
        self.restore_momenta()

    def restore_momenta(self) -> None:
        for norm in self.norms:
            norm.momentum = _MOMENTA.pop(norm, norm.momentum)

    def decay_at(self, step: int) -> float:
        return min(self.decay, (1 + step) / (10 + step))


def states(optimizer: Any) -> Iterator[tuple[torch.nn.Parameter, dict]]:
    """Each parameter that was ever stepped, with the optimizer's state of it."""
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    return ((p, optimizer.state[p]) for p in parameters if p in optimizer.state)


@torch.no_grad()
def hold(optimizer: Any, average: bool) -> None:
    """Makes the model hold the average, or the weights that are trained; the other stays in the optimizer's state."""
    first = optimizer.param_groups[0]
    if first.get(SWAPPED, False) == average:
        return
    first[SWAPPED] = average
    for parameter, values in states(optimizer):
        if KEPT in values:
            before = parameter.detach().clone()
            parameter.copy_(values[KEPT])
            values[KEPT] = before


def forget(optimizer: Any, but: Collection[torch.nn.Parameter] = ()) -> None:
    for parameter, values in states(optimizer):
        if parameter not in but:
            values.pop(KEPT, None)


def check_precision(model: Any, decay: float) -> None:
    """Raises `ValueError` where a step of the average would round away."""
    if decay and any(p.requires_grad and p.dtype in (torch.float16, torch.bfloat16) for p in model.parameters()):
        raise ValueError(
            "`weight_average_decay` needs weights in float32: load the model so, and train by `--bf16 true`, which "
            "computes in half precision and keeps the weights."
        )
