"""From a recipe to a trained model: a stock `transformers.Trainer` with TeViA's collator, callback and metrics."""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from datasets import Dataset, IterableDataset
from transformers import Trainer, set_seed

from ..auto import TeViAConfig, TeViAForSegmentation, TeViAProcessor
from ..charts import draw_training_curves, training_curves
from ..configuration_tevia import PUBLISHED
from ..data.augment import TextAwareAugmentation
from ..data.features import undecoded
from ..data.ready import AnyDataset, ready_dataset, texts_of
from ..data.registry import load_segmentation_dataset, rows_of_all_splits
from ..data.splits import SPLITS_FILE, sample, split_table
from ..data.survey import Survey
from ..extras import needed_for
from ..inference.loading import build_untrained, load_trained
from ..inference.text_differences import check_texts_differ
from ..io.output_dir import claim_output_dir
from .adapters import with_lora
from .arguments import READY, DataArguments, ModelArguments, Recipe, as_mapping, parse_recipe
from .checkpoints import last_complete_checkpoint
from .trainer import build_trainer, validation_failure

with needed_for("Training by recipe"):
    import matplotlib as matplotlib  # used at the end of a run only, but checked before the first step
    import pandas as pd

SKIPPED_FILE = "_skipped.csv"  # beside a trained model; the Trainer does not upload files with a leading _


def train_from_recipe(
    recipe_path: str | Path,
    overrides: Sequence[str] = (),
    train_dataset: AnyDataset | None = None,
    eval_dataset: AnyDataset | None = None,
) -> Trainer:
    """Trains a model by a YAML recipe; writes model, processor, complete recipe and `curves.png` to its `output_dir`.

    Args:
        recipe_path: a YAML file with fields of `ModelArguments`, `DataArguments` and `TeViATrainingArguments`.
        overrides: command-line options `--name value`, which override the recipe.
        train_dataset: training data in place of those that the recipe names: see `ready_dataset`. The saved recipe then
            has `dataset: ready`.
        eval_dataset: the validation data to go with it.

    Every image and mask is read once before the first step, so that an unreadable file costs no training time; this
    does not apply to streams. Files that `check_data` or another training has read are read again only if they changed.
    """
    recipe = parse_recipe(recipe_path, overrides)
    if train_dataset is not None:
        recipe.take_ready_dataset()
    arguments, folder = recipe.training, Path(recipe.training.output_dir)
    checkpoint = last_complete_checkpoint(folder) if arguments.resume else None
    set_seed(arguments.seed)
    model, processor = load_model_and_processor(recipe.model)
    survey = Survey(processor.image_processor, recipe.data.white_is_lesion, recipe.data.cache)
    train_dataset, eval_dataset = prepare_datasets(recipe, survey, model.config.use_text, train_dataset, eval_dataset)
    check_texts(train_dataset, model.config.use_text, processor)
    white_is_lesion = survey.white_is_lesion()
    if arguments.process_index == 0:  # not earlier, so that an invalid recipe deletes nothing
        inputs = [recipe.model.model_name_or_path, recipe.model.config_name, recipe.data.data_dir]
        claim_output_dir(folder, arguments.resume, arguments.overwrite, inputs)
    augmentation = build_augmentation(recipe.data, arguments.seed)
    trainer = build_trainer(
        model, processor, arguments, train_dataset, eval_dataset, augmentation, white_is_lesion=white_is_lesion
    )
    if trainer.is_world_process_zero():
        recipe.record_white(survey)
        recipe.save(folder)
        write_splits(folder, train=train_dataset, eval=eval_dataset)
        if survey.faults:
            pd.DataFrame(survey.faults).to_csv(folder / SKIPPED_FILE, index=False)
    starts_active = has_active_prototypes(model)
    result = trainer.train(resume_from_checkpoint=checkpoint)
    if recipe.model.lora is not None:  # save a plain model, which needs no peft
        adapted: Any = model
        trainer.model = model = adapted.merge_and_unload()
    if failure := validation_failure(trainer):
        warnings.warn(failure, UserWarning, stacklevel=2)
    trainer.save_model()
    trainer.save_state()
    trainer.save_metrics("train", result.metrics)
    if trainer.is_world_process_zero() and training_curves(trainer.state.log_history):
        became_active = has_active_prototypes(model) and not starts_active
        active_after = arguments.prototype_warmup_epochs + 1 if became_active else None
        draw_training_curves(trainer.state.log_history, active_after).save(folder / "curves.png")
    return trainer


def has_active_prototypes(model: TeViAForSegmentation) -> bool:
    return model.prototype_memory is not None and model.prototype_memory.is_active


def write_splits(folder: Path, **datasets: AnyDataset | None) -> None:
    """Writes which examples are in which part of the run; nothing if a part is a stream."""
    if not any(isinstance(dataset, IterableDataset) for dataset in datasets.values()):
        known: dict[str, Any] = {part: dataset for part, dataset in datasets.items() if dataset is not None}
        # It may contain patient names: the Trainer does not upload files with a leading _.
        split_table(**known).to_csv(folder / SPLITS_FILE, index=False)


def build_augmentation(arguments: DataArguments, seed: int) -> TextAwareAugmentation:
    probabilities = {name: value for name, value in vars(arguments).items() if name.endswith("_probability")}
    return TextAwareAugmentation(**probabilities, patient_sides=arguments.patient_sides, seed=seed)


def load_model_and_processor(arguments: ModelArguments) -> tuple[TeViAForSegmentation, TeViAProcessor]:
    """A model to fine-tune, or a new one, with its processor; adapters are added if set."""
    if arguments.model_name_or_path:
        model, processor = load_trained(arguments.model_name_or_path)
    elif arguments.config_name:
        model, processor = build_untrained(arguments.config_name)
    else:
        model, processor = join_encoders(arguments)
    return model if arguments.lora is None else with_lora(model, as_mapping(arguments.lora)), processor


def config_fields(config: dict | str | None) -> dict:
    """Fields for `TeViAConfig`; with `published: true` they override the published values.

    Raises `ValueError` if `num_labels` is not the number of names in `id2label`, which transformers would drop.
    """
    fields = dict(as_mapping(config))
    names, count = fields.get("id2label"), fields.get("num_labels")
    if names is not None and count not in (None, len(names)):
        raise ValueError(
            f"`num_labels` is {count}, but `id2label` under `config` names {len(names)} labels (with the background): "
            "leave `num_labels` out, or name all labels."
        )
    return PUBLISHED | fields if fields.pop("published", False) else fields


def join_encoders(arguments: ModelArguments) -> tuple[TeViAForSegmentation, TeViAProcessor]:
    fields = config_fields(arguments.config)
    settings = TeViAConfig(**fields)
    model = TeViAForSegmentation.from_vision_text_pretrained(
        arguments.vision_model, arguments.text_model if settings.use_text else None, **fields
    )
    processor = TeViAProcessor.from_encoders(
        arguments.vision_model,
        arguments.text_model,
        max_text_length=settings.max_text_length,
        num_labels=model.decode_head.classifier.out_channels,
        **as_mapping(arguments.image_processor),
    )
    return model, processor


def prepare_datasets(
    recipe: Recipe, survey: Survey, uses_text: bool, train_dataset: AnyDataset | None, eval_dataset: AnyDataset | None
) -> tuple[AnyDataset, AnyDataset | None]:
    """Training and validation examples, those of the recipe or the given ones, with every file read once.

    Raises `ValueError` for data sets that cannot be used for training.
    """
    if train_dataset is None:
        train_dataset, eval_dataset = load_splits(recipe.data, eval_dataset, recipe.training.eval_strategy != "no")
    elif eval_dataset is None and recipe.training.eval_strategy != "no":
        raise ValueError(
            "There is a `train_dataset` but no `eval_dataset`: give one too, or train without validation by "
            "`--eval-strategy no --load-best-model-at-end false`."
        )
    data = recipe.data
    train_dataset = checked(ready_dataset(train_dataset, uses_text, data.several_texts), "train", recipe, survey)
    if eval_dataset is not None:
        eval_dataset = ready_dataset(eval_dataset, uses_text, data.several_texts and "first")
        eval_dataset = checked(eval_dataset, "eval", recipe, survey)
    if data.dataset != READY:
        survey.consult(rows_of_all_splits(data.dataset, data.data_dir, **data.source_options()))
    for warning in survey.warnings():
        warnings.warn(warning, UserWarning, stacklevel=3)
    return train_dataset, eval_dataset


def load_splits(
    arguments: DataArguments, eval_dataset: AnyDataset | None = None, validates: bool = True
) -> tuple[Dataset, Dataset | None]:
    """The training split that a recipe names, and the validation split if `validates`."""
    if eval_dataset is not None:
        raise ValueError(
            "There is an `eval_dataset` but no `train_dataset`: give both, or name the data in the recipe."
        )
    if arguments.dataset == READY:
        raise ValueError(
            "The recipe's data sets were given in Python (`dataset: ready`): call `train_from_recipe(recipe, "
            "train_dataset=..., eval_dataset=...)`, or name a `dataset`."
        )
    options = {"on_error": arguments.on_error, **arguments.source_options()}
    load = partial(load_segmentation_dataset, arguments.dataset, arguments.data_dir, **options)
    return load(split=arguments.train_split), load(split=arguments.eval_split) if validates else None


def checked(dataset: AnyDataset, part: str, recipe: Recipe, survey: Survey) -> AnyDataset:
    """The usable examples of a part of the run, with every file read once; a stream is returned unread."""
    limit = getattr(recipe.data, f"max_{part}_samples")
    if isinstance(dataset, IterableDataset):
        if limit is not None:
            raise ValueError(
                "A stream cannot be sampled: leave `max_train_samples` and `max_eval_samples` out, and pass e.g. "
                "`dataset.take(100)`."
            )
        survey.has_stream = True
        return dataset
    seed = recipe.training.seed if recipe.data.sample_seed is None else recipe.data.sample_seed
    dataset = sample(dataset, limit, seed)
    return dataset.select(survey.read_all(undecoded(dataset), recipe.data.on_error, part))


def check_texts(dataset: AnyDataset, uses_text: bool, processor: TeViAProcessor) -> None:
    """Raises `ValueError` if a text-guided model would be trained without texts, or with texts that do not differ."""
    if not (uses_text and isinstance(dataset, Dataset)):
        return
    if not any(dataset["text"]):
        raise ValueError(
            "No example of the training split has a text: generate texts with `tevia prompts` and set the table as "
            "`text_table`, or train the vision-only baseline with `use_text: false` under `config`."
        )
    check_texts_differ(list(texts_of(dataset)), processor.tokenizer)
