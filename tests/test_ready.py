"""Data sets of users: of images, arrays, paths or undecoded files, map-style or streamed, by recipe or not."""

import datasets
import numpy as np
import pytest
import yaml
from datasets import Dataset, DatasetDict, IterableDataset
from PIL import Image
from stock import BATCH, new_model
from tiny import tiny_processor

from tevia_hf import build_trainer, train_from_recipe
from tevia_hf.data.augment import TextAwareAugmentation, augmented
from tevia_hf.data.collate import SegmentationCollator
from tevia_hf.data.features import undecoded
from tevia_hf.data.ready import ready_dataset
from tevia_hf.training.arguments import TeViATrainingArguments

COUNT = 4
TEXTS = ["left lung", "right lung", "left lung", "right lung"]


def arrays(dtype=np.uint8):
    scale = 255 if np.dtype(dtype) == np.uint8 else 4000
    images = [(np.random.default_rng(i).random((32, 36 + i)) * scale).astype(dtype) for i in range(COUNT)]
    masks = [np.zeros(image.shape, np.uint8) for image in images]
    for mask in masks:
        mask[4:20, 4:20] = 255
    return images, masks


def pil_images():
    images, masks = arrays()
    return [Image.fromarray(image) for image in images], [Image.fromarray(mask) for mask in masks]


def columns(kind, folder):
    images, masks = arrays() if kind == "arrays" else pil_images()
    if kind in ("paths", "undecoded"):
        for index, (image, mask) in enumerate(zip(images, masks, strict=True)):
            image.save(folder / f"i{index}.png")
            mask.save(folder / f"m{index}.png")
        images, masks = ([str(folder / f"{part}{index}.png") for index in range(COUNT)] for part in "im")
    return {"image": images, "mask": masks, "text": TEXTS}


def dataset_of(kind, folder) -> Dataset:
    dataset = Dataset.from_dict(columns(kind, folder))
    if kind == "undecoded":
        for part in ("image", "mask"):
            dataset = dataset.cast_column(part, datasets.Image(decode=False))
    return dataset


def stream_of(kind, folder) -> IterableDataset:
    if kind != "generated":
        return dataset_of(kind, folder).to_iterable_dataset()
    content = columns("arrays", folder)
    rows = [dict(zip(content, values, strict=True)) for values in zip(*content.values(), strict=True)]
    return IterableDataset.from_generator(lambda: iter(rows))


def inputs_of(dataset):
    examples = list(undecoded(ready_dataset(dataset)))
    return SegmentationCollator(tiny_processor())(examples)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return inputs_of(dataset_of("images", tmp_path_factory.mktemp("images")))


@pytest.mark.parametrize("kind", ["images", "arrays", "paths", "undecoded"])
@pytest.mark.parametrize("make", [dataset_of, stream_of])
def test_every_kind_of_entry_gives_the_same_inputs(kind, make, expected, tmp_path):
    found = inputs_of(make(kind, tmp_path))
    assert found.keys() == expected.keys()
    assert all((found[name] == expected[name]).all() for name in expected)


def test_arrays_that_a_generator_yields_are_taken_as_they_are(expected, tmp_path):
    assert (inputs_of(stream_of("generated", tmp_path))["pixel_values"] == expected["pixel_values"]).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_arrays_beyond_8_bit_keep_their_values(dtype, tmp_path):
    images, masks = arrays(dtype)
    dataset = ready_dataset(Dataset.from_dict({"image": images, "mask": masks, "text": TEXTS}))
    direct = tiny_processor()(images, TEXTS, masks)
    found = SegmentationCollator(tiny_processor())(list(undecoded(dataset)))
    assert all((found[name] == direct[name]).all() for name in direct)


@pytest.mark.parametrize("dtype", [bool, np.int64])
def test_masks_of_truth_values_or_whole_numbers_are_labels(dtype):
    images, masks = arrays()
    content = {"image": images, "mask": [(mask > 0).astype(dtype) for mask in masks], "text": TEXTS}
    labels = SegmentationCollator(tiny_processor())(list(ready_dataset(Dataset.from_dict(content))))["labels"]
    assert labels.unique().tolist() == [0, 1]


def test_arrays_of_one_size_are_taken_too():
    kinds = {"image": datasets.Array3D((32, 32, 3), "uint8"), "mask": datasets.Array2D((32, 32), "uint8")}
    features = datasets.Features({**kinds, "text": datasets.Value("string")})
    content = {"image": np.zeros((2, 32, 32, 3), np.uint8), "mask": np.ones((2, 32, 32), np.uint8), "text": TEXTS[:2]}
    dataset = ready_dataset(Dataset.from_dict(content, features=features))
    assert dataset[0]["image"].mode == "RGB" and np.asarray(dataset[0]["mask"]).min() == 1


def test_what_is_missing_of_names_is_filled(tmp_path):
    dataset = ready_dataset(dataset_of("images", tmp_path))
    assert dataset["id"][:] == dataset["group"][:] == ["0", "1", "2", "3"]
    named = ready_dataset(dataset_of("images", tmp_path).add_column("id", [7, 8, 9, 10]))
    assert named["id"][:] == named["group"][:] == ["7", "8", "9", "10"]
    streamed = list(ready_dataset(stream_of("images", tmp_path)))
    assert [example["group"] for example in streamed] == ["0", "1", "2", "3"]


def test_a_data_set_with_all_columns_is_left_as_it_is(tmp_path):
    dataset = ready_dataset(dataset_of("images", tmp_path))
    assert ready_dataset(dataset).features == dataset.features and ready_dataset(dataset)[:] == dataset[:]


def test_text_may_be_missing_where_nothing_reads_it(tmp_path):
    for make in (dataset_of, stream_of):
        dataset = ready_dataset(make("images", tmp_path).remove_columns("text"), uses_text=False)
        assert next(iter(dataset))["text"] is None


@pytest.mark.parametrize("make", [dataset_of, stream_of])
@pytest.mark.parametrize(
    ("own", "name", "message"),
    [
        ("images", "image", r"no image: name them, e.g. by `dataset.rename_column\('images', 'image'\)`"),
        ("label", "mask", r"no mask: name them, e.g. by `dataset.rename_column\('label', 'mask'\)`"),
        ("caption", "text", r"rename_column\('caption', 'text'\)`. A vision-only model .* needs none"),
    ],
)
def test_a_missing_column_is_reported_with_the_call_that_renames_one(make, own, name, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        ready_dataset(make("images", tmp_path).rename_column(name, own))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda d: DatasetDict(train=d, test=d), r"the splits \['test', 'train'\]: give one of them"),
        (lambda d: list(d), "A `list` is no `datasets.Dataset`: make one, e.g. by `datasets.Dataset.from_list`"),
        (lambda d: d.with_transform(lambda rows: rows), "has a transform of its own"),
        (lambda d: d.remove_columns("image").add_column("image", [1, 2, 3, 4]), "'image' is of the kind .*int64"),
        (lambda d: d.remove_columns("image").add_column("image", [[[1, 2]]] * 4), "shape \\(1, 2\\) and type int64"),
        (lambda d: d.take(0), "has no examples"),
        (lambda d: d.to_iterable_dataset().take(0), "has no examples"),
    ],
    ids=["splits", "list", "transform", "numbers", "whole numbers", "empty", "empty stream"],
)
def test_what_cannot_be_trained_on_is_refused(make, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        ready_dataset(make(dataset_of("images", tmp_path)))


# Training


@pytest.fixture
def recipe(tmp_path):
    """Writes a recipe that names no data."""
    new_model().save_pretrained(tmp_path / "model")
    tiny_processor().save_pretrained(tmp_path / "model")
    values = {
        "model_name_or_path": str(tmp_path / "model"), "output_dir": str(tmp_path / "run"), "num_train_epochs": 3,
        "per_device_train_batch_size": BATCH, "logging_steps": 1, "use_cpu": True, "disable_tqdm": True,
    }  # fmt: skip

    def write(**changes):
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump({**values, **changes}))
        return tmp_path / "recipe.yaml"

    return write


def test_a_recipe_trains_on_given_data_sets_and_records_it(recipe, tmp_path):
    given = dataset_of("arrays", tmp_path)
    trainer = train_from_recipe(recipe(), train_dataset=given, eval_dataset=given.take(2))
    run = tmp_path / "run"
    assert yaml.safe_load((run / "recipe.yaml").read_text())["dataset"] == "ready"
    assert (run / "_splits.csv").read_text().count("train") == COUNT
    assert trainer.model.prototype_memory.is_active and Image.open(run / "curves.png").width > 1000
    with pytest.raises(ValueError, match=r"given in Python .*train_from_recipe\(recipe, train_dataset="):
        train_from_recipe(run / "recipe.yaml", ["--output_dir", str(tmp_path / "again")])
    again = train_from_recipe(
        run / "recipe.yaml", ["--output_dir", str(tmp_path / "again")], train_dataset=given, eval_dataset=given.take(2)
    )
    assert again.state.log_history[0] == trainer.state.log_history[0]


def test_a_recipe_trains_on_a_stream(recipe, tmp_path):
    words = "--max_steps 6 --eval_strategy steps --eval_steps 2 --save_strategy steps --save_steps 2".split()
    stream = stream_of("images", tmp_path)
    trainer = train_from_recipe(recipe(), words, train_dataset=stream, eval_dataset=dataset_of("images", tmp_path))
    assert trainer.model.prototype_memory.is_active and int(trainer.model.prototype_memory.count) == COUNT
    assert not (tmp_path / "run" / "_splits.csv").exists()


@pytest.mark.parametrize(
    ("changes", "words", "give", "message"),
    [
        ({"dataset": "qata", "data_dir": "x"}, [], "both", "replaces the recipe's dataset, data_dir: leave one"),
        ({}, [], "train", "`train_dataset` but no `eval_dataset`: give one too, or train without validation by"),
        ({}, [], "eval", "an `eval_dataset` but no `train_dataset`"),
        ({}, ["--max_train_samples", "2"], "stream", r"A stream cannot be sampled: .*dataset.take\(100\)"),
    ],
)
def test_a_recipe_and_given_data_sets_that_do_not_go_together_are_refused(
    recipe, changes, words, give, message, tmp_path
):
    one = dataset_of("images", tmp_path)
    given = {"train_dataset": stream_of("images", tmp_path) if give == "stream" else one, "eval_dataset": one}
    given = {name: dataset for name, dataset in given.items() if give in ("both", "stream") or name.startswith(give)}
    with pytest.raises(ValueError, match=message):
        train_from_recipe(recipe(**changes), words, **given)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("make", [dataset_of, stream_of])
def test_build_trainer_takes_data_sets_of_ones_own(make, tmp_path):
    args = TeViATrainingArguments(
        output_dir=str(tmp_path), max_steps=6, per_device_train_batch_size=BATCH, eval_strategy="steps", eval_steps=6,
        save_strategy="no", load_best_model_at_end=False, use_cpu=True, disable_tqdm=True,
    )  # fmt: skip
    given = make("arrays", tmp_path)
    trainer = build_trainer(new_model(), tiny_processor(), args, given, given)
    trainer.train()
    assert int(trainer.model.prototype_memory.count) == COUNT
    assert any("eval_dice" in record for record in trainer.state.log_history)


def test_missing_ids_and_groups_are_filled_without_taking_those_of_others():
    images, masks = pil_images()
    content = {"image": images[:3], "mask": masks[:3], "text": TEXTS[:3], "id": ["2", None, None], "group": [None] * 3}
    ready = ready_dataset(Dataset.from_dict(content))
    assert list(ready["id"]) == ["2", "row-1", "row-2"] == list(ready["group"])


@pytest.mark.parametrize("stream", [False, True])
def test_whole_numbers_with_gaps_are_names_without_a_fraction(stream):
    """As pandas reads them; the row without a group must not join the group of that number."""
    images, masks = arrays()
    fields = {"image": images[:3], "mask": masks[:3], "text": TEXTS[:3], "group": [1.0, None, 2.0]}
    dataset = Dataset.from_dict({**fields, "id": [5.5, 6.0, None]})
    rows = list(ready_dataset(dataset.to_iterable_dataset() if stream else dataset))
    assert [row["group"] for row in rows] == ["1", "6", "2"] and [row["id"] for row in rows][:2] == ["5.5", "6"]
    rows = list(ready_dataset(Dataset.from_dict(fields)))
    assert [row["group"] for row in rows] == ["1", "row-1", "2"]


def test_ids_given_twice_are_refused():
    images, masks = pil_images()
    content = {"image": images[:2], "mask": masks[:2], "text": TEXTS[:2], "id": ["a", "a"]}
    with pytest.raises(ValueError, match="row 'a' appears 2 times"):
        ready_dataset(Dataset.from_dict(content))


# Names and texts of other kinds

SEVERAL = [["left lung", "a lesion, left"], ["right lung", ""], [], None]


def with_text(texts, kind, folder, stream=False):
    dataset = dataset_of("images", folder).remove_columns("text").add_column("text", texts, feature=kind)
    return dataset.to_iterable_dataset() if stream else dataset


def texts_in(dataset):
    return [example["text"] for example in dataset]


@pytest.mark.parametrize("stream", [False, True])
def test_class_labels_become_their_names(stream, tmp_path):
    labels = datasets.ClassLabel(names=["none", "left lung"])
    dataset = with_text([1, 0, None, 1], labels, tmp_path)
    dataset = dataset.add_column("group", [0, 1, 1, 0], feature=datasets.ClassLabel(names=["ana", "ben"]))
    ready = list(ready_dataset(dataset.to_iterable_dataset() if stream else dataset))
    assert [example["text"] for example in ready] == ["left lung", "none", None, "left lung"]
    assert [example["group"] for example in ready] == ["ana", "ben", "ben", "ana"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        ([1, 2, 3, 4], datasets.Value("int64")),
        ([0.5] * 4, datasets.Value("float32")),
        ([True] * 4, datasets.Value("bool")),
        ([{"en": "left"}] * 4, {"en": datasets.Value("string")}),
        ([[1, 2]] * 4, datasets.List(datasets.Value("int64"))),
    ],
    ids=["int", "float", "bool", "struct", "list of int"],
)
def test_texts_that_are_none_are_refused_by_name(texts, kind, stream, tmp_path):
    dataset = with_text(texts, kind, tmp_path, stream)
    with pytest.raises(ValueError, match="The column 'text' holds .*: give texts, or cast class numbers"):
        ready_dataset(dataset)
    assert texts_in(ready_dataset(dataset, uses_text=False)) == [None] * 4


@pytest.mark.parametrize("stream", [False, True])
def test_several_texts_are_refused_unless_the_choice_is_set(stream, tmp_path):
    dataset = with_text(SEVERAL, datasets.List(datasets.Value("string")), tmp_path, stream)
    with pytest.raises(ValueError, match="'text' holds lists, several texts per image. .*`several_texts: draw`"):
        ready_dataset(dataset)
    with pytest.raises(ValueError, match="`several_texts` is 'all': give 'first' or 'draw'"):
        ready_dataset(dataset, several_texts="all")
    assert texts_in(ready_dataset(dataset, several_texts="first")) == ["left lung", "right lung", None, None]
    drawn = ready_dataset(ready_dataset(dataset, several_texts="draw"))
    assert texts_in(drawn) == ["left lung", "right lung", None, None]
    assert [example["all_texts"] for example in drawn] == [SEVERAL[0], ["right lung"], [], []]


@pytest.mark.parametrize("stream", [False, True])
def test_the_line_that_takes_the_first_text_works(stream, tmp_path):
    dataset = with_text(SEVERAL, datasets.List(datasets.Value("string")), tmp_path, stream)
    dataset = dataset.map(lambda row: {"text": (row["text"] or [None])[0]})
    assert texts_in(ready_dataset(dataset)) == ["left lung", "right lung", None, None]


@pytest.mark.parametrize("stream", [False, True])
def test_one_of_several_texts_is_sampled_in_each_epoch(stream, tmp_path):
    full = [["one", "two", "three"]] * 4
    dataset = with_text(full, datasets.List(datasets.Value("string")), tmp_path, stream)
    augmentation = TextAwareAugmentation(flip_probability=0, zoom_probability=0, seed=3)
    dataset = augmented(ready_dataset(dataset, several_texts="draw"), augmentation)
    epochs = []
    for epoch in (0, 1, 2, 3, 0):
        augmentation.set_epoch(epoch)
        epochs.append(tuple(texts_in(dataset)))
    assert epochs[0] == epochs[-1] and len(set(epochs)) == 4 and {"one", "two", "three"} == {*sum(epochs, ())}


def test_a_recipe_samples_of_several_texts_and_validates_on_the_first(recipe, tmp_path):
    given = with_text(SEVERAL[:2] * 2, datasets.List(datasets.Value("string")), tmp_path)
    with pytest.raises(ValueError, match="several texts per image"):
        train_from_recipe(recipe(), train_dataset=given, eval_dataset=given)
    trainer = train_from_recipe(recipe(several_texts="draw"), train_dataset=given, eval_dataset=given)
    assert {"left", "lesion"} <= set(trainer.processing_class.known_words)
    assert "all_texts" not in trainer.eval_dataset.column_names


def test_a_trainer_without_an_augmentation_warns_that_no_text_is_sampled(tmp_path):
    given = with_text(SEVERAL[:2] * 2, datasets.List(datasets.Value("string")), tmp_path)
    args = TeViATrainingArguments(
        output_dir=str(tmp_path), eval_strategy="no", load_best_model_at_end=False, use_cpu=True, disable_tqdm=True
    )
    with pytest.warns(UserWarning, match="Without an augmentation `all_texts` are not sampled"):
        build_trainer(new_model(), tiny_processor(), args, ready_dataset(given, several_texts="draw"))
