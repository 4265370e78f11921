"""How a data set is read beside its name, folder and split: the one place where such an option is written.

From these fields come those of a recipe and of a grid's `evaluation`, the options of the subcommands, what
`list_examples` takes, what a report records and what a card names.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, get_args

from tevia_hf.data.features import check_choice
from tevia_hf.data.listing import Listing, OnError
from tevia_hf.data.origin import as_text
from tevia_hf.data.splits import DEFAULT_FRACTIONS, parse_fractions, resplit
from tevia_hf.data.tables import language_beside, texts_for
from tevia_hf.io import parse_window
from tevia_hf.labels_tevia import WhiteReading
from tevia_hf.option_checks_tevia import check_seed, number_from


@dataclass
class SourceOptions:
    """Which examples and texts a data set on disk has; each option as text, as in YAML, or as its value."""

    text_table: str | None = field(
        default=None, metadata={"help": "Table (Image, Description) to read in place of the set's own texts."}
    )
    group_split: str | None = field(
        default=None, metadata={"help": "Divide anew by patient or study: shares of train, val, test, as 0.7,0.1,0.2."}
    )
    split_seed: int = field(default=0, metadata={"help": "Seed of the groups of each split."})
    window: str | None = field(
        default=None,
        metadata={"help": "Centre and width that DICOM and NIfTI are seen through (write --window=-600,1500)."},
    )
    # Options whose text stands for something else, or whose values are checked.
    readers: ClassVar[dict[str, Callable[[Any], Any]]] = {
        "group_split": lambda value: parse_fractions(str(as_text(value))),
        "split_seed": lambda value: check_seed("split_seed", number_from(value) if isinstance(value, str) else value),
        "window": lambda value: parse_window(str(as_text(value))),
    }

    def __post_init__(self) -> None:
        self.source_options()

    def source_options(self) -> dict[str, Any]:
        """The values of the options that are set, as `load_segmentation_dataset` takes them."""
        given = {name: getattr(self, name) for name in SOURCE_OPTIONS if getattr(self, name) not in (None, "", [])}
        return {name: self.readers.get(name, lambda value: value)(value) for name, value in given.items()}

    def applied_to(self, listing: Listing) -> Listing:
        """The examples of a source as these options ask for them."""
        values = self.source_options()
        if "text_table" in values:
            names = [example.id for example in listing.examples]
            table = values["text_table"]
            listing = listing.with_texts(texts_for(table, names), language_beside(table))
        if listing.examples and ("group_split" in values or not listing.splits):
            listing = resplit(listing, values.get("group_split", DEFAULT_FRACTIONS), values.get("split_seed", 0))
        return listing.with_window(values["window"]) if "window" in values else listing


@dataclass
class ReadingOptions:
    """What is made of the files of a data set, of any source."""

    white_is_lesion: bool | None = field(
        default=None,
        metadata={"help": "255 marks the lesion (true) or is ignored (false); default: all masks tell."},
    )
    on_error: OnError = field(
        default="raise", metadata={"help": "'skip' leaves out examples that cannot be read, and lists them."}
    )
    cache: bool = field(
        default=True, metadata={"help": "Read files that were read before only where they have changed."}
    )

    def __post_init__(self) -> None:
        check_choice("on_error", self.on_error, get_args(OnError))
        WhiteReading(declared=self.white_is_lesion)  # refuses what is neither true nor false


SOURCE_OPTIONS = tuple(option.name for option in fields(SourceOptions))
READING_OPTIONS = tuple(option.name for option in fields(ReadingOptions))
