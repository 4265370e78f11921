"""A model's folder as the Hub shows it: weights, processor, code, recipe, report and card; and its upload."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError

from ..auto import TeViAForSegmentation, TeViAProcessor
from ..training.arguments import OF_ONE_RUN, read_yaml
from ..training.prediction import load_trained, weights_digest
from .model_card import model_card, read_card_details, read_report

# What an earlier push may have left that a new one need not hold: its own files are written over.
STALE = ("evaluation.json", "recipe.yaml", "model*.safetensors", "model.safetensors.index.json", "*_tevia.py")


@dataclass
class Bundle:
    """All that the Hub is to hold of a model; `read_bundle` makes one.

    What may tell of patients or of the machine stays out: pictures, rows of single images, splits, paths of folders.
    """

    model: TeViAForSegmentation
    processor: TeViAProcessor
    card: ModelCard
    details: str
    recipe: str
    report: dict[str, Any] | None

    def save(self, folder: str | Path) -> None:
        """Writes the folder, from which `from_pretrained` and `pipeline` load with or without this package."""
        folder = Path(folder)
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        (folder / "card.yaml").write_text(self.details, encoding="utf-8")
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
        model_dir: as a training or an earlier bundle wrote it.
        card: `card.yaml` with the fields of `CardDetails`; by default the one in the model's folder.
        evaluation: output folder of `tevia evaluate`, or its `evaluation.json`; by default what lies in the model's
            folder, if anything. Without one the card shows no figure.
        name: "org/name", for the card; by default the model folder's own name.

    Raises `ValueError` without a card, and for a report on other weights than these.
    """
    model_dir = Path(model_dir)
    if weights_digest(model_dir) is None:
        raise ValueError(f"{model_dir} holds no weights: give the folder that a trained model was saved to.")
    card = Path(card or model_dir / "card.yaml")
    details, report = read_card_details(card), report_of(model_dir, evaluation)
    recipe = public_recipe(model_dir / "recipe.yaml")
    model, processor = load_trained(str(model_dir))
    shown = model_card(details, report, name or model_dir.resolve().name, recipe, model.config.use_text)
    return Bundle(model, processor, shown, card.read_text(encoding="utf-8"), recipe, report)


def push_model(
    model_dir: str | Path,
    repo_id: str,
    card: str | Path | None = None,
    evaluation: str | Path | None = None,
    private: bool | None = None,
    commit_message: str = "Upload a TeViA model",
) -> str:
    """Uploads a model's bundle to `repo_id`, made if it is missing; the commit's address.

    What an earlier push wrote and this one does not hold is deleted there.

    Args:
        model_dir, card, evaluation: as `read_bundle` takes them.
        repo_id: "org/name", or "name" for one's own.
        private: True makes the repository private, and refuses one that is public; `None` leaves it to the Hub.

    Raises `ValueError` for what `read_bundle` refuses and for a public repository; `OSError` with the Hub's own words
    where it refuses or cannot be reached.
    """
    hub = HfApi()
    try:
        owner = hub.whoami()["name"]
        name = repo_id if "/" in repo_id else f"{owner}/{repo_id}"
        bundle = read_bundle(model_dir, card, evaluation, name)
        hub.create_repo(name, private=private, exist_ok=True)
        if private and not hub.model_info(name).private:
            raise ValueError(f"{name} exists and is public: make it private on the Hub, or name another repository.")
        with TemporaryDirectory() as folder:
            bundle.save(folder)
            commit = hub.upload_folder(
                repo_id=name, folder_path=folder, commit_message=commit_message, delete_patterns=list(STALE)
            )
    except LocalTokenNotFoundError as error:
        raise OSError("No token for the Hub: type `hf auth login` first.") from error
    except HTTPError as error:
        is_token = getattr(getattr(error, "response", None), "status_code", None) in (401, 403)
        hint = "Is the token right, and may it write there (`hf auth login`)?" if is_token else "Try again later."
        raise OSError(f"{hub.endpoint}: {error} {hint}") from error
    return str(commit)


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
    fields = read_yaml(path)
    public = without_paths({name: value for name, value in fields.items() if name not in OF_ONE_RUN})
    return path.read_text(encoding="utf-8") if public == fields else yaml.safe_dump(public, sort_keys=False)


def without_paths(value: Any) -> Any:
    """The value with the last part only of each path from the root, a home or a drive: the rest tells of a machine."""
    if isinstance(value, Mapping):
        return {name: without_paths(part) for name, part in value.items()}
    if isinstance(value, list):
        return [without_paths(part) for part in value]
    if isinstance(value, str) and is_of_a_machine(value):
        return PureWindowsPath(value).name  # which knows both kinds of slashes
    return value


def is_of_a_machine(path: str) -> bool:
    is_absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
    return is_absolute or path.startswith(("~", "..", "file:"))
