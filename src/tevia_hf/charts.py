"""Charts of scores and of training runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tevia_hf.colours_tevia import LABEL_COLOURS
from tevia_hf.extras import needed_for
from tevia_hf.labels_tevia import WHITE
from tevia_hf.visualization import INK, PAPER

# Okabe-Ito colours that are dark enough for lines
CURVE_COLOURS = [(40, 40, 44), (0, 114, 178), (204, 121, 167), (213, 94, 0), (0, 158, 115)]
Scores = Mapping[str, tuple[float, tuple[float, float] | None]]  # name -> value and interval
FEW_POINTS = 40  # curves with fewer points have markers
LOSS_CURVES = {
    "loss": "training loss",
    "segmentation_loss": "segmentation loss",
    "auxiliary_loss": "auxiliary loss, before its weight",
    "alignment_loss": "alignment loss, before its weight",
    "eval_loss": "validation loss",
}


def interval_chart(values: Scores, title: str, label: str) -> Image.Image:
    """RGB bar chart: one bar per name, a value from 0 to 1 with its interval (None for none)."""
    figure, (axes,) = _new_figure(9, 1.2 + 0.45 * len(values))
    axes.barh(range(len(values)), [value for value, _ in values.values()], color=_unit(LABEL_COLOURS[1]), height=0.6)
    axes.set_yticks(range(len(values)), labels=list(values), parse_math=False)  # names may hold "$"
    for row, (value, interval) in enumerate(values.values()):
        if interval:
            axes.plot(interval, (row, row), color=_unit(INK), linewidth=2, solid_capstyle="butt")
        axes.text(max(value, interval[1] if interval else 0) + 0.01, row, f"{value:.3f}", va="center")
    axes.set(xlim=(0, 1.08), xlabel=label, title=title)
    axes.invert_yaxis()
    return _render(figure)


def difference_chart(values: Scores, title: str, label: str) -> Image.Image:
    """RGB forest plot: one row per name, its difference as a point with its interval (None for none), a line at 0.

    Raises `ValueError` if there are no differences.
    """
    if not values:
        raise ValueError("There is no difference to plot: `values` is empty, give at least one difference.")
    figure, (axes,) = _new_figure(9, 1.4 + 0.4 * len(values))
    axes.axvline(0, color=_unit(INK), linewidth=1, linestyle="--")
    for row, (value, interval) in enumerate(values.values()):
        if interval:
            axes.plot(interval, (row, row), color=_unit(INK), linewidth=2, marker="|", markersize=8)
        axes.plot(value, row, color=_unit(CURVE_COLOURS[1]), marker="s", markersize=8)
        text = f"{value:+.3f}" + (f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "")
        axes.text(1.02, row, text, va="center", transform=axes.get_yaxis_transform())
    axes.set(xlabel=label, title=title, ylim=(len(values) - 0.5, -0.5))
    axes.set_yticks(range(len(values)), labels=list(values), parse_math=False)
    return _render(figure)


def save_forest_plot(values: Scores, label: str, path: str | Path) -> None:
    """Writes a figure for a paper, as PDF, PNG or SVG: a row per name, its value as a point with its interval.

    Raises `ValueError` if there are no values.
    """
    if not values:
        raise ValueError("There is no score to plot: give at least one run with a score.")
    figure, (axes,) = _new_figure(6.5, 0.8 + 0.3 * len(values))
    for row, (value, interval) in enumerate(values.values()):
        if interval:
            axes.plot(interval, (row, row), color=_unit(INK), linewidth=1.5, marker="|", markersize=7)
        axes.plot(value, row, color=_unit(CURVE_COLOURS[1]), marker="s", markersize=6)
        text = f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")
        axes.text(1.02, row, text, va="center", transform=axes.get_yaxis_transform())
    axes.set(xlabel=label, ylim=(len(values) - 0.5, -0.5), facecolor="white")
    axes.set_yticks(range(len(values)), labels=list(values), parse_math=False)
    from matplotlib import rc_context

    with rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"}):  # text that journals can read and search
        figure.savefig(path, dpi=300, facecolor="white")


def training_curves(log_history: Sequence[Mapping[str, float]]) -> dict[str, tuple[list[float], list[float]]]:
    """Epochs and values of each loss and validation score in a Trainer's log, by name."""
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for record in log_history:
        for name in (*LOSS_CURVES, *score_curves()):
            if name in record and "epoch" in record:
                epochs, values = curves.setdefault(name, ([], []))
                epochs.append(record["epoch"])
                values.append(record[name])
    return curves


def score_curves() -> dict[str, str]:
    """What the primary metric and its pooled form are called in a Trainer's log, and in a legend."""
    from tevia_hf.metric_table import PRIMARY  # needs scipy, which an overlay does not

    return {f"eval_{PRIMARY}": "mean over images", f"eval_{PRIMARY}_pooled": "pooled over all pixels"}


def draw_training_curves(
    log_history: Sequence[Mapping[str, float]], prototypes_act_after: float | None = None
) -> Image.Image:
    """RGB chart of a training run: the losses over the epochs and, with validation, its score next to them.

    Args:
        log_history: `trainer.state.log_history`.
        prototypes_act_after: epochs after which prototypes became active, drawn as a line; None for none.

    Raises `ValueError` for a log without losses and scores.
    """
    curves = training_curves(log_history)
    if not curves:
        raise ValueError("The log holds no loss and no score: train with `logging_steps`, or with validation.")
    from tevia_hf.metric_table import primary_name

    panels = {"Loss": LOSS_CURVES, f"Validation {primary_name()}": score_curves()}
    panels = {title: names for title, names in panels.items() if names.keys() & curves.keys()}
    figure, all_axes = _new_figure(6.5 * len(panels), 4.2, len(panels))
    for axes, (title, names) in zip(all_axes, panels.items(), strict=True):
        axes.set(xlabel="Epoch", ylabel=title)
        for index, (name, label) in enumerate(names.items()):
            if name in curves:
                style = {"marker": "o", "markersize": 4} if len(curves[name][0]) < FEW_POINTS else {}
                axes.plot(*curves[name], label=label, color=_unit(CURVE_COLOURS[index]), **style)
        if prototypes_act_after is not None:
            axes.axvline(prototypes_act_after, color=_unit(INK), linestyle="--", linewidth=1, label="prototypes act")
        axes.set(xlim=(0, None), ylim=None if names is LOSS_CURVES else (0, 1))
        axes.legend(frameon=False)
    return _render(figure)


def curves_chart(
    panels: Mapping[str, tuple[Sequence[float], Mapping[str, Sequence[float]]]], label: str
) -> Image.Image:
    """RGB chart: side by side, curves by name against the quantity that a panel's title names.

    Args:
        panels: title -> the values on the x axis, and the curves' values by name.
        label: of the y axes, which begin at 0.
    """
    figure, all_axes = _new_figure(4.6 * len(panels), 3.6, len(panels))
    for axes, (title, (places, curves)) in zip(all_axes, panels.items(), strict=True):
        for index, (name, values) in enumerate(curves.items()):
            axes.plot(places, values, label=name, color=_unit(CURVE_COLOURS[1 + index]), marker="o", markersize=4)
        axes.set(xlabel=title, ylabel=label, xlim=(0, None), ylim=(0, None))
        axes.legend(frameon=False)
    return _render(figure)


def _new_figure(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """A matplotlib figure of this size in inches, independent of pyplot's state, and its axes side by side."""
    with needed_for("Drawing a chart"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes a second to load
        from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, facecolor=_unit(PAPER), layout="constrained")
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(1, columns, squeeze=False)[0]
    for axes in all_axes:
        axes.set(facecolor=_unit(PAPER))
        axes.spines[["top", "right"]].set_visible(False)
    return figure, all_axes


def _render(figure: Any) -> Image.Image:
    figure.canvas.draw()
    return Image.fromarray(np.asarray(figure.canvas.buffer_rgba())[..., :3].copy())


def _unit(colour: tuple[int, int, int]) -> tuple[float, float, float]:
    red, green, blue = colour
    return red / WHITE, green / WHITE, blue / WHITE
