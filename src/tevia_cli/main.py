"""The command `tevia`: one file per subcommand, which imports `tevia_hf` when it runs.

`add_arguments(parser)` declares the options by the argument names of a Python function, to which `run` passes them.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from itertools import filterfalse, takewhile

SUBCOMMANDS = "demo train evaluate ablate compare table predict prompts check-data convert bundle push".split()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns 0 for success, 1 if it reports failures, 2 for invalid input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        options = vars(parse(arguments))
        run = options.pop("run")
        return run(**{name: value for name, value in options.items() if name not in ("subcommand", "debug")})
    except (ValueError, OSError) as error:
        if "--debug" in takewhile(is_option, arguments):
            raise
        print(f"tevia {chosen_subcommand(arguments)}: {error}", file=sys.stderr)
        return 2


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed options; unknown ones become `overrides` if the subcommand takes any."""
    parser = build_parser(arguments)
    args, unknown = parser.parse_known_args(arguments)
    if "overrides" in args:
        args.overrides = unknown
    elif unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def is_option(argument: str) -> bool:
    return argument.startswith("-")


def chosen_subcommand(arguments: Sequence[str]) -> str | None:
    return next(filterfalse(is_option, arguments), None)


def build_parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser; only the chosen subcommand gets its options, as their help may import `tevia_hf`."""
    chosen = chosen_subcommand(arguments)
    parser = argparse.ArgumentParser(prog="tevia", description="Text-guided segmentation of medical images.")
    parser.add_argument("--version", action="version", version=f"tevia_hf {version('tevia_hf')}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    for name in SUBCOMMANDS:
        module = import_module(f"{__package__}.{name.replace('-', '_')}")
        about = (module.__doc__ or "").replace("%", "%%")  # argparse formats help
        subparser = subparsers.add_parser(name, help=about, description=module.__doc__)
        if name == chosen:
            module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser
