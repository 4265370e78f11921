"""The published network, converted, computes what the authors' computed for the same weights and inputs."""

import pytest
import torch
import torch.nn.functional as F
from references.reference_case import MANIFEST, PROTOTYPE_WIDTHS, expected, reference_inputs, reference_state_dict

from tevia_hf import TeViAPrototypeMemory, convert_lightning_checkpoint


def greatest_difference(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    assert ours.shape == theirs.shape
    return float((ours - theirs).abs().max())


@pytest.fixture(scope="module")
def theirs():
    return {name: torch.from_numpy(values) for name, values in expected().items()}


@pytest.fixture(scope="module")
def network():
    weights = {f"model.{name}": torch.from_numpy(values) for name, values in reference_state_dict().items()}
    vision = {"model_type": "convnext", **MANIFEST["vision_config"]}
    text = {"model_type": "bert", **MANIFEST["text_config"]}
    return convert_lightning_checkpoint({"state_dict": weights}, vision, text)


@pytest.fixture(scope="module")
def prototypes():
    return [torch.from_numpy(prototype) for prototype in reference_inputs().prototypes]


@pytest.fixture(scope="module")
def ours(network, prototypes):
    """Outputs without prototypes, and with the prototypes of the case."""
    case = reference_inputs()
    tensors = [torch.from_numpy(array) for array in case[:4]]
    pixel_values, input_ids, attention_mask, labels = tensors
    with torch.no_grad():
        plain = network(pixel_values, input_ids, attention_mask, labels=labels)
        network.prototype_memory.assign(prototypes)
        guided = network(pixel_values, input_ids, attention_mask, labels=labels)
    return {"plain": plain, "guided": guided}


@pytest.mark.parametrize(
    ("mode", "name"), [("plain", "probabilities"), ("guided", "probabilities_with_prototype")], ids=["plain", "guided"]
)
def test_logits_are_the_authors(ours, theirs, mode, name):
    assert greatest_difference(ours[mode].logits, theirs[name].logit()) < 1e-4


def test_prototypes_move_the_logits_far_more_than_the_tolerance(ours):
    assert greatest_difference(ours["plain"].logits, ours["guided"].logits) > 0.05


@pytest.mark.parametrize("scale", range(3))
@pytest.mark.parametrize(
    ("field", "name"), [("text_embeddings", "text_mean"), ("visual_embeddings", "visual_mean")], ids=["text", "visual"]
)
def test_text_and_visual_vectors_are_the_authors(ours, theirs, scale, field, name):
    vectors = F.normalize(ours["plain"][field][scale], dim=-1)
    assert greatest_difference(vectors, theirs[f"{name}_{scale}"]) < 1e-5


@pytest.mark.parametrize(
    ("field", "name"), [("alignment_loss", "alignment_loss"), ("segmentation_loss", "dice_loss")], ids=["align", "dice"]
)
def test_losses_are_the_authors(ours, theirs, field, name):
    assert greatest_difference(ours["plain"][field], theirs[name]) < 1e-5


def test_the_published_loss_is_dice_plus_a_tenth_of_alignment(ours, theirs):
    published = theirs["dice_loss"] + 0.1 * theirs["alignment_loss"]
    assert greatest_difference(ours["plain"].loss, published) < 1e-5


def test_a_momentum_step_gives_the_authors_prototypes(ours, theirs, prototypes):
    memory = TeViAPrototypeMemory(PROTOTYPE_WIDTHS, momentum=0.99)
    memory.assign(prototypes)
    memory.momentum_step([vectors.mean(0) for vectors in ours["guided"].visual_embeddings])
    for scale, prototype in enumerate(memory.prototypes):
        assert greatest_difference(prototype, theirs[f"prototype_after_{scale}"]) < 1e-6
        assert greatest_difference(prototype, theirs[f"prototype_before_{scale}"]) > 1e-3


def test_a_warm_up_step_gives_the_authors_first_prototype(ours, theirs):
    memory = TeViAPrototypeMemory(PROTOTYPE_WIDTHS)
    memory.collect([vectors.mean(0) for vectors in ours["plain"].visual_embeddings], samples=2)
    assert greatest_difference(memory.prototypes[0], theirs["collected_0"]) < 1e-6


def test_the_case_holds_the_prototypes_it_was_computed_with(theirs, prototypes):
    for scale, prototype in enumerate(prototypes):
        assert torch.equal(prototype, theirs[f"prototype_before_{scale}"])
