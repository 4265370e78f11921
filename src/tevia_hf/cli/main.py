"""The command `tevia`: one verb a file; nothing heavy is imported before a verb runs."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from .. import __version__

VERBS = ("demo", "train", "evaluate", "compare", "predict", "prompts", "check-data", "convert", "bundle", "push")


def main(words: Sequence[str] | None = None) -> int:
    """Runs one verb; 0 where it did its work, 1 where it reports failures, 2 for input it cannot use."""
    words = sys.argv[1:] if words is None else words
    args = build_parser(words).parse_args(words)
    try:
        return args.run(args)
    except (ValueError, OSError) as error:
        if args.debug:
            raise
        print(f"tevia {args.verb}: {error}", file=sys.stderr)
        return 2


def build_parser(words: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The parser of these words; only the chosen subcommand has its options, whose help may read tables."""
    chosen = next((word for word in words if not word.startswith("-")), None)
    parser = argparse.ArgumentParser(prog="tevia", description="Text-guided segmentation of medical images.")
    parser.add_argument("--version", action="version", version=f"tevia_hf {__version__}")
    parser.add_argument("--debug", action="store_true", help="show where in the code an error comes from")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb in VERBS:
        module = import_module(f"{__package__}.{verb.replace('-', '_')}")
        about = module.__doc__ or ""
        verb_parser = verbs.add_parser(verb, help=about.replace("%", "%%"), description=about)  # argparse formats help
        if verb == chosen:
            module.add_arguments(verb_parser)
        verb_parser.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
