"""Small damaged files that were once neither read nor refused by name; `tools/mutated_files.py` looks for more."""

from pathlib import Path

import pytest

from tevia_hf.data.tables import read_table
from tevia_hf.io import has_slices, read_image
from tevia_hf.training.arguments import parse_recipe

READERS = {".yaml": parse_recipe, ".csv": read_table, ".xlsx": read_table}
FILES = sorted((Path(__file__).parent / "data_mutated").iterdir())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_damaged_file_is_read_or_refused_with_a_reason(path):
    read = READERS.get(path.suffix, read_image)
    try:
        assert read(f"{path}#middle" if has_slices(path) else path) is not None
    except ValueError as error:
        assert path.name in str(error) or "`" in str(error) or "window" in str(error)
        assert "MemoryError" not in str(error)
