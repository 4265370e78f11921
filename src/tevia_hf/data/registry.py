"""Data sets by name."""

from pathlib import Path
from typing import Any

import datasets

from tevia_hf.data.features import SPLITS, check_choice
from tevia_hf.data.folder import folder_dataset
from tevia_hf.data.qata import qata_dataset
from tevia_hf.data.synthetic import synthetic_dataset

ON_DISK = {"qata": qata_dataset, "folder": folder_dataset}
NAMES = ("synthetic", *ON_DISK)


def load_segmentation_dataset(
    name: str, data_dir: str | Path | None = None, split: str = "train", **options: Any
) -> datasets.Dataset:
    """A data set with the columns image, mask, text, id, group and spacing_mm.

    Args:
        name: "synthetic" (made in memory), "qata" or "folder".
        data_dir: The data set's folder; "synthetic" has none.
        split: "train", "val" or "test".
        options: Passed on to the source, such as `size`, `count`, `seed` and `counterpart` of "synthetic".

    Raises:
        ValueError: Unknown name or split, or a data_dir that is missing or not wanted; and what the source raises.
    """
    check_choice("name", name, NAMES)
    check_choice("split", split, SPLITS)
    if name == "synthetic":
        if data_dir is not None:
            raise ValueError(f"data_dir is '{data_dir}', but 'synthetic' is made in memory. Leave data_dir out.")
        return synthetic_dataset(split=split, **options)
    if data_dir is None:
        raise ValueError(f"'{name}' is read from disk. Pass data_dir, the folder that holds it.")
    return ON_DISK[name](data_dir, split=split, **options)
