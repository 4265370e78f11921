"""Options that several subcommands share: numbers, and how a data set is read (the fields of `tevia_hf.data.options`).

An option has the name of its argument in Python, and what Python refuses is refused by argparse, with that name.
"""

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin


def add_number(
    parser: argparse.ArgumentParser, name: str, check: str, help: str = "", default: Any = None, **limits: Any
) -> None:
    """Adds an option that is a number, by one of the checks in `tevia_hf.option_checks_tevia`, such as "check_share".

    Args:
        limits: more arguments of the check.
    """

    def read(text: str) -> Any:
        from tevia_hf import option_checks_tevia as checks

        return getattr(checks, check)(name, checks.number_from(text), **limits)

    help += " (default: %(default)s)" if help and default is not None else ""
    parser.add_argument(option_of(name), type=checked(read), default=default, help=help)


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
            parser.add_argument(option_of(option.name), **how)


def option_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def true_or_false(text: str) -> bool:
    """Raises `ArgumentTypeError` for other text than "true" and "false"."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is given: write true or false")
    return text.lower() == "true"


def checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A `type=` that shows the words of the `ValueError` which `read` raises."""

    def read_option(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read_option
