"""YAML files of `name: value` lines, such as recipes and model cards."""

from pathlib import Path

import yaml


def read_yaml(path: Path) -> dict:
    """The `name: value` lines of a file; `ValueError` that names it where it holds none."""
    if not path.is_file():
        raise ValueError(f"No {path.name} at {path}: give the path of a YAML file.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML in UTF-8: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no `name: value` lines.")
    if odd := [name for name in values if not isinstance(name, str)]:
        raise ValueError(f"{path} has fields whose names YAML does not read as text: {odd}. Put them in quotes.")
    return values
