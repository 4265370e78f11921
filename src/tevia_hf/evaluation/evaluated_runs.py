"""Evaluated runs, read from the folders of their reports: their scores, and what they have in common."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from ..data.faults import raise_problems
from ..metric_table import METRICS
from ..option_checks_tevia import check_choice
from ..score_summaries import ClassScores, failure_text
from .comparison import SAME_IMAGES, image_problems, read_rows


class EvaluatedRun(NamedTuple):
    """A run: its name, its `evaluation.json`, and the rows of one text condition of its `evaluation.csv`, by id."""

    name: str
    report: Mapping[str, Any]
    rows: pd.DataFrame

    @property
    def text_mode(self) -> str:
        return self.rows["text_mode"].iloc[0]

    @property
    def denies(self) -> bool:
        """Whether its texts deny the lesions, so that its scores are meaningless."""
        return self.text_mode in self.report.get("denying_conditions", [])

    def score(self, metric: str, label: str | None) -> tuple[float | None, Any]:
        """The score of all lesions, or of one class, and its interval; None if unknown or a ratio of 0 to 0."""
        summary = self.summary(label)
        if label is not None:
            return summary.scores.get(metric), summary.intervals.get(metric)
        if metric in summary.counts and summary.scores[metric] is None:
            return None, None
        return self.report["scores"][self.text_mode].get(metric), self.report["intervals"][self.text_mode].get(metric)

    def summary(self, label: str | None) -> ClassScores:
        """The scores of the images that hold a lesion, or one class."""
        if label is None:
            return ClassScores(**self.report["foreground"][self.text_mode])
        return ClassScores(**self.report["classes"][self.text_mode][label])

    def finds_no_lesion(self, label: str | None) -> bool:
        """Whether no predicted pixel lies on a lesion, or on one of this class."""
        return bool(failure_text(self.summary(label)))


def read_runs(runs: Sequence[str | Path], names: Sequence[str], text_mode: str) -> list[EvaluatedRun]:
    """The runs. Raises `ValueError` if one cannot be read, or if their images or reference masks differ."""
    evaluated = []
    for folder, name in zip(map(Path, runs), names, strict=True):
        try:
            report = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(f"{folder}: no readable evaluation.json. Give the folder of `tevia evaluate`.") from error
        evaluated.append(EvaluatedRun(name, report, read_rows(folder / "evaluation.csv", text_mode)))
    first = evaluated[0]
    problems = [
        problem for run in evaluated[1:] for problem in image_problems(first.rows, run.rows, first.name, run.name)
    ]
    raise_problems("The runs", problems, SAME_IMAGES)
    return [run._replace(rows=run.rows.loc[first.rows.index]) for run in evaluated]


def run_names(runs: Sequence[str | Path], names: Sequence[str] | None) -> list[str]:
    """The given names, or those of the folders, preceded by as many parents as tell equal ones apart."""
    paths = [Path(run).resolve() for run in runs]
    if not paths:
        raise ValueError("No runs were given: give at least one folder of `tevia evaluate`.")
    if repeated := sorted({str(path) for path in paths if paths.count(path) > 1}):
        raise ValueError(f"{', '.join(repeated)}: given twice. Give each run once.")
    if names is not None:
        if len(names) != len(paths) or len(set(names)) < len(names) or not all(name.strip() for name in names):
            raise ValueError(f"{len(paths)} runs and the names {list(names)}: give each run its own name.")
        return list(names)
    lengths = [1] * len(paths)
    while True:
        found = ["/".join(path.parts[-length:]) for path, length in zip(paths, lengths, strict=True)]
        if len(set(found)) == len(found):
            return found
        lengths = [length + (found.count(name) > 1) for name, length in zip(found, lengths, strict=True)]


def reference_run(
    evaluated: Sequence[EvaluatedRun], runs: Sequence[str | Path], against: str | Path | None
) -> EvaluatedRun | None:
    """The run to compare with, by name or folder."""
    if against is None:
        return None
    by_name = {run.name: run for run in evaluated}
    by_folder = {Path(folder).resolve(): run for folder, run in zip(runs, evaluated, strict=True)}
    reference = by_name.get(str(against)) or by_folder.get(Path(against).resolve())
    if reference is None:
        raise ValueError(f"'{against}' is none of the runs: give one of {', '.join(by_name)}.")
    return reference


def common_metrics(runs: Sequence[EvaluatedRun], keys: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """The description of each metric. Raises `ValueError` if a run lacks it or gives it in another unit."""
    descriptions = []
    for run in runs:
        about = {key: metric.about(run.report["settings"]["hd95_unit"]) for key, metric in METRICS.items()}
        about |= run.report.get("metrics", {})
        measured = [key for key in next(iter(run.report["scores"].values())) if key in about]
        for key in keys:
            check_choice(f"A metric of the table (run {run.name})", key, measured)
        descriptions.append({key: about[key] for key in keys})
    for key in keys:
        if len(units := {about[key]["unit"] for about in descriptions}) > 1:
            raise ValueError(f"The runs give {key} in {' and '.join(sorted(units))}: evaluate all with one pixel size.")
    return descriptions[0]


def common_classes(runs: Sequence[EvaluatedRun]) -> list[str | None]:
    """The names of the classes; empty for a single one. Raises `ValueError` if the runs have different ones."""
    first, *others = [list(next(iter((run.report.get("classes") or {"": {}}).values()))) for run in runs]
    for run, classes in zip(runs[1:], others, strict=True):
        if classes != first:
            counts = [f"the classes {names}" if names else "one class" for names in (classes, first)]
            raise ValueError(f"{run.name} has {counts[0]}, {runs[0].name} has {counts[1]}: compare equal ones.")
    return [*first]
