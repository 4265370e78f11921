"""Train a model by a YAML recipe; options `--name value` override its fields."""

import argparse
from collections.abc import Sequence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="YAML file, such as hub_configs/tevia-qata/recipe.yaml")
    parser.set_defaults(overrides=[])
    parser.epilog = (
        "E.g. `tevia train recipe.yaml --learning_rate 1e-4 --resume`. "
        "Fields: those of transformers.TrainingArguments, and of ModelArguments, DataArguments and "
        "TeViATrainingArguments, documented in tevia_hf.training.arguments."
    )


def run(recipe: str, overrides: Sequence[str]) -> int:
    from tevia_hf.metric_table import METRICS
    from tevia_hf.training.divergence import TrainingDivergedError
    from tevia_hf.training.recipe import train_from_recipe
    from tevia_hf.training.trainer import validation_failure

    try:
        trainer = train_from_recipe(recipe, overrides)
    except TrainingDivergedError as error:
        raise ValueError(str(error)) from error  # `main` prints it without a traceback
    best, key = trainer.state.best_metric, str(trainer.args.metric_for_best_model).removeprefix("eval_")
    label = METRICS[key].label if key in METRICS else key
    selected = "" if best is None else f"; best validation: {label} {best:.3f}"
    remark = " (recall 0: it finds no lesion)" if validation_failure(trainer.state) else ""
    print(f"\nThe model is in {trainer.args.output_dir}{selected}{remark}.")
    trainer.end()
    return 0
