"""What becomes of public names and subcommands where one optional library is missing, tried in child processes.

The parent has imported every library but nothing of this package; each child then loses one library.
"""

import json
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from io import StringIO
from multiprocessing import get_context

COSTLY = ("torch", "transformers.trainer", "datasets", "pandas", "accelerate", "monai.transforms", "monai.metrics")


def lose(library: str) -> None:
    """Imports of the library fail from here on, as where it is not installed."""
    for name in [name for name in sys.modules if name.partition(".")[0] == library]:
        del sys.modules[name]
    sys.modules[library] = None  # type: ignore[assignment]


def error_of(act: Callable[[], object]) -> str:
    """The message that the act ends with, "" where it ends well."""
    said = StringIO()
    try:
        with redirect_stderr(said), redirect_stdout(StringIO()):
            failed = act()
    except (Exception, SystemExit):
        return traceback.format_exc(limit=0)
    return said.getvalue() if failed == 2 else ""


def public_name(name: str) -> Callable[[], object]:
    return lambda: getattr(import_module("tevia_hf"), name) and None


def subcommand(words: list[str]) -> Callable[[], object]:
    return lambda: import_module("tevia_cli.main").main(words)


def errors_without(library: str, tried: list[str | list[str]]) -> list[str]:
    """The error of each name or subcommand, one after another in a child process that has lost the library."""
    acts = [public_name(what) if isinstance(what, str) else subcommand(what) for what in tried]

    def try_all() -> None:
        lose(library)
        sender.send([error_of(act) for act in acts])

    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=try_all)
    child.start()
    sender.close()  # so that a child that dies is noticed
    errors = receiver.recv()
    child.join()
    return errors


def main() -> None:
    """Reads `{library: [public name or words, ...]}` and writes the errors of each."""
    for name in COSTLY:
        import_module(name)
    json.dump({library: errors_without(library, tried) for library, tried in json.load(sys.stdin).items()}, sys.stdout)


if __name__ == "__main__":
    main()
