"""The examples run offline on the smallest model and synthetic images, and import public names only."""

import ast
import csv
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tevia_hf
from tevia_hf import load_segmentation_dataset
from tevia_hf.extras import EXTRA_OF

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
TINY = ROOT / "hub_configs" / "tevia-tiny"


@pytest.fixture(scope="module")
def run_example(fresh_interpreter):
    """Runs an example in a process to which some libraries are missing."""

    def run_example(name: str, *words: object, lost: tuple[str, ...] = ()):
        script = ROOT / "examples" / name
        code = (
            f"import runpy, sys\nsys.modules.update(dict.fromkeys({lost}))\n"
            f"runpy.run_path({str(script)!r}, run_name='__main__')"
        )
        return fresh_interpreter.run(code, *words, environment={"HF_ENDPOINT": "http://127.0.0.1:9"})

    return run_example


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_short_and_imports_public_names_only(path):
    code = path.read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 60
    own = [
        n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.ImportFrom) and str(n.module).startswith("tevia_hf")
    ]
    assert {node.module for node in own} == {"tevia_hf"}
    assert {alias.name for node in own for alias in node.names} <= set(tevia_hf.__all__)


def test_the_fine_tuning_example_is_the_script_of_the_page_on_training():
    """`test_readme` runs that script."""
    page = (ROOT / "docs" / "train.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.M)
    docstring, script = (ROOT / "examples" / "fine_tune.py").read_text(encoding="utf-8").split("\n\n", 1)
    assert script in blocks and docstring.startswith('"""')


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Three synthetic images, and a table with the texts of two: its own, and none; one of them has a comma."""
    folder = tmp_path_factory.mktemp("batch")
    (folder / "images").mkdir()
    examples = list(load_segmentation_dataset("synthetic", split="test", size=256, count=3))
    for example in examples:
        example["image"].save(folder / "images" / f"{example['id']}.png")
    with open(folder / "texts.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["Image", "Description"])
        rows.writerows([f"{e['id']}.png", text] for e, text in zip(examples, [examples[0]["text"], ""], strict=False))
    return folder, examples


def test_batch_inference_writes_a_mask_for_each_row_of_the_table_on_the_base_install(images, run_example):
    folder, examples = images
    words = (TINY, folder / "images", folder / "texts.csv", folder / "masks")
    result = run_example("batch_inference.py", *words, lost=tuple(EXTRA_OF))
    assert result.returncode == 0, result.stderr
    names = {f"{example['id']}.png" for example in examples[:2]} | {"overlays"}
    assert {path.name for path in (folder / "masks").iterdir()} == names
    found = np.asarray(Image.open(folder / "masks" / f"{examples[0]['id']}.png"))
    true = np.asarray(examples[0]["mask"]) > 0
    assert set(np.unique(found)) == {0, 255} and 2 * (true & (found > 0)).sum() / (true.sum() + (found > 0).sum()) > 0.8
    shown = np.asarray(Image.open(folder / "masks" / "overlays" / f"{examples[0]['id']}.png"))
    assert (shown[np.kron(found, np.ones((2, 2))) > 0, 0] > shown[np.kron(found, np.ones((2, 2))) > 0, 2]).mean() > 0.9
    assert result.stdout.count("% of the image") == 2


def test_batch_inference_names_an_image_that_the_folder_lacks_before_it_writes(images, run_example):
    folder, _ = images
    (folder / "more.csv").write_text("Image,Description\nnowhere.png,left lung\n", encoding="utf-8")
    result = run_example("batch_inference.py", TINY, folder / "images", folder / "more.csv", folder / "none")
    assert result.returncode == 2 and "lacks 1 images of the table, e.g. nowhere.png" in result.stderr
    assert not (folder / "none").exists()
