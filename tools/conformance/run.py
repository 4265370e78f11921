"""Runs the tests that transformers has for its own classes on ours; `make conformance`.

The tests come from the source distribution of the pinned transformers and stay in an ignored folder.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
PIP = [sys.executable, "-m", "pip", "--quiet"]


def pinned(package: str) -> str:
    """The line `package==version` of constraints.txt."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    return next(line.strip() for line in lines if line.startswith(f"{package}=="))


def fetch_tests(folder: Path) -> None:
    """Downloads the tests of transformers as the package `upstream` to `folder`, with the package that they need."""
    shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory() as temporary:
        requirement = pinned("transformers")
        source = ["--no-deps", "--no-binary", "transformers", "--dest", temporary]
        subprocess.run([*PIP, "download", *source, requirement], check=True)
        with tarfile.open(next(Path(temporary).glob("transformers-*.tar.gz"))) as archive:
            archive.extractall(temporary, filter="data")
        subprocess.run([*PIP, "install", "--no-deps", "--target", str(folder), pinned("parameterized")], check=True)
        shutil.move(next(Path(temporary).glob("transformers-*/tests")), folder / "upstream")
    (folder / "upstream" / "__init__.py").touch()


def main(folder: Path, arguments: list[str]) -> int:
    stamp = folder / pinned("transformers").replace("==", "-")
    if not stamp.exists():
        fetch_tests(folder)
        stamp.touch()
    paths = [str(ROOT / "src"), str(ROOT / "tests"), str(folder), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    options = ["-q", "-n", "2", "-o", "addopts=", "--disable-warnings", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, str(HERE), *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve(), sys.argv[2:]))
