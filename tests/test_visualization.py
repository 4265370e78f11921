"""Overlays colour the mask and nothing else; contact sheets hold every image and caption."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from tevia_hf.charts import CURVE_COLOURS, difference_chart
from tevia_hf.visualization import (
    CASING_COLOUR,
    LABEL_COLOURS,
    contact_sheet,
    heat_map,
    legend,
    overlay,
)

SIDE = 400


def square(start, stop, label=1):
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[start:stop, start:stop] = label
    return mask


def grey(value=100):
    return np.full((SIDE, SIDE), value, dtype=np.uint8)


def changed(image, background=100):
    return (np.asarray(image) != background).any(axis=-1)


def has_colour(image, colour):
    return (np.asarray(image) == colour).all(axis=-1)


def test_only_the_masked_area_is_coloured():
    image = overlay(grey(), square(100, 300))
    assert image.mode == "RGB" and image.size == (SIDE, SIDE)
    assert (changed(image) == (square(100, 300) > 0)).all()


@pytest.mark.parametrize("shape", [(1, 9), (40, 60), (384, 500), (300, 1300)])
def test_a_boundary_is_what_a_square_erosion_removes_also_at_the_edge_of_the_image(shape):
    area = gaussian_filter(np.random.default_rng(0).random(shape), 3) > 0.5
    image = overlay(np.zeros(shape, np.uint8), area, longest_side=max(shape))
    width = 2 * max(2, max(shape) // 200) + 1
    expected = area & ~minimum_filter(area, width, mode="constant", cval=0)
    assert expected.any() and (has_colour(image, LABEL_COLOURS[0]) == expected).all()


def painted_on_the_whole_image(image, mask, reference, longest_side):
    """The overlay by its definition: every step on all pixels, each label after the other."""
    canvas = Image.fromarray(image).convert("RGB")
    factor = -(-384 // max(canvas.size))
    factor = factor if longest_side is None else min(factor, longest_side / max(canvas.size))
    size = [max(1, round(side * factor)) for side in canvas.size]
    line = max(2, max(size) // 200)
    canvas = canvas.resize(size, Image.Resampling.BICUBIC)

    def areas(labels):
        shown = np.asarray(Image.fromarray(labels.astype(np.uint8)).resize(size, Image.Resampling.NEAREST))
        return {label: shown == label for label in range(1, 255) if (shown == label).any()}

    def paint(colour, where, opacity=255):
        canvas.paste(colour, mask=Image.fromarray((where * opacity).astype(np.uint8)))

    def inner(area, width):
        return minimum_filter(area, 2 * width + 1, mode="constant", cval=0)

    for label, area in areas(mask).items():
        paint(LABEL_COLOURS[(label - 1) % 6], area, int(255 * 0.35))
    lines, width = (areas(mask), line) if reference is None else (areas(reference), 3 * line // 2)
    for area in lines.values() if reference is not None else ():
        around = maximum_filter(area, 2 * (line // 2) + 1, mode="constant", cval=0)
        paint(CASING_COLOUR, around & ~inner(area, 2 * line), 255)
    for label, area in lines.items():
        paint(LABEL_COLOURS[(label - 1) % 6], area & ~inner(area, width), 255)
    return np.asarray(canvas)


def blobs(shape, seed):
    """Several areas of the labels 1, 2, 7 and 255, up to the border of the image."""
    values = gaussian_filter(np.random.default_rng(seed).random(shape), 3)
    return np.array([0, 1, 2, 0, 7, 255])[np.digitize(values, np.quantile(values, [0.3, 0.5, 0.6, 0.8, 0.95]))]


def corner(shape):
    mask = np.zeros(shape, bool)
    mask[-shape[0] // 3 :, -shape[1] // 4 :] = True
    return mask


@pytest.mark.parametrize("channels", [(), (3,)])
@pytest.mark.parametrize(
    ("shape", "longest_side"), [((48, 60), None), ((390, 70), None), ((90, 410), 203), ((9, 1), 5)]
)
@pytest.mark.parametrize("kind", ["labels", "corner", "pixel", "full", "empty"])
def test_drawing_where_a_label_lies_gives_the_pixels_of_drawing_everywhere(kind, shape, longest_side, channels):
    image = np.random.default_rng(0).integers(0, 256, (*shape, *channels), np.uint8)
    pixel = np.zeros(shape, np.int64)
    pixel[shape[0] // 2, 0] = 3
    mask = {"labels": blobs(shape, 1), "corner": corner(shape), "pixel": pixel, "full": np.ones(shape)}.get(
        kind, pixel * 0
    )
    for reference in (None, blobs(shape, 2), corner(shape), mask):
        expected = painted_on_the_whole_image(image, mask, reference, longest_side)
        np.testing.assert_array_equal(np.asarray(overlay(image, mask, reference, longest_side)), expected)


def test_the_fill_is_translucent_and_its_boundary_solid():
    bright, dark = (np.asarray(overlay(grey(value), square(100, 300))) for value in (200, 50))
    assert (bright[200, 200] > dark[200, 200]).all()
    for corner in ((100, 100), (100, 200), (299, 299)):
        assert tuple(bright[corner]) == tuple(dark[corner]) == LABEL_COLOURS[0]


@pytest.mark.parametrize("background", [0, 100, 255])
@pytest.mark.parametrize("label", [1, 2, 3])
def test_the_reference_is_a_line_in_the_colour_of_its_label_with_a_dark_edge(label, background):
    image = overlay(grey(background), square(100, 300, label), square(150, 350, label))
    for row in (150, 349):  # on the fill of the same colour, and on the image
        assert has_colour(image, LABEL_COLOURS[label - 1])[row, 250]
    for row in (149, 153, 350, 346):
        assert has_colour(image, CASING_COLOUR)[row, 250]
    assert not changed(image, background)[320, 320].any()


def test_beside_a_reference_the_mask_is_a_fill_without_a_line():
    shown = np.asarray(overlay(grey(), square(100, 200), square(0, 0)))
    assert (shown[100:200, 100:200] == shown[150, 150]).all() and tuple(shown[150, 150]) not in LABEL_COLOURS


def test_touching_labels_of_a_reference_keep_both_lines():
    reference = square(100, 300)
    reference[100:300, 200:300] = 2
    image = overlay(grey(), square(0, 0), reference)
    assert has_colour(image, LABEL_COLOURS[0])[200, 197:200].all()
    assert has_colour(image, LABEL_COLOURS[1])[200, 200:203].all()


def test_a_reference_up_to_the_border_of_the_image_has_its_line_there():
    image = overlay(grey(), square(0, 0), square(0, SIDE))
    assert has_colour(image, LABEL_COLOURS[0])[0].all() and has_colour(image, CASING_COLOUR)[3, 4:-4].all()


def test_a_large_image_is_downsampled_on_request_with_its_masks():
    mask = square(100, 300)
    image = overlay(grey(), mask, longest_side=200)
    assert image.size == (200, 200) and (changed(image) == (mask[::2, ::2] > 0)).all()
    heat = np.asarray(heat_map(grey(), mask.astype(np.float32), longest_side=200))
    assert heat.shape == (200, 200, 3) and (heat[50:150, 50:150, 0] > heat[50:150, 50:150, 2]).all()
    assert overlay(np.zeros((1, 5000), np.uint8), np.zeros((1, 5000)), longest_side=200).size == (200, 1)
    assert overlay(grey(), mask, longest_side=5000).size == (SIDE, SIDE)


def test_a_mask_at_the_border_has_its_boundary_there():
    assert has_colour(overlay(grey(), square(0, SIDE)), LABEL_COLOURS[0])[0].all()


def test_labels_have_their_own_colours_and_255_none():
    mask = square(20, 120) + square(150, 250, label=2) + square(300, 380, label=255)
    image = overlay(grey(), mask)
    assert has_colour(image, LABEL_COLOURS[0])[20, 20] and has_colour(image, LABEL_COLOURS[1])[150, 150]
    assert not changed(image)[300:380, 300:380].any()


def test_empty_masks_leave_the_image_as_it_is():
    assert not changed(overlay(grey(), square(0, 0), square(0, 0))).any()


def test_small_images_are_enlarged_by_an_integer_factor():
    mask = np.zeros((64, 50), dtype=np.uint8)
    mask[10:20, 5:15] = 6
    image = overlay(np.full((64, 50), 100, dtype=np.uint8), mask)
    assert image.size == (300, 384)
    assert (changed(image) == (np.kron(mask, np.ones((6, 6))) > 0)).all()


@pytest.mark.parametrize("scale", [1, 257, 1 / 255])
def test_deep_and_float_images_are_shown_in_their_own_range(scale):
    ramp = np.tile(np.linspace(0, 255, SIDE).astype(np.uint8), (SIDE, 1))
    image = ramp * (np.uint16(scale) if scale > 1 else scale)
    shown = np.asarray(overlay(image, square(0, 0)))[..., 0].astype(int)
    assert abs(shown - ramp).max() <= 1


def test_sixteen_bit_pil_images_are_not_saturated():
    deep = np.tile(np.linspace(0, 60000, SIDE).astype(np.uint16), (SIDE, 1))
    shown = np.asarray(overlay(Image.fromarray(deep), square(0, 0)))[0, :, 0].astype(int)
    assert (abs(shown - deep[0] / 60000 * 255) <= 1).all()


@pytest.mark.parametrize("name", ["mask", "reference"])
def test_a_mask_of_another_size_is_refused_with_both_shapes(name):
    masks = {"mask": square(0, 0), "reference": square(0, 0)} | {name: np.zeros((5, 6), int)}
    with pytest.raises(ValueError, match=rf"The {name} has shape \(5, 6\) but the image is .*\(400, 400\)"):
        overlay(grey(), **masks)


def test_a_sheet_holds_every_image_in_its_place():
    colours = [[(200, 0, 0), (0, 200, 0)], [(0, 0, 200)]]
    rows = [[Image.new("RGB", (40, 40), colour) for colour in row] for row in colours]
    sheet = contact_sheet(rows)
    centres = {colour: np.argwhere(has_colour(sheet, colour)).mean(axis=0) for row in colours for colour in row}
    red, green, blue = centres.values()
    assert red[0] == green[0] < blue[0]
    assert red[1] == blue[1] < green[1]


def test_images_of_any_sizes_are_scaled_into_one_tile_without_distortion():
    rows = [[Image.new("RGB", (30, 30), (200, 0, 0)), Image.new("RGB", (900, 450), (0, 200, 0))]]
    sheet = contact_sheet(rows)
    spans = [np.ptp(np.argwhere(has_colour(sheet, colour)), axis=0) + 1 for colour in ((200, 0, 0), (0, 200, 0))]
    assert spans[0][0] == spans[0][1]
    assert spans[1][1] == pytest.approx(2 * spans[1][0], abs=2)
    assert spans[0][0] == spans[1][0]


def ink_below(sheet, colour):
    """Dark pixels of the sheet below the last row of a colour."""
    pixels = np.asarray(sheet)
    bottom = np.argwhere(has_colour(sheet, colour))[:, 0].max()
    return np.argwhere((pixels[bottom + 1 :] < 120).all(axis=-1))


def test_captions_stand_below_their_image_and_long_ones_are_wrapped():
    colour = (200, 0, 0)
    rows = [[Image.new("RGB", (40, 40), colour)] * 2]
    bare = contact_sheet(rows)
    short = contact_sheet(rows, [["lung", ""]])
    long = contact_sheet(rows, [["lower right lung " * 12, ""]])
    assert len(ink_below(bare, colour)) == 0 < len(ink_below(short, colour)) < len(ink_below(long, colour))
    assert bare.height < short.height < long.height
    second_column = np.argwhere(has_colour(long, colour))[:, 1].max() // 2
    assert ink_below(long, colour)[:, 1].max() <= second_column


def test_the_title_stands_on_top_and_stays_inside():
    rows = [[Image.new("RGB", (40, 40), (200, 0, 0))]]
    sheet = contact_sheet(rows, title="with text " * 40)
    top = np.argwhere(has_colour(sheet, (200, 0, 0)))[:, 0].min()
    ink = np.argwhere((np.asarray(sheet)[:top] < 120).all(axis=-1))
    assert len(ink) > 0
    assert ink[:, 1].max() < sheet.width - 10


def test_a_sheet_has_a_legend_with_a_swatch_for_each_class():
    rows = [[Image.new("RGB", (40, 40), (200, 0, 0))] * 2]
    bare, with_legend = (
        contact_sheet(rows, title="Masks"),
        contact_sheet(rows, None, "Masks", {1: "benign", 3: "other"}),
    )
    top = np.argwhere(has_colour(with_legend, (200, 0, 0)))[:, 0].min()
    assert top > np.argwhere(has_colour(bare, (200, 0, 0)))[:, 0].min()
    for colour, is_shown in zip(LABEL_COLOURS, (True, False, True), strict=False):
        assert has_colour(with_legend, colour)[:top].any() == is_shown and not has_colour(bare, colour).any()


@pytest.mark.parametrize("width", [90, 238, 2000])
def test_a_legend_has_every_class_and_stays_inside_its_width(width):
    names = {label: f"class {label} " + "long " * label for label in range(1, 7)}
    image = legend(names, with_reference=True, width=width)
    for label in names:
        assert has_colour(image, LABEL_COLOURS[label - 1]).sum() > 200
    ink = np.argwhere((np.asarray(image) != np.asarray(image)[0, 0]).any(-1))
    assert image.width == width and ink[:, 1].max() < width and ink[:, 0].max() < image.height - 1


def test_captions_and_images_that_differ_in_number_are_refused():
    rows = [[Image.new("RGB", (4, 4))] * 2, [Image.new("RGB", (4, 4))]]
    with pytest.raises(ValueError, match=r"\[2, 1\] images but \[2, 2\] captions"):
        contact_sheet(rows, [["a", "b"], ["c", "d"]])


@pytest.mark.parametrize("rows", [[], [[]]])
def test_a_sheet_without_images_is_refused(rows):
    with pytest.raises(ValueError, match="No images were given"):
        contact_sheet(rows)


def test_a_forest_plot_has_a_point_on_its_side_of_zero_for_each_difference():
    chart = difference_chart({"a - b": (0.2, (0.1, 0.3)), "c - b": (-0.2, None)}, "Title", "Label")
    rows, columns = np.nonzero(has_colour(chart, CURVE_COLOURS[1]))
    middle = (rows.min() + rows.max()) / 2
    above, below = columns[rows < middle], columns[rows > middle]
    assert below.max() < above.min() and len(above) == pytest.approx(len(below), rel=0.1)
    with pytest.raises(ValueError, match="no difference to plot"):
        difference_chart({}, "Title", "Label")
