"""Output folders: made, refused, replaced; and what an interrupted run left in one."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

MARKER = ".tevia-output"


def claim_output_dir(
    folder: str | Path, resume: bool = False, overwrite: bool = False, inputs: Iterable[str | os.PathLike | None] = ()
) -> None:
    """Makes the folder, marked as an output of this package, without ever losing anything else.

    With `resume` its content is gone on with, with `overwrite` deleted, if an earlier output; `inputs` are paths or
    names that the work reads, and that must not lie in the folder.

    Raises `ValueError` where the folder holds files and neither is said, or both are; where `overwrite` is said of a
    folder that is no output of this package, or that holds an input.
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
    """Raises as `claim_output_dir` and changes nothing, for work that must not delete before it has succeeded."""
    folder = Path(folder)
    if resume and overwrite:
        raise ValueError("Give either `resume` or `overwrite`, not both.")
    if not (folder.is_dir() and any(folder.iterdir())):
        return
    if not (resume or overwrite):
        raise ValueError(
            f"{folder} already holds files: name another folder, or give `--overwrite` or, of a run, `--resume`."
        )
    if not overwrite:
        return
    if not (folder / MARKER).exists():
        raise ValueError(f"{folder} is no output of tevia, so `overwrite` leaves it: empty it yourself.")
    for path in (path for path in inputs if path):
        if folder.resolve() in (Path(path).resolve(), *Path(path).resolve().parents):
            raise ValueError(f"`overwrite` would delete {path}, which is read here: name another folder than {folder}.")


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file that others see whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid4().hex}")
    part.write_bytes(content.encode() if isinstance(content, str) else content)
    part.replace(path)
