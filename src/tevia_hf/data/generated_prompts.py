"""Sentences drawn from the masks of a data set, and how far its own sentences agree with its masks."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from datasets.utils import tqdm

from tevia_hf.data.decoding import decode_labels
from tevia_hf.data.example import Example
from tevia_hf.data.features import check_choice
from tevia_hf.data.listing import Listing
from tevia_hf.data.pairing import example_id
from tevia_hf.data.registry import SOURCES, list_examples, names_on_disk
from tevia_hf.data.survey import white_is_lesion_in
from tevia_hf.data.tables import COLUMNS, LANGUAGE_SUFFIX
from tevia_hf.labels_tevia import is_lesion
from tevia_hf.prompts import LANGUAGES, REGIONS, ReportLanguage, as_record
from tevia_hf.prompts.templates import FINDING

Claims = tuple[dict[str, str] | None, dict[str, str]]  # what a sentence says, and what is seen

CARRIES_THE_ANSWER = (
    "These sentences were drawn from the true masks, so they carry part of the answer: a model that is given them "
    "knows what nobody knows before the image was read. Scores with them must stand beside scores of the same model "
    "with another image's sentence and with none (`tevia evaluate`)."
)


@dataclass
class GeneratedPrompts:
    """What was drawn.

    Args:
        rows: (file name of the mask, sentence), as in the published tables.
        sides: whose left is meant.
        agreement: how the set's own sentences agree with its masks, by name; empty where it has none.
        problems: masks that could not be read, and sentences that are not true of their mask.
        language: of the texts.
    """

    rows: list[tuple[str, str]]
    sides: str
    agreement: dict[str, float]
    problems: list[str]
    language: ReportLanguage

    def about(self) -> str:
        """What readers of the table must know."""
        lines = [f"{len(self.rows)} sentences, {len({text for _, text in self.rows})} distinct.", self.sides]
        lines.append(CARRIES_THE_ANSWER)
        if self.agreement:
            shares = ", ".join(f"{name} {value:.4f}" for name, value in self.agreement.items())
            lines.append(f"Agreement of the data set's own sentences with its masks: {shares}.")
        return "\n".join(lines)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Writes the table (`Image`, `Description`), and what must be known of it as `NAME.about.txt` beside it.

        The language is kept as `NAME.language.json`, for whoever reads the table as `text_table`.

        Raises `ValueError` where the table exists and is not to be replaced.
        """
        path = Path(path)
        if path.suffix != ".csv":
            raise ValueError(f"{path}: sentences are written as CSV. Name it '{path.stem}.csv'.")
        if path.exists() and not overwrite:
            raise ValueError(f"{path} exists. Say --overwrite to replace it, or name another file.")
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(self.rows, columns=list(COLUMNS)).to_csv(path, index=False)
        path.with_suffix(".about.txt").write_text(self.about() + "\n", encoding="utf-8")
        path.with_suffix(LANGUAGE_SUFFIX).write_text(json.dumps(as_record(self.language)) + "\n", encoding="utf-8")
        return path


def choose_language(dataset: str, name: str | None, template: str | None, empty_template: str) -> ReportLanguage:
    """The language of one's own template, of this name, or of the data set.

    Raises `ValueError` for an unknown name, or where nothing says which language is meant.
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
) -> GeneratedPrompts:
    """A sentence for each mask, each read back and compared with its mask.

    Args:
        listing: as `list_examples` gives it.
        finding: the class, where the data set does not tell.
        patient_sides: "left" is the patient's left, who faces the viewer.
        num_labels: of the masks; None takes any labels.
        white_is_lesion: what 255 means in the masks; by default all of them tell.
        cache: for that, read masks that were read before only where they have changed.
    """
    whose = "the patient" if patient_sides else "the picture"
    drawn = GeneratedPrompts([], f'"Left" is the left of {whose}.', {}, [], language)
    compared: list[Claims] = []
    whole = [example for example in listing.examples if example.masks]
    white = white_is_lesion_in((example.row() for example in whole), num_labels, white_is_lesion, "skip", cache)
    for example in tqdm(whole, desc="Reading masks"):
        try:
            mask = is_lesion(decode_labels(example.row(), num_labels, white))
        except ValueError as error:
            drawn.problems.append(str(error))
            continue
        seen = language.observe(mask, patient_sides)
        text = language.write(seen | {FINDING: example.finding or finding or ""})
        if (errors := language.disagreements(text, seen)) != {}:
            fault = "cannot be read back" if errors is None else f"is not true of its mask: {errors}"
            drawn.problems.append(f"'{example.id}': '{text}' {fault}")
        drawn.rows.append((_mask_name(example), text))
        if example.text:
            compared.append((language.read(example.text), seen))
    drawn.problems += [f"row '{example.id}' has no mask" for example in listing.examples if not example.masks]
    drawn.problems += [problem.text for problem in listing.problems if not problem.concerns_texts]
    drawn.agreement = _agreement(compared)
    return drawn


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
    overwrite: bool = False,
) -> GeneratedPrompts:
    """The texts of `tevia prompts`: drawn from the masks of a data set by name, and written to a table.

    Args:
        dataset, data_dir: as `list_examples` takes them.
        output: the CSV to write; `overwrite` replaces it.
        language, template, empty_template: as of `choose_language`.
        finding, patient_sides, num_labels, white_is_lesion, cache: as of `generate_prompts`.
    """
    chosen = choose_language(dataset, language, template, empty_template)
    listing = list_examples(dataset, data_dir)
    drawn = generate_prompts(listing, chosen, finding, patient_sides, num_labels, white_is_lesion, cache)
    drawn.save(output, overwrite=overwrite)
    return drawn


def _agreement(compared: Sequence[Claims]) -> dict[str, float]:
    """Share of sentences that agree with their mask, by field; a sentence of no known form agrees in none.

    Of lungs also the share that names the same `sides`, and the mean overlap (common / all) of the regions named.
    """
    if not compared:
        return {}
    names = sorted({name for _, seen in compared for name in seen} - {"s"})
    shares = {"in the language": np.mean([stated is not None for stated, _ in compared])}
    for name in names:
        shares[name] = np.mean([stated is not None and stated.get(name) == seen.get(name) for stated, seen in compared])
    if "lungs" in names:
        pairs = [(named_regions(stated), named_regions(seen)) for stated, seen in compared]
        shares["sides"] = np.mean([sides(stated) == sides(seen) != set() for stated, seen in pairs])
        shares["overlap of regions"] = np.mean(
            [len(stated & seen) / len(stated | seen or {""}) for stated, seen in pairs]
        )
    return {name: float(share) for name, share in shares.items()}


def sides(regions: set[str]) -> set[str]:
    return {region.split()[1] for region in regions}


def named_regions(claims: dict[str, str] | None) -> set[str]:
    """Such as {"upper left", "lower right"}."""
    clauses = re.findall(r"([a-z ]+?) (left|right) lung", (claims or {}).get("lungs", "").replace(" and ", ", "))
    named = [(REGIONS if "all" in words else words.split(), side) for words, side in clauses]
    return {f"{region} {side}" for regions, side in named for region in regions}


def _mask_name(example: Example) -> str:
    """The mask's file name, as in the published tables; the example's id where that would not lead back to it."""
    name = example.masks[0].name if len(example.masks) == 1 else ""
    return name if name and example_id(name) == example.id else f"{example.id}.png"
