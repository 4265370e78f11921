"""What the scripts in tools/ write, and that the pinned versions lie within the declared ranges."""

import dataclasses
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tevia_hf.configuration_tevia import TeViAConfig
from tevia_hf.training.arguments import PIXEL_FIELDS, DataArguments, ModelArguments, TeViATrainingArguments

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import recipe_fields  # noqa: E402  # needs the path above
import results  # noqa: E402  # likewise
from lowest_versions import lowest_versions, pinned  # noqa: E402  # likewise


def requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = (project["dependencies"], *project["optional-dependencies"].values())
    found = [Requirement(line) for group in groups for line in group]
    return [requirement for requirement in found if requirement.name != project["name"]]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_the_lowest_versions_are_the_floors_of_the_project():
    assert (ROOT / "constraints-lowest.txt").read_text(encoding="utf-8") == lowest_versions()
    assert set(pins("constraints-lowest.txt")) == {requirement.name for requirement in requirements()}


@pytest.mark.parametrize("name", ["constraints.txt", "constraints-lowest.txt"])
def test_every_tested_version_is_one_that_the_project_allows(name):
    versions = pins(name)
    refused = [str(line) for line in requirements() if not line.specifier.contains(versions[line.name])]
    assert refused == []


def test_every_requirement_has_a_cap():
    uncapped = [str(line) for line in requirements() if not any(part.operator == "<" for part in line.specifier)]
    assert uncapped == ["types-PyYAML>=6.0.12.20261113"]  # stubs, versioned by date


def test_a_requirement_is_pinned_to_its_floor():
    assert pinned("numpy>=2.0.0,<3") == "numpy==2.0.0"
    assert pinned("ray[data]>=2.60.0,<3") == "ray==2.60.0"
    assert pinned("types-PyYAML>=6.0.12.20261113") == "types-PyYAML==6.0.12.20261113"


@pytest.mark.parametrize("requirement", ["numpy", "numpy<3", "numpy==2.0.0"])
def test_a_requirement_without_a_floor_is_refused(requirement):
    with pytest.raises(ValueError, match=f"'{requirement}' has no floor"):
        pinned(requirement)


def test_the_length_of_a_function_is_that_of_its_body_without_docstring(tmp_path):
    (tmp_path / "module.py").write_text(
        'def long(\n    a,\n):\n    """What it\n\n    gives."""\n    b = a\n\n    return b\n\n\n'
        'class Kind:\n    def short(self):\n        """Nothing."""\n\n    async def one(self):\n        pass\n'
    )
    command = [sys.executable, str(ROOT / "tools" / "code_lengths.py"), str(tmp_path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == "3 functions: median 1, p95 3, longest 3"
    assert [line.split()[0] for line in lines[1:4]] == ["3", "1", "0"]
    assert lines[4].startswith("1 files: median 17")


@pytest.mark.parametrize("name", results.PAGES)
def test_the_figures_of_the_pages_are_those_of_the_rows(name):
    written = (ROOT / name).read_text(encoding="utf-8")
    assert written == results.content(name), "write them by `python tools/results.py`"


def test_the_page_of_recipe_fields_is_current_and_lists_every_field():
    page = recipe_fields.PAGE.read_text(encoding="utf-8")
    assert page == recipe_fields.content(), "write it by `python tools/recipe_fields.py`"
    listed = re.findall(r"^\| `(\w+)` \| .* \| \S.* \|$", page, re.MULTILINE)
    fields = [field.name for group in (ModelArguments, DataArguments) for field in dataclasses.fields(group)]
    assert sorted(listed) == sorted([*fields, *TeViATrainingArguments.__annotations__])
    explained = re.findall(r"^\| `(\w+)` \| [^|]+ \|$", page, re.MULTILINE)
    assert sorted(explained) == sorted({*TeViAConfig.__annotations__, *PIXEL_FIELDS} - {"model_type", "sub_configs"})


def test_a_fall_is_measured_from_the_best_value_before():
    assert results.largest_fall([0.5, 0.7, 0.65, 0.8, 0.79]) == pytest.approx(0.05)
    assert results.largest_fall([0.5, 0.6]) == results.largest_fall([]) == 0


def test_a_figure_is_the_mean_over_the_seeds_and_a_dash_where_it_was_not_measured():
    rows = [{"scores": {"correct": {"dice": dice}}} for dice in (0.5, 0.7)]
    assert results.number(results.score(rows, "correct")) == "0.600"
    assert results.number(results.score(rows, "none")) == "-"
    assert results.score([{"scores": {"no text branch": {"dice": 0.4}}}], "correct") == 0.4


def test_a_part_between_marks_is_replaced_and_nothing_else():
    page = f"a\n<!-- {results.START} -->\nold\n<!-- {results.END} -->\nb\n"
    assert results.between_marks(page, "new") == page.replace("old", "new")
