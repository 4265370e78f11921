"""A model's bundle for the Hub (weights, processor, code, recipe, report and card), and its upload."""

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
from ..inference.identity import differing_pixels, weights_digest
from ..inference.loading import load_trained
from ..io.output_dir import claim_output_dir
from ..io.yaml_file import read_yaml
from .model_card import CardDetails, model_card, read_card_details, read_report

# Files of an earlier push, deleted if the new one does not contain them.
STALE = re.compile(
    r"evaluation\.json|recipe\.yaml|model(-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|\w+_tevia\.py"
)
SECRET = re.compile(r"(.*_)?(token|api_key|password)")


@dataclass
class Bundle:
    """All files of a model for the Hub; made by `read_bundle`.

    Data that may reveal patients or the machine is never uploaded: images, per-image rows, splits and folder paths.
    """

    model: TeViAForSegmentation
    processor: TeViAProcessor
    card: ModelCard
    details: CardDetails
    recipe: str
    report: dict[str, Any] | None

    def save(self, folder: str | Path) -> None:
        """Writes the folder, which `from_pretrained` and `pipeline` load with or without this package installed."""
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
    """A trained model with its processor and model card.

    Args:
        model_dir: folder written by a training or an earlier bundle.
        card: `card.yaml` with the fields of `CardDetails`; by default the one in the model folder.
        evaluation: folder written by `EvaluationReport.save` or `tevia evaluate`, or its `evaluation.json`; by default
            the one in the model folder, if any. Without a report the card has no scores.
        name: "org/name", for the card; by default the name of the model folder.

    Raises `ValueError` without weights or card, and for a report on other weights or another image processor.
    """
    model_dir = Path(model_dir)
    model, processor = load_trained(str(model_dir))
    details = read_card_details(card or model_dir / "card.yaml")
    report = report_of(model_dir, evaluation, model, processor)
    recipe = public_recipe(model_dir / "recipe.yaml")
    rendered = model_card(details, report, name or model_dir.resolve().name, recipe, model.config.use_text)
    return Bundle(model, processor, rendered, details, recipe, report)


def write_bundle(
    model_dir: str | Path,
    output_dir: str | Path,
    card: str | Path | None = None,
    evaluation: str | Path | None = None,
    name: str | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Writes the folder for the Hub: a trained model with processor, code, recipe, report and model card.

    Args:
        model_dir: folder written by a training or an earlier bundle.
        output_dir: folder to write to.
        card: `card.yaml` with licences, intended use and limits; by default the one in the model folder.
        evaluation: output folder of `tevia evaluate` with the scores for the card; by default the model folder, if it
            holds any. Without a report the card has no scores.
        name: "org/name", for the card; by default the name of the model folder.
        overwrite: delete an earlier output in `output_dir`.

    Raises the errors of `read_bundle`, and `ValueError` for a folder with other files, which are kept.
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
    """Uploads a model's bundle to `repo_id`, which is created if it is missing, and returns the URL of the commit.

    Report, recipe, weights and code of an earlier push that this one does not contain are deleted there.

    Args:
        model_dir: folder written by a training or an earlier bundle.
        card: `card.yaml` with licences, intended use and limits; by default the one in the model folder.
        evaluation: output folder of `tevia evaluate` with the scores for the card; by default the model folder.
        repo_id: "org/name", or "name" in your own namespace.
        private: True creates a private repository and rejects a public one; `None` uses the default of the Hub.

    Raises the errors of `read_bundle`, `ValueError` for a public repository, and `OSError` with the message of the Hub
    if it rejects the upload or cannot be reached.
    """
    hub = HfApi()
    try:
        name = repo_id if "/" in repo_id else f"{hub.whoami()['name']}/{repo_id}"
        bundle = read_bundle(model_dir, card, evaluation, name)
        hub.whoami()  # its error distinguishes a missing token from an invalid one
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
        raise OSError("No token for the Hub: run `hf auth login` first.") from error
    except HTTPError as error:
        hints = {
            401: "Check the token (`hf auth login`).",
            403: "Check that the token has write access.",
            None: "Try again later.",
        }
        status = getattr(getattr(error, "response", None), "status_code", None)
        raise OSError(f"{hub.endpoint}: {error} {hints.get(status, '')}") from error
    return str(commit)


def report_of(
    model_dir: Path, evaluation: str | Path | None, model: TeViAForSegmentation, processor: TeViAProcessor
) -> dict[str, Any] | None:
    """The evaluation report for the card, without paths in its settings; `None` without a report.

    Raises `ValueError` for a report on other weights or another image processor.
    """
    if evaluation is None and not (model_dir / "evaluation.json").is_file():
        return None
    report = read_report(evaluation or model_dir)
    differing = differing_pixels(report["settings"].get("image_processor"), processor.image_processor)
    mismatches = [f"image_processor ({', '.join(differing)})"] if differing else []
    if report["settings"].get("weights") != weights_digest(model):
        mismatches.insert(0, "weights")
    if mismatches:
        raise ValueError(
            f"The report {evaluation or model_dir} was not measured on the {' and '.join(mismatches)} of {model_dir}: "
            "run `tevia evaluate` on them."
        )
    settings = made_public(report["settings"])
    if isinstance(settings.get("skipped"), list):
        settings["skipped"] = len(settings["skipped"])  # ids and file names may contain patient names
    return {**report, "settings": settings}


def public_recipe(path: Path) -> str:
    """The recipe without secrets and folder paths; "" if there is none."""
    return yaml.safe_dump(made_public(read_yaml(path)), sort_keys=False) if path.is_file() else ""


def made_public(value: Any) -> Any:
    """The value without secrets; paths that reveal a machine are reduced to their last part."""
    if isinstance(value, Mapping):
        return {name: made_public(part) for name, part in value.items() if not SECRET.fullmatch(str(name))}
    if isinstance(value, list):
        return [made_public(part) for part in value]
    return last_part(value) if isinstance(value, str) and reveals_machine(value) else value


def reveals_machine(path: str) -> bool:
    """Whether a path is absolute, home-, environment- or parent-relative, or a URL with credentials."""
    is_absolute = PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute()
    has_private_prefix = path.startswith(("~", "$", "file:")) or ("://" in path and "@" in path)
    return is_absolute or has_private_prefix or ".." in PureWindowsPath(path).parts


def last_part(path: str) -> str:
    """The last part of a path; "data" for a home folder, whose name is that of a user."""
    parts = PureWindowsPath(path).parts  # splits at both kinds of slashes
    is_home = parts[-1].startswith("~") or (len(parts) > 1 and parts[-2].lower() in ("home", "users"))
    return "data" if is_home else parts[-1]
