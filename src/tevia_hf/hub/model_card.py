"""The card of a model: what a person says of it (`card.yaml`), and figures from an evaluation report alone."""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

TEMPLATE = Path(__file__).with_name("model_card_template.md")
TASK = "image-segmentation"  # the nearest that the Hub has a filter for
METRIC_NAMES = {
    "dice": "Dice, mean over images",
    "iou": "IoU, mean over images",
    "dice_pooled": "Dice, all pixels pooled",
    "iou_pooled": "IoU, all pixels pooled",
    "hd95": "Hausdorff distance, 95th percentile",
    "surface_dice": "Surface Dice",
    "accuracy": "Pixel accuracy",
    "lesion_precision": "Precision, whole lesions",
    "lesion_recall": "Recall, whole lesions",
}
SENTENCE_NAMES = {
    "correct": "its own sentence",
    "shuffled": "another image's sentence",
    "none": "no sentence",
    "flipped": "its sentence, sides changed",
    "contradictory": "a sentence that says the opposite",
    "no text branch": "no text branch",
}


@dataclass
class DataDetails:
    """What the model learnt from: its name, its licence in words, where it lies, and its id if it is on the Hub."""

    name: str
    license: str
    url: str | None = None
    id: str | None = None


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
        license: of the weights, as the Hub abbreviates it, such as "apache-2.0" or "other".
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


def read_card_details(path: str | Path) -> CardDetails:
    """A `card.yaml`; `ValueError` where it is missing or has other fields than `CardDetails`."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"No {path}: a card says what nobody can compute, such as licences and limits. "
            "Write one after hub_configs/tevia-qata/card.yaml and name it."
        )
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {error}") from error
    values = checked(CardDetails, values, str(path))
    encoders = [EncoderDetails(**checked(EncoderDetails, row, f"{path}: encoders")) for row in values["encoders"]]
    dataset = DataDetails(**checked(DataDetails, values["dataset"], f"{path}: dataset"))
    return CardDetails(**{**values, "encoders": encoders, "dataset": dataset})


def checked(kind: type, values: Any, where: str) -> dict[str, Any]:
    """The values, if they are the fields of a dataclass, each text or list as that says."""
    fields = {part.name: part for part in dataclasses.fields(kind)}
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} must hold `name: value` lines with {', '.join(fields)}.")
    needed = {name for name, part in fields.items() if part.default is part.default_factory is dataclasses.MISSING}
    missing, unknown = sorted(needed - set(values)), sorted(map(str, set(values) - set(fields)))
    if missing or unknown:
        raise ValueError(f"{where} lacks {missing or 'nothing'}; not known are {unknown or 'none'}: mend these fields.")
    for name, value in values.items():
        wanted = (list,) if str(fields[name].type).startswith("list") else (str, Mapping, type(None))
        if not isinstance(value, wanted) or (name in needed and not value):
            raise ValueError(f"{where}: `{name}` is {value!r}, expected a {'list' if list in wanted else 'text'}.")
    return dict(values)


def read_report(path: str | Path) -> dict[str, Any]:
    """An `evaluation.json`, or that of a folder; `ValueError` where `tevia evaluate` did not write it."""
    path = Path(path)
    path = path / "evaluation.json" if path.is_dir() else path
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        if {"dataset", "split", "images", "threshold", "hd95_unit"} <= set(report["settings"]) and report["scores"]:
            return report
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise ValueError(f"{path} is no report of `tevia evaluate`: run that, and give its output folder.")


def model_card(details: CardDetails, report: Mapping[str, Any] | None, name: str, recipe: str = "") -> ModelCard:
    """The card of a model, for people and for the Hub's own readers.

    Args:
        details: what a person says of it.
        report: of `read_report`; without one the card shows no figure.
        name: of the model on the Hub, "org/name", or of its folder.
        recipe: the YAML it was trained by, to be shown.
    """
    data = ModelCardData(
        language="en",
        license=details.license,
        library_name="transformers",
        pipeline_tag=TASK,
        base_model=[encoder.name for encoder in details.encoders if "/" in encoder.name] or None,
        datasets=[details.dataset.id] if details.dataset.id else None,
        tags=list(dict.fromkeys(["tevia", "medical", "text-guided-image-segmentation", *details.tags])),
        metrics=list(METRIC_NAMES)[:4] if report else None,
        model_name=name,
        eval_results=eval_results(details, report) if report else None,
    )
    return ModelCard.from_template(
        data, template_path=str(TEMPLATE), details=details, report=report and shown(report), name=name, recipe=recipe
    )


def eval_results(details: CardDetails, report: Mapping[str, Any]) -> list[EvalResult]:
    """All figures with the model's own sentences, and the Dice with each other kind; those that are numbers."""
    first = next(iter(report["scores"]))
    return [
        EvalResult(
            task_type=TASK,
            dataset_type=details.dataset.id or report["settings"]["dataset"],
            dataset_name=details.dataset.name,
            dataset_config=None if mode == first else f"with {SENTENCE_NAMES[mode]}",
            dataset_split=report["settings"]["split"],
            metric_type=metric,
            metric_name=METRIC_NAMES[metric],
            metric_value=value,
        )
        for mode, row in report["scores"].items()
        for metric, value in row.items()
        if metric in METRIC_NAMES and (mode == first or metric == "dice") and is_number(value)
    ]


def shown(report: Mapping[str, Any]) -> dict[str, Any]:
    """The report's figures as the card prints them."""
    metrics = [metric for metric in METRIC_NAMES if metric in next(iter(report["scores"].values()))]
    rows = {
        SENTENCE_NAMES[mode]: [f"{row[metric]:.3f}" if is_number(row[metric]) else "-" for metric in metrics]
        for mode, row in report["scores"].items()
    }
    intervals = {
        SENTENCE_NAMES[mode]: "-" if row.get("dice") is None else f"{row['dice'][0]:.3f} to {row['dice'][1]:.3f}"
        for mode, row in report["intervals"].items()
    }
    return {**report, "rows": rows, "metrics": metrics, "dice_intervals": intervals}


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
