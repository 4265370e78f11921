"""The advice in messages about data, labels and options works when it is followed."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import yaml
from huggingface_hub.errors import StrictDataclassClassValidationError
from PIL import Image
from tiny import tiny_config, tiny_text_config

from tevia_cli.main import main
from tevia_hf import TeViAConfig, TeViAImageProcessor, segmentation_metrics
from tevia_hf.data.augment import TextAwareAugmentation
from tevia_hf.data.check import check_dataset
from tevia_hf.data.decoding import decode_example
from tevia_hf.data.features import undecoded
from tevia_hf.data.generated_prompts import choose_language
from tevia_hf.data.ready import ready_dataset
from tevia_hf.data.registry import list_examples, load_segmentation_dataset
from tevia_hf.data.survey import Survey
from tevia_hf.inference.check_data import check_data
from tevia_hf.inference.predict import predict_files
from tevia_hf.io import read_image, write_mask
from tevia_hf.io.output_dir import claim_output_dir
from tevia_hf.labels_tevia import class_names
from tevia_hf.option_checks_tevia import check_share
from tevia_hf.prompts import ReportLanguage
from tevia_hf.training.arguments import parse_fields
from tevia_hf.training.recipe import config_fields, load_splits

RECIPE = {"vision_model": "vision", "text_model": "text", "output_dir": "out"}
TEXTS = ("left lung", "right lung", "both lungs", "upper left lung", "lower right lung", "two infected areas")


def folder(root: Path, values=((1,), (2,), (1, 2), (1,), (2,), (1,)), header="Image,Description,split", texts=TEXTS):
    """A data set whose masks have a square of each of these values."""
    rng, lines = np.random.default_rng(0), [header]
    for index, (labels, text) in enumerate(zip(values, texts, strict=False)):
        mask = np.zeros((40, 40), np.uint8)
        for place, label in enumerate(labels):
            mask[2 + 10 * place : 10 + 10 * place, 5:20] = label
        for kind, pixels in (("images", rng.integers(0, 255, (40, 40), np.uint8)), ("masks", mask)):
            (root / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(root / kind / f"p{index}.png")
        lines.append(f'p{index}.png,"{text}",{("train", "val")[index % 2]}')
    (root / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def labels_of(root: Path, num_labels: int, **options: Any) -> list[np.ndarray]:
    """All label maps of a folder, as training reads them."""
    rows = [example.row() for example in list_examples("folder", root, **options).examples]
    survey = Survey(TeViAImageProcessor(num_labels=num_labels))
    survey.read_all(rows)
    return [decode_example(row, num_labels, survey.white_is_lesion())["labels"] for row in rows]


def recipe_config(text: str) -> TeViAConfig:
    """The model's config by a recipe with this line."""
    recipe = parse_fields(RECIPE | yaml.safe_load(text))
    return tiny_config(**config_fields(recipe.model.config))


def faults(root: Path, **options: Any) -> str:
    report = check_data("folder", root, cache=False, **options)
    return "\n".join(report.faults + report.warnings)


def raised(call: Callable[[], Any]) -> str:
    with pytest.raises((ValueError, StrictDataclassClassValidationError)) as caught:
        call()
    return str(caught.value)


def keeps_classes(root: Path, num_labels: int) -> None:
    assert set(np.unique(np.stack(labels_of(root, num_labels)))) == {0, 1, 2}


# Classes and labels


def classes_by_check_data(root, out, capsys):
    number = re.search(r"`(--num-labels \d)` of `tevia check-data`", faults(folder(root)))[1]
    main(["check-data", "folder", str(root), *number.split()])
    shown = capsys.readouterr().out
    assert "not labels" not in shown and "LABEL_1 2, LABEL_2 1" in shown


def classes_by_num_labels_of_a_recipe(root, out, capsys):
    config = recipe_config(re.search(r"`(config: \{num_labels: \d\})` of a recipe", faults(folder(root)))[1])
    assert config.num_labels == 3
    keeps_classes(root, config.num_labels)


def classes_by_names_in_a_recipe(root, out, capsys):
    config = recipe_config(re.search(r"`(config: \{id2label: .*?\}\})`", faults(folder(root)))[1])
    assert config.num_labels == 3 and len(class_names(config.id2label)) == 2
    keeps_classes(root, config.num_labels)


def classes_in_the_error_of_a_training(root, out, capsys):
    rows = [example.row() for example in list_examples("folder", folder(root)).examples]
    message = raised(lambda: Survey(TeViAImageProcessor()).read_all(rows))
    keeps_classes(root, recipe_config(re.search(r"`(config: \{num_labels: \d\})`", message)[1]).num_labels)


def one_class_written_as_1(root, out, capsys):
    folder(root, values=[(2,)] * 6)
    expression = re.search(r"one class, write 1 for all \((mask > 0)\)", faults(root))[1]
    for path in (root / "masks").iterdir():
        Image.fromarray(eval(expression, {"mask": np.asarray(Image.open(path))}).astype(np.uint8)).save(path)
    assert "not labels" not in faults(root) and all(labels.any() for labels in labels_of(root, 1))


def labels_beyond_the_model(root, out, capsys):
    folder(root, values=[(1,), (2,), (3,), (1,), (2,), (3,)])
    number = int(re.search(r"`--num-labels (\d)`", faults(root, num_labels=3))[1])
    assert set(np.unique(np.stack(labels_of(root, number)))) == {0, 1, 2, 3}


def probabilities_as_masks(root, out, capsys):
    mask = np.array([[0, 0.25], [0.75, 1]])
    advice = raised(lambda: TeViAImageProcessor()(np.zeros((2, 2), np.uint8), mask))
    expression = re.search(r"\((mask > 0\.5)\)", advice)[1]
    (labels,) = TeViAImageProcessor(do_resize=False)(np.zeros((2, 2), np.uint8), eval(expression))["labels"]
    assert labels.tolist() == [[0, 0], [1, 1]]


def ignored_pixels_in_a_mask_file(root, out, capsys):
    mask = np.array([[0, 1, 255]])
    number = int(re.search(r"num_labels=(\d)\.", raised(lambda: write_mask(out / "a.png", mask)))[1])
    assert read_image(write_mask(out / "a.png", mask, number)).array.tolist() == mask.tolist()


def masks_that_disagree_about_255(root, out, capsys):
    folder(root, values=[(255,), (255,), (1,), (1,), (255,), (1,)])
    advised = re.search(r"set `white_is_lesion` to (true) if 255 is the lesion, or to (false)", faults(root))
    for value, empty in zip(advised.groups(), (0, 3), strict=True):
        report = check_data("folder", root, white_is_lesion=value == "true", cache=False)
        assert report.is_sound and sum(split["empty masks"] for split in report.splits.values()) == empty
        assert parse_fields(RECIPE | yaml.safe_load(f"white_is_lesion: {value}")).data.white_is_lesion in (True, False)


def references_of_255_alone(root, out, capsys):
    pair = [[[0, 0]]], [[[0, 255]]]
    for text in re.findall(r"`white_is_lesion=(True|False)`", raised(lambda: segmentation_metrics(*pair))):
        assert segmentation_metrics(*pair, white_is_lesion=text == "True")["dice"] == float(text == "False")


def names_that_do_not_fit(root, out, capsys):
    message = raised(lambda: check_data("folder", folder(root), class_names=["a", "b"], num_labels=2))
    number = int(re.search(r"set `num_labels` to (\d)", message)[1])
    assert "not labels" not in faults(root, class_names=["a", "b"], num_labels=number)


def names_without_a_background(root, out, capsys):
    message = raised(lambda: recipe_config("config: {id2label: {1: a, 2: b}}"))
    background = re.search(r"`(0: background)`", message)[1]
    assert recipe_config(f"config: {{id2label: {{{background}, 1: a, 2: b}}}}").num_labels == 3


def names_and_another_number_of_labels(root, out, capsys):
    names = "id2label: {0: background, 1: a, 2: b}"
    message = raised(lambda: recipe_config(f"config: {{num_labels: 2, {names}}}"))
    assert "leave `num_labels` out" in message and recipe_config(f"config: {{{names}}}").num_labels == 3


# Data sets


def columns_under_other_names(root, out, capsys):
    folder(root, values=[(1,)] * 6, header="id,text,split")
    pairs = re.findall(r"'(\w+)' to (\w+)", re.search(r"Rename (.*?)\.", faults(root))[1])
    content = (root / "table.csv").read_text()
    for old, new in pairs:
        content = content.replace(old, new, 1)
    (root / "table.csv").write_text(content)
    assert "column" not in faults(root)


def a_table_of_windows(root, out, capsys):
    folder(root, values=[(1,)] * 6, texts=("Läsion", *TEXTS[1:]))
    content = (root / "table.csv").read_text("utf-8")
    (root / "table.csv").write_bytes(content.encode("cp1252"))
    source, target = re.search(r"`iconv -f (\S+) -t (\S+) table\.csv > new\.csv`", faults(root)).groups()
    (root / "table.csv").write_bytes((root / "table.csv").read_bytes().decode(source).encode(target))
    assert "byte" not in faults(root) and "Läsion" in {one.text for one in list_examples("folder", root).examples}


def data_without_a_text(root, out, capsys):
    folder(root, values=[(1,)] * 6, texts=[""] * 6)
    line = re.search(r"train with `(config: .*)`", faults(root))[1]
    assert recipe_config(line).use_text is False
    assert main(["prompts", "folder", str(root), "--output", str(out / "p.csv"), "--language", "qata"]) == 0
    assert "no example has a text" not in faults(root, text_table=out / "p.csv")


def truncated_texts(root, out, capsys):
    folder(root, values=[(1,)] * 6)
    listing, reader = list_examples("folder", root), SimpleNamespace(image_processor=TeViAImageProcessor())
    (line,) = re.findall(r"`(config: .*?)`", "".join(check_dataset(listing, reader, len, 5, cache=False).warnings))
    limit = recipe_config(line).max_text_length if "positions" not in line else 0
    assert not any("longer than" in text for text in check_dataset(listing, reader, len, limit, cache=False).warnings)


def a_patient_in_two_splits(root, out, capsys):
    folder(root, values=[(1,)] * 6)
    rows = (root / "table.csv").read_text().splitlines()
    groups = ("group", "ana", "ana", "ben", "cleo", "dora", "emil")
    (root / "table.csv").write_text("\n".join(f"{row},{group}" for row, group in zip(rows, groups, strict=True)) + "\n")
    option = re.search(r"lie in more than one split.*split again with --(group-split)", faults(root))[1]
    assert "more than one split" not in faults(root, **{option.replace("-", "_"): "0.6,0.4,0"})


def shares_of_splits(root, out, capsys):
    folder(root, values=[(1,)] * 6)
    shares = re.search(r"e\.g\. ([\d.,]+\d)", raised(lambda: faults(root, group_split="0.7")))[1]
    assert len(list_examples("folder", root, group_split=shares).splits) == 3


def a_split_that_is_missing(root, out, capsys):
    folder(root, values=[(1,)] * 6)
    message = raised(lambda: load_segmentation_dataset("folder", root, "test"))
    assert len(load_segmentation_dataset("folder", root, re.search(r"there are: (\w+)", message)[1])) == 3
    assert "`group_split`" in message
    assert len(load_segmentation_dataset("folder", root, "test", group_split="0.4,0.3,0.3"))


def files_that_cannot_be_read(root, out, capsys):
    folder(root, values=[(1,)] * 6)
    (root / "images" / "p0.png").write_bytes(b"no image")
    dataset = undecoded(load_segmentation_dataset("folder", root, "train"))
    survey = Survey(TeViAImageProcessor())
    line = re.search(r"`(on_error: skip)`", raised(lambda: survey.read_all(dataset)))[1]
    on_error = parse_fields(RECIPE | yaml.safe_load(line)).data.on_error
    assert Survey(TeViAImageProcessor()).read_all(dataset, on_error) == [1, 2]


def columns_of_ones_own_data_set(root, out, capsys):
    dataset = load_segmentation_dataset("synthetic", count=2, size=64).rename_column("text", "caption")
    expression = re.search(r"`(dataset\.rename_column\(.*?\))`", raised(lambda: ready_dataset(dataset)))[1]
    assert ready_dataset(eval(expression, {"dataset": dataset}))["text"][0]


def several_texts_for_an_image(root, out, capsys):
    rows = load_segmentation_dataset("synthetic", count=2, size=64)
    dataset = rows.remove_columns("text").add_column("text", [["a", "b"], ["c"]])
    message = raised(lambda: ready_dataset(dataset))
    for statement in re.findall(r"`dataset = (.*?)`(?= |,|\.)", message):
        names = {"dataset": dataset, "ready_dataset": ready_dataset}
        assert list(ready_dataset(eval(statement, names), several_texts="first")["text"]) == ["a", "c"]
    line = re.search(r"`(several_texts: draw)`", message)[1]
    assert parse_fields(RECIPE | yaml.safe_load(line)).data.several_texts == "draw"


def class_numbers_as_texts(root, out, capsys):
    rows = load_segmentation_dataset("synthetic", count=2, size=64)
    dataset = rows.remove_columns("text").add_column("text", [0, 1])
    expression = re.search(r"`(dataset\.cast_column\(.*\))`", raised(lambda: ready_dataset(dataset)))[1]
    cast = eval(expression.replace("...", "'benign', 'malignant'"), {"dataset": dataset, "datasets": datasets})
    assert list(ready_dataset(cast)["text"]) == ["benign", "malignant"]


def masks_that_are_not_decoded(root, out, capsys):
    example = undecoded(load_segmentation_dataset("synthetic", count=1, size=64))[0]
    augment = TextAwareAugmentation()
    expression = re.search(r"`(decode_example\(.*\))`", raised(lambda: augment(example)))[1]
    assert augment(eval(expression, {"decode_example": decode_example, "example": example, "num_labels": 1}))


def data_given_in_python_only(root, out, capsys):
    fields = RECIPE | {"dataset": "ready"}
    assert "name a `dataset`" in raised(lambda: load_splits(parse_fields(fields).data))
    assert all(load_splits(parse_fields(RECIPE | {"dataset": "synthetic"}).data))


# Options and texts


def a_threshold_out_of_range(root, out, capsys):
    message = raised(lambda: predict_files("model", [], out, threshold=50))
    assert check_share("threshold", float(re.search(r"e\.g\. ([\d.]+\d)", message)[1])) == 0.5


def a_folder_with_files(root, out, capsys):
    claim_output_dir(out / "run")
    (out / "run" / "result.txt").write_text("before")
    message = raised(lambda: claim_output_dir(out / "run"))
    assert "`--overwrite`" in message and "`--resume`" in message
    claim_output_dir(out / "run", resume=True)
    assert (out / "run" / "result.txt").exists()
    claim_output_dir(out / "run", overwrite=True)
    assert not (out / "run" / "result.txt").exists()


def a_data_set_without_a_language(root, out, capsys):
    message = raised(lambda: choose_language("folder", None, None, "No lesion."))
    names = re.search(r"--language (\S+?),", message)[1].split("|")
    assert all(choose_language("folder", name, None, "No lesion.").name == name for name in names)


def a_template_without_a_field(root, out, capsys):
    field = re.search(r"such as (\{\w+\})", raised(lambda: ReportLanguage("A {finding} lesion.", "None.")))[1]
    assert field in ReportLanguage(f"A {field} {{finding}} lesion.", "None.").template


def a_blank_text_of_an_empty_mask(root, out, capsys):
    text = re.search(r"such as '(.*?)'", raised(lambda: ReportLanguage("{size}", " ")))[1]
    assert ReportLanguage("A {size} lesion.", text).empty == text


def texts_longer_than_the_encoder(root, out, capsys):
    message = raised(lambda: tiny_config(max_text_length=64))
    limit = int(re.search(r"at most (\d+)", message)[1])
    assert tiny_config(max_text_length=limit).max_text_length == tiny_text_config().max_position_embeddings


def token_mixing_without_lengths(root, out, capsys):
    message = raised(lambda: tiny_config(text_projection="token_mixing"))
    lengths, projection = re.search(r"e\.g\. (\[.*?\]), or use `text_projection='(\w+)'`", message).groups()
    assert tiny_config(text_projection="token_mixing", text_token_lengths=yaml.safe_load(lengths))
    assert tiny_config(text_projection=projection)


SITUATIONS = [
    *(classes_by_check_data, classes_by_num_labels_of_a_recipe, classes_by_names_in_a_recipe),
    *(classes_in_the_error_of_a_training, one_class_written_as_1, labels_beyond_the_model, probabilities_as_masks),
    *(ignored_pixels_in_a_mask_file, masks_that_disagree_about_255, references_of_255_alone, names_that_do_not_fit),
    *(names_without_a_background, names_and_another_number_of_labels, columns_under_other_names, a_table_of_windows),
    *(data_without_a_text, truncated_texts, a_patient_in_two_splits, shares_of_splits, a_split_that_is_missing),
    *(files_that_cannot_be_read, columns_of_ones_own_data_set, several_texts_for_an_image, class_numbers_as_texts),
    *(masks_that_are_not_decoded, data_given_in_python_only, a_threshold_out_of_range, a_folder_with_files),
    *(a_data_set_without_a_language, a_template_without_a_field, a_blank_text_of_an_empty_mask),
    *(texts_longer_than_the_encoder, token_mixing_without_lengths),
]


@pytest.mark.parametrize("situation", SITUATIONS, ids=lambda situation: situation.__name__)
def test_advice_works_when_it_is_followed(situation, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    situation(tmp_path / "data", tmp_path / "out", capsys)
