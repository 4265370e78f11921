"""The result of listing a data set on disk: the examples of all splits, problems and warnings."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import datasets

from tevia_hf.data.example import Example
from tevia_hf.data.features import SPLITS, dataset_from_rows
from tevia_hf.option_checks_tevia import check_choice
from tevia_hf.prompts import ReportLanguage

OnError = Literal["raise", "skip"]  # handling of examples whose files cannot be used


class Problem(NamedTuple):
    """Something wrong with files or tables.

    Args:
        splits: affected splits.
        concerns_texts: whether it concerns texts only.
        can_be_skipped: whether it concerns single files, which can be skipped.
    """

    text: str
    splits: tuple[str, ...] = SPLITS
    concerns_texts: bool = False
    can_be_skipped: bool = False


@dataclass
class Listing:
    """Examples found on disk, before any image is opened.

    Args:
        source: name of the source, for error messages.
        examples: of all splits.
        problems: files and rows that cannot be used.
        warnings: issued by `dataset`.
        notes: shown by the data check only, such as files left by the operating system.
        language: of the texts, if a file beside their table names it.
    """

    source: str
    examples: list[Example] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    language: ReportLanguage | None = None

    @property
    def splits(self) -> list[str]:
        """The splits that have examples, the standard ones first."""
        present = {example.split for example in self.examples if example.split is not None}
        return [split for split in SPLITS if split in present] + sorted(present - set(SPLITS))

    def of_split(self, split: str) -> list[Example]:
        return [example for example in self.examples if example.split == split]

    def dataset(self, split: str, on_error: OnError = "raise") -> datasets.Dataset:
        """The examples of one split.

        With "skip", rows without image or mask are kept, so that reading can skip them, and files without a row give
        warnings.

        Raises `ValueError` that lists all problems of the split, or if it has no examples.
        """
        check_choice("on_error", on_error, get_args(OnError))
        affecting = [problem for problem in self.problems if split in problem.splits]
        skipped = [problem.text for problem in affecting if problem.can_be_skipped and on_error == "skip"]
        problems = [problem.text for problem in affecting if problem.text not in skipped]
        rows = [example.row() for example in self.of_split(split)]
        if not rows and not problems:
            raise ValueError(
                f"{self.source}: no examples of the split '{split}', there are: {', '.join(self.splits) or 'none'}. "
                "Name one of these, or split the set by `group_split`."
            )
        for text in [*self.warnings, *skipped]:
            warnings.warn(f"{self.source}: {text}.", stacklevel=2)
        return dataset_from_rows(rows, self.source, problems, may_lack_files=on_error == "skip")

    def with_texts(self, texts: Sequence[str | None], language: ReportLanguage | None = None) -> "Listing":
        """The same examples with these texts, one each; problems of the set's own texts are dropped."""
        examples = [replace(example, text=text) for example, text in zip(self.examples, texts, strict=True)]
        problems = [problem for problem in self.problems if not problem.concerns_texts]
        return replace(self, examples=examples, problems=problems, language=language)

    def with_window(self, window: tuple[float, float]) -> "Listing":
        """The same examples with DICOM and NIfTI images windowed (centre, width), unless they have a window."""
        return replace(self, examples=[example.with_window(window) for example in self.examples])


def merge(source: str, listings: Iterable[Listing]) -> Listing:
    listings = list(listings)
    return Listing(
        source,
        [example for listing in listings for example in listing.examples],
        [problem for listing in listings for problem in listing.problems],
        [text for listing in listings for text in listing.warnings],
        [text for listing in listings for text in listing.notes],
        next((listing.language for listing in listings if listing.language), None),
    )


def absolute(data_dir: str | Path) -> Path:
    """The absolute path of a folder. Raises `ValueError` if it does not exist."""
    root = Path(data_dir).absolute()
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder. Give the folder that holds the data set as data_dir.")
    return root
