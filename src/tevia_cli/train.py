"""Train what a YAML recipe describes; `--name value` words go over its fields."""

import argparse
from collections.abc import Sequence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="YAML file, such as hub_configs/tevia-qata/recipe.yaml")
    parser.set_defaults(overrides=[])
    parser.epilog = (
        "E.g. `tevia train recipe.yaml --learning_rate 1e-4 --resume`. "
        "Fields: those of transformers.TrainingArguments, and of ModelArguments, DataArguments and "
        "TeViATrainingArguments in tevia_hf.training.arguments, each explained there."
    )


def run(recipe: str, overrides: Sequence[str]) -> int:
    from tevia_hf.metrics import METRICS
    from tevia_hf.training.divergence import TrainingDivergedError
    from tevia_hf.training.recipe import train_from_recipe

    try:
        trainer = train_from_recipe(recipe, overrides)
    except TrainingDivergedError as error:
        raise ValueError(str(error)) from error  # which `main` prints without a traceback
    best, key = trainer.state.best_metric, str(trainer.args.metric_for_best_model).removeprefix("eval_")
    label = METRICS[key].label if key in METRICS else key
    print(f"\nThe model is in {trainer.args.output_dir}" + (f"; best validation: {label} {best:.3f}." if best else "."))
    if best == 0 and trainer.args.greater_is_better:
        print(
            f"{label} was 0 at every validation: the model marks nothing that is right yet. Train longer "
            "(`num_train_epochs`), look at the masks with `tevia check-data`, and where most of them are empty "
            "train on more images that show a lesion."
        )
    trainer.end()
    return 0
