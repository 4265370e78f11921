"""Fresh interpreters that start in a moment: children of one that has imported what each would spend seconds on.

Started as a script, this is that parent: it runs each piece of code that it reads in a fork of its own.
"""

import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

# What neither knows of this package nor reads settings of the Hugging Face libraries when it is imported; httpx2
# comes with later versions of huggingface_hub.
LIBRARIES = [
    *"torch torch._dynamo torch.distributed.checkpoint scipy.optimize PIL.ImageDraw yaml tokenizers regex".split(),
    *"httpx safetensors.torch jinja2 psutil anyio._backends._asyncio".split(),
    *(name for name in ("httpx2", "truststore") if find_spec(name)),
]


class Interpreter:
    """Runs pieces of code, each in a process that holds the imports and nothing else.

    Args:
        imports: modules that every process starts with.
        environment: variables that differ from this process's, from before the imports.
    """

    def __init__(self, imports=LIBRARIES, environment: Mapping[str, str] | None = None):
        self.parent = subprocess.Popen(
            [sys.executable, __file__, *imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.parent.stdin.close()
        self.parent.wait()

    def run(
        self, code: str, *words: object, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.CompletedProcess:
        """What `python -c code word ...` would end with."""
        with tempfile.TemporaryDirectory() as folder:
            request = {
                "code": code,
                "words": list(map(str, words)),
                "environment": dict(environment or {}),
                "cwd": str(cwd or Path.cwd()),
                "outputs": [f"{folder}/{name}" for name in ("stdout", "stderr")],
            }
            print(json.dumps(request), file=self.parent.stdin, flush=True)
            returncode = int(self.parent.stdout.readline())
            shown = (Path(path).read_text(encoding="utf-8") for path in request["outputs"])
            return subprocess.CompletedProcess([*words], returncode, *shown)


def run_in_a_fork(request: dict) -> int:
    """Exit status of the code."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    status = 1
    try:
        for descriptor, path in enumerate(request["outputs"], start=1):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
        os.chdir(request["cwd"])
        os.environ.update(request["environment"])
        sys.argv = ["-c", *request["words"]]
        sys.path[0] = ""
        exec(compile(request["code"], "<string>", "exec"), {"__name__": "__main__"})
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    for name in sys.argv[1:]:
        import_module(name)
    answers = os.fdopen(os.dup(1), "w")  # what the code prints goes elsewhere
    for line in sys.stdin:
        print(run_in_a_fork(json.loads(line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
