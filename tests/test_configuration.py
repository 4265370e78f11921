"""A TeViA configuration says what is built, refuses what cannot be, and comes back from disk as it was."""

import json
from typing import get_args

import pytest
from huggingface_hub.errors import StrictDataclassError
from tiny import tiny_config, tiny_text_config, tiny_vision_config
from transformers import AutoConfig, BertConfig, ConvNextConfig

import tevia_hf.auto  # noqa: F401  # imported for its registration
from tevia_hf import TeViAConfig
from tevia_hf.alignment_tevia import FOREGROUNDS
from tevia_hf.configuration_tevia import longest_text
from tevia_hf.text_projection_tevia import TEXT_PROJECTIONS

WHERE_IT_WAS_READ = "_name_or_path"


def values_of(config):
    return {name: value for name, value in config.to_dict().items() if name != WHERE_IT_WAS_READ}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_labels": 2},
        {"num_labels": 3},
        {"id2label": {0: "background", 1: "consolidation", 2: "effusion"}},
        {"use_text": False},
        {"text_projection": "token_mixing", "text_token_lengths": [24, 12, 9]},
        {"decoder_channels": [32, 16, 8, 4], "text_dropout": 0, "alignment_loss_weight": 1},
    ],
    ids=lambda settings: ",".join(settings) or "defaults",
)
def test_a_config_comes_back_from_disk_as_it_was(settings, tmp_path):
    config = tiny_config(**settings)
    config.save_pretrained(tmp_path)
    for loaded in (TeViAConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is TeViAConfig
        assert values_of(loaded) == values_of(config)
        assert loaded.num_labels == config.num_labels and loaded.id2label == config.id2label


@pytest.mark.parametrize(("settings", "labels"), [({}, 1), ({"num_labels": 3}, 3), ({"id2label": {0: "a", 1: "b"}}, 2)])
def test_one_label_is_the_default(settings, labels):
    assert tiny_config(**settings).num_labels == labels


def test_the_encoders_default_to_convnext_and_bert():
    config = TeViAConfig()
    assert type(config.backbone_config) is ConvNextConfig and type(config.text_config) is BertConfig
    assert config.max_text_length == 64 and config.text_projection == "per_token"
    assert config.foreground_representation == "channel" and config.text_dropout == 0.1


@pytest.mark.parametrize(
    ("field", "variants"), [("text_projection", TEXT_PROJECTIONS), ("foreground_representation", FOREGROUNDS)]
)
def test_a_choice_names_the_variants_that_there_are(field, variants):
    assert get_args(TeViAConfig.__annotations__[field]) == tuple(variants)


def test_published_sets_what_the_authors_had():
    config = TeViAConfig.published()
    published = {
        "max_text_length": 24,
        "text_projection": "token_mixing",
        "text_token_lengths": [24, 12, 9],
        "text_scale_init": 0.01,
        "text_dropout": 0.0,
        "foreground_representation": "head_grid",
        "alignment_loss_weight": 0.1,
        "cross_entropy_loss_weight": 0.0,
        "prototype_momentum": 0.99,
        "cross_attention_heads": 4,
        "head_channels": 24,
        "decoder_channels": None,
        "num_labels": 1,
        "use_text": True,
    }
    assert {name: getattr(config, name) for name in published} == published
    assert list(config.backbone_config.hidden_sizes) == [96, 192, 384, 768]
    assert config.text_config.hidden_size == 768


def test_published_values_can_be_overridden_one_by_one():
    config = TeViAConfig.published(text_dropout=0.3, backbone_config=tiny_vision_config(), num_labels=2)
    assert config.text_dropout == 0.3 and config.num_labels == 2
    assert config.backbone_config.hidden_sizes == [8, 8, 8, 16]
    assert config.text_projection == "token_mixing"


@pytest.mark.parametrize("text_config", [None, {"model_type": "bert"}, tiny_text_config()])
def test_without_text_there_is_no_text_config(text_config, tmp_path):
    config = tiny_config(use_text=False, text_config=text_config)
    assert config.text_config is None
    config.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["text_config"] is None
    loaded = TeViAConfig.from_pretrained(tmp_path)
    assert loaded.text_config is None and loaded.use_text is False


def test_encoders_may_be_given_as_dicts():
    given = tiny_config(
        backbone_config={"model_type": "resnet", "hidden_sizes": [8, 8, 16, 32]},
        text_config={"model_type": "roberta", "hidden_size": 8},
    )
    assert given.backbone_config.model_type == "resnet" and given.backbone_config.hidden_sizes == [8, 8, 16, 32]
    assert given.text_config.model_type == "roberta" and given.text_config.hidden_size == 8


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text_projection": "token_mixing"}, r"three `text_token_lengths`, got None: give e.g. \[24, 12, 9\]"),
        ({"text_projection": "token_mixing", "text_token_lengths": [24]}, r"three `text_token_lengths`, got \[24\]"),
        ({"decoder_channels": [8, 8]}, r"four widths \(strides 32, 16, 8, 4\), got \[8, 8\]"),
        ({"text_dropout": 1.5}, "`text_dropout` is 1.5: give a number from 0 to 1, e.g. 0.1"),
        ({"prototype_momentum": -0.1}, "`prototype_momentum` is -0.1: give a number from 0 to 1"),
        ({"prototype_momentum": float("nan")}, "`prototype_momentum` is nan: give a number from 0 to 1, e.g. 0.99"),
        ({"alignment_loss_weight": -1.0}, "`alignment_loss_weight` is -1.0: give a number from 0 on"),
        ({"boundary_loss_weight": float("inf")}, "`boundary_loss_weight` is inf: give a number from 0 on"),
        ({"text_scale_init": float("nan")}, "`text_scale_init` is nan: give a finite number"),
        ({"head_channels": 0}, "`head_channels` is 0: give a whole number from 1 on"),
        ({"cross_attention_heads": -4}, "`cross_attention_heads` is -4: give a whole number"),
        ({"decoder_channels": [8, 8, 0, 8]}, "`decoder_channels` is 0: give a whole number"),
        ({"max_text_length": 0}, "`max_text_length` is 0: give a whole number"),
        ({"max_text_length": 33}, "`max_text_length=33` exceeds the 32 positions of the text encoder: lower it"),
        ({"text_projection": "per_word"}, "'per_token', 'token_mixing'.*got per_word"),
        ({"foreground_representation": "pixel"}, "'channel', 'head_grid'.*got pixel"),
    ],
)
def test_an_impossible_setting_is_refused_with_what_to_do(settings, message):
    with pytest.raises(StrictDataclassError, match=message):
        tiny_config(**settings)


@pytest.mark.parametrize(
    "settings",
    [{"head_channels": 8.0}, {"use_text": "no"}, {"text_dropout": "0.1"}, {"max_text_length": None}],
    ids=lambda settings: next(iter(settings)),
)
def test_a_value_of_another_type_is_refused_by_name(settings):
    with pytest.raises(StrictDataclassError, match=next(iter(settings))):
        tiny_config(**settings)


def test_a_value_of_another_type_is_refused_later_too():
    config = tiny_config()
    with pytest.raises(StrictDataclassError, match="head_channels"):
        config.head_channels = "many"


def test_an_impossible_setting_is_not_written(tmp_path):
    config = tiny_config()
    config.text_dropout = 2.0
    with pytest.raises(StrictDataclassError, match="text_dropout"):
        config.save_pretrained(tmp_path)


def test_what_inference_leaves_out_is_no_entry_of_the_file(tmp_path):
    tiny_config().save_pretrained(tmp_path)
    assert "keys_to_ignore_at_inference" not in json.loads((tmp_path / "config.json").read_text())


def test_a_robertas_positions_for_padding_are_not_for_text():
    roberta = {"model_type": "roberta", "hidden_size": 8, "num_attention_heads": 2, "max_position_embeddings": 26}
    assert TeViAConfig(text_config=roberta, max_text_length=24).text_config.pad_token_id == 1
    with pytest.raises(StrictDataclassError, match="`max_text_length=25` exceeds the 24 positions"):
        TeViAConfig(text_config=roberta, max_text_length=25)


@pytest.mark.parametrize(
    ("values", "longest"),
    [
        ({"model_type": "xlnet"}, None),
        ({"model_type": "roberta", "max_position_embeddings": 26, "pad_token_id": None}, 25),
        ({"model_type": "roberta-prelayernorm", "max_position_embeddings": 26}, 24),
        ({"model_type": "data2vec-text", "max_position_embeddings": 26}, 24),
        ({"model_type": "xmod", "max_position_embeddings": 26}, 24),
    ],
    ids=lambda values: values["model_type"] if isinstance(values, dict) else "",
)
def test_the_longest_text_of_each_way_to_count_positions(values, longest):
    assert longest_text(AutoConfig.for_model(**values)) == longest
