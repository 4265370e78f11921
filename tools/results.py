"""Writes docs/results.md, and the scores in the README and a model card, from the rows in `benchmarks/results/`.

    python tools/results.py

Nothing is trained or measured: `tools/result_rows.py` saves the rows.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from tevia_hf.evaluation.report_tables import score_table
from tevia_hf.evaluation.text_conditions import NO_TEXT_BRANCH, OWN
from tevia_hf.io.markdown import markdown_table

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "benchmarks" / "results"
TEMPLATE = Path(__file__).parent / "results_template.md"
RECOMMENDED, BASELINE, TEXT = "qata", "vision-only", "text"  # the experiment of the headline, and its two runs
FULL = "qata_full"  # the full recipe, with text
RECIPES = {RECOMMENDED: "shortened recipe", FULL: "full recipe", "qata_plain": "earlier recipe"}  # of runs called alike
OTHERS = ("paraphrased", "none", "shuffled")
START, END = "results: written by tools/results.py", "end of results"
DATA_SETS = {"qata": "QaTa-COV19", "monuseg": "MoNuSeg", "busi": "BUSI", "lgg": "LGG"}  # experiment -> name


def page() -> str:
    """The content of docs/results.md."""
    demo, reference = (read_json(ROWS / f"{name}.json") for name in ("demo", "reference"))
    differences = [(name, f"{value:.1e}") for name, value in reference["largest_difference"].items()]
    return TEMPLATE.read_text(encoding="utf-8").format(
        **{name: runs_table(name) for name in ("qata", "qata_full", "qata_plain", "deep_supervision", "wordings")},
        data_sets=data_sets_table(),
        kinds=kinds_table(),
        falls=falls(),
        rows=list_of_rows(),
        demo=score_table(demo["scores"]),
        demo_seconds=round(demo["train_seconds"]),
        reference=markdown_table(["quantity", "largest difference"], differences),
        train_images=rows_of(RECOMMENDED)[0]["train_images"],
        images=rows_of(RECOMMENDED)[0]["images"],
        groups=rows_of(RECOMMENDED)[0]["groups"],
        train_images_96=rows_of("wordings")[0]["train_images"],
        images_96=rows_of("wordings")[0]["images"],
    )


def rows_of(experiment: str, run: str | None = None) -> list[dict[str, Any]]:
    """The rows of an experiment, or of one of its runs, one per seed."""
    paths = sorted((ROWS / experiment).glob("*-seed-*.json"))
    return [row for row in map(read_json, paths) if run in (None, row["run"])]


def comparison(experiment: str, run: str) -> dict[str, Any] | None:
    """The difference between a run and its reference run, with its interval over seeds and patients."""
    path = ROWS / experiment / "comparisons.json"
    rows = read_json(path) if path.is_file() else []
    return next((row for row in rows if row["run"] == run), None)


def score(rows: Iterable[dict[str, Any]], condition: str, metric: str = "dice") -> float | None:
    """Mean over the seeds, the same for all conditions of a vision-only model; `None` if it was not measured."""
    values = [row["scores"].get(condition, row["scores"].get(NO_TEXT_BRANCH, {})).get(metric) for row in rows]
    return None if None in values else float(np.mean(values))


def runs_table(experiment: str) -> str:
    """A table with a line per run of an experiment, means over its seeds."""
    rows = rows_of(experiment)
    header = ["run", "dice", "dice_pooled", *OTHERS, "difference [95 %]", "to", "seeds"]
    lines = []
    for run in dict.fromkeys(row["run"] for row in rows):
        run_rows = rows_of(experiment, run)
        is_vision_only = NO_TEXT_BRANCH in run_rows[0]["scores"]
        others = ["-" if is_vision_only else number(score(run_rows, name)) for name in OTHERS]
        against = (comparison(experiment, run) or {"against": "-"})["against"]
        own = [number(score(run_rows, OWN, metric)) for metric in ("dice", "dice_pooled")]
        lines.append([run_name(experiment, run), *own, *others, difference(experiment, run), against, len(run_rows)])
    return markdown_table(header, lines)


def run_name(experiment: str, run: str) -> str:
    """The name of a run in the tables, with its recipe if other experiments have a run of the same name and data."""
    return f"{run}, {RECIPES[experiment]}" if experiment in RECIPES else run


def data_sets_table() -> str:
    """A table with a line per data set: text-guided model and vision-only baseline, Dice per image and pooled."""
    header = ["data set", "images: training / evaluation", "patients: evaluation", "baseline: per image / pooled"]
    header += ["text: per image / pooled", "gain [95 %]", *OTHERS, "seeds: text / baseline"]
    lines = []
    for experiment, name in DATA_SETS.items():
        text, baseline = rows_of(experiment, TEXT), rows_of(experiment, BASELINE)
        if not (text and baseline):
            continue
        mark = " †" if text[0]["texts_from_masks"] else ""
        both = [
            " / ".join(number(score(rows, OWN, metric)) for metric in ("dice", "dice_pooled"))
            for rows in (baseline, text)
        ]
        sizes = [f"{text[0]['train_images']} / {text[0]['images']}", str(text[0]["groups"])]
        others = [number(score(text, condition)) for condition in OTHERS]
        seeds = f"{len(text)} / {len(baseline)}"
        lines.append([name + mark, *sizes, *both, difference(experiment, TEXT), *others, seeds])
    return markdown_table(header, lines)


def kinds_table() -> str:
    """Dice with each kind of wording minus that with the images' own texts, of the recommended recipe."""
    lines = []
    for row in rows_of(FULL):
        for kind, found in row["wordings"].items():
            change = points(found["difference"], *(found["interval"] or (None, None)))
            lines.append([kind, row["seed"], found["images"], change])
    return markdown_table(["paraphrases of the evaluation", "seed", "images", "points of Dice [95 %]"], lines)


def falls() -> str:
    """Validation Dice after each epoch of the recommended recipe, and the largest drop below the best so far."""
    lines = []
    runs = [(experiment, row) for experiment in (RECOMMENDED, FULL) for row in rows_of(experiment)]
    for experiment, row in runs:
        values = row["validation_dice"]
        epochs = " ".join(f"{value:.3f}" for value in values)
        name = run_name(experiment, row["run"])
        lines.append([name, len(values), epochs, f"{100 * largest_fall(values):.1f}"])
    return markdown_table(["run", "epochs", "validation Dice after each epoch", "largest fall, points"], lines)


def largest_fall(values: list[float]) -> float:
    """The largest difference between the running maximum and a value."""
    return float(np.max(np.maximum.accumulate(values) - values, initial=0.0))


def list_of_rows() -> str:
    """The command and revision of each experiment, and the cost of its runs."""
    lines = [f"- {path.stem}: `{read_json(path)['command']}`" for path in sorted(ROWS.glob("*.json"))]
    for folder in sorted(path for path in ROWS.iterdir() if path.is_dir()):
        first, *_ = rows = rows_of(folder.name)
        lines.append(f"- {folder.name} (revision {first['revision']}): `{first['command']}`")
        lines += [f"  - {row['run']}, seed {row['seed']}: {cost(row)}" for row in rows]
    return "\n".join(lines)


def cost(row: dict[str, Any]) -> str:
    return f"{row['steps']} steps in {row['minutes']:.0f} minutes ({row['machine']})"


def headline() -> str:
    """The README's table: the gain of text, on images used neither for training nor for selection."""
    text, baseline = rows_of(RECOMMENDED, TEXT), rows_of(RECOMMENDED, BASELINE)
    named = {
        "none: vision-only baseline": (baseline, OWN),
        "each image's own text": (text, OWN),
        "its own text, paraphrased": (text, "paraphrased"),
        "no text": (text, "none"),
        "another image's text": (text, "shuffled"),
    }
    lines = [
        [name, *(number(score(rows, condition, metric)) for metric in ("dice", "dice_pooled"))]
        for name, (rows, condition) in named.items()
    ]
    table = markdown_table(["text given to the model", "Dice per image", "Dice pooled"], lines)
    gain = f"Gain of the text over the baseline: {difference(RECOMMENDED, TEXT)} points of Dice per image"
    size = f"({text[0]['images']} images, {text[0]['groups']} patients)"
    whole = [number(score(rows_of(FULL), OWN, metric)) for metric in ("dice", "dice_pooled")]
    in_full = "The full recipe (without a baseline run), on the same images: "
    in_full += f"{' / '.join(whole)} with each image's own text"
    in_full += f", {number(score(rows_of(FULL), 'paraphrased'))} paraphrased"
    return "\n".join([table, "", f"{gain} {size}.", f"{in_full} (Dice per image / pooled). {cost(rows_of(FULL)[0])}."])


def card_limit() -> str:
    """The limit on other texts in the recipe's card, as an entry of its YAML list."""
    text = rows_of(FULL)
    own = score(text, OWN)
    costs = [f"{100 * (score(text, condition) - own):+.1f}" for condition in OTHERS]  # type: ignore[operator]  # measured
    return (
        "  - >-\n"
        f"    Trained with this recipe, Dice per image was {number(own)} on {text[0]['images']} images used neither\n"
        f"    for training nor for selection. Change in points: paraphrased texts {costs[0]}, no text {costs[1]},\n"
        f"    another image's text {costs[2]}. Training: {cost(text[0])}."
    )


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def difference(experiment: str, run: str) -> str:
    row = comparison(experiment, run)
    return points(row["difference"], row["low"], row["high"]) if row else "-"


def points(value: float, low: float | None = None, high: float | None = None) -> str:
    """A difference of Dice in points, with its interval."""
    interval = f" [{100 * low:+.1f}, {100 * high:+.1f}]" if low is not None and high is not None else ""
    return f"{100 * value:+.1f}{interval}"


def number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def between_marks(text: str, replacement: str) -> str:
    """The text with the part between the lines that contain `START` and `END` replaced."""
    lines = text.splitlines()
    first, last = (next(index for index, line in enumerate(lines) if mark in line) for mark in (START, END))
    return "\n".join([*lines[: first + 1], replacement, *lines[last:]]) + "\n"


def content(name: str) -> str:
    """The new content of one of `PAGES`."""
    text = PAGES[name]()
    return text if name == "docs/results.md" else between_marks((ROOT / name).read_text(encoding="utf-8"), text)


# Files with scores from the rows: the first is generated as a whole, in the others the part between two marks.
PAGES = {"docs/results.md": page, "README.md": headline, "hub_configs/tevia-mobile-qata/card.yaml": card_limit}


def main() -> None:
    for name in PAGES:
        (ROOT / name).write_text(content(name), encoding="utf-8")


if __name__ == "__main__":
    main()
