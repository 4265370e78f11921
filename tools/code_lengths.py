"""Prints the lengths of functions and files: lines of a function's body without its docstring, and of a file.

python tools/code_lengths.py            # src
python tools/code_lengths.py tests
"""

import argparse
import ast
import sys
from collections.abc import Iterator
from math import ceil
from pathlib import Path
from statistics import median
from typing import NamedTuple

SHOWN = 5


class Length(NamedTuple):
    lines: int
    name: str


def function_lengths(path: Path) -> Iterator[Length]:
    """The length of every function and method, including nested ones."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            yield Length(lines, f"{path}:{node.lineno} {node.name}")


def file_length(path: Path) -> Length:
    return Length(len(path.read_text(encoding="utf-8").splitlines()), str(path))


def summary(what: str, lengths: list[Length]) -> str:
    """Count, median and 95th percentile, then the longest, one per line."""
    lines = sorted(length.lines for length in lengths)
    p95 = lines[ceil(0.95 * len(lines)) - 1]
    totals = f"{len(lines)} {what}: median {median(lines):g}, p95 {p95}, longest {lines[-1]}"
    return "\n".join([totals, *(f"  {lines:4} {name}" for lines, name in sorted(lengths, reverse=True)[:SHOWN])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("src"))
    paths = sorted(parser.parse_args().folder.rglob("*.py"))
    functions = [length for path in paths for length in function_lengths(path)]
    files = [file_length(path) for path in paths]
    sys.stdout.write(f"{summary('functions', functions)}\n{summary('files', files)}\n")


if __name__ == "__main__":
    main()
