"""The authors' Lightning checkpoints are renamed by a table, checked strictly, and read without running their code."""

import re
from pathlib import Path

import pytest
import torch
from references.reference_case import MANIFEST, lightning_shapes
from tiny import tiny_text_config, tiny_vision_config
from transformers import BertConfig, ConvNextConfig

from tevia_hf import TeViAConfig, TeViAForSegmentation, convert_lightning_checkpoint
from tevia_hf.hub.convert_lightning import FRESH_KEYS, rename_keys

NAMES = dict.fromkeys(lightning_shapes())
WITHOUT_COUNTERPART = r"(text_)?encoder\.project_head|conv[123]\.|text_encoder\.model\.pooler"
CHANNEL_OPTION = {"foreground_representation": "channel"}  # the authors' grid needs their widths


@pytest.fixture(scope="module")
def small_configs():
    """Two encoders of the manifest's depth and the tests' width."""
    vision, text = tiny_vision_config(), tiny_text_config()
    vision.depths, text.num_hidden_layers = [1, 1, 2, 1], 2
    return vision, text


@pytest.fixture(scope="module")
def authors_weights(small_configs):
    """A state dict under the authors' names, in small shapes, with something in each tensor they have beside ours."""
    vision, text = small_configs
    config = TeViAConfig.published(backbone_config=vision, text_config=text, **CHANNEL_OPTION)
    own = TeViAForSegmentation(config).state_dict()
    placeholders = {}
    for name in NAMES:
        renamed, _ = rename_keys({name: None})
        placeholders[name] = own[next(iter(renamed))] if renamed else torch.zeros(2)
    return placeholders


@pytest.fixture
def checkpoint(authors_weights):
    return {"state_dict": {f"model.{name}": tensor for name, tensor in authors_weights.items()}, "epoch": 3}


@pytest.fixture
def convert(small_configs):
    return lambda source, **options: convert_lightning_checkpoint(source, *small_configs, **CHANNEL_OPTION, **options)


def like_cxr_bert(names):
    """The same text encoder inside a masked language model with a projection head, as CXR-BERT has it."""
    inside = {name.replace("text_encoder.model.", "text_encoder.model.bert."): value for name, value in names.items()}
    heads = ("bert.embeddings.position_ids", "cls.predictions.bias", "cls.predictions.decoder.weight")
    more = (*heads, "cls_projection_head.dense_to_hidden.weight", "cls_projection_head.LayerNorm.bias")
    return inside | {f"text_encoder.model.{name}": torch.zeros(2) for name in more}


def weights_of(model):
    return {name: tensor for name, tensor in model.state_dict().items() if not FRESH_KEYS.match(name)}


def assert_same_weights(model, other):
    ours, theirs = weights_of(model), weights_of(other)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_every_name_of_the_published_network_has_its_place_and_shape():
    vision, text = ConvNextConfig(**MANIFEST["vision_config"]), BertConfig(**MANIFEST["text_config"])
    with torch.device("meta"):
        model = TeViAForSegmentation(TeViAConfig.published(backbone_config=vision, text_config=text))
    converted, dropped = rename_keys(lightning_shapes())
    assert converted == {name: tuple(tensor.shape) for name, tensor in weights_of(model).items()}
    assert sorted(dropped) == sorted(name for name in NAMES if re.match(WITHOUT_COUNTERPART, name))


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("encoder.model.encoder.stages.0.layers.0.layer_scale_parameter", "model.backbone.model.encoder.stages.0"),
        ("text_encoder.model.encoder.layer.1.output.dense.bias", "model.text_encoder.model.encoder.layer.1.output"),
        ("text_encoder.model.bert.encoder.layer.1.output.dense.bias", "model.text_encoder.model.encoder.layer.1"),
        ("decoder16.guide_layer.norm1.weight", "model.decoder.0.self_attention.norm.weight"),
        ("decoder8.guide_layer.norm2.weight", "model.decoder.1.cross_attention.norm.weight"),
        ("decoder4.guide_layer.text_project.0.weight", "model.decoder.2.text_projection.mix.weight"),
        ("decoder4.guide_layer.scale", "model.decoder.2.cross_attention.scale"),
        ("decoder16.decoder.conv_block.conv2.conv.weight", "model.decoder.0.upsampling.conv2.weight"),
        ("decoder1.conv_block.bias", "decode_head.expand.bias"),
        ("out.conv.conv.weight", "decode_head.classifier.weight"),
    ],
)
def test_names_are_translated(theirs, ours):
    converted, dropped = rename_keys({theirs: None})
    assert not dropped and next(iter(converted)).startswith(ours)


def test_cxr_bert_is_renamed_like_plain_bert_and_its_heads_are_dropped():
    plain, dropped_plain = rename_keys(NAMES)
    nested, dropped_nested = rename_keys(like_cxr_bert(NAMES))
    assert nested.keys() == plain.keys()
    heads = [name for name in dropped_nested if ".cls" in name or "position_ids" in name]
    assert len(heads) == 5 and len(dropped_nested) == len(dropped_plain) + 5


@pytest.mark.parametrize("text_encoder", ["plain BERT", "CXR-BERT"])
def test_a_lightning_file_becomes_the_network(text_encoder, authors_weights, convert, tmp_path):
    weights = authors_weights if text_encoder == "plain BERT" else like_cxr_bert(authors_weights)
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": {f"model.{name}": tensor for name, tensor in weights.items()}, "epoch": 3}, path)
    from_path, from_name = convert(path), convert(str(path))
    assert not from_path.training
    for name, tensor in rename_keys(weights)[0].items():
        assert torch.equal(from_path.state_dict()[name], tensor), name
    assert_same_weights(from_path, from_name)


def test_names_without_lightnings_prefix_are_read_as_well(authors_weights, checkpoint, convert):
    assert_same_weights(convert(dict(authors_weights)), convert(checkpoint))


def test_the_report_names_what_has_no_counterpart(checkpoint, convert):
    report = convert(checkpoint).conversion_report
    assert len(report.converted) == 209 and len(report.dropped) == 16
    assert {"model.null_text", "model.prototype_memory.active"} <= set(report.fresh)
    assert not any("decoder" in name or "backbone" in name for name in report.fresh)
    lines = str(report).splitlines()
    assert {"  - conv1.weight", "  - text_encoder.project_head.3.bias", "  - model.null_text"} <= set(lines)


def test_a_converted_network_has_the_published_settings_but_for_those_given(checkpoint, convert):
    config = convert(checkpoint, text_dropout=0.2).config
    assert config.text_projection == "token_mixing" and config.max_text_length == 24
    assert config.cross_entropy_loss_weight == 0 and config.text_dropout == 0.2


def test_a_converted_network_survives_save_and_load(checkpoint, convert, tmp_path):
    model = convert(checkpoint)
    model.save_pretrained(tmp_path)
    assert_same_weights(model, TeViAForSegmentation.from_pretrained(tmp_path))


class RunsOnLoading:
    """Pickled as a call that creates a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_checkpoint_is_refused_and_not_run(checkpoint, convert, tmp_path):
    witness, path = tmp_path / "code-ran", tmp_path / "evil.ckpt"
    torch.save({**checkpoint, "callbacks": RunsOnLoading(witness)}, path)
    with pytest.raises(ValueError, match="never executed"):
        convert(path)
    assert not witness.exists()
    torch.load(path, weights_only=False)
    assert witness.exists()  # it would have run


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_named(content, convert, tmp_path):
    path = tmp_path / "damaged.ckpt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged\.ckpt cannot be read"):
        convert(path)


def test_a_missing_file_is_named(convert, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.ckpt: give the path"):
        convert(tmp_path / "none.ckpt")


@pytest.mark.parametrize(
    "content",
    [{"state_dict": {"model.conv1.weight": torch.zeros(2)}}, {"fc.weight": torch.zeros(2)}, {}, torch.zeros(2), [1]],
    ids=["another network", "bare state dict", "empty", "a tensor", "a list"],
)
def test_a_file_that_is_not_the_authors_is_refused(content, convert, tmp_path):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="no checkpoint of the authors' TeViA network"):
        convert(tmp_path / "other.ckpt")


def test_an_unknown_tensor_is_refused(checkpoint, convert):
    checkpoint["state_dict"]["model.decoder32.weight"] = torch.zeros(2)
    with pytest.raises(ValueError, match=r"1 tensors are not of the authors' network, e.g. \['decoder32.weight'\]"):
        convert(checkpoint)


def test_a_missing_tensor_is_named(checkpoint, convert):
    del checkpoint["state_dict"]["model.decoder8.guide_layer.scale"]
    with pytest.raises(
        ValueError, match=r"Missing: \['model.decoder.1.cross_attention.scale'\] \(1\); unexpected: \[\]"
    ):
        convert(checkpoint)


def test_a_tensor_of_another_shape_is_named(checkpoint, convert):
    checkpoint["state_dict"]["model.out.conv.conv.bias"] = torch.zeros(5)
    with pytest.raises(ValueError, match=r"shape.*decode_head\.classifier\.bias.*\(1\)"):
        convert(checkpoint)


def test_deeper_encoders_than_the_checkpoints_are_refused(checkpoint, small_configs):
    vision, _ = small_configs
    text = BertConfig(**{**small_configs[1].to_dict(), "num_hidden_layers": 3})
    with pytest.raises(ValueError, match=r"does not fit.*model.text_encoder.model.encoder.layer.2"):
        convert_lightning_checkpoint(checkpoint, vision, text, **CHANNEL_OPTION)
