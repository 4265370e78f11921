"""MosMedData+: chest CT slices, masks of infected lung, and sentences that say where the infection lies."""

import re
from pathlib import Path

from tevia_hf.data.folder import list_folder
from tevia_hf.data.listing import Listing


def list_mosmed(data_dir: str | Path) -> Listing:
    """The examples, from the folders of LViT or TeViA (see `folder`); `group` is the CT study.

    The usual test split holds slices of studies that are in train too: ask for a `group_split`.

    Raises:
        ValueError: As `list_folder`.
    """
    return list_folder(data_dir, group_of=study)


def study(example_id: str) -> str:
    """The CT study of a slice: "Morozov_study_0017" of "Morozov_study_0017_20", whose last number counts slices."""
    return re.sub(r"[_-]\d+$", "", example_id)
