"""QaTa-COV19-v2: chest X-rays, masks of infected lung, and texts that give the place of the infection."""

import re
from pathlib import Path

from tevia_hf.data.folder import list_folder
from tevia_hf.data.listing import Listing


def list_qata(data_dir: str | Path) -> Listing:
    """The examples of a Kaggle, LViT or TeViA folder (see `folder`); `group` is the subject.

    Kaggle's folders come without texts: put the published tables beside them as `prompt/{train,val,test}.csv`, or
    `{Train,Val,Test}_text.xlsx`. Validation images are in the train folder there.

    Raises the errors of `list_folder`.
    """
    return list_folder(data_dir, group_of=subject)


def subject(example_id: str) -> str:
    """The subject of a QaTa file: "s11228" of "cxr_s11228-e19964-r1"; any other name is returned unchanged."""
    match = re.match(r"cxr_(s\d+)-", example_id)
    return match[1] if match else example_id
