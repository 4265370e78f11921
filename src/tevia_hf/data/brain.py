"""Brain tumours: LGG MRI (kaggle_3m), figshare's T1-CE slices, and the packages made of them."""

import re
from pathlib import Path

from tevia_hf.data.example import Example, ImageRef
from tevia_hf.data.figshare import RECORD_SUFFIX, read_kind_and_patient
from tevia_hf.data.folder import list_folder, list_mixed
from tevia_hf.data.listing import Listing, Problem, absolute, merge
from tevia_hf.io.address import is_clutter

FIGSHARE_CLASSES = {1: "meningioma", 2: "glioma", 3: "pituitary"}


def list_brain(data_dir: str | Path) -> Listing:
    """The examples of `TCGA_*/` folders, of `.mat` records, or of a package (see `folder`).

    LGG and figshare come without texts and splits: generate texts with `tevia prompts`; splits are made by
    `group_split`. `group` is the patient, `finding` the kind of tumour.
    """
    root = absolute(data_dir)
    folders = {*root.glob("TCGA_*"), *root.glob("*/TCGA_*")}
    if patients := sorted(folder for folder in folders if folder.is_dir() and not is_clutter(folder)):
        return merge(str(root), [_list_patient(folder) for folder in patients])
    if records := sorted(
        (path for path in root.rglob(f"*{RECORD_SUFFIX}") if path.stem.isdigit() and not is_clutter(path)),
        key=lambda path: int(path.stem),
    ):
        return _list_records(root, records)
    return list_folder(root, group_of=patient, finding_of=finding, needs_texts=False)


def patient(example_id: str) -> str:
    """The patient of an LGG slice: "TCGA_CS_4943" of "TCGA_CS_4943_20000902_7"; the name itself if it has none."""
    match = re.match(r"TCGA_[^_]+_[^_]+", example_id)
    return match[0] if match else example_id


def finding(example_id: str) -> str | None:
    """The kind of tumour in a file name, or None."""
    match = re.search("|".join(FIGSHARE_CLASSES.values()), example_id, re.IGNORECASE)
    return match[0].lower() if match else None


def _list_patient(folder: Path) -> Listing:
    listing = list_mixed(folder, "glioma", patient(folder.name))
    listing.examples.sort(key=_by_slice)
    return listing


def _by_slice(example: Example) -> tuple[str, int]:
    name, _, number = example.id.rpartition("_")
    return name, int(number) if number.isdigit() else -1


def _list_records(root: Path, paths: list[Path]) -> Listing:
    listing = Listing(str(root))
    for path in paths:
        try:
            kind, patient_id = read_kind_and_patient(path)
        except ValueError as error:
            listing.problems.append(Problem(str(error)))
            continue
        record = ImageRef(path)
        listing.examples.append(Example(path.stem, patient_id, record, (record,), finding=FIGSHARE_CLASSES.get(kind)))
    return listing
