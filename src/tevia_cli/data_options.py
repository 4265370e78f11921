"""Options on how a data set is read, from the fields in `tevia_hf.data.options`."""

import argparse
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin

from .options import checked


def add_data_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Adds these options, `cache` also as `--no-cache`. Without names, all that every data set on disk has."""
    from tevia_hf.data.options import SOURCE_OPTIONS, ReadingOptions, SourceOptions

    for option in (*fields(SourceOptions), *fields(ReadingOptions)):
        if option.name in (names or SOURCE_OPTIONS):
            how: dict[str, Any] = {"help": option.metadata["help"].replace("%", "%%"), "default": option.default}
            if option.name in SourceOptions.readers:
                how["type"] = checked(SourceOptions.readers[option.name])
            elif option.type is bool:
                how["action"] = argparse.BooleanOptionalAction
            elif option.type == bool | None:
                how |= {"type": true_or_false, "metavar": "{true,false}"}
            elif get_origin(option.type) is Literal:
                how["choices"] = get_args(option.type)
            elif numbers := {int, float} & {option.type, *get_args(option.type)}:
                how["type"] = numbers.pop()
            parser.add_argument(f"--{option.name.replace('_', '-')}", **how)


def true_or_false(text: str) -> bool:
    """Raises `ArgumentTypeError` for other text than "true" and "false"."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is given: write true or false")
    return text.lower() == "true"


def data_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `load_segmentation_dataset` and `list_examples` take beside name, folder and split."""
    from tevia_hf.data.options import SOURCE_OPTIONS

    return {name: getattr(args, name) for name in SOURCE_OPTIONS if getattr(args, name) is not None}
