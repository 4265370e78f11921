"""Any vision model returns four maps, any text model frozen token features, CXR-BERT without remote code."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import WORDS, tiny_config, tiny_text_config, tiny_vision_config
from transformers import (
    AutoModel,
    BeitConfig,
    BertConfig,
    BertForMaskedLM,
    BertModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2WithRegistersConfig,
    DistilBertConfig,
    FocalNetConfig,
    HieraConfig,
    MobileNetV2Config,
    ResNetConfig,
    RobertaConfig,
    SiglipVisionConfig,
    SwinConfig,
    Swinv2Config,
    T5Config,
    ViTConfig,
)

from tevia_hf import TeViAForSegmentation
from tevia_hf.backbone_tevia import TeViABackbone
from tevia_hf.text_encoder_tevia import TeViATextEncoder, load_text_config

SWIN = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]}
VISION = {
    "convnext": (ConvNextConfig(depths=[1, 2, 1, 1], hidden_sizes=[8, 12, 16, 20]), [8, 12, 16, 20]),
    "mobilenet_v2": (MobileNetV2Config(depth_multiplier=0.1), [8, 8, 16, 32]),
    "resnet": (ResNetConfig(embedding_size=8, hidden_sizes=[8, 8, 16, 32], depths=[1, 1, 1, 1]), [8, 8, 16, 32]),
    "swin": (SwinConfig(**SWIN, window_size=7), [8, 16, 32, 64]),
}
NORMALIZATION = ("normalization.weight", "normalization.bias")
SIZES = {"vocab_size": len(WORDS), "num_attention_heads": 2, "num_hidden_layers": 1}
TEXT = {
    "bert": tiny_text_config(),
    "roberta": RobertaConfig(**SIZES, hidden_size=8, intermediate_size=8, max_position_embeddings=40, pad_token_id=0),
    "distilbert": DistilBertConfig(vocab_size=len(WORDS), dim=8, n_layers=1, n_heads=2, hidden_dim=8),
    "t5": T5Config(vocab_size=len(WORDS), d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2),
}
IDS = torch.tensor([[2, 7, 13, 3], [2, 9, 3, 0]])
MASK = IDS.ne(0).long()


def trainable(module):
    return {name for name, parameter in module.named_parameters() if parameter.requires_grad}


def captured(module):
    """A list to which a hook appends the outputs of the module."""
    outputs = []
    module.register_forward_hook(lambda _, args, output: outputs.append(output))
    return outputs


@pytest.mark.parametrize(("config", "channels"), VISION.values(), ids=VISION)
def test_four_maps_at_strides_4_to_32_in_the_channels_promised(config, channels):
    backbone = TeViABackbone(config).eval()
    assert backbone.channels == channels
    with torch.no_grad():
        maps = backbone(torch.randn(2, 3, 224, 256))
    shapes = [(2, width, 224 // stride, 256 // stride) for width, stride in zip(channels, (4, 8, 16, 32), strict=True)]
    assert [tuple(m.shape) for m in maps] == shapes


def tokens_of(feature_map):
    return feature_map.flatten(2).transpose(1, 2)


@pytest.mark.parametrize(
    "config",
    [
        SwinConfig(**SWIN, window_size=4),
        Swinv2Config(**SWIN, window_size=4),
        FocalNetConfig(embed_dim=8, depths=[1, 2, 1, 1]),
    ],
    ids=lambda config: config.model_type,
)
def test_maps_of_a_stage_that_ends_in_downsampling_are_taken_before_it(config):
    backbone = TeViABackbone(config).eval()
    stages = getattr(backbone.model.encoder, "stages", None) or backbone.model.encoder.layers
    last_blocks = [captured((getattr(stage, "blocks", None) or stage.layers)[-1]) for stage in stages]
    maps = backbone(torch.randn(2, 3, 64, 96))
    for m, outputs in zip(maps, last_blocks, strict=True):
        output = outputs[0][0] if isinstance(outputs[0], tuple) else outputs[0]
        assert torch.equal(tokens_of(m), output)


@pytest.mark.parametrize("family", ["convnext", "resnet"])
def test_maps_are_the_raw_outputs_of_the_stages(family):
    backbone = TeViABackbone(VISION[family][0]).eval()
    stages = [captured(stage) for stage in backbone.model.encoder.stages]
    maps = backbone(torch.randn(1, 3, 64, 64))
    assert all(torch.equal(m, stage[0]) for m, stage in zip(maps, stages, strict=True))


def test_the_last_of_several_maps_at_a_stride_is_taken():
    backbone = TeViABackbone(VISION["mobilenet_v2"][0]).eval()
    blocks = [captured(block) for block in backbone.model.layer]
    maps = backbone(torch.randn(1, 3, 64, 64))
    widths = [block[0].shape[-1] for block in blocks]
    last = [len(widths) - 1 - widths[::-1].index(width) for width in (16, 8, 4, 2)]
    assert all(torch.equal(m, blocks[index][0]) for m, index in zip(maps, last, strict=True))


@pytest.mark.parametrize(
    ("family", "unused"),
    [
        ("convnext", {"layernorm.weight", "layernorm.bias"}),
        ("mobilenet_v2", {f"conv_1x1.{part}" for part in ("convolution.weight", *NORMALIZATION)}),
        ("resnet", set()),
    ],
)
def test_exactly_the_parameters_that_reach_no_map_are_frozen(family, unused):
    backbone = TeViABackbone(VISION[family][0])
    assert trainable(backbone.model) == {name for name, _ in backbone.model.named_parameters()} - unused
    sum(m.sum() for m in backbone(torch.randn(2, 3, 64, 64))).backward()
    reached = {name for name, parameter in backbone.model.named_parameters() if parameter.grad is not None}
    assert reached == trainable(backbone.model)


BLOCKS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("config", "prefix"),
    [
        (ViTConfig(**BLOCKS, intermediate_size=16, image_size=64), 1),
        (Dinov2WithRegistersConfig(**BLOCKS, mlp_ratio=1, image_size=56, patch_size=14, num_register_tokens=4), 5),
        (SiglipVisionConfig(**BLOCKS, intermediate_size=16, image_size=64), 0),
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)
def test_a_plain_transformers_patches_are_laid_out_as_the_image(config, prefix):
    backbone = TeViABackbone(config).eval()
    seen, shown = captured(backbone.model), []
    backbone.pyramid.register_forward_pre_hook(lambda _, args: shown.append(args[0]))
    backbone(torch.randn(2, 3, 64, 96))
    tokens = seen[0].last_hidden_state
    assert tokens.shape[1] == prefix + 4 * 6 and shown[0].shape == (2, 16, 4, 6)
    assert torch.equal(tokens_of(shown[0]), tokens[:, prefix:])


def test_positions_are_interpolated_not_cut():
    config = ViTConfig(**BLOCKS, intermediate_size=16, image_size=64)
    backbone = TeViABackbone(config).eval()
    torch.nn.init.normal_(backbone.model.embeddings.position_embeddings)
    x = torch.zeros(1, 3, 96, 64)
    expected = backbone.model(x, interpolate_pos_encoding=True).last_hidden_state
    seen = captured(backbone.model)
    backbone(x)
    assert torch.equal(seen[0].last_hidden_state, expected)


def test_the_pyramid_starts_from_the_stride_nearest_to_the_patch():
    strides = {}
    for patch in (8, 14, 16, 32):
        backbone = TeViABackbone(ViTConfig(**BLOCKS, intermediate_size=16, image_size=224, patch_size=patch))
        strides[patch] = backbone.layout.stride
        assert [m.shape[-1] for m in backbone(torch.randn(1, 3, 64, 64))] == [16, 8, 4, 2]
    assert strides == {8: 8, 14: 16, 16: 16, 32: 32}


def test_an_image_below_a_fixed_size_is_padded_to_it_and_its_maps_are_cut_back():
    config = HieraConfig(embed_dim=8, image_size=[128, 128], depths=[1, 1, 1, 1], num_heads=[1, 1, 1, 1])
    backbone = TeViABackbone(config).eval()
    x = torch.randn(2, 3, 64, 96)
    padded = backbone(torch.nn.functional.pad(x, (0, 32, 0, 64)))
    for m, whole in zip(backbone(x), padded, strict=True):
        assert torch.equal(m, whole[..., : m.shape[-2], : m.shape[-1]])
    assert [tuple(m.shape[-2:]) for m in backbone(x)] == [(16, 24), (8, 12), (4, 6), (2, 3)]


@pytest.mark.parametrize("patch", [14, 15, 30])
def test_images_are_fitted_to_a_patch_that_does_not_divide_the_size(patch):
    config = ViTConfig(**BLOCKS, intermediate_size=16, image_size=240, patch_size=patch)
    backbone = TeViABackbone(config).eval()
    layout = backbone.layout
    assert (layout.patch, layout.stride) == (patch, 16 if patch < 20 else 32)
    with torch.no_grad():
        fitted = backbone.fit(torch.randn(1, 3, 64, 96))
        assert fitted.shape[-2:] == (64 // layout.stride * patch, 96 // layout.stride * patch)
        assert [tuple(m.shape[-2:]) for m in backbone(torch.randn(1, 3, 64, 96))] == [
            (64 // stride, 96 // stride) for stride in (4, 8, 16, 32)
        ]


def test_a_frozen_backbone_stays_as_it_is_while_its_pyramid_learns():
    model = TeViAForSegmentation(tiny_config(backbone_config=VISION["mobilenet_v2"][0], decoder_channels=[8] * 4))
    model.freeze_backbone()
    before = copy.deepcopy(model.model.backbone.state_dict())
    model.train()(torch.randn(2, 3, 64, 64), IDS)  # would move batch statistics
    assert all(torch.equal(value, before[name]) for name, value in model.model.backbone.state_dict().items())
    assert not trainable(model.model.backbone) and model.model.decoder.training
    single = TeViAForSegmentation(
        tiny_config(backbone_config=ViTConfig(**BLOCKS, intermediate_size=16, image_size=64), decoder_channels=[8] * 4)
    )
    single.freeze_backbone()
    assert trainable(single.model.backbone) == {f"pyramid.{name}" for name in trainable(single.model.backbone.pyramid)}


def test_the_dry_run_leaves_no_trace_in_later_runs(tmp_path):
    config = BeitConfig(**BLOCKS, intermediate_size=16, image_size=64, use_relative_position_bias=True)
    model = TeViAForSegmentation(tiny_config(backbone_config=config, decoder_channels=[8] * 4)).eval()
    for module in model.modules():
        if hasattr(module, "relative_position_bias_table"):
            torch.nn.init.normal_(module.relative_position_bias_table)
    model.save_pretrained(tmp_path)
    loaded = TeViAForSegmentation.from_pretrained(tmp_path).eval()  # under the meta device
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(loaded(x, IDS[:1]).logits, model(x, IDS[:1]).logits)


@pytest.mark.parametrize("mode", ["built", "loaded"])
def test_batch_statistics_are_an_average_over_many_batches(mode, tmp_path):
    backbone = TeViABackbone(VISION["mobilenet_v2"][0])
    if mode == "loaded":
        backbone.model.save_pretrained(tmp_path)
        backbone.load_pretrained(tmp_path)
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms and all(0 < norm.momentum <= 0.1 for norm in norms)


@pytest.mark.parametrize("load", [TeViAForSegmentation.from_pretrained, AutoModel.from_pretrained], ids=["own", "auto"])
def test_what_is_frozen_stays_frozen_after_loading(load, tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    base = load(tmp_path).base_model
    assert not base.backbone.model.layernorm.weight.requires_grad
    assert not trainable(base.text_encoder)
    assert base.backbone.model.encoder.stages[0].layers[0].dwconv.weight.requires_grad
    assert base.null_text.requires_grad and base.decoder[0].text_projection.linear.weight.requires_grad


@pytest.mark.parametrize("config", TEXT.values(), ids=TEXT)
def test_any_text_encoder_gives_token_features(config):
    model = TeViAForSegmentation(tiny_config(text_config=config)).eval()
    features = model.encode_text(IDS, MASK)
    assert features.shape == (2, 4, 8) and not features.requires_grad
    without_text = model(torch.zeros(2, 3, 32, 32), IDS, torch.stack([MASK[0], torch.zeros(4).long()]))
    assert without_text.logits.isfinite().all()


def test_a_text_encoder_has_no_pooler_and_t5_no_decoder():
    encoder, t5 = TeViATextEncoder(TEXT["bert"]), TeViATextEncoder(TEXT["t5"])
    assert encoder.model.pooler is None
    assert type(t5.model).__name__ == "T5EncoderModel"


def test_the_text_encoder_stays_frozen_and_in_eval_whatever_train_says(tiny_model):
    encoder = tiny_model.model.text_encoder
    first, _ = tiny_model.train().encode_text(IDS, MASK), tiny_model.model.text_encoder.train()
    assert tiny_model.model.decoder.training
    assert not any(module.training for module in encoder.modules())
    assert not trainable(encoder)
    assert torch.equal(first, tiny_model.encode_text(IDS, MASK))  # dropout of 0.1 would show
    assert torch.equal(first, tiny_model.eval().encode_text(IDS, MASK))


def test_a_new_text_encoder_has_no_dropout_before_any_call_of_train_or_eval():
    config = tiny_text_config()
    config.hidden_dropout_prob = 0.5
    model = TeViAForSegmentation(tiny_config(text_config=config))
    assert torch.equal(model.encode_text(IDS, MASK), model.encode_text(IDS, MASK))


def test_a_loaded_text_encoder_is_in_eval_too(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    loaded = TeViAForSegmentation.from_pretrained(tmp_path).train()
    assert not any(module.training for module in loaded.model.text_encoder.modules())


@pytest.fixture
def vision_folder(tmp_path):
    AutoModel.from_config(tiny_vision_config()).save_pretrained(tmp_path / "vision")
    return tmp_path / "vision"


@pytest.fixture
def cxr_bert_folder(tmp_path):
    """A masked language model with a projection head and a config that refers to remote code, as CXR-BERT's files."""
    folder = tmp_path / "cxr-bert"
    BertForMaskedLM(tiny_text_config()).save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    weights["cls_projection_head.dense_to_hidden.weight"] = torch.zeros(4, 8)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    remote = {"AutoConfig": "configuration_cxrbert.CXRBertConfig", "AutoModel": "modeling_cxrbert.CXRBertModel"}
    config |= {"model_type": "cxr-bert", "auto_map": remote, "architectures": ["CXRBertModel"], "projection_size": 4}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_cxr_bert_is_the_plain_bert_it_holds_without_remote_code(vision_folder, cxr_bert_folder, tmp_path):
    model = TeViAForSegmentation.from_vision_text_pretrained(
        str(vision_folder), str(cxr_bert_folder), max_text_length=24
    )
    assert type(model.config.text_config) is BertConfig
    weights = load_file(cxr_bert_folder / "model.safetensors")
    bert = BertModel(tiny_text_config(), add_pooling_layer=False).eval()
    bert.load_state_dict({name.removeprefix("bert."): w for name, w in weights.items() if name.startswith("bert.")})
    expected = bert(IDS, MASK).last_hidden_state
    torch.testing.assert_close(model.encode_text(IDS, MASK), expected)
    model.save_pretrained(tmp_path / "tevia")
    loaded = TeViAForSegmentation.from_pretrained(tmp_path / "tevia")
    torch.testing.assert_close(loaded.encode_text(IDS, MASK), expected)


def test_cxr_berts_config_holds_nothing_of_its_remote_code(cxr_bert_folder):
    values = load_text_config(str(cxr_bert_folder)).to_dict()
    assert values["model_type"] == "bert" and values["hidden_size"] == 8
    assert not {"auto_map", "projection_size"} & values.keys()


def test_two_independently_pretrained_encoders_are_assembled_with_their_weights(vision_folder, tmp_path):
    text = AutoModel.from_config(TEXT["roberta"])
    text.save_pretrained(tmp_path / "text")
    folders = (str(vision_folder), str(tmp_path / "text"))
    model = TeViAForSegmentation.from_vision_text_pretrained(*folders, max_text_length=24, num_labels=3)
    for name, weight in load_file(vision_folder / "model.safetensors").items():
        assert torch.equal(model.model.backbone.model.state_dict()[name], weight)
    assert torch.equal(model.encode_text(IDS, MASK), text.eval()(IDS, MASK).last_hidden_state)
    assert model.config.num_labels == 3 and model.config.text_config.model_type == "roberta"
    assert not trainable(model.model.text_encoder) and not model.model.backbone.model.layernorm.weight.requires_grad


def test_without_a_text_encoder_the_vision_only_network_is_assembled(vision_folder):
    model = TeViAForSegmentation.from_vision_text_pretrained(str(vision_folder))
    assert model.config.use_text is False and model.model.text_encoder is None
    assert torch.equal(
        model.model.backbone.model.state_dict()["embeddings.patch_embeddings.weight"],
        load_file(vision_folder / "model.safetensors")["embeddings.patch_embeddings.weight"],
    )


def test_encoders_saved_in_half_precision_are_joined_in_single(tmp_path):
    ConvNextModel(tiny_vision_config()).to(torch.bfloat16).save_pretrained(tmp_path / "vision")
    BertModel(tiny_text_config()).to(torch.bfloat16).save_pretrained(tmp_path / "text")
    model = TeViAForSegmentation.from_vision_text_pretrained(
        str(tmp_path / "vision"), str(tmp_path / "text"), max_text_length=24
    )
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model(torch.randn(1, 3, 32, 32)).logits.dtype == torch.float32
