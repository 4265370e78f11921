"""What a source finds on disk: the examples of all splits, and what is wrong with them."""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import datasets

from tevia_hf.data.example import Example
from tevia_hf.data.features import SPLITS, dataset_from_rows


class Problem(NamedTuple):
    """Something wrong with files or tables; `splits` that it spoils, and whether only the `sentences` are missing."""

    text: str
    splits: tuple[str, ...] = SPLITS
    concerns_sentences: bool = False


@dataclass
class Listing:
    """Examples found on disk, before any image is opened.

    Args:
        source: what they come from, for errors.
        examples: of all splits.
        problems: what cannot be used.
        warnings: what one should know before training; `dataset` warns of it.
        notes: what the data check alone tells, such as left-over files of the system.
    """

    source: str
    examples: list[Example] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def splits(self) -> list[str]:
        """The splits that hold examples, the known ones first."""
        there = {example.split for example in self.examples if example.split is not None}
        return [split for split in SPLITS if split in there] + sorted(there - set(SPLITS))

    def of_split(self, split: str) -> list[Example]:
        return [example for example in self.examples if example.split == split]

    def dataset(self, split: str) -> datasets.Dataset:
        """The examples of one split. Raises `ValueError` with all that is wrong with it, or where it has none."""
        problems = [problem.text for problem in self.problems if split in problem.splits]
        rows = [example.row() for example in self.of_split(split)]
        if not rows and not problems:
            raise ValueError(
                f"{self.source}: no examples of the split '{split}', there are: {', '.join(self.splits) or 'none'}. "
                "Name one of these, or divide the set anew by `group_split`."
            )
        for text in self.warnings:
            warnings.warn(f"{self.source}: {text}.", stacklevel=2)
        return dataset_from_rows(rows, source=self.source, problems=problems)

    def with_sentences(self, sentences: Sequence[str | None]) -> "Listing":
        """The same examples with these sentences, one each; faults of the set's own sentences no longer matter."""
        examples = [replace(example, text=text) for example, text in zip(self.examples, sentences, strict=True)]
        problems = [problem for problem in self.problems if not problem.concerns_sentences]
        return replace(self, examples=examples, problems=problems)

    def with_window(self, window: tuple[float, float]) -> "Listing":
        """The same examples, DICOM and NIfTI images seen through a window (centre, width) unless they name one."""
        return replace(self, examples=[example.with_window(window) for example in self.examples])


def merge(source: str, listings: Iterable[Listing]) -> Listing:
    listings = list(listings)
    return Listing(
        source,
        [example for listing in listings for example in listing.examples],
        [problem for listing in listings for problem in listing.problems],
        [text for listing in listings for text in listing.warnings],
        [text for listing in listings for text in listing.notes],
    )


def absolute(data_dir: str | Path) -> Path:
    """The folder. Raises `ValueError` where there is none."""
    root = Path(data_dir).absolute()
    if not root.is_dir():
        raise ValueError(f"{root}: no such folder. Give the folder that holds the data set as data_dir.")
    return root
