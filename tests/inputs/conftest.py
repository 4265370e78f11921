"""Models for this folder, built once for all tests."""

from pathlib import Path

import pytest
from tiny import tiny_processor, tiny_reader

TINY = Path(__file__).parents[2] / "hub_configs" / "tevia-tiny"


@pytest.fixture(scope="session")
def tiny_dir():
    """The folder of the smallest trained model, by its name."""
    return str(TINY)


@pytest.fixture(scope="session")
def reader():
    """A model whose masks depend on the text; tests do not change it."""
    return tiny_reader()


@pytest.fixture(scope="session")
def processor():
    return tiny_processor()


@pytest.fixture(scope="session")
def reader_dir(tmp_path_factory):
    """A folder of the same model."""
    folder = tmp_path_factory.mktemp("reader")
    tiny_reader().save_pretrained(folder)
    tiny_processor().save_pretrained(folder)
    return str(folder)
