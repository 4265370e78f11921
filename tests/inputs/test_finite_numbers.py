"""NaN and infinite values stop a training and never become a mask."""

import copy
import json
import re

import numpy as np
import pytest
import torch
from builders import answer, data_set, lesion, mentions, noise
from PIL import Image
from safetensors.torch import load_file
from tiny import tiny_processor, tiny_reader
from transformers import pipeline

from tevia_cli.main import main
from tevia_hf import (
    TeViAForSegmentation,
    TeViAProcessor,
    TeViASegmentationPipeline,
    evaluate_model,
    load_segmentation_dataset,
)
from tevia_hf.inference.predict import predict, predict_files, predict_masks
from tevia_hf.outputs_tevia import TeViASegmentationOutput
from tevia_hf.training.recipe import train_from_recipe

NAN, INF = float("nan"), float("inf")
TASK = "text-guided-image-segmentation"
TEXT = "Unilateral pulmonary infection, one infected area, lower right lung."
FINITE = r"(?i)finite|\bnan\b|infinit"


def broken(model, value=NAN, part="decode_head"):
    """A copy of the model with one NaN weight."""
    model = copy.deepcopy(model)
    tensor = next(tensor for name, tensor in model.named_parameters() if part in name and tensor.ndim > 1)
    with torch.no_grad():
        tensor.view(-1)[0] = value
    return model


@pytest.fixture(scope="module")
def broken_model():
    return broken(tiny_reader())


@pytest.fixture(scope="module")
def broken_dir(broken_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    broken_model.save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(noise()).save(path)
    return path


# Loading


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("part", ["decode_head", "backbone", "text"])
def test_weights_that_are_not_finite_are_not_loaded(tmp_path, reader, value, part):
    broken(reader, value, part).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=FINITE):
        TeViAForSegmentation.from_pretrained(tmp_path)


def test_prototypes_that_are_not_finite_are_not_loaded(tmp_path, reader):
    model = copy.deepcopy(reader)
    for prototype in model.prototype_memory.prototypes:
        prototype.fill_(NAN)
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=FINITE):
        TeViAForSegmentation.from_pretrained(tmp_path)


def test_weights_that_overflowed_in_half_precision_are_not_loaded(tmp_path, reader):
    model = broken(reader, 1e6).half()  # beyond 65504
    model.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=FINITE):
        TeViAForSegmentation.from_pretrained(tmp_path)


def test_the_refusal_names_the_tensor(broken_dir):
    with pytest.raises(ValueError, match="decode_head"):
        TeViAForSegmentation.from_pretrained(broken_dir)


def test_finite_weights_are_loaded_in_any_precision(tmp_path, reader):
    reader.save_pretrained(tmp_path)
    for dtype in (torch.float32, torch.bfloat16):
        assert TeViAForSegmentation.from_pretrained(tmp_path, dtype=dtype).dtype == dtype


def test_no_command_makes_masks_of_such_weights(broken_dir, image, tmp_path, capsys):
    words = ["predict", broken_dir, str(image), "--text", TEXT, "--output-dir", str(tmp_path / "out")]
    assert main(words) != 0
    assert re.search(FINITE, capsys.readouterr().err)
    assert not (tmp_path / "out" / "image.png").exists()


def test_no_pipeline_is_made_of_such_weights(broken_dir, image):
    given = answer(lambda: pipeline(TASK, model=broken_dir)(Image.open(image), TEXT))
    assert given.error and re.search(FINITE, given.error)


def test_training_does_not_start_from_such_weights(broken_dir, tmp_path):
    fields = {"model_name_or_path": broken_dir, "output_dir": tmp_path / "out", "max_steps": 1}
    fields |= {"eval_strategy": "no", "load_best_model_at_end": False, "max_train_samples": 2, "use_cpu": True}
    with pytest.raises(ValueError, match=FINITE):
        train_from_recipe(recipe_of(tmp_path, fields))


# Logits


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize("labels", [1, 3])
@pytest.mark.parametrize("as_probabilities", [False, True])
def test_post_processing_refuses_logits_that_are_not_finite(processor, value, labels, as_probabilities):
    logits = torch.zeros(2, labels, 8, 8)
    logits[1, 0, 3, 3] = value
    with pytest.raises(ValueError, match=FINITE):
        processor.post_process_segmentation(
            TeViASegmentationOutput(logits=logits), [(16, 16)] * 2, return_probabilities=as_probabilities
        )


def test_large_logits_are_finite(processor):
    (mask,) = processor.post_process_segmentation(TeViASegmentationOutput(logits=torch.full((1, 1, 8, 8), 1e30)))
    assert mask.all()


def test_a_model_in_memory_makes_no_masks_of_numbers_that_are_none(broken_model, processor, image):
    with pytest.raises(ValueError, match=FINITE):
        predict_masks(broken_model, processor, [{"image": image, "text": TEXT}])


def test_a_pipeline_in_memory_makes_none_either(broken_model, processor, image):
    segment = TeViASegmentationPipeline(broken_model, processor=processor, device="cpu")
    with pytest.raises(ValueError, match=FINITE):
        segment(Image.open(image), TEXT)


def test_files_get_no_empty_masks_of_numbers_that_are_none(broken_model, processor, image, tmp_path):
    out = tmp_path / "out"
    given = answer(lambda: predict(broken_model, processor, [image], [TEXT], out))
    assert not (out / "image.png").exists()
    assert re.search(FINITE, given.error or given.value["error"][0])


def test_an_evaluation_of_numbers_that_are_none_has_no_scores(broken_model, processor, tmp_path):
    root = data_set(tmp_path, {"a": lesion(), "b": lesion().T}, split=["test", "test"])
    dataset = load_segmentation_dataset("folder", root, split="test")
    with pytest.raises(ValueError, match=FINITE):
        evaluate_model(broken_model, processor, dataset, [])


def test_a_sound_model_is_predicted_with_as_before(reader_dir, image, tmp_path):
    assert predict_files(reader_dir, [image], tmp_path / "out", text=TEXT)["error"].tolist() == [""]


# Training

DIVERGING = {
    "dataset": "folder",
    "per_device_train_batch_size": 4,
    "num_train_epochs": 6,
    "learning_rate": 3e4,
    "warmup_steps": 4,  # so that the first step leaves the weights as they are, and the second is far too long
    "lr_scheduler_type": "constant_with_warmup",
    "logging_steps": 1,
    "seed": 0,
    "use_cpu": True,
}
SAVED_AND_VALIDATED = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1}
SAVED = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "no", "load_best_model_at_end": False}
IDS = [f"case{number}" for number in range(10)]


def recipe_of(folder, fields):
    path = folder / "recipe.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in fields.items()), encoding="utf-8")
    return path


def diverging_recipe(root, model_dir, **fields):
    """A recipe that diverges, of ten small images."""
    masks = {name: np.roll(lesion(32, 32), 2 * number, axis=1) for number, name in enumerate(IDS)}
    images = {name: noise(32, 32, seed=number) for number, name in enumerate(IDS)}
    data_set(root / "set", masks, images, split=["train"] * 8 + ["val"] * 2)
    held = {"config_name": model_dir, "data_dir": root / "set", "output_dir": root / "out", **DIVERGING, **fields}
    return recipe_of(root, held)


def weights_below(folder):
    return {path: load_file(path) for path in folder.rglob("*.safetensors")}


def is_finite(weights):
    return all(tensor.float().isfinite().all() for tensor in weights.values())


@pytest.fixture(scope="module")
def diverged(tmp_path_factory, reader_dir):
    """The folder of a diverged run, and its error."""
    root = tmp_path_factory.mktemp("run")
    try:
        train_from_recipe(diverging_recipe(root, reader_dir, **SAVED))
    except RuntimeError as error:
        return root / "out", error
    return root / "out", None


def test_training_stops_where_its_numbers_run_away(diverged):
    from tevia_hf import TrainingDivergedError

    assert isinstance(diverged[1], TrainingDivergedError) and isinstance(diverged[1], RuntimeError)


def test_the_error_names_the_step_and_the_ids_of_its_batch(diverged):
    message = str(diverged[1])
    assert re.search(r"step \d+|\d+(st|nd|rd|th) step", message)
    of_training, of_validation = ([name for name in part if name in message] for part in (IDS[:8], IDS[8:]))
    assert len(of_training) == 4 or len(of_validation) == 2  # where the weights are finite and the outputs are not


def test_the_last_finite_checkpoint_stays_and_is_named(diverged):
    out, error = diverged
    names = [path.name for path in out.glob("checkpoint-*")]
    assert names and any(re.search(rf"\b{name}\b", str(error)) for name in names)


def test_nothing_that_is_saved_holds_numbers_that_are_none(diverged):
    assert diverged[1] is not None
    assert all(is_finite(weights) for weights in weights_below(diverged[0]).values())


def test_the_advice_is_not_to_raise_the_rate(diverged):
    message = str(diverged[1])
    assert diverged[1] is not None and not mentions([message], "raise the rate", "higher rate", "increase")
    assert mentions([message], "lower", "smaller", "reduce")


def test_the_command_ends_with_an_error_that_says_so(tmp_path, capsys, reader_dir):
    code = main(["train", str(diverging_recipe(tmp_path, reader_dir, **SAVED_AND_VALIDATED))])
    spoken = capsys.readouterr()
    assert code != 0 and re.search(FINITE, spoken.err) and "raise the rate" not in spoken.out + spoken.err
    assert all(is_finite(weights) for weights in weights_below(tmp_path).values())
    states = [json.loads(path.read_text()) for path in tmp_path.rglob("trainer_state.json")]
    assert all(np.isfinite(state["best_metric"] or 0) and (state["best_global_step"] or 1) == 1 for state in states)


def test_the_smallest_model_itself_is_finite(tiny_dir):
    assert is_finite(TeViAForSegmentation.from_pretrained(tiny_dir).state_dict())
    assert np.isfinite(TeViAProcessor.from_pretrained(tiny_dir).image_processor.image_mean).all()
