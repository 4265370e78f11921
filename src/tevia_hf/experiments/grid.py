"""The grid of an ablation: its runs, the recipe of each, and the evaluation of all of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

from ..data.faults import raise_problems
from ..data.options import READING_OPTIONS, SOURCE_OPTIONS
from ..evaluation.evaluate import check_options, evaluate_dataset
from ..evaluation.text_conditions import conditions_for
from ..io.yaml_file import read_yaml
from ..training.arguments import (
    OF_ONE_RUN,
    READY,
    RECORDED,
    DataArguments,
    Recipe,
    as_mapping,
    check_names,
    parse_fields,
    parse_recipe,
)

GRID_FIELDS = ("seeds", "baseline", "runs", "evaluation")
FIXED_FIELDS = ("output_dir", "seed", *OF_ONE_RUN)  # recipe fields that the grid sets, not a run
MERGED_FIELDS = ("config", "image_processor")  # mappings in which a run changes single fields
DATA_FIELDS = ("dataset", "data_dir", *SOURCE_OPTIONS, *READING_OPTIONS)
EVALUATION_DEFAULTS = {
    name: parameter.default
    for name, parameter in signature(evaluate_dataset).parameters.items()
    if parameter.default is not parameter.empty and name not in ("output_dir", "overwrite", *DATA_FIELDS)
}
RUNS_EXAMPLE = "`runs` is a mapping of names to the recipe fields that each run changes, e.g. {text: {}}"


@dataclass(frozen=True)
class Run:
    """One training of a grid: the fields of its recipe, and its output folder."""

    name: str
    seed: int
    folder: Path
    recipe: dict[str, Any]

    @property
    def recipe_file(self) -> Path:
        return self.folder.with_suffix(".yaml")

    @property
    def log(self) -> Path:
        return self.folder.with_suffix(".log")

    def __str__(self) -> str:
        return f"{self.name}, seed {self.seed}"


@dataclass(frozen=True)
class Plan:
    """The runs and the evaluation of a grid."""

    output_dir: Path
    runs: list[Run]  # in the grid's order, the seeds of a run one after another
    against: dict[str, str | None]  # run -> the one that it is compared with
    evaluation: dict[str, Any]  # arguments of `evaluate_dataset` for every run, as YAML and JSON values


def read_plan(
    recipe: str | Path, grid: str | Path, output_dir: str | Path | None = None, overrides: Sequence[str] = ()
) -> Plan:
    """The runs of a grid file, each with a parsed recipe; for the arguments see `run_ablation`.

    Raises `ValueError` for unknown fields, recipes that cannot be trained, and folders that hold the run of another
    recipe.
    """
    values = read_yaml(Path(grid))
    check_names(values, GRID_FIELDS, f"{grid} has fields that no grid has")
    base = parse_recipe(recipe, overrides)
    if base.data.dataset == READY:
        raise ValueError("The runs of a grid load their own data: name a `dataset` in the recipe.")
    if base.training.overwrite or base.training.resume:
        raise ValueError("A grid resumes by itself; to train runs anew, delete their folders. Leave the option out.")
    if base.training.enable_jit_checkpoint:
        raise ValueError(
            "`enable_jit_checkpoint` ends a training early as if it were finished: leave it out, as a grid resumes "
            "from the last checkpoint."
        )
    changes = read_changes(values.get("runs"))
    against = read_comparisons(changes, values.get("baseline"))
    folder = Path(output_dir or f"{base.training.output_dir}-ablation")
    seeds = read_seeds(values.get("seeds"), base.training.seed)
    runs = [run for name, fields in changes.items() for run in runs_of(name, fields, base, seeds, folder)]
    check_folders(runs)
    return Plan(folder, runs, against, read_evaluation(values.get("evaluation"), base.data))


def read_changes(runs: Any) -> dict[str, dict[str, Any]]:
    """Run -> the fields that it changes. Raises `ValueError` for names with the same folder."""
    if not isinstance(runs, dict) or not runs or not all(isinstance(name, str) for name in runs):
        raise ValueError(f"{RUNS_EXAMPLE}; put names that are numbers in quotes.")
    folders: dict[str, str] = {}
    for name, fields in runs.items():
        if not isinstance(fields, dict | None):
            raise ValueError(f"The run '{name}' is {fields!r}, but {RUNS_EXAMPLE}.")
        if not (safe := safe_name(name).lower()):
            raise ValueError(f"The run '{name}' has no letter or digit to name its folder by: rename it.")
        if safe in folders:
            raise ValueError(f"The runs '{folders[safe]}' and '{name}' would share the folder {safe}: rename one.")
        folders[safe] = name
    return {name: dict(fields or {}) for name, fields in runs.items()}


def safe_name(name: str) -> str:
    """The name as a folder name, of letters, digits, _ and - only."""
    return re.sub(r"[^\w-]+", "-", name).strip("-")


def read_comparisons(changes: dict[str, dict[str, Any]], baseline: Any) -> dict[str, str | None]:
    """Run -> the run that it is compared with; removes `against` from the changes."""
    against = {name: fields.pop("against", None if name == baseline else baseline) for name, fields in changes.items()}
    check_names([baseline] if baseline is not None else [], changes, "`baseline` names a run that the grid lacks")
    for name, other in against.items():
        check_names([other] if other is not None else [], changes, f"`against` of '{name}' names no run of the grid")
        if other == name:
            raise ValueError(f"The run '{name}' is compared with itself: name another one by `against`.")
    return against


def read_seeds(seeds: Any, default: int) -> list[int]:
    values = [default] if seeds is None else seeds
    if not isinstance(values, list) or not values or any(type(seed) is not int or seed < 0 for seed in values):
        raise ValueError(f"`seeds` is {seeds!r}: give a list of whole numbers from 0 on, e.g. [0, 1, 2].")
    if len(set(values)) < len(values):
        raise ValueError(f"`seeds` is {seeds!r}: give each seed once.")
    return values


def runs_of(name: str, changes: dict[str, Any], base: Recipe, seeds: list[int], output_dir: Path) -> list[Run]:
    """One run per seed. Data are sampled by the seed of the base recipe, so that all runs share them."""
    if fixed := [field for field in changes if field in FIXED_FIELDS]:
        raise ValueError(f"The run '{name}' sets {', '.join(fixed)}, which the grid does: leave it out there.")
    base_seed = base.training.seed if base.data.sample_seed is None else base.data.sample_seed
    fields = merged({**base.given, "sample_seed": base_seed}, changes)
    runs = []
    for seed in seeds:
        folder = output_dir / safe_name(name) / f"seed-{seed}"
        values = {**fields, "output_dir": str(folder), "seed": seed}
        recipe = parse_fields(values, source=f"The run '{name}'").given
        runs.append(Run(name, seed, folder, {key: recipe[key] for key in recipe if key not in OF_ONE_RUN}))
    return runs


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The base with the changes applied; `MERGED_FIELDS` are merged field by field, and {} resets one of them."""
    changed = [name for name in MERGED_FIELDS if changes.get(name)]
    mappings = {name: as_mapping(base.get(name)) | as_mapping(changes[name]) for name in changed}
    return {**base, **changes, **mappings}


def read_evaluation(given: Any, data: DataArguments) -> dict[str, Any]:
    """The arguments of `evaluate_dataset`; the data set is the recipe's unless another one is given.

    Raises `ValueError` for unknown fields and invalid values.
    """
    given = as_mapping(given)
    check_names(given, [*EVALUATION_DEFAULTS, *DATA_FIELDS], "`evaluation` has fields that do not exist")
    defaults = DataArguments() if "dataset" in given else data
    evaluation = {**EVALUATION_DEFAULTS, **{name: getattr(defaults, name) for name in DATA_FIELDS}, **given}
    for name, default in EVALUATION_DEFAULTS.items():
        kinds = (float, int) if isinstance(default, float) else type(default)
        if default is not None and not isinstance(evaluation[name], kinds):
            raise ValueError(f"`{name}` of `evaluation` is {evaluation[name]!r}: give a value such as {default!r}.")
    check_options(*(evaluation[name] for name in ("threshold", "batch_size", "seed", "max_samples", "on_error")))
    source_options(evaluation)  # raises for invalid ones
    modes = evaluation["text_modes"]
    if modes is not None:
        evaluation["text_modes"] = modes.split(",") if isinstance(modes, str) else list(modes)
    conditions_for(evaluation["text_modes"] or (), uses_text=True)
    return evaluation


def source_options(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an evaluation for `load_segmentation_dataset`, beside name, folder and split."""
    return DataArguments(**{name: evaluation[name] for name in DATA_FIELDS}).source_options()


def check_folders(runs: Sequence[Run]) -> None:
    """Raises `ValueError` if a folder holds the run of another recipe, with the differences."""
    problems = []
    for run in runs:
        path = run.folder / "recipe.yaml"
        existing = read_yaml(path) if path.is_file() else run.recipe
        inferred = {name for name in RECORDED if name not in run.recipe}
        # the output folder is the same, even if its relative path differs
        for name in sorted({*existing, *run.recipe} - {"output_dir", *inferred}):
            before, now = (repr(fields[name]) if name in fields else "left out" for fields in (existing, run.recipe))
            if before != now:
                problems.append(f"{run.folder}: `{name}` is {before} there, {now} in the grid")
    raise_problems(
        "Runs of another recipe than the grid's",
        problems,
        "Delete these folders to train them anew, revert the change, or name another output folder.",
    )
