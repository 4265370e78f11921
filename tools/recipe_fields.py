"""Writes docs/recipe.md: every field of a training recipe with its default and meaning, from the dataclasses.

python tools/recipe_fields.py
"""

import dataclasses
import inspect
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from tevia_hf.configuration_tevia import TeViAConfig
from tevia_hf.data.options import ReadingOptions, SourceOptions
from tevia_hf.image_processing_tevia import TeViAImageProcessor
from tevia_hf.io.markdown import markdown_table
from tevia_hf.training.arguments import PIXEL_FIELDS, DataArguments, ModelArguments, TeViATrainingArguments

PAGE = Path(__file__).parents[1] / "docs" / "recipe.md"
TEMPLATE = (Path(__file__).parent / "recipe_template.md").read_text(encoding="utf-8")


def main() -> None:
    PAGE.write_text(content(), encoding="utf-8")


def content() -> str:
    return TEMPLATE.format(
        model=table(ModelArguments),
        data=table(DataArguments, SourceOptions, ReadingOptions),
        training=table(TeViATrainingArguments),
        config=documented(TeViAConfig, {*TeViAConfig.__annotations__} - {"model_type", "sub_configs"}),
        image_processor=documented(TeViAImageProcessor, PIXEL_FIELDS),
    )


def table(*groups: type) -> str:
    """The fields that these dataclasses declare themselves, in their order."""
    rows = []
    for group in groups:
        declared = {field.name: field for field in dataclasses.fields(group)}
        own = [declared[name] for name in group.__annotations__ if name in declared]
        rows += [[f"`{field.name}`", default_of(field), field.metadata["help"]] for field in own]
    return markdown_table(["field", "default", "meaning"], rows)


def default_of(field: dataclasses.Field[Any]) -> str:
    """The default as it is written in YAML; nothing for `None` and empty text."""
    if field.default is None or field.default == "":
        return ""
    return f"`{yaml.safe_dump(field.default).removesuffix('...').splitlines()[0]}`"


def documented(owner: type, names: Collection[str]) -> str:
    """The fields of a class and their meaning, from the arguments in its docstring."""
    arguments = inspect.cleandoc(owner.__doc__ or "").partition("Args:\n")[2].split("\n\n")[0]
    entries = re.findall(r"^    (\w[\w, ]*?)(?: \(.*?\))?:((?:.|\n(?!    \w))*)", arguments, re.MULTILINE)
    meanings = {name: " ".join(text.split()) for fields, text in entries for name in fields.split(", ")}
    return markdown_table(["field", "meaning"], [[f"`{name}`", meanings[name]] for name in meanings if name in names])


if __name__ == "__main__":
    main()
