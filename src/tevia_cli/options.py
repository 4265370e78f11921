"""Options shared by several subcommands: numbers, and data options (the fields of `tevia_hf.data.options`).

An option has the name of its Python argument, and argparse rejects the values that Python rejects.
"""

import argparse
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Literal, get_args, get_origin

DATA_OPTIONS = (
    "--text-table --group-split --split-seed --window --slices"  # of `SourceOptions`, known without its import
)


def add_number(
    parser: argparse._ActionsContainer, name: str, check: str, help: str = "", default: Any = None, **limits: Any
) -> None:
    """Adds a numeric option with a check of `tevia_hf.option_checks_tevia`, such as "check_share".

    Args:
        limits: further arguments of the check.
    """

    def read(text: str) -> Any:
        from tevia_hf import option_checks_tevia as checks

        return getattr(checks, check)(name, checks.number_from(text), **limits)

    help += " (default: %(default)s)" if help and default is not None else ""
    parser.add_argument(option_of(name), type=checked(read), default=default, help=help)


def add_data_options(parser: argparse._ActionsContainer, *names: str) -> None:
    """Adds the named data options, `cache` also as `--no-cache`; by default those of `SourceOptions`."""
    from tevia_hf.data.options import SOURCE_OPTIONS, ReadingOptions, SourceOptions

    for option in (*fields(SourceOptions), *fields(ReadingOptions)):
        if option.name in (names or SOURCE_OPTIONS):
            settings: dict[str, Any] = {"help": option.metadata["help"].replace("%", "%%"), "default": option.default}
            if option.name in SourceOptions.readers:
                settings["type"] = checked(SourceOptions.readers[option.name])
            elif option.type is bool:
                settings["action"] = argparse.BooleanOptionalAction
            elif option.type == bool | None:
                settings |= {"type": true_or_false, "metavar": "{true,false}"}
            elif get_origin(option.type) is Literal:
                settings["choices"] = get_args(option.type)
            elif numbers := {int, float} & {option.type, *get_args(option.type)}:
                settings["type"] = numbers.pop()
            parser.add_argument(option_of(option.name), **settings)


def add_tiling(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `Tiling`."""
    tile = "predict images in overlapping square tiles of this side in pixels (default: resized, in one pass)"
    add_number(parser, "tile", "check_count", tile, example="512", least=32)
    add_number(
        parser, "overlap", "check_share_below_one", "of tiles, as a share of their side (default: 0.25)", example="0.25"
    )


def add_dtype(parser: argparse.ArgumentParser) -> None:
    """Adds `--dtype`, with the names of `PRECISIONS`."""
    help = "type to compute in; bfloat16 is faster on GPUs and on CPUs with AMX or AVX512-BF16 (default: %(default)s)"
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help=help)


def add_class_names(parser: argparse.ArgumentParser, help: str) -> None:
    """Adds `--class-names`, with names separated by commas."""
    parser.add_argument("--class-names", type=lambda text: text.split(","), metavar="NAME,NAME", help=help)


def option_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def true_or_false(text: str) -> bool:
    """Raises `ArgumentTypeError` for other text than "true" and "false"."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"invalid value '{text}': write true or false")
    return text.lower() == "true"


def checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A `type=` for argparse that shows the message of a `ValueError` raised by `read`."""

    def read_option(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read_option
