"""The base install runs the model; what a missing optional library takes away says which extra brings it back."""

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement

import tevia_hf
from tevia_cli.main import SUBCOMMANDS as ALL_SUBCOMMANDS
from tevia_hf.charts import difference_chart, draw_training_curves, interval_chart
from tevia_hf.extras import EXTRA_OF, MissingExtraError, needed_for
from tevia_hf.io import MedicalImage, read_image, write_mask
from tevia_hf.mask_scores import MaskPair, hd95, surface_dice
from tevia_hf.training.adapters import with_lora

ROOT = Path(__file__).parents[1]
SOURCE = Path(tevia_hf.__file__).parent
TINY = str(ROOT / "hub_configs" / "tevia-tiny")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {name: list(map(Requirement, lines)) for name, lines in PROJECT["optional-dependencies"].items()}
BASE = {"numpy", "pillow", "pyyaml", "filelock", "tqdm"}


def installed_by(extras: set[str]) -> set[str]:
    """Libraries of some extras, and of those that they name."""
    needed = [line for extra in extras for line in EXTRAS[extra]]
    own = {extra for line in needed if line.name == PROJECT["name"] for extra in line.extras}
    return {line.name for line in needed} | (installed_by(own) if own else set())


DATA = {"datasets", "pandas", "scipy"}
TRAINING = DATA | {"accelerate", "monai"}
EVALUATION = DATA | {"jinja2", "matplotlib", "monai"}
NEEDS = {
    **dict.fromkeys(
        ["METRICS", "register_metric", "segmentation_metrics", "lesion_statistics", "volume_metrics"], {"scipy"}
    ),
    **dict.fromkeys(["load_segmentation_dataset", "register_dataset", "check_data", "write_prompts"], DATA),
    **dict.fromkeys(["TEXT_CONDITIONS", "register_text_condition", "compare_runs"], DATA),
    "results_table": DATA,
    **dict.fromkeys(["write_bundle", "push_model"], DATA),
    "Calibration": DATA | {"onnx", "onnxruntime"},
    "benchmark_model": {"onnx", "onnxruntime", "torch"},
    **dict.fromkeys(["evaluate_model", "evaluate_dataset"], EVALUATION),
    **dict.fromkeys(["LossLoggingCallback", "MomentumPrototypeCallback"], {"accelerate", "datasets"}),
    **dict.fromkeys(["DivergenceCallback", "TrainingDivergedError"], {"accelerate", "datasets"}),
    **dict.fromkeys(["build_trainer", "run_demo"], TRAINING),
    "train_from_recipe": TRAINING | {"matplotlib"},
    "run_ablation": TRAINING | EVALUATION,
}
OF_THE_BASE = {"Predictor", "Tiling", "heat_map", "labels_from_logits", "load_exported", "overlay", "predict"}
OF_THE_BASE |= {"predict_files", "read_image", "write_mask"}
OF_TORCH = set(tevia_hf.__all__) - set(NEEDS) - OF_THE_BASE - {"__version__"}
NEEDS |= dict.fromkeys(sorted(OF_TORCH), {"torch", "transformers"}) | {"register_loss": {"torch"}}
SUBCOMMANDS = {
    "demo": (["--output-dir", "demo"], TRAINING),
    "train": ([f"{TINY}/recipe.yaml"], TRAINING | {"matplotlib"}),
    "evaluate": ([TINY, "--output-dir", "scores"], EVALUATION),
    "ablate": ([f"{TINY}/recipe.yaml", "--grid", "grid.yaml"], TRAINING | EVALUATION),
    "compare": (["a.csv", "b.csv"], DATA),
    "table": (["a", "b"], DATA),
    "predict": ([TINY, str(ROOT / "docs" / "result.jpg"), "--output-dir", "masks"], {"torch", "transformers"}),
    "prompts": (["qata", "data"], DATA),
    "check-data": (["qata", "data"], DATA),
    "convert": (["missing.ckpt", "--vision", "v", "--text", "t", "--output-dir", "converted"], {"torch"}),
    "export": ([TINY, "--output-dir", "exported"], {"onnx", "onnxscript", "onnxruntime", "torch"}),
    "benchmark": ([TINY, "--output-dir", "benchmark"], {"onnx", "onnxruntime", "torch"}),
    "bundle": ([TINY, "--name", "org/name", "--output-dir", "bundle"], DATA),
    "push": ([TINY, "org/name"], DATA),
}
WORDS = {name: [name, *words] for name, (words, _) in SUBCOMMANDS.items()}
CASES = [(library, name) for name, libraries in NEEDS.items() for library in sorted(libraries)]
CASES += [(library, WORDS[name]) for name, (_, libraries) in SUBCOMMANDS.items() for library in sorted(libraries)]
OFFLINE = {**os.environ, "HF_HUB_OFFLINE": "1"}


def identify(case) -> str:
    return case if isinstance(case, str) else case[0]


@pytest.fixture(scope="module")
def errors(tmp_path_factory):
    """The error of each case, by library and name."""
    command = [sys.executable, str(Path(__file__).with_name("missing_libraries.py"))]
    folder = tmp_path_factory.mktemp("missing")
    tried = {library: [what for lost, what in CASES if lost == library] for library in sorted(EXTRA_OF)}
    asked = json.dumps({library: whats for library, whats in tried.items() if whats})
    result = subprocess.run(command, input=asked, capture_output=True, text=True, cwd=folder, env=OFFLINE, timeout=600)
    assert result.returncode == 0, result.stderr
    return {
        (library, identify(what)): error
        for library, errors in json.loads(result.stdout).items()
        for what, error in zip(tried[library], errors, strict=True)
    }


@pytest.mark.parametrize(("library", "what"), CASES, ids=identify)
def test_a_missing_library_is_reported_with_its_extra(library, what, errors):
    message = f"needs {library}: pip install 'tevia_hf[{EXTRA_OF[library]}]'."
    error = errors[library, identify(what)].strip()
    assert error.endswith(message) and (isinstance(what, str) or error.startswith(f"tevia {what[0]}: "))


TORCH = {*installed_by({"torch"}), "tokenizers"}  # which transformers brings
WITHOUT_OPTIONAL_LIBRARIES = f"""
import sys
lost = dict.fromkeys({sorted(EXTRA_OF.keys() - TORCH)})
for name in [name for name in sys.modules if name.partition(".")[0] in lost]:
    del sys.modules[name]
sys.modules.update(lost)
"""


INFERENCE = f"""
import numpy as np
from PIL import Image
from transformers import pipeline

import tevia_hf
for name in {sorted(OF_THE_BASE | OF_TORCH)}:
    getattr(tevia_hf, name)

image, text = Image.fromarray(np.random.default_rng(0).integers(0, 255, (70, 90), np.uint8)), "left lung"
segment = pipeline("text-guided-image-segmentation", model={TINY!r})
found = segment(image, text, overlay=True)[0]
assert found["mask"].size == found["overlay"].size == (90, 70)

picture = tevia_hf.overlay(image, np.asarray(found["mask"]) > 0)
assert picture.size == (450, 350)
model, processor = (kind.from_pretrained({TINY!r}) for kind in (tevia_hf.TeViAForSegmentation, tevia_hf.TeViAProcessor))
(influence,) = tevia_hf.explain_texts(model, processor, image, [text])
assert influence.effect.shape == (70, 90)
tevia_hf.heat_map(image, influence.effect)
tevia_hf.text_warnings(model, processor, text)

from tevia_cli.main import main
for words in {[WORDS[name] for name, (_, libraries) in SUBCOMMANDS.items() if not libraries - {"torch"}]}:
    main(words)
"""

HELP = f"""
import contextlib, io
from tevia_cli.main import main
for name in {list(SUBCOMMANDS)}:
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            code = main([name, "--help"])
        except SystemExit as end:
            code = end.code
    assert not code or (code == 2 and name != "predict")
    assert not code or (f"tevia {{name}}: " in errors.getvalue() and "'tevia_hf[" in errors.getvalue())
"""


def test_the_extra_torch_segments_and_explains(tmp_path, fresh_interpreter):
    result = fresh_interpreter.run(WITHOUT_OPTIONAL_LIBRARIES + INFERENCE, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "pip install" not in result.stderr and "Traceback" not in result.stderr


def test_help_on_the_base_install_is_shown_or_names_the_extra(fresh_interpreter):
    result = fresh_interpreter.run(WITHOUT_OPTIONAL_LIBRARIES + HELP)
    assert result.returncode == 0, result.stderr


@pytest.fixture
def lost(monkeypatch):
    """Takes libraries away for the length of a test."""

    def take_away(library):
        for name in [name for name in sys.modules if name.partition(".")[0] == library]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, library, None)

    return take_away


def test_lora_without_peft_is_reported_with_its_package(lost):
    lost("peft")
    with pytest.raises(ImportError, match=r"LoRA needs peft: pip install 'tevia_hf\[peft\]'"):
        with_lora(tevia_hf.TeViAForSegmentation.from_pretrained(TINY), {"r": 2})


FILES = {"scan.dcm": "pydicom", "scan.nii": "nibabel", "scan.nii.gz": "nibabel", "record.mat": "h5py"}


@pytest.mark.parametrize(("name", "library"), FILES.items(), ids=FILES)
def test_a_file_that_needs_a_missing_library_names_the_file_and_the_extra(name, library, lost, tmp_path):
    import_module("tevia_hf.data")  # knows records of figshare
    lost(library)
    (tmp_path / name).write_bytes(b"\0" * 200)
    with pytest.raises(MissingExtraError) as raised:
        read_image(tmp_path / name)
    message = f"{tmp_path / name}: reading it needs {library}: pip install 'tevia_hf[medical]'."
    assert str(raised.value) == message and isinstance(raised.value, ValueError)


def test_a_mask_that_needs_a_missing_library_names_the_file_and_the_extra(lost, tmp_path):
    lost("nibabel")
    mask, image = np.ones((4, 4), np.uint8), MedicalImage(np.zeros((4, 4), np.float32))
    with pytest.raises(MissingExtraError, match=r"mask.nii: writing it needs nibabel: pip .*\[medical\]"):
        write_mask(tmp_path / "mask.nii", mask, like=image)


def test_a_table_that_needs_a_missing_library_names_the_table_and_the_extra(lost, tmp_path):
    from tevia_hf.data.tables import read_table

    lost("openpyxl")
    (tmp_path / "texts.xlsx").touch()
    with pytest.raises(MissingExtraError, match=r"texts.xlsx: reading it needs openpyxl: pip .*\[tables\]"):
        read_table(tmp_path / "texts.xlsx")


def test_overlap_is_scored_without_monai_and_boundaries_name_the_extra(lost):
    lost("monai")
    mask = np.eye(8, dtype=np.uint8)
    assert tevia_hf.segmentation_metrics([mask], [mask], outlines=False)["dice"] == 1
    for score in (hd95, surface_dice):
        with pytest.raises(MissingExtraError, match=r"Scoring boundaries needs monai: pip .*\[metrics\]"):
            score(MaskPair(mask, mask))


def test_a_chart_without_matplotlib_names_the_extra(lost):
    lost("matplotlib")
    charts = (
        lambda: interval_chart({"none": (0.5, None)}, "Scores", "Dice"),
        lambda: difference_chart({"a - b": (0.5, None)}, "Scores", "Dice"),
        lambda: draw_training_curves([{"loss": 1.0, "epoch": 1.0}]),
    )
    for draw in charts:
        with pytest.raises(MissingExtraError, match=r"Drawing a chart needs matplotlib: pip .*\[train\]"):
            draw()


def test_a_library_that_a_present_one_imports_is_named_with_its_own_extra():
    with (
        pytest.raises(MissingExtraError, match=r"This needs pandas: pip install 'tevia_hf\[tables\]'"),
        needed_for("This"),
    ):
        raise ModuleNotFoundError("No module named 'pandas.io'", name="pandas.io")


def test_a_missing_module_of_no_extra_stays_as_it_is():
    with pytest.raises(ModuleNotFoundError, match="^No module named 'tevia_nowhere'$"), needed_for("This"):
        import tevia_nowhere  # noqa: F401  # importing it is what fails


def test_every_library_of_an_extra_is_known_by_that_extra():
    roles = {name: needed for name, needed in EXTRAS.items() if name not in ("dev", "docs")}
    found = [(line.name, name) for name, needed in roles.items() for line in needed if line.name != PROJECT["name"]]
    assert EXTRA_OF.items() <= set(found) and EXTRA_OF.keys() == dict(found).keys()


def test_the_extra_for_development_holds_those_of_users():
    (own,) = [line for line in EXTRAS["dev"] if line.name == PROJECT["name"]]
    assert own.extras == EXTRAS.keys() - {"dev", "docs", "ray"}  # whose only test starts a cluster, for a minute


@pytest.mark.parametrize("space", ["tevia-demo", "tevia-metric"])
def test_a_space_asks_for_the_extras_that_its_public_names_need(space):
    folder = ROOT / "spaces" / space
    lines = map(Requirement, (folder / "requirements.txt").read_text(encoding="utf-8").splitlines())
    (own,) = [line for line in lines if line.name == PROJECT["name"]]
    code = "\n".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    used = {name for name in NEEDS if re.search(rf"\b{name}\b", code)}
    assert used and set().union(*(NEEDS[name] for name in used)) <= installed_by(own.extras)


def imported_libraries() -> set[str]:
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [str(node.module) for node in nodes if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"tevia_hf"}


def test_every_library_that_is_imported_is_declared():
    declared = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert declared == BASE
    modules = (declared - {"pillow", "pyyaml"}) | {"PIL", "yaml"}
    assert imported_libraries() <= modules | set(EXTRA_OF)


def test_every_subcommand_is_tried():
    assert set(SUBCOMMANDS) == set(ALL_SUBCOMMANDS)
