"""Tables of scores, of all lesions and per class."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ..intervals import Interval
from ..io.markdown import Block, Table, markdown_table
from ..metric_table import METRICS, PRIMARY
from ..score_summaries import BOTH, FALSE_POSITIVES, ClassScores


def score_table(scores: Mapping[str, Mapping[str, Any]], names: Sequence[str] | None = None) -> str:
    """A Markdown table of score rows; by default of the scores that papers report, in both Dice definitions."""
    if names is None:
        names = [key for key, metric in METRICS.items() if metric.in_short_table]
    rows = [
        [condition, *(value if isinstance(value := row[name], str) else f"{value:.3f}" for name in names)]
        for condition, row in scores.items()
    ]
    return markdown_table(["text", *names], rows)


def interval_text(interval: Interval | None, missing: str = "-") -> str:
    return f"[{interval[0]:.3f}, {interval[1]:.3f}]" if interval else missing


def with_interval(scores: ClassScores, key: str) -> str:
    """A score and its interval, if it has one."""
    return f"{number(scores.scores[key])} {interval_text(scores.intervals[key], missing='')}".strip()


def foreground_lines(foreground: ClassScores) -> Iterator[str]:
    """The scores of images with and without a lesion, if a mean over all images mixes them."""
    images, absent, both = foreground.images, foreground.absent, foreground.both
    if images and (absent or both < images):
        distances = [
            f"`{key.removesuffix(BOTH)}` {number(value)} over the {both} where both masks hold one"
            for key, value in foreground.scores.items()
            if key.endswith(BOTH) and both
        ]
        score = f"Images with a lesion ({images}): `{PRIMARY}` {with_interval(foreground, PRIMARY)}"
        yield ", ".join([score, *distances]) + "."
    if absent:
        share = with_interval(foreground, FALSE_POSITIVES)
        yield f"Images without a lesion ({absent}): share with a false positive {share}."


def class_blocks(
    classes: Mapping[str, Mapping[str, ClassScores]], denying_conditions: Collection[str] = ()
) -> Iterator[Block]:
    """A table of the classes, with remarks, and the primary score of each with every text condition.

    Args:
        classes: text condition -> class -> scores; the first condition has intervals.
        denying_conditions: those whose scores are meaningless, which are left out of the last table.
    """
    own = next(iter(classes))
    shown = {mode: scores for mode, scores in classes.items() if mode not in denying_conditions}
    if not classes[own]:
        return
    yield class_table(classes[own])
    for name, scores in classes[own].items():
        if not scores.images:
            yield f"No image has the class {name}: it is not scored."
        elif not scores.predicted:
            yield f"{name} is never predicted; images that show it: {scores.images}."
    if len(shown) > 1:
        rows = [[mode, *(number(one.scores[PRIMARY]) for one in scores.values())] for mode, scores in shown.items()]
        yield Table(["text", *classes[own]], rows, f"`{PRIMARY}` by class with each text.")


def class_table(classes: Mapping[str, ClassScores]) -> Table:
    """One row per class: number of images, scores with their counts, share of false positives."""
    others = [key for key in next(iter(classes.values())).scores if key not in (PRIMARY, FALSE_POSITIVES)]
    header = ["class", "images", PRIMARY, "95 %", *(key.replace(BOTH, ", both") for key in others), "false positives"]
    rows = []
    for name, scores in classes.items():
        interval = interval_text(scores.intervals[PRIMARY])
        share = number(scores.scores[FALSE_POSITIVES])
        if scores.absent:
            share += f" ({scores.predicted - scores.both}/{scores.absent})"
        values = [value_and_count(scores, key) for key in others]
        rows.append([name, scores.images, number(scores.scores[PRIMARY]), interval, *values, share])
    return Table(header, rows, "By class, over the images whose true mask holds it; ratios count all images.")


def value_and_count(scores: ClassScores, key: str) -> str:
    """A score with the lesions that it counts, such as "0.600 (12/20)"."""
    value = number(scores.scores[key])
    if key.startswith("lesion_") and scores.scores[key] is not None:
        return f"{value} ({scores.counts[key][0]:.0f}/{scores.counts[key][1]:.0f})"
    return value


def number(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.3f}"
