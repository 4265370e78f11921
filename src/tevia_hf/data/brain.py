"""Brain tumours: LGG MRI (kaggle_3m), figshare's T1-CE slices, and the packages made of them."""

import re
from pathlib import Path

from tevia_hf.data.features import SPLITS
from tevia_hf.data.folder import list_folder
from tevia_hf.data.listing import Listing, Problem, absolute, merge
from tevia_hf.data.pairing import join_masks, pair_files, row_of
from tevia_hf.io import read_brain_tumor_record

FIGSHARE_CLASSES = {1: "meningioma", 2: "glioma", 3: "pituitary"}


def list_brain(data_dir: str | Path) -> Listing:
    """The examples of `TCGA_*/` folders, of `.mat` records, or of a package (see `folder`).

    LGG and figshare come without sentences and splits: make the former with `tevia prompts`, the latter are drawn by
    `group_split`. `group` is the patient, `finding` the kind of tumour.

    Raises:
        ValueError: As `list_folder`; and for `.mat` files where h5py is not installed.
    """
    root = absolute(data_dir)
    if patients := sorted(folder for folder in {*root.glob("TCGA_*"), *root.glob("*/TCGA_*")} if folder.is_dir()):
        return merge(str(root), [_list_patient(folder) for folder in patients])
    if records := sorted(
        (path for path in root.rglob("*.mat") if path.stem.isdigit()), key=lambda path: int(path.stem)
    ):
        return _list_records(root, records)
    return list_folder(root, group_of=patient, finding_of=finding, needs_sentences=False)


def patient(example_id: str) -> str:
    """The patient of an LGG slice: "TCGA_CS_4943" of "TCGA_CS_4943_20000902_7"; the name itself where it tells none."""
    match = re.match(r"TCGA_[^_]+_[^_]+", example_id)
    return match[0] if match else example_id


def finding(example_id: str) -> str | None:
    """The kind of tumour that a file's name holds, or None."""
    match = re.search("|".join(FIGSHARE_CLASSES.values()), example_id, re.IGNORECASE)
    return match[0].lower() if match else None


def _list_patient(folder: Path) -> Listing:
    pairs = pair_files(folder, folder, SPLITS)
    names = sorted(pairs.images.keys() | pairs.masks.keys(), key=_by_slice)
    known = {"text": None, "split": None, "group": patient(folder.name), "finding": "glioma"}
    rows = [{**row_of(name, name, pairs), **known} for name in names]
    return Listing(str(folder), rows, pairs.problems + join_masks(rows))


def _by_slice(name: str) -> tuple[str, int]:
    head, _, number = name.rpartition("_")
    return head, int(number) if number.isdigit() else -1


def _list_records(root: Path, paths: list[Path]) -> Listing:
    listing = Listing(str(root))
    for path in paths:
        try:
            label, patient_id = read_brain_tumor_record(path)
        except ValueError as error:
            listing.problems.append(Problem(str(error)))
            continue
        known = {"text": None, "split": None, "group": patient_id, "finding": FIGSHARE_CLASSES.get(label)}
        listing.rows.append({"id": path.stem, "image": path, "mask": path, **known})
    return listing
