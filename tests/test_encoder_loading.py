"""Both encoders of a dual encoder such as CLIP load by its name; errors for other models suggest a supported one."""

import copy

import pytest
import test_text_families as text_families
import test_vision_families as vision_families
import torch
from contract import EncoderContract
from safetensors.torch import load_file, save_file
from tiny import WORDS, tiny_config, tiny_text_config, tiny_tokenizer, tiny_vision_config
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    ConvNextModel,
    DPRConfig,
    HieraConfig,
    SiglipConfig,
    SiglipModel,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from tevia_hf import TeViAForSegmentation, TeViAProcessor
from tevia_hf.backbone_tevia import TeViABackbone
from tevia_hf.text_encoder_tevia import TeViATextEncoder, load_text_config
from tevia_hf.vision_layout_tevia import load_vision_config, probe_layout

VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT = {**VISION, "hidden_size": 8, "vocab_size": len(WORDS), "max_position_embeddings": 64}
SPECIAL = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
PAIRS = {"clip": (CLIPConfig, CLIPModel, 32), "siglip": (SiglipConfig, SiglipModel, 16)}
IDS = torch.tensor([[2, 7, 13, 3]])
IMAGE = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
SIZES = {"decoder_channels": [8, 8, 8, 8], "max_text_length": 24}


def statistics(processor):
    return [list(processor.image_processor.image_mean), list(processor.image_processor.image_std)]


@pytest.fixture(params=PAIRS)
def pair(request, tmp_path):
    """A dual encoder, and the folder it was saved to with its tokenizer and image processor."""
    config_class, model_class, patch = PAIRS[request.param]
    config = config_class(
        vision_config={**VISION, "image_size": 64, "patch_size": patch}, text_config={**TEXT, **SPECIAL}
    )
    torch.manual_seed(0)
    model = model_class(config).eval()
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    CLIPImageProcessor(image_mean=[0.1, 0.2, 0.3], image_std=[0.4, 0.5, 0.6]).save_pretrained(tmp_path)
    return model, str(tmp_path)


def test_both_encoders_of_a_dual_encoder_load_by_its_name(pair):
    both, folder = pair
    model = TeViAForSegmentation.from_vision_text_pretrained(folder, folder, **SIZES).eval()
    with torch.no_grad():
        text = both.text_model(input_ids=IDS, attention_mask=torch.ones_like(IDS)).last_hidden_state
        tokens = both.vision_model(IMAGE).last_hidden_state
        seen = model.model.backbone.model(IMAGE).last_hidden_state
    torch.testing.assert_close(model.encode_text(IDS), text)
    torch.testing.assert_close(seen, tokens)


def test_either_encoder_of_a_dual_encoder_combines_with_another_model(pair, tmp_path):
    _, folder = pair
    ConvNextModel(tiny_vision_config()).save_pretrained(tmp_path / "convnext")
    model = TeViAForSegmentation.from_vision_text_pretrained(str(tmp_path / "convnext"), folder, **SIZES)
    assert model.config.text_config.model_type.endswith("_text_model")
    assert model(IMAGE, IDS).logits.shape == (1, 1, 64, 64)


def test_a_model_with_one_encoder_of_a_dual_encoder_saves_and_loads(pair, tmp_path):
    _, folder = pair
    model = TeViAForSegmentation.from_vision_text_pretrained(folder, folder, **SIZES).eval()
    model.save_pretrained(tmp_path / "saved")
    loaded = TeViAForSegmentation.from_pretrained(tmp_path / "saved").eval()
    assert torch.equal(loaded(IMAGE, IDS).logits, model(IMAGE, IDS).logits)


def test_the_processor_of_a_dual_encoder_has_the_settings_of_both(pair):
    _, folder = pair
    processor = TeViAProcessor.from_encoders(folder, folder, max_text_length=24)
    assert statistics(processor) == [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]
    assert processor(text="left lung").input_ids.tolist() == [tiny_tokenizer()("left lung").input_ids]


# Weights


@pytest.mark.parametrize("part", ["vision", "text"])
def test_a_checkpoint_without_the_encoders_weights_is_refused(pair, part):
    _, folder = pair
    weights = load_file(f"{folder}/model.safetensors")
    kept = {
        name: w
        for name, w in weights.items()
        if not (name.startswith(part) and name.endswith("layers.0.mlp.fc1.weight"))
    }
    assert len(kept) == len(weights) - 1
    save_file(kept, f"{folder}/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks 1 weights of a `\w+`, e.g. .*mlp.fc1.weight: they would stay random"):
        TeViAForSegmentation.from_vision_text_pretrained(folder, folder, **SIZES)


def test_a_missing_norm_that_no_map_depends_on_is_no_fault(tmp_path):
    ConvNextModel(tiny_vision_config()).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("layernorm")}
    assert len(kept) == len(weights) - 2
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    TeViAForSegmentation.from_vision_text_pretrained(str(tmp_path), **SIZES)


def rows(module, part):
    """The families' configs of one module of contract tests, by family."""
    contracts = [row for row in vars(module).values() if isinstance(row, type) and issubclass(row, EncoderContract)]
    return {getattr(row, part).model_type: getattr(row, part) for row in contracts}


WITH_HEAD = [
    *((TeViABackbone, AutoModelForImageClassification, c) for c in rows(vision_families, "backbone_config").values()),
    *((TeViATextEncoder, AutoModelForMaskedLM, c) for c in rows(text_families, "text_config").values()),
    *((TeViATextEncoder, AutoModelForCausalLM, c) for c in rows(text_families, "text_config").values()),
    *((TeViATextEncoder, AutoModelForSeq2SeqLM, c) for c in rows(text_families, "text_config").values()),
]


@pytest.mark.parametrize(
    ("encoder_class", "head_class", "config"),
    [row for row in WITH_HEAD if type(row[2]) in row[1]._model_mapping],
    ids=lambda value: value.__name__ if isinstance(value, type) else value.model_type,
)
def test_an_encoder_loads_completely_from_a_checkpoint_with_a_head(encoder_class, head_class, config, tmp_path):
    whole = head_class.from_config(copy.deepcopy(config))
    whole.save_pretrained(tmp_path)
    encoder = encoder_class(copy.deepcopy(config))
    encoder.load_pretrained(str(tmp_path))
    weights = whole.state_dict()
    for name, value in encoder.model.state_dict().items():
        assert any(n.endswith(name) and torch.equal(w, value) for n, w in weights.items()), name


# Models that are no encoders


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("bert", "`bert` takes `input_ids`, not images.*choose a convnext, swin or vit"),
        ("whisper", "`whisper` takes `input_features`, not images"),
        ("clip", "not images.*`vision_config` of a dual encoder such as CLIP"),
        ("pvt", "`pvt` returns no spatial maps.*`pvt_v2`"),
        ("yolos", "`yolos` returns no spatial maps.*1125 tokens for 32x32 patches"),
        ("vit_mae", "`vit_mae` returns no spatial maps.*50 tokens for 14x14 patches.*`vit`"),
        ("siglip2_vision_model", "no spatial maps for an image alone.*spatial_shapes.*`siglip_vision_model`"),
        ("cvt", r"`cvt` has no feature map at stride \[32\], only at \[4, 8, 16\]"),
        ("maskformer-swin", "no spatial maps.*`swin`"),
    ],
)
def test_no_vision_model_is_refused_with_one_that_is(family, message):
    with pytest.raises(ValueError, match=message):
        probe_layout(AutoConfig.for_model(family))


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("vit", "`vit` is not a text model.*bert, roberta or t5"),
        ("whisper", "`whisper` is not a text model"),
        ("clap", "not a text model.*`text_config` of a dual encoder"),
        ("siglip", "not a text model.*`text_config` of a dual encoder such as CLIP"),
        ("bart", "transformers cannot load the encoder of `bart`, an encoder-decoder, alone"),
    ],
)
def test_no_text_model_is_refused_with_one_that_is(family, message):
    with pytest.raises(ValueError, match=message):
        TeViATextEncoder(AutoConfig.for_model(family))


@pytest.mark.parametrize(
    ("config", "family", "vision", "text"),
    [
        ('{"model_cfg": {"embed_dim": 512}}', "None", "convnext", "bert"),
        (
            '{"model_type": "roberta-moe", "auto_map": {"AutoConfig": "code.Config"}}',
            "roberta-moe",
            "convnext",
            "roberta",
        ),
        ('{"model_type": "swinv3"}', "swinv3", "swin", "bert"),
    ],
    ids=["no transformers model", "remote code", "unknown"],
)
def test_a_model_that_is_none_of_transformers_is_refused_without_running_its_code(
    config, family, vision, text, tmp_path, monkeypatch
):
    monkeypatch.setattr("builtins.input", lambda *args: pytest.fail("asked whether to run code"))
    (tmp_path / "config.json").write_text(config)
    for load, choice in ((load_vision_config, vision), (load_text_config, text)):
        with pytest.raises(ValueError, match=f"no model of transformers' own .*{family}.*choose e.g. a `{choice}`"):
            load(str(tmp_path))


def test_swapped_names_are_refused(tmp_path):
    ConvNextModel(tiny_vision_config()).save_pretrained(tmp_path / "vision")
    TeViATextEncoder(tiny_text_config()).model.save_pretrained(tmp_path / "text")
    with pytest.raises(ValueError, match="`convnext` is not a text model|`bert` takes `input_ids`, not images"):
        TeViAForSegmentation.from_vision_text_pretrained(str(tmp_path / "text"), str(tmp_path / "vision"))


@pytest.mark.parametrize("family", ["resnet", "clip"])
def test_a_model_refuses_what_is_no_text_model_by_its_name(family):
    with pytest.raises(ValueError, match=f"`{family}` is not a text model"):
        TeViAForSegmentation(tiny_config(text_config=AutoConfig.for_model(family)))


def test_the_type_that_encoders_were_saved_in_is_not_the_models(tmp_path):
    ConvNextModel(tiny_vision_config()).bfloat16().save_pretrained(tmp_path / "vision")
    TeViATextEncoder(tiny_text_config()).model.bfloat16().save_pretrained(tmp_path / "text")
    joined = TeViAForSegmentation.from_vision_text_pretrained(str(tmp_path / "vision"), str(tmp_path / "text"), **SIZES)
    for model in (joined, TeViAForSegmentation(joined.config)):
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_model_is_built_and_loaded_where_gradients_are_off(mode, tmp_path):
    TeViAForSegmentation(tiny_config()).save_pretrained(tmp_path)
    with mode():
        TeViAForSegmentation(tiny_config())
        loaded = TeViAForSegmentation.from_pretrained(tmp_path).eval()
        assert loaded(IMAGE, IDS).logits.isfinite().all()


def test_a_text_model_without_hidden_states_is_refused_when_it_is_read():
    config = DPRConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
    with pytest.raises(ValueError, match="`dpr` returns no hidden state per token.*such as bert, roberta or t5"):
        TeViATextEncoder(config)(IDS)


def test_an_image_beyond_a_fixed_size_is_refused_with_that_size():
    config = HieraConfig(embed_dim=8, image_size=[64, 64], depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
    model = TeViAForSegmentation(tiny_config(backbone_config=config))
    assert model(IMAGE[..., :50], IDS).logits.shape == (1, 1, 64, 50)
    message = r"is 64x96; this `hiera` has .* at most 64x64.*'height': 64, 'width': 64.*any size, e.g. `convnext`"
    with pytest.raises(ValueError, match=message):
        model(torch.zeros(1, 3, 64, 70), IDS)


# Tokenizers and pixels


def test_texts_are_padded_on_the_right_whatever_the_tokenizer_says(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(tmp_path)
    tiny_text_config().save_pretrained(tmp_path)
    tokens = TeViAProcessor.from_encoders(tmp_path, tmp_path)(text=["left lung", "upper left lung"])
    assert tokens.attention_mask.tolist() == [[1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_a_tokenizer_without_padding_pads_with_the_end_of_text(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token, tokenizer.eos_token = None, "[SEP]"
    tokenizer.save_pretrained(tmp_path)
    tiny_text_config().save_pretrained(tmp_path)
    tokens = TeViAProcessor.from_encoders(tmp_path, tmp_path)(text=["left lung", "upper left lung"])
    assert tokens.attention_mask[0].tolist() == [1, 1, 1, 1, 0]


def test_pixels_of_a_timm_model_follow_its_config(tmp_path):
    config = '{"architecture": "resnet18", "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}'
    (tmp_path / "vision").mkdir()
    (tmp_path / "vision" / "config.json").write_text(config)
    tiny_tokenizer().save_pretrained(tmp_path / "text")
    tiny_text_config().save_pretrained(tmp_path / "text")
    processor = TeViAProcessor.from_encoders(tmp_path / "vision", tmp_path / "text")
    assert statistics(processor) == [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]


def test_pixels_of_an_encoder_that_normalises_nothing_stay_between_0_and_1(tmp_path):
    ViTModel(ViTConfig(**VISION, image_size=32)).save_pretrained(tmp_path)
    ViTImageProcessor(do_normalize=False).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert statistics(TeViAProcessor.from_encoders(tmp_path, tmp_path)) == [[0.0] * 3, [1.0] * 3]
