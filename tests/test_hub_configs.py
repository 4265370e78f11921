"""Every folder of `hub_configs` loads, builds, and starts the training run it describes."""

import json
from pathlib import Path

import layouts
import pandas as pd
import pytest
import torch
import yaml
from tiny import tiny_text_config, tiny_tokenizer
from transformers import AutoConfig, AutoImageProcessor, BertModel, ConvNextConfig, ConvNextModel
from transformers.image_utils import PILImageResampling

from tevia_hf import (
    TeViAConfig,
    TeViAForSegmentation,
    TeViAImageProcessor,
    TeViAProcessor,
    load_segmentation_dataset,
    segmentation_metrics,
    train_from_recipe,
)
from tevia_hf.configuration_tevia import PUBLISHED
from tevia_hf.data.features import undecoded
from tevia_hf.data.registry import list_examples
from tevia_hf.data.survey import reference_labels
from tevia_hf.data.synthetic import DEFAULT_COUNTS
from tevia_hf.demo.run import train_model
from tevia_hf.inference.predict import predict_masks
from tevia_hf.training.arguments import parse_recipe
from tevia_hf.training.recipe import config_fields
from tevia_hf.training.trainer import record_known_words

FOLDERS = sorted(path for path in (Path(__file__).parents[1] / "hub_configs").iterdir() if path.is_dir())
TRAINED_FROM_ENCODERS = [folder for folder in FOLDERS if folder.name != "tevia-tiny"]
MINIATURES = {
    "qata": layouts.qata,
    "mosmed": layouts.mosmed,
    "monuseg": layouts.monuseg,
    "breast": layouts.busi,
    "brain": layouts.figshare,
}
every_folder = pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
every_joined = pytest.mark.parametrize("folder", TRAINED_FROM_ENCODERS, ids=lambda folder: folder.name)


@every_folder
def test_a_folder_loads_and_its_model_builds_without_memory(folder):
    config = TeViAConfig.from_pretrained(folder)
    assert type(AutoConfig.from_pretrained(folder)) is TeViAConfig
    assert type(AutoImageProcessor.from_pretrained(folder)) is TeViAImageProcessor
    with torch.device("meta"):
        model = TeViAForSegmentation(config)
    assert model.decode_head.classifier.out_channels == 1
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}


@every_joined
def test_what_a_recipe_builds_is_what_the_folder_says(folder):
    """The recipe's fields on the folder's own encoders give its config; its pixels likewise."""
    recipe, config = parse_recipe(folder / "recipe.yaml"), TeViAConfig.from_pretrained(folder)
    encoders = {"backbone_config": config.backbone_config, "text_config": config.text_config}
    built = TeViAConfig(**encoders, **config_fields(recipe.model.config))
    service = ("architectures", "_name_or_path", "transformers_version")
    assert {k: v for k, v in built.to_dict().items() if k not in service} == {
        k: v for k, v in config.to_dict().items() if k not in service
    }
    pixels = AutoImageProcessor.from_pretrained(folder)
    for name, value in (recipe.model.image_processor or {}).items():
        held = getattr(pixels, name)
        assert (dict(held) if name == "size" else held) == value


@pytest.mark.parametrize("name", ["qata", "mosmed", "monuseg", "breast", "brain"])
def test_the_published_setting_is_the_authors(name):
    folder = FOLDERS[0].parent / f"tevia-{name}"
    config, recipe = TeViAConfig.from_pretrained(folder), parse_recipe(folder / "recipe.yaml")
    assert config.backbone_config.hidden_sizes == [96, 192, 384, 768]
    assert {name: getattr(config, name) for name in PUBLISHED} == PUBLISHED
    pixels = AutoImageProcessor.from_pretrained(folder)
    assert dict(pixels.size) == {"height": 224, "width": 224} and pixels.normalization == "zscore"
    assert pixels.resample == PILImageResampling.BICUBIC and not pixels.do_antialias
    assert recipe.model.vision_model == "facebook/convnext-tiny-224"
    assert recipe.model.text_model == "microsoft/BiomedVLP-CXR-BERT-specialized"
    shares = {name: share for name, share in vars(recipe.data).items() if name.endswith("_probability") and share}
    assert shares == {"zoom_probability": 0.1}
    run = recipe.training
    assert (run.num_train_epochs, run.per_device_train_batch_size, run.metric_for_best_model) == (200, 32, "dice")
    assert run.optim.startswith("adamw") and (run.learning_rate, run.weight_decay) == (3e-4, 0.01)
    assert (run.lr_scheduler_type, run.lr_scheduler_kwargs) == ("cosine_with_min_lr", {"min_lr": 1e-6})
    assert (run.prototype_warmup_epochs, run.early_stopping_patience) == (20, 20)


@pytest.fixture(scope="module")
def encoders(tmp_path_factory):
    """A shallow ConvNeXt of the published widths, which the head grid needs, and a tiny BERT."""
    folder = tmp_path_factory.mktemp("encoders")
    torch.manual_seed(0)
    ConvNextModel(ConvNextConfig(depths=[1, 1, 1, 1])).save_pretrained(folder / "vision")
    BertModel(tiny_text_config(), add_pooling_layer=False).save_pretrained(folder / "text")
    tiny_tokenizer().save_pretrained(folder / "text")
    return {half: str(folder / half) for half in ("vision", "text")}


@pytest.mark.parametrize(
    ("folder", "dataset"),
    [(folder, None) for folder in TRAINED_FROM_ENCODERS] + [(FOLDERS[0].parent / "tevia-mobile-qata", "mosmed")],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_recipe_starts_a_training_run_on_a_miniature_of_its_data(folder, dataset, encoders, tmp_path):
    """Or of another data set's, named in place of its own."""
    values = yaml.safe_load((folder / "recipe.yaml").read_text())
    dataset = dataset or values["dataset"]
    MINIATURES[dataset](tmp_path / "data")
    limits = {"config": json.dumps({**(values.get("config") or {}), "max_text_length": 24})}
    words = {
        "dataset": dataset,
        "vision_model": encoders["vision"],
        "text_model": encoders["text"],
        "data_dir": str(tmp_path / "data"),
        "output_dir": str(tmp_path / "run"),
        "image_processor": json.dumps({"size": {"height": 64, "width": 64}}),
        "use_cpu": "true",
        "max_steps": "1",
        "early_stopping_patience": "1",
        **limits,
    }
    words["text_table"] = str(texts_that_differ(dataset, tmp_path))
    trainer = train_from_recipe(folder / "recipe.yaml", [w for k, v in words.items() for w in (f"--{k}", v)])
    assert trainer.state.global_step == 1
    assert (tmp_path / "run" / "model.safetensors").is_file()


def texts_that_differ(dataset, folder):
    """A table of two texts in turn, as a model learns nothing where all are equal."""
    names = [example.id for example in list_examples(dataset, folder / "data").examples]
    texts = [f"one infected area, lower {('left', 'right')[number % 2]} lung" for number in range(len(names))]
    pd.DataFrame({"Image": names, "Description": texts}).to_csv(folder / "texts.csv", index=False)
    return folder / "texts.csv"


def test_tevia_tiny_reads_its_sentence():
    """Its Dice on films it never saw; the lesions of the other sentence look alike."""
    folder = FOLDERS[0].parent / "tevia-tiny"
    assert (folder / "model.safetensors").stat().st_size <= 3_000_000
    model, processor = TeViAForSegmentation.from_pretrained(folder), TeViAProcessor.from_pretrained(folder)
    meant, others = (
        load_segmentation_dataset("synthetic", split="test", size=64, count=24, counterpart=c) for c in (False, True)
    )
    scores = []
    for texts in (meant, others):
        examples = [{"image": e["image"], "text": text} for e, text in zip(meant, texts["text"], strict=True)]
        masks = predict_masks(model, processor, examples, description=None)
        references = [reference_labels(example, processor.image_processor) for example in undecoded(meant)]
        scores.append(segmentation_metrics(masks, references, outlines=False)["dice"])
    assert scores[0] > 0.9 and scores[1] < 0.1


def test_the_recipe_of_tevia_tiny_makes_the_model_of_the_demo(tmp_path, monkeypatch):
    """Bit by bit, through epochs without prototypes, the one that collects them and one that moves them."""
    monkeypatch.setitem(DEFAULT_COUNTS, "train", 32)
    folder = FOLDERS[0].parent / "tevia-tiny"
    words = f"--config_name {folder} --output_dir {tmp_path / 'run'} --num_train_epochs 4".split()
    train_from_recipe(folder / "recipe.yaml", words)
    trained = TeViAForSegmentation.from_pretrained(tmp_path / "run")
    train_model(tmp_path, use_text=True, num_train_epochs=4, seed=0)
    demo = TeViAForSegmentation.from_pretrained(tmp_path / "model").state_dict()
    assert trained.prototype_memory.is_active and trained.state_dict().keys() == demo.keys()
    assert all(torch.equal(weight, demo[name]) for name, weight in trained.state_dict().items())


def test_the_tiny_model_knows_the_words_it_was_trained_on():
    folder = FOLDERS[0].parent / "tevia-tiny"
    recipe, processor = parse_recipe(folder / "recipe.yaml"), TeViAProcessor.from_pretrained(folder)
    held, processor.known_words = processor.known_words, None
    record_known_words(processor, load_segmentation_dataset(recipe.data.dataset, split="train"), None)
    assert held == processor.known_words
