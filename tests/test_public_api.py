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


NEWCOMERS_IMPORTS = (
    "import tevia_hf; import transformers",
    "import importlib.util, tevia_hf; assert importlib.util.find_spec('transformers')",
    "import transformers; import tevia_hf",
    "from transformers.pipelines import pipeline; import tevia_hf",
    "import tevia_hf; from transformers.pipelines import pipeline",
    "from tevia_hf import load_segmentation_dataset; from transformers import AutoModel",
    "from tevia_hf import TeViAConfig",
    "from tevia_hf import segmentation_metrics, TeViAProcessor",
    "import importlib, tevia_hf; importlib.reload(tevia_hf); import transformers",
    "import sys, tevia_hf; del sys.modules['tevia_hf']; import tevia_hf; import transformers",
    """
import threading, tevia_hf
halves = ["import transformers; transformers.AutoModel", "from tevia_hf import TeViAConfig"]
failed = []
def run(code):
    try:
        exec(code)
    except BaseException as error:
        failed.append(error)
threads = [threading.Thread(target=run, args=(code,)) for code in halves]
[thread.start() for thread in threads], [thread.join() for thread in threads]
assert not failed, failed
""",
)


@pytest.mark.parametrize("code", NEWCOMERS_IMPORTS)
def test_the_auto_classes_know_tevia_whatever_is_imported_first(code):
    known = (
        "from transformers import AutoConfig; from transformers.pipelines import PIPELINE_REGISTRY\n"
        "assert type(AutoConfig.for_model('tevia')).__module__ == 'tevia_hf.configuration_tevia'\n"
        "assert 'text-guided-image-segmentation' in PIPELINE_REGISTRY.supported_tasks"
    )
    assert "tevia_hf.auto" in modules_loaded_by(f"{code}\n{known}")


@pytest.mark.parametrize("module", ["configuration_tevia", "modeling_tevia", "auto", "training.recipe", "data.collate"])
def test_every_module_can_be_the_first_that_is_imported(module):
    assert f"tevia_hf.{module}" in modules_loaded_by(f"import tevia_hf.{module}")


def test_transformers_is_imported_even_where_tevia_cannot_be():
    code = (
        "import sys, warnings, tevia_hf\nsys.modules['tevia_hf.auto'] = None\n"
        "with warnings.catch_warnings(record=True) as told:\n    import transformers\n"
        "assert 'cannot be registered' in str(told[-1].message)"
    )
    assert "transformers" in modules_loaded_by(code)


def test_transformers_alone_is_left_as_it_is():
    assert "tevia_hf" not in modules_loaded_by("from transformers import AutoConfig")


def test_editors_see_exactly_the_public_names():
    assert names_editors_see() == {f"{module}.{name}" for name, module in tevia_hf._MODULE_OF.items()}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'tevia_hf' has no attribute 'TeVia'"):
        _ = tevia_hf.TeVia
