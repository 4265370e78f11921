"""Ablations: training and evaluation of each configuration of a grid with each seed, and a table that compares them."""

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
    """The result of `run_ablation`."""

    table: pd.DataFrame | None  # one row per run, see `ablation_table`; `None` while runs are unfinished
    failures: dict[str, Path]  # run that failed in this call -> its log
    unfinished: list[str]  # of the whole grid
    output_dir: Path


def run_ablation(
    recipe: str | Path,
    grid: str | Path,
    output_dir: str | Path | None = None,
    overrides: Sequence[str] = (),
    table_only: bool = False,
) -> Ablation:
    """Trains and evaluates every run of a grid with every seed, and compares them: the table of `tevia ablate`.

    Runs are trained one after another, each in a separate process and folder, `<output_dir>/<run>/seed-<seed>/`, with
    its recipe and log next to the folder. A repeated call skips finished runs and resumes interrupted ones. Concurrent
    calls, also on several machines with a shared file system, process different runs. The call that finds all runs
    finished writes `ablation.md`, `ablation.csv`, `ablation.png` and `per_image.csv`.

    Args:
        recipe: the YAML recipe that all runs share, see `train_from_recipe`.
        grid: a YAML file: `runs` (name -> the recipe fields that it changes, and `against`, the run that it is compared
            with), `baseline` (the run that the others are compared with), `seeds`, and `evaluation` (arguments of
            `evaluate_dataset`).
        output_dir: by default the recipe's with the suffix "-ablation".
        overrides: command-line options, `--name value`, that override the recipe.
        table_only: train nothing, and write the table of the finished runs.

    Raises `ValueError`, before training, for a grid or recipe that cannot be used and for a folder with the run of
    another recipe; also for runs that were evaluated on different images. A failed run raises no error but is listed
    in `failures`.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError(
            "The runs of a grid share no process group: start the command several times, without torchrun."
        )
    plan = read_plan(recipe, grid, output_dir, overrides)
    failures = {} if table_only else execute(plan)
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


def execute(plan: Plan) -> dict[str, Path]:
    """Finishes the runs that no other call is processing; returns those that failed, with their logs."""
    missing, failures = [run for run in plan.runs if not is_finished(run, plan)], {}
    if missing:  # loads the data first, so that missing data are reported before training
        names = ("dataset", "data_dir", "split", "on_error")
        load_segmentation_dataset(*(plan.evaluation[name] for name in names), **source_options(plan.evaluation))
        plan.output_dir.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{plan.output_dir}.lock"):  # for concurrent calls
            claim_output_dir(plan.output_dir, resume=(plan.output_dir / MARKER).exists())
            started = (plan.output_dir / MARKER).stat().st_mtime_ns  # by the clock of the file system
    for run in missing:
        run.folder.parent.mkdir(parents=True, exist_ok=True)
        failure = run.folder.with_suffix(".failed")
        try:
            with FileLock(run.folder.with_suffix(".lock"), timeout=0):
                if is_finished(run, plan):
                    continue
                if not failure.exists() or failure.stat().st_mtime_ns <= started:  # else it failed in another call
                    failure.unlink(missing_ok=True)
                    if finish_in_process(run, plan.evaluation):
                        log = run.log.read_bytes() if run.log.exists() else b""
                        write_whole(failure, log.strip().rpartition(b"\n")[2])
                if failure.exists():
                    failures[str(run)] = run.log
        except Timeout:  # another call is processing it
            continue
    return failures


def is_finished(run: Run, plan: Plan) -> bool:
    """Whether a run was evaluated completely and with the arguments in the grid."""
    return whole_json(run.folder / EVALUATED) == plan.evaluation


def finish_in_process(run: Run, evaluation: dict[str, Any]) -> int | None:
    """Finishes a run in a child process, which ends with this one; returns its exit code.

    Only the first GPU is visible to it, since the Trainer would split batches over several, which changes the results.
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
    """Finishes a run with all output in its log; ends with the parent process."""
    with run.log.open("a", encoding="utf-8") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}: threads {torch.get_num_threads()}\n")
        log.flush()
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    Thread(target=end_with_parent, daemon=True).start()
    finish(run, evaluation)


def end_with_parent() -> None:
    """Ends this process when its parent, which holds the run's lock, has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


def finish(run: Run, evaluation: dict[str, Any]) -> None:
    """Trains a run unless it is trained, and evaluates it."""
    if not (run.folder / TRAINED).is_file():
        train(run)
    arguments = {name: evaluation[name] for name in signature(evaluate_dataset).parameters if name in evaluation}
    options = arguments | source_options(evaluation)
    evaluate_dataset(run.folder, output_dir=run.folder / "evaluation", overwrite=True, **options)
    write_whole(run.folder / EVALUATED, json.dumps(evaluation))


def train(run: Run) -> None:
    """Trains a run, from its last checkpoint if there is one, and records machine and duration."""
    write_whole(run.recipe_file, yaml.safe_dump(run.recipe, sort_keys=False))
    remove_stopped_checkpoint(run.folder)
    step, started = max(complete_checkpoints(run.folder), default=0), time.monotonic()
    options = ["--resume"] if step else ["--overwrite"] if run.folder.exists() else []
    trainer = train_from_recipe(run.recipe_file, options)
    steps, minutes = trainer.state.global_step, (time.monotonic() - started) / 60
    # The duration of an interrupted part is unknown and estimated from the speed of the rest.
    facts = {"steps": steps, "minutes": minutes * steps / (steps - step), **machine(trainer.args.device)}
    write_whole(run.folder / TRAINED, json.dumps(facts))
    trainer.end()


def remove_stopped_checkpoint(folder: Path) -> None:
    """Removes the last checkpoint of a training that stopped there but was interrupted before it saved the model.

    Resumed from there, the Trainer would train further, as it does not restore that it had stopped early.
    """
    checkpoints = complete_checkpoints(folder)
    if checkpoints:
        last = checkpoints[max(checkpoints)]
        state = json.loads((last / "trainer_state.json").read_text(encoding="utf-8"))
        if state["stateful_callbacks"]["TrainerControl"]["args"]["should_training_stop"]:
            shutil.rmtree(last)


def machine(device: torch.device) -> dict[str, Any]:
    """The name of the GPU, or else the CPU, of a run, and its number of threads."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        cpu_info = Path("/proc/cpuinfo")
        match = re.search(r"^model name\s*:\s*(.+)$", cpu_info.read_text() if cpu_info.exists() else "", re.MULTILINE)
        name = match[1] if match else platform.processor() or platform.machine()
    return {"machine": name, "threads": torch.get_num_threads()}
