"""Tables in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any


def markdown_table(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A header, its rule, and a line a row, of cells as by `cell`."""
    lines = [list(header), ["---"] * len(header), *map(list, rows)]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def cell(content: Any) -> str:
    """For a row of a table or list: on one line, the table's own sign `|` escaped."""
    return " ".join(str(content).split()).replace("|", "\\|")
