"""Tables in Markdown."""

from collections.abc import Iterable, Sequence
from typing import Any


def markdown_table(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table of a header and rows, escaped by `cell`."""
    lines = [list(header), ["---"] * len(header), *map(list, rows)]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def cell(content: Any) -> str:
    """The content on one line with `|` escaped, for a row of a table or list."""
    return " ".join(filter(None, str(content).splitlines())).replace("|", "\\|")
