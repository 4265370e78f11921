"""YAML files of `name: value` lines, such as recipes and model cards."""

from pathlib import Path

import yaml


class UniqueNames(yaml.SafeLoader):
    """Rejects duplicate keys of a mapping, of which YAML would silently take the last."""

    def construct_mapping(self, node, deep=False):
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` appears twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> dict:
    """The mapping in a YAML file. Raises `ValueError` with its path if it is missing, no mapping or repeats a key."""
    if not path.is_file():
        raise ValueError(f"No {path.name} at {path}: give the path of a YAML file.")
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), UniqueNames)
    except Exception as error:  # PyYAML raises almost any exception on values that do not fit their tag
        raise ValueError(f"{path} is not YAML in UTF-8: {str(error) or type(error).__name__}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} holds no `name: value` lines.")
    if names := [name for name in values if not isinstance(name, str)]:
        raise ValueError(f"{path} has fields whose names YAML does not read as text: {names}. Put them in quotes.")
    return values
