"""An ablation: each configuration of a grid trained with each seed, evaluated alike, and compared in one table."""

import json
import os
import platform
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml
from filelock import FileLock, Timeout

from ..data.registry import load_segmentation_dataset
from ..io.output_dir import MARKER, claim_output_dir, write_whole
from ..option_checks_tevia import check_count
from ..training.checkpoints import complete_checkpoints, is_json
from ..training.recipe import train_from_recipe
from . import processes
from .ablation_grid import Plan, Run, read_plan, source_options
from .ablation_table import EVALUATED, TRAINED, ablation_table, read_scores, save_table
from .evaluate import run_evaluation
from .processes import LAUNCHER_VARIABLES, Work, environment, share_of, slots_for


@dataclass
class Ablation:
    """What `run_ablation` did and found.

    Args:
        table: a row a run, as `ablation_table` gives it; `None` while runs are missing.
        failures: what failed here -> the log that says why.
        unfinished: the runs of the whole grid that are not finished.
        output_dir: where all of it is.
    """

    table: pd.DataFrame | None
    failures: dict[str, Path]
    unfinished: list[str]
    output_dir: Path


def run_ablation(
    recipe: str | Path,
    grid: str | Path,
    output_dir: str | Path | None = None,
    overrides: Sequence[str] = (),
    workers: int | None = None,
    table_only: bool = False,
) -> Ablation:
    """Trains and evaluates every run of a grid with every seed, and compares them: the table of `tevia ablate`.

    Each run is trained in a process and a folder of its own, `<output_dir>/<run>/seed-<seed>/`, beside its recipe and
    its log. Called again, it skips what is finished and resumes what was cut. Under torchrun and in a SLURM array each
    process takes its share of the runs. Whichever finds all of them finished writes `ablation.md`, `ablation.csv`,
    `ablation.png` and `per_image.csv`.

    Args:
        recipe: the YAML recipe that all runs share, as `train_from_recipe` takes it.
        grid: a YAML file: `runs` (name -> the recipe fields that it changes, and `against`, the run that it is compared
            with), `baseline` (the run that the others are compared with), `seeds`, and `evaluation` (fields of
            `run_evaluation`).
        output_dir: default: the recipe's, with "-ablation" behind its name.
        overrides: `--name value` options that go over the recipe.
        workers: runs at a time; default: one a GPU, else one a CPU core.
        table_only: train nothing, and write the table of the runs that are finished.

    Raises `ValueError`, before anything is trained, for a grid or recipe that cannot be used, and for a folder that
    holds the run of another recipe; and for runs that were evaluated on different images. A run that fails raises
    nothing: it is named in `failures`.
    """
    if workers is not None:
        check_count("workers", workers, example="2")
    outside = dict(os.environ)
    with environment(dict.fromkeys(LAUNCHER_VARIABLES)):  # no run is to wait for the processes of another
        plan = read_plan(recipe, grid, output_dir, overrides)
        failures = {} if table_only else carry_out(plan, workers, outside)
        if not table_only:
            processes.wait_for_all_ranks(outside)
        unfinished = [str(run) for run in plan.runs if not is_finished(run, plan)]
        table = None if unfinished and not table_only else write_table(plan)
        return Ablation(table, failures, unfinished, plan.output_dir)


def carry_out(plan: Plan, workers: int | None, environ: dict[str, str]) -> dict[str, Path]:
    """Does what is missing of this process's share of the runs; those that failed, with their logs."""
    mine = [run for run in share_of(plan.runs, environ) if not is_finished(run, plan)]
    if not mine:
        return {}
    evaluation = plan.evaluation  # missing data are noticed before the first step
    names = ("dataset", "data_dir", "split", "on_error")
    load_segmentation_dataset(*(evaluation[name] for name in names), **source_options(evaluation))
    claim_output_dir(plan.output_dir, resume=(plan.output_dir / MARKER).exists())
    slots = slots_for(len(share_of(plan.runs, environ)), workers, not plan.use_cpu, environ)
    works = [Work(train_and_evaluate, (run, evaluation), run.log) for run in mine]
    codes = processes.run_all(works, slots)
    return {str(run): run.log for run, code in zip(mine, codes, strict=True) if code}


def write_table(plan: Plan) -> pd.DataFrame:
    """The table of the finished runs, written beside them. Raises `ValueError` where none is."""
    finished = [run for run in plan.runs if is_finished(run, plan)]
    if not finished:
        raise ValueError(f"No run in {plan.output_dir} is finished: leave `table_only` out, or look at the logs there.")
    scores = read_scores(finished)
    table = ablation_table(finished, scores, plan)
    save_table(table, scores, plan.output_dir)
    return table


def is_finished(run: Run, plan: Plan) -> bool:
    """Whether a run was evaluated, as the grid asks for, to the end."""
    path = run.folder / EVALUATED
    return path.is_file() and is_json(path) and json.loads(path.read_text(encoding="utf-8")) == plan.evaluation


def train_and_evaluate(run: Run, evaluation: dict[str, Any]) -> None:
    """What is missing of one run. Raises `ValueError` while another process works on it."""
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.folder.with_name(f"{run.folder.name}.lock"), timeout=0):
            finish(run, evaluation)
    except Timeout as error:
        raise ValueError(f"Another process works on {run.folder}: leave it alone, or stop that one first.") from error


def finish(run: Run, evaluation: dict[str, Any]) -> None:
    if not (run.folder / TRAINED).is_file():
        train(run)
    options = source_options(evaluation)
    names = [name for name in evaluation if name not in ("sentences", "group_split", "split_seed", "window")]
    run_evaluation(
        run.folder,
        output_dir=run.folder / "evaluation",
        overwrite=True,
        **{name: evaluation[name] for name in names},
        **options,
    )
    write_whole(run.folder / EVALUATED, json.dumps(evaluation))


def train(run: Run) -> None:
    """Trains a run from where it was cut, and writes down on what, and for how long."""
    write_whole(run.recipe_file, yaml.safe_dump(run.recipe, sort_keys=False))
    drop_last_of_ended(run.folder)
    step, started = max(complete_checkpoints(run.folder), default=0), time.monotonic()
    how = ["--resume"] if step else ["--overwrite"] if run.folder.exists() else []
    trainer = train_from_recipe(run.recipe_file, how)
    steps, minutes = trainer.state.global_step, (time.monotonic() - started) / 60
    # What was cut left no time behind: the speed of the rest stands for it.
    facts = {"steps": steps, "minutes": minutes * steps / (steps - step), **machine(trainer.args.device)}
    write_whole(run.folder / TRAINED, json.dumps(facts))
    trainer.end()


def drop_last_of_ended(folder: Path) -> None:
    """Takes out the checkpoint at which a training had come to its end, though not to its model.

    Resumed from there, the Trainer would make further steps, as it does not see that it had stopped early.
    """
    checkpoints = complete_checkpoints(folder)
    if checkpoints:
        last = checkpoints[max(checkpoints)]
        state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
        if state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"]:
            shutil.rmtree(last)


def machine(device: torch.device) -> dict[str, Any]:
    """The name of the GPU, or else the CPU, that a run computed on, and its threads."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    return {"machine": name, "threads": torch.get_num_threads()}


def cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
