"""Data sets in the folder layout of LViT, whose texts give the place of the lesions: MosMedData+ and MoNuSeg."""

import re
from pathlib import Path

from tevia_hf.data.folder import list_folder
from tevia_hf.data.listing import Listing


def list_mosmed(data_dir: str | Path) -> Listing:
    """Chest CT slices with masks of infected lung, from the folders of LViT or TeViA (see `folder`).

    `group` is the CT study. The published test split shares studies with the train split: set a `group_split`.
    """
    return list_folder(data_dir, group_of=study)


def study(example_id: str) -> str:
    """The CT study of a slice: "Morozov_study_0017" of "Morozov_study_0017_20", whose last number counts slices."""
    return re.sub(r"[_-]\d+$", "", example_id)


def list_monuseg(data_dir: str | Path) -> Listing:
    """Stained tissue with masks of nuclei, from the folders of LViT (see `folder`); `group` is the patient."""
    return list_folder(data_dir, group_of=patient)


def patient(example_id: str) -> str:
    """The patient of a TCGA slide: "TCGA-18-5592" of "TCGA-18-5592-01Z-00-DX1"; other names are returned unchanged."""
    match = re.match(r"TCGA-\w{2}-\w{4}", example_id)
    return match[0] if match else example_id
