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
# Of the logits, as a share of their largest value; in float32 rounding alone gives 2e-4 on some processors.
TOLERANCES = {torch.float32: 1e-3, torch.float64: 1e-4}
HALF_TOLERANCE = 0.05  # in other types, where rounding alone gives a few percent


@torch.no_grad()
def fused_for_inference(model: Any) -> Any:
    """See `TeViAForSegmentation.fuse_for_inference`."""
    if model.is_fused:
        return model
    if reason := why_not_fused(model):
        raise ValueError(f"The model cannot be fused, as {reason}: predict with the model as it is.")
    fused = copy.deepcopy(model, sharing_storage(model)).eval()
    image = torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).to(model.device, model.dtype)
    with torch.autocast(model.device.type, enabled=False):
        pairs, expected = foldable_pairs(fused, image)
        for convolution, norm in pairs:
            exact = torch.float64 if model.dtype == torch.float64 else torch.float32  # also of half precision
            folded = fuse_conv_bn_eval(*(fused.get_submodule(name).to(exact) for name in (convolution, norm)))
            fused.set_submodule(convolution, folded.to(model.dtype, memory_format=torch.channels_last))
            fused.set_submodule(norm, nn.Identity())
        fused.auxiliary_heads, fused.decode_head = None, TeViAFusedHead(fused.decode_head)
        difference = (fused(image).logits - expected).abs().max() / expected.abs().max()
    if not difference <= TOLERANCES.get(model.dtype, HALF_TOLERANCE):
        raise ValueError(
            f"The fused model's logits differ by {difference:.1e}: its encoder uses the outputs of convolutions in "
            "several places. Predict with the model as it is."
        )
    return fused


def sharing_storage(model: nn.Module) -> dict[int, torch.Tensor]:
    """For `deepcopy`: tensors of their own, so that the copy can be moved, on the storage of the model's."""
    memo: dict[int, torch.Tensor] = {id(tensor): tensor.detach() for tensor in model.buffers()}
    return memo | {id(tensor): nn.Parameter(tensor.detach(), False) for tensor in model.parameters()}


def why_not_fused(model: Any) -> str | None:
    """Why the modules of a model do more than to compute with their own weights; `None` if they do not."""
    modules = list(model.modules())
    reasons = {
        "weights are offloaded": any(hasattr(module, "_hf_hook") for module in modules),
        "weights are quantized or not loaded": not all(
            x.is_floating_point() and not x.is_meta for x in model.parameters()
        ),
        "it has adapters": any(type(module).__module__.startswith("peft.") for module in modules),
        "it has hooks": any(map(has_hooks, modules)),
        "its head is another one": not getattr(model.decode_head, "can_fuse", False),
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def has_hooks(module: nn.Module) -> bool:
    """Whether something is called with the module, other than what transformers does."""
    # All but the last of HOOKS, accelerate's, are dictionaries.
    hooks = [hook for name in HOOKS[:-1] for hook in (getattr(module, name, None) or {}).values()]
    return any(not (getattr(hook, "__module__", None) or "").startswith("transformers.") for hook in hooks)


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
        if [type(module) for module in own] == [nn.BatchNorm2d] and calls[convolution] == calls[own[0]] == 1:
            pairs.append((names[convolution], names[own[0]]))
    return pairs, logits


def fused_if_possible(model: Any) -> Any:
    """The fused copy of a model, or the model itself, which is only slower."""
    try:
        return model.fuse_for_inference()
    except Exception:  # whatever a module does that cannot be copied or takes no small image
        return model


__all__ = ["fused_for_inference", "fused_if_possible"]
