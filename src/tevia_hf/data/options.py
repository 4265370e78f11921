"""Options of a data set beyond its name, folder and split, each declared once.

The fields of recipes and of a grid's `evaluation`, the options of the subcommands, the arguments of `list_examples` and
the settings in reports and model cards are derived from these dataclasses.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, get_args

from tevia_hf.data.listing import Listing, OnError
from tevia_hf.data.origin import as_text
from tevia_hf.data.slices import ALL, check_slices, with_slices
from tevia_hf.data.splits import DEFAULT_FRACTIONS, parse_fractions, resplit
from tevia_hf.data.tables import language_beside, texts_for
from tevia_hf.io import parse_window
from tevia_hf.labels_tevia import WhiteReading
from tevia_hf.option_checks_tevia import check_choice, check_seed, number_from


@dataclass
class SourceOptions:
    """Selection of examples and texts of a data set on disk; each option may be text, as in YAML, or a value."""

    text_table: str | None = field(
        default=None, metadata={"help": "table (Image, Description) whose texts replace those of the data set"}
    )
    group_split: str | None = field(
        default=None, metadata={"help": "split by patient or study: shares of train, val and test, such as 0.7,0.1,0.2"}
    )
    split_seed: int = field(default=0, metadata={"help": "seed of the split by patient or study"})
    window: str | None = field(
        default=None,
        metadata={"help": "window centre and width of DICOM and NIfTI images (write --window=-600,1500)"},
    )
    slices: str | None = field(
        default=None, metadata={"help": "slices of volumes: all (the default), lesion, or n for every n-th"}
    )
    # Options that are parsed or checked.
    readers: ClassVar[dict[str, Callable[[Any], Any]]] = {
        "slices": lambda value: check_slices(as_text(value)),
        "group_split": lambda value: parse_fractions(str(as_text(value))),
        "split_seed": lambda value: check_seed("split_seed", number_from(value) if isinstance(value, str) else value),
        "window": lambda value: parse_window(str(as_text(value))),
    }

    def __post_init__(self) -> None:
        self.source_options()

    def source_options(self) -> dict[str, Any]:
        """The parsed values of the options that are set, as arguments of `load_segmentation_dataset`."""
        given = {name: getattr(self, name) for name in SOURCE_OPTIONS if getattr(self, name) not in (None, "", [])}
        return {name: self.readers.get(name, lambda value: value)(value) for name, value in given.items()}

    def applied_to(self, listing: Listing) -> Listing:
        """The listing with replaced texts, new splits and windows, as these options require."""
        values = self.source_options()
        listed = {example.id for example in listing.examples}
        listing = with_slices(listing, values.get("slices", ALL))
        if "text_table" in values:
            names = [example.id for example in listing.examples]
            volumes = {example.id: example.volume for example in listing.examples if example.volume}
            table = values["text_table"]
            listing = listing.with_texts(texts_for(table, names, volumes, listed - set(names)), language_beside(table))
        if listing.examples and ("group_split" in values or not listing.splits):
            listing = resplit(listing, values.get("group_split", DEFAULT_FRACTIONS), values.get("split_seed", 0))
        return listing.with_window(values["window"]) if "window" in values else listing


@dataclass
class ReadingOptions:
    """How the files of any data set are read."""

    white_is_lesion: bool | None = field(
        default=None,
        metadata={"help": "255 marks the lesion (true) or is ignored (false); default: inferred from all masks"},
    )
    on_error: OnError = field(
        default="raise", metadata={"help": "'skip' skips examples that cannot be read, and lists them; 'raise' stops"}
    )
    cache: bool = field(
        default=True, metadata={"help": "cache the checks of files, so that unchanged files are not read again"}
    )

    def __post_init__(self) -> None:
        check_choice("on_error", self.on_error, get_args(OnError))
        WhiteReading(declared=self.white_is_lesion)  # rejects values other than true and false


SOURCE_OPTIONS = tuple(option.name for option in fields(SourceOptions))
READING_OPTIONS = tuple(option.name for option in fields(ReadingOptions))
