"""Overlays of masks on images, and contact sheets of them."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tevia_hf.colours_tevia import FILL_OPACITY, LABEL_COLOURS, colour_of
from tevia_hf.labels_tevia import WHITE, is_lesion, values_of

CASING_COLOUR = (20, 20, 24)  # around the line of a reference, which lies on areas of the same colour
HEAT_OPACITY = 0.8
SMALLEST_SIDE = 384
TILE_HEIGHT, MARGIN, FONT_SIZE, TITLE_SIZE, LEGEND_LINE = 280, 14, 15, 22, 24
PAPER, INK = (250, 250, 248), (40, 40, 44)


def overlay(
    image: Image.Image | np.ndarray,
    mask: np.ndarray,
    reference: np.ndarray | None = None,
    longest_side: int | None = None,
) -> Image.Image:
    """RGB image with the mask as translucent colour; with a reference, its boundary, else that of the mask.

    Each label has one colour: a predicted and a true label differ in form alone.

    Args:
        image: PIL image, or array (height, width[, 3]) of any number type; beyond 8 bit its own minimum and maximum
            become black and white.
        mask: labels (height, width), one colour for each; 0 and 255 are not drawn.
        reference: the true labels (height, width), drawn as lines with a dark edge; 0 and 255 are not drawn.
        longest_side: in pixels, to which larger images are downsampled.

    Images with a longer side under 384 px are enlarged by an integer factor, so that boundaries stay thin lines.
    Raises `ValueError` if a mask does not have the image's size.
    """
    canvas = _to_rgb(image)
    size = _display_size(canvas, longest_side)
    masks = {"mask": mask} if reference is None else {"mask": mask, "reference": reference}
    labels = {name: _resize_labels(np.asarray(array), name, canvas, size) for name, array in masks.items()}
    line = max(2, max(size) // 200)
    areas = {name: _areas(array, _label_values(masks[name]), line) for name, array in labels.items()}
    canvas = _resize(canvas, size)
    for label, area in areas["mask"].items():
        fill = Image.fromarray(area.pixels * np.uint8(WHITE * FILL_OPACITY))
        canvas.paste(colour_of(label), area.box, fill)
    if reference is None:
        for label, area in areas["mask"].items():
            _paint(canvas, colour_of(label), area.box, _boundary(area.pixels, line))
        return canvas
    for area in areas["reference"].values():  # before all lines, so that none is hidden by that of a neighbour
        _paint(canvas, CASING_COLOUR, area.box, _casing(area.pixels, line))
    for label, area in areas["reference"].items():
        _paint(canvas, colour_of(label), area.box, _boundary(area.pixels, 3 * line // 2))
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
    rows: Sequence[Sequence[Image.Image]],
    captions: Sequence[Sequence[str]] | None = None,
    title: str | None = None,
    classes: Mapping[int, str] | None = None,
    with_reference: bool = False,
) -> Image.Image:
    """RGB sheet of images in rows, each with its wrapped caption below it, and a title and a legend on top.

    Args:
        rows: images of any sizes, scaled to tiles of one size at their aspect ratio; rows may differ in length.
        captions: one text for each image, in the same rows; None or "" for none.
        classes: the labels in these overlays and their names, for the legend; None for no legend.
        with_reference: whether the overlays have a reference, which the legend explains.

    Raises `ValueError` if there is no image, or captions and images differ in number.
    """
    if not any(rows):
        raise ValueError("No images were given: give at least one row with one image.")
    widest = max(image.width / image.height for row in rows for image in row)
    tile = (round(TILE_HEIGHT * min(max(widest, 0.75), 2.0)), TILE_HEIGHT)
    texts = _wrapped_captions(rows, captions, tile[0])
    lines = [max((text.count("\n") + 1 for text in row if text), default=0) for row in texts]
    heights = [TILE_HEIGHT + count * (FONT_SIZE + 5) + (8 if count else 0) + MARGIN for count in lines]
    width = max(map(len, rows)) * (tile[0] + MARGIN) + MARGIN
    heading = [_title(title, width)] if title else []
    heading += [legend(classes, with_reference, width)] if classes else []
    top = MARGIN + sum(part.height for part in heading)
    sheet = Image.new("RGB", (width, top + sum(heights)), PAPER)
    draw = ImageDraw.Draw(sheet)
    if heading:
        sheet.paste(stack(heading), (0, MARGIN // 2))
    for row, row_texts, height in zip(rows, texts, heights, strict=True):
        for column, (image, text) in enumerate(zip(row, row_texts, strict=True)):
            left = MARGIN + column * (tile[0] + MARGIN)
            sheet.paste(_scaled(image, tile), (left, top))
            draw.multiline_text((left, top + tile[1] + 5), text, fill=INK, font=ImageFont.load_default(FONT_SIZE))
        top += height
    return sheet


def legend(classes: Mapping[int, str], with_reference: bool = False, width: int = 640) -> Image.Image:
    """RGB legend, as wide as given: a swatch and the name of each label, in as many lines as they need.

    Args:
        classes: label -> name.
        with_reference: adds how predictions and references are drawn.
    """
    font, swatch = ImageFont.load_default(FONT_SIZE), FONT_SIZE
    entries: list[tuple[int | None, str]] = list(classes.items())
    entries += [(None, "filled: predicted"), (None, "line: reference")] if with_reference else []
    places, left, line = [], MARGIN, 0
    for label, name in entries:
        indent = 0 if label is None else swatch + 6
        text = _shorten(name, width - 2 * MARGIN - indent, FONT_SIZE)
        needed = indent + round(font.getlength(text))
        if left > MARGIN and left + needed > width - MARGIN:
            left, line = MARGIN, line + 1
        places.append((label, text, left, indent, line * LEGEND_LINE))
        left += needed + 2 * MARGIN
    image = Image.new("RGB", (width, (line + 1) * LEGEND_LINE + MARGIN // 2), PAPER)
    draw = ImageDraw.Draw(image)
    for label, text, left, indent, top in places:
        if label is not None:
            draw.rectangle((left, top + 3, left + swatch, top + 3 + swatch), fill=colour_of(label))
        draw.text((left + indent, top), text, fill=INK, font=font)
    return image


def stack(images: Sequence[Image.Image]) -> Image.Image:
    """The images one below the other, left-aligned, on a sheet as wide as the widest."""
    sheet = Image.new("RGB", (max(image.width for image in images), sum(image.height for image in images)), PAPER)
    top = 0
    for image in images:
        sheet.paste(image, (0, top))
        top += image.height
    return sheet


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


class _Area(NamedTuple):
    """Where a label lies: the `pixels` of a `box` (left, top, right, bottom) that has room for the line around it."""

    box: tuple[int, int, int, int]
    pixels: np.ndarray


def _areas(labels: np.ndarray, present: Iterable[int], line: int) -> dict[int, _Area]:
    """The area of each of the labels; none for those that have no pixel at this size."""
    (height, width), room, areas = labels.shape, line // 2, {}
    for label in present:
        pixels = labels == label
        if box := Image.fromarray(pixels).getbbox():  # drawing in it alone takes a fraction of the time
            left, top = max(0, box[0] - room), max(0, box[1] - room)
            right, bottom = min(width, box[2] + room), min(height, box[3] + room)
            areas[label] = _Area((left, top, right, bottom), pixels[top:bottom, left:right])
    return areas


def _label_values(mask: np.ndarray) -> list[int]:
    return [int(label) for label in values_of(np.asarray(mask).astype(np.uint8)) if is_lesion(label)]


def _resize(canvas: Image.Image, size: tuple[int, int]) -> Image.Image:
    if canvas.size != size:
        pixels = np.asarray(canvas)
        if (pixels[..., 1:] == pixels[..., :1]).all():  # interpolating one channel takes a third of the time
            canvas = canvas.getchannel(0)
    return canvas.resize(size, Image.Resampling.BICUBIC).convert("RGB")


def _paint(
    canvas: Image.Image, colour: tuple[int, int, int], box: tuple[int, int, int, int], pixels: np.ndarray
) -> None:
    canvas.paste(colour, box, Image.fromarray(pixels))


def _boundary(area: np.ndarray, width: int) -> np.ndarray:
    """A line along the inner edge of the area."""
    return area & ~_eroded(area, width)


def _casing(area: np.ndarray, line: int) -> np.ndarray:
    """The line of a reference, wider on either side."""
    return ~_eroded(~area, line // 2, beyond_image=True) & ~_eroded(area, 2 * line)


def _eroded(area: np.ndarray, width: int, beyond_image: bool = False) -> np.ndarray:
    """The pixels with nothing but area within `width` around them; `beyond_image`: whether there is area outside."""
    inner: np.ndarray = np.pad(area, width, constant_values=beyond_image)
    for _ in range(2):  # along both axes
        inner, window = inner.T, 1
        while window < 2 * width + 1:  # doubled, since a pass for each pixel takes seconds in large images
            step = min(window, 2 * width + 1 - window)
            inner, window = inner[step:] & inner[:-step], window + step
    return inner


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


def _title(text: str, width: int) -> Image.Image:
    image = Image.new("RGB", (width, TITLE_SIZE + MARGIN), PAPER)
    font = ImageFont.load_default(TITLE_SIZE)
    ImageDraw.Draw(image).text((MARGIN, 0), _shorten(text, width - 2 * MARGIN, TITLE_SIZE), fill=INK, font=font)
    return image


def _shorten(title: str, width: int, font_size: int) -> str:
    font = ImageFont.load_default(font_size)
    shorter = (title[:end] + "..." for end in range(len(title), 0, -1))
    return next((text for text in (title, *shorter) if font.getlength(text) <= width), "...")


def _scaled(image: Image.Image, tile: tuple[int, int]) -> Image.Image:
    scale = min(tile[0] / image.width, tile[1] / image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return _to_rgb(image).resize(size, Image.Resampling.LANCZOS)
