"""A copy of a model for inference: batch norms folded into convolutions, the head as one convolution."""

import copy
from collections import Counter
from typing import Any

import torch
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval

from .decoder_tevia import HOOKS, TeViAFusedHead
from .vision_layout_tevia import STRIDES

SIDE = 2 * STRIDES[-1]  # of the image on which modules are observed and results compared
TOLERANCE = 1e-4  # of the logits in float32, as a share of their largest value


@torch.no_grad()
def fused_for_inference(model: Any) -> Any:
    """See `TeViAForSegmentation.fuse_for_inference`."""
    if not can_be_fused(model):
        raise ValueError("Offloaded, quantized or adapted weights cannot be fused: predict with the model as it is.")
    tensors = (*model.parameters(), *model.buffers())
    fused = copy.deepcopy(model, {id(tensor): tensor for tensor in tensors if tensor.ndim != 4}).eval()
    image = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(model.device, model.dtype)
    pairs, expected = foldable_pairs(fused, image)
    for convolution, norm in pairs:
        fused.set_submodule(convolution, fuse_conv_bn_eval(*map(fused.get_submodule, (convolution, norm))))
        fused.set_submodule(norm, nn.Identity())
    fused.auxiliary_heads, fused.decode_head = None, TeViAFusedHead(fused.decode_head)
    fused = fused.to(memory_format=torch.channels_last)
    difference = (fused(image).logits - expected).abs().max() / expected.abs().max()
    if model.dtype == torch.float32 and not difference <= TOLERANCE:
        raise ValueError(
            f"The fused model's logits differ by {difference:.1e}: its encoder uses the outputs of convolutions in "
            "several places. Predict with the model as it is."
        )
    return fused


def can_be_fused(model: Any) -> bool:
    """Whether the weights of a model are in memory as they are used: not offloaded, not quantized, without adapters."""
    is_offloaded = any(hasattr(module, "_hf_hook") for module in model.modules())
    usable = all(tensor.is_floating_point() and not tensor.is_meta for tensor in model.parameters())
    head = model.decode_head
    return usable and not is_offloaded and not has_hooks(head) and getattr(head, "can_fuse", False)


def has_hooks(module: nn.Module) -> bool:
    """Whether something is called with the module, which must therefore stay."""
    return any(getattr(module, name, None) for name in HOOKS)


def foldable_pairs(model: Any, image: torch.Tensor) -> tuple[list[tuple[str, str]], torch.Tensor]:
    """The names of convolutions and of the batch norms which alone get their outputs, and the logits of the image."""
    names = {module: name for name, module in model.named_modules()}
    outputs: dict[int, nn.Module] = {}
    readers: dict[int, list[nn.Module]] = {}
    kept: list[Any] = []  # as the id of a tensor that is gone may be that of another one
    calls = Counter[nn.Module]()

    def observe(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        calls[module] += 1
        for value in inputs:
            readers.setdefault(id(value), []).append(module)
        if isinstance(module, nn.Conv2d) and type(module).forward is nn.Conv2d.forward:
            outputs[id(output)] = module
        kept.append((inputs, output))

    leaves = [module for module in names if not any(module.children())]
    hooks = [module.register_forward_hook(observe) for module in leaves]
    try:
        logits = model(image).logits
    finally:
        for hook in hooks:
            hook.remove()
    pairs = []
    for key, convolution in outputs.items():
        own = readers.get(key, [])
        is_pair = [type(module) for module in own] == [nn.BatchNorm2d]
        if is_pair and calls[convolution] == calls[own[0]] == 1 and not any(map(has_hooks, (convolution, own[0]))):
            pairs.append((names[convolution], names[own[0]]))
    return pairs, logits


class InferenceCopy:
    """The fused copy of a model, which is made anew after its weights have changed.

    Args:
        model: which is returned itself if it cannot be fused.
    """

    def __init__(self, model: Any):
        self.model = self.fused = model
        self.state: list[tuple[int, int]] = []

    def current(self) -> Any:
        if not isinstance(self.model, nn.Module):  # of another library
            return self.model
        tensors = (*self.model.parameters(), *self.model.buffers())
        state = [(tensor.data_ptr(), tensor._version) for tensor in tensors]
        if state != self.state:
            self.fused, self.state = self._made(), state
        return self.fused

    def _made(self) -> Any:
        try:
            return fused_for_inference(self.model)
        except ValueError:  # only slower
            return self.model


__all__ = ["InferenceCopy", "can_be_fused", "fused_for_inference"]
