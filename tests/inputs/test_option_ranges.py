"""Options out of range are refused before anything is loaded, by command, pipeline and Python alike."""

import math

import numpy as np
import pytest
import torch
from builders import answer, data_set, lesion, noise, pair
from PIL import Image
from tiny import tiny_config

from tevia_cli.main import main
from tevia_hf import TeViASegmentationPipeline, evaluate_model, load_segmentation_dataset, predict, segmentation_metrics
from tevia_hf.data.augment import TextAwareAugmentation
from tevia_hf.evaluation.evaluate import evaluate_dataset
from tevia_hf.inference.predict import predict_files, predict_masks
from tevia_hf.io import parse_window, read_image
from tevia_hf.outputs_tevia import TeViASegmentationOutput
from tevia_hf.training.arguments import parse_fields

NO_MODEL = "no/such/model/anywhere"  # whoever looks for it has loaded something
NO_SHARES = [50, -1, math.nan]
NO_COUNTS = [0, -1]


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(noise()).save(path)
    return path


@pytest.fixture(scope="module")
def testing(tmp_path_factory):
    root = data_set(tmp_path_factory.mktemp("set"), {"a": lesion(), "b": lesion().T}, split=["test", "test"])
    return load_segmentation_dataset("folder", root, split="test")


def ended(words, capsys):
    """Exit code and standard error of a command."""
    try:
        code = main([str(word) for word in words])
    except SystemExit as end:
        code = end.code
    return code, capsys.readouterr().err


# Commands


@pytest.mark.parametrize("value", ["50", "-1", "nan", "1.5", "0,8", ""])
@pytest.mark.parametrize("subcommand", ["predict", "evaluate"])
def test_a_command_refuses_a_threshold_that_no_probability_can_pass(subcommand, value, image, tmp_path, capsys):
    words = [subcommand, NO_MODEL, *([image] if subcommand == "predict" else []), f"--threshold={value}"]
    code, spoken = ended([*words, "--output-dir", tmp_path / "out"], capsys)
    assert code == 2 and "threshold" in spoken and not (tmp_path / "out").exists()


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "nan"])
@pytest.mark.parametrize("subcommand", ["predict", "evaluate"])
def test_a_command_refuses_a_batch_of_no_images(subcommand, value, image, tmp_path, capsys):
    words = [subcommand, NO_MODEL, *([image] if subcommand == "predict" else []), f"--batch-size={value}"]
    code, spoken = ended([*words, "--output-dir", tmp_path / "out"], capsys)
    assert code == 2 and ("batch_size" in spoken or "batch-size" in spoken)


@pytest.mark.parametrize("value", ["0", "-5"])
def test_evaluate_refuses_no_samples(value, tmp_path, capsys):
    code, spoken = ended(["evaluate", NO_MODEL, f"--max-samples={value}", "--output-dir", tmp_path / "out"], capsys)
    assert code == 2 and ("max_samples" in spoken or "max-samples" in spoken)


@pytest.mark.parametrize("value", ["40", "40,0", "40,-400", "nan,400", "40,nan", "40,inf", "0,5,400", "a,b"])
def test_a_command_refuses_a_window_without_a_width(value, image, tmp_path, capsys):
    words = ["predict", NO_MODEL, image, f"--window={value}", "--output-dir", tmp_path / "out"]
    code, spoken = ended(words, capsys)
    assert code == 2 and "window" in spoken


@pytest.mark.parametrize("option", ["--num-labels=0", "--num-labels=-1", "--max-text-length=0", "--max-text-length=-3"])
def test_check_data_refuses_counts_below_1(option, tmp_path, capsys):
    code, spoken = ended(["check-data", "folder", pair(tmp_path, lesion()), option], capsys)
    name = option.split("=")[0].removeprefix("--")
    assert code == 2 and (name in spoken or name.replace("-", "_") in spoken)


@pytest.mark.parametrize("value", ["0.5,0.5", "2,-0.5,-0.5", "0.7,0.2,0.2", "nan,0.5,0.5", "0,7,0,1,0,2", "70,10,20"])
def test_a_command_refuses_shares_that_are_none(value, tmp_path, capsys):
    code, spoken = ended(["check-data", "folder", pair(tmp_path, lesion()), f"--group-split={value}"], capsys)
    assert code == 2 and ("group_split" in spoken or "group-split" in spoken)


def test_the_refusal_states_the_value_and_what_is_allowed(image, tmp_path, capsys):
    words = ["predict", NO_MODEL, image, "--threshold=50", "--output-dir", tmp_path / "out"]
    _, spoken = ended(words, capsys)
    assert "threshold" in spoken and "50" in spoken and "0 to 1" in spoken


@pytest.mark.parametrize("value", ["0", "1"])
def test_a_threshold_within_range_is_taken(value, reader_dir, image, tmp_path, capsys):
    words = ["predict", reader_dir, image, f"--threshold={value}", "--output-dir", tmp_path / "out"]
    assert ended(words, capsys)[0] == 0


# Python


def calls_with(**option):
    """Calls that take a threshold and a batch size; those of the first two need no model to refuse."""
    return {
        "predict_files": lambda given: predict_files(NO_MODEL, [given["image"]], given["out"], **option),
        "evaluate_dataset": lambda given: evaluate_dataset(NO_MODEL, **option),
        "predict": lambda given: predict(*given["model"], [given["image"]], ["left"], given["out"], **option),
        "predict_masks": lambda given: predict_masks(
            *given["model"], [{"image": given["image"], "text": "left"}], **option
        ),
        "evaluate_model": lambda given: evaluate_model(*given["model"], given["testing"], [], **option),
    }


CALLS = list(calls_with())


@pytest.fixture
def given(image, tmp_path, reader, processor, testing):
    return {"image": image, "out": tmp_path / "out", "model": (reader, processor), "testing": testing}


@pytest.mark.parametrize("value", NO_SHARES)
@pytest.mark.parametrize("call", CALLS)
def test_python_refuses_a_threshold_that_is_no_probability(call, value, given):
    with pytest.raises(ValueError, match="threshold"):
        calls_with(threshold=value)[call](given)
    assert not given["out"].exists()


@pytest.mark.parametrize("value", NO_COUNTS)
@pytest.mark.parametrize("call", CALLS)
def test_python_refuses_a_batch_of_no_images(call, value, given):
    with pytest.raises(ValueError, match="batch_size"):
        calls_with(batch_size=value)[call](given)


@pytest.mark.parametrize("value", ["0.5", None, [0.5]])
def test_a_threshold_that_is_no_number_is_refused(value, given):
    assert answer(lambda: predict_masks(*given["model"], [], threshold=value), TypeError).names("threshold")


@pytest.mark.parametrize("value", NO_SHARES)
def test_post_processing_refuses_a_threshold_that_is_no_probability(value, processor):
    outputs = TeViASegmentationOutput(logits=torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="threshold"):
        processor.post_process_segmentation(outputs, threshold=value)


@pytest.mark.parametrize("value", NO_SHARES)
def test_the_pipeline_refuses_a_threshold_that_is_no_probability(value, reader, processor):
    segment = TeViASegmentationPipeline(reader, processor=processor, device="cpu")
    with pytest.raises(ValueError, match="threshold"):
        segment(Image.fromarray(noise()), "left", threshold=value)


@pytest.mark.parametrize("value", [0, -3])
def test_evaluation_refuses_no_samples(value):
    with pytest.raises(ValueError, match="max_samples"):
        evaluate_dataset(NO_MODEL, max_samples=value)


@pytest.mark.parametrize("value", [-1, math.nan, math.inf])
def test_metrics_refuse_a_tolerance_that_no_boundary_can_have(value):
    with pytest.raises(ValueError, match="tolerance"):
        segmentation_metrics([lesion(value=1)], [lesion(value=1)], surface_tolerance=value)


@pytest.mark.parametrize("value", [(0, 1), (-1, 1), (math.nan, 1), (1, math.inf), (1,)])
def test_metrics_refuse_a_spacing_that_no_pixel_has(value):
    given = answer(lambda: segmentation_metrics([lesion(value=1)], [lesion(value=1)], [value]), TypeError)
    assert given.error is not None and given.names("spacing")


@pytest.mark.parametrize("value", NO_SHARES)
@pytest.mark.parametrize("name", ["flip", "vertical_flip", "zoom", "paraphrase"])
def test_augmentation_refuses_shares_that_are_none(name, value):
    with pytest.raises(ValueError, match=f"{name}_probability"):
        TextAwareAugmentation(**{f"{name}_probability": value})


@pytest.mark.parametrize("value", NO_SHARES)
@pytest.mark.parametrize("name", ["prototype_momentum", "text_dropout"])
def test_a_configuration_refuses_shares_that_are_none(name, value):
    assert answer(lambda: tiny_config(**{name: value}), Exception).names(name)


@pytest.mark.parametrize("value", ["40,0", "nan,4", "4,nan", "1;2", "40", "0,4,2"])
def test_a_window_is_centre_and_width(value):
    with pytest.raises(ValueError, match="window"):
        parse_window(value)


@pytest.mark.parametrize("spelling", ["#0@40,0", "#0@40,0.0", "#0@nan,400", "#0@40,-400", "#0@40,4,00"])
def test_so_is_one_in_an_address(spelling, tmp_path):
    from medical_files import write_nifti

    write_nifti(tmp_path / "a.nii.gz", np.random.default_rng(0).normal(size=(8, 8, 2)).astype(np.float32))
    assert answer(lambda: read_image(f"{tmp_path / 'a.nii.gz'}{spelling}"), OSError).error


@pytest.mark.parametrize("value", [math.nan, -0.1, 70])
def test_python_refuses_shares_of_splits_that_are_none(value, tmp_path):
    root = data_set(tmp_path, {name: lesion() for name in "abc"})
    with pytest.raises(ValueError, match="group_split"):
        load_segmentation_dataset("folder", root, group_split=(value, 0.5, 0.5))


# Recipes


def recipe(**fields):
    return parse_fields({"config_name": "x", "output_dir": "y", **fields})


def overridden(name, value):
    return parse_fields({"config_name": "x", "output_dir": "y"}, [f"--{name}={value}"])


@pytest.mark.parametrize("value", [*NO_SHARES, "0,5", "half", None])
@pytest.mark.parametrize("name", ["flip_probability", "zoom_probability"])
def test_a_recipe_refuses_shares_that_are_none(name, value):
    assert answer(lambda: recipe(**{name: value}), TypeError).names(name)


@pytest.mark.parametrize("value", ["50", "nan", "0,5", "-1"])
def test_an_override_of_a_recipe_is_as_strict(value):
    with pytest.raises(ValueError, match="flip_probability"):
        overridden("flip_probability", value)


@pytest.mark.parametrize("value", [0, -4, 2.5])
@pytest.mark.parametrize("name", ["per_device_train_batch_size", "per_device_eval_batch_size", "max_train_samples"])
def test_a_recipe_refuses_counts_below_1(name, value):
    assert answer(lambda: recipe(**{name: value}), TypeError).names(name)


@pytest.mark.parametrize("value", [-1e-3, math.nan, math.inf, "1e-3,5"])
@pytest.mark.parametrize("name", ["learning_rate", "backbone_learning_rate"])
def test_a_recipe_refuses_rates_that_teach_nothing(name, value):
    assert answer(lambda: recipe(**{name: value}), TypeError).names(name)


@pytest.mark.parametrize("value", [1, 1.5, -0.1, math.nan])
def test_a_recipe_refuses_averages_that_never_move(value):
    assert answer(lambda: recipe(weight_average_decay=value), TypeError).names("weight_average_decay")


@pytest.mark.parametrize("value", ["40,0", "nan,400", [40, 0], [40, "nan"]])
def test_a_recipe_refuses_a_window_before_data_is_read(value):
    assert answer(lambda: recipe(window=value), TypeError).names("window")


@pytest.mark.parametrize("value", ["70,10,20", "nan,0.5,0.5", [0.7, 0.7, 0.7]])
def test_a_recipe_refuses_shares_of_splits_before_data_is_read(value):
    assert answer(lambda: recipe(group_split=value), TypeError).names("group_split")


@pytest.mark.parametrize("value", [-1, math.nan])
def test_a_recipe_refuses_fewer_than_no_warm_up_epochs(value):
    assert answer(lambda: recipe(prototype_warmup_epochs=value), TypeError).names("prototype_warmup_epochs")


def test_values_at_the_ends_of_the_range_are_taken():
    assert recipe(flip_probability=0, zoom_probability=1, weight_average_decay=0).data.zoom_probability == 1
    assert recipe(window="-600,1500", group_split="0.7,0.1,0.2").data.source_options()["window"] == (-600, 1500)
    TextAwareAugmentation(flip_probability=1, zoom_probability=0.0)
    tiny_config(prototype_momentum=0.99, text_dropout=0)
