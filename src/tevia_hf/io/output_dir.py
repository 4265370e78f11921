"""Creation and replacement of output folders, and atomic writing of files."""

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

MARKER = ".tevia-output"
PART = ".part-"  # beginning of the names of files that are being written


def claim_output_dir(
    folder: str | Path, resume: bool = False, overwrite: bool = False, inputs: Iterable[str | os.PathLike | None] = ()
) -> None:
    """Creates the folder and marks it as an output of this package, without deleting any other data.

    With `resume` its content is kept; with `overwrite` an earlier output is deleted. `inputs` are paths or names that
    the command reads, which must not lie in the folder.

    Raises `ValueError` if the folder holds files and neither option is set, if both are set, or if `overwrite` is set
    for a folder that is no output of this package or that contains an input.
    """
    folder = Path(folder)
    check_output_dir(folder, resume, overwrite, inputs)
    if overwrite and folder.is_dir():
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARKER).touch()


def check_output_dir(
    folder: str | Path, resume: bool = False, overwrite: bool = False, inputs: Iterable[str | os.PathLike | None] = ()
) -> None:
    """Raises the errors of `claim_output_dir` but changes nothing, for commands that delete only after success."""
    folder = Path(folder)
    if resume and overwrite:
        raise ValueError("Give either `resume` or `overwrite`, not both.")
    if not (folder.is_dir() and any(path.name != MARKER for path in folder.iterdir())):
        return
    if not (resume or overwrite):
        raise ValueError(
            f"{folder} already holds files: name another folder, delete them with `--overwrite` (`overwrite=True`), or "
            "continue an interrupted training, prediction or evaluation with `--resume`."
        )
    if not (folder / MARKER).exists():
        hint = "`overwrite` does not delete it: empty it yourself" if overwrite else "there is nothing to resume"
        raise ValueError(f"{folder} was not written by tevia, so {hint}, or name another folder.")
    if not overwrite:
        return
    for path in (path for path in inputs if path):
        if folder.resolve() in (Path(path).resolve(), *Path(path).resolve().parents):
            raise ValueError(f"`overwrite` would delete the input {path}: name another folder than {folder}.")


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file atomically."""
    with whole_file(path) as part:
        part.write_bytes(content.encode() if isinstance(content, str) else content)


def part_of(path: Path) -> Path:
    """A new path beside another, which `remove_parts` recognises, with the same suffix."""
    return path.with_name(f"{PART}{uuid4().hex}.{path.name}")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to, in the same folder and with the same suffix, which then replaces the file at once.

    After an error or a kill, the file is as it was before. Missing folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def remove_parts(folder: Path) -> None:
    """Deletes the incomplete files that a killed run left in a folder and its subfolders."""
    for part in folder.rglob(f"{PART}*"):
        part.unlink(missing_ok=True)
