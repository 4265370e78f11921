"""Every family of vision models fulfils the contract, with a tiny BERT."""

from contract import EncoderContract
from transformers import (
    BeitConfig,
    BitConfig,
    CLIPVisionConfig,
    ConvNextV2Config,
    Dinov2Config,
    Dinov2WithRegistersConfig,
    DINOv3ConvNextConfig,
    DINOv3ViTConfig,
    EfficientNetConfig,
    FocalNetConfig,
    HGNetV2Config,
    HieraConfig,
    MobileNetV1Config,
    MobileNetV2Config,
    PvtV2Config,
    ResNetConfig,
    SegformerConfig,
    SiglipVisionConfig,
    SwinConfig,
    Swinv2Config,
    ViTConfig,
)

from tevia_hf.encoder_quirks_tevia import VISION_FAMILIES

WIDTHS = [8, 8, 16, 16]
ONE_EACH = [1, 1, 1, 1]
WINDOWS = {"embed_dim": 8, "depths": [1, 1, 2, 1], "num_heads": ONE_EACH}
STAGES = {"embedding_size": 8, "hidden_sizes": WIDTHS, "depths": ONE_EACH}
BLOCKS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
DINO = {name: value for name, value in BLOCKS.items() if name != "intermediate_size"}
PYRAMID = {"num_encoder_blocks": 4, "depths": ONE_EACH, "hidden_sizes": WIDTHS, "num_attention_heads": ONE_EACH}


class TestConvNext(EncoderContract):
    """The family of `tiny_vision_config`."""


class TestSwin(EncoderContract):
    backbone_config = SwinConfig(**WINDOWS, window_size=4, image_size=64)


class TestMobileNetV2(EncoderContract):
    backbone_config = MobileNetV2Config(depth_multiplier=0.1)
    sharp_strides = (4, 8, 16)


class TestHiera(EncoderContract):
    backbone_config = HieraConfig(embed_dim=8, image_size=[192, 192], depths=ONE_EACH, num_heads=ONE_EACH)
    refused_size = (64, 193)


class TestViT(EncoderContract):
    backbone_config = ViTConfig(**BLOCKS, image_size=64, patch_size=16)


class TestConvNextV2(EncoderContract):
    backbone_config = ConvNextV2Config(hidden_sizes=WIDTHS, depths=ONE_EACH)


class TestDINOv3ConvNext(EncoderContract):
    backbone_config = DINOv3ConvNextConfig(hidden_sizes=WIDTHS, depths=ONE_EACH)


class TestResNet(EncoderContract):
    backbone_config = ResNetConfig(**STAGES)


class TestBit(EncoderContract):
    backbone_config = BitConfig(**{**STAGES, "hidden_sizes": [32, 32, 64, 64]}, num_groups=4)
    lora = None


class TestSwinv2(EncoderContract):
    backbone_config = Swinv2Config(**WINDOWS, window_size=4, image_size=64)


class TestPvtV2(EncoderContract):
    backbone_config = PvtV2Config(**PYRAMID, mlp_ratios=[2, 2, 2, 2])


class TestFocalNet(EncoderContract):
    backbone_config = FocalNetConfig(embed_dim=8, depths=ONE_EACH, image_size=64)


class TestHGNetV2(EncoderContract):
    backbone_config = HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 8, 16, 16],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[8, 16, 16, 24],
        stage_num_blocks=ONE_EACH,
        stage_numb_of_layers=ONE_EACH,
    )


class TestSegformer(EncoderContract):
    backbone_config = SegformerConfig(**PYRAMID, mlp_ratios=[2, 2, 2, 2])


class TestMobileNetV1(EncoderContract):
    backbone_config = MobileNetV1Config(depth_multiplier=0.25, min_depth=8)
    sharp_strides = (4, 8, 16)


class TestEfficientNet(EncoderContract):
    backbone_config = EfficientNetConfig(width_coefficient=0.25, depth_coefficient=0.2, image_size=64, hidden_dim=320)


class TestDinov2(EncoderContract):
    backbone_config = Dinov2Config(**DINO, mlp_ratio=1, image_size=56, patch_size=14)


class TestDinov2WithRegisters(EncoderContract):
    backbone_config = Dinov2WithRegistersConfig(**DINO, mlp_ratio=1, image_size=56, patch_size=14)


class TestDINOv3ViT(EncoderContract):
    backbone_config = DINOv3ViTConfig(**BLOCKS, image_size=64, patch_size=16, num_register_tokens=4)


class TestBeit(EncoderContract):
    backbone_config = BeitConfig(**BLOCKS, image_size=64, patch_size=16, use_relative_position_bias=True)


class TestSiglipVision(EncoderContract):
    backbone_config = SiglipVisionConfig(**BLOCKS, image_size=64, patch_size=16)


class TestCLIPVisionOfFinePatches(EncoderContract):
    backbone_config = CLIPVisionConfig(**BLOCKS, image_size=64, patch_size=16)


class TestCLIPVision(EncoderContract):
    backbone_config = CLIPVisionConfig(**BLOCKS, image_size=64, patch_size=32)


def test_every_supported_family_is_under_contract():
    contracts = [test for name, test in globals().items() if name.startswith("Test")]
    assert {test.backbone_config.model_type for test in contracts} == set(VISION_FAMILIES)
