"""A model's folder as the Hub shows it: weights, processor, code, recipe, report and card; and its upload."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HTTPError, LocalTokenNotFoundError

from ..auto import TeViAForSegmentation, TeViAProcessor
from ..inference.loading import differing_pixels, load_trained, weights_digest
from ..io.output_dir import claim_output_dir
from ..io.yaml_file import read_yaml
from .model_card import CardDetails, model_card, read_card_details, read_report

# What an earlier push wrote and a new one need not hold.
STALE = re.compile(
    r"evaluation\.json|recipe\.yaml|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|\w+_tevia\.py"
)
SECRET = re.compile(r"(.*_)?(token|api_key|password)")


@dataclass
class Bundle:
    """All that the Hub is to hold of a model; `read_bundle` makes one.

    What may tell of patients or of the machine stays out: pictures, rows of single images, splits, paths of folders.
    """

    model: TeViAForSegmentation
    processor: TeViAProcessor
    card: ModelCard
    details: CardDetails
    recipe: str
    report: dict[str, Any] | None

    def save(self, folder: str | Path) -> None:
        """Writes the folder, from which `from_pretrained` and `pipeline` load with or without this package."""
        folder = Path(folder)
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)
        (folder / "card.yaml").write_text(self.details.yaml(), encoding="utf-8")
        if self.recipe:
            (folder / "recipe.yaml").write_text(self.recipe, encoding="utf-8")
        if self.report:
            (folder / "evaluation.json").write_text(json.dumps(self.report, indent=2) + "\n", encoding="utf-8")
        self.card.save(folder / "README.md")


def read_bundle(
    model_dir: str | Path, card: str | Path | None = None, evaluation: str | Path | None = None, name: str | None = None
) -> Bundle:
    """A trained model with its processor, and the card that goes with it.

    Args:
        model_dir: as a training or an earlier bundle wrote it.
        card: `card.yaml` with the fields of `CardDetails`; by default the one in the model's folder.
        evaluation: folder that `EvaluationReport.save` or `tevia evaluate` wrote, or its `evaluation.json`; by default
            what lies in the model's folder, if anything. Without one the card shows no figure.
        name: "org/name", for the card; by default the model folder's own name.

    Raises `ValueError` without weights or a card, and for a report on other weights or other pixels than these.
    """
    model_dir = Path(model_dir)
    model, processor = load_trained(str(model_dir))
    details = read_card_details(card or model_dir / "card.yaml")
    report = report_of(model_dir, evaluation, model, processor)
    recipe = public_recipe(model_dir / "recipe.yaml")
    shown = model_card(details, report, name or model_dir.resolve().name, recipe, model.config.use_text)
    return Bundle(model, processor, shown, details, recipe, report)


def write_bundle(
    model_dir: str | Path,
    output_dir: str | Path,
    card: str | Path | None = None,
    evaluation: str | Path | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> Bundle:
    """The bundle of `read_bundle`, written to `output_dir`; `overwrite` deletes an earlier output there.

    Raises `ValueError` for what `read_bundle` refuses and for a folder that holds other files, which stay.
    """
    bundle = read_bundle(model_dir, card, evaluation, name)
    claim_output_dir(output_dir, overwrite=overwrite, inputs=[model_dir, card, evaluation])
    bundle.save(output_dir)
    return bundle


def push_model(
    model_dir: str | Path,
    repo_id: str,
    card: str | Path | None = None,
    evaluation: str | Path | None = None,
    private: bool | None = None,
    commit_message: str = "Upload a TeViA model",
) -> str:
    """Uploads a model's bundle to `repo_id`, made if it is missing; the commit's address.

    Report, recipe, weights and code of an earlier push that this one does not hold are deleted there.

    Args:
        model_dir, card, evaluation: as `read_bundle` takes them.
        repo_id: "org/name", or "name" for one's own.
        private: True makes the repository private, and refuses one that is public; `None` leaves it to the Hub.

    Raises `ValueError` for what `read_bundle` refuses and for a public repository; `OSError` with the Hub's own words
    where it refuses or cannot be reached.
    """
    hub = HfApi()
    try:
        name = repo_id if "/" in repo_id else f"{hub.whoami()['name']}/{repo_id}"
        bundle = read_bundle(model_dir, card, evaluation, name)
        hub.whoami()  # whose error tells a missing token from a wrong one
        hub.create_repo(name, private=private, exist_ok=True)
        if private and not hub.model_info(name).private:
            raise ValueError(f"{name} exists and is public: make it private on the Hub, or name another repository.")
        stale = [file for file in hub.list_repo_files(name) if STALE.fullmatch(file)]
        with TemporaryDirectory() as folder:
            bundle.save(folder)
            commit = hub.upload_folder(
                repo_id=name, folder_path=folder, commit_message=commit_message, delete_patterns=stale
            )
    except LocalTokenNotFoundError as error:
        raise OSError("No token for the Hub: type `hf auth login` first.") from error
    except HTTPError as error:
        hints = {
            401: "Is the token right (`hf auth login`)?",
            403: "May the token write there?",
            None: "Try again later.",
        }
        status = getattr(getattr(error, "response", None), "status_code", None)
        raise OSError(f"{hub.endpoint}: {error} {hints.get(status, '')}") from error
    return str(commit)


def report_of(
    model_dir: Path, evaluation: str | Path | None, model: TeViAForSegmentation, processor: TeViAProcessor
) -> dict[str, Any] | None:
    """The report to show, without the paths in its settings; `ValueError` where it was measured on other weights, or on
    other pixels than the processor makes of the same images."""
    if evaluation is None and not (model_dir / "evaluation.json").is_file():
        return None
    report = read_report(evaluation or model_dir)
    differing = differing_pixels(report["settings"].get("image_processor"), processor.image_processor)
    other = [f"image_processor ({', '.join(differing)})"] if differing else []
    if report["settings"].get("weights") != weights_digest(model):
        other.insert(0, "weights")
    if other:
        raise ValueError(
            f"The report {evaluation or model_dir} was not measured on the {' and '.join(other)} of {model_dir}: "
            "run `tevia evaluate` on them."
        )
    settings = made_public(report["settings"])
    if isinstance(settings.get("skipped"), list):
        settings["skipped"] = len(settings["skipped"])  # their ids and files may name patients
    return {**report, "settings": settings}


def public_recipe(path: Path) -> str:
    """The recipe's fields, without secrets and without the folders that files lay in; "" where there is none."""
    return yaml.safe_dump(made_public(read_yaml(path)), sort_keys=False) if path.is_file() else ""


def made_public(value: Any) -> Any:
    """The value without secrets, and of each path that tells of a machine the last part only."""
    if isinstance(value, Mapping):
        return {name: made_public(part) for name, part in value.items() if not SECRET.fullmatch(str(name))}
    if isinstance(value, list):
        return [made_public(part) for part in value]
    return last_part(value) if isinstance(value, str) and is_of_a_machine(value) else value


def is_of_a_machine(path: str) -> bool:
    """From the root, a drive, a home or a variable, by way of a folder above, or with an address's password."""
    is_absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
    is_told = path.startswith(("~", "$", "file:")) or ("://" in path and "@" in path)
    return is_absolute or is_told or ".." in PureWindowsPath(path).parts


def last_part(path: str) -> str:
    """The name at the end; "data" of a home itself, whose name is its owner's."""
    parts = PureWindowsPath(path).parts  # which knows both kinds of slashes
    is_home = parts[-1].startswith("~") or (len(parts) > 1 and parts[-2].lower() in ("home", "users"))
    return "data" if is_home else parts[-1]
