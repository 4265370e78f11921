"""The fields of a training recipe, and how a YAML file and command-line words become them."""

import dataclasses
import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments

from ..configuration_tevia import TeViAConfig
from ..data.features import check_choice
from ..data.options import SOURCE_OPTIONS, ReadingOptions, SourceOptions
from ..data.ready import SEVERAL_TEXTS
from ..data.survey import Survey
from ..image_processing_tevia import TeViAImageProcessorKwargs
from ..io.output_dir import write_whole
from ..io.yaml_file import read_yaml
from ..loss_tevia import LOSSES
from ..metrics import METRICS, PRIMARY
from ..option_checks_tevia import (
    check_count,
    check_not_negative,
    check_positive,
    check_seed,
    check_share,
    check_share_above_zero,
    check_share_below_one,
    number_from,
)

# Labels are those of `config`; how decoded examples are handed over is the collator's.
NOT_OF_A_RECIPE = {"num_labels", "white_is_lesion", "input_data_format", "return_tensors"}
PIXEL_FIELDS = set(TeViAImageProcessorKwargs.__annotations__) - NOT_OF_A_RECIPE
READY = "ready"  # in place of a data set's name: it was handed over in Python
OF_A_SOURCE = ("dataset", "data_dir", "train_split", "eval_split", *SOURCE_OPTIONS)
RECORDED = ("white_is_lesion",)  # inferred by a run where its recipe leaves it out
OF_ONE_RUN = ("overwrite", "resume", "hub_token")  # of a command, not kept with what it made
RANGES = (  # check, example, the fields of TeViATrainingArguments that it holds for
    (check_not_negative, "1e-4", ("learning_rate", "backbone_learning_rate")),
    (check_not_negative, "0.01", ("weight_decay", "adam_epsilon", "max_grad_norm", "warmup_steps")),
    (check_share_above_zero, "0.75", ("layerwise_learning_rate_decay",)),
    (check_share_below_one, "0.98", ("weight_average_decay", "adam_beta1", "adam_beta2")),
    (check_positive, "10", ("num_train_epochs",)),
    (check_count, "8", ("per_device_train_batch_size", "per_device_eval_batch_size", "eval_accumulation_steps")),
    (check_count, "5", ("early_stopping_patience", "gradient_accumulation_steps")),
)


@dataclass
class ModelArguments:
    """Which encoders are joined, or which TeViA model is trained further."""

    model_name_or_path: str = ""  # a whole TeViA model to train further; leaves the two encoders out
    config_name: str = ""  # a TeViA configuration and processor to train from random weights, likewise
    vision_model: str = ""  # name or folder of the vision model
    text_model: str = ""  # name or folder of the text encoder
    config: dict | str | None = None  # fields of TeViAConfig that differ from its defaults, or `published: true` and so
    image_processor: dict | str | None = None  # fields of TeViAImageProcessor that differ from its defaults
    lora: dict | str | None = None  # adapters, which alone learn of both encoders: fields of LoraConfig, e.g. {r: 8}

    def __post_init__(self):
        if self.lora is not None and not isinstance(yaml.safe_load(str(self.lora)), dict):
            raise ValueError(
                f"`lora` is {self.lora!r}: give fields of `peft.LoraConfig`, e.g. `lora: {{r: 8}}`. To go on with the "
                "adapters of a run, `--resume` it."
            )
        whole = self.model_name_or_path or self.config_name
        if whole and (self.config or self.image_processor):
            raise ValueError(f"{whole} brings its own config and pixels: leave out `config` and `image_processor`.")
        if self.model_name_or_path and self.config_name:
            raise ValueError("`model_name_or_path` has weights, `config_name` starts without: leave one of them out.")
        if not (whole or (self.vision_model and self.text_model)):
            raise ValueError(
                "The recipe names no model: give `vision_model` and `text_model` (the vision-only network too takes a "
                "`text_model`, for its tokenizer; it has `use_text: false` under `config`), or `model_name_or_path`."
            )


@dataclass
class DataArguments(ReadingOptions, SourceOptions):
    """Which pictures are shown, how many of them, and how they are varied."""

    dataset: str = "synthetic"  # as load_segmentation_dataset knows it; "ready" for one given to train_from_recipe
    data_dir: str | None = None  # folder of the data set
    train_split: str = "train"
    eval_split: str = "val"
    max_train_samples: int | None = None  # train on so many of them
    max_eval_samples: int | None = None  # validate on so many of them
    sample_seed: int | None = None  # draws these samples; default: `seed`
    several_texts: str | None = None  # of lists of texts in a given data set: "draw" one in each epoch, or the "first"
    flip_probability: float = 0.5  # share of left-right flips; the sentence follows
    vertical_flip_probability: float = 0.0  # of top-bottom flips, likewise
    zoom_probability: float = 0.1  # of zooms by 0.95 to 1.2 (published)
    rotation_probability: float = 0.0  # of rotations by up to 15 degrees
    intensity_probability: float = 0.0  # of gammas of 0.7 to 1.5
    noise_probability: float = 0.0  # of pictures with noise
    paraphrase_probability: float = 0.0  # of texts in a known language that are written in other words
    patient_sides: bool = False  # "left" in the sentences is the patient's, not the picture's

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
    """`transformers.TrainingArguments` with TeViA's schedule, and defaults that select on validation Dice."""

    output_dir: str = ""
    learning_rate: float = 3e-4
    backbone_learning_rate: float | None = None  # of the pre-trained vision model; default: `learning_rate`
    layerwise_learning_rate_decay: float = 1.0  # factor on the vision model's rate from one layer to the one below it
    weight_average_decay: float = 0.0  # evaluate and save the moving average of the weights, of this decay; 0: none
    freeze_backbone: bool = False  # leave the vision model's weights as they are
    prototype_warmup_epochs: int = 1  # before the epoch over which prototypes are averaged (published: 20)
    early_stopping_patience: int | None = None  # evaluations without a better score, once prototypes are active
    resume: bool = False  # go on from the last checkpoint in `output_dir`
    overwrite: bool = False  # delete the run that `output_dir` holds
    lr_scheduler_type: str = "cosine"
    eval_strategy: str = "epoch"
    save_strategy: str = "epoch"
    save_total_limit: int | None = 2
    load_best_model_at_end: bool = True
    metric_for_best_model: str | None = PRIMARY
    logging_steps: float = 20
    logging_nan_inf_filter: bool = False  # which would log a loss of 0 for NaN
    remove_unused_columns: bool = False  # the collator reads the data set's own columns
    restore_callback_states_from_checkpoint: bool = True

    def __post_init__(self):
        if not self.output_dir:
            raise ValueError("The recipe names no `output_dir`: say where the run is written.")
        if self.optim not in ("adamw_torch", "adamw_torch_fused"):
            raise ValueError(f"`optim` is {self.optim}, but the recipe's optimiser is AdamW: leave the field out.")
        self.check_ranges()
        self.check_best_metric()
        if self.dataloader_persistent_workers:
            raise ValueError("`dataloader_persistent_workers` would repeat one epoch's augmentation: leave it out.")
        self.dataloader_pin_memory &= torch.cuda.is_available()  # without a GPU it only warns
        super().__post_init__()

    def check_ranges(self) -> None:
        """Raises `ValueError` for the first number that is out of its range."""
        for check, example, names in RANGES:
            for name in names:
                value = getattr(self, name)
                value = number_from(value) if isinstance(value, str) else value  # as transformers reads it
                if value is not None:
                    check(name, value, example)
        for name in ("seed", "data_seed"):
            if getattr(self, name) is not None:
                check_seed(name, getattr(self, name))
        check_count("prototype_warmup_epochs", self.prototype_warmup_epochs, example="1", least=0)
        if self.max_steps != -1:  # transformers' own "as many as the epochs take"
            check_count("max_steps", self.max_steps, example="1000")

    def check_best_metric(self) -> None:
        """Sets which way is better, as `METRICS` says; `ValueError` for a metric that validation does not measure."""
        key = (self.metric_for_best_model or PRIMARY).removeprefix("eval_")
        measured = [name for name, metric in METRICS.items() if not metric.of_boundaries] + ["loss"]
        if key not in measured:
            raise ValueError(
                f"`metric_for_best_model` is {self.metric_for_best_model}, which validation does not measure: take one "
                f"of {', '.join(measured)}."
            )
        if self.metric_for_best_model and key in METRICS:
            is_better = METRICS[key].higher_is_better
            if self.greater_is_better not in (None, is_better):
                raise ValueError(f"`greater_is_better` is {self.greater_is_better}, but not of {key}: leave it out.")
            self.greater_is_better = is_better


@dataclass
class Recipe:
    """A whole run: its three parts, and the fields that were given rather than left at their default."""

    model: ModelArguments
    data: DataArguments
    training: TeViATrainingArguments
    given: dict

    def take_ready_dataset(self) -> None:
        """Writes down that the data sets come from Python. Raises `ValueError` where the recipe names others."""
        named = [name for name in OF_A_SOURCE if name in self.given and self.given[name] != READY]
        if named:
            raise ValueError(
                f"`train_dataset` takes the place of the recipe's {', '.join(named)}: leave one of them out."
            )
        self.given["dataset"] = self.data.dataset = READY

    def record_white(self, survey: Survey) -> None:
        """Writes down what 255 means in the masks, where they hold it and it could mean either."""
        if survey.white.num_labels == 1 and (survey.white.beside_labels or survey.white.without_labels):
            self.given["white_is_lesion"] = self.data.white_is_lesion = survey.white_is_lesion()

    def save(self, folder: Path) -> None:
        """Writes `recipe.yaml`, from which the run can be repeated, without tokens and words on an earlier run."""
        given = {name: value for name, value in self.given.items() if name not in OF_ONE_RUN}
        write_whole(folder / "recipe.yaml", yaml.safe_dump(given, sort_keys=False))


class RecipeParser(HfArgumentParser):
    """Raises instead of printing every option and leaving the program."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(message)


def parse_recipe(recipe: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A YAML file's fields, with `--name value` words put over them.

    Raises `ValueError` for a missing file, a file that is no mapping, or fields that do not exist or go together.
    """
    return parse_fields(read_yaml(Path(recipe)), overrides, str(recipe))


def parse_fields(values: dict, overrides: Sequence[str] = (), source: str = "The recipe") -> Recipe:
    """The recipe of these fields, as `parse_recipe` reads them from a file; `source` names them in errors."""
    parser = RecipeParser([ModelArguments, DataArguments, TeViATrainingArguments])  # type: ignore[list-item]  # data classes
    defaults = vars(parser.parse_args([]))
    check_names(values, defaults, f"{source} has fields that no recipe has")
    # YAML reads a bare `no`, as in `save_strategy: no`, as False.
    values = {k: "no" if v is False and isinstance(defaults[k], str) else v for k, v in values.items()}
    parser.set_defaults(**values)
    chosen = vars(parser.parse_args(list(overrides)))
    given = {name: value for name, value in chosen.items() if name in values or value != defaults[name]}
    known_of_config = {*(part.name for part in dataclasses.fields(TeViAConfig)), "published", "num_labels"}
    known_of_config |= {f"{name}_loss_weight" for name in LOSSES}  # registered ones too
    for name, known in (("config", known_of_config), ("image_processor", PIXEL_FIELDS)):
        if name in given:
            fields = as_mapping(given[name])  # words go over single fields; {} takes those of the file back
            given[name] = as_mapping(values.get(name)) | fields if fields else {}
            check_names(given[name], known, f"`{name}` has fields that do not exist")
    model, data, training = parser.parse_dict(given)
    if training.freeze_backbone and model.lora is not None:
        raise ValueError("`freeze_backbone` fixes the adapters of `lora` too: leave one of the two out.")
    return Recipe(model, data, training, given)


def check_names(given: Iterable[str], known: Iterable[str], fault: str) -> None:
    """Raises `ValueError` for names that are not known, with the nearest that are."""
    if unknown := sorted(map(str, set(given) - set(known))):
        meant = {name: difflib.get_close_matches(name, list(known), n=1) for name in unknown}
        hints = [f"{name} (did you mean {close[0]}?)" if close else name for name, close in meant.items()]
        raise ValueError(f"{fault}: {', '.join(hints)}.")


def as_mapping(value: dict | str | None) -> dict:
    """A mapping as it is, or from YAML or JSON text as the command line hands it over."""
    mapping = yaml.safe_load(value) if isinstance(value, str) else value or {}
    if not isinstance(mapping, dict):
        raise ValueError(f"Expected a mapping such as {{use_text: false}}, got {value!r}.")
    return mapping
