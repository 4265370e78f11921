"""The command `tevia`: one file a subcommand, which imports `tevia_hf` when it runs.

`add_arguments(parser)` declares its options by the names of a Python call's arguments, which `run` hands to that call.
"""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.metadata import version
from itertools import filterfalse, takewhile

SUBCOMMANDS = "demo train evaluate ablate compare predict prompts check-data convert bundle push".split()


def main(words: Sequence[str] | None = None) -> int:
    """Runs one subcommand; 0 where it did its work, 1 where it reports failures, 2 for input it cannot use."""
    words = sys.argv[1:] if words is None else words
    try:
        options = vars(parse(words))
        run = options.pop("run")
        return run(**{name: value for name, value in options.items() if name not in ("subcommand", "debug")})
    except (ValueError, OSError) as error:
        if "--debug" in takewhile(is_option, words):
            raise
        print(f"tevia {chosen_subcommand(words)}: {error}", file=sys.stderr)
        return 2


def parse(words: Sequence[str]) -> argparse.Namespace:
    """The options; those that a subcommand does not know are its `overrides`, where it takes any."""
    parser = build_parser(words)
    args, unknown = parser.parse_known_args(words)
    if "overrides" in args:
        args.overrides = unknown
    elif unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def is_option(word: str) -> bool:
    return word.startswith("-")


def chosen_subcommand(words: Sequence[str]) -> str | None:
    return next(filterfalse(is_option, words), None)


def build_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """The parser for these words: only the chosen subcommand gets its options, whose help may import `tevia_hf`."""
    chosen = chosen_subcommand(words)
    parser = argparse.ArgumentParser(prog="tevia", description="Text-guided segmentation of medical images.")
    parser.add_argument("--version", action="version", version=f"tevia_hf {version('tevia_hf')}")
    parser.add_argument("--debug", action="store_true", help="show where in the code an error comes from")
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    for name in SUBCOMMANDS:
        module = import_module(f"{__package__}.{name.replace('-', '_')}")
        about = (module.__doc__ or "").replace("%", "%%")  # argparse formats help
        subparser = subparsers.add_parser(name, help=about, description=module.__doc__)
        if name == chosen:
            module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser
