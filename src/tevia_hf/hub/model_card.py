"""Model cards: details written by a person (`card.yaml`), and scores taken from an evaluation report only."""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_origin

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from ..data.options import SOURCE_OPTIONS
from ..data.origin import UNKNOWN
from ..evaluation.report_tables import class_table, foreground_lines
from ..evaluation.text_conditions import TEXT_CONDITIONS
from ..io.markdown import cell, markdown_table
from ..io.yaml_file import read_yaml
from ..metric_table import METRICS, PRIMARY, primary_name, units_text
from ..score_summaries import EMPTY_MASK_RULE, ClassScores, failure_text

TEMPLATE = Path(__file__).with_name("model_card_template.md")
TASK = "image-segmentation"  # the closest task of the Hub
# Settings that select other examples of a split.
CHOICES = (*SOURCE_OPTIONS, "max_samples", "held_out", "options")
EXPLAINED = ("text_table", "group_split", "split_seed")  # described separately in the template
SETTINGS = {"dataset", "split", "images", "threshold", "hd95_unit"}  # required in a report


@dataclass
class DataDetails:
    """The training data. Scores on a data set with another `source` are shown under the name of that source."""

    name: str  # human-readable, like `license`
    license: str
    url: str | None = None
    id: str | None = None  # id on the Hub
    source: str | None = None  # name for `load_segmentation_dataset`, or the folder name for `folder`


@dataclass
class EncoderDetails:
    """An encoder of the model: its name (on the Hub, if it has one), role and licence."""

    name: str
    role: str
    license: str


@dataclass
class CardDetails:
    """Details of a model that must be written by a person; the fields of `card.yaml`.

    Args:
        license: of the weights, as abbreviated on the Hub, such as "apache-2.0"; "other" needs a `license_name` and
            optionally a `license_link`.
        example: an example of a text for the model.
    """

    title: str
    summary: str
    license: str
    dataset: DataDetails
    encoders: list[EncoderDetails]
    intended_use: str
    limits: list[str]
    example: str
    tags: list[str] = field(default_factory=list)
    license_name: str | None = None
    license_link: str | None = None

    def __post_init__(self):
        if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", self.license):
            raise ValueError(f"`license` is {self.license!r}: use the Hub's abbreviation, e.g. apache-2.0, or other.")
        if (self.license == "other") != bool(self.license_name):
            raise ValueError("`license_name` requires `license: other`, and the reverse: set both or neither.")

    def yaml(self) -> str:
        """The content of a `card.yaml` with these details."""
        given = dataclasses.asdict(self, dict_factory=lambda fields: {k: v for k, v in fields if v not in (None, [])})
        return yaml.safe_dump(given, sort_keys=False, allow_unicode=True)


def read_card_details(path: str | Path) -> CardDetails:
    """The details in a `card.yaml`. Raises `ValueError` if it is missing or has other fields than `CardDetails`."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"No {path}: it holds details that cannot be computed, such as licences. Write one with the fields "
            f"{', '.join(part.name for part in dataclasses.fields(CardDetails))}; docs/own_data.md shows one."
        )
    values = checked(CardDetails, read_yaml(path), str(path))
    encoders = [EncoderDetails(**checked(EncoderDetails, row, f"{path}: encoders")) for row in values["encoders"]]
    dataset = DataDetails(**checked(DataDetails, values["dataset"], f"{path}: dataset"))
    try:
        return CardDetails(**{**values, "encoders": encoders, "dataset": dataset})
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def checked(kind: type, values: Any, where: str) -> dict[str, Any]:
    """The values, checked against the fields and types of a dataclass; nested dataclasses are not checked."""
    fields = {part.name: part for part in dataclasses.fields(kind)}
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must hold `name: value` lines with {', '.join(fields)}.")
    required = {name for name, part in fields.items() if part.default is part.default_factory is dataclasses.MISSING}
    missing, unknown = sorted(required - set(values)), sorted(map(str, set(values) - set(fields)))
    if missing or unknown:
        raise ValueError(f"{where} lacks {missing or 'nothing'}; unknown are {unknown or 'none'}: fix these fields.")
    for name, value in values.items():
        if expected := expected_type(value, fields[name].type, name in required):
            raise ValueError(f"{where}: `{name}` is {value!r}, expected {expected}.")
    return dict(values)


def expected_type(value: Any, kind: Any, is_required: bool) -> str | None:
    """The expected type of a value, described for a message; `None` if the value is valid."""
    is_list = isinstance(value, list) and bool(value or not is_required)
    if kind in (str, str | None):
        is_valid = is_text(value) or (value is None and kind is not str)
        expected = "a text (in quotes if it contains a colon)"
    elif kind == list[str]:
        is_valid, expected = is_list and all(map(is_text, value)), "a list of texts (in quotes if they contain a colon)"
    else:
        is_valid, expected = is_list or get_origin(kind) is not list, "a list"
    return None if is_valid else expected


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def read_report(path: str | Path) -> dict[str, Any]:
    """The content of an `evaluation.json`, given its path or folder. Raises `ValueError` for an invalid report."""
    path = Path(path)
    path = path / "evaluation.json" if path.is_dir() else path
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        rows, known = report["scores"], set(report["settings"])
        has_same_metrics = len({tuple(row) for row in rows.values()}) == 1
        if has_same_metrics and set(report["intervals"]) == set(rows) and known >= SETTINGS:
            return report
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{path} is not a report of `tevia evaluate`: run it, and give its output folder.")


def model_card(
    details: CardDetails, report: Mapping[str, Any] | None, name: str, recipe: str = "", uses_text: bool = True
) -> ModelCard:
    """The model card with its metadata for the Hub; `name` is "org/name" or the folder's name.

    It shows the report of `read_report` and the YAML of the training recipe, if given.
    """
    based_on = [encoder.name for encoder in details.encoders if "/" in encoder.name]
    data = ModelCardData(
        language="en",
        license=details.license,
        license_name=details.license_name,
        license_link=details.license_link,
        library_name="transformers",
        pipeline_tag=TASK,
        base_model=based_on or None,
        base_model_relation="finetune" if based_on else None,
        datasets=[details.dataset.id] if details.dataset.id else None,
        tags=list(dict.fromkeys(["tevia", "medical", "text-guided-image-segmentation", *details.tags])),
        metrics=[key for key, metric in METRICS.items() if metric.in_short_table] if report else None,
        model_name=name,
        eval_results=eval_results(details, report) if report else None,
    )
    parts: dict[str, Any] = {
        "details": details,
        "report": report and shown(details, report),
        "recipe": recipe,
        "uses_text": uses_text,
        "example": json.dumps(details.example, ensure_ascii=False),
        "cell": cell,
        "patient_sides": (yaml.safe_load(recipe) or {}).get("patient_sides", False),
    }
    return ModelCard.from_template(data, template_path=str(TEMPLATE), name=name, **parts)


def source_of(settings: Mapping[str, Any]) -> str:
    """The registered name of a report's data set, or the folder name for `folder`."""
    folder = Path(settings.get("data_dir") or "").name
    return folder if settings["dataset"] == "folder" and folder else settings["dataset"]


def metrics_of(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The description of each metric on the card, from the report or else from `METRICS`."""
    known = {key: metric.about(report["settings"]["hd95_unit"]) for key, metric in METRICS.items()}
    known |= report.get("metrics", {})
    measured = next(iter(report["scores"].values()))
    return {key: about for key, about in known.items() if about["on_card"] and key in measured}


def given_texts(report: Mapping[str, Any]) -> dict[str, str]:
    """The label of each text condition, from the report or else from `TEXT_CONDITIONS`; its name if it has none."""
    known = {name: condition.label for name, condition in TEXT_CONDITIONS.items()} | report.get("text_conditions", {})
    return {name: known.get(name, name) for name in report["scores"]}


def eval_results(details: CardDetails, report: Mapping[str, Any]) -> list[EvalResult]:
    """All finite scores with the images' own texts, and the primary metric with each other text condition."""
    first, settings = next(iter(report["scores"])), report["settings"]
    metrics, texts = metrics_of(report), given_texts(report)
    choice = {name: settings[name] for name in CHOICES if settings.get(name) is not None}
    source = source_of(settings)
    is_own = details.dataset.source == source
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=(is_own and details.dataset.id) or source,
            dataset_name=details.dataset.name if is_own else source,
            dataset_config=None if mode == first else f"with {cell(texts[mode])}",
            dataset_split=settings["split"],
            dataset_args=choice or None,
            metric_type=metric,
            metric_name=metrics[metric]["label"],
            metric_value=value,
        )
        for mode, row in report["scores"].items()
        for metric, value in row.items()
        if metric in metrics and (mode == first or metric == PRIMARY) and is_number(value)
        if mode not in report.get("denying_conditions", ())
    ]


def shown(details: CardDetails, report: Mapping[str, Any]) -> dict[str, Any]:
    """The report with its scores formatted for the card."""
    metrics, texts, settings = metrics_of(report), given_texts(report), report["settings"]
    denying = report.get("denying_conditions", ())
    rows = []
    for mode, row in report["scores"].items():
        figures = ["-"] * (len(metrics) + 1)
        if mode not in denying:
            figures = [figure(row[metric]) for metric in metrics] + [figure(report["intervals"][mode].get(PRIMARY))]
        rows.append([texts[mode], *figures])
    options = {name: settings[name] for name in SOURCE_OPTIONS if name in settings and name not in EXPLAINED}
    absent = {mode: (report.get("against_text", {}).get(mode) or {}).get("absence") for mode in denying}
    marked_shares = "{images_marked:.3f} of the images, {marked_pixels:.4f} of their pixels"
    foreground = [ClassScores(**row) for row in (report.get("foreground") or {}).values()][:1]
    classes = {name: ClassScores(**row) for name, row in next(iter((report.get("classes") or {}).values()), {}).items()}
    return {
        **report,
        "failure": "".join(map(failure_text, foreground)),
        "averages": [EMPTY_MASK_RULE, *(line for part in foreground for line in foreground_lines(part))],
        "classes": class_table(classes).markdown() if classes else "",
        "data": data_name(details, settings),
        "loaded_with": options | (settings.get("options") or {}),
        "denied": {cell(texts[mode]): marked_shares.format(**row) if row else "-" for mode, row in absent.items()},
        "table": markdown_table(["the model is given", *metrics, f"95 % of {PRIMARY}"], rows),
        "units": units_text(metrics),
        "primary_name": primary_name(),
    }


def data_name(details: CardDetails, settings: Mapping[str, Any]) -> str:
    """The human-readable name of the evaluated data set."""
    source = source_of(settings)
    if source == UNKNOWN:
        builder = f" (`{settings['builder']}`)" if settings.get("builder") else ""
        return f"A data set passed in Python{builder}, whose origin is not recorded"
    return details.dataset.name if details.dataset.source == source else f"Data set `{source}`"


def figure(value: Any) -> str:
    """A score, or an interval of two, as text; "-" for values that are not finite."""
    ends = value if isinstance(value, (list, tuple)) else [value]
    return " to ".join(f"{end:.3f}" for end in ends) if ends and all(map(is_number, ends)) else "-"


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
