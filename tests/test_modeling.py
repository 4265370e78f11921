"""The network with images of any size, with and without text, also in one batch."""

import copy
import dataclasses
import inspect

import pytest
import torch
import torch.nn.functional as F
from accelerate import cpu_offload
from safetensors.torch import load_file, save_file
from tiny import tiny_config, tiny_processor
from transformers import ViTConfig

from tevia_hf import TeViAForSegmentation, TeViASegmentationOutput
from tevia_hf.decoder_tevia import TeViASegmentationHead
from tevia_hf.text_projection_tevia import TEXT_PROJECTIONS, TeViATextProjection

MIXING = {"text_projection": "token_mixing", "text_token_lengths": [24, 12, 9]}
TEXTS = [
    "upper left lung",
    "bilateral pulmonary infection, two infected areas, upper left lung and lower right lung.",
]


def build(**settings):
    torch.manual_seed(0)
    return TeViAForSegmentation(tiny_config(**settings))


def with_strong_text(model):
    """The model with a large text contribution, so that its effect is measurable."""
    for block in model.model.decoder:
        torch.nn.init.constant_(block.cross_attention.scale, 0.5)
        torch.nn.init.normal_(block.text_projection.prompt)
    return model.eval()


def images(batch=2, height=64, width=64, seed=0):
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed))


def discs(batch=2, height=64, width=64):
    labels = torch.zeros(batch, height, width, dtype=torch.long)
    labels[:, height // 4 : height // 2, width // 4 : width // 2] = 1
    return labels


@pytest.fixture(scope="module")
def text():
    """Two texts of different lengths: `input_ids` and `attention_mask`, `(2, tokens)`."""
    tokens = tiny_processor()(text=TEXTS)
    assert not tokens.attention_mask[0].all() and tokens.attention_mask[1].all()
    return {"input_ids": tokens.input_ids, "attention_mask": tokens.attention_mask}


@pytest.fixture
def model(tiny_model):
    return with_strong_text(tiny_model)


def assert_same(actual, expected):
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def assert_differ(first, second):
    assert (first - second).abs().max() > 1e-3


# Images and labels


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 32), (37, 101), (64, 96), (128, 32)])
def test_logits_have_the_size_of_the_image(model, text, height, width):
    output = model(images(2, height, width), **text, labels=discs(2, height, width))
    assert output.logits.shape == (2, 1, height, width)
    assert output.loss.isfinite() and all(vector.any() for vector in output.visual_embeddings)


def test_an_image_is_padded_right_and_below_to_multiples_of_32(model, text):
    pixel_values = images(2, 40, 70)
    padded = model(F.pad(pixel_values, (0, 26, 0, 24)), **text).logits
    assert_same(model(pixel_values, **text).logits, padded[..., :40, :70])


def test_padding_is_no_foreground_of_the_labels(model, text):
    pixel_values, labels = images(2, 40, 70), discs(2, 40, 70)
    padded = model(F.pad(pixel_values, (0, 26, 0, 24)), **text, labels=F.pad(labels, (0, 26, 0, 24)))
    assert_same(model(pixel_values, **text, labels=labels).visual_embeddings, padded.visual_embeddings)


@pytest.mark.parametrize(("height", "width"), [(31, 64), (64, 16)])
def test_an_image_smaller_than_the_stride_is_refused(model, height, width):
    with pytest.raises(ValueError, match=f"{height}x{width}, smaller than.*at least 32 pixels a side"):
        model(images(1, height, width))


def test_labels_of_another_size_are_refused_with_both_sizes(model):
    with pytest.raises(ValueError, match=r"has shape \(2, 32, 64\), .*must be \(2, 64, 64\)"):
        model(images(), labels=discs(2, 32, 64))


@pytest.mark.parametrize("num_labels", [1, 3])
def test_losses_come_with_labels_only(text, num_labels):
    model = build(num_labels=num_labels, alignment_loss_weight=0.5).eval()
    output = model(images(), **text, labels=discs())
    assert output.logits.shape == (2, num_labels, 64, 64)
    assert_same(output.loss, output.segmentation_loss + 0.5 * output.alignment_loss)
    without = model(images(), **text)
    assert_same(without.logits, output.logits)
    assert not without.keys() & {"loss", "segmentation_loss", "alignment_loss", "visual_embeddings"}


@pytest.mark.parametrize("num_labels", [1, 3])
def test_labels_of_one_byte_give_the_losses_of_wider_ones(num_labels, text):
    model, labels = build(num_labels=num_labels).eval(), discs()
    labels[:, 0] = 255
    losses = [model(images(), **text, labels=labels.to(dtype)).loss for dtype in (torch.uint8, torch.long)]
    assert torch.equal(*losses)


def test_ignored_pixels_count_neither_as_mask_nor_as_foreground(model, text):
    labels, ignoring = discs(), discs()
    labels[:, 40:50], ignoring[:, 40:50] = 0, 255
    own, theirs = (model(images(), **text, labels=target) for target in (ignoring, labels))
    assert_same(own.alignment_loss, theirs.alignment_loss)
    assert_differ(own.segmentation_loss, theirs.segmentation_loss)


# Texts


@pytest.mark.parametrize("settings", [{}, MIXING], ids=["per_token", "token_mixing"])
def test_a_batch_equals_its_samples_one_by_one(settings, text):
    model = with_strong_text(build(**settings))
    together = model(images(), **text)
    for index in range(2):
        tokens = int(text["attention_mask"][index].sum())
        alone = model(images()[index : index + 1], text["input_ids"][index : index + 1, :tokens])
        assert_same(alone.logits, together.logits[index : index + 1])
        assert_same(alone.text_embeddings[0], together.text_embeddings[0][index : index + 1])


def test_the_logits_depend_on_the_text(model, text):
    swapped = {name: tensor.flip(0) for name, tensor in text.items()}
    assert_differ(model(images(), **text).logits, model(images(), **swapped).logits)


@pytest.mark.parametrize("settings", [{}, MIXING], ids=["per_token", "token_mixing"])
def test_no_text_an_empty_mask_and_a_dropped_text_are_one(settings, text):
    model = with_strong_text(build(**settings))
    without = model(images()).logits
    empty = {**text, "attention_mask": torch.zeros_like(text["attention_mask"])}
    assert_same(model(images(), **empty).logits, without)
    assert_differ(model(images(), **text).logits, without)
    model.config.text_dropout = 1.0
    assert_same(model.train()(images(), **text).logits, copy.deepcopy(model)(images()).logits)
    assert_differ(model.eval()(images(), **text).logits, without)  # dropped in training only


def test_one_of_a_batch_may_have_no_text(model, text):
    mask = text["attention_mask"] * torch.tensor([[0], [1]])
    output = model(images(), text["input_ids"], mask, labels=discs())
    assert_same(output.logits[:1], model(images()[:1]).logits)
    alone = model(images()[1:], text["input_ids"][1:], labels=discs(1))
    assert_same(output.logits[1:], alone.logits)
    assert_same(output.alignment_loss, alone.alignment_loss)


def test_the_null_text_is_aligned_to_nothing(model):
    assert not model.model(images()).has_text.any()
    assert model(images(), labels=discs()).alignment_loss == 0


def test_text_dropout_replaces_the_configured_share(model, text):
    features, share = model.encode_text(**text)[:1].expand(4000, -1, -1), 0.3
    model.config.text_dropout = share
    _, _, has_text = model.model.train().prepare_text(features, None, 4000)
    assert abs(1 - has_text.float().mean() - share) < 0.05


@pytest.mark.parametrize("settings", [{}, MIXING], ids=["per_token", "token_mixing"])
def test_text_features_replace_tokens(settings, text):
    model = with_strong_text(build(**settings))
    features = model.encode_text(**text)
    output = model(images(), text_features=features, attention_mask=text["attention_mask"])
    assert torch.equal(output.logits, model(images(), **text).logits)


def test_image_features_replace_pixels_with_any_text(model, text):
    pixels = torch.rand(2, 3, 50, 70)  # no multiples of 32
    features = model.encode_image(pixels)
    output = model(image_features=features, **text)
    assert output.logits.shape[-2:] == (50, 70) and torch.equal(output.logits, model(pixels, **text).logits)
    assert torch.equal(model(image_features=features).logits, model(pixels).logits)


def test_features_of_one_image_combine_with_several_texts(model, text):
    pixels = torch.rand(1, 3, 64, 64)
    output = model(image_features=model.encode_image(pixels), **text)
    assert_same(output.logits, model(pixels.expand(2, -1, -1, -1), **text).logits)
    assert not torch.equal(*output.logits)


def test_an_image_is_given_as_pixels_or_features(model):
    pixels = torch.rand(1, 3, 64, 64)
    for inputs in ({}, {"pixel_values": pixels, "image_features": model.encode_image(pixels)}):
        with pytest.raises(ValueError, match="Give either `pixel_values` or the `image_features`"):
            model(**inputs)


def test_padding_is_not_attended_to_per_token(model, text):
    ids = F.pad(text["input_ids"], (0, 3), value=9)
    mask = F.pad(text["attention_mask"], (0, 3))
    output, expected = model(images(), ids, mask), model(images(), **text)
    assert_same(output.logits, expected.logits)
    assert_same(output.text_embeddings[2], expected.text_embeddings[2])


class MeanToken(TeViATextProjection):
    """The mean of a text's own tokens as the one that is attended to."""

    @staticmethod
    def attended(text_features, attention_mask, has_text):
        features, padding = TeViATextProjection.attended(text_features, attention_mask, has_text)
        own = (~padding).unsqueeze(-1).to(features.dtype)
        return (features * own).sum(1, keepdim=True) / own.sum(1, keepdim=True), None


def test_a_projection_may_join_tokens_without_their_padding(text, monkeypatch):
    monkeypatch.setitem(TEXT_PROJECTIONS, "per_token", MeanToken)
    test_padding_is_not_attended_to_per_token(with_strong_text(build()), text)
    output = build().eval()(images(), **text, output_attentions=True)
    assert [weights.shape[-1] for weights in output.attentions] == [1, 1, 1]


def test_token_mixing_pads_to_its_length_by_itself(text):
    model = with_strong_text(build(**MIXING))
    missing = 24 - text["input_ids"].shape[1]
    padded = {name: F.pad(tensor, (0, missing)) for name, tensor in text.items()}
    assert missing > 0 and model.encode_text(**text).shape == (2, 24, 8)
    assert torch.equal(model(images(), **text).logits, model(images(), **padded).logits)
    assert [vector.shape[1] for vector in model(images(), **text).text_embeddings] == [16, 8, 8]


def test_too_many_tokens_are_refused_with_both_counts(model):
    with pytest.raises(ValueError, match="25 tokens, `max_text_length` is 24: truncate"):
        model(images(), torch.ones(2, 25, dtype=torch.long))


def test_a_vision_only_network_has_no_text_branch(text):
    model = build(use_text=False).eval()
    assert model.prototype_memory is None and not any("text" in name for name in model.state_dict())
    output = model(images(), **text, labels=discs())
    assert_same(output.logits, model(images()).logits)
    assert output.loss == output.segmentation_loss and output.alignment_loss is None


# Training


@pytest.mark.parametrize(
    "settings",
    [{}, MIXING, {"num_labels": 3}, {"use_text": False}, {"decoder_channels": [16, 8, 8, 4]}],
    ids=lambda settings: next(iter(settings), "defaults"),
)
def test_every_trainable_parameter_gets_a_gradient_and_no_frozen_one(settings, text):
    model = build(text_dropout=0.0, **settings).train()
    mask = text["attention_mask"] * torch.tensor([[1], [0]])
    model(images(), text["input_ids"], mask, labels=discs()).loss.backward()
    reached = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert reached == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    frozen = {name for name, _ in model.named_parameters()} - reached
    assert all("text_encoder" in name or "backbone.model.layernorm" in name for name in frozen)


def test_alignment_moves_the_text_projection_never_the_image(model, text):
    model(images(), **text, labels=discs()).alignment_loss.backward()
    moved = {n for n, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()}
    assert moved and all(".text_projection." in name for name in moved)


@pytest.mark.parametrize("training", [True, False], ids=["training", "inference"])
def test_active_prototypes_change_the_logits_in_training_and_inference_alike(model, text, training):
    model.config.text_dropout = 0.0
    model.train(training)
    before = model(images(), **text).logits
    model.prototype_memory.collect([3 * images(1, 1, width)[0, 0, 0] for width in (16, 8, 8)])
    assert torch.equal(model(images(), **text).logits, before)  # collected, not yet active
    model.prototype_memory.activate()
    assert not torch.allclose(model(images(), **text).logits, before, atol=1e-6)


def test_sub_pixels_start_equal_and_prompts_at_zero():
    model = build()
    expand, block = model.decode_head.expand.weight, model.model.decoder[0]
    groups = expand.view(8, 16, *expand.shape[1:])
    assert torch.equal(groups, groups[:, :1].expand_as(groups)) and not torch.equal(groups[0], groups[1])
    assert not block.text_projection.prompt.any() and model.model.null_text.any()
    assert block.cross_attention.scale == 1
    quiet = build(text_scale_init=0.01).model.decoder[0]
    assert quiet.cross_attention.scale == torch.tensor(0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"foreground_representation": "head_grid"},
            r"decoder widths \[768, 384, 192\], got \[16, 8, 8\]: use 'channel'",
        ),
        (
            {"cross_attention_heads": 3},
            r"\[16, 8, 8\] must be multiples of 3.*set `decoder_channels`, e.g. \[15, 6, 6, 6\]",
        ),
    ],
)
def test_widths_that_do_not_fit_are_refused_with_some_that_do(settings, message):
    with pytest.raises(ValueError, match=message):
        build(**settings)


# Outputs


def test_a_tuple_holds_the_outputs_in_their_order(model, text):
    output = model(images(), **text, labels=discs())
    values = model(images(), **text, labels=discs(), return_dict=False)
    assert isinstance(output, TeViASegmentationOutput) and isinstance(values, tuple) and len(values) == 6
    assert_same(values[0], output.loss)
    assert_same(values[3], output.logits)


@pytest.mark.parametrize("body", [True, False], ids=["body", "whole"])
def test_hidden_states_are_the_map_that_enters_the_decoder_and_those_of_its_blocks(model, text, body):
    network = model.model if body else model
    output = network(images(), **text, output_hidden_states=True)
    assert [tuple(state.shape[1:]) for state in output.hidden_states] == [(16, 2, 2), (8, 4, 4), (8, 8, 8), (8, 16, 16)]
    assert torch.equal(output.hidden_states[0], model.model.backbone(images())[-1])
    assert torch.equal(output.hidden_states[-1], model.model(images(), **text).last_hidden_state)
    some = network(images(), **text, output_hidden_states=[0, -2]).hidden_states
    assert [state is None for state in some] == [False, True, False, True]
    assert torch.equal(some[2], output.hidden_states[2])


@pytest.mark.parametrize("body", [True, False], ids=["body", "whole"])
def test_states_and_attentions_come_last_if_the_call_or_else_the_config_sets_them(model, text, body):
    network, both = model.model if body else model, {"output_hidden_states", "output_attentions"}
    assert not {"hidden_states", "attentions"} & network(images(), **text).keys()
    requested = network(images(), **text, **dict.fromkeys(both, True))
    assert list(requested)[-2:] == ["hidden_states", "attentions"]
    model.set_attn_implementation("eager")  # the library's condition for attentions by config
    for name in both:
        setattr(network.config, name, True)
    configured = network(images(), **text)
    assert list(configured) == list(requested)
    assert_same(configured.attentions, requested.attentions)
    assert not {"hidden_states", "attentions"} & network(images(), **text, **dict.fromkeys(both, False)).keys()
    values = network(images(), **text, return_dict=False)
    assert len(values) == len(requested)
    assert_same(values[-1], requested.attentions)


def test_gradients_reach_hidden_states_and_attentions(model, text):
    output = model(images(), **text, output_hidden_states=True, output_attentions=True)
    shown = [output.hidden_states[1], output.attentions[0]]
    assert all(gradient.any() for gradient in torch.autograd.grad(output.logits.sum(), shown))


def test_a_vision_only_network_returns_states_but_no_attentions():
    output = build(use_text=False).eval()(images(), output_hidden_states=True, output_attentions=True)
    assert len(output.hidden_states) == 4 and output.attentions is None


def test_predictions_of_an_evaluation_are_the_logits_alone(model):
    names = {field.name for field in dataclasses.fields(TeViASegmentationOutput)}
    assert names - {"loss", "logits"} == set(model.config.keys_to_ignore_at_inference)


def test_forward_names_every_argument(model):
    for network in (model, model.model):
        parameters = inspect.signature(network.forward).parameters.values()
        assert {"output_attentions", "output_hidden_states", "return_dict"} < {p.name for p in parameters}
        assert not any(p.kind == p.VAR_KEYWORD for p in parameters) and not network.accepts_loss_kwargs


def test_the_base_model_is_the_decoder_without_a_head(model, text):
    output = model.model(images(), **text)
    assert output.last_hidden_state.shape == (2, 8, 16, 16) and output.has_text.all()
    assert [tuple(m.shape[1:]) for m in output.guided_features] == [(16, 2, 2), (8, 4, 4), (8, 8, 8)]
    assert torch.equal(model.decode_head(output.last_hidden_state)[0], model(images(), **text).logits)


def test_decoder_channels_scale_large_backbone_maps_to_unit_variance():
    model = TeViAForSegmentation(tiny_config(decoder_channels=[16, 8, 4, 8])).train()
    lateral = model.model.laterals[0]
    maps = lateral(100 + 50 * torch.randn(4, 16, 8, 8))  # (batch, width, height, width)
    assert maps.shape == (4, 16, 8, 8)
    torch.testing.assert_close(maps.var((0, 2, 3)), torch.ones(16), atol=0.02, rtol=0)
    assert model.model.widths == [16, 8, 4, 8]
    assert model(torch.randn(2, 3, 64, 64)).logits.shape == (2, 1, 64, 64)


# What transformers does to a model


@pytest.mark.parametrize(
    ("implementation", "vision", "text"),
    [
        ("eager", "eager", "eager"),
        ({"text_config": "eager"}, "sdpa", "eager"),
        ({"backbone_config": "eager"}, "eager", "sdpa"),
    ],
)
def test_an_attention_implementation_reaches_the_encoders_it_is_set_for(implementation, vision, text, tmp_path):
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    model = build(backbone_config=ViTConfig(**sizes, image_size=64), decoder_channels=[8] * 4).eval()
    model.save_pretrained(tmp_path)
    loaded = TeViAForSegmentation.from_pretrained(tmp_path, attn_implementation=implementation).eval()
    assert loaded.model.backbone.model.config._attn_implementation == vision
    assert loaded.model.text_encoder.model.config._attn_implementation == text
    ids = torch.tensor([[2, 7, 13, 3]])
    assert_same(loaded(images(1), ids).logits, model(images(1), ids).logits)


def test_input_embeddings_are_the_text_encoders():
    model = build()
    assert model.get_input_embeddings() is model.model.text_encoder.model.embeddings.word_embeddings
    other = copy.deepcopy(model.get_input_embeddings())
    model.set_input_embeddings(other)
    assert model.get_input_embeddings() is other
    with pytest.raises(NotImplementedError):
        build(use_text=False).get_input_embeddings()


SINGLE_SCALE = ViTConfig(
    hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, image_size=64, patch_size=16
)


def test_weights_that_a_checkpoint_lacks_start_as_in_a_new_model(tmp_path):
    TeViAForSegmentation(tiny_config(backbone_config=SINGLE_SCALE, decoder_channels=[8] * 4)).save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    kept = {name: value for name, value in load_file(file).items() if ".pyramid." not in name}
    save_file(kept, file, metadata={"format": "pt"})
    loaded = TeViAForSegmentation.from_pretrained(tmp_path)
    norms = [m for m in loaded.model.backbone.pyramid.modules() if isinstance(m, torch.nn.LayerNorm)]
    assert norms and all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)


def test_offloaded_weights_give_the_same_logits():
    model = TeViAForSegmentation(tiny_config()).eval()
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    expected = model(images(), ids, ids.ne(0).long()).logits
    cpu_offload(model, execution_device="cpu")
    torch.testing.assert_close(model(images(), ids, ids.ne(0).long()).logits, expected)


@pytest.mark.parametrize("body", [True, False], ids=["body", "whole"])
def test_the_config_sets_whether_outputs_are_tuples_unless_the_call_does(body):
    whole = TeViAForSegmentation(tiny_config()).eval()
    model = whole.model if body else whole
    assert not isinstance(model(images(), return_dict=None), tuple)
    model.config.return_dict = False
    assert isinstance(model(images()), tuple) and not isinstance(model(images(), return_dict=True), tuple)


def test_a_text_encoder_that_returns_tuples_by_its_config_is_read():
    config = tiny_config()
    config.text_config.return_dict = False
    assert TeViAForSegmentation(config).encode_text(torch.tensor([[2, 5, 3]])).shape == (1, 3, 8)


def test_attentions_are_shares_of_the_tokens_that_are_no_padding(tiny_model):
    inputs = tiny_processor(64)([torch.zeros(40, 50)] * 2, ["left lung", "upper left lung and lower right lung"])
    outputs = tiny_model.eval()(**inputs, output_attentions=True)
    tokens = inputs["input_ids"].shape[1]
    assert [tuple(a.shape) for a in outputs.attentions] == [(2, 4, s * s, tokens) for s in (2, 4, 8)]
    for attention in outputs.attentions:
        torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention[..., 0]))
        assert attention[0, ..., 4:].max() == 0 and attention[1].min() > 0
    assert tiny_model(**inputs).attentions is None
    assert_same(outputs.logits, tiny_model(**inputs).logits)


def test_attention_weights_are_those_that_torch_applies(tiny_model):
    attention = tiny_model.model.decoder[0].cross_attention.attention
    query, key, value = (torch.rand(2, n, 16, generator=torch.Generator().manual_seed(n)) for n in (6, 5, 5))
    padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    found = attention(query, key, value, padding, need_weights=True)
    expected = torch.nn.MultiheadAttention.forward(
        attention, query, key, value, padding, need_weights=True, average_attn_weights=False
    )
    torch.testing.assert_close(found, expected)


VISION_ONLY = {
    "encode_text": lambda model: model.encode_text(torch.ones(1, 3, dtype=torch.long)),
    "text_parts": lambda model: model.model.text_parts,
    "prepare_text": lambda model: model.model.prepare_text(None, None, 1),
    "encoder_config": lambda model: model.config.encoder_config("text_config"),
}


@pytest.mark.parametrize("use", VISION_ONLY.values(), ids=VISION_ONLY)
def test_a_vision_only_model_refuses_text(use):
    with pytest.raises(ValueError, match="`use_text=False`.*build"):
        use(TeViAForSegmentation(tiny_config(use_text=False)))


def test_fused_logits_equal_those_of_the_head_features():
    torch.manual_seed(0)
    head = TeViASegmentationHead(tiny_config(num_labels=3), 8).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    x = torch.randn(2, 8, 5, 6, dtype=torch.double, requires_grad=True)
    (direct, nothing), (logits, features) = head(x), head(x, with_features=True)
    assert nothing is None and features.shape == (2, 8, 20, 24)
    torch.testing.assert_close(direct, logits)
    ours, theirs = (torch.autograd.grad(y.square().sum(), [x, *head.parameters()]) for y in (direct, logits))
    torch.testing.assert_close(ours, theirs)


def test_adapters_and_hooks_on_the_heads_convolutions_take_effect(tiny_model):
    head, x = tiny_model.decode_head, torch.randn(1, 8, 4, 4)
    plain = head(x)[0]
    hook = head.expand.register_forward_hook(lambda module, inputs, output: 2 * output)
    assert not torch.allclose(head(x)[0], plain)
    hook.remove()
    hook = head.classifier.register_forward_pre_hook(lambda module, inputs: (2 * inputs[0],))
    assert not torch.allclose(head(x)[0], plain)
    hook.remove()
    head.classifier = torch.nn.Sequential(head.classifier, torch.nn.Tanh())
    torch.testing.assert_close(head(x)[0], plain.tanh())
