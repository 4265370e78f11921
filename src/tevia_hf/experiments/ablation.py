"""An ablation: each configuration of a grid trained with each seed, evaluated alike, and compared in one table."""

import json
import multiprocessing
import os
import platform
import re
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from multiprocessing.connection import wait
from pathlib import Path
from threading import Thread
from typing import Any

import pandas as pd
import torch
import yaml
from filelock import FileLock, Timeout

from ..data.registry import load_segmentation_dataset
from ..evaluation.evaluate import evaluate_dataset
from ..io.output_dir import MARKER, claim_output_dir, write_whole
from ..training.checkpoints import complete_checkpoints, whole_json
from ..training.recipe import train_from_recipe
from .grid import Plan, Run, read_plan, source_options
from .table import EVALUATED, TRAINED, ablation_table, read_scores, save_table

GPUS = "CUDA_VISIBLE_DEVICES"


@dataclass
class Ablation:
    """What `run_ablation` did and found."""

    table: pd.DataFrame | None  # a row a run, as `ablation_table` gives it; `None` while runs are missing
    failures: dict[str, Path]  # what failed here -> the log that says why
    unfinished: list[str]  # of the whole grid
    output_dir: Path  # where all of it is


def run_ablation(
    recipe: str | Path,
    grid: str | Path,
    output_dir: str | Path | None = None,
    overrides: Sequence[str] = (),
    table_only: bool = False,
) -> Ablation:
    """Trains and evaluates every run of a grid with every seed, and compares them: the table of `tevia ablate`.

    Runs are trained one after another, each in a process and a folder of its own, `<output_dir>/<run>/seed-<seed>/`,
    beside its recipe and its log. Called again, it skips what is finished and resumes what was cut. Called several
    times at once, also on several machines with a common disk, each call takes the runs that no other works on.
    Whichever finds all of them finished writes `ablation.md`, `ablation.csv`, `ablation.png` and `per_image.csv`.

    Args:
        recipe: the YAML recipe that all runs share, as `train_from_recipe` takes it.
        grid: a YAML file: `runs` (name -> the recipe fields that it changes, and `against`, the run that it is compared
            with), `baseline` (the run that the others are compared with), `seeds`, and `evaluation` (fields of
            `evaluate_dataset`).
        output_dir: default: the recipe's, with "-ablation" behind its name.
        overrides: `--name value` options that go over the recipe.
        table_only: train nothing, and write the table of the runs that are finished.

    Raises `ValueError`, before anything is trained, for a grid or recipe that cannot be used, and for a folder that
    holds the run of another recipe; and for runs that were evaluated on different images. A run that fails raises
    nothing: it is named in `failures`.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError(
            "The runs of a grid share no process group: start the command several times, without torchrun."
        )
    plan = read_plan(recipe, grid, output_dir, overrides)
    failures = {} if table_only else carry_out(plan)
    finished = [run for run in plan.runs if is_finished(run, plan)]
    unfinished = [str(run) for run in plan.runs if run not in finished]
    if table_only and not finished:
        raise ValueError(f"No run in {plan.output_dir} is finished: leave `table_only` out, or look at the logs there.")
    if unfinished and not table_only:
        return Ablation(None, failures, unfinished, plan.output_dir)
    scores = read_scores(finished)
    table = ablation_table(finished, scores, plan)
    save_table(table, scores, plan.output_dir)
    return Ablation(table, failures, unfinished, plan.output_dir)


def carry_out(plan: Plan) -> dict[str, Path]:
    """Does what is missing and nobody else works on; the runs that failed, with their logs."""
    missing, failures = [run for run in plan.runs if not is_finished(run, plan)], {}
    if missing:  # missing data are noticed before the first step
        names = ("dataset", "data_dir", "split", "on_error")
        load_segmentation_dataset(*(plan.evaluation[name] for name in names), **source_options(plan.evaluation))
        plan.output_dir.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{plan.output_dir}.lock"):  # calls may start together
            claim_output_dir(plan.output_dir, resume=(plan.output_dir / MARKER).exists())
            started = (plan.output_dir / MARKER).stat().st_mtime_ns  # by the disk's own clock
    for run in missing:
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        failure = run.folder.with_suffix(".failed")
        try:
            with FileLock(run.folder.with_suffix(".lock"), timeout=0):
                if is_finished(run, plan):
                    continue
                if not failure.exists() or failure.stat().st_mtime_ns <= started:  # else another call met it meanwhile
                    failure.unlink(missing_ok=True)
                    if in_own_process(run, plan.evaluation):
                        log = run.log.read_bytes() if run.log.exists() else b""
                        write_whole(failure, log.strip().rpartition(b"\n")[2])
                if failure.exists():
                    failures[str(run)] = run.log
        except Timeout:  # another call works on it
            continue
    return failures


def is_finished(run: Run, plan: Plan) -> bool:
    """Whether a run was evaluated, as the grid asks for, to the end."""
    return whole_json(run.folder / EVALUATED) == plan.evaluation


def in_own_process(run: Run, evaluation: dict[str, Any]) -> int | None:
    """The exit code of a process that does what is missing of a run; it ends where this one does.

    It sees the first GPU alone: the Trainer would split batches over several, which changes the numbers.
    """
    process = multiprocessing.get_context("spawn").Process(target=finish_into_log, args=(run, evaluation))
    visible = os.environ.get(GPUS)
    os.environ[GPUS] = "0" if visible is None else visible.split(",")[0]
    try:
        process.start()
    finally:
        os.environ.pop(GPUS) if visible is None else os.environ.update({GPUS: visible})
    try:
        process.join()
    finally:
        process.terminate()
    return process.exitcode


def finish_into_log(run: Run, evaluation: dict[str, Any]) -> None:
    """Does what is missing of a run, all output going to its log, for as long as the parent process lives."""
    with run.log.open("a", encoding="utf-8") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}: threads {torch.get_num_threads()}\n")
        log.flush()
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    Thread(target=end_with_parent, daemon=True).start()
    finish(run, evaluation)


def end_with_parent() -> None:
    """Ends this process once its parent, which holds the run's lock, is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def finish(run: Run, evaluation: dict[str, Any]) -> None:
    """What is missing of one run."""
    if not (run.folder / TRAINED).is_file():
        train(run)
    named = {name: evaluation[name] for name in signature(evaluate_dataset).parameters if name in evaluation}
    options = named | source_options(evaluation)
    evaluate_dataset(run.folder, output_dir=run.folder / "evaluation", overwrite=True, **options)
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
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        facts = Path("/proc/cpuinfo")
        named = re.search(r"^model name\s*:\s*(.+)$", facts.read_text() if facts.exists() else "", re.MULTILINE)
        name = named[1] if named else platform.processor() or platform.machine()
    return {"machine": name, "threads": torch.get_num_threads()}
