"""The two encoders behind one face each: four maps from any vision model, token features from any text model."""

import copy
import inspect

import torch
from torch import nn
from transformers import (
    MODEL_FOR_TEXT_ENCODING_MAPPING,
    MODEL_MAPPING,
    AutoConfig,
    AutoModel,
    BertConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

STRIDES = (4, 8, 16, 32)
PROBE_SIZE = 224  # where a config names no size of its own; windows of 7 at stride 32 need it
BATCH_NORM_MOMENTUM = 0.1


class TeViABackbone(nn.Module):
    """Four feature maps, fine to coarse, at strides 4, 8, 16 and 32: a vision model's last hidden state at each.

    Hidden states are the raw stage outputs, without the norm that transformers' backbone classes add (as published).
    Which of them to take, and their channels, is found by a dry run on the meta device, because configs are not
    reliable about it. Parameters that reach none of the four maps (final norms, poolers) are frozen.

    Raises `ValueError` where the model has no spatial map at one of the four strides.
    """

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        self.model = AutoModel.from_config(config)
        self.stages, self.channels, self._unused = probe_stages(config)
        self.adapt()

    def adapt(self) -> None:
        mend_batch_norm_momentum(self.model)
        self.freeze_unused()

    def freeze_unused(self) -> None:
        for name, parameter in self.model.named_parameters():
            if name in self._unused:
                parameter.requires_grad_(False)

    def load_pretrained(self, name_or_path: str, **kwargs) -> None:
        """Replaces the random weights by those of a checkpoint of the same architecture."""
        kwargs = {"dtype": torch.float32, **kwargs}
        self.model = AutoModel.from_pretrained(name_or_path, config=self.model.config, **kwargs)
        self.adapt()

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        hidden_states = spatial_hidden_states(self.model, pixel_values)
        return tuple(hidden_states[stage] for stage in self.stages)


def spatial_hidden_states(model: PreTrainedModel, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """All hidden states of a vision model as maps `(batch, channels, height, width)`."""
    outputs = model(pixel_values, output_hidden_states=True)
    hidden_states = getattr(outputs, "reshaped_hidden_states", None) or outputs.hidden_states
    return tuple(hidden_states or ())


def mend_batch_norm_momentum(model: nn.Module) -> None:
    """Makes running statistics an average over many batches again.

    MobileNetV1, MobileNetV2 and EfficientNet of transformers (5.23) hand TensorFlow's decay, 0.99 and more, to torch as
    `momentum`, where it is the share of the *newest* batch: in training they would keep the last batch's statistics.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and (module.momentum or 0) > 0.5:
            module.momentum = BATCH_NORM_MOMENTUM


def probe_stages(config: PreTrainedConfig) -> tuple[list[int], list[int], set[str]]:
    """Indices and channels of the four maps among the hidden states; names of parameters that none depends on."""
    size = probe_size(config)
    with torch.device("meta"):
        # A copy, because the call writes the dtype into the config.
        model = AutoModel.from_config(copy.deepcopy(config), dtype=torch.float32).train()
        image = torch.zeros(2, getattr(config, "num_channels", 3), size, size, dtype=torch.float32)
        maps = spatial_hidden_states(model, image)
    last = {size // m.shape[-1]: index for index, m in enumerate(maps) if m.ndim == 4}
    if missing := [stride for stride in STRIDES if stride not in last]:
        raise ValueError(
            f"`{config.model_type}` has no feature map at stride {missing}, only at {sorted(last)}; TeViA needs "
            f"{list(STRIDES)}: choose a four-stage model such as convnext, swin, resnet or mobilenet_v2."
        )
    stages = [last[stride] for stride in STRIDES]
    names, parameters = zip(*model.named_parameters(), strict=True)
    total = sum(maps[stage].sum() for stage in stages)
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    unused = {name for name, gradient in zip(names, gradients, strict=True) if gradient is None}
    return stages, [maps[stage].shape[1] for stage in stages], unused


def probe_size(config: PreTrainedConfig) -> int:
    """Side of the dry run's image: the size the model was made for (fixed in some), else 224."""
    size = getattr(config, "image_size", None)
    return size if isinstance(size, int) and size % STRIDES[-1] == 0 else PROBE_SIZE


class TeViATextEncoder(nn.Module):
    """Token features of a frozen text model: no gradients, no dropout, whatever `.train()` says."""

    def __init__(self, config: PreTrainedConfig):
        super().__init__()
        model_class = text_model_class(config)
        self.model = model_class._from_config(config, **without_pooler(model_class))
        self.requires_grad_(False)

    def load_pretrained(self, name_or_path: str, **kwargs) -> None:
        """Replaces the random weights by those of a checkpoint of the same architecture."""
        model_class = type(self.model)
        kwargs = {"dtype": torch.float32, **without_pooler(model_class), **kwargs}
        self.model = model_class.from_pretrained(name_or_path, config=self.model.config, **kwargs)
        self.requires_grad_(False)

    def train(self, mode: bool = True) -> "TeViATextEncoder":
        return super().train(False)

    @torch.no_grad()
    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> torch.Tensor:
        self.eval()
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def text_model_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The transformers class that encodes text for a config (for T5 the encoder half)."""
    for mapping in (MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING):
        if type(config) in mapping:
            return mapping[type(config)]
    raise ValueError(
        f"`{config.model_type}` is no text encoder that transformers knows: choose e.g. a bert or roberta."
    )


def without_pooler(model_class: type[PreTrainedModel]) -> dict[str, bool]:
    accepts = inspect.signature(model_class.__init__).parameters
    return {"add_pooling_layer": False} if "add_pooling_layer" in accepts else {}


def load_text_config(name_or_path: str, **kwargs) -> PreTrainedConfig:
    """The config of a text encoder; CXR-BERT's becomes that of the plain BERT it is, without its remote code."""
    values, _ = PreTrainedConfig.get_config_dict(name_or_path, **kwargs)
    if values.get("model_type") == "cxr-bert":
        dropped = ("model_type", "auto_map", "architectures", "projection_size")
        return BertConfig.from_dict({key: value for key, value in values.items() if key not in dropped})
    return AutoConfig.from_pretrained(name_or_path, **kwargs)


__all__ = ["TeViABackbone", "TeViATextEncoder", "load_text_config"]
