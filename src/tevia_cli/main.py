"""The command `tevia`: one file per subcommand, which imports `tevia_hf` when it runs.

`add_arguments(parser)` declares the options by the argument names of a Python function, to which `run` passes them. If
that imports `tevia_hf`, `OPTIONS` lists their names, so that a misspelt one is reported at once.
"""

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
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
    parser, subparser = build_parsers(arguments)
    args, unknown = parser.parse_known_args(arguments)
    if "overrides" in args:
        args.overrides = unknown
    elif unknown:
        subparser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def is_option(argument: str) -> bool:
    return argument.startswith("-")


def chosen_subcommand(arguments: Sequence[str]) -> str | None:
    return next(filterfalse(is_option, arguments), None)


def build_parsers(arguments: Sequence[str]) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parser, and that of the chosen subcommand; only this one gets its options, which may import `tevia_hf`."""
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
            check_option_names(subparser, arguments[arguments.index(name) + 1 :], getattr(module, "OPTIONS", ()))
            module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser, subparsers.choices.get(str(chosen), parser)


def check_option_names(parser: argparse.ArgumentParser, arguments: Sequence[str], known: Sequence[str]) -> None:
    """Exits with 2 for a misspelt option, before the declarations of the options import `tevia_hf` and torch."""
    for argument in takewhile("--".__ne__, arguments if known else ()):
        name = argument.partition("=")[0]
        if name.startswith("--") and " " not in name and not any(option.startswith(name) for option in known):
            matches = get_close_matches(name, known, n=1)
            hint = f" (did you mean {matches[0]}?)" if matches else ""
            parser.exit(2, f"{parser.prog}: error: unrecognized arguments: {name}{hint}; see {parser.prog} --help\n")
