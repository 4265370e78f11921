"""Tables and pages of paragraphs, lists and tables, in Markdown."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Table(NamedTuple):
    """A table for any output format.

    Args:
        header: one name per column.
        rows: cells in the order of the header.
        caption: a sentence about the table; "" for none.
        text_columns: number of leading columns that hold text; the others hold numbers.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    text_columns: int = 1

    def markdown(self) -> str:
        """The table in Markdown, without its caption; header and text columns, which may hold names, are escaped."""
        count = self.text_columns
        rows = [[*map(plain_text, row[:count]), *row[count:]] for row in self.rows]
        return markdown_table(list(map(plain_text, self.header)), rows)


class Bullets(NamedTuple):
    """A list of lines."""

    lines: Sequence[str]

    def markdown(self) -> str:
        return "\n".join(f"- {cell(line)}" for line in self.lines).replace("<", "\\<")  # no HTML from ids of files


Block = str | Bullets | Table  # a string is a sentence or several, on one line


class Section(NamedTuple):
    """A titled part of a page."""

    title: str
    blocks: Sequence[Block]


def markdown_blocks(blocks: Iterable[Block]) -> str:
    """The blocks in Markdown; sentences that follow each other are lines of one paragraph."""
    parts: list[str] = []
    previous: Block | None = None
    for block in blocks:
        if isinstance(block, Table):
            parts += [block.caption] if block.caption else []
            parts.append(block.markdown())
        else:
            text = block if isinstance(block, str) else block.markdown()
            if isinstance(previous, str):
                parts[-1] += f"\n{text}"
            else:
                parts.append(text)
        previous = block
    return "\n\n".join(parts)


def markdown_table(header: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table of a header and rows, escaped by `cell`."""
    lines = [list(header), ["---"] * len(header), *map(list, rows)]
    return "\n".join("| " + " | ".join(map(cell, line)) + " |" for line in lines)


def cell(content: Any) -> str:
    """The content on one line with `|` escaped, for a row of a table or list."""
    return " ".join(filter(None, str(content).splitlines())).replace("|", "\\|")


def plain_text(text: Any) -> str:
    """The text with the characters escaped that Markdown would read as emphasis, code, links or HTML."""
    return re.sub(r"[\\`*<\[\]&]|(?<!\w)_|_(?!\w)", r"\\\g<0>", str(text))
