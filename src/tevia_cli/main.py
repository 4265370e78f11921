"""The command `tevia`: one file per subcommand, which imports `tevia_hf` when it runs.

`add_arguments(parser)` declares the options by the argument names of a Python function, to which `run` passes them. If
that imports `tevia_hf`, `OPTIONS` lists their names, so that a misspelt one is reported at once.
"""

import argparse
import gc
import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from importlib.metadata import version
from itertools import filterfalse, takewhile

SUBCOMMANDS = (
    "demo train evaluate ablate compare table predict prompts check-data convert export benchmark bundle push".split()
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one subcommand; returns 0 for success, 1 if it reports failures, 2 for invalid input."""
    arguments = sys.argv[1:] if arguments is None else arguments
    is_first = "tevia_hf" not in sys.modules
    try:
        options = vars(parse(arguments))
        if is_first:
            import_module("tevia_hf")
            gc.freeze()  # nothing that was imported becomes garbage, and looking for it there takes a second
        run = options.pop("run")
        return run(**{name: value for name, value in options.items() if name not in ("subcommand", "debug")})
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if "--debug" in takewhile(is_option, arguments):
            raise
        print(f"tevia {chosen_subcommand(arguments)}: {explained(error)}", file=sys.stderr)
        return 2


def explained(error: Exception) -> Exception:
    """The error; that of a missing library with the extra to install."""
    from tevia_hf.extras import MissingExtraError, needed_for

    try:
        with needed_for("this"):
            raise error
    except (ValueError, OSError, MissingExtraError) as explained:
        return explained


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The parsed options; unknown ones become `overrides` if the subcommand takes any, but for abbreviated options."""
    parser, subparser = build_parsers(arguments)
    args, unknown = parser.parse_known_args(arguments)
    known = re.findall(r"--[a-z][a-z-]*", subparser.format_usage())
    names = [argument.partition("=")[0] for argument in unknown if argument.startswith("--")]
    abbreviated = [name for name in names if name not in known and any(option.startswith(name) for option in known)]
    if "overrides" in args and not abbreviated:
        args.overrides = unknown
    elif unknown:
        hints = "".join(map(partial(hint, known=known), abbreviated or names))
        subparser.error(f"unrecognized arguments: {' '.join(unknown)}{hints}")
    return args


def is_option(argument: str) -> bool:
    return argument.startswith("-")


def chosen_subcommand(arguments: Sequence[str]) -> str | None:
    return next(filterfalse(is_option, arguments), None)


def build_parsers(arguments: Sequence[str]) -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """The parser, and that of the chosen subcommand; only this one gets its options, which may import `tevia_hf`."""
    chosen = chosen_subcommand(arguments)
    about = "Text-guided segmentation of medical images."
    parser = argparse.ArgumentParser(prog="tevia", description=about, allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"tevia_hf {version('tevia_hf')}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    subparsers = parser.add_subparsers(dest="subcommand", required=True, metavar="SUBCOMMAND")
    for name in SUBCOMMANDS:
        module = import_module(f"{__package__}.{name.replace('-', '_')}")
        about = (module.__doc__ or "").replace("%", "%%")  # argparse formats help
        subparser = subparsers.add_parser(name, help=about, description=module.__doc__, allow_abbrev=False)
        if name == chosen:
            check_option_names(subparser, arguments[arguments.index(name) + 1 :], getattr(module, "OPTIONS", ()))
            module.add_arguments(subparser)
        subparser.set_defaults(run=module.run)
    return parser, subparsers.choices.get(str(chosen), parser)


def check_option_names(parser: argparse.ArgumentParser, arguments: Sequence[str], known: Sequence[str]) -> None:
    """Exits with 2 for an unknown option, before the declarations of the options import `tevia_hf` and torch."""
    for argument in takewhile("--".__ne__, arguments if known else ()):
        name = argument.partition("=")[0]
        if name.startswith("--") and " " not in name and name not in known:
            fault = f"unrecognized arguments: {name}{hint(name, known)}"
            parser.exit(2, f"{parser.prog}: error: {fault}; see {parser.prog} --help\n")


def hint(name: str, known: Sequence[str]) -> str:
    """The option that an unknown one abbreviates or resembles, as a question; "" for none."""
    longer = [option for option in known if option.startswith(name)]
    matches = get_close_matches(name, longer or known, n=1, cutoff=0.0 if longer else 0.6)
    return f" (did you mean {matches[0]}?)" if matches else ""
