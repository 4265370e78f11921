"""The contract of a model with any encoders: a family inherits `EncoderContract` and sets its config."""

import copy

import pytest
import torch
from tiny import WORDS, tiny_text_config, tiny_vision_config

from tevia_hf import TeViAConfig, TeViAForSegmentation
from tevia_hf.training.adapters import with_lora
from tevia_hf.training.optimization import layer_depths
from tevia_hf.vision_layout_tevia import STRIDES

SIZES = ((64, 64), (50, 70), (97, 131))
MAX_TOKENS = 24


def images(height: int, width: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def texts(tokens: int, batch: int = 2) -> torch.Tensor:
    """Random token ids between special ones, `(batch, tokens)`."""
    ids = torch.randint(5, len(WORDS), (batch, tokens), generator=torch.Generator().manual_seed(tokens))
    ids[:, 0], ids[:, -1] = 2, 3
    return ids


def squares(height: int, width: int, batch: int = 2) -> torch.Tensor:
    labels = torch.zeros(batch, height, width, dtype=torch.long)
    labels[:, height // 4 : height // 2, width // 4 : width // 2] = 1
    return labels


def build(backbone_config, text_config) -> TeViAForSegmentation:
    """A model with a narrow decoder in which text and prototypes have a large effect on the logits."""
    torch.manual_seed(0)
    config = TeViAConfig(
        backbone_config=copy.deepcopy(backbone_config),
        text_config=copy.deepcopy(text_config),
        decoder_channels=[8, 8, 8, 8],
        head_channels=8,
        max_text_length=MAX_TOKENS,
    )
    model = TeViAForSegmentation(config)
    for block in model.model.decoder:
        torch.nn.init.normal_(block.text_projection.prompt)
    settle_batch_statistics(model)
    model.prototype_memory.assign([torch.rand(8, generator=torch.Generator().manual_seed(s)) for s in range(3)])
    return model.eval()


@torch.no_grad()
def settle_batch_statistics(model: TeViAForSegmentation) -> None:
    """Sets the statistics of batch norms from a batch; without this some random maps vanish."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()(images(128, 192), texts(6))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


class VisionPart(torch.nn.Module):
    def __init__(self, model: TeViAForSegmentation):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        return self.model.encode_image(pixel_values).maps


class TextPart(VisionPart):
    def forward(self, input_ids, attention_mask):
        return self.model.encode_text(input_ids, attention_mask)


class EncoderContract:
    """Inherit, and set `backbone_config` or `text_config`.

    `refused_size` is set for families of one size; `sharp_strides` excludes the strides at which every position depends
    on the whole image; `lora` is None if the family has no layer that can be adapted.
    """

    backbone_config = tiny_vision_config()
    text_config = tiny_text_config()
    refused_size = None
    sharp_strides = STRIDES
    lora: dict | None = {"r": 2}

    @pytest.fixture(scope="class")
    def built(self):
        return build(self.backbone_config, self.text_config)

    @pytest.fixture
    def model(self, built):
        return copy.deepcopy(built)

    @pytest.mark.parametrize(("height", "width"), SIZES)
    def test_logits_have_the_size_of_the_image(self, built, height, width):
        with torch.no_grad():
            logits = built(images(height, width), texts(6)).logits
        assert logits.shape == (2, 1, height, width)
        assert logits.isfinite().all() and logits[0].std() > 0

    def test_a_size_beyond_a_fixed_one_is_refused(self, built):
        if self.refused_size is None:
            pytest.skip("takes any size")
        family, side = self.backbone_config.model_type, built.model.backbone.layout.max_size
        with pytest.raises(
            ValueError, match=f"`{family}` has .* at most {side}x{side}. Resize it .* of any size, e.g. `"
        ):
            built(images(*self.refused_size), texts(6))

    def test_maps_have_the_four_strides_and_the_declared_channels(self, built):
        with torch.no_grad():
            maps = built.model.backbone(images(64, 96))
        expected = [(2, c, 64 // s, 96 // s) for c, s in zip(built.model.backbone.channels, STRIDES, strict=True)]
        assert [tuple(m.shape) for m in maps] == expected

    def test_a_change_in_the_image_changes_the_maps_most_at_its_position(self, built):
        for row, column in ((0, 0), (0, 2), (1, 1)):
            changed = images(128, 192)
            changed[..., 64 * row : 64 * row + 64, 64 * column : 64 * column + 64].neg_()
            with torch.no_grad():
                before, after = (built.model.backbone(x) for x in (images(128, 192), changed))
            for stride, m, n in zip(STRIDES, before, after, strict=True):
                change = (n - m).abs().mean((0, 1))  # (height / stride, width / stride)
                cells = change.unflatten(0, (2, -1)).unflatten(2, (3, -1)).mean((1, 3))
                seen = cells.max() if stride in self.sharp_strides else cells.mean()
                assert cells[row, column] >= seen, f"stride {stride}"

    def test_every_trainable_parameter_gets_a_gradient_and_no_frozen_one(self, model):
        model.config.text_dropout = 0.5  # the null text learns from the samples without text
        torch.manual_seed(1)
        for _ in range(4):
            model.train()(images(64, 64), texts(6), labels=squares(64, 64)).loss.backward()
        for name, parameter in model.named_parameters():
            assert (parameter.grad is not None) == parameter.requires_grad, name
            assert parameter.grad is None or parameter.grad.isfinite().all(), name

    def test_the_vision_encoder_is_trainable_and_the_text_encoder_frozen(self, model):
        learning = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        assert any(name.startswith("model.backbone.model.") for name in learning)
        assert not any("text_encoder" in name for name in learning)

    def test_each_trainable_weight_of_the_vision_model_has_a_depth(self, built):
        encoder = built.model.backbone.model
        depths = layer_depths(encoder)
        learning = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
        without = [name for name in learning if name not in depths]
        assert all("norm" in name for name in without)  # the norm above the last hidden state
        assert depths[learning[0]] == max(depths.values()) > min(depths.values()) == 1

    def test_activation_checkpointing_changes_no_gradient_and_no_statistic(self, model):
        plain, saving = model.train(), copy.deepcopy(model)
        saving.activation_checkpointing_enable()
        for run in (plain, saving):
            torch.manual_seed(0)
            run(images(64, 64), texts(6), labels=squares(64, 64)).loss.backward()
        gradients = {name: p.grad for name, p in plain.named_parameters() if p.grad is not None}
        for name, parameter in saving.named_parameters():
            if name in gradients:
                torch.testing.assert_close(parameter.grad, gradients[name], atol=1e-5, rtol=1e-3, msg=name)
        for name, value in saving.named_buffers():
            torch.testing.assert_close(value, dict(plain.named_buffers())[name], atol=1e-6, rtol=1e-5, msg=name)

    def test_adapters_start_without_effect_train_and_merge(self, model):
        if self.lora is None:
            with pytest.raises(ValueError, match="no plain linear layer or convolution for LoRA"):
                with_lora(model, {"r": 2})
            return
        x, ids = images(64, 64), texts(6)
        with torch.no_grad():
            plain = model(x, ids).logits
            model = with_lora(model, self.lora)
            torch.testing.assert_close(model.eval()(x, ids).logits, plain, atol=1e-5, rtol=1e-4)
        adapters = {name: p for name, p in model.named_parameters() if ".lora_" in name}
        torch.manual_seed(0)
        for parameter in adapters.values():
            torch.nn.init.normal_(parameter, std=0.1)
        model.train()(x, ids, labels=squares(64, 64)).loss.backward()
        assert all(parameter.grad is not None for parameter in adapters.values())
        # In double precision, since rounding errors of deep random maps would hide a small mistake.
        model, x = model.double().eval(), x.double()
        with torch.no_grad():
            adapted = model(x, ids).logits
            model = model.merge_and_unload()
            torch.testing.assert_close(model(x, ids).logits, adapted, atol=1e-8, rtol=1e-6)
        assert (adapted - plain).abs().max() > 1e-4

    def test_a_loss_requires_labels(self, built):
        with torch.no_grad():
            output = built(images(50, 70), texts(6), labels=squares(50, 70))
            without = built(images(50, 70), texts(6))
        assert output.loss.isfinite() and output.alignment_loss.isfinite() and without.loss is None
        assert torch.equal(output.logits, without.logits)

    def test_the_logits_depend_on_the_text_and_its_absence(self, built):
        x, ids = images(64, 64), texts(6)
        with torch.no_grad():
            outputs = [built(x, ids).logits, built(x, ids.roll(1, dims=0)).logits, built(x).logits]
        assert all((outputs[0] - other).abs().max() > 1e-4 for other in outputs[1:])

    @pytest.mark.parametrize("tokens", [1, MAX_TOKENS])
    def test_one_token_and_the_maximum_text_length_are_read(self, built, tokens):
        with torch.no_grad():
            assert built.encode_text(texts(tokens)).shape == (2, tokens, built.config.text_config.hidden_size)
            assert built(images(64, 64), texts(tokens)).logits.isfinite().all()

    @pytest.fixture(scope="class")
    def saved(self, built, tmp_path_factory):
        folder = tmp_path_factory.mktemp("saved")
        built.save_pretrained(folder)
        return folder

    def test_save_and_load_keep_weights_prototypes_and_logits(self, built, saved):
        loaded, report = TeViAForSegmentation.from_pretrained(saved, output_loading_info=True)
        assert not any(report.values())
        assert all(torch.equal(value, built.state_dict()[name]) for name, value in loaded.state_dict().items())
        assert loaded.prototype_memory.is_active and loaded.state_dict().keys() == built.state_dict().keys()
        x, ids = images(64, 64), texts(6)
        with torch.no_grad():
            assert torch.equal(loaded.eval()(x, ids).logits, built(x, ids).logits)
        frozen = [{n for n, p in model.named_parameters() if not p.requires_grad} for model in (loaded, built)]
        assert frozen[0] == frozen[1]

    def test_half_precision_keeps_the_prototypes_in_float32_and_the_logits_close(self, built, saved):
        loaded = TeViAForSegmentation.from_pretrained(saved, dtype=torch.bfloat16).eval()
        assert all(
            torch.equal(p, q) for p, q in zip(*(m.prototype_memory.prototypes for m in (loaded, built)), strict=True)
        )
        assert loaded.dtype == torch.bfloat16 == loaded.model.backbone.model.dtype
        x, ids = images(64, 64), texts(6)
        with torch.no_grad():
            half, whole = loaded(x, ids).logits.float(), built(x, ids).logits
        # bfloat16 keeps 8 bits: 1 to 5 percent of the logits' spread, 10 after MobileNetV1's 27 batch norms.
        assert (half - whole).abs().mean() < 0.15 * whole.std()

    def test_a_batch_equals_its_single_samples(self, built):
        x, ids = images(64, 64), texts(9)
        ids[1, 5:] = 0
        mask = ids.ne(0).long()
        with torch.no_grad():
            together = built(x, ids, mask).logits
            alone = [built(x[:1], ids[:1]).logits, built(x[1:], ids[1:, :5]).logits]
        torch.testing.assert_close(together, torch.cat(alone), atol=1e-4, rtol=1e-4)

    def test_the_fused_copy_has_no_batch_norms_and_gives_the_same_logits(self, built):
        built = copy.deepcopy(built).double()  # so that rounding, which depends on the processor, is not compared
        before = {name: value.clone() for name, value in built.state_dict().items()}
        fused = built.fuse_for_inference()
        assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fused.modules())
        for size, ids in (((64, 64), texts(6)), ((50, 70), None), ((64, 64), texts(MAX_TOKENS))):
            with torch.no_grad():
                torch.testing.assert_close(
                    *(each(images(*size).double(), ids).logits for each in (fused, built)), atol=1e-4, rtol=1e-4
                )
        for name, value in built.state_dict().items():
            assert torch.equal(value, before[name]) and value.stride() == before[name].contiguous().stride(), name

    def test_equal_runs_are_equal(self, model):
        x, ids = images(64, 64), texts(6)
        with torch.no_grad():
            assert torch.equal(model(x, ids).logits, model(x, ids).logits)
        losses = []
        for run in (model.train(), copy.deepcopy(model)):
            torch.manual_seed(0)
            losses.append(run(x, ids, labels=squares(64, 64)).loss)
        assert torch.equal(*losses)

    def test_the_exported_encoder_computes_the_same(self, built):
        """Exports the family's encoder only; for the whole model see `test_export`."""
        if self.text_config is EncoderContract.text_config:
            part, inputs = VisionPart(built), (images(64, 64),)
        else:
            part, inputs = TextPart(built), (texts(6), torch.ones(2, 6, dtype=torch.long))
        with torch.no_grad():
            exported = torch.export.export(part, inputs, strict=False).module()
            torch.testing.assert_close(exported(*inputs), part(*inputs), atol=1e-5, rtol=1e-5)
