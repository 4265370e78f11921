"""Several evaluated runs in one table, for papers: Markdown, CSV, LaTeX, and a figure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from ..charts import save_forest_plot
from ..intervals import holm, paired_difference
from ..io.latex import booktabs, latex_text
from ..io.markdown import markdown_table, plain_text
from ..metric_table import METRICS, PRIMARY
from ..option_checks_tevia import check_choice, check_seed
from ..score_summaries import class_key
from .comparison import has_class
from .evaluated_runs import EvaluatedRun, common_classes, common_metrics, read_runs, reference_run, run_names
from .text_conditions import OWN

Format = Literal["markdown", "csv", "latex"]
IN_PAPERS = ("dice", "iou", "hd95")
FIGURES = (".pdf", ".png", ".svg")


@dataclass(frozen=True)
class ResultsTable:
    """The scores of several runs on the same images.

    Args:
        frame: one row per run, or per class and run: `class`, `run`, each metric with its 95 % interval as `_low` and
            `_high`; `p` and `p_holm` against another run; `images`, `groups`. Missing values are NaN.
        metrics: metric -> description, see `Metric.about`.
        notes: what the values are, a sentence each.
        ranked: for each row, whether its scores may be the best of a column.
    """

    frame: pd.DataFrame
    metrics: Mapping[str, Mapping[str, Any]]
    notes: Sequence[str]
    ranked: pd.Series

    def text(self, format: Format = "markdown") -> str:
        """The table in Markdown or LaTeX (booktabs), with the best score of each column in bold, or as CSV."""
        check_choice("format", format, get_args(Format))
        if format == "csv":
            return self.frame.to_csv(index=False).rstrip("\n")
        header = self.header()
        names = sum(name in ("class", "run") for name in header)
        if format == "latex":
            rows = [[*map(latex_text, row[:names]), *row[names:]] for row in self.cells(bold=r"\textbf{{{}}}".format)]
            return booktabs(list(map(latex_text, header)), rows, names, latex_text(" ".join(self.notes)))
        rows = [[*map(plain_text, row[:names]), *row[names:]] for row in self.cells(bold="**{}**".format)]
        return f"{markdown_table(header, rows)}\n\n{plain_text(' '.join(self.notes))}"

    def header(self) -> list[str]:
        units = {key: about["unit"] for key, about in self.metrics.items()}
        scores = [f"{key} ({unit})" if unit else key for key, unit in units.items()]
        tests = ["p", "p, Holm"] if "p" in self.frame else []
        if "class" in self.frame:
            return ["class", "run", *scores, *tests, "images"]
        return ["run", *scores, *tests]

    def cells(self, bold: Any) -> Iterator[list[str]]:
        """The rows as text, with the best score of each column, or of each class in it, in bold."""
        for row, is_ranked in zip(self.frame.to_dict("records"), self.ranked, strict=True):
            names = [row[name] for name in ("class", "run") if name in row]
            scores = [self.score_cell(row, key, bold if is_ranked else str) for key in self.metrics]
            tests = [f"{row[name]:.2g}" if pd.notna(row[name]) else "-" for name in ("p", "p_holm") if name in row]
            yield [*names, *scores, *tests, *([str(row["images"])] if "class" in row else [])]

    def score_cell(self, row: Mapping[str, Any], key: str, bold: Any) -> str:
        """A score and its interval, such as "0.812 [0.790, 0.834]"; equal ones to three decimals are equally good."""
        if pd.isna(row[key]):
            return "-"
        rivals = self.frame[self.frame["class"] == row["class"]] if "class" in row else self.frame
        ranked = rivals.loc[self.ranked[rivals.index], key]
        best = ranked.max() if self.metrics[key]["higher_is_better"] else ranked.min()
        value = f"{row[key]:.3f}"
        value = bold(value) if len(rivals) > 1 and value == f"{best:.3f}" else value
        low, high = row[f"{key}_low"], row[f"{key}_high"]
        return value if pd.isna(low) else f"{value} [{low:.3f}, {high:.3f}]"

    def save_figure(self, path: str | Path) -> None:
        """Writes the primary score of each run with its interval as PDF, PNG or SVG, by the ending of the name."""
        check_figure(path)
        values = {}
        for row in self.frame.dropna(subset=PRIMARY).to_dict("records"):
            interval = None if pd.isna(row[f"{PRIMARY}_low"]) else (row[f"{PRIMARY}_low"], row[f"{PRIMARY}_high"])
            values[": ".join(row[name] for name in ("class", "run") if name in row)] = row[PRIMARY], interval
        save_forest_plot(values, f"{METRICS[PRIMARY].label} (95 % interval)", path)


def results_table(
    runs: Sequence[str | Path],
    names: Sequence[str] | None = None,
    *,
    metrics: Sequence[str] = IN_PAPERS,
    against: str | Path | None = None,
    text_mode: str = OWN,
    by_class: bool = False,
    seed: int = 0,
) -> ResultsTable:
    """The scores of several runs on the same images, each with its 95 % interval.

    Args:
        runs: output folders of `tevia evaluate`.
        names: of the runs, in their order; by default those of the folders, with as many parents as tell them apart.
        metrics: keys of `METRICS`; the primary one is always in the table.
        against: folder or name of one of the runs: the others get the p-value of the primary score, paired by image,
            and the same corrected by Holm's method for the number of other runs.
        text_mode: the text condition; not used for a vision-only model, which has only one.
        by_class: one row per class and run, over the images whose reference holds the class.
        seed: of the permutations.

    Raises `ValueError` if a run cannot be read, lacks a metric or the text condition, or has other images, reference
    masks or classes.
    """
    check_seed("seed", seed)
    evaluated = read_runs(runs, run_names(runs, names), text_mode)
    reference = reference_run(evaluated, runs, against)
    keys = list(dict.fromkeys((PRIMARY, *metrics) if PRIMARY not in metrics else metrics))
    about = common_metrics(evaluated, keys)
    classes = common_classes(evaluated)
    if by_class and not classes:
        raise ValueError(f"{evaluated[0].name} has one class: leave out the scores by class (`by_class`, --by-class).")
    labels = classes if by_class else [None]
    frame = pd.DataFrame([row for label in labels for row in rows_of(evaluated, keys, label, reference, seed)])
    notes = [*notes_on(evaluated, about, text_mode, reference, by_class), *run_notes(evaluated, labels)]
    ranked = frame.pop("ranked")
    return ResultsTable(frame, about, notes, ranked)


def rows_of(
    runs: Sequence[EvaluatedRun], metrics: Sequence[str], label: str | None, reference: EvaluatedRun | None, seed: int
) -> list[dict[str, Any]]:
    """The rows of all runs, of one class or of all lesions."""
    column = PRIMARY if label is None else class_key(PRIMARY, label)
    used = has_class(runs[0].rows, column)
    size = {"images": int(used.sum()), "groups": runs[0].rows.loc[used, "group"].nunique()}
    rows = []
    for run in runs:
        row: dict[str, Any] = {} if label is None else {"class": label}
        row |= {"run": run.name, "ranked": not (run.denies or run.finds_no_lesion(label))}
        for metric in metrics:
            value, interval = run.score(metric, label)
            low, high = interval or (None, None)
            row |= {metric: value, f"{metric}_low": low, f"{metric}_high": high}
        rows.append(row | size)
    if reference is not None:
        others = [index for index, run in enumerate(runs) if is_tested(run, reference)]
        p_values = [p_value(runs[index], reference, column, used, seed) for index in others] if used.any() else []
        corrected = dict(zip(others, zip(p_values, holm(p_values), strict=True), strict=False))
        for index, row in enumerate(rows):
            row["p"], row["p_holm"] = corrected.get(index, (None, None))
    return rows


def is_tested(run: EvaluatedRun, reference: EvaluatedRun) -> bool:
    return run is not reference and not run.denies and not reference.denies


def p_value(run: EvaluatedRun, reference: EvaluatedRun, column: str, used: pd.Series, seed: int) -> float:
    """The p-value of the difference between two runs in a score, paired by image."""
    scores, others = (list(one.rows.loc[used, column]) for one in (run, reference))
    return paired_difference(scores, others, list(run.rows.loc[used, "group"].astype(str)), seed).p_value


def notes_on(
    runs: Sequence[EvaluatedRun],
    metrics: Mapping[str, Mapping[str, Any]],
    text_mode: str,
    reference: EvaluatedRun | None,
    by_class: bool,
) -> Iterator[str]:
    """What the values of a table are, one sentence each."""
    rows = runs[0].rows
    yield (
        "Scores with bootstrap 95 % intervals, resampled by group (patient); "
        f"{len(rows)} images of {rows['group'].nunique()} groups, text condition: {text_mode}."
    )
    if by_class:
        yield "Scores of a class are over the images whose reference holds it."
    lower = [key for key, about in metrics.items() if not about["higher_is_better"]]
    yield from [f"Lower is better: {', '.join(lower)}."] if lower else []
    if reference is not None and (others := sum(is_tested(run, reference) for run in runs)):
        yield (
            f"p: two-sided permutation test of {PRIMARY} against {reference.name}, paired by image, with signs flipped "
            f"by group; p, Holm: corrected for {others} comparison{'s' if others != 1 else ''}"
            f"{' in each class' if by_class else ''}."
        )


def run_notes(runs: Sequence[EvaluatedRun], labels: Sequence[str | None]) -> Iterator[str]:
    """Which runs are not ranked, and why, one sentence each."""
    yield from (
        f"{run.name}: its texts deny the lesion, so that its scores are meaningless." for run in runs if run.denies
    )
    for label in labels:
        for run in runs:
            if not run.denies and run.finds_no_lesion(label):
                yield f"{run.name} finds no lesion{f' of the class {label}' if label else ''} (recall 0)."


def check_figure(path: str | Path) -> None:
    """Raises `ValueError` for a figure's name with another ending than those of `FIGURES`."""
    if Path(path).suffix.lower() not in FIGURES:
        raise ValueError(f"{path}: name the figure with the ending {', '.join(FIGURES)}.")
