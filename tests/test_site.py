"""The site names every page and every public name, and the versions of the package agree."""

import ast
import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

import tevia_hf

ROOT = Path(__file__).parents[1]
API = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "api").glob("*.md")}
ENTRIES = [entry for page in API.values() for entry in re.findall(r"^::: (\S+)$", page, re.MULTILINE)]


def pages_of(entries) -> list[str]:
    values = [value for entry in entries for value in entry.values()]
    return [page for value in values for page in ([value] if isinstance(value, str) else pages_of(value))]


def test_the_navigation_names_every_page_once():
    pages = pages_of(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"])
    assert sorted(pages) == sorted(str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md"))


def test_the_reference_names_every_public_name_once():
    names = [entry.rpartition(".")[2] for entry in ENTRIES]
    assert sorted(names) == sorted(set(tevia_hf.__all__) - {"__version__"})


@pytest.mark.parametrize("entry", ENTRIES)
def test_an_entry_of_the_reference_is_that_public_name(entry):
    module, _, name = entry.rpartition(".")
    assert getattr(import_module(module), name) is getattr(tevia_hf, name)


@pytest.mark.parametrize("page", API)
def test_a_page_of_the_reference_lists_its_names_and_their_files_for_readers_without_the_site(page):
    listed = {
        f"tevia_hf.{file.replace('/', '.')}.{name}"
        for names, file in re.findall(r"^- (.+): `(\S+)\.py`$", API[page], re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert listed == set(re.findall(r"^::: (\S+)$", API[page], re.MULTILINE))


def joint_entries(code: str) -> list[str]:
    """Lines of docstrings that describe several arguments at once, which the reference shows without their types."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    arguments = "\n".join((ast.get_docstring(node) or "").partition("Args:")[2] for node in nodes)
    return re.findall(r"^ +\w+(?:, \w+)+: .*$", arguments, re.MULTILINE)


def test_docstrings_describe_one_argument_per_entry():
    assert joint_entries('def f():\n    """X.\n\n    Args:\n        a, b: numbers.\n    """') == ["    a, b: numbers."]
    for path in (ROOT / "src").rglob("*.py"):
        assert joint_entries(path.read_text(encoding="utf-8")) == [], path


def test_changelog_and_citation_are_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == tevia_hf.__version__
    release = f"## {citation['version']} ({citation['date-released']})"
    assert release in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
