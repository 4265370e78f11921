"""Overlays of masks on images, contact sheets of them, and charts."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tevia_hf.colours_tevia import FILL_OPACITY, LABEL_COLOURS, colour_of
from tevia_hf.extras import needed_for
from tevia_hf.labels_tevia import WHITE, is_lesion

REFERENCE_COLOUR = (0, 214, 100)
HEAT_OPACITY = 0.8
SMALLEST_SIDE = 384
TILE_HEIGHT, MARGIN, FONT_SIZE, TITLE_SIZE = 280, 14, 15, 22
PAPER, INK = (250, 250, 248), (40, 40, 44)
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


def overlay(
    image: Image.Image | np.ndarray,
    mask: np.ndarray,
    reference: np.ndarray | None = None,
    longest_side: int | None = None,
) -> Image.Image:
    """RGB image with the mask as translucent colour with its boundary, the reference as a green boundary.

    Args:
        image: PIL image, or array (height, width[, 3]) of any number type; beyond 8 bit its own minimum and maximum
            become black and white.
        mask: labels (height, width), one colour for each; 0 and 255 are not drawn.
        reference: the true labels (height, width); 0 and 255 are not drawn.
        longest_side: in pixels, to which larger images are downsampled.

    Images with a longer side under 384 px are enlarged by an integer factor, so that boundaries stay thin lines.
    Raises `ValueError` if a mask does not have the image's size.
    """
    canvas = _to_rgb(image)
    size = _display_size(canvas, longest_side)
    masks = {"mask": mask} if reference is None else {"mask": mask, "reference": reference}
    labels = {name: _resize_labels(np.asarray(array), name, canvas, size) for name, array in masks.items()}
    canvas = canvas.resize(size, Image.Resampling.BICUBIC)
    for label in _foreground(labels["mask"]):
        colour, area = colour_of(label), _area(labels["mask"], label)
        canvas.paste(colour, mask=area.point(lambda value: int(value * FILL_OPACITY)))
        canvas.paste(colour, mask=_boundary(area))
    for label in _foreground(labels.get("reference")):
        canvas.paste(REFERENCE_COLOUR, mask=_boundary(_area(labels["reference"], label)))
    return canvas


def heat_map(image: Image.Image | np.ndarray, values: np.ndarray, longest_side: int | None = None) -> Image.Image:
    """RGB image with a translucent heat map: orange for positive values, blue for negative, none for 0.

    Args:
        image: a PIL image, or an array as for `overlay`.
        values: (height, width), at the image's size, from -1 to 1, which have the full colours.
        longest_side: in pixels, to which larger images are downsampled.

    Small images are enlarged as by `overlay`. Raises `ValueError` if the values do not have the image's size.
    """
    canvas = _to_rgb(image)
    if values.shape != canvas.size[::-1]:
        raise ValueError(f"The values have shape {values.shape}, the image {canvas.size[::-1]}: resize the values.")
    size = _display_size(canvas, longest_side)
    heat = np.asarray(Image.fromarray(values.astype(np.float32)).resize(size, Image.Resampling.BILINEAR))[..., None]
    opacity = HEAT_OPACITY * np.clip(np.abs(heat), 0, 1)
    colours = np.where(heat > 0, LABEL_COLOURS[0], LABEL_COLOURS[1])
    mixed = np.asarray(canvas.resize(size, Image.Resampling.BICUBIC)) * (1 - opacity) + colours * opacity
    return Image.fromarray(mixed.round().astype(np.uint8))


def contact_sheet(
    rows: Sequence[Sequence[Image.Image]], captions: Sequence[Sequence[str]] | None = None, title: str | None = None
) -> Image.Image:
    """RGB sheet of images in rows, each with its wrapped caption below it, and a title on top.

    Args:
        rows: images of any sizes, scaled to tiles of one size at their aspect ratio; rows may differ in length.
        captions: one text for each image, in the same rows; None or "" for none.

    Raises `ValueError` if there is no image, or captions and images differ in number.
    """
    if not any(rows):
        raise ValueError("No images were given: give at least one row with one image.")
    widest = max(image.width / image.height for row in rows for image in row)
    tile = (round(TILE_HEIGHT * min(max(widest, 0.75), 2.0)), TILE_HEIGHT)
    texts = _wrapped_captions(rows, captions, tile[0])
    lines = [max((text.count("\n") + 1 for text in row if text), default=0) for row in texts]
    heights = [TILE_HEIGHT + count * (FONT_SIZE + 5) + (8 if count else 0) + MARGIN for count in lines]
    top = MARGIN + (TITLE_SIZE + MARGIN if title else 0)
    width = max(map(len, rows)) * (tile[0] + MARGIN) + MARGIN
    title = title and _shorten(title, width - 2 * MARGIN)
    sheet = Image.new("RGB", (width, top + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN // 2), title or "", fill=INK, font=ImageFont.load_default(TITLE_SIZE))
    for row, row_texts, height in zip(rows, texts, heights, strict=True):
        for column, (image, text) in enumerate(zip(row, row_texts, strict=True)):
            left = MARGIN + column * (tile[0] + MARGIN)
            sheet.paste(_scaled(image, tile), (left, top))
            draw.multiline_text((left, top + tile[1] + 5), text, fill=INK, font=ImageFont.load_default(FONT_SIZE))
        top += height
    return sheet


def interval_chart(values: Scores, title: str, label: str) -> Image.Image:
    """RGB bar chart: one bar per name, a value from 0 to 1 with its interval (None for none)."""
    figure, (axes,) = _new_figure(9, 1.2 + 0.45 * len(values))
    axes.barh(list(values), [value for value, _ in values.values()], color=_unit(LABEL_COLOURS[1]), height=0.6)
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
        raise ValueError("There is no difference to plot: give at least one.")
    figure, (axes,) = _new_figure(9, 1.4 + 0.4 * len(values))
    axes.axvline(0, color=_unit(INK), linewidth=1, linestyle="--")
    for row, (value, interval) in enumerate(values.values()):
        if interval:
            axes.plot(interval, (row, row), color=_unit(INK), linewidth=2, marker="|", markersize=8)
        axes.plot(value, row, color=_unit(CURVE_COLOURS[1]), marker="s", markersize=8)
        text = f"{value:+.3f}" + (f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else "")
        axes.text(1.02, row, text, va="center", transform=axes.get_yaxis_transform())
    axes.set(xlabel=label, title=title, ylim=(len(values) - 0.5, -0.5))
    axes.set_yticks(range(len(values)), labels=list(values))
    return _render(figure)


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


def stack(images: Sequence[Image.Image]) -> Image.Image:
    """The images one below the other, left-aligned, on a sheet as wide as the widest."""
    sheet = Image.new("RGB", (max(image.width for image in images), sum(image.height for image in images)), PAPER)
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    return sheet


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


def _display_size(image: Image.Image, longest_side: int | None) -> tuple[int, int]:
    factor: float = -(-SMALLEST_SIDE // max(image.size))
    if longest_side is not None:
        factor = min(factor, longest_side / max(image.size))
    return max(1, round(image.width * factor)), max(1, round(image.height * factor))


def _to_rgb(image: Image.Image | np.ndarray) -> Image.Image:
    if isinstance(image, Image.Image) and not image.mode.startswith(("I", "F")):
        return image.convert("RGB")
    array = np.asarray(image)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype != np.uint8:
        low, high = float(array.min()), float(array.max())
        array = ((array.astype(np.float64) - low) * (WHITE / ((high - low) or 1.0))).round().astype(np.uint8)
    return Image.fromarray(array).convert("RGB")


def _resize_labels(labels: np.ndarray, name: str, image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    """The labels at the display size, so that boundaries follow pixels."""
    if labels.shape != image.size[::-1]:
        raise ValueError(
            f"The {name} has shape {labels.shape} but the image is (height, width) {image.size[::-1]}: resize the "
            f"{name} to the image."
        )
    return np.asarray(Image.fromarray(labels.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))


def _foreground(labels: np.ndarray | None) -> list[int]:
    return [] if labels is None else [int(label) for label in np.unique(labels) if is_lesion(label)]


def _area(labels: np.ndarray, label: int) -> Image.Image:
    return Image.fromarray(np.where(labels == label, WHITE, 0).astype(np.uint8))


def _boundary(area: Image.Image) -> Image.Image:
    """A line of about 1/200 of the longer side, at least 2 px, along the inner edge of the area."""
    width = max(2, max(area.size) // 200)
    inner: np.ndarray = np.pad(np.asarray(area) > 0, width)  # there is no area outside the image
    for _ in range(2):  # along both axes
        inner, window = inner.T, 1
        while window < 2 * width + 1:  # doubled, since a pass for each pixel takes seconds in large images
            step = min(window, 2 * width + 1 - window)
            inner, window = inner[step:] & inner[:-step], window + step
    return Image.fromarray(np.where(inner, 0, np.asarray(area)).astype(np.uint8))


def _wrapped_captions(
    rows: Sequence[Sequence[Image.Image]], captions: Sequence[Sequence[str]] | None, width: int
) -> list[list[str]]:
    if captions is None:
        return [[""] * len(row) for row in rows]
    image_counts, caption_counts = [len(row) for row in rows], [len(texts) for texts in captions]
    if image_counts != caption_counts:
        raise ValueError(
            f"Rows hold {image_counts} images but {caption_counts} captions: give one caption for each image."
        )
    return [[_wrapped(text or "", width) for text in texts] for texts in captions]


def _wrapped(text: str, width: int) -> str:
    """The text in lines of at most `width` pixels."""
    font = ImageFont.load_default(FONT_SIZE)
    for characters in range(len(text), 1, -1):
        lines = textwrap.wrap(text, characters)
        if max(font.getlength(line) for line in lines) <= width:
            return "\n".join(lines)
    return text


def _shorten(title: str, width: int) -> str:
    font = ImageFont.load_default(TITLE_SIZE)
    shorter = (title[:end] + "..." for end in range(len(title), 0, -1))
    return next((text for text in (title, *shorter) if font.getlength(text) <= width), "...")


def _scaled(image: Image.Image, tile: tuple[int, int]) -> Image.Image:
    scale = min(tile[0] / image.width, tile[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return _to_rgb(image).resize(size, Image.Resampling.LANCZOS)
