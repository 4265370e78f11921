"""A report as one HTML file that needs no other file and no network."""

import base64
import json
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import Image

from ..colours_tevia import colour_of
from ..extras import needed_for
from ..io.markdown import Bullets, Table
from ..metric_table import METRICS, PRIMARY, primary_name
from ..score_summaries import class_key

with needed_for("An HTML report"):
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from .report import EvaluationReport

MOST_ROWS = 1000  # of the table of images, which a browser must lay out
ID_COLUMNS = ("id", "group", "text")


def html_report(report: "EvaluationReport") -> str:
    """The report with its tables, figure, worst cases, settings and a sortable table of images.

    It holds ids and texts of patients.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["data_uri"] = data_uri
    environment.tests |= {"table": is_table, "bullets": is_bullets}
    template = environment.get_template("report.html")
    colours = {
        name: "#{:02x}{:02x}{:02x}".format(*colour_of(label)) for name, label in report.settings["classes"].items()
    }
    page = template.render(
        report=report,
        name=report.settings.get("model") or "a model",
        sections=report.sections(),
        settings=Table(["setting", "value"], list(flat(report.settings)), "Model, weights, data and options.", 2),
        images=images_table(report),
        class_colours=colours,
        primary=PRIMARY,
        primary_name=primary_name(),
        order="lowest" if METRICS[PRIMARY].higher_is_better else "highest",
    )
    return page + "\n"


def images_table(report: "EvaluationReport") -> Table:
    """The images with their own texts and scores, the worst first, at most `MOST_ROWS`."""
    own = next(iter(report.scores))
    rows = report.images[report.images["text_mode"] == own]
    order = {"by": [PRIMARY, "true_pixels"], "ascending": [METRICS[PRIMARY].higher_is_better, False]}
    worst_first = rows.sort_values(**order, kind="stable")[:MOST_ROWS]
    classes = [class_key(PRIMARY, name) for name in report.classes[own]]
    scores = [key for key in report.metrics if key in rows]
    columns = [*ID_COLUMNS, *scores[:1], *classes, *scores[1:], "predicted_pixels", "true_pixels"]
    cells = [list(map(cell_text, row)) for row in worst_first[columns].itertuples(index=False, name=None)]
    shown = f"the {len(cells)} with the {'lowest' if METRICS[PRIMARY].higher_is_better else 'highest'} `{PRIMARY}`"
    rest = f"{shown} of {len(rows)}; the others are in evaluation.csv" if len(cells) < len(rows) else f"all {len(rows)}"
    return Table(columns, cells, f"Images: {rest}.", len(ID_COLUMNS))


def cell_text(value: Any) -> str:
    """A number with three decimals, or as it is if it is whole; "" for a missing value."""
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.3f}"
    return "" if value is None else str(value)


def flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of nested settings, such as ("image_processor.size", "224")."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def data_uri(image: Image.Image) -> str:
    """The image as a JPEG inside a URI."""
    content = BytesIO()
    image.save(content, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def is_table(block: Any) -> bool:
    return isinstance(block, Table)


def is_bullets(block: Any) -> bool:
    return isinstance(block, Bullets)
