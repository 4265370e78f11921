"""A grid of runs and seeds: which runs are trained, skipped, resumed and refused, and the table of results."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from filelock import FileLock
from PIL import Image
from safetensors.torch import load_file
from tiny import tiny_text_config, tiny_tokenizer, tiny_vision_config
from transformers import BertModel, ConvNextModel, TrainerCallback

from tevia_cli.main import main, parse
from tevia_hf import run_ablation
from tevia_hf.data.synthetic import synthetic_dataset
from tevia_hf.experiments import ablation
from tevia_hf.experiments.grid import read_plan
from tevia_hf.training import trainer as training_trainer

GRID = {
    "seeds": [0, 3],
    "baseline": "vision-only",
    "runs": {"vision-only": {"config": {"use_text": False}}, "with text": None},
    "evaluation": {"split": "val", "held_out": True, "text_modes": ["none"], "threshold": 0.39},
}
PAGE = Path(__file__).parents[1] / "docs" / "ablation.md"
STEPS = 4  # two epochs of two batches


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    """The fields of a recipe that trains quickly on a folder of images."""
    folder = tmp_path_factory.mktemp("ablation")
    torch.manual_seed(0)
    ConvNextModel(tiny_vision_config()).save_pretrained(folder / "vision")
    BertModel(tiny_text_config()).save_pretrained(folder / "text")
    tiny_tokenizer().save_pretrained(folder / "text")
    rows = []
    for split, count in (("train", 6), ("val", 6)):
        for index, example in enumerate(synthetic_dataset(split, size=32, count=count)):
            name = f"{split}{index}.png"
            for part in ("image", "mask"):
                (folder / "data" / f"{part}s").mkdir(parents=True, exist_ok=True)
                example[part].save(folder / "data" / f"{part}s" / name)
            rows.append({"Image": name, "Description": example["text"], "split": split})
    pd.DataFrame(rows).to_csv(folder / "data" / "table.csv", index=False)
    return {
        "vision_model": str(folder / "vision"),
        "text_model": str(folder / "text"),
        "config": {"head_channels": 8, "max_text_length": 24, "text_dropout": 0.4},
        "image_processor": {"size": {"height": 32, "width": 32}},
        "dataset": "folder",
        "data_dir": str(folder / "data"),
        "max_train_samples": 4,
        "max_eval_samples": 2,
        "output_dir": "unused",
        "num_train_epochs": 2,
        "per_device_train_batch_size": 2,
        "learning_rate": "1e-2",
        "use_cpu": True,
        "disable_tqdm": True,
    }


def in_this_process(run, evaluation):
    """Replaces `finish_in_process` without a child process."""
    try:
        ablation.finish(run, evaluation)
    except Exception:
        return 1
    return 0


@pytest.fixture
def inline(monkeypatch):
    monkeypatch.setattr(ablation, "finish_in_process", in_this_process)


@pytest.fixture
def files(recipe, tmp_path):
    """Writes a recipe and a grid with some fields changed; returns their paths and the output folder."""

    def files(grid=GRID, **changes):
        for name, values in (("recipe", {**recipe, **changes}), ("grid", grid)):
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        return tmp_path / "recipe.yaml", tmp_path / "grid.yaml", tmp_path / "out"

    return files


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """The folder of a finished grid, and the result of `run_ablation`."""
    folder = tmp_path_factory.mktemp("finished")
    for name, values in (("recipe", recipe), ("grid", GRID)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablation, "finish_in_process", in_this_process)
        result = run_ablation(folder / "recipe.yaml", folder / "grid.yaml", folder / "out")
    return folder, result


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of that folder to change, and the arguments of a call on it."""
    shutil.copytree(finished[0], tmp_path / "copy")
    return tmp_path / "copy"


def run_again(folder: Path, **options) -> ablation.Ablation:
    return run_ablation(folder / "recipe.yaml", folder / "grid.yaml", folder / "out", **options)


def contents(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def same_weights(ours: Path, theirs: Path) -> bool:
    first, second = (load_file(folder / "model.safetensors") for folder in (ours, theirs))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# A complete grid


def test_every_run_is_trained_with_every_seed_and_evaluated(finished):
    folder, result = finished
    assert not result.failures and not result.unfinished
    for name in ("vision-only", "with-text"):
        for seed in (0, 3):
            run = folder / "out" / name / f"seed-{seed}"
            report = json.loads((run / "evaluation" / "evaluation.json").read_text())
            assert report["settings"]["held_out"] is True and report["settings"]["images"] == 4
            fields = yaml.safe_load(run.with_name(f"seed-{seed}.yaml").read_text())
            assert fields["seed"] == seed and fields["output_dir"] == str(run) and fields["learning_rate"] == 1e-2
            inferred = {"white_is_lesion": True}
            assert fields | inferred == yaml.safe_load((run / "recipe.yaml").read_text())


def test_a_run_changes_single_fields_of_the_config(finished):
    fields = yaml.safe_load((finished[0] / "out" / "vision-only" / "seed-0.yaml").read_text())
    assert fields["config"] == {"head_channels": 8, "max_text_length": 24, "text_dropout": 0.4, "use_text": False}


def test_all_seeds_train_and_validate_on_the_same_samples(finished):
    lists = [path.read_text() for path in sorted((finished[0] / "out").glob("*/*/_splits.csv"))]
    assert len(lists) == 4 and len(set(lists)) == 1
    assert not same_weights(*(finished[0] / "out" / "with-text" / f"seed-{seed}" for seed in (0, 3)))


def test_the_table_holds_the_scores_of_the_reports(finished):
    folder, result = finished
    table = result.table.set_index("run")
    reports = [
        json.loads((folder / "out" / "with-text" / f"seed-{seed}" / "evaluation" / "evaluation.json").read_text())
        for seed in (0, 3)
    ]
    dice = [report["scores"]["correct"]["dice"] for report in reports]
    row = table.loc["with text"]
    assert row["dice"] == pytest.approx(np.mean(dice)) and row["dice_spread"] == pytest.approx(np.std(dice, ddof=1))
    for key in ("shuffled", "none"):
        assert row[f"dice_{key}"] == pytest.approx(np.mean([report["scores"][key]["dice"] for report in reports]))
    assert row["dice_pooled"] == pytest.approx(
        np.mean([report["scores"]["correct"]["dice_pooled"] for report in reports])
    )
    assert (row["images"], row["groups"], row["seeds"], row["steps"]) == (4, 4, "0 3", STEPS)
    assert row["minutes"] > 0 and row["machine"].endswith(f"threads: {torch.get_num_threads()}")
    assert row["against"] == "vision-only" and pd.isna(table.loc["vision-only", "against"])
    assert row["difference"] == pytest.approx(row["dice"] - table.loc["vision-only", "dice"])
    assert row["low"] <= row["difference"] <= row["high"]


def test_the_table_is_written_with_its_figure_and_every_image(finished):
    folder, result = finished
    shown = (folder / "out" / "ablation.md").read_text()
    assert "| with text | " in shown and f"{result.table['difference'].iloc[1]:+.3f}" in shown and " ± " in shown
    assert list(pd.read_csv(folder / "out" / "ablation.csv")["run"]) == ["vision-only", "with text"]
    assert Image.open(folder / "out" / "ablation.png").width > 500
    images = pd.read_csv(folder / "out" / "per_image.csv")
    assert list(images.columns) == ["run", "seed", "id", "group", "text_mode", "dice", "iou"]
    assert images.groupby(["run", "seed", "text_mode"]).size().to_dict() == {
        **{("vision-only", seed, "no text branch"): 4 for seed in (0, 3)},
        **{("with text", seed, mode): 4 for seed in (0, 3) for mode in ("correct", "none", "shuffled")},
    }


def test_the_command_of_a_row_repeats_it(finished, tmp_path, monkeypatch):
    folder, result = finished
    command = result.table.set_index("run").loc["with text", "command"]
    assert not re.search(r"--[a-z]+_", command)  # options as the pages spell them
    steps = command.removeprefix("for seed in 0 3; do OMP_NUM_THREADS=1 ").removesuffix("; done").replace("$seed", "3")
    monkeypatch.chdir(tmp_path)
    for step in steps.split(" && "):
        assert main(step.split()[1:]) == 0
    run, again = folder / "out" / "with-text" / "seed-3", tmp_path / "again" / "with-text" / "seed-3"
    assert same_weights(run, again)
    ours, theirs = (path / "evaluation" / "evaluation.csv" for path in (run, again))
    assert ours.read_text() == theirs.read_text()


# Repeated calls


def test_what_is_finished_is_not_touched(copied, inline):
    before = contents(copied / "out" / "with-text")
    result = run_again(copied)
    assert result.table is not None and contents(copied / "out" / "with-text") == before


def cut(monkeypatch, event: str, step: int):
    """Makes a run fail once, at a given step."""

    class Cut(TrainerCallback):
        done = False

        def act(self, args, state, control, **kwargs):
            if state.global_step == step and not Cut.done:
                Cut.done = True
                raise RuntimeError("cut")

    setattr(Cut, event, Cut.act)
    usual = training_trainer.training_callbacks
    monkeypatch.setattr(training_trainer, "training_callbacks", lambda *args: [*usual(*args), Cut()])


@pytest.mark.parametrize(
    ("event", "step"), [("on_step_end", 1), ("on_step_end", 3), ("on_train_end", STEPS)], ids=["anew", "half", "end"]
)
def test_a_cut_run_ends_like_an_unbroken_one(event, step, copied, finished, inline, monkeypatch):
    run = copied / "out" / "with-text" / "seed-3"
    shutil.rmtree(run)
    cut(monkeypatch, event, step)
    result = run_again(copied)
    assert result.failures == {"with text, seed 3": run.with_name("seed-3.log")} and result.table is None
    assert result.unfinished == ["with text, seed 3"]
    checkpoints = contents(run / "checkpoint-2") if (run / "checkpoint-2").exists() else {}
    result = run_again(copied)
    assert not result.failures and not result.unfinished
    assert all(path.stat().st_mtime_ns == time for path, time in checkpoints.items())  # resumed, not begun anew
    unbroken = finished[0] / "out" / "with-text" / "seed-3"
    assert same_weights(run, unbroken)
    assert (run / "evaluation/evaluation.csv").read_text() == (unbroken / "evaluation/evaluation.csv").read_text()


def test_a_run_that_was_cut_after_its_last_step_makes_no_further_one(files, inline, monkeypatch):
    recipe, grid, out = files({"runs": {"a": {}}, "evaluation": {"split": "val"}}, max_steps=3)  # within an epoch
    cut(monkeypatch, "on_train_end", 3)
    assert run_ablation(recipe, grid, out).failures and (out / "a" / "seed-42" / "checkpoint-3").exists()
    assert run_ablation(recipe, grid, out).table["steps"].item() == 3
    run_ablation(recipe, grid, out.with_name("unbroken"))
    assert same_weights(out / "a" / "seed-42", out.with_name("unbroken") / "a" / "seed-42")


def test_an_evaluation_that_was_cut_is_made_anew_without_training(copied, inline):
    run = copied / "out" / "with-text" / "seed-3"
    before = (run / "model.safetensors").stat().st_mtime_ns
    (run / "evaluation" / "arguments.json").unlink()
    (run / "evaluation" / "evaluation.json").unlink()
    assert not run_again(copied).unfinished
    assert (run / "evaluation" / "evaluation.json").is_file()
    assert (run / "model.safetensors").stat().st_mtime_ns == before


def test_a_grid_with_another_evaluation_evaluates_anew(copied, inline):
    grid = {**GRID, "evaluation": {**GRID["evaluation"], "text_modes": ["flipped"]}}
    (copied / "grid.yaml").write_text(yaml.safe_dump(grid, sort_keys=False))
    assert {"dice_shuffled", "dice_flipped"} <= set(run_again(copied).table) and "dice_none" not in run_again(
        copied
    ).table


def test_a_folder_of_another_recipe_is_refused_with_what_differs(copied, inline):
    before = contents(copied / "out")
    with pytest.raises(ValueError, match=r"`learning_rate` is 0.01 there, 0.1 in the grid.*\n.*\n.*\n.*\nDelete these"):
        run_again(copied, overrides=["--learning_rate", "0.1"])
    assert contents(copied / "out") == before


def test_the_table_alone_is_that_of_the_runs_that_are_finished(copied, inline):
    shutil.rmtree(copied / "out" / "with-text" / "seed-3")
    result = run_again(copied, table_only=True)
    assert result.unfinished == ["with text, seed 3"] and list(result.table["seeds"]) == ["0 3", "0"]
    scores = pd.read_csv(copied / "out" / "per_image.csv")
    own = scores[(scores["seed"] == 0) & scores["text_mode"].isin(["correct", "no text branch"])]
    dice = own.groupby("run")["dice"].mean()
    assert result.table["difference"].iloc[1] == pytest.approx(dice["with text"] - dice["vision-only"])


def test_runs_on_different_images_are_not_compared(copied):
    path = copied / "out" / "with-text" / "seed-3" / "evaluation" / "evaluation.csv"
    rows = pd.read_csv(path, keep_default_na=False)
    rows[rows["id"] != rows["id"][0]].to_csv(path, index=False)
    with pytest.raises(ValueError, match="with text, seed 3: 1 images are not those of 'vision-only, seed 0'"):
        run_again(copied, table_only=True)


def test_no_table_is_written_of_nothing(files):
    with pytest.raises(ValueError, match="No run in .* is finished"):
        run_ablation(*files(), table_only=True)


# Processes


def test_a_run_that_fails_leaves_the_others(files, capsys):
    """In real processes."""
    runs = {"broken": {"vision_model": "/none"}, "sound": {}}
    recipe, grid, out = files({"runs": runs, "evaluation": {"split": "val"}}, num_train_epochs=1)
    assert main(["ablate", str(recipe), "--grid", str(grid), "--output_dir", str(out), "--seed", "7"]) == 1
    log = out / "broken" / "seed-7.log"
    assert f"Failed: broken, seed 7; see {log}" in capsys.readouterr().out
    assert "/none" in log.read_text() and "Traceback" in log.read_text()
    assert (out / "sound" / "seed-7" / "evaluation" / "arguments.json").is_file()
    assert "threads 1" in (out / "sound" / "seed-7.log").read_text()
    assert not (out / "ablation.md").exists()


def test_a_run_ends_with_the_command_that_started_it(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(120)
        (tmp_path / "waiting.py").write_text(
            "import socket, time\nfrom tevia_hf.experiments import ablation\n\n"
            "def finish(run, evaluation):\n"
            f"    held = socket.create_connection({server.getsockname()})\n    time.sleep(600)\n\n"
            "ablation.finish = finish\n"
            "if __name__ == '__main__':\n    from pathlib import Path\n    from tevia_hf.experiments.grid import Run\n"
            "    ablation.finish_in_process(Run('a', 0, Path('run').resolve(), {}), {})\n"
        )
        command = subprocess.Popen([sys.executable, "waiting.py"], cwd=tmp_path)
        connection, _ = server.accept()
        command.kill()
        command.wait()
        connection.settimeout(120)
        assert connection.recv(1) == b""  # closed by the run's end


def test_a_run_that_another_call_works_on_is_left_to_it(copied, inline):
    report = copied / "out" / "with-text" / "seed-0" / "evaluation"
    shutil.rmtree(report)
    with FileLock(copied / "out" / "with-text" / "seed-0.lock"):
        result = run_again(copied)
    assert not result.failures and result.unfinished == ["with text, seed 0"] and not report.exists()


def test_a_run_that_another_call_finished_meanwhile_is_not_made_anew(copied, monkeypatch):
    """Two concurrent calls: the second finds the results of the first."""
    for seed in (0, 3):
        shutil.move(copied / "out" / "with-text" / f"seed-{seed}", copied / f"kept-{seed}")
    processed = []

    def finish_both(run, evaluation):
        processed.append(str(run))
        for seed in (0, 3):
            shutil.move(copied / f"kept-{seed}", copied / "out" / "with-text" / f"seed-{seed}")
        return 0

    monkeypatch.setattr(ablation, "finish_in_process", finish_both)
    assert run_again(copied).table is not None and processed == ["with text, seed 0"]


def test_a_run_that_another_call_has_just_failed_at_is_not_made_again(copied, monkeypatch):
    def fail(run, evaluation):
        processed.append(str(run))
        run.log.write_text("Traceback\nValueError: broken\n")
        if len(processed) == 1:
            other.append(run_again(copied))  # which skips the run that is locked, and fails at the next
        return 1

    for seed in (0, 3):
        shutil.rmtree(copied / "out" / "with-text" / f"seed-{seed}")
    processed, other = [], []
    monkeypatch.setattr(ablation, "finish_in_process", fail)
    both = ["with text, seed 0", "with text, seed 3"]
    assert list(run_again(copied).failures) == both == processed and list(other[0].failures) == both[1:]
    assert (copied / "out" / "with-text" / "seed-3.failed").read_text() == "ValueError: broken"
    assert list(run_again(copied).failures) == both and processed[2:4] == both  # a later call tries again


def test_calls_that_start_together_share_the_folder(files, monkeypatch):
    claim, delays = ablation.claim_output_dir, [1.0, 0.5]
    plan = read_plan(*files({"runs": {"a": {}}, "evaluation": {"split": "val"}}))

    def slow(*args, **options):
        time.sleep(delays.pop())
        claim(*args, **options)

    monkeypatch.setattr(ablation, "claim_output_dir", slow)
    monkeypatch.setattr(ablation, "load_segmentation_dataset", lambda *args, **options: None)
    monkeypatch.setattr(ablation, "finish_in_process", lambda run, evaluation: 0)
    with ThreadPoolExecutor() as pool:
        assert list(pool.map(ablation.execute, [plan, plan])) == [{}, {}]


@pytest.mark.parametrize(("visible", "expected"), [(None, "0"), ("2,3", "2"), ("1", "1"), ("", "")])
def test_a_run_sees_one_gpu(visible, expected, monkeypatch):
    seen, name = [], "CUDA_VISIBLE_DEVICES"
    process = SimpleNamespace(start=lambda: seen.append(os.environ[name]), join=list, terminate=list, exitcode=0)
    context = SimpleNamespace(Process=lambda **options: process)
    monkeypatch.setattr(ablation.multiprocessing, "get_context", lambda kind: context)
    monkeypatch.delenv(name, raising=False) if visible is None else monkeypatch.setenv(name, visible)
    assert ablation.finish_in_process(None, {}) == 0
    assert seen == [expected] and os.environ.get(name) == visible


def test_a_launcher_of_one_training_on_several_processes_is_refused(files, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="without torchrun"):
        run_ablation(*files())


# Refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": [1]}, r"seed \(did you mean seeds\?\)"),
        ({"seeds": 3}, "`seeds` is 3: give a list"),
        ({"seeds": [1, 1]}, "give each seed once"),
        ({"seeds": [True]}, "give a list of whole numbers"),
        ({"baseline": "vision"}, r"`baseline` names a run that the grid lacks: vision \(did you mean vision-only\?\)"),
        ({"runs": {}}, "`runs` is a mapping"),
        ({"runs": {1: {}}, "baseline": None}, "put names that are numbers in quotes"),
        ({"runs": {"a": 1}, "baseline": None}, "The run 'a' is 1"),
        ({"runs": {"../": {}}, "baseline": None}, "has no letter or digit"),
        ({"runs": {"a b": {}, "A/b": {}}, "baseline": None}, "'a b' and 'A/b' would share the folder a-b"),
        ({"runs": {"a": {"against": "b"}}, "baseline": None}, "`against` of 'a' names no run of the grid: b"),
        ({"runs": {"a": {"against": "a"}}, "baseline": None}, "compared with itself"),
        ({"runs": {"a": {"seed": 1}}, "baseline": None}, "The run 'a' sets seed, which the grid does"),
        ({"runs": {"a": {"learning_rat": 1}}, "baseline": None}, r"The run 'a'.*did you mean learning_rate\?"),
        ({"runs": {"a": {"config": {"use_txt": 1}}}, "baseline": None}, r"did you mean use_text\?"),
        ({"runs": {"a": {"optim": "sgd"}}, "baseline": None}, "`optim` is sgd"),
        ({"evaluation": {"spilt": "val"}}, r"did you mean split\?"),
        ({"evaluation": {"text_modes": ["non"]}}, r"Unknown text conditions \['non'\]"),
        ({"evaluation": {"threshold": "half"}}, "`threshold` of `evaluation` is 'half': give a value such as 0.5"),
        ({"evaluation": {"split": "test"}}, "no examples of the split 'test'"),
    ],
)
def test_a_grid_that_cannot_be_used_is_refused_before_anything_is_trained(changes, message, files, inline):
    recipe, grid, out = files({**GRID, **changes})
    with pytest.raises(ValueError, match=message):
        run_ablation(recipe, grid, out)
    assert not out.exists()


def test_a_run_that_is_in_the_file_twice_is_refused(files, inline):
    recipe, grid, out = files()
    grid.write_text("runs:\n  a: {}\n  a: {flip_probability: 0}\n")
    with pytest.raises(ValueError, match="`a` appears twice"):
        run_ablation(recipe, grid, out)


# Plans


def test_a_run_is_compared_with_the_baseline_or_with_one_of_its_own(files):
    runs = {"a": {}, "b": {}, "c": {"against": "b"}, "d": {"against": None}}
    plan = read_plan(*files({"runs": runs, "baseline": "a"}))
    assert plan.against == {"a": None, "b": "a", "c": "b", "d": None}


def test_options_override_the_recipe_and_runs_override_both(files):
    grid = {"runs": {"a": {}, "b": {"learning_rate": 0.5, "config": {}}}}
    first, second = read_plan(
        *files(grid), overrides=["--learning_rate", "0.2", "--config", "{text_dropout: 0.1}"]
    ).runs
    assert (first.recipe["learning_rate"], second.recipe["learning_rate"]) == (0.2, 0.5)
    assert first.recipe["config"]["text_dropout"] == 0.1 and first.recipe["config"]["head_channels"] == 8
    assert second.recipe["config"] == {}  # as on the command line, {} takes the recipe's back


def test_the_data_of_the_evaluation_are_the_recipes_unless_it_names_a_set(files, recipe):
    plan = read_plan(*files({"runs": {"a": {}}}, text_table="texts.csv"))
    assert (plan.evaluation["data_dir"], plan.evaluation["text_table"]) == (recipe["data_dir"], "texts.csv")
    assert plan.evaluation["split"] == "test" and plan.evaluation["held_out"] is False
    plan = read_plan(*files({"runs": {"a": {}}, "evaluation": {"dataset": "synthetic"}}, text_table="texts.csv"))
    assert (plan.evaluation["data_dir"], plan.evaluation["text_table"]) == (None, None)


def test_the_grid_and_the_commands_of_the_page_can_be_used(files):
    page = PAGE.read_text(encoding="utf-8")
    (grid,) = re.findall(r"^```yaml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    plan = read_plan(*files(yaml.safe_load(grid)))
    assert plan.against["strong alignment"] == "text" and len(plan.runs) == 9
    for line in re.findall(r"(ablate .*?)\"?$", page, re.MULTILINE):
        if "--grid" in line:
            assert parse(line.split()).output_dir in ("outputs/ablation", "outputs/tiny-ablation")


def test_a_folder_of_other_files_is_left_alone(files, inline):
    recipe, grid, folder = files()
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="already holds files"):
        run_ablation(recipe, grid, folder)
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("option", ["overwrite", "resume", "enable_jit_checkpoint"])
def test_options_that_begin_or_end_runs_otherwise_are_refused(option, files, inline):
    recipe, grid, folder = files()
    with pytest.raises(ValueError, match="leave it out|Leave the option out"):
        run_ablation(recipe, grid, folder, [f"--{option}", "true"])


def test_by_default_an_ablation_is_next_to_the_recipes_own_run(files):
    recipe, grid, _ = files(output_dir="runs/text")
    assert read_plan(recipe, grid).output_dir == Path("runs/text-ablation")
