"""The table of an ablation: scores over seeds, paired differences with intervals, and commands to repeat a row."""

import io
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..charts import difference_chart
from ..data.faults import raise_problems
from ..evaluation.text_conditions import NO_TEXT_BRANCH, OWN
from ..intervals import paired_difference_of_seeds
from ..io.markdown import markdown_table
from ..io.output_dir import write_whole
from ..metric_table import METRICS, PRIMARY, primary_name
from ..score_summaries import class_key
from .grid import Plan, Run

TRAINED = "ablation.json"  # in the folder of a trained run
EVALUATED = "evaluation/arguments.json"  # in the folder of an evaluated run, with the arguments of the evaluation
COLUMNS = ["run", "seed", "id", "group", "text_mode", *dict.fromkeys((PRIMARY, "dice", "iou"))]


def read_scores(runs: Sequence[Run]) -> pd.DataFrame:
    """One row per image, text condition, seed and run, with `COLUMNS`, in the order of runs and images.

    Raises `ValueError` if two runs were evaluated on different images.
    """
    tables = {}
    for run in runs:
        path = run.folder / "evaluation" / "evaluation.csv"
        table = pd.read_csv(path, dtype={"id": str, "group": str}, keep_default_na=False)
        tables[str(run)] = table.assign(run=run.name, seed=run.seed)
    columns = ["id", "group", "true_pixels"]
    images = {name: set(table[columns].itertuples(index=False, name=None)) for name, table in tables.items()}
    first, *_ = images
    problems = [
        f"{name}: {len(run_images ^ images[first])} images are not those of '{first}', or have other masks"
        for name, run_images in images.items()
        if run_images != images[first]
    ]
    raise_problems(
        "The runs were evaluated on different images",
        problems,
        "Give them the same `max_train_samples`, `max_eval_samples` and data, or leave `held_out` out.",
    )
    return pd.concat([table[COLUMNS] for table in tables.values()], ignore_index=True)


def ablation_table(runs: Sequence[Run], scores: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """One row per run, without those that have no finished seed.

    Columns: `run`; `dice` and `dice_pooled` with the images' own texts, means over the seeds, and `_spread`, the
    standard deviation between seeds; `dice/benign` and so on for each of several classes; `dice_shuffled`, `dice_none`
    and so on for the other text conditions; `against`, `difference`, `low`, `high`: Dice against the run that it is
    compared with, over their common seeds, and the 95 % interval over seeds and groups; `images`, `groups`, `seeds`;
    `steps` and `minutes` of training, means over the seeds; `machine`, `command`.
    """
    rows = []
    for name, other in plan.against.items():
        seeds = [run for run in runs if run.name == name]
        if seeds:
            compared = comparison(scores, name, other) if other else {}
            rows.append(scores_of(seeds) | compared | size_of(scores, name) | facts_of(seeds, plan.evaluation))
    table = pd.DataFrame(rows)
    last = [name for name in ("against", "difference", "low", "high") if name in table]
    last += ["images", "groups", "seeds", "steps", "minutes", "machine", "command"]
    return table[[name for name in table if name not in last] + last]


def scores_of(runs: Sequence[Run]) -> dict[str, Any]:
    """The scores of one run over its seeds, without conditions that deny the lesions, whose Dice is meaningless."""
    files = [read_json(run.folder / "evaluation" / "evaluation.json") for run in runs]
    reports, denying = [file["scores"] for file in files], files[0].get("denying_conditions", [])
    row: dict[str, Any] = {"run": runs[0].name}
    own = own_mode(reports[0])
    for key in (key for key in (PRIMARY, f"{PRIMARY}_pooled") if key in METRICS):
        values = [report[own][key] for report in reports]
        row |= {key: np.mean(values), f"{key}_spread": np.std(values, ddof=1) if len(values) > 1 else None}
    for name, scores in files[0].get("classes", {}).get(own, {}).items():
        if scores["scores"][PRIMARY] is not None:  # all runs are evaluated on the same images
            values = [file["classes"][own][name]["scores"][PRIMARY] for file in files]
            row[class_key(PRIMARY, name)] = np.mean(values)
    others = [mode for mode in reports[0] if mode != own and mode not in denying]
    return row | {f"{PRIMARY}_{mode}": np.mean([report[mode][PRIMARY] for report in reports]) for mode in others}


def own_mode(modes: Any) -> str:
    """The text condition with the images' own texts, or that of a model without a text branch."""
    return OWN if OWN in modes else NO_TEXT_BRANCH


def comparison(scores: pd.DataFrame, name: str, other: str) -> dict[str, Any]:
    """Difference from another run and its interval, over their common seeds; only `against` if there are none."""
    ours, theirs = (primary_by_seed(scores[scores["run"] == run]) for run in (name, other))
    seeds = sorted(set(ours.index) & set(theirs.index))
    if not seeds:
        return {"against": other}
    paired = paired_difference_of_seeds(
        ours.loc[seeds], theirs.loc[seeds, ours.columns], groups_of(scores, ours.columns)
    )
    low, high = paired.interval or (None, None)
    return {"against": other, "difference": paired.difference, "low": low, "high": high}


def primary_by_seed(scores: pd.DataFrame) -> pd.DataFrame:
    """(seeds, images) primary scores with the images' own texts."""
    if scores.empty:
        return pd.DataFrame()
    own = scores[scores["text_mode"] == own_mode(set(scores["text_mode"]))]
    return own.pivot(index="seed", columns="id", values=PRIMARY)


def groups_of(scores: pd.DataFrame, images: Sequence[str]) -> list[str]:
    """The group of each image; a separate one if it is unknown."""
    groups = scores.drop_duplicates("id").set_index("id")["group"]
    return [groups[image] or f"\n{image}" for image in images]


def size_of(scores: pd.DataFrame, name: str) -> dict[str, Any]:
    rows = scores[scores["run"] == name]
    images, seeds = rows["id"].unique(), map(str, rows["seed"].unique())
    return {"images": len(images), "groups": len(set(groups_of(rows, images))), "seeds": " ".join(seeds)}


def facts_of(runs: Sequence[Run], evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Steps, minutes and machine of a row's trainings, and the command that repeats it."""
    facts = [read_json(run.folder / TRAINED) for run in runs]
    machines = dict.fromkeys(f"{fact['machine']}, threads: {fact['threads']}" for fact in facts)
    return {
        "steps": round(float(np.mean([fact["steps"] for fact in facts]))),
        "minutes": float(np.mean([fact["minutes"] for fact in facts])),
        "machine": "; ".join(machines),
        "command": commands(runs, facts[0]["threads"], evaluation),
    }


def commands(runs: Sequence[Run], threads: int, evaluation: Mapping[str, Any]) -> str:
    """The shell command that trains and evaluates all seeds of a run again, in other folders."""
    given = {name: value for name, value in evaluation.items() if value is not None and value is not False}
    if "text_modes" in given:
        given["text_modes"] = given["text_modes"] or [OWN]
    options = []
    for name, value in given.items():
        value = ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
        options.append(f"--{name.replace('_', '-')}" + ("" if value == "True" else f"={shlex.quote(value)}"))
    folder, again = runs[0].folder.parent, f"again/{runs[0].folder.parent.name}/seed-$seed"
    seeds = " ".join(str(run.seed) for run in runs)
    train = f"tevia train {shlex.quote(str(folder))}/seed-$seed.yaml --output-dir {again}"
    evaluate = f"tevia evaluate {again} {' '.join(options)} --output-dir {again}/evaluation"
    return f"for seed in {seeds}; do OMP_NUM_THREADS={threads} {train} && {evaluate}; done"


def ablation_text(table: pd.DataFrame) -> str:
    """The table as Markdown, followed by the command that repeats each row."""
    scores = [name for name in table if name.startswith(PRIMARY) and not name.endswith("_spread")]
    rows, repeats = [], []
    for row in table.to_dict("records"):
        cells = {"run": row["run"]}
        for name in scores:
            spread = formatted(" ± {:.3f}", row.get(f"{name}_spread"), missing="")
            cells[name] = formatted("{:.3f}", row[name]) + spread
        if "difference" in row:
            cells |= {"against": formatted("{}", row["against"])}
            cells |= {"difference": formatted("{:+.3f}", row["difference"])}
            cells["95 %"] = formatted("[{:+.3f}, {:+.3f}]", row["low"], row["high"])
        cells |= {name: row[name] for name in ("images", "groups", "seeds", "steps")}
        rows.append(cells | {"minutes": f"{row['minutes']:.1f}"})
        repeats.append([row["run"], row["machine"], f"`{row['command']}`"])
    return f"""{markdown_table(list(rows[0]), (row.values() for row in rows))}

{primary_name()}, mean over images and seeds, `_pooled` over all pixels; ± is the standard deviation between seeds.
`difference` is of the {primary_name()} with an image's own text, paired by seed and image; its interval resamples seeds
and groups (patients) both, or with one common seed groups alone. Minutes are of one training.

{markdown_table(["run", "machine", "command"], repeats)}"""


def formatted(template: str, *values: Any, missing: str = "-") -> str:
    """The formatted values, or `missing` if one of them is."""
    return missing if any(value is None or pd.isna(value) for value in values) else template.format(*values)


def save_table(table: pd.DataFrame, scores: pd.DataFrame, folder: Path) -> None:
    """Writes `per_image.csv`, `ablation.csv`, `ablation.md` and, if runs are compared, `ablation.png`."""
    write_whole(folder / "per_image.csv", scores.to_csv(index=False))
    write_whole(folder / "ablation.csv", table.to_csv(index=False))
    write_whole(folder / "ablation.md", ablation_text(table) + "\n")
    values = {}
    for row in table.dropna(subset="difference").to_dict("records") if "difference" in table else []:
        interval = None if pd.isna(row["low"]) else (row["low"], row["high"])
        values[f"{row['run']} - {row['against']}"] = (row["difference"], interval)
    if values:
        image, label = io.BytesIO(), f"{primary_name()}, mean over images and seeds (95 % interval)"
        difference_chart(values, f"Difference of {primary_name()}", label).save(image, "PNG")
        write_whole(folder / "ablation.png", image.getvalue())


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
