import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tevia_hf

HEAVY = {"torch", "transformers", "numpy", "datasets", "monai"}
NEEDED_BY_NO_MODEL = {"datasets", "monai", "gradio", "pandas", "matplotlib", "evaluate", "peft", "pydicom", "nibabel"}


NAME_MODULES = "\nimport sys\nprint('\\nLOADED', *sys.modules)"


@pytest.fixture(scope="module")
def modules_loaded_by(fresh_interpreter):
    """Names of all modules that a fresh interpreter holds after running some code."""

    def modules_loaded_by(code: str) -> set[str]:
        result = fresh_interpreter.run(code + NAME_MODULES)
        assert result.returncode == 0, result.stderr
        return set(result.stdout.rpartition("LOADED ")[2].split())

    return modules_loaded_by


def names_editors_see() -> set[str]:
    """Names imported for type checkers only."""
    with open(tevia_hf.__file__, encoding="utf-8") as file:
        blocks = [node for node in ast.parse(file.read()).body if isinstance(node, ast.If)]
    imports = [node for block in blocks for node in block.body if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{alias.name}" for node in imports for alias in node.names}


def modules_loaded_by_command(*words: str) -> set[str]:
    code = (
        f"import runpy, sys\nsys.argv = ['tevia', *{words}]\n"
        "try:\n    runpy.run_module('tevia_cli', run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code, end.code"
    )
    result = subprocess.run([sys.executable, "-c", code + NAME_MODULES], capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.rpartition("LOADED ")[2].split())


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["train", "--help"]], ids=" ".join)
def test_help_and_version_do_not_wait_for_torch(words):
    loaded = modules_loaded_by_command(*words)
    assert "tevia_cli.main" in loaded and "tevia_hf" not in loaded
    assert not loaded & HEAVY


def test_a_command_looks_for_no_garbage_among_its_imports(modules_loaded_by):
    command = "main(['compare', 'no-a.csv', 'no-b.csv'])"
    modules_loaded_by(f"import gc; from tevia_cli.main import main; {command}; assert gc.get_freeze_count() > 10_000")


def test_importing_the_package_loads_what_a_model_needs_alone(modules_loaded_by):
    loaded = modules_loaded_by("import tevia_hf")
    assert {"torch", "transformers", "tevia_hf.modeling_tevia"} <= loaded
    assert not loaded & NEEDED_BY_NO_MODEL


@pytest.mark.parametrize("is_enabled", [True, False])
def test_importing_the_package_leaves_garbage_collection_as_it_was(is_enabled, modules_loaded_by):
    switch = "enable" if is_enabled else "disable"
    assert modules_loaded_by(f"import gc; gc.{switch}(); import tevia_hf; assert gc.isenabled() == {is_enabled}")


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
    "import sys, tevia_hf; [sys.modules.pop(name) for name in [*sys.modules] if 'tevia_hf' in name]; import tevia_hf",
    "import tevia_cli.main, tevia_hf.configuration_tevia",
    "from tevia_hf.io import read_image",
    """
import threading
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
def test_the_auto_classes_know_tevia_whatever_is_imported_first(code, modules_loaded_by):
    known = (
        "from transformers import AutoConfig; from transformers.pipelines import PIPELINE_REGISTRY\n"
        "assert type(AutoConfig.for_model('tevia')).__module__ == 'tevia_hf.configuration_tevia'\n"
        "assert 'text-guided-image-segmentation' in PIPELINE_REGISTRY.supported_tasks"
    )
    assert "tevia_hf.auto" in modules_loaded_by(f"{code}\n{known}")


@pytest.mark.parametrize("module", ["modeling_tevia", "auto", "training.recipe", "data.collate"])
def test_every_module_can_be_the_first_that_is_imported(module, modules_loaded_by):
    assert f"tevia_hf.{module}" in modules_loaded_by(f"import tevia_hf.{module}")


@pytest.mark.parametrize(
    ("module", "error"),
    [("auto", "TypeError"), ("configuration_tevia", "ImportError"), ("pipeline_tevia", "SystemExit")],
)
def test_transformers_is_imported_even_where_tevia_cannot_be(module, error, tmp_path, modules_loaded_by):
    package = tmp_path / "tevia_hf"
    shutil.copytree(Path(tevia_hf.__file__).parent, package)
    (package / f"{module}.py").write_text(f"raise {error}('broken')")
    code = (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\n"
        f"try:\n    import tevia_hf\nexcept {error} as error:\n    assert 'broken' in str(error)\n"
        "else:\n    raise SystemExit('no error')\n"
        "import transformers\ntransformers.AutoConfig.for_model('bert')\n"
    )
    assert "transformers" in modules_loaded_by(code)


def test_nothing_listens_for_the_import_of_other_packages(modules_loaded_by):
    code = "import sys, transformers\nbefore = list(sys.meta_path)\nimport tevia_hf\nassert sys.meta_path == before"
    assert "tevia_hf" in modules_loaded_by(code)


def test_transformers_alone_is_left_as_it_is(modules_loaded_by):
    assert "tevia_hf" not in modules_loaded_by("from transformers import AutoConfig")


def test_editors_see_exactly_the_public_names():
    assert names_editors_see() == {f"{module}.{name}" for name, module in tevia_hf._MODULE_OF.items()}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'tevia_hf' has no attribute 'TeVia'"):
        _ = tevia_hf.TeVia
