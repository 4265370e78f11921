"""Breast ultrasound: BUSI as published, and the packages made of it."""

import re
from pathlib import Path

from tevia_hf.data.folder import list_folder, list_mixed
from tevia_hf.data.listing import Listing, absolute, merge
from tevia_hf.io.address import is_clutter

CLASSES = ("benign", "malignant", "normal")


def list_breast(data_dir: str | Path) -> Listing:
    """The examples of `{benign,malignant,normal}/` (in `data_dir` or in one of its folders), or of a package.

    BUSI comes without texts and splits: generate texts with `tevia prompts`; splits are made by `group_split`.
    `finding` is the class, None for normal. `group` is the image, as patients are not known.
    """
    root = absolute(data_dir)
    candidates = [folder for name in CLASSES for folder in sorted({*root.glob(name), *root.glob(f"*/{name}")})]
    folders = [folder for folder in candidates if not is_clutter(folder)]
    if not folders:
        return list_folder(root, finding_of=finding, needs_texts=False)
    if len(roots := sorted({str(folder.parent) for folder in folders})) > 1:
        raise ValueError(
            f"{root}: the classes lie in several folders ({', '.join(roots)}) and would be mixed into one set. "
            "Give one of them as data_dir, or name the splits {train,val,test}_{images,masks}."
        )
    return merge(str(root), [list_mixed(folder, finding(folder.name)) for folder in folders])


def finding(example_id: str) -> str | None:
    """The class that a file name begins with; None for a normal image or a name without class."""
    match = re.match("benign|malignant", example_id, re.IGNORECASE)
    return match[0].lower() if match else None
