"""Writes constraints-lowest.txt: the lowest version of every requirement in pyproject.toml.

    python tools/lowest_versions.py

The file pins what `make test-lowest` installs.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
OUTPUT = ROOT / "constraints-lowest.txt"
HEAD = (
    "# The floors of pyproject.toml, written by tools/lowest_versions.py. A line pins a version; it installs nothing."
)


def lowest_versions() -> str:
    """The text of the file. Raises `ValueError` for a requirement without a floor."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].values()
    requirements = [line for group in (project["dependencies"], *extras) for line in group]
    own = f"{project['name']}["
    pins = dict.fromkeys(pinned(line) for line in requirements if not line.startswith(own))
    return "\n".join([HEAD, *pins]) + "\n"


def pinned(requirement: str) -> str:
    """`"numpy>=2.0.0,<3"` -> `"numpy==2.0.0"`, without extras."""
    match = re.match(r"([\w.-]+)(?:\[\w+\])?>=([\w.]+)", requirement)
    if match is None:
        raise ValueError(f"pyproject.toml: '{requirement}' has no floor. Write it as name>=lowest,<next.")
    return "==".join(match.groups())


if __name__ == "__main__":
    OUTPUT.write_text(lowest_versions(), encoding="utf-8")
