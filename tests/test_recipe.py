"""Reading a recipe, claiming its folder, finding its checkpoint, and sampling its data."""

import pytest
import yaml
from layouts import busi
from tiny import tiny_processor

from tevia_hf import load_segmentation_dataset
from tevia_hf.data.splits import sample
from tevia_hf.data.survey import Survey
from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.io.output_dir import claim_output_dir
from tevia_hf.training.arguments import DataArguments, as_mapping, parse_recipe
from tevia_hf.training.checkpoints import last_complete_checkpoint
from tevia_hf.training.recipe import build_augmentation, prepare_datasets

RECIPE = """\
vision_model: some/vision
text_model: some/text
output_dir: outputs/run
learning_rate: 3e-4
backbone_learning_rate: 1.0e-5
num_train_epochs: 7
max_train_samples: 12
use_cpu: true
config: {text_dropout: 0.2}
"""


def tiny_survey():
    return Survey(tiny_processor().image_processor)


@pytest.fixture
def write(tmp_path):
    """Writes text, or values as YAML, to a recipe file."""

    def write(content, **values):
        path = tmp_path / "recipe.yaml"
        path.write_text(content + yaml.safe_dump(values) if values else content, encoding="utf-8")
        return path

    return write


def test_numbers_and_mappings_are_read_as_what_they_are(write):
    recipe = parse_recipe(write(RECIPE))
    assert recipe.training.learning_rate == 3e-4  # which YAML takes for a word
    assert recipe.training.backbone_learning_rate == 1e-5
    assert recipe.training.num_train_epochs == 7 and recipe.training.use_cpu is True
    assert recipe.data.max_train_samples == 12
    assert recipe.model.config == {"text_dropout": 0.2}


def test_what_a_recipe_leaves_out_has_its_default(write):
    recipe = parse_recipe(write(RECIPE))
    assert recipe.data == DataArguments(max_train_samples=12)
    assert recipe.training.metric_for_best_model == "dice" and recipe.training.greater_is_better
    assert recipe.training.remove_unused_columns is False


def test_command_line_options_override_the_recipe(write):
    words = "--learning_rate 1e-3 --text_model other/text --resume --max_train_samples 5 --seed 4".split()
    recipe = parse_recipe(write(RECIPE), words)
    assert recipe.training.learning_rate == 1e-3 and recipe.training.resume and recipe.training.seed == 4
    assert recipe.model.text_model == "other/text" and recipe.model.vision_model == "some/vision"
    assert recipe.data.max_train_samples == 5 and recipe.training.num_train_epochs == 7


def test_options_for_the_config_override_its_single_fields(write):
    recipe = parse_recipe(write(RECIPE), ["--config", "{use_text: false}"])
    assert recipe.model.config == {"text_dropout": 0.2, "use_text": False}
    words = ["--config", "{}", "--vision_model", "", "--text_model", "", "--model_name_or_path", "a/b"]
    assert parse_recipe(write(RECIPE), words).model.config == {}
    assert parse_recipe(write(RECIPE), ["--config", "{dtype: bfloat16, num_labels: 3}"]).model.config["num_labels"] == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config", "{decoder_chanels: [8, 8, 8, 8]}"], "did you mean decoder_channels"),
        (["--image_processor", "{sise: 64}"], "did you mean size"),
        (["--config", "{1: 2, a: 3}"], "unknown fields: 1, a"),
    ],
)
def test_a_typo_in_a_mapping_is_reported_with_the_closest_name(write, words, message):
    with pytest.raises(ValueError, match=message):
        parse_recipe(write(RECIPE), words)


def test_a_value_that_is_no_mapping_is_refused():
    assert as_mapping(None) == {}
    with pytest.raises(ValueError, match="Expected a mapping such as .*'vision'"):
        as_mapping("vision")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RECIPE + "learning_rat: 1\n", r"learning_rat \(did you mean learning_rate\?\)"),
        (RECIPE + "xyzzy: 1\n", r"unknown fields: xyzzy\."),
        ("- vision_model\n", "holds no `name: value` lines"),
        ("", "holds no `name: value` lines"),
        (RECIPE.replace("output_dir: outputs/run\n", ""), "names no `output_dir`"),
        (RECIPE + "lora: some/folder\n", "`lora` is 'some/folder': give fields .* `--resume` it"),
        (RECIPE + "lora: {r: 2}\nfreeze_backbone: true\n", "would freeze the adapters of `lora` too"),
        (RECIPE.replace("text_model: some/text\n", ""), "names no model: give `vision_model` and `text_model`"),
        (RECIPE + "1: 2\n", r"does not read as text: \[1\]"),
        (RECIPE + "flip_probability: 1.5\n", "`flip_probability` is 1.5: give a number from 0 to 1"),
        (RECIPE + "noise_probability: .nan\n", "`noise_probability` is nan: give a number from 0 to 1"),
        (RECIPE + "max_eval_samples: 0\n", "`max_eval_samples` is 0: give a whole number"),
        (RECIPE + "max_eval_samples: 2.5\n", "`max_eval_samples` is 2.5: give a whole number"),
        (RECIPE + "metric_for_best_model: hd95\n", "`metric_for_best_model` is hd95, .* take one of dice, iou"),
    ],
    ids="misspelt unknown list empty no_output folder frozen_adapters no_model odd share nan none part hd95".split(),
)
def test_an_invalid_recipe_is_reported_with_the_reason(write, content, message):
    with pytest.raises(ValueError, match=message):
        parse_recipe(write(content))


@pytest.mark.parametrize(
    ("name", "values", "allowed"),
    [
        ("learning_rate", ("-1e-4", "nan", "inf"), "a number from 0 on, e.g. 1e-4"),
        ("backbone_learning_rate", ("-1", "nan"), "a number from 0 on"),
        ("weight_decay", ("-0.1", "inf"), "a number from 0 on"),
        ("max_grad_norm", ("-1", "nan"), "a number from 0 on"),
        ("warmup_steps", ("-1", "nan"), "a number from 0 on"),
        ("adam_beta1", ("1", "nan"), "a number from 0 on, below 1"),
        ("weight_average_decay", ("1", "-0.5", "nan"), "a number from 0 on, below 1"),
        ("layerwise_learning_rate_decay", ("0", "1.5", "nan"), "a number above 0, up to 1"),
        ("num_train_epochs", ("0", "-3", "nan", "inf"), "a number above 0"),
        ("max_steps", ("0", "-2"), "a whole number from 1 on"),
        ("per_device_train_batch_size", ("0", "-8"), "a whole number from 1 on, e.g. 8"),
        ("per_device_eval_batch_size", ("0",), "a whole number from 1 on"),
        ("gradient_accumulation_steps", ("0",), "a whole number from 1 on"),
        ("prototype_warmup_epochs", ("-1",), "a whole number from 0 on"),
        ("early_stopping_patience", ("0", "-1"), "a whole number from 1 on"),
        ("seed", ("-1", "4294967296"), "a whole number from 0 to 4294967295"),
        ("split_seed", ("-1",), "a whole number from 0 to"),
        ("sample_seed", ("-1",), "a whole number from 0 to"),
        ("zoom_probability", ("-0.1", "nan"), "a number from 0 to 1"),
    ],
)
def test_a_number_out_of_range_is_refused_with_the_range(write, name, values, allowed):
    for value in values:
        with pytest.raises(ValueError, match=rf"`{name}` is .*: give {allowed}"):
            parse_recipe(write(RECIPE), [f"--{name}={value}"])


@pytest.mark.parametrize(
    ("field", "message"), [("group_split: 0.7,0.2", "group_split is"), ("window: nan,100", "window is 'nan,100'")]
)
def test_shares_and_window_are_read_before_the_data(write, field, message):
    with pytest.raises(ValueError, match=f"{message}.*give"):
        parse_recipe(write(f"{RECIPE}{field}\n"))


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"No none.yaml at .*none\.yaml"):
        parse_recipe(tmp_path / "none.yaml")


def test_a_model_has_weights_or_starts_without_not_both(write):
    with pytest.raises(ValueError, match="`model_name_or_path` loads weights"):
        parse_recipe(write("model_name_or_path: a/b\nconfig_name: a/b\noutput_dir: run\nuse_cpu: true\n"))


def test_a_model_to_train_further_needs_no_encoders(write):
    recipe = parse_recipe(write("model_name_or_path: my/model\noutput_dir: run\nuse_cpu: true\n"))
    assert recipe.model.model_name_or_path == "my/model"


def test_a_saved_recipe_gives_the_same_run_again(write, tmp_path):
    words = "--learning_rate 1e-3 --save_strategy no --eval_strategy no --load_best_model_at_end false".split()
    words += ["--config", "{use_text: false}", "--lr_scheduler_type", "linear", "--adam_beta2", "0.9", "--seed", "4"]
    recipe = parse_recipe(write(RECIPE), words)
    recipe.save(tmp_path / "run")
    again = parse_recipe(tmp_path / "run" / "recipe.yaml")
    assert again.given == recipe.given and again.model == recipe.model and again.data == recipe.data
    ours, theirs = recipe.training.to_dict(), again.training.to_dict()
    assert ours == theirs and theirs["learning_rate"] == 1e-3 and theirs["save_strategy"] == "no"


def test_a_saved_recipe_holds_the_set_fields_and_no_defaults(write, tmp_path):
    parse_recipe(write(RECIPE), ["--seed", "4"]).save(tmp_path / "run")
    saved = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text(encoding="utf-8"))
    assert saved.keys() == {*yaml.safe_load(RECIPE), "seed"}


# The folder of a run


@pytest.fixture
def used(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    claim_output_dir(folder)
    (folder / "model.safetensors").touch()
    return folder


@pytest.mark.parametrize("name", ["new", "empty"])
def test_a_new_or_empty_folder_is_free(tmp_path, name):
    (tmp_path / "empty").mkdir()
    claim_output_dir(tmp_path / name)
    claim_output_dir(tmp_path / name, overwrite=True)


def test_a_used_folder_is_refused_and_kept(used):
    with pytest.raises(
        ValueError, match="run already holds files: name another folder, delete them with `--overwrite`"
    ):
        claim_output_dir(used)
    assert list(used.iterdir())


def test_overwrite_deletes_the_earlier_run(used):
    claim_output_dir(used, overwrite=True)
    assert not (used / "model.safetensors").exists()


@pytest.mark.parametrize("where", [".", "model.safetensors"])
def test_overwrite_never_deletes_an_input(used, where):
    with pytest.raises(ValueError, match="would delete .*run"):
        claim_output_dir(used, overwrite=True, inputs=[None, "org/name", used / where])
    assert (used / "model.safetensors").exists()


def test_overwrite_leaves_a_folder_that_is_no_output(tmp_path):
    (tmp_path / "thesis.docx").touch()
    with pytest.raises(ValueError, match="was not written by tevia"):
        claim_output_dir(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.docx").exists()


def test_resume_keeps_the_earlier_run(used):
    claim_output_dir(used, resume=True)
    assert list(used.iterdir())


def test_resume_and_overwrite_contradict_each_other(used):
    with pytest.raises(ValueError, match="not both"):
        claim_output_dir(used, resume=True, overwrite=True)
    assert list(used.iterdir())


def checkpoint(folder, step: int, state: str | None):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").touch()
    if state is not None:
        (path / "trainer_state.json").write_text(state, encoding="utf-8")
    return str(path)


def test_the_newest_complete_checkpoint_is_found(tmp_path):
    checkpoint(tmp_path, 9, "{}")
    newest = checkpoint(tmp_path, 10, "{}")
    checkpoint(tmp_path, 11, None)
    checkpoint(tmp_path, 12, '{"epoch": 1.')
    checkpoint(tmp_path, 13, "")
    assert last_complete_checkpoint(tmp_path) == newest


def test_a_missing_checkpoint_to_resume_from_is_reported(tmp_path):
    checkpoint(tmp_path, 3, None)
    with pytest.raises(ValueError, match="no complete checkpoint to resume from: leave `resume` out"):
        last_complete_checkpoint(tmp_path)


# Samples


@pytest.fixture(scope="module")
def images():
    return synthetic_dataset(size=32, count=20)


def test_a_sample_is_chosen_by_its_seed(images):
    first, again, other = (sample(images, 6, seed)["id"] for seed in (1, 1, 2))
    assert list(first) == list(again) != list(other)
    assert len(set(first)) == 6 and set(first) <= set(images["id"])


@pytest.mark.parametrize("limit", [None, 20, 99])
def test_no_limit_or_a_large_one_keeps_every_example(images, limit):
    assert list(sample(images, limit, 0)["id"]) == list(images["id"])


def splits_of(recipe):
    return prepare_datasets(recipe, tiny_survey(), True, None, None)


def test_each_split_has_its_own_limit(write):
    train, held_out = splits_of(parse_recipe(write(RECIPE), ["--max_train_samples", "5", "--max_eval_samples", "3"]))
    assert len(train) == 5 and len(held_out) == 3
    assert all("-train-" in name for name in train["id"]) and all("-val-" in name for name in held_out["id"])


def test_a_set_without_validation_images_is_trained_on_where_the_recipe_does_not_validate(write, tmp_path):
    busi(tmp_path / "busi")
    words = f"--dataset breast --data_dir {tmp_path / 'busi'} --group_split 0.7,0,0.3 --config".split()
    words += ["{use_text: false}", "--load_best_model_at_end", "false", "--eval_strategy"]
    train, held_out = prepare_datasets(parse_recipe(write(RECIPE), [*words, "no"]), tiny_survey(), False, None, None)
    assert len(train) == 12 and held_out is None
    with pytest.raises(ValueError, match="no examples of the split 'val'"):
        prepare_datasets(parse_recipe(write(RECIPE), [*words, "epoch"]), tiny_survey(), False, None, None)


def test_training_and_validating_on_one_split_is_possible(write):
    limits = "--train_split val --eval_split val --max_train_samples 5 --max_eval_samples 3"
    train, held_out = splits_of(parse_recipe(write(RECIPE), limits.split()))
    assert len(train) == 5 and len(held_out) == 3


def test_samples_are_chosen_by_the_sample_seed_if_it_is_set(write):
    def ids(*options):
        return [
            dataset["id"] for dataset in splits_of(parse_recipe(write(RECIPE), ["--max_eval_samples", "3", *options]))
        ]

    assert ids("--seed", "1") != ids("--seed", "2")
    assert ids("--seed", "1") == ids("--seed", "2", "--sample_seed", "1")


def test_a_field_that_stands_twice_is_refused(write):
    with pytest.raises(ValueError, match="`seed` appears twice"):
        parse_recipe(write(RECIPE + "seed: 1\nseed: 2\n"))


def test_a_saved_recipe_has_no_options_of_an_earlier_run_and_no_token(write, tmp_path):
    parse_recipe(write(RECIPE), ["--overwrite", "--hub_token", "hf_secret"]).save(tmp_path / "out")
    saved = (tmp_path / "out" / "recipe.yaml").read_text()
    assert "overwrite" not in saved and "hf_secret" not in saved


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model_name_or_path", "org/model"], "has its own config"),
        (["--config_name", "org/model"], "org/model has its own config"),
        (["--optim", "sgd"], "`optim` is .*sgd"),
        (["--dataloader_persistent_workers", "true", "--dataloader_num_workers", "1"], "repeat one epoch"),
    ],
)
def test_settings_that_would_be_passed_over_are_refused(write, words, message):
    with pytest.raises(ValueError, match=message):
        parse_recipe(write(RECIPE), words)


def test_every_share_of_variation_reaches_the_augmentation():
    shares = {f"{name}_probability": 0.1 * number for number, name in enumerate(
        ("flip", "vertical_flip", "zoom", "rotation", "intensity", "noise"), start=1)}  # fmt: skip
    augmentation = build_augmentation(DataArguments(patient_sides=True, **shares), seed=7)
    assert augmentation.flips == {"horizontal": 0.1, "vertical": 0.2}
    assert [move.prob for move in augmentation._moves.transforms] == pytest.approx([0.3, 0.4])
    assert [exposure.prob for exposure in augmentation._exposures.transforms] == pytest.approx([0.5, 0.6])
    assert (augmentation.patient_sides, augmentation.seed) == (True, 7)


def test_options_of_a_source_are_parsed_from_text_and_refused_if_invalid():
    given = DataArguments(
        dataset="qata", group_split="0.7,0.1,0.2", window="-600,1500", text_table="p.csv", split_seed=3
    )
    assert given.source_options() == {
        "group_split": (0.7, 0.1, 0.2), "window": (-600.0, 1500.0), "text_table": "p.csv", "split_seed": 3,
    }  # fmt: skip
    listed = DataArguments(dataset="qata", group_split=[0.7, 0.1, 0.2], window=[-600, 1500])
    assert listed.source_options()["group_split"] == (0.7, 0.1, 0.2)
    assert listed.source_options()["window"] == (-600.0, 1500.0)
    assert DataArguments().source_options() == {"split_seed": 0}
    with pytest.raises(ValueError, match="'synthetic' takes no window: leave window out"):
        load_segmentation_dataset("synthetic", count=2, **DataArguments(window="40,400").source_options())
    with pytest.raises(ValueError, match="window is '40': give centre and width"):
        DataArguments(dataset="qata", window="40").source_options()
