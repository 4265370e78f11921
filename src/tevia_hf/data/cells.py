"""The cells of a CSV file or an Excel sheet as displayed: text, row by row, with row numbers."""

import codecs
import csv
import datetime
import io
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tevia_hf.extras import needed_for

DELIMITERS = (",", ";", "\t")
_MAX_CELLS = 1_000_000


class Cells(NamedTuple):
    """The content of a table file."""

    rows: list[tuple[int, list[str]]]  # number and cells of each row that is not empty, the header first
    unit: str  # what the numbers count: "line" of a text file or "row" of a sheet
    faults: dict[tuple[int, int], str]  # (row number, column counted from 0) -> what is wrong with that cell
    notes: list[str]  # warnings about the file


def read_csv_cells(path: Path, columns: Collection[str]) -> Cells:
    """The cells of a CSV file; the delimiter is the one that gives the header most of these columns.

    Raises `ValueError` for an encoding other than UTF-8 and UTF-16, and for quotes that are not closed.
    """
    text = decode_text(path)
    declared = re.match(r"sep=(.)\r?\n", text)  # Excel's own first line
    try:
        rows = list(_rows(text, declared[1] if declared else find_delimiter(text, columns), strict=True))
    except csv.Error as error:
        raise ValueError(
            f'{path}: its quotation marks do not match ({error}). Put one " before and one after each text that holds '
            'a comma or a quotation mark, and write a quotation mark inside it twice: "a 3"" lesion".'
        ) from error
    return Cells(rows[1:] if declared else rows, "line", {}, [])


def decode_text(path: Path) -> str:
    """The text of a UTF-8 or UTF-16 file. Raises `ValueError` for another encoding, with how to save it."""
    content = path.read_bytes()
    if content.startswith(b"PK\x03\x04"):
        raise ValueError(f"{path}: is an Excel workbook by its content: rename it to end in .xlsx.")
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    advice = 'Save it as "CSV UTF-8 (comma delimited)" in Excel'
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}: line {line} is not {'UTF-16' if is_utf16 else 'UTF-8'} (byte {content[error.start]:#04x}); "
            f"Excel's plain CSV is often Windows-1252 (cp1252). {advice}, or by "
            f"`iconv -f cp1252 -t utf-8 {path.name} > new.csv`."
        ) from error
    if "\0" in text:
        raise ValueError(f"{path}: looks like UTF-16 or UTF-32 without a byte order mark. {advice}.")
    return text


def find_delimiter(text: str, columns: Collection[str]) -> str:
    """Comma, semicolon or tab: the one that gives the header most of the columns, then most cells."""
    names = {column.lower() for column in columns}

    def matching_cells(delimiter: str) -> tuple[int, int]:
        _, header = next(_rows(text, delimiter), (0, []))
        return len(names & {cell.lower() for cell in header}), len(header)

    return max(DELIMITERS, key=matching_cells)


def _rows(text: str, delimiter: str, strict: bool = False) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row that is not empty; quoted line breaks are kept."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=strict)
    start = 1
    while True:
        try:
            cells = [cell.strip() for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            raise csv.Error(f"line {start}: {error}") from error
        if any(cells):
            yield start, cells
        start = reader.line_num + 1


def read_excel_cells(path: Path) -> Cells:
    """The cells of a workbook's first sheet. Raises `ValueError` for a damaged file."""
    with needed_for(f"{path}: reading it"):
        import openpyxl
    try:
        sheet, *others = openpyxl.load_workbook(path, data_only=True).worksheets
    except Exception as error:  # openpyxl has no common class for a damaged workbook
        raise ValueError(f"{path}: not readable as a table ({error}). Save it as UTF-8 CSV or xlsx.") from error
    if _is_huge(sheet):
        raise ValueError(
            f"{path}: its first sheet claims {sheet.max_row:,} rows and {sheet.max_column:,} columns. "
            "Delete the cells far below or beside the table, or save it as UTF-8 CSV."
        )
    rows = [(number, list(map(_shown, cells))) for number, cells in enumerate(sheet.iter_rows(), 1)]
    more = [repr(one.title) for one in others if _is_huge(one) or any(map(any, one.iter_rows(values_only=True)))]
    notes = [
        f"{path.name}: only the first sheet '{sheet.title}' is read; the sheets {', '.join(more)} hold data too: "
        "move their rows into the first, or delete them"
    ]
    return Cells([row for row in rows if any(row[1])], "row", _cell_faults(sheet), notes if more else [])


def _is_huge(sheet: Any) -> bool:
    return sheet.max_row * sheet.max_column > _MAX_CELLS  # openpyxl makes an object of each, even if empty


def _shown(cell: Any) -> str:
    """A cell's text: 1 and 1.0 as "1", 1 in the format 000 as "001", TRUE as "TRUE"."""
    value = cell.value
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, (int, float)):
        text = f"{value:.15g}" if value % 1 else f"{value:.0f}"
        return text.zfill(len(cell.number_format)) if re.fullmatch("0+", cell.number_format) else text
    return "" if value is None else str(value).strip()


def _cell_faults(sheet: Any) -> dict[tuple[int, int], str]:
    """Cells whose display differs from their value: dates, formula errors, and all but the first of merged cells."""
    faults = {}
    for cell in (cell for row in sheet.iter_rows() for cell in row):
        place = (cell.row, cell.column - 1)
        if isinstance(cell.value, (datetime.date, datetime.time, datetime.timedelta)):
            faults[place] = f"is a date ({_shown(cell)}): format the column as text and write the cell again"
        elif cell.data_type == "e":
            faults[place] = f"is a formula error ({cell.value}): write the intended value"
    for area in sheet.merged_cells.ranges:
        first, *others = area.cells
        for row, column in others:
            faults[row, column - 1] = f"is merged with that of row {first[0]}: unmerge them and fill every cell"
    return faults
