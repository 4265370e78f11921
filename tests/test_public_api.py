import ast
import subprocess
import sys

import pytest

import tevia_hf

HELP = """
import sys
from tevia_hf.cli.main import main
sys.argv = ["tevia", "--help"]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
"""


def modules_loaded_by(code: str) -> set[str]:
    """Names of all modules that a fresh interpreter holds after running the code."""
    script = f"{code}\nimport sys\nprint('\\nLOADED', *sys.modules)"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.rpartition("LOADED ")[2].split())


def names_editors_see() -> set[str]:
    """Names imported for type checkers only."""
    with open(tevia_hf.__file__, encoding="utf-8") as file:
        blocks = [node for node in ast.parse(file.read()).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{alias.name}" for node in imports for alias in node.names}


@pytest.mark.parametrize("code", ["import tevia_hf", HELP], ids=["import tevia_hf", "tevia --help"])
def test_neither_importing_nor_asking_for_help_imports_torch(code):
    loaded = modules_loaded_by(code)
    assert "tevia_hf" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "monai"}


@pytest.mark.parametrize("name", tevia_hf.__all__)
def test_every_public_name_resolves(name):
    assert getattr(tevia_hf, name) is not None
    assert name in dir(tevia_hf)


@pytest.mark.parametrize("name", ["TeViAConfig", "TeViAProcessor"])
def test_the_first_use_of_a_kernel_name_registers_the_auto_classes(name):
    assert "tevia_hf.auto" in modules_loaded_by(f"from tevia_hf import {name}")


def test_editors_see_exactly_the_public_names():
    assert names_editors_see() == {f"{module}.{name}" for name, module in tevia_hf._MODULE_OF.items()}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'tevia_hf' has no attribute 'TeVia'"):
        _ = tevia_hf.TeVia
