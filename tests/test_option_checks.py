"""Which numbers each option takes, and that a wrong one is refused before anything is loaded, wherever it is given."""

import argparse
import re
from dataclasses import field, make_dataclass

import numpy as np
import pytest
import torch

from tevia_cli.main import main
from tevia_cli.options import add_data_options
from tevia_hf import (
    TeViAImageProcessor,
    TeViAPrototypeMemory,
    check_data,
    compare_runs,
    evaluate_dataset,
    evaluate_model,
    predict,
    predict_files,
)
from tevia_hf.data import options
from tevia_hf.data.splits import sample
from tevia_hf.inference.predict import predict_masks
from tevia_hf.option_checks_tevia import (
    check_count,
    check_not_negative,
    check_number,
    check_positive,
    check_seed,
    check_share,
    check_share_above_zero,
    check_share_below_one,
    number_from,
)
from tevia_hf.training.averaging import AveragingAdamW
from tevia_hf.training.callbacks import MomentumPrototypeCallback, PrototypeAwareEarlyStopping

NO_NUMBERS = (float("nan"), float("inf"), -float("inf"), True, "0.5", "", None, [1], np.nan)


@pytest.mark.parametrize(
    ("check", "right", "wrong"),
    [
        (check_share, (0, 0.5, 1, np.float32(1)), (-0.001, 1.001, 50)),
        (check_share_below_one, (0, 0.999), (1, -0.1)),
        (check_share_above_zero, (1e-9, 1), (0, 1.1)),
        (check_positive, (1e-12, 7), (0, -1)),
        (check_not_negative, (0, 2.5), (-1e-9,)),
        (check_number, (-3, 0.0), ()),
        (check_count, (1, np.int64(8)), (0, -1, 2.5, 16.0)),
        (check_seed, (0, 2**32 - 1), (-1, 2**32, 1.0)),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_a_check_gives_back_what_is_allowed_and_refuses_the_rest(check, right, wrong):
    assert all(check("rate", value) is value for value in right)
    for value in (*wrong, *NO_NUMBERS):
        with pytest.raises(ValueError, match="`rate` is .*: give .*e.g. "):
            check("rate", value)


def test_the_error_states_the_value_and_the_range():
    with pytest.raises(ValueError, match=re.escape("`threshold` is 50: give a number from 0 to 1, e.g. 0.5.")):
        check_share("threshold", 50)
    with pytest.raises(ValueError, match="`num_labels` is 300: give a whole number from 1 to 255, e.g. 2"):
        check_count("num_labels", 300, example="2", most=255)


def test_a_decimal_comma_is_refused_with_the_point_to_write():
    with pytest.raises(ValueError, match=r"`threshold` is '0,8': give 0\.8, with a decimal point.* from 0 to 1"):
        check_share("threshold", "0,8")


@pytest.mark.parametrize(
    ("text", "number"), [("16", 16), ("1e-4", 1e-4), ("-1", -1), ("0,8", "0,8"), ("half", "half"), ("inf", np.inf)]
)
def test_text_is_read_as_the_number_it_spells(text, number):
    assert number_from(text) == number and type(number_from(text)) is type(number)


# Before anything is loaded: the models and files named here do not exist.

NOWHERE = "/nowhere"
CALLS = {
    "predict_masks": lambda **option: predict_masks(None, None, [], **option),
    "predict": lambda **option: predict(None, None, [NOWHERE], [""], NOWHERE, **option),
    "predict_files": lambda **option: predict_files(NOWHERE, [NOWHERE], NOWHERE, **option),
    "evaluate_model": lambda **option: evaluate_model(None, None, None, **option),
    "evaluate_dataset": lambda **option: evaluate_dataset(NOWHERE, **option),
    "check_data": lambda **option: check_data("folder", NOWHERE, **option),
    "compare_runs": lambda **option: compare_runs(NOWHERE, NOWHERE, **option),
    "sample": lambda **option: sample(None, seed=0, **option),
    "post_process": lambda **option: TeViAImageProcessor().post_process_segmentation(None, **option),
    "prototypes": lambda **option: TeViAPrototypeMemory([8], **option),
    "averaging": lambda **option: AveragingAdamW([{"params": [torch.nn.Parameter(torch.zeros(1))]}], **option),
    "prototype callback": MomentumPrototypeCallback,
    "early stopping": PrototypeAwareEarlyStopping,
}


@pytest.mark.parametrize(
    ("call", "option", "values"),
    [
        *((name, "threshold", (50, "0,8", float("nan"), -1)) for name in list(CALLS)[:5]),
        *((name, "batch_size", (0, -1, 2.5)) for name in list(CALLS)[:5]),
        ("predict_files", "window", ((float("nan"), 100), (40, 0), (40, float("inf")))),
        ("evaluate_model", "seed", (-1, 0.5)),
        ("evaluate_dataset", "seed", (-1,)),
        ("evaluate_dataset", "max_samples", (0, -3, 1.5)),
        ("check_data", "num_labels", (0, 256)),
        ("check_data", "max_text_length", (0,)),
        ("compare_runs", "seed", (-1,)),
        ("sample", "max_samples", (0, -5, 2.5)),
        ("post_process", "threshold", (1.5, float("nan"))),
        ("prototypes", "momentum", (1.5, float("nan"))),
        ("averaging", "decay", (1, -0.1, float("nan"))),
        ("prototype callback", "warmup_epochs", (-1, 1.5)),
        ("early stopping", "early_stopping_patience", (0, 1.5)),
        ("early stopping", "warmup_epochs", (-1,)),
    ],
)
def test_python_refuses_an_option_out_of_range_before_anything_is_loaded(call, option, values):
    for value in values:
        with pytest.raises(ValueError, match=rf"`?{option}`? is .*: give "):
            CALLS[call](**{option: value})


@pytest.mark.parametrize(
    ("words", "option", "values"),
    [
        (["predict", NOWHERE, NOWHERE, "--output-dir", NOWHERE], "--threshold", ("50", "8", "-1", "nan", "0,8")),
        (["predict", NOWHERE, NOWHERE, "--output-dir", NOWHERE], "--batch-size", ("0", "1.5", "many")),
        (["predict", NOWHERE, NOWHERE, "--output-dir", NOWHERE], "--window", ("nan,100", "40,0", "40,-400", "1,inf")),
        (["evaluate", NOWHERE, "--output-dir", NOWHERE], "--threshold", ("1.01", "inf")),
        (["evaluate", NOWHERE, "--output-dir", NOWHERE], "--batch-size", ("-8",)),
        (["evaluate", NOWHERE, "--output-dir", NOWHERE], "--max-samples", ("0", "-1")),
        (["evaluate", NOWHERE, "--output-dir", NOWHERE], "--seed", ("-1",)),
        (["evaluate", NOWHERE, "--output-dir", NOWHERE], "--split-seed", ("-1", "x")),
        (["evaluate", NOWHERE, "--output-dir", NOWHERE], "--group-split", ("0.7,0.1", "0.7,0.7,0.7", "nan,0.5,0.5")),
        (["check-data", "folder", NOWHERE], "--num-labels", ("0", "256")),
        (["check-data", "folder", NOWHERE], "--max-text-length", ("0",)),
        (["prompts", "folder", NOWHERE], "--num-labels", ("0",)),
        (["compare", NOWHERE, NOWHERE], "--seed", ("-1",)),
        (["demo"], "--epochs", ("0", "-1", "nan")),
        (["demo"], "--seed", ("-1",)),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else None,
)
def test_a_command_names_the_option_and_its_range_and_ends_with_2(words, option, values, capsys):
    name = option.removeprefix("--").replace("-", "_")
    for value in values:
        with pytest.raises(SystemExit, match="2"):
            main([*words, f"{option}={value}"])
        shown = capsys.readouterr().err
        assert f"argument {option}: " in shown and re.search(rf"`?{name}`? is .*: give ", shown), shown


def test_an_option_of_the_data_has_the_type_of_its_field_on_the_command_line(monkeypatch):
    values = [("depth", int, 3), ("zoom", float | None, None), ("mirror", bool, False), ("name", str | None, None)]
    made = [(name, kind, field(default=default, metadata={"help": "5 %"})) for name, kind, default in values]
    monkeypatch.setattr(options, "SourceOptions", make_dataclass("Own", made, bases=(options.SourceOptions,)))
    parser = argparse.ArgumentParser()
    add_data_options(parser, "depth", "zoom", "mirror", "name", "cache")
    assert vars(parser.parse_args([])) == {name: default for name, _, default in values} | {"cache": True}
    given = parser.parse_args("--depth 4 --zoom 2 --mirror --name 7 --no-cache".split())
    assert vars(given) == {"depth": 4, "zoom": 2.0, "mirror": True, "name": "7", "cache": False}
    assert type(given.zoom) is float and "--no-cache" in parser.format_help()
