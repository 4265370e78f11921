"""Test of `tevia check-data`: plants one fault after the other in copies of real data sets.

    python benchmarks/planted_faults.py qata=$QATA monuseg=$MONUSEG breast=$BUSI brain=$LGG

Prints for each data set the faults of the unmodified copy, and for each planted fault the message. Large sets are
reduced to their first 200 pairs. Fails if a fault is not found.
"""

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from PIL import Image

from tevia_hf import TeViAImageProcessor
from tevia_hf.data.check import DataReport, check_dataset
from tevia_hf.data.example import Example
from tevia_hf.data.registry import list_examples
from tevia_hf.data.tables import TABLE_SUFFIXES, read_table

MAX_ROWS = 200
PROCESSOR = SimpleNamespace(image_processor=TeViAImageProcessor())


def missing_mask(root: Path, example: Example) -> None:
    example.masks[0].path.unlink()


def size_mismatch(root: Path, example: Example) -> None:
    pixels = np.asarray(Image.open(example.masks[0].path))
    Image.fromarray(pixels[: len(pixels) // 2]).save(example.masks[0].path)


def wrong_values(root: Path, example: Example) -> None:
    path = example.masks[0].path
    Image.fromarray(np.full(np.asarray(Image.open(path)).shape[:2], 100, np.uint8)).save(path)


def corrupt_file(root: Path, example: Example) -> None:
    content = example.image.path.read_bytes()
    example.image.path.write_bytes(content[: len(content) // 2])


def duplicated_patient(root: Path, example: Example) -> None:
    """Copies a patient's files into the other split's table, or to another patient's name."""
    tables = tables_of(root)
    if len(tables) < 2:
        for path in (example.image.path, example.masks[0].path):
            shutil.copy(path, path.with_name(path.name.replace(example.id, renamed(example.id))))
        return
    own = next(table for table in tables if example.id in " ".join(read_table(table)["Image"]))
    other = next(table for table in tables if table != own)
    name = f"{example.id}-again"  # still the same patient, by the rules of QaTa and MoNuSeg
    folders = folders_of_other_split(root, example)
    for path, folder in zip((example.image.path, example.masks[0].path), folders, strict=True):
        shutil.copy(path, folder / path.name.replace(example.id, name))
    content = read_table(other)
    content.loc[len(content)] = [example.masks[0].path.name.replace(example.id, name), example.text]
    write(content, other)


def empty_text(root: Path, example: Example) -> None:
    for table in tables_of(root)[:1]:
        content = read_table(table)
        content.loc[0, "Description"] = None
        write(content, table)


PLANTS: dict[Callable[[Path, Example], None], str] = {
    missing_mask: "has no mask",
    size_mismatch: "resize the mask",
    wrong_values: "no labels (100)",
    corrupt_file: "corrupt or cut short",
    duplicated_patient: "in more than one split|equal images",
    empty_text: "have no text",
}


def main() -> None:
    missed = []
    for name, data_dir in (argument.split("=", 1) for argument in sys.argv[1:]):
        report = examine(name, Path(data_dir), None)
        print(f"{name}, untouched: {len(report.faults)} faults {report.faults}")
        for plant, expected in PLANTS.items():
            if plant is empty_text and not tables_of(Path(data_dir)):
                continue  # a set without texts
            report = examine(name, Path(data_dir), plant)
            messages = [
                line for line in report.faults + report.warnings if any(part in line for part in expected.split("|"))
            ]
            print(
                f"{name}, {plant.__name__}: {'found' if messages else 'MISSED'}, exit code {int(not report.is_sound)}"
            )
            print(f"    {messages[0][:160] if messages else report.faults}")
            missed += [] if messages else [(name, plant.__name__)]
    sys.exit(f"missed: {missed}" if missed else 0)


def examine(name: str, data_dir: Path, plant: Callable[[Path, Example], None] | None) -> DataReport:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "copy"
        shutil.copytree(data_dir, root)
        cut(name, root)
        if plant is not None:
            examples = [example for example in list_examples(name, root).of_split("train") if len(example.masks) == 1]
            of_known_patient = (example for example in examples if example.group != example.id)
            plant(root, next(of_known_patient, examples[0]))
        return check_dataset(list_examples(name, root), PROCESSOR)


def cut(name: str, root: Path) -> None:
    """Reduces a large set to its first pairs."""
    examples = list_examples(name, root).examples
    if len(examples) <= 2 * MAX_ROWS or not tables_of(root):
        return
    for table in tables_of(root):
        write(read_table(table)[:MAX_ROWS], table)
    kept = {example.id for example in list_examples(name, root).examples}
    for example in examples:
        if example.id not in kept:
            for file in (example.image, *example.masks):
                file.path.unlink()


def renamed(name: str) -> str:
    """Another image number of BUSI, or a slice of another patient of LGG."""
    return "benign (9999)" if "(" in name else "TCGA_ZZ_9999_19990101_1"


def folders_of_other_split(root: Path, example: Example) -> tuple[Path, Path]:
    """Image and mask folders of another split than the example's."""
    name = "qata" if (root / "prompt").is_dir() else "monuseg"
    other = next(found for found in list_examples(name, root).examples if found.split != example.split)
    return other.image.path.parent, other.masks[0].path.parent


def tables_of(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix in TABLE_SUFFIXES and path.name != "data.csv")


def write(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False) if path.suffix == ".csv" else table.to_excel(path, index=False)


if __name__ == "__main__":
    main()
