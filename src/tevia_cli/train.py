"""Train a model by a YAML recipe; options `--field value` override its fields."""

import argparse
from collections.abc import Sequence

EPILOG = """\
recipe fields as options:
  --resume              resume from the last checkpoint in the output folder
  --overwrite           delete an earlier run in the output folder
  --output-dir DIR      folder to write to
  --dataset NAME --data-dir DIR
                        data set, such as `--dataset folder --data-dir scans`
  --config '{use_text: false}'
                        fields of the model's configuration; this one trains the vision-only baseline
  --num-train-epochs N --per-device-train-batch-size N --learning-rate RATE
                        and every other field of transformers.TrainingArguments
docs/recipe.md lists all fields and their defaults.

example: tevia train hub_configs/tevia-tiny/recipe.yaml --num-train-epochs 1 --output-dir outputs/tiny"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("recipe", help="YAML file, such as hub_configs/tevia-qata/recipe.yaml")
    parser.set_defaults(overrides=[])
    parser.usage = "%(prog)s [-h] recipe [--resume] [--overwrite] [--FIELD VALUE ...]"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG


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
    remark = " (recall 0: it finds no lesion)" if validation_failure(trainer) else ""
    print(f"\nThe model is in {trainer.args.output_dir}{selected}{remark}.")
    trainer.end()
    return 0
