"""Texts generated from the masks of a data set, and the agreement of its own texts with its masks."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from datasets.utils import tqdm

from tevia_hf.data.classes import named_classes
from tevia_hf.data.decoding import decode_labels
from tevia_hf.data.example import Example, example_id
from tevia_hf.data.listing import Listing
from tevia_hf.data.registry import SOURCES, list_examples, names_on_disk
from tevia_hf.data.survey import white_is_lesion_in
from tevia_hf.data.tables import COLUMNS, LANGUAGE_SUFFIX
from tevia_hf.labels_tevia import is_lesion
from tevia_hf.option_checks_tevia import check_choice
from tevia_hf.prompts import LANGUAGES, REGIONS, ReportLanguage, as_record
from tevia_hf.prompts.templates import FINDING, FINDING_PATTERN

Claims = tuple[dict[str, str] | None, dict[str, str]]  # fields stated by a text, and fields measured on its mask

LEAKAGE_WARNING = (
    "These texts were generated from the reference masks, so they carry part of the answer: a model that reads them "
    "has information that does not exist before the image has been read. Report scores with them beside scores of the "
    "same model with another image's text and without text (`tevia evaluate`)."
)


@dataclass
class GeneratedPrompts:
    """Generated texts and what to know about them.

    Args:
        rows: (file name of the mask, text), as in the published tables.
        sides: whether "left" is the left of the image or of the patient.
        agreement: agreement of the set's own texts with its masks, by name; empty if it has no texts.
        problems: masks that could not be read, and texts that do not match their mask.
        language: of the texts.
    """

    rows: list[tuple[str, str]]
    sides: str
    agreement: dict[str, float]
    problems: list[str]
    language: ReportLanguage

    def about(self) -> str:
        """Number of texts, meaning of "left", leakage warning and agreement, one per line."""
        lines = [f"{len(self.rows)} texts, {len({text for _, text in self.rows})} distinct.", self.sides]
        lines.append(LEAKAGE_WARNING)
        if self.agreement:
            shares = ", ".join(f"{name} {value:.4f}" for name, value in self.agreement.items())
            lines.append(f"Agreement of the data set's own texts with its masks: {shares}.")
        return "\n".join(lines)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Writes the table (`Image`, `Description`) and, beside it, its description as `NAME.about.txt`.

        The language is written to `NAME.language.json`, which is read when the table is used as `text_table`.

        Raises `ValueError` if the table exists and `overwrite` is not set.
        """
        path = Path(path)
        if path.suffix != ".csv":
            raise ValueError(f"{path}: texts are written as CSV. Name it '{path.stem}.csv'.")
        if path.exists() and not overwrite:
            raise ValueError(f"{path} exists. Set --overwrite to replace it, or name another file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(self.rows, columns=list(COLUMNS)).to_csv(path, index=False)
        path.with_suffix(".about.txt").write_text(self.about() + "\n", encoding="utf-8")
        path.with_suffix(LANGUAGE_SUFFIX).write_text(json.dumps(as_record(self.language)) + "\n", encoding="utf-8")
        return path


def choose_language(dataset: str, name: str | None, template: str | None, empty_template: str) -> ReportLanguage:
    """The language of the given template, else of the given name, else of the data set.

    Raises `ValueError` for an unknown name, or if neither is given and the data set has no language.
    """
    check_choice("dataset", dataset, names_on_disk())
    if template is not None:
        return ReportLanguage(template, empty_template)
    if name is not None:
        check_choice("language", name, LANGUAGES)
        return LANGUAGES[name]
    if (language := SOURCES[dataset].language) is None:
        options = f"--language {'|'.join(LANGUAGES)}, or --template"
        raise ValueError(f"'{dataset}' has no language of its own. Give {options}.")
    return language


def generate_prompts(
    listing: Listing,
    language: ReportLanguage,
    finding: str | None = None,
    patient_sides: bool = False,
    num_labels: int | None = None,
    white_is_lesion: bool | None = None,
    cache: bool = True,
    class_names: Sequence[str] | None = None,
) -> GeneratedPrompts:
    """A text for each mask, read back and compared with its mask.

    Args:
        listing: as returned by `list_examples`.
        finding: the class, for examples whose class neither the mask nor the data set gives.
        patient_sides: "left" is the patient's left (the patient faces the viewer).
        num_labels: of the masks; None accepts all labels.
        white_is_lesion: what 255 means in the masks; by default inferred from all of them.
        cache: while inferring it, reuse earlier results for unchanged files.
        class_names: of labels 1, 2, ...; several are the findings of the masks that hold them.
    """
    classes: dict[int, str] = {}
    if class_names is not None:
        classes, num_labels = named_classes(class_names, num_labels)
        check_findings(classes)
    owner = "the patient" if patient_sides else "the image"
    generated = GeneratedPrompts([], f'"Left" is the left of {owner}.', {}, [], language)
    compared: list[Claims] = []
    examples = [example for example in listing.examples if example.masks]
    white = white_is_lesion_in((example.row() for example in examples), num_labels, white_is_lesion, "skip", cache)
    for example in tqdm(examples, desc="Reading masks"):
        try:
            labels = decode_labels(example.row(), num_labels, white)
        except ValueError as error:
            generated.problems.append(str(error))
            continue
        observed = language.observe(is_lesion(labels), patient_sides)
        own = classes_in(labels, classes) if len(classes) > 1 else example.finding
        text = language.write(observed | {FINDING: own or finding or ""})
        if (errors := language.disagreements(text, observed)) != {}:
            fault = "cannot be read back" if errors is None else f"does not match its mask: {errors}"
            generated.problems.append(f"'{example.id}': '{text}' {fault}")
        generated.rows.append((_mask_name(example), text))
        if example.text:
            compared.append((language.read(example.text), observed))
    generated.problems += [f"row '{example.id}' has no mask" for example in listing.examples if not example.masks]
    generated.problems += [problem.text for problem in listing.problems if not problem.concerns_texts]
    if len(classes) > 1 and not any(name in text for _, text in generated.rows for name in classes.values()):
        generated.problems.append("no text names a class, as the wording has no {finding}: give a `template` with it")
    generated.agreement = _agreement(compared)
    return generated


def check_findings(classes: Mapping[int, str]) -> None:
    """Raises `ValueError` for names of several classes that cannot be parsed from a text."""
    unknown = [name for name in classes.values() if not re.fullmatch(FINDING_PATTERN, name)]
    if len(classes) > 1 and unknown:
        raise ValueError(f"Texts cannot name the classes {unknown}: give names of letters, digits and hyphens.")


def classes_in(labels: np.ndarray, classes: Mapping[int, str]) -> str:
    """The names of the classes in a label map, the largest first: "benign", "benign and malignant", "" for none."""
    areas = {name: int((labels == label).sum()) for label, name in classes.items()}
    return " and ".join(sorted((name for name, area in areas.items() if area), key=lambda name: -areas[name]))


def write_prompts(
    dataset: str,
    data_dir: str | Path,
    output: str | Path = "prompts.csv",
    *,
    language: str | None = None,
    template: str | None = None,
    empty_template: str = "No lesion.",
    finding: str | None = None,
    patient_sides: bool = False,
    num_labels: int | None = None,
    white_is_lesion: bool | None = None,
    cache: bool = True,
    class_names: Sequence[str] | None = None,
    overwrite: bool = False,
) -> GeneratedPrompts:
    """Generates texts from the masks of a data set and writes them to a table, as `tevia prompts` does.

    Args:
        dataset: name of a data set on disk.
        data_dir: its folder.
        output: the CSV to write; `overwrite` replaces an existing one.
        language: report language of the texts, a name of `LANGUAGES`; by default that of the data set.
        template: your own template instead, such as "{Count_word} {size} lesion{s} at the {place}.".
        empty_template: text of an empty mask, with `template`.
        finding: the class, for examples whose class neither the mask nor the data set gives.
        patient_sides: "left" is the patient's left (the patient faces the viewer).
        num_labels: number of labels of the masks; None accepts all labels.
        white_is_lesion: what 255 means in the masks; by default inferred from all of them.
        cache: while inferring it, reuse earlier results for unchanged files.
        class_names: of labels 1, 2, ...; several are the findings of the masks that hold them.
    """
    chosen = choose_language(dataset, language, template, empty_template)
    listing = list_examples(dataset, data_dir)
    generated = generate_prompts(
        listing, chosen, finding, patient_sides, num_labels, white_is_lesion, cache, class_names
    )
    generated.save(output, overwrite=overwrite)
    return generated


def _agreement(compared: Sequence[Claims]) -> dict[str, float]:
    """Share of texts that agree with their mask, by field; a text of unknown form agrees in no field.

    For lungs also the share that names the same `sides`, and the mean overlap (intersection over union) of the regions.
    """
    if not compared:
        return {}
    names = sorted({name for _, observed in compared for name in observed} - {"s"})
    shares = {"in the language": np.mean([stated is not None for stated, _ in compared])}
    for name in names:
        shares[name] = np.mean(
            [stated is not None and stated.get(name) == observed.get(name) for stated, observed in compared]
        )
    if "lungs" in names:
        pairs = [(named_regions(stated), named_regions(observed)) for stated, observed in compared]
        shares["sides"] = np.mean([sides(stated) == sides(observed) != set() for stated, observed in pairs])
        shares["overlap of regions"] = np.mean(
            [len(stated & observed) / len(stated | observed or {""}) for stated, observed in pairs]
        )
    return {name: float(share) for name, share in shares.items()}


def sides(regions: set[str]) -> set[str]:
    return {region.split()[1] for region in regions}


def named_regions(claims: dict[str, str] | None) -> set[str]:
    """The lung regions in claims, such as {"upper left", "lower right"}."""
    clauses = re.findall(r"([a-z ]+?) (left|right) lung", (claims or {}).get("lungs", "").replace(" and ", ", "))
    areas = [(REGIONS if "all" in names else names.split(), side) for names, side in clauses]
    return {f"{region} {side}" for regions, side in areas for region in regions}


def _mask_name(example: Example) -> str:
    """The mask's file name, as in the published tables; named by the example's id if the file name has another id."""
    name = example.masks[0].name if len(example.masks) == 1 else ""
    return name if name and example_id(name) == example.id else f"{example.id}.png"
