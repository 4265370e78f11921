"""The record of what a job has finished, which survives a kill at any moment.

A manifest is a file of JSON lines: a header with the settings of the job, and the row of each finished item, appended
as it is made. Each process of a divided job writes its own; a job reads all of its folder.
"""

import errno
import json
import os
import time
import warnings
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tevia_hf import __version__

Record = dict[str, Any]
PATTERN = "manifest*.jsonl"


class Manifest:
    """The manifest of one process, and the rows of all manifests in its folder.

    Args:
        path: the file of this process, which is created or continued.
        settings: what the outputs depend on, as JSON values; another job's manifest is refused. Other versions of the
            libraries cause a warning.
        is_read_only: whether nothing is added, as by a merge.

    Raises `ValueError` for a manifest with other settings, with the differences.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], is_read_only: bool = False):
        self.path = path
        self.rows: dict[str, Record] = {}
        versions = {"tevia_hf": __version__, **{name: version_of(name) for name in ("torch", "transformers")}}
        header = json.loads(json.dumps({"settings": settings, "versions": versions}))
        for other in sorted(path.parent.glob(PATTERN)):
            if records := read_records(other):
                check_header(other, records[0], header)
                for row in records[1:]:  # of an item in several manifests, the newest
                    if row["time"] >= self.rows.get(row["name"], row)["time"]:
                        self.rows[row["name"]] = row
        self.file = None
        if is_read_only:
            return
        repair(self.path)
        self.file = self.path.open("ab", buffering=0)
        if not self.path.stat().st_size:
            self._write(header)

    def add(self, row: Record) -> None:
        """Appends the row of an item, with the time; it replaces an earlier one of the same name."""
        row = row | {"time": time.time()}
        self._write(row)
        self.rows[row["name"]] = row

    def _write(self, record: Record) -> None:
        line = (json.dumps(record) + "\n").encode()
        if self.file is None:
            raise ValueError(f"{self.path} was opened to be read.")
        if self.file.write(line) < len(line):  # unbuffered: the system has it even if the process is killed
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))

    def close(self) -> None:
        if self.file is not None:
            self.file.close()

    def __enter__(self) -> "Manifest":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def version_of(library: str) -> str | None:
    """The installed version of a library, which is not imported for it; `None` if there is none."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def read_records(path: Path) -> list[Record]:
    """The header and rows of a manifest, without a last line that a kill has cut short.

    Raises `ValueError` for a file that is damaged otherwise.
    """
    *lines, _ = path.read_text(encoding="utf-8", errors="replace").split("\n")
    try:
        header, *rows = [json.loads(line) for line in lines] or [None]
        if header is None:
            return []
        if "settings" not in header or any("name" not in row or "time" not in row for row in rows):
            raise ValueError("it has lines of another form")
        return [header, *rows]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and its items are predicted again.") from error


def repair(path: Path) -> None:
    """Removes a last line that a kill or a full disk has cut short."""
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def check_header(path: Path, recorded: Record, current: Record) -> None:
    """Raises `ValueError` if the settings of two headers differ, and warns if versions do."""
    if differences := differing(recorded.get("settings", {}), current["settings"]):
        raise ValueError(
            f"{path.parent} holds outputs of another job, so it cannot be resumed: {'; '.join(differences)}. Use the "
            "same settings, name another folder, or start again with `--overwrite`."
        )
    if differences := differing(recorded.get("versions", {}), current["versions"]):
        warnings.warn(
            f"{path.parent} was begun with other versions: {'; '.join(differences)}. Masks may differ in a few pixels.",
            UserWarning,
            stacklevel=4,
        )


def differing(recorded: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """The values that differ, as messages."""
    names = sorted({*recorded, *current})
    return [
        f"{name} is {current.get(name)}, there {recorded.get(name)}"
        for name in names
        if recorded.get(name) != current.get(name)
    ]
