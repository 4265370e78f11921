"""The fields of a training recipe, and their parsing from a YAML file and command-line options."""

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments

from ..configuration_tevia import TeViAConfig
from ..data.options import SOURCE_OPTIONS, ReadingOptions, SourceOptions
from ..data.ready import SEVERAL_TEXTS
from ..data.survey import Survey
from ..image_processing_tevia import TeViAImageProcessorKwargs
from ..io.output_dir import write_whole
from ..io.yaml_file import read_yaml
from ..loss_tevia import LOSSES
from ..metric_table import METRICS, PRIMARY
from ..option_checks_tevia import (
    check_choice,
    check_count,
    check_not_negative,
    check_positive,
    check_seed,
    check_share,
    check_share_above_zero,
    check_share_below_one,
    number_from,
)

# Labels are set under `config`; the collator sets how decoded examples are passed.
NOT_OF_A_RECIPE = {"num_labels", "white_is_lesion", "input_data_format", "return_tensors"}
PIXEL_FIELDS = set(TeViAImageProcessorKwargs.__annotations__) - NOT_OF_A_RECIPE
READY = "ready"  # in place of a data set's name: it was passed in Python
OF_A_SOURCE = ("dataset", "data_dir", "train_split", "eval_split", *SOURCE_OPTIONS)
RECORDED = ("white_is_lesion",)  # inferred by a run if its recipe leaves it out
OF_ONE_RUN = ("overwrite", "resume", "hub_token")  # of one command, not saved with the recipe
RANGES = (  # check, example, checked fields of TeViATrainingArguments
    (check_not_negative, "1e-4", ("learning_rate", "backbone_learning_rate")),
    (check_not_negative, "0.01", ("weight_decay", "adam_epsilon", "max_grad_norm", "warmup_steps")),
    (check_share_above_zero, "0.75", ("layerwise_learning_rate_decay",)),
    (check_share_below_one, "0.98", ("weight_average_decay", "adam_beta1", "adam_beta2")),
    (check_positive, "10", ("num_train_epochs",)),
    (check_count, "8", ("per_device_train_batch_size", "per_device_eval_batch_size", "eval_accumulation_steps")),
    (check_count, "5", ("early_stopping_patience", "gradient_accumulation_steps")),
)


def option(default: Any, help: str) -> Any:
    """A field of a recipe, with the help that `docs/recipe.md` lists."""
    return field(default=default, metadata={"help": help})


@dataclass
class ModelArguments:
    """The encoders to combine, or the TeViA model to fine-tune."""

    model_name_or_path: str = option("", "TeViA model to fine-tune, instead of two encoders: its name or folder")
    config_name: str = option(
        "", "TeViA configuration and processor to train from random weights, instead of two encoders: name or folder"
    )
    vision_model: str = option("", "name or folder of the vision model")
    text_model: str = option("", "name or folder of the text encoder")
    config: dict | str | None = option(
        None, "fields of `TeViAConfig`; `published: true` sets the values of the TeViA paper"
    )
    image_processor: dict | str | None = option(
        None, "fields of `TeViAImageProcessor`, e.g. `{size: {height: 128, width: 128}}`"
    )
    lora: dict | str | None = option(
        None, "train adapters instead of the encoders' weights: fields of `peft.LoraConfig`, e.g. `{r: 8}`"
    )

    def __post_init__(self):
        if self.lora is not None and not isinstance(yaml.safe_load(str(self.lora)), dict):
            raise ValueError(
                f"`lora` is {self.lora!r}: give fields of `peft.LoraConfig`, e.g. `lora: {{r: 8}}`. To continue "
                "with the adapters of a run, `--resume` it."
            )
        source = self.model_name_or_path or self.config_name
        if source and (self.config or self.image_processor):
            raise ValueError(
                f"{source} has its own config and image processor: leave out `config` and `image_processor`."
            )
        if self.model_name_or_path and self.config_name:
            raise ValueError("`model_name_or_path` loads weights, `config_name` does not: leave one of them out.")
        if not (source or (self.vision_model and self.text_model)):
            raise ValueError(
                "The recipe names no model: give `vision_model` and `text_model` (the vision-only baseline, with "
                "`use_text: false` under `config`, needs a `text_model` too, for its tokenizer), or "
                "`model_name_or_path`."
            )


@dataclass
class DataArguments(ReadingOptions, SourceOptions):
    """The data set, the number of samples, and the augmentation."""

    dataset: str = option(
        "synthetic", "name of a data set; `ready`: the `train_dataset` passed to `train_from_recipe` in Python"
    )
    data_dir: str | None = option(None, "folder of the data set")
    train_split: str = option("train", "split to train on")
    eval_split: str = option("val", "split to validate on")
    max_train_samples: int | None = option(None, "maximum number of training samples")
    max_eval_samples: int | None = option(None, "maximum number of validation samples")
    sample_seed: int | None = option(None, "seed that selects these samples; default: `seed`")
    several_texts: str | None = option(
        None,
        "for lists of texts per image: `draw` samples one in each epoch of training, `first` takes the first; "
        "default: such lists are rejected",
    )
    flip_probability: float = option(0.5, "probability of left-right flips; texts are rewritten")
    vertical_flip_probability: float = option(0.0, "probability of top-bottom flips; texts are rewritten")
    zoom_probability: float = option(0.1, "probability of zooms by 0.95 to 1.2, as in the paper")
    rotation_probability: float = option(0.0, "probability of rotations by up to 15 degrees")
    intensity_probability: float = option(0.0, "probability of gamma changes by 0.7 to 1.5")
    noise_probability: float = option(0.0, "probability of added noise")
    paraphrase_probability: float = option(
        0.0, "probability of other wordings, for texts of a report language (own_data.md, step 2)"
    )
    patient_sides: bool = option(False, "'left' in the texts is the left of the patient, not of the image")

    def __post_init__(self):
        SourceOptions.__post_init__(self)
        ReadingOptions.__post_init__(self)
        if self.several_texts is not None:
            check_choice("several_texts", self.several_texts, SEVERAL_TEXTS)
        for name, value in vars(self).items():
            if name.endswith("_probability"):
                check_share(name, value)
            if name.endswith("_samples") and value is not None:
                check_count(name, value, example="100")
            if name.endswith("_seed") and value is not None:
                check_seed(name, value)


@dataclass
class TeViATrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with TeViA's schedule; by default the best validation Dice is selected."""

    output_dir: str = option("", "folder to write the run to; required")
    learning_rate: float = option(3e-4, "learning rate after the warm-up")
    backbone_learning_rate: float | None = option(
        None, "learning rate of the pre-trained vision model; default: `learning_rate`"
    )
    layerwise_learning_rate_decay: float = option(
        1.0,
        "the learning rate of each layer of the vision model is that of the next deeper one times this; 1: all equal",
    )
    weight_average_decay: float = option(
        0.0, "decay of a moving average of the weights, which is evaluated and saved; 0: none"
    )
    freeze_backbone: bool = option(False, "do not train the vision model")
    prototype_warmup_epochs: int = option(
        1,
        "epochs before the one that first computes the prototype, a running mean of lesion features (paper: 20)",
    )
    early_stopping_patience: int | None = option(
        None, "validations without a better score before training stops, counted once the prototype is in use"
    )
    resume: bool = option(False, "resume from the last checkpoint in `output_dir`")
    overwrite: bool = option(False, "delete an earlier run in `output_dir`")
    lr_scheduler_type: str = option("cosine", "schedule of the learning rate")
    eval_strategy: str = option("epoch", "when to validate: `no`, `steps` or `epoch`")
    save_strategy: str = option("epoch", "when to save a checkpoint: `no`, `steps`, `epoch` or `best`")
    save_total_limit: int | None = option(2, "maximum number of checkpoints to keep")
    load_best_model_at_end: bool = option(True, "save the model with the best validation score, not the last one")
    metric_for_best_model: str | None = option(PRIMARY, "score that selects the best model, or `loss`")
    logging_steps: float = option(20, "steps between two lines of the log")
    logging_nan_inf_filter: bool = option(False, "hide NaN and infinite losses from the log")
    remove_unused_columns: bool = option(False, "keep this: the collator reads the data set's own columns")
    restore_callback_states_from_checkpoint: bool = option(True, "keep this: resumed runs continue their counters")

    def __post_init__(self):
        if not self.output_dir:
            raise ValueError("The recipe names no `output_dir`: set the folder to write the run to.")
        if self.optim not in ("adamw_torch", "adamw_torch_fused"):
            raise ValueError(f"`optim` is {self.optim}, but the recipe's optimiser is AdamW: leave the field out.")
        self.check_ranges()
        self.check_best_metric()
        if self.dataloader_persistent_workers:
            raise ValueError("`dataloader_persistent_workers` would repeat one epoch's augmentation: leave it out.")
        self.dataloader_pin_memory &= torch.cuda.is_available()  # without a GPU it has no effect but a warning
        super().__post_init__()

    def check_ranges(self) -> None:
        """Raises `ValueError` for the first number that is out of its range."""
        for check, example, names in RANGES:
            for name in names:
                value = getattr(self, name)
                value = number_from(value) if isinstance(value, str) else value  # as transformers parses it
                if value is not None:
                    check(name, value, example)
        for name in ("seed", "data_seed"):
            if getattr(self, name) is not None:
                check_seed(name, getattr(self, name))
        check_count("prototype_warmup_epochs", self.prototype_warmup_epochs, example="1", least=0)
        if self.max_steps != -1:  # transformers' own "as many as the epochs take"
            check_count("max_steps", self.max_steps, example="1000")

    def check_best_metric(self) -> None:
        """Sets `greater_is_better` from `METRICS`. Raises `ValueError` for a metric that validation lacks."""
        key = (self.metric_for_best_model or PRIMARY).removeprefix("eval_")
        measured = [name for name, metric in METRICS.items() if not metric.of_boundaries] + ["loss"]
        key, _, class_name = key.partition("/")  # "dice/benign" is the score of a class
        # Ratios are undefined in epochs that predict none of the class.
        if key not in measured or (class_name and (key == "loss" or METRICS[key].is_pooled)):
            raise ValueError(
                f"`metric_for_best_model` is {self.metric_for_best_model}, which validation does not measure: take one "
                f"of {', '.join(measured)}, or that of a class, such as {PRIMARY}/malignant."
            )
        if self.metric_for_best_model and key in METRICS:
            is_better = METRICS[key].higher_is_better
            if self.greater_is_better not in (None, is_better):
                raise ValueError(
                    f"`greater_is_better` is {self.greater_is_better}, which is wrong for {key}: leave it out."
                )
            self.greater_is_better = is_better


@dataclass
class Recipe:
    """A training run: its three groups of arguments, and the fields that were set explicitly."""

    model: ModelArguments
    data: DataArguments
    training: TeViATrainingArguments
    given: dict

    def take_ready_dataset(self) -> None:
        """Records that the data sets were passed in Python. Raises `ValueError` if the recipe names others."""
        named = [name for name in OF_A_SOURCE if name in self.given and self.given[name] != READY]
        if named:
            raise ValueError(f"`train_dataset` replaces the recipe's {', '.join(named)}: leave one of them out.")
        self.given["dataset"] = self.data.dataset = READY

    def record_white(self, survey: Survey) -> None:
        """Records what 255 means in the masks, if they contain it and both meanings are possible."""
        if survey.white.num_labels == 1 and (survey.white.beside_labels or survey.white.without_labels):
            self.given["white_is_lesion"] = self.data.white_is_lesion = survey.white_is_lesion()

    def save(self, folder: Path) -> None:
        """Writes `recipe.yaml`, which repeats the run, without tokens and the options `overwrite` and `resume`."""
        given = {name: value for name, value in self.given.items() if name not in OF_ONE_RUN}
        write_whole(folder / "recipe.yaml", yaml.safe_dump(given, sort_keys=False))


class RecipeParser(HfArgumentParser):
    """Raises `ValueError` instead of printing the usage and exiting."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def parse_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a YAML file; command-line options `--name value` override its fields.

    Raises `ValueError` for a missing file, a file that is no mapping, and unknown or incompatible fields.
    """
    return parse_fields(read_yaml(Path(recipe)), overrides, str(recipe))


def parse_fields(values: dict, overrides: Sequence[str] = (), source: str = "The recipe") -> Recipe:
    """The recipe of these fields, as read from a file by `parse_recipe`; errors name `source`."""
    parts: Any = [ModelArguments, DataArguments, TeViATrainingArguments]
    parser = RecipeParser(parts, allow_abbrev=False)
    defaults = vars(parser.parse_args([]))
    check_names(values, defaults, f"{source} has unknown fields")
    # YAML reads a bare `no`, as in `save_strategy: no`, as False.
    values = {k: "no" if v is False and isinstance(defaults[k], str) else v for k, v in values.items()}
    parser.set_defaults(**values)
    options, unknown = parser.parse_known_args(list(overrides))
    names = [argument.partition("=")[0] for argument in unknown if argument.startswith("--")]
    check_names(names or unknown, (f"--{name.replace('_', '-')}" for name in defaults), "Unrecognized arguments")
    chosen = vars(options)
    given = {name: value for name, value in chosen.items() if name in values or value != defaults[name]}
    known_of_config = {*(part.name for part in dataclasses.fields(TeViAConfig)), "published", "num_labels"}
    known_of_config |= {f"{name}_loss_weight" for name in LOSSES}  # registered ones too
    for name, known in (("config", known_of_config), ("image_processor", PIXEL_FIELDS)):
        if name in given:
            fields = as_mapping(given[name])  # options override single fields; {} drops those of the file
            given[name] = as_mapping(values.get(name)) | fields if fields else {}
            check_names(given[name], known, f"`{name}` has unknown fields")
    model, data, training = parser.parse_dict(given)
    if training.freeze_backbone and model.lora is not None:
        raise ValueError("`freeze_backbone` would freeze the adapters of `lora` too: leave one of the two out.")
    return Recipe(model, data, training, given)


def check_names(given: Iterable[str], known: Iterable[str], fault: str) -> None:
    """Raises `ValueError` for unknown names, with the known ones that they abbreviate or resemble."""
    known = list(known)
    if unknown := sorted(map(str, set(given) - set(known))):
        longer = {name: [other for other in known if other.startswith(name)] for name in unknown}
        matches = {
            name: difflib.get_close_matches(name, others or known, n=1, cutoff=0.0 if others else 0.6)
            for name, others in longer.items()
        }
        hints = [f"{name} (did you mean {close[0]}?)" if close else name for name, close in matches.items()]
        raise ValueError(f"{fault}: {', '.join(hints)}.")


def as_mapping(value: dict | str | None) -> dict:
    """A mapping, or one parsed from YAML or JSON text of the command line."""
    mapping = yaml.safe_load(value) if isinstance(value, str) else value or {}
    if not isinstance(mapping, dict):
        raise ValueError(f"Expected a mapping such as {{use_text: false}}, got {value!r}.")
    return mapping
