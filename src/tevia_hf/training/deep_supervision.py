"""When a model has its auxiliary heads."""

from transformers import TrainerCallback

from .adapters import unwrapped


class DeepSupervisionCallback(TrainerCallback):
    """Takes the auxiliary heads away when training ends, and gives them back when it goes on.

    They are added before, by `add_auxiliary_heads`, as an optimizer and other ranks must know them.
    """

    def __init__(self) -> None:
        self.heads = None

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        unwrapped(model).auxiliary_heads = unwrapped(model).auxiliary_heads or self.heads

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self.heads, unwrapped(model).auxiliary_heads = unwrapped(model).auxiliary_heads, None
