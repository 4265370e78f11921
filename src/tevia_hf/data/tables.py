"""Tables of sentences: CSV or xlsx with the columns `Image` and `Description`."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from tevia_hf.data.features import raise_problems
from tevia_hf.data.pairing import example_id
from tevia_hf.extras import needed_for

COLUMNS = ("Image", "Description")
OPTIONAL_COLUMNS = ("split", "group")
TABLE_SUFFIXES = (".csv", ".xlsx")


def read_table(path: str | Path) -> pd.DataFrame:
    """A table with the text columns `Image` and `Description` (None where empty) and, if given, `split` and `group`.

    Blanks around a cell do not count, nor do capitals in `split`.

    Raises ValueError where the file cannot be read, is empty, or lacks a column or a file name.
    """
    path = Path(path)
    if path.suffix == ".xlsx":
        with needed_for(f"{path}: reading it"):
            import openpyxl as openpyxl
    try:
        table = pd.read_csv(path, dtype=str) if path.suffix == ".csv" else pd.read_excel(path, dtype=str)
    except Exception as error:  # pandas and openpyxl have no common class for a damaged table
        raise ValueError(
            f"{path}: not readable as a table ({error}). "
            f"Save it as UTF-8 CSV or xlsx with the columns {', '.join(COLUMNS)}."
        ) from error
    table.columns = [_column(str(name)) for name in table.columns]
    table = table.apply(lambda cells: cells.astype(object).str.strip()).replace("", None)
    if "split" in table.columns:
        table["split"] = table["split"].str.lower()
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise ValueError(
            f"{path}: no column {' and '.join(missing)}; it has {list(table.columns)}. "
            f"Rename the columns to {', '.join(COLUMNS)}."
        )
    nameless = [f"row {index + 2} has no file name" for index in table.index[table["Image"].isna()]]
    raise_problems(str(path), nameless, "Fill the column Image, or delete these rows.")
    if table.empty:
        raise ValueError(f"{path} has no rows. Check that it is the right one, and that it has at least one example.")
    return table.astype(object).where(table.notna(), None)


def _column(name: str) -> str:
    name = name.strip()
    return name.lower() if name.lower() in OPTIONAL_COLUMNS else name


def sentences_for(path: str | Path, wanted: Sequence[str]) -> list[str | None]:
    """The sentence of each of the wanted example ids; None where it is empty.

    Raises `ValueError` for ids without a row, several rows of one id, and rows of no wanted id, all in one.
    """
    table = read_table(path)
    ids = [example_id(name) for name in table["Image"]]
    problems = [f"'{name}' is the name of {times} examples" for name, times in Counter(wanted).items() if times > 1]
    problems += [f"'{name}' has no row" for name in sorted(set(wanted) - set(ids))]
    problems += [f"'{name}' has several rows" for name, times in sorted(Counter(ids).items()) if times > 1]
    problems += [f"row '{name}' has no image" for name in sorted(set(ids) - set(wanted))]
    raise_problems(str(path), problems, "Each image needs one row; leave Description empty for an image without text.")
    sentences = dict(zip(ids, table["Description"], strict=True))
    return [sentences[name] for name in wanted]
