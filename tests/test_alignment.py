"""Embeddings of the foreground, the loss between text and foreground, and the prototypes."""

import copy

import pytest
import torch
import torch.nn.functional as F

from tevia_hf import TeViAForSegmentation, TeViAPrototypeMemory
from tevia_hf.alignment_tevia import (
    alignment_loss,
    channel_representation,
    foreground_mask,
    head_grid_representation,
)

WIDTHS = (6, 4, 3)
EVERY_TEXT = torch.tensor([True, True])


def vectors(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def random_prototypes(widths=WIDTHS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(width, generator=generator) for width in widths]


@pytest.fixture
def memory():
    return TeViAPrototypeMemory(WIDTHS)


# Embeddings of the foreground


def test_foreground_is_every_class_but_background_and_ignored():
    assert foreground_mask(torch.tensor([[[0, 1, 2, 255]]])).tolist() == [[[[0.0, 1.0, 1.0, 0.0]]]]


def test_a_channel_representation_is_the_mean_over_the_foreground():
    features = torch.arange(8.0).view(1, 2, 2, 2)
    foreground = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).view(1, 1, 2, 2)
    assert channel_representation(features, foreground).tolist() == [[1.5, 5.5]]  # means of 0, 3 and of 4, 7


def test_cells_count_by_the_share_of_them_that_is_foreground():
    features = torch.tensor([10.0, 20.0]).view(1, 1, 1, 2)
    foreground = torch.tensor([[1.0, 1.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]]).view(1, 1, 2, 4)
    expected = (10 * 4 / 4 + 20 * 1 / 4) / (4 / 4 + 1 / 4)
    torch.testing.assert_close(channel_representation(features, foreground), vectors([expected]))


def test_a_lesion_of_one_pixel_keeps_its_weight():
    features, foreground = torch.rand(1, 3, 7, 7), torch.zeros(1, 1, 224, 224)
    foreground[..., 100, 40] = 1
    torch.testing.assert_close(channel_representation(features, foreground), features[:, :, 3, 1])


def test_a_sample_without_foreground_has_a_zero_vector():
    features, foreground = torch.rand(2, 3, 4, 4) + 1, torch.zeros(2, 1, 8, 8)
    foreground[0] = 1
    first, second = channel_representation(features, foreground)
    assert first.all() and not second.any()


def test_a_channel_representation_is_float32_for_half_precision_features():
    features = torch.full((1, 1, 64, 64), 300.0, dtype=torch.bfloat16)
    torch.testing.assert_close(channel_representation(features, torch.ones(1, 1, 64, 64)), vectors([300.0]))


def test_a_head_grid_is_flattened_by_channel_row_column():
    features = torch.rand(2, 24, 32, 32)
    vector = head_grid_representation(features, torch.ones(2, 1, 32, 32), side=8, channels=6)
    assert vector.shape == (2, 6 * 8 * 8)
    grid = F.interpolate(features, size=(8, 8), mode="bilinear")
    # Channels 24 -> 6 by the middle of each four, widths untouched.
    expected = (grid[:, 1::4] + grid[:, 2::4]) / 2
    torch.testing.assert_close(vector.view(2, 6, 8, 8), expected)


@pytest.mark.parametrize("represent", [channel_representation, lambda f, m: head_grid_representation(f, m, 4, 2)])
def test_the_visual_side_gets_no_gradient(represent):
    features = torch.rand(1, 4, 8, 8, requires_grad=True)
    assert not represent(features, torch.ones(1, 1, 8, 8)).requires_grad


# Alignment loss


def test_the_loss_is_one_minus_cosine_over_scales_and_samples():
    text = [vectors([1, 0], [1, 0]), vectors([1, 0], [0, 2])]
    visual = [vectors([3, 0], [0, 1]), vectors([-1, 0], [0, 5])]
    torch.testing.assert_close(alignment_loss(text, visual, EVERY_TEXT), torch.tensor((0 + 1 + 2 + 0) / 4))


@pytest.mark.parametrize(
    ("visual", "has_text"),
    [([[0, 1], [0, 0]], [True, True]), ([[0, 1], [1, 1]], [True, False])],
    ids=["without foreground", "without text"],
)
def test_samples_without_text_or_foreground_are_left_out(visual, has_text):
    text = vectors([1, 1], [-1, 2]).requires_grad_()
    loss = alignment_loss([text], [vectors(*visual)], torch.tensor(has_text))
    torch.testing.assert_close(loss, torch.tensor(1 - 0.5**0.5))
    loss.backward()
    assert text.grad[0].any() and not text.grad[1].any()


def test_a_batch_with_nothing_to_align_has_a_loss_of_zero():
    text = vectors([1, 1], [1, 2]).requires_grad_()
    loss = alignment_loss([text], [torch.zeros(2, 2)], EVERY_TEXT)
    loss.backward()
    assert loss == 0 and not text.grad.any()


# Prototype memory


def test_the_gate_of_an_empty_memory_is_all_ones(memory):
    assert not memory.is_active and memory.count == 0
    assert all(torch.equal(memory.gate(scale), torch.ones(width)) for scale, width in enumerate(WIDTHS))


def test_the_gate_stays_all_ones_until_activated(memory):
    memory.collect(random_prototypes())
    assert torch.equal(memory.gate(0), torch.ones(6))
    memory.activate()
    assert memory.is_active and not torch.equal(memory.gate(0), torch.ones(6))


def test_an_active_gate_runs_from_one_to_two_with_its_prototype(memory):
    memory.assign([torch.tensor([-1.0, 0.0, 1.0, 3.0, 3.0, 1.0]), torch.full((4,), 7.0), torch.tensor([0.0, 1e3, 1.0])])
    torch.testing.assert_close(memory.gate(0), torch.tensor([1, 1.25, 1.5, 2, 2, 1.5]))
    torch.testing.assert_close(memory.gate(1), torch.ones(4))  # nothing to tell channels apart by
    torch.testing.assert_close(memory.gate(2), torch.tensor([1, 2, 1.001]))


def test_an_empty_memory_cannot_be_activated(memory):
    with pytest.raises(
        ValueError, match=r"no prototype to activate: `collect\(means\)` or `assign\(prototypes\)` first"
    ):
        memory.activate()
    assert not memory.is_active


def test_assigned_prototypes_are_copied_counted_and_active(memory):
    prototypes = random_prototypes()
    kept = [prototype.clone() for prototype in prototypes]
    memory.assign(prototypes)
    prototypes[0].zero_()
    assert all(torch.equal(own, given) for own, given in zip(memory.prototypes, kept, strict=True))
    assert memory.is_active and memory.count == 1


def test_collecting_gives_the_plain_mean_over_samples(memory):
    samples = [torch.randn(5, width) for width in WIDTHS]
    memory.collect([s[:1].mean(0) for s in samples], samples=1)
    memory.collect([s[1:].mean(0) for s in samples], samples=4)
    assert memory.count == 5 and not memory.is_active
    for own, sample in zip(memory.prototypes, samples, strict=True):
        torch.testing.assert_close(own, sample.mean(0))


def test_collecting_no_samples_leaves_an_occupied_memory_alone(memory):
    memory.collect(random_prototypes(), samples=3)
    before = [prototype.clone() for prototype in memory.prototypes]
    memory.collect(random_prototypes(seed=1), samples=0)
    assert memory.count == 3
    assert all(torch.equal(own, old) for own, old in zip(memory.prototypes, before, strict=True))


@pytest.mark.parametrize("momentum", [0.99, 0.5])
def test_a_momentum_step_keeps_that_share_of_the_old(momentum):
    memory = TeViAPrototypeMemory(WIDTHS, momentum)
    old, new = random_prototypes(), random_prototypes(seed=1)
    memory.assign(old)
    memory.momentum_step(new)
    for own, before, mean in zip(memory.prototypes, old, new, strict=True):
        torch.testing.assert_close(own, momentum * before + (1 - momentum) * mean)
    assert memory.count == 1


@pytest.mark.parametrize("update", ["assign", "collect", "momentum_step"])
def test_an_update_needs_a_vector_for_every_scale(memory, update):
    with pytest.raises(ValueError):
        getattr(memory, update)(random_prototypes()[:2])


def test_prototypes_hold_no_gradient(memory):
    memory.collect([torch.ones(width, requires_grad=True) for width in WIDTHS])
    assert not any(prototype.requires_grad for prototype in memory.prototypes)


def test_a_reset_memory_is_empty(memory):
    memory.assign(random_prototypes())
    memory.reset()
    assert not memory.is_active and memory.count == 0 and not any(p.any() for p in memory.prototypes)


# Prototypes through copies, files and dtypes


@pytest.fixture
def model(tiny_model):
    memory = tiny_model.prototype_memory
    memory.collect(random_prototypes((16, 8, 8)), samples=12)
    memory.activate()
    return tiny_model


def assert_same_memory(memory, other):
    own, theirs = dict(memory.named_buffers()), dict(other.named_buffers())
    assert own.keys() == theirs.keys() and len(own) == 5
    for name, buffer in own.items():
        assert theirs[name].dtype == buffer.dtype and torch.equal(buffer, theirs[name]), name


@pytest.mark.parametrize(
    ("saving", "loading"),
    [({}, {}), ({"max_shard_size": "20KB"}, {}), ({}, {"dtype": torch.bfloat16}), ({}, {"dtype": torch.float16})],
    ids=["whole", "sharded", "as bfloat16", "as float16"],
)
def test_prototypes_survive_save_and_load_exactly(model, saving, loading, tmp_path):
    model.save_pretrained(tmp_path, **saving)
    assert (tmp_path / "model.safetensors.index.json").exists() == bool(saving)
    loaded = TeViAForSegmentation.from_pretrained(tmp_path, **loading)
    assert loaded.dtype == loading.get("dtype", torch.float32)
    assert_same_memory(model.prototype_memory, loaded.prototype_memory)
    assert loaded.prototype_memory.count == 12 and loaded.prototype_memory.is_active


def test_prototypes_of_a_bfloat16_checkpoint_stay_float32(model, tmp_path):
    model.save_pretrained(tmp_path / "first")
    TeViAForSegmentation.from_pretrained(tmp_path / "first", dtype=torch.bfloat16).save_pretrained(tmp_path / "second")
    loaded = TeViAForSegmentation.from_pretrained(tmp_path / "second")
    assert_same_memory(model.prototype_memory, loaded.prototype_memory)


def test_a_copy_has_its_own_prototypes(model):
    copied = copy.deepcopy(model)
    assert_same_memory(model.prototype_memory, copied.prototype_memory)
    copied.prototype_memory.momentum_step(random_prototypes((16, 8, 8), seed=1))
    assert not torch.equal(model.prototype_memory.prototypes[0], copied.prototype_memory.prototypes[0])


def test_casting_a_whole_model_leaves_its_prototypes_alone(model):
    before = [prototype.clone() for prototype in model.prototype_memory.prototypes]
    memory = model.to(torch.bfloat16).prototype_memory
    assert all(torch.equal(old, new) for old, new in zip(before, memory.prototypes, strict=True))
    assert memory.is_active and model.dtype == torch.bfloat16


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.float64])
def test_prototypes_keep_their_own_type_when_the_model_is_cast(kind):
    memory = TeViAPrototypeMemory([4, 2], momentum=0.99)
    memory.assign([torch.full((4,), 1.0), torch.full((2,), 1.0)])
    memory.to(kind)
    assert {p.dtype for p in memory.prototypes} == {torch.float32}
    assert memory.count.dtype == torch.long and memory.active.dtype == torch.bool
    memory.momentum_step([torch.full((4,), 1.1), torch.full((2,), 1.1)])
    torch.testing.assert_close(memory.prototypes[0], torch.full((4,), 1.001))
