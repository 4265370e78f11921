"""YAML files of `name: value` lines, such as recipes and model cards."""

from pathlib import Path

import yaml


class UniqueNames(yaml.SafeLoader):
    """Refuses a name that stands twice in one mapping, of which YAML would silently take the last."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict:
    """The `name: value` lines of a file; `ValueError` that names it where it holds none, or a name twice."""
    if not path.is_file():
        raise ValueError(f"No {path.name} at {path}: give the path of a YAML file.")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), UniqueNames)
    except Exception as error:  # PyYAML raises nearly anything on values of another type than they are marked as
        raise ValueError(f"{path} is no YAML in UTF-8: {str(error) or type(error).__name__}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no `name: value` lines.")
    if odd := [name for name in values if not isinstance(name, str)]:
        raise ValueError(f"{path} has fields whose names YAML does not read as text: {odd}. Put them in quotes.")
    return values
