"""The card of a model: what a person says of it (`card.yaml`), and figures from an evaluation report alone."""

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
from ..evaluation.text_conditions import TEXT_CONDITIONS
from ..io.markdown import cell, markdown_table
from ..io.yaml_file import read_yaml
from ..metrics import METRICS, PRIMARY, primary_name, units_text

TEMPLATE = Path(__file__).with_name("model_card_template.md")
TASK = "image-segmentation"  # the nearest that the Hub has a filter for
# Other examples of a split.
CHOICES = (*SOURCE_OPTIONS, "max_samples", "held_out", "options")
EXPLAINED = ("text_table", "group_split", "split_seed")  # by a text of their own in the template
SETTINGS = {"dataset", "split", "images", "threshold", "hd95_unit"}  # of every report


@dataclass
class DataDetails:
    """What the model learnt from. Figures on a data set of another `source` go by that one's name."""

    name: str  # for people, in words; so is `license`
    license: str
    url: str | None = None  # where it lies
    id: str | None = None  # its name on the Hub
    source: str | None = None  # as `load_segmentation_dataset` knows it; of one's own (`folder`) the folder's name


@dataclass
class EncoderDetails:
    """A half of the model: its name (on the Hub, if it has one), its role and its licence."""

    name: str
    role: str
    license: str


@dataclass
class CardDetails:
    """What only a person can say of a model; the fields of `card.yaml`.

    Args:
        license: of the weights, as the Hub abbreviates it, such as "apache-2.0"; with "other" a `license_name`, and a
            `license_link` where the Hub shall show one.
        example: a sentence as the model knows them.
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
            raise ValueError(
                f"`license` is {self.license!r}: abbreviate it as the Hub does, e.g. apache-2.0, or other."
            )
        if (self.license == "other") != bool(self.license_name):
            raise ValueError("`license_name` goes with `license: other`, and that with a `license_name`.")

    def yaml(self) -> str:
        """The content of a `card.yaml` with these details."""
        given = dataclasses.asdict(self, dict_factory=lambda fields: {k: v for k, v in fields if v not in (None, [])})
        return yaml.safe_dump(given, sort_keys=False, allow_unicode=True)


def read_card_details(path: str | Path) -> CardDetails:
    """A `card.yaml`; `ValueError` where it is missing or has other fields than `CardDetails`."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"No {path}: a card says what nobody can compute, such as licences and limits. Write one with the fields "
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
    """The values, if they are the fields of a dataclass and of their types; dataclasses in it are not entered."""
    fields = {part.name: part for part in dataclasses.fields(kind)}
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must hold `name: value` lines with {', '.join(fields)}.")
    needed = {name for name, part in fields.items() if part.default is part.default_factory is dataclasses.MISSING}
    missing, unknown = sorted(needed - set(values)), sorted(map(str, set(values) - set(fields)))
    if missing or unknown:
        raise ValueError(f"{where} lacks {missing or 'nothing'}; not known are {unknown or 'none'}: mend these fields.")
    for name, value in values.items():
        if wanted := fault_of(value, fields[name].type, name in needed):
            raise ValueError(f"{where}: `{name}` is {value!r}, expected {wanted}.")
    return dict(values)


def fault_of(value: Any, kind: Any, is_needed: bool) -> str | None:
    """What a value should have been; `None` where it is that."""
    is_list = isinstance(value, list) and bool(value or not is_needed)
    if kind in (str, str | None):
        is_right = is_text(value) or (value is None and kind is not str)
        wanted = "a text (in quotes, where it holds a colon)"
    elif kind == list[str]:
        is_right, wanted = is_list and all(map(is_text, value)), "a list of texts (in quotes, where they hold a colon)"
    else:
        is_right, wanted = is_list or get_origin(kind) is not list, "a list"
    return None if is_right else wanted


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def read_report(path: str | Path) -> dict[str, Any]:
    """An `evaluation.json`, or that of a folder; `ValueError` where `tevia evaluate` did not write it."""
    path = Path(path)
    path = path / "evaluation.json" if path.is_dir() else path
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        rows, known = report["scores"], set(report["settings"])
        has_one_shape = len({tuple(row) for row in rows.values()}) == 1  # the same metrics in each
        if has_one_shape and set(report["intervals"]) == set(rows) and known >= SETTINGS:
            return report
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise ValueError(f"{path} is no report of `tevia evaluate`: run that, and give its output folder.")


def model_card(
    details: CardDetails, report: Mapping[str, Any] | None, name: str, recipe: str = "", uses_text: bool = True
) -> ModelCard:
    """The card of a model, called "org/name" or as its folder, for people and for the Hub's own readers.

    It shows the report, as of `read_report`, and the YAML that the model was trained by, where there are any.
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
    """The data set of a report by its registered name, one's own by its folder's."""
    folder = Path(settings.get("data_dir") or "").name
    return folder if settings["dataset"] == "folder" and folder else settings["dataset"]


def metrics_of(report: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What must be known of each metric that the card shows: as the report says, else as `METRICS` does."""
    known = {key: metric.about(report["settings"]["hd95_unit"]) for key, metric in METRICS.items()}
    known |= report.get("metrics", {})
    measured = next(iter(report["scores"].values()))
    return {key: about for key, about in known.items() if about["on_card"] and key in measured}


def given_texts(report: Mapping[str, Any]) -> dict[str, str]:
    """What the model was given with each text condition, likewise; a condition nobody describes goes by its name."""
    known = {name: condition.label for name, condition in TEXT_CONDITIONS.items()} | report.get("text_conditions", {})
    return {name: known.get(name, name) for name in report["scores"]}


def eval_results(details: CardDetails, report: Mapping[str, Any]) -> list[EvalResult]:
    """All figures with the images' own texts, and the primary one with each other condition; those that are numbers."""
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
    """The report, with its figures as the card prints them."""
    metrics, texts, settings = metrics_of(report), given_texts(report), report["settings"]
    denying = report.get("denying_conditions", ())
    rows = []
    for mode, row in report["scores"].items():
        figures = [figure(row[metric]) for metric in metrics] + [figure(report["intervals"][mode].get(PRIMARY))]
        rows.append([texts[mode], *(["-"] * len(figures) if mode in denying else figures)])
    options = {name: settings[name] for name in SOURCE_OPTIONS if name in settings and name not in EXPLAINED}
    absent = {mode: (report.get("against_text", {}).get(mode) or {}).get("absence") for mode in denying}
    marked = "{images_marked:.3f} of the images, {marked_pixels:.4f} of their pixels"
    return {
        **report,
        "data": data_name(details, settings),
        "loaded_with": options | (settings.get("options") or {}),
        "denied": {cell(texts[mode]): marked.format(**seen) if seen else "-" for mode, seen in absent.items()},
        "table": markdown_table(["the model is given", *metrics, f"95 % of {PRIMARY}"], rows),
        "units": units_text(metrics),
        "primary_name": primary_name(),
    }


def data_name(details: CardDetails, settings: Mapping[str, Any]) -> str:
    """The data set of the figures, for people."""
    source = source_of(settings)
    if source == UNKNOWN:
        builder = f" (`{settings['builder']}`)" if settings.get("builder") else ""
        return f"A data set handed over in Python{builder}, whose origin is not recorded"
    return details.dataset.name if details.dataset.source == source else f"Data set `{source}`"


def figure(value: Any) -> str:
    """A score, or an interval of two; "-" for what is no number."""
    ends = value if isinstance(value, (list, tuple)) else [value]
    return " to ".join(f"{end:.3f}" for end in ends) if ends and all(map(is_number, ends)) else "-"


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
