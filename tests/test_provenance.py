"""Reports identify weights, preprocessing and examples, whether created in Python or by a command."""

import json
import shutil
from pathlib import Path

import datasets
import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from tiny import tiny_config, tiny_processor, tiny_reader, tiny_vision_config
from transformers import CLIPTextConfig, RobertaConfig, T5Config

from tevia_hf import (
    TeViAForSegmentation,
    TeViAProcessor,
    evaluate_dataset,
    evaluate_model,
    load_segmentation_dataset,
    write_bundle,
)
from tevia_hf.data.origin import origin_of
from tevia_hf.data.registry import list_examples
from tevia_hf.inference.identity import differing_pixels, pixel_settings, weights_digest
from tevia_hf.inference.loading import load_trained

TINY = Path(__file__).parents[1] / "hub_configs" / "tevia-tiny"
FEW = {"split": "val", "count": 4, "size": 32}


@pytest.fixture(scope="module")
def reader():
    return load_trained(str(TINY))


@pytest.fixture
def images():
    return load_segmentation_dataset("synthetic", **FEW)


def bundled(report, folder, model=TINY) -> str:
    """The text of the card that shows the report, saved to the folder."""
    report.save(folder / "report")
    write_bundle(model, folder / "bundle", evaluation=folder / "report")
    return ModelCard.load(folder / "bundle" / "README.md", ignore_metadata_errors=False).text


# Reports from Python


@pytest.mark.parametrize("text_modes", [("correct",), (), ("none", "flipped", "contradictory")])
def test_a_report_from_python_is_one_that_a_bundle_takes(text_modes, reader, images, tmp_path):
    text = bundled(evaluate_model(*reader, images, text_modes=text_modes), tmp_path)
    assert 'split "val", 4 images' in text and "Loaded with `count` 4, `size` 32." in text


def test_one_call_makes_the_report_that_the_parts_make(reader, images, tmp_path):
    whole = evaluate_dataset(TINY, "synthetic", output_dir=tmp_path / "run", **FEW)
    parts = evaluate_model(*reader, images)
    assert whole.settings == parts.settings | {"model": str(TINY)} and whole.scores == parts.scores
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["settings"] == whole.settings


def test_a_model_that_was_never_saved_has_a_report_of_its_own(images, tmp_path):
    model, processor = tiny_reader(), tiny_processor()
    report = evaluate_model(model, processor, images)
    assert report.settings["model"] is None
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    shutil.copy(TINY / "card.yaml", tmp_path / "model" / "card.yaml")
    assert "## Figures" in bundled(report, tmp_path, tmp_path / "model")


def test_a_report_on_weights_that_were_trained_further_is_refused(images, tmp_path):
    model, processor = load_trained(str(TINY))
    model.decode_head.classifier.bias.data += 1
    with pytest.raises(ValueError, match="not measured on the weights of .*run `tevia evaluate`"):
        bundled(evaluate_model(model, processor, images), tmp_path)


@pytest.mark.parametrize(
    "change", [{"normalization": "fixed"}, {"size": {"height": 32, "width": 32}}, {"do_antialias": False}]
)
def test_a_report_on_other_pixels_is_refused(change, images, tmp_path):
    model, processor = load_trained(str(TINY))
    for name, value in change.items():
        setattr(processor.image_processor, name, value)
    with pytest.raises(ValueError, match=rf"not measured on the image_processor \({'.*'.join(change)}\) of"):
        bundled(evaluate_model(model, processor, images), tmp_path)


# Digests


def roberta(**sizes):
    return RobertaConfig(vocab_size=30, max_position_embeddings=32, num_hidden_layers=1, **sizes)


MODELS = {
    "plain": lambda: tiny_reader(),
    "vision-only": lambda: TeViAForSegmentation(tiny_config(use_text=False)),
    "tied embeddings": lambda: TeViAForSegmentation(
        tiny_config(text_config=T5Config(vocab_size=30, d_model=8, d_ff=8, num_layers=1, num_heads=2, d_kv=4))
    ),
    "another family": lambda: TeViAForSegmentation(
        tiny_config(text_config=roberta(hidden_size=8, num_attention_heads=2, intermediate_size=8))
    ),
    "one encoder of a dual encoder": lambda: TeViAForSegmentation(
        tiny_config(
            text_config=CLIPTextConfig(
                vocab_size=30, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2
            )
        )
    ),
    "half precision": lambda: tiny_reader().to(torch.bfloat16),
}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_weights_have_one_digest_in_memory_and_on_disk(build, tmp_path):
    model = build()
    digest = weights_digest(model)
    model.save_pretrained(tmp_path / "one")
    model.save_pretrained(tmp_path / "many", max_shard_size="10KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 1
    assert digest == weights_digest(tmp_path / "one") == weights_digest(tmp_path / "many")
    assert digest == weights_digest(TeViAForSegmentation.from_pretrained(tmp_path / "one"))


def test_half_precision_has_the_digest_of_its_values_in_full(tmp_path):
    model = tiny_reader().to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    full = TeViAForSegmentation.from_pretrained(tmp_path, dtype=torch.float32)
    assert full.dtype == torch.float32
    assert weights_digest(full) == weights_digest(model) != weights_digest(tiny_reader())


def test_the_smallest_change_of_a_weight_or_buffer_changes_the_digest():
    model = tiny_reader()
    digests = {weights_digest(model)}
    model.decode_head.classifier.bias.data += 1e-6
    digests.add(weights_digest(model))
    next(model.prototype_memory.buffers()).add_(1)
    assert len(digests | {weights_digest(model)}) == 3


def test_the_settings_of_pixels_are_the_same_in_memory_and_on_disk(tmp_path):
    processor = tiny_processor(normalization="fixed")
    processor.save_pretrained(tmp_path)
    loaded = TeViAProcessor.from_pretrained(tmp_path).image_processor
    settings = pixel_settings(processor.image_processor)
    assert settings == pixel_settings(loaded) == json.loads(json.dumps(settings))
    assert differing_pixels(settings, loaded) == []
    assert differing_pixels(settings, tiny_processor().image_processor) == ["normalization"]


@pytest.mark.parametrize(("value", "differing"), [(True, []), (False, ["do_antialias"])])
def test_a_setting_newer_than_the_report_must_have_its_default(value, differing):
    image_processor = tiny_processor(do_antialias=value).image_processor
    older = {name: part for name, part in pixel_settings(image_processor).items() if name != "do_antialias"}
    assert differing_pixels(older, image_processor) == differing


@pytest.mark.parametrize("measured", [None, "a digest", []])
def test_a_report_without_pixel_settings_differs_in_all(measured):
    assert "normalization" in differing_pixels(measured, tiny_processor().image_processor)


# Origin of the examples

KEPT = {
    "select": lambda images: images.select(range(4)),
    "shuffle": lambda images: images.shuffle(seed=1),
    "sort": lambda images: images.sort("id"),
    "map": lambda images: images.map(lambda example: {"group": example["group"].upper()}),
    "columns": lambda images: images.add_column("site", ["a"] * 4).remove_columns("site"),
}


@pytest.mark.parametrize("change", KEPT.values(), ids=KEPT)
def test_a_data_set_records_its_origin(change, images):
    expected = {"dataset": "synthetic", "data_dir": None, "split": "val", "options": {"count": 4, "size": 32}}
    assert origin_of(change(images)) == origin_of(images) == expected


def test_a_data_set_on_disk_records_its_origin(images, tmp_path):
    images.save_to_disk(str(tmp_path / "images"))
    assert origin_of(datasets.load_from_disk(str(tmp_path / "images"))) == origin_of(images)


def test_a_data_set_with_other_texts_is_another_one(images):
    changed = origin_of(images.map(lambda example: {"text": example["text"].lower()}))
    assert changed == {"dataset": "unknown", "data_dir": None, "split": "unknown", "builder": "synthetic"}


PARTS = {
    "select": lambda images: images.select([0, 2, 3]),
    "filter": lambda images: images.filter(lambda example: not example["id"].endswith("0")),
    "split": lambda images: images.train_test_split(test_size=3, seed=0)["test"],
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_a_part_of_a_data_set_records_its_size(part, reader, images, tmp_path):
    report = evaluate_model(*reader, part(images), text_modes=())
    assert report.settings["max_samples"] == report.settings["images"] == 3
    assert "Sampled from more images: `max_samples` 3." in bundled(report, tmp_path)


def plain(images):
    return datasets.Dataset.from_dict(images.to_dict(), features=images.features)


UNKNOWN = {
    "made by hand": plain,
    "joined with another split": lambda images: datasets.concatenate_datasets(
        [images, load_segmentation_dataset("synthetic", split="test", count=2, size=32)]
    ),
    "more than was loaded": lambda images: datasets.concatenate_datasets(
        [images, images.map(lambda row: {"id": row["id"] + "b"})]
    ),
}


@pytest.mark.parametrize("change", UNKNOWN.values(), ids=UNKNOWN)
def test_a_data_set_of_another_origin_is_called_unknown_on_the_card(change, reader, images, tmp_path):
    report = evaluate_model(*reader, change(images), text_modes=())
    assert report.settings["dataset"] == "unknown" and report.settings["data_dir"] is None
    text = bundled(report, tmp_path)
    assert "A data set passed in Python" in text and "whose origin is not recorded" in text
    assert "synthetic images of this package, split" not in text


def test_a_data_set_of_the_hub_keeps_its_name_even_if_one_of_ours_has_it(images):
    theirs = plain(images)
    theirs.info.dataset_name = "qata"
    assert origin_of(theirs) == {"dataset": "unknown", "data_dir": None, "split": "unknown", "builder": "qata"}


def test_options_are_recorded_as_they_are_written(tmp_path):
    from test_data_sources import LEFT, write_images, write_table

    names = [f"a{index}" for index in range(6)]
    write_images(tmp_path / "images", tmp_path / "masks", names)
    write_table(tmp_path / "table.csv", dict.fromkeys(names, LEFT))
    loaded = load_segmentation_dataset(
        "folder", tmp_path, group_split=(0.5, 0.0, 0.5), split_seed=3, window=(-600.0, 1500)
    )
    expected = {"dataset": "folder", "data_dir": str(tmp_path), "split": "train", "group_split": "0.5,0.0,0.5"}
    assert origin_of(loaded) == expected | {"split_seed": 3, "window": "-600.0,1500.0"}
    texts = {"group_split": " 0.5, 0, 0.5", "split_seed": "3", "window": "-600, 1500", "text_table": ""}
    assert origin_of(load_segmentation_dataset("folder", tmp_path, **texts)) == origin_of(loaded)
    assert "split_seed" not in origin_of(load_segmentation_dataset("folder", tmp_path, split_seed=0))
    assert len(list_examples("folder", tmp_path, group_split="0.5,0,0.5", split_seed=None).splits) == 2


# Patients in the training data


@pytest.fixture
def trained(images, tmp_path):
    """The folder of a model that was trained on two of the four groups."""
    folder = shutil.copytree(TINY, tmp_path / "trained")
    groups = images["group"][:]
    rows = [(group, group, "train" if index < 2 else "eval") for index, group in enumerate(groups)]
    pd.DataFrame(rows, columns=["id", "group", "part"]).to_csv(folder / "_splits.csv", index=False)
    return folder


def test_groups_of_the_training_are_counted_in_python_too(trained, images, tmp_path):
    report = evaluate_model(*load_trained(str(trained)), images, text_modes=())
    assert report.settings["groups_seen_in_training"] == 2
    assert "2 groups (patients) were in the model's training" in report.table()
    assert "2 groups (patients) of these images were in the training" in bundled(report, tmp_path, trained)


def test_groups_seen_by_a_model_that_was_trained_further_are_unknown(trained, images):
    model, processor = load_trained(str(trained))
    model.decode_head.classifier.bias.data += 1
    assert evaluate_model(model, processor, images, text_modes=()).settings["groups_seen_in_training"] is None


def test_a_model_without_a_name_reads_no_list_of_the_folder_one_is_in(trained, images, monkeypatch):
    monkeypatch.chdir(trained)
    model = tiny_reader(backbone_config=tiny_vision_config())
    assert evaluate_model(model, tiny_processor(), images, text_modes=()).settings["groups_seen_in_training"] is None
