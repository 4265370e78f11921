"""A model's folder as the Hub shows it: weights, processor, code, recipe, report and card; and its upload."""

import json
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from huggingface_hub import HfApi, ModelCard

from ..auto import TeViAForSegmentation, TeViAProcessor
from ..training.arguments import OF_ONE_RUN
from ..training.prediction import load_trained, weights_digest
from .model_card import model_card, read_card_details, read_report


@dataclass
class Bundle:
    """All that the Hub is to hold of a model; `read_bundle` makes one.

    What may tell of patients or of the machine stays out: pictures, rows of single images, splits, paths of folders.
    """

    model: TeViAForSegmentation
    processor: TeViAProcessor
    card: ModelCard
    recipe: str
    report: dict[str, Any] | None

    def save(self, folder: str | Path) -> None:
        """Writes the folder, from which `from_pretrained` and `pipeline` load with or without this package."""
        folder = Path(folder)
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        if self.recipe:
            (folder / "recipe.yaml").write_text(self.recipe, encoding="utf-8")
        if self.report:
            (folder / "evaluation.json").write_text(json.dumps(self.report, indent=2) + "\n", encoding="utf-8")
        self.card.save(folder / "README.md")


def read_bundle(
    model_dir: str | Path,
    card: str | Path | None = None,
    evaluation: str | Path | None = None,
    name: str | None = None,
) -> Bundle:
    """A trained model with its processor, and the card that goes with it.

    Args:
        card: `card.yaml` with the fields of `CardDetails`; by default the one in the model's folder.
        evaluation: output folder of `tevia evaluate`, or its `evaluation.json`; by default what lies in the model's
            folder, if anything. Without one the card shows no figure.
        name: "org/name", for the card; by default the model folder's own name.

    Raises `ValueError` without a card, and for a report on other weights than these.
    """
    model_dir = Path(model_dir)
    if weights_digest(model_dir) is None:
        raise ValueError(f"{model_dir} holds no weights: give the folder that a trained model was saved to.")
    details = read_card_details(card or model_dir / "card.yaml")
    report = report_of(model_dir, evaluation)
    recipe = public_recipe(model_dir / "recipe.yaml")
    shown = model_card(details, report, name or model_dir.resolve().name, recipe)
    return Bundle(*load_trained(str(model_dir)), shown, recipe, report)


def push_model(
    model_dir: str | Path,
    repo_id: str,
    card: str | Path | None = None,
    evaluation: str | Path | None = None,
    private: bool | None = None,
    commit_message: str = "Upload a TeViA model",
) -> str:
    """Uploads a model's bundle to `repo_id`, made if it is missing; the commit's address.

    Args:
        model_dir, card, evaluation: as `read_bundle` takes them.
        private: of a repository that is made now; `None` leaves it to the organisation.

    Raises `OSError` with the Hub's own words where it refuses.
    """
    bundle, hub = read_bundle(model_dir, card, evaluation, repo_id), HfApi()
    repo = hub.create_repo(repo_id, private=private, exist_ok=True).repo_id
    with TemporaryDirectory() as folder:
        bundle.save(folder)
        return str(hub.upload_folder(repo_id=repo, folder_path=folder, commit_message=commit_message))


def report_of(model_dir: Path, evaluation: str | Path | None) -> dict[str, Any] | None:
    """The report to show, without the paths in its settings; `ValueError` where it was measured on other weights."""
    if evaluation is None and not (model_dir / "evaluation.json").is_file():
        return None
    report = read_report(evaluation or model_dir)
    measured, held = report["settings"].get("weights"), weights_digest(model_dir)
    if measured != held:
        raise ValueError(
            f"The report {evaluation or model_dir} was not measured on the weights of {model_dir}: "
            "run `tevia evaluate` on them."
        )
    return {**report, "settings": without_paths(report["settings"])}


def public_recipe(path: Path) -> str:
    """The recipe, without tokens and without the folders that files lay in; "" where there is none."""
    if not path.is_file():
        return ""
    text = path.read_text(encoding="utf-8")
    fields = yaml.safe_load(text)
    public = without_paths({name: value for name, value in fields.items() if name not in OF_ONE_RUN})
    return text if public == fields else yaml.safe_dump(public, sort_keys=False)


def without_paths(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields with the last part of each absolute path only: the rest tells of a machine and its users."""
    return {
        name: Path(value).name if isinstance(value, str) and Path(value).expanduser().is_absolute() else value
        for name, value in fields.items()
    }
