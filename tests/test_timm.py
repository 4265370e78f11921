"""timm's models come in through transformers' own class for them; `make test-timm` runs this file."""

import json
from importlib.util import find_spec

import pytest

if find_spec("timm") is None:
    pytest.skip("timm is not in this environment: type `make test-timm`", allow_module_level=True)

import timm_shim  # noqa: F401, I001  # before anything that imports torchvision
import timm
import torch
from contract import EncoderContract
from safetensors.torch import save_file
from tiny import tiny_text_config, tiny_tokenizer
from transformers import BertModel, TimmWrapperConfig

from tevia_hf import TeViAForSegmentation, TeViAProcessor
from tevia_hf.vision_layout_tevia import probe_layout


class TestTimmResNet(EncoderContract):
    backbone_config = TimmWrapperConfig(architecture="resnet10t")


class TestTimmMambaOut(EncoderContract):
    """Its own maps are channels-last."""

    backbone_config = TimmWrapperConfig(architecture="test_mambaout")


class TestTimmViT(EncoderContract):
    """Takes any size where it is told to."""

    backbone_config = TimmWrapperConfig(architecture="test_vit", model_args={"dynamic_img_size": True, "img_size": 160})


class TestTimmViTOfOneSize(EncoderContract):
    backbone_config = TimmWrapperConfig(
        architecture="test_vit", model_args={"dynamic_img_size": False, "img_size": 192}, image_size=192
    )
    refused_size = (64, 193)


@pytest.fixture
def hub_folder(tmp_path):
    """A model as timm's own repositories on the Hub hold it."""
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", num_classes=3)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    statistics = {"input_size": [3, 176, 176], "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    config = {"architecture": "resnet10t", "num_classes": 3, "pretrained_cfg": statistics}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return model.eval(), tmp_path


def test_a_timm_repository_is_a_vision_model(hub_folder, tmp_path):
    source, folder = hub_folder
    BertModel(tiny_text_config()).save_pretrained(tmp_path / "text")
    tiny_tokenizer().save_pretrained(tmp_path / "text")
    model = TeViAForSegmentation.from_vision_text_pretrained(str(folder), str(tmp_path / "text"), max_text_length=24)
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = source.forward_intermediates(x, intermediates_only=True)[1:]
        maps = model.eval().model.backbone(x)
    assert all(torch.equal(m, e) for m, e in zip(maps, expected, strict=True))
    pixels = TeViAProcessor.from_encoders(str(folder), str(tmp_path / "text")).image_processor
    assert (list(pixels.image_mean), list(pixels.image_std)) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6])


def test_a_vit_of_one_size_is_probed_at_that_size():
    config = TimmWrapperConfig(architecture="vit_tiny_patch16_384", pretrained_cfg={"input_size": [3, 384, 384]})
    layout = probe_layout(config)
    assert (layout.min_size, layout.max_size) == (384, 384)


def test_patches_of_14_and_one_size_go_together():
    config = TimmWrapperConfig(architecture="eva02_tiny_patch14_224")
    model = TeViAForSegmentation.config_class(
        backbone_config=config, text_config=tiny_text_config(), decoder_channels=[8] * 4, max_text_length=24
    )
    logits = TeViAForSegmentation(model).eval()(torch.randn(1, 3, 200, 250)).logits
    assert logits.shape == (1, 1, 200, 250)
