"""From a recipe to a trained model: a stock `transformers.Trainer` with TeViA's collator, callback and metrics."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset
from transformers import Trainer, set_seed

from ..auto import TeViAConfig, TeViAForSegmentation, TeViAProcessor
from ..configuration_tevia import PUBLISHED
from ..data.augment import TextAwareAugmentation
from ..data.features import verify_examples
from ..data.registry import load_segmentation_dataset
from ..data.splits import SPLITS_FILE, sample, split_table
from ..inference.loading import build_untrained, load_trained
from ..io.output_dir import claim_output_dir
from .arguments import DataArguments, ModelArguments, as_mapping, parse_recipe
from .checkpoints import last_complete_checkpoint
from .trainer import build_trainer


def train_from_recipe(recipe_path: str | Path, overrides: Sequence[str] = ()) -> Trainer:
    """Trains what a YAML recipe describes; model, processor and the complete recipe end up in its `output_dir`.

    Args:
        recipe_path: a YAML file; its fields are those of `ModelArguments`, `DataArguments`, `TeViATrainingArguments`.
        overrides: words `--name value` that go over the file.

    Every image and mask is read once before the first step, so that a bad file costs no training time.
    """
    recipe = parse_recipe(recipe_path, overrides)
    arguments, folder = recipe.training, Path(recipe.training.output_dir)
    checkpoint = last_complete_checkpoint(folder) if arguments.resume else None
    set_seed(arguments.seed)
    model, processor = load_model_and_processor(recipe.model)
    train_dataset, eval_dataset = load_splits(recipe.data, arguments.seed, processor)
    check_sentences(train_dataset, model.config.use_text)
    if arguments.process_index == 0:  # only now, so that a recipe that cannot be used overwrites nothing
        inputs = [recipe.model.model_name_or_path, recipe.model.config_name, recipe.data.data_dir]
        claim_output_dir(folder, arguments.resume, arguments.overwrite, inputs)
    augmentation = build_augmentation(recipe.data, arguments.seed)
    trainer = build_trainer(model, processor, arguments, train_dataset, eval_dataset, augmentation)
    if trainer.is_world_process_zero():
        recipe.save(folder)
        # Patients' names may stand in it: the Trainer leaves files that begin with _ out of its uploads.
        split_table(train=train_dataset, eval=eval_dataset).to_csv(folder / SPLITS_FILE, index=False)
    result = trainer.train(resume_from_checkpoint=checkpoint)
    trainer.save_model()
    trainer.save_state()
    trainer.save_metrics("train", result.metrics)
    return trainer


def build_augmentation(arguments: DataArguments, seed: int) -> TextAwareAugmentation:
    names = ("flip", "vertical_flip", "zoom", "rotation", "intensity", "noise")
    probabilities = {f"{name}_probability": getattr(arguments, f"{name}_probability") for name in names}
    return TextAwareAugmentation(**probabilities, patient_sides=arguments.patient_sides, seed=seed)


def load_model_and_processor(arguments: ModelArguments) -> tuple[TeViAForSegmentation, TeViAProcessor]:
    """A model to train further, or a new one of two encoders or of a configuration alone, with the processor that fits
    it; adapters are added.
    """
    if arguments.model_name_or_path:
        model, processor = load_trained(arguments.model_name_or_path)
    elif arguments.config_name:
        model, processor = build_untrained(arguments.config_name)
    else:
        model, processor = join_encoders(arguments)
    adapters = {"vision": as_adapter(arguments.vision_lora), "text": as_adapter(arguments.text_lora)}
    model.add_lora(**{half: adapter for half, adapter in adapters.items() if adapter or adapter == {}})
    return model, processor


def as_adapter(value: dict | str | None) -> dict | str | None:
    """Settings of an adapter, or the folder or name of a saved one as it is."""
    is_name = isinstance(value, str) and not value.lstrip().startswith("{")
    return value if is_name or value is None else as_mapping(value)


def config_fields(config: dict | str | None) -> dict:
    """Fields for `TeViAConfig`; with `published: true` among them, they go over the published values."""
    fields = dict(as_mapping(config))
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


def load_splits(arguments: DataArguments, seed: int, processor: TeViAProcessor) -> tuple[Dataset, Dataset]:
    """Training and validation examples, every file of them read once."""
    limits = (
        (arguments.train_split, arguments.max_train_samples),
        (arguments.eval_split, arguments.max_eval_samples),
    )
    options = arguments.source_options()
    splits = []
    for split, limit in limits:
        dataset = load_segmentation_dataset(arguments.dataset, arguments.data_dir, split, **options)
        splits.append(sample(dataset, limit, seed))
        verify_examples(splits[-1], processor)
    return splits[0], splits[1]


def check_sentences(dataset: Dataset, uses_text: bool) -> None:
    """Raises `ValueError` where a model that reads would be trained without a single sentence."""
    if uses_text and not any(dataset["text"]):
        raise ValueError(
            "No example of the training split has a sentence: make some by `tevia prompts` and name the table as "
            "`sentences`, or train the vision-only network with `use_text: false` under `config`."
        )
