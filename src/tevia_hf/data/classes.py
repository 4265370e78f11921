"""Names of the classes in the masks of a data set."""

from collections.abc import Sequence

from tevia_hf.labels_tevia import highest_label


def named_classes(names: Sequence[str] | None, num_labels: int | None = None) -> tuple[dict[int, str], int]:
    """The labels of masks with these names, from label 1 on, and `num_labels`, which several names define.

    Without names, those of transformers: LABEL_1, ... Raises `ValueError` if number of names and `num_labels` differ.
    """
    names = [] if names is None else [name.strip() for name in names]
    if names and num_labels is not None and highest_label(num_labels) != len(names):
        fitting = 1 if len(names) == 1 else len(names) + 1
        raise ValueError(
            f"{len(names)} class names ({', '.join(names)}) and num_labels={num_labels} do not fit: give "
            f"{highest_label(num_labels)} names (the background counts as a label, but has no class name), or set "
            f"`num_labels` to {fitting}."
        )
    if not all(names) or len(set(names)) < len(names) or any("/" in name for name in names):
        raise ValueError(f"The class names are {names}: give each class its own name, without '/'.")
    num_labels = num_labels or (len(names) + 1 if len(names) > 1 else 1)
    unnamed = ["lesion"] if num_labels == 1 else [f"LABEL_{label}" for label in range(1, num_labels)]
    return dict(enumerate(names or unnamed, 1)), num_labels
