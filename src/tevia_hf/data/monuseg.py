"""MoNuSeg: stained tissue, masks of nuclei, and sentences that say how these are distributed."""

import re
from pathlib import Path

from tevia_hf.data.folder import list_folder
from tevia_hf.data.listing import Listing


def list_monuseg(data_dir: str | Path) -> Listing:
    """The examples, from the folders of LViT (see `folder`); `group` is the patient.

    Raises:
        ValueError: As `list_folder`.
    """
    return list_folder(data_dir, group_of=patient)


def patient(example_id: str) -> str:
    """The patient of a TCGA slide: "TCGA-18-5592" of "TCGA-18-5592-01Z-00-DX1"; another name stands for itself."""
    match = re.match(r"TCGA-\w{2}-\w{4}", example_id)
    return match[0] if match else example_id
