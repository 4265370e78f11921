"""Paired comparison of two evaluated runs."""

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from ..data.faults import raise_problems
from ..intervals import PairedDifference, paired_difference
from ..io.markdown import markdown_table
from ..metric_table import METRICS, PRIMARY
from ..option_checks_tevia import check_seed
from ..score_summaries import class_key

SAME_IMAGES = "Evaluate them on the same images and reference masks, with the same classes."


def compare_runs(
    a: str | Path, b: str | Path, text_mode: str = "correct", other_text_mode: str = "correct", seed: int = 0
) -> pd.DataFrame:
    """One row per score: means of both runs, difference a - b, 95 % interval, p-value, numbers of images and groups.

    With several classes there are also rows of each, such as "dice/benign", over the images that show the class.

    Args:
        a: per-image table of a run, the file `evaluation.csv` of its report.
        b: that of the other run.
        text_mode: the text condition in `a`; not used for a vision-only model, which has only one.
        other_text_mode: the text condition in `b`.
        seed: seed of bootstrap and permutations.

    Differences are paired by image and resampled by group. They are NaN for a score that some images lack;
    `attrs["notes"]` of the table names it, and a run that finds no lesion. Raises `ValueError` if a table cannot be
    read or lacks the text condition, or the two hold different images or reference masks.
    """
    check_seed("seed", seed)
    first, second = read_rows(Path(a), text_mode), read_rows(Path(b), other_text_mode)
    raise_problems("The two runs", image_problems(first, second, a, b), SAME_IMAGES)
    runs = {"A": first, "B": second.loc[first.index]}
    notes = [f"{name} finds no lesion (recall 0)." for name, run in runs.items() if finds_no_lesion(run)]
    rows = []
    for score in paired_scores(first, second):
        used = has_class(first, score)
        values = {name: run.loc[used, score] for name, run in runs.items()}
        groups = first.loc[used, "group"].astype(str)
        if note := missing_note(score, values):
            notes.append(note)
            result = PairedDifference(math.nan, math.nan, math.nan, None, math.nan, len(groups), groups.nunique())
        else:
            result = paired_difference(list(values["A"]), list(values["B"]), list(groups), seed)
        low, high = result.interval or (None, None)
        rows.append({"score": score, **result._asdict(), "low": low, "high": high})
    table = pd.DataFrame(rows).drop(columns="interval")
    table.attrs["notes"] = notes
    return table


def image_problems(first: pd.DataFrame, second: pd.DataFrame, a: str | Path, b: str | Path) -> list[str]:
    """The images that only one of two runs, `a` and `b`, was evaluated on, or whose reference masks differ."""
    problems = [f"'{name}' is in {b} only" for name in sorted(set(second.index) - set(first.index))]
    problems += [f"'{name}' is in {a} only" for name in sorted(set(first.index) - set(second.index))]
    common = first.index.intersection(second.index)
    for column in (name for name in first if name.partition("/")[0] == "true_pixels" and name in second):
        pixels, others = first.loc[common, column], second.loc[common, column]
        problems += [
            f"'{name}' has different reference masks: {column} is {pixels[name]} in {a}, {others[name]} in {b}"
            for name in common[pixels != others]
        ]
    return problems


def finds_no_lesion(run: pd.DataFrame) -> bool:
    """Whether all predicted masks are empty although there are lesions."""
    return bool(run["true_pixels"].any() and not run["predicted_pixels"].any())


def missing_note(score: str, values: Mapping[str, pd.Series]) -> str:
    """How many images of which run lack the score; "" if none does."""
    counts = {f"{column.isna().sum()} of {len(column)} images of {name}": column for name, column in values.items()}
    missing = [count for count, column in counts.items() if column.isna().any()]
    return f"{score} is missing for {' and '.join(missing)}: not compared." if missing else ""


def paired_scores(first: pd.DataFrame, second: pd.DataFrame) -> list[str]:
    """The scores in both tables whose mean over images is that of the set; those of classes that are shown, last."""
    of_classes = [column for column in first.columns if "/" in column and has_class(first, column).any()]
    return [score for score in (*METRICS, *of_classes) if score in first and score in second and is_paired(score)]


def is_paired(column: str) -> bool:
    """Whether a column of a per-image table is a score whose mean over images is that of the set."""
    metric = METRICS.get(column.partition("/")[0])
    return metric is not None and not metric.is_pooled


def has_class(table: pd.DataFrame, score: str) -> pd.Series:
    """The images that a mean of this score is over: all, or those that show its class."""
    name = score.partition("/")[2]
    return table[class_key("true_pixels", name)] > 0 if name else pd.Series(True, index=table.index)


def comparison_text(table: pd.DataFrame) -> str:
    """The comparison as a Markdown table, with its notes."""
    has_classes = table["images"].nunique() > 1
    rows = []
    for row in table.itertuples():
        interval = "-" if pd.isna(row.low) else f"[{row.low:.3f}, {row.high:.3f}]"
        means = number(row.a), number(row.b), number(row.difference, "+.3f")
        rows.append([row.score, *means, interval, number(row.p_value, ".2g"), *([row.images] if has_classes else [])])
    lower = [score for score in table["score"] if not METRICS[score.partition("/")[0]].higher_is_better]
    header = ["score", "A", "B", "A - B", "95 %", "p", *(["images"] if has_classes else [])]
    direction = f"; for {', '.join(lower)} lower is better" if lower else ""
    count = f"{table['images'].iloc[0]} images of {table['groups'].iloc[0]} groups{direction}."
    return f"{markdown_table(header, rows)}\n\n{' '.join([count, *table.attrs.get('notes', [])])}"


def number(value: float, digits: str = ".3f") -> str:
    return "-" if pd.isna(value) else format(value, digits)


def read_rows(path: Path, text_mode: str) -> pd.DataFrame:
    """The rows of one text condition in the per-image table of a run, by id."""
    try:
        table = pd.read_csv(path, dtype={"id": str, "group": str}, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as a table ({error}). Give the evaluation.csv of a run.") from error
    if missing := {"id", "group", "text_mode", PRIMARY, "predicted_pixels", "true_pixels"} - set(table.columns):
        raise ValueError(f"{path}: no column {', '.join(sorted(missing))}. Give the evaluation.csv of a run.")
    for score in filter(is_paired, table.columns):  # a missing score is an empty text, see `keep_default_na`
        table[score] = pd.to_numeric(table[score], errors="coerce")
    modes = list(table["text_mode"].unique())
    if len(modes) > 1 and text_mode not in modes:
        raise ValueError(f"{path}: no rows with the text '{text_mode}', there are: {', '.join(modes)}.")
    rows = table[table["text_mode"] == (text_mode if len(modes) > 1 else modes[0])].set_index("id")
    raise_problems(
        str(path), [f"'{name}' has several rows" for name in rows.index[rows.index.duplicated()]], "Keep one."
    )
    return rows
