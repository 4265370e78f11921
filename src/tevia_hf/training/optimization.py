"""AdamW with separate learning rates for decoder and vision model, and layer-wise decay in the latter."""

import torch
from transformers import PreTrainedModel

from ..auto import TeViAForSegmentation
from ..backbone_tevia import BATCH_NORMS
from ..vision_layout_tevia import blank_images, build_on_meta, probe_size, with_hidden_states
from .adapters import unwrapped
from .arguments import TeViATrainingArguments
from .averaging import AveragingAdamW

ENCODER = "model.backbone.model."


def build_optimizer(model: TeViAForSegmentation, args: TeViATrainingArguments) -> AveragingAdamW:
    """AdamW with a separate learning rate for the vision model, and weight decay for matrices and kernels only.

    It maintains a moving average of the weights if `weight_average_decay` is set. With `layerwise_learning_rate_decay`
    d below 1, the last layer of the vision model is trained at d times its rate, the one below at d^2 times, and so on
    (as in BEiT, Bao et al. 2022). Adapters are trained at the decoder's rate.

    The update is fused, also on CPUs, unless `optim` is "adamw_torch". With `fp16` it never is: the gradient scaler
    would hide from the average which steps are skipped.
    """
    model = unwrapped(model)
    encoder, decay = model.model.backbone.model, args.layerwise_learning_rate_decay
    backbone_rate = args.learning_rate if args.backbone_learning_rate is None else args.backbone_learning_rate
    depths = layer_depths(encoder) if decay < 1 else {}
    names = (name for name, _ in encoder.named_parameters() if ".lora_" not in name)
    rates = {ENCODER + name: backbone_rate * decay ** depths.get(name, 0) for name in names}
    groups: dict[tuple[float, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            rate = rates.get(name, args.learning_rate)
            groups.setdefault((rate, parameter.ndim > 1), []).append(parameter)
    settings = [
        {"params": parameters, "lr": rate, "weight_decay": args.weight_decay if decays else 0.0}
        for (rate, decays), parameters in groups.items()
    ]
    parameters = dict(model.named_parameters())
    return AveragingAdamW(
        settings,
        args.weight_average_decay,
        unsaved=[parameters[name] for name in model._keys_to_ignore_on_save or () if name in parameters],
        norms=[module for module in model.modules() if isinstance(module, BATCH_NORMS)],
        passes=args.gradient_accumulation_steps,
        betas=(args.adam_beta1, args.adam_beta2),
        eps=args.adam_epsilon,
        fused=args.optim == "adamw_torch_fused" and not args.fp16,
    )


def layer_depths(encoder: PreTrainedModel) -> dict[str, int]:
    """The depth of each weight of a vision model, counted from its last layer, which has depth 1.

    A layer leads from one hidden state to the next: a block of a transformer, a stage of ConvNeXt or Swin, a block of
    MobileNet. Determined on the meta device: a weight belongs to the first hidden state that depends on it.
    """
    model, size = build_on_meta(encoder.config), probe_size(encoder.config)
    states = with_hidden_states(model, blank_images(model, size, size)).hidden_states
    remaining = dict(model.named_parameters())
    depths: dict[str, int] = {}
    for index, state in enumerate(states):
        if remaining and state.requires_grad:  # the first one may be the image itself
            # Of the remaining weights only, whose gradients take no pass through the layers below.
            gradients = torch.autograd.grad(state.sum(), [*remaining.values()], allow_unused=True, retain_graph=True)
            reached = [name for name, gradient in zip(remaining, gradients, strict=True) if gradient is not None]
            depths |= dict.fromkeys(reached, len(states) - index)
            remaining = {name: weight for name, weight in remaining.items() if name not in depths}
    return depths
