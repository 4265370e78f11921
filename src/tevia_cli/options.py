"""The type of an option on the command line: what Python refuses is refused by argparse, with the option's name."""

import argparse
from collections.abc import Callable
from typing import Any


def number(name: str, check: str, **limits: Any) -> Callable[[str], Any]:
    """The `type=` of an option that is a number, by one of the checks in `tevia_hf.option_checks_tevia`.

    Args:
        name: as the error writes it, that of the argument in Python.
        check: such as "check_share".
        limits: more arguments of the check.
    """

    def read(text: str) -> Any:
        from tevia_hf import option_checks_tevia as checks

        return getattr(checks, check)(name, checks.number_from(text), **limits)

    return checked(read)


def checked(read: Callable[[str], Any]) -> Callable[[str], Any]:
    """A `type=` that shows the words of the `ValueError` which `read` raises."""

    def read_option(text: str) -> Any:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return read_option
