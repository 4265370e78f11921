"""Tables of texts: CSV or xlsx with the columns `Image` and `Description`."""

import json
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from tevia_hf.data.affixes import find_affixes
from tevia_hf.data.cells import Cells, read_csv_cells, read_excel_cells
from tevia_hf.data.example import example_id
from tevia_hf.data.faults import raise_problems
from tevia_hf.io.address import TABLE_SUFFIXES as TABLE_SUFFIXES

if TYPE_CHECKING:
    from tevia_hf.prompts import ReportLanguage

COLUMNS = ("Image", "Description")
OPTIONAL_COLUMNS = ("split", "group")
LANGUAGE_SUFFIX = ".language.json"  # of the file beside a table with the language of its texts
OTHER_TABLE_SUFFIXES = (".xls", ".xlsm", ".xlsb", ".ods", ".tsv", ".numbers", ".parquet")

_ALIASES = {
    "Image": ("file", "filename", "imagename", "imageid", "imagepath", "img", "picture", "path", "name", "id"),
    "Description": ("text", "caption", "sentence", "prompt", "report", "finding", "findings", "impression"),
    "group": ("patient", "subject", "study", "case", "participant", "person"),
    "split": ("fold", "set", "subset", "partition", "phase"),
}


class Table(NamedTuple):
    """The rows of a table, as returned by `read_table`, and warnings about the file."""

    rows: pd.DataFrame
    notes: list[str]


def read_table(path: str | Path) -> pd.DataFrame:
    """A table with the text columns `Image` and `Description` (None where empty) and, if given, `split` and `group`.

    Cells are text: "NA" and "001" are kept as written. Surrounding blanks and empty rows are dropped; the four column
    names, `split` and the file suffix are case-insensitive. The delimiter of a CSV file (comma, semicolon or tab) is
    detected from its header; of a workbook the first sheet is read, with cells as Excel displays them.

    Raises `ValueError` if the file cannot be read, is empty, or lacks a column or a file name, and if a row has more
    cells than the header.
    """
    table = open_table(path)
    for note in table.notes:
        warnings.warn(note, stacklevel=2)
    return table.rows


def open_table(path: str | Path) -> Table:
    """`read_table` with notes in place of warnings."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in TABLE_SUFFIXES:
        raise ValueError(f"{path}: tables ending in '{path.suffix}' cannot be read. Save it as UTF-8 CSV or xlsx.")
    try:
        cells = read_csv_cells(path, COLUMNS) if suffix == ".csv" else read_excel_cells(path)
    except OSError as error:
        raise ValueError(f"{path}: not readable as a table ({error}). Check the path.") from error
    if not cells.rows:
        raise ValueError(
            f"{path}: not readable as a table (it is empty). "
            f"Save it as UTF-8 CSV or xlsx with the columns {', '.join(COLUMNS)}."
        )
    columns = _named_columns(path, cells)
    if len(cells.rows) == 1:
        raise ValueError(f"{path} has no rows. Check that it is the right file, and that it has at least one example.")
    raise_problems(str(path), _row_problems(cells, columns), "Correct these rows in the table.")
    normalize = {"split": str.lower, "group": lambda text: unicodedata.normalize("NFC", text)}
    rows = [{name: _cell(row, index) for name, index in columns.items()} for _, row in cells.rows[1:]]
    for row in rows:
        row |= {name: change(row[name]) for name, change in normalize.items() if row.get(name)}
    return Table(pd.DataFrame(rows, columns=list(columns), dtype=object), cells.notes)


def unread_columns(table: pd.DataFrame, columns: Sequence[str] = OPTIONAL_COLUMNS) -> list[str]:
    """Warnings about missing columns for which the table has a likely one, such as `patient` for `group`."""
    messages = []
    for column in (column for column in columns if column not in table.columns):
        if similar := [f"`{name}`" for name in table.columns if _is_alias(name, column)]:
            names = ", ".join(similar)
            messages.append(f"the column {names} looks like the {column} but is not read: rename it to `{column}`")
    return messages


def _is_alias(name: str, column: str) -> bool:
    plain = re.sub(r"[\W_]+", "", name.lower())
    return plain.removesuffix("id") in _ALIASES[column] or plain in _ALIASES[column]


def _named_columns(path: Path, cells: Cells) -> dict[str, int]:
    """The index of each named column. Raises `ValueError` if a required one is missing or a known one is repeated."""
    known = {column.lower(): column for column in (*COLUMNS, *OPTIONAL_COLUMNS)}
    header = [known.get(name.lower(), name) for name in cells.rows[0][1]]
    if repeated := [name for name, times in Counter(header).items() if times > 1 and name in known.values()]:
        raise ValueError(f"{path}: several columns are called {' and '.join(repeated)}: keep one of each.")
    if missing := [column for column in COLUMNS if column not in header]:
        names = [name for name in header if name]
        likely = {column: [name for name in names if _is_alias(name, column)] for column in missing}
        renames = [f"'{(likely[column] or ['its column'])[0]}' to {column}" for column in missing]
        raise ValueError(f"{path}: no column {' and '.join(missing)}; it has {names}. Rename {' and '.join(renames)}.")
    return {name: header.index(name) for name in header if name}


def _row_problems(cells: Cells, columns: dict[str, int]) -> list[str]:
    """Messages for rows with shifted cells, unreadable cells or no file name."""
    header = cells.rows[0][1]
    nameless = [index for index, name in enumerate(header) if not name and index]  # pandas saves its index as the first
    used = {columns[name]: name for name in (*COLUMNS, *OPTIONAL_COLUMNS) if name in columns}
    problems = []
    for number, row in cells.rows[1:]:
        place = f"{cells.unit} {number}"
        if len(row) > len(header):
            problems.append(f"{place} has {len(row)} fields, the header {len(header)}: put texts with commas in quotes")
        elif beyond := [f"'{row[index]}' in column {index + 1}" for index in nameless if _cell(row, index)]:
            problems.append(f"{place} holds {', '.join(beyond)}, which has no name: name it, or put texts in quotes")
        unreadable = {
            name: cells.faults[number, index] for index, name in used.items() if (number, index) in cells.faults
        }
        problems += [f"row {number}: the cell {name} {fault}" for name, fault in unreadable.items()]
        if not _cell(row, columns["Image"]) and not unreadable:
            problems.append(f"row {number} has no file name: fill the column Image, or delete this row")
    return problems


def _cell(row: list[str], index: int) -> str | None:
    return (row[index] if index < len(row) else "") or None


def texts_for(
    path: str | Path,
    example_ids: Sequence[str],
    volumes: Mapping[str, str] | None = None,
    unused: Collection[str] = (),
) -> list[str | None]:
    """The text of each example id; None if it is empty.

    A suffix or prefix that all rows add to the ids, such as "_segmentation", is stripped. `volumes` has the ids of the
    volumes of slices: a slice without a row has the text of its volume. `unused` are ids whose rows need no example.

    Raises one `ValueError` for ids without a row, several rows of one id, and rows of other ids.
    """
    table, requested = read_table(path), [unicodedata.normalize("NFC", name) for name in example_ids]
    ids = [example_id(name) for name in table["Image"]]
    affixes = find_affixes(ids, requested)
    ids = [affixes[0].strip(name) for name in ids] if len(affixes) == 1 else ids
    repeated = Counter(requested)
    known = set(ids)
    requested = [name if name in known else (volumes or {}).get(name, name) for name in requested]
    problems = [f"'{name}' is the name of {times} examples" for name, times in repeated.items() if times > 1]
    problems += [f"'{name}' has no row" for name in sorted(set(requested) - set(ids))]
    problems += [f"'{name}' has several rows" for name, times in sorted(Counter(ids).items()) if times > 1]
    problems += [f"row '{name}' has no image" for name in sorted(set(ids) - set(requested) - set(unused))]
    raise_problems(str(path), problems, "Each image needs one row; leave Description empty for an image without text.")
    texts = dict(zip(ids, table["Description"], strict=True))
    return [texts[name] for name in requested]


def language_beside(table: str | Path) -> "ReportLanguage | None":
    """The language of a table's texts, read from NAME.language.json beside it; None without that file."""
    if not (path := Path(table).with_suffix(LANGUAGE_SUFFIX)).is_file():
        return None
    try:
        from tevia_hf.prompts import from_record  # which needs scipy, as reading a table does not

        return from_record(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
