"""Two runs side by side, image by image."""

from pathlib import Path

import pandas as pd

from ..data.features import raise_problems
from ..intervals import paired_difference
from ..io.markdown import markdown_table
from ..metrics import METRICS, PRIMARY
from ..option_checks_tevia import check_seed


def compare_runs(
    a: str | Path, b: str | Path, text_mode: str = "correct", other_text_mode: str = "correct", seed: int = 0
) -> pd.DataFrame:
    """A row a score: means of both runs, difference a - b, its 95 % interval, p-value, numbers of images and groups.

    Args:
        a, b: per-image tables, as `EvaluationReport.save` writes them.
        text_mode, other_text_mode: the text condition in `a` and in `b`; a vision-only model has one only.
        seed: of bootstrap and permutations.

    Differences are paired by image and drawn by group. Raises `ValueError` where a table cannot be read, lacks the
    text condition, or the two hold other images.
    """
    check_seed("seed", seed)
    first, second = _rows(Path(a), text_mode), _rows(Path(b), other_text_mode)
    problems = [f"'{name}' is in {b} only" for name in sorted(set(second.index) - set(first.index))]
    problems += [f"'{name}' is in {a} only" for name in sorted(set(first.index) - set(second.index))]
    raise_problems("The two runs", problems, "Evaluate both on the same images.")
    second = second.loc[first.index]
    rows = []
    paired = [key for key, metric in METRICS.items() if not metric.is_pooled]
    for score in (key for key in paired if key in first.columns and key in second.columns):
        found = paired_difference(list(first[score]), list(second[score]), list(first["group"].astype(str)), seed)
        low, high = found.interval or (None, None)
        rows.append({"score": score, **found._asdict(), "low": low, "high": high})
    return pd.DataFrame(rows).drop(columns="interval")


def comparison_text(table: pd.DataFrame) -> str:
    """The comparison as a Markdown table."""
    rows = []
    for row in table.itertuples():
        interval = "-" if pd.isna(row.low) else f"[{row.low:.3f}, {row.high:.3f}]"
        means = f"{row.a:.3f}", f"{row.b:.3f}", f"{row.difference:+.3f}"
        rows.append([row.score, *means, interval, f"{row.p_value:.2g}"])
    less = [score for score in table["score"] if not METRICS[score].higher_is_better]
    direction = f"; for {', '.join(less)} less is better" if less else ""
    count = f"{table['images'].iloc[0]} images of {table['groups'].iloc[0]} groups{direction}."
    return f"{markdown_table(['score', 'A', 'B', 'A - B', '95 %', 'p'], rows)}\n\n{count}"


def _rows(path: Path, text_mode: str) -> pd.DataFrame:
    """The rows of one text condition, by id."""
    try:
        table = pd.read_csv(path, dtype={"id": str, "group": str}, keep_default_na=False)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: not readable as a table ({error}). Give the evaluation.csv of a run.") from error
    if missing := {"id", "group", "text_mode", PRIMARY} - set(table.columns):
        raise ValueError(f"{path}: no column {', '.join(sorted(missing))}. Give the evaluation.csv of a run.")
    kinds = list(table["text_mode"].unique())
    if len(kinds) > 1 and text_mode not in kinds:
        raise ValueError(f"{path}: no rows with the text '{text_mode}', there are: {', '.join(kinds)}.")
    rows = table[table["text_mode"] == (text_mode if len(kinds) > 1 else kinds[0])].set_index("id")
    raise_problems(
        str(path), [f"'{name}' has several rows" for name in rows.index[rows.index.duplicated()]], "Keep one."
    )
    return rows
