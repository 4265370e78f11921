"""From a recipe to a model: what is trained and saved, and that a resumed run ends like an uninterrupted one."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml
from PIL import Image
from safetensors.torch import load_file
from tiny import tiny_processor, tiny_text_config, tiny_tokenizer, tiny_vision_config
from transformers import (
    AutoModelForSemanticSegmentation,
    AutoProcessor,
    BertModel,
    ConvNextModel,
    Trainer,
)

from tevia_hf import TeViAForSegmentation, TeViAProcessor, build_trainer
from tevia_hf.data.augment import TextAwareAugmentation
from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.training.arguments import ModelArguments, TeViATrainingArguments
from tevia_hf.training.recipe import load_model_and_processor, train_from_recipe

STEPS_PER_EPOCH, SAVE_STEPS, EPOCHS = 5, 3, 4
KILLED_AT = 14  # within the third epoch, two steps after a checkpoint
# `training_callbacks` is where a run takes its callbacks from.
KILLED_RUN = f"""
import os, signal, sys
from transformers import TrainerCallback
from tevia_hf.training import recipe, trainer

class Kill(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == {KILLED_AT}:
            os.kill(os.getpid(), signal.SIGKILL)

usual = trainer.training_callbacks
trainer.training_callbacks = lambda *args: [*usual(*args), Kill()]
recipe.train_from_recipe(sys.argv[1], ["--output_dir", sys.argv[2]])
"""


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """Folders of a vision model and of a text encoder with its tokenizer."""
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    ConvNextModel(tiny_vision_config()).save_pretrained(folder / "vision")
    BertModel(tiny_text_config()).save_pretrained(folder / "text")
    tiny_tokenizer().save_pretrained(folder / "text")
    return {"vision_model": str(folder / "vision"), "text_model": str(folder / "text")}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """`images/`, `masks/` and a table: five images to train on and two to validate."""
    folder = tmp_path_factory.mktemp("data")
    lines = ["Image,Description,split"]
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for split, count in (("train", 5), ("val", 2)):
        for index, example in enumerate(synthetic_dataset(split, size=32, count=count)):
            name = f"{split}{index}.png"
            example["image"].save(folder / "images" / name)
            example["mask"].save(folder / "masks" / name)
            lines.append(f'{name},"{example["text"]}",{split}')
    (folder / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def values(encoders, data_dir):
    """A recipe with random flips, zooms and text dropout at every step."""
    return {
        **encoders,
        "config": {"head_channels": 8, "max_text_length": 24, "text_dropout": 0.4, "prototype_momentum": 0.8},
        "image_processor": {"size": {"height": 32, "width": 32}},
        "dataset": "folder",
        "data_dir": str(data_dir),
        "zoom_probability": 0.5,
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": 1,
        "learning_rate": "1e-3",
        "prototype_warmup_epochs": 1,
        "eval_strategy": "steps",
        "save_strategy": "steps",
        "eval_steps": SAVE_STEPS,
        "save_steps": SAVE_STEPS,
        "save_total_limit": 10,
        "load_best_model_at_end": False,
        "use_cpu": True,
        "disable_tqdm": True,
    }


@pytest.fixture(scope="module")
def train(values, tmp_path_factory) -> Callable[..., Trainer]:
    """Trains by the recipe with some fields changed, by default in a new folder."""

    def train(*words: str, **changes) -> Trainer:
        folder = tmp_path_factory.mktemp("recipe")
        recipe = {"output_dir": str(folder / "run"), **values, **changes}
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
        return train_from_recipe(folder / "recipe.yaml", words)

    return train


@pytest.fixture(scope="module")
def unbroken(train):
    return train()


def folder_of(trainer: Trainer) -> Path:
    return Path(trainer.args.output_dir)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def differing(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> list[str]:
    assert ours.keys() == theirs.keys()
    return [name for name in ours if not torch.equal(ours[name], theirs[name])]


# What a run leaves


def test_a_run_saves_model_processor_and_recipe(unbroken):
    names = {path.name for path in folder_of(unbroken).iterdir()}
    assert {"model.safetensors", "config.json", "processor_config.json", "tokenizer.json", "recipe.yaml"} <= names


def test_the_saved_processor_knows_the_words_of_the_training_texts(unbroken, train):
    known = TeViAProcessor.from_pretrained(folder_of(unbroken)).known_words
    assert {"infected", "left", "right", "upper"} <= set(known) and not {"opacities", "nuclei"} & set(known)
    paraphrased = folder_of(train(paraphrase_probability=0.5, max_steps=1, eval_strategy="no", save_strategy="no"))
    processor = TeViAProcessor.from_pretrained(paraphrased)
    assert {*known, "opacities", "lul"} <= set(processor.known_words) and "nuclei" not in processor.known_words
    assert processor.unfamiliar_words("2 opacities LUL") == [] != processor.unfamiliar_words("hello world")


def test_the_saved_model_and_processor_are_loaded_by_their_own_and_by_auto_classes(unbroken):
    folder = folder_of(unbroken)
    example = synthetic_dataset("test", size=40, count=1)[0]
    expected = None
    for model_class, processor_class in (
        (TeViAForSegmentation, TeViAProcessor),
        (AutoModelForSemanticSegmentation, AutoProcessor),
    ):
        model, processor = model_class.from_pretrained(folder), processor_class.from_pretrained(folder)
        assert type(model) is TeViAForSegmentation and type(processor) is TeViAProcessor
        assert not differing(model.state_dict(), unbroken.model.state_dict())
        inputs = processor(example["image"], example["text"])
        assert inputs["pixel_values"].shape == (1, 3, 32, 32)
        logits = model(**inputs).logits
        assert expected is None or torch.equal(logits, expected)
        expected = logits


def test_training_moves_decoder_backbone_and_null_text_and_leaves_the_text_encoder(unbroken, values):
    moved = differing(weights(folder_of(unbroken)), weights(folder_of(unbroken) / f"checkpoint-{SAVE_STEPS}"))
    assert not any("text_encoder" in name for name in moved)
    for part in ("model.backbone.", "model.decoder.0.", "decode_head.", "model.null_text", "model.prototype_memory."):
        assert any(name.startswith(part) for name in moved), part
    encoder = load_file(Path(values["text_model"]) / "model.safetensors")
    trained = unbroken.model.model.text_encoder.model.state_dict()
    assert all(torch.equal(trained[name], encoder[name]) for name in trained)


def test_both_dice_definitions_are_measured_at_every_evaluation(unbroken):
    evaluations = [entry for entry in unbroken.state.log_history if "eval_loss" in entry]
    assert [entry["step"] for entry in evaluations] == [3, 6, 9, 12, 15, 18, 20]
    for entry in evaluations:
        assert 0 <= entry["eval_dice"] <= 1 and 0 <= entry["eval_dice_pooled"] <= 1


def test_the_saved_recipe_repeats_the_run_to_the_bit(unbroken, tmp_path):
    again = train_from_recipe(folder_of(unbroken) / "recipe.yaml", ["--output_dir", str(tmp_path / "again")])
    assert not differing(weights(folder_of(again)), weights(folder_of(unbroken)))


# Interrupted runs


@pytest.fixture(scope="module")
def killed(values, tmp_path_factory):
    """The folder of a run that was killed between two checkpoints."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    command = [sys.executable, "-c", KILLED_RUN, str(folder / "recipe.yaml"), str(folder / "run")]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert finished.returncode == -signal.SIGKILL, finished.stderr[-3000:]
    return folder / "run"


@pytest.mark.parametrize(
    ("from_step", "half_written"),
    [(12, None), (9, 12), (6, None)],
    ids=["momentum epoch", "killed while saving", "collecting epoch"],
)
def test_a_killed_run_that_is_resumed_ends_like_the_unbroken_one(
    killed, unbroken, train, tmp_path, from_step, half_written
):
    assert from_step % STEPS_PER_EPOCH and not (killed / "model.safetensors").exists()
    run = tmp_path / "run"
    shutil.copytree(killed, run)
    for checkpoint in run.glob("checkpoint-*"):
        step = int(checkpoint.name.rpartition("-")[2])
        if step == half_written:
            os.truncate(checkpoint / "trainer_state.json", 100)
        elif step != from_step:
            shutil.rmtree(checkpoint)
    resumed = train("--resume", output_dir=str(run))
    assert resumed.state.global_step == EPOCHS * STEPS_PER_EPOCH
    assert resumed.model.prototype_memory.is_active
    assert not differing(weights(run), weights(folder_of(unbroken)))
    assert not (run / f"checkpoint-{SAVE_STEPS}").exists()  # it went on and did not begin anew


# Models


@pytest.mark.parametrize("use_text", [True, False], ids=["text", "vision-only"])
def test_two_encoders_become_a_model_and_the_processor_that_fits_it(encoders, use_text):
    config = {"use_text": use_text, "num_labels": 3, "max_text_length": 9}
    arguments = ModelArguments(**encoders, config=config, image_processor={"swap_axes": True})
    model, processor = load_model_and_processor(arguments)
    assert model.config.use_text == use_text and (model.prototype_memory is not None) == use_text
    assert model.config.num_labels == processor.image_processor.num_labels == 3
    assert processor.tokenizer.model_max_length == 9 and processor.image_processor.swap_axes
    vision = load_file(Path(encoders["vision_model"]) / "model.safetensors")
    backbone = model.model.backbone.model.state_dict()
    assert all(torch.equal(backbone[name], vision[name]) for name in vision)


def test_the_vision_only_network_is_trained_by_the_same_recipe(train, values):
    trainer = train(config={**values["config"], "use_text": False}, num_train_epochs=1)
    assert not any("text" in name or "prototype" in name for name in weights(folder_of(trainer)))
    assert any("eval_dice" in entry for entry in trainer.state.log_history)


def test_a_trained_model_is_trained_further_with_its_prototypes(train, unbroken):
    before = weights(folder_of(unbroken))
    source = {"model_name_or_path": str(folder_of(unbroken)), "vision_model": "", "text_model": ""}
    source |= {"config": None, "image_processor": None}
    after = weights(folder_of(train(**source, num_train_epochs=1, prototype_warmup_epochs=9)))
    name = "model.prototype_memory.prototype_0"
    # Five steps of momentum 0.8 away from where it was, not a new mean.
    assert F.cosine_similarity(before[name], after[name], dim=0) > 0.5
    assert after["model.prototype_memory.active"] and not torch.equal(before[name], after[name])
    assert torch.equal(before["model.prototype_memory.count"], after["model.prototype_memory.count"])


# Images


def test_each_epoch_varies_the_training_images_anew_and_no_evaluation_image(tmp_path, tiny_model):
    class Witness(TextAwareAugmentation):
        def __call__(self, example, *language):
            seen.append((self.epoch, example["id"]))
            return super().__call__(example, *language)

    seen: list[tuple[int, str]] = []
    training, held_out = synthetic_dataset("train", size=32, count=3), synthetic_dataset("val", size=32, count=2)
    args = TeViATrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=3,
        save_strategy="no",
        load_best_model_at_end=False,
        use_cpu=True,
        disable_tqdm=True,
    )
    build_trainer(tiny_model, tiny_processor(), args, training, held_out, Witness()).train()
    assert sorted(seen) == [(epoch, name) for epoch in range(3) for name in training["id"]]


# Damaged files


@pytest.fixture
def damaged_data(data_dir, tmp_path):
    """The same data set with a truncated training image and a validation mask of another size."""
    folder = tmp_path / "damaged"
    shutil.copytree(data_dir, folder)
    os.truncate(folder / "images" / "train3.png", 200)
    Image.new("L", (16, 16)).save(folder / "masks" / "val1.png")
    return folder


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_damaged_file_is_named_before_anything_is_trained(train, damaged_data, tmp_path, split):
    if split == "val":
        shutil.copy(damaged_data / "images" / "train2.png", damaged_data / "images" / "train3.png")
    name = {"train": r"images/train3\.png: not readable", "val": r"masks/val1\.png.*16 x 16.*32 x 32"}[split]
    with pytest.raises(ValueError, match=name):
        train(data_dir=str(damaged_data), output_dir=str(tmp_path / "run"))
    assert not list(tmp_path.glob("run/*"))


def test_overwrite_deletes_nothing_for_a_run_that_cannot_start(train, damaged_data, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "model.safetensors").touch()
    with pytest.raises(ValueError, match="not readable"):
        train("--overwrite", data_dir=str(damaged_data), output_dir=str(run))
    assert (run / "model.safetensors").exists()


def test_a_resumed_run_follows_its_own_options(train):
    first = train(num_train_epochs=2, prototype_warmup_epochs=5, eval_strategy="epoch", save_strategy="epoch")
    assert not first.model.prototype_memory.is_active
    recipe = str(folder_of(first) / "recipe.yaml")
    options = [
        "--resume",
        "--num_train_epochs",
        "4",
        "--prototype_warmup_epochs",
        "1",
        "--early_stopping_patience",
        "3",
    ]
    again = train_from_recipe(recipe, [*options, "--output_dir", str(folder_of(first))])
    assert again.model.prototype_memory.is_active
    assert (folder_of(first) / f"checkpoint-{again.state.global_step}" / "trainer_state.json").is_file()
