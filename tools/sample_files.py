"""Reads the sample files of other libraries and compares each result with that of a second reader.

The second readers are SimpleITK, tifffile, OpenCV and imagecodecs: see `second_readers.py`.

pip install SimpleITK imagecodecs opencv-python-headless    # in addition to tevia_hf[medical]; needed by this tool only
python tools/sample_files.py pydicom=FOLDER pillow=FOLDER --output benchmarks/results/sample_files.md
"""

import argparse
import multiprocessing
import re
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from second_readers import second_results  # in this folder

from tevia_hf.io import has_slices, is_image_file, read_image
from tevia_hf.io.address import DICOM_SUFFIXES, suffix_of
from tevia_hf.io.markdown import markdown_table

NO_IMAGES = (
    r"\.(py|pyc|pyi|ini|typed|in|gitignore|txt|md|json|rst|dump|icc|ttf|otf|toml|html|css|js|npz|npy|sh|csv|pickle|pkl|"
    r"lut|gpl)$"
)
SECONDS, SHOWN = 60, 5
INTRODUCTION = """\
Written by `tools/sample_files.py`. Read right: SimpleITK, tifffile, OpenCV, imagecodecs or a decoder written out in
`tools/second_readers.py` shows the same but for its scale. Of a volume, or of frames, it is the middle one. A TIFF that
this package leaves to tifffile may have been confirmed by tifffile alone."""
RIGHT, REFUSED, WRONG = "read right", "refused by name", "wrong"
# Errors that blame the file; wrong if another reader can decode it
BLAMES_THE_FILE = re.compile("corrupt|is no DICOM|is not (a )?DICOM|begins with")
# Damaged files, which lenient readers decode in part
DAMAGED = (
    *("chunk_no_fctl.png", "invalid_header_length.jp2", "truncated_end_chunk.png", "truncated_jpeg.jpg"),
    *("ultrahdr.jpg", "unknown_compression_method.png"),
)


class Outcome(NamedTuple):
    kind: str
    reason: str = ""


def difference(ours: np.ndarray, theirs: np.ndarray) -> str | None:
    """How two decodings of an image differ beyond their scale; `None` if they agree."""
    if ours.shape[:2] != theirs.shape[:2]:
        return f"shape {ours.shape[:2]}, not {theirs.shape[:2]}"
    visible = theirs[..., 3] > 0 if theirs.ndim == 3 and theirs.shape[2] == 4 else np.ones(theirs.shape[:2], bool)
    step = 2 if ours.dtype == np.uint8 else 0  # of rounding, in an image of one colour
    ours, theirs = (np.atleast_3d(pixels).astype(np.float64)[visible] for pixels in (ours, theirs))
    ours, theirs = (pixels[:, :3] if pixels.shape[1] > 2 else pixels[:, [0] * 3] for pixels in (ours, theirs))
    is_flat = [np.ptp(ours) <= step, theirs.std() <= 1e-5 * np.abs(theirs).max(initial=0)]
    if any(is_flat):
        return None if all(is_flat) else "nearly one value in one of the two alone"
    correlation = float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1])
    return None if correlation > 0.99 else f"correlation {correlation:.3f}"


def outcome(path: Path) -> Outcome:
    """Right if one of the second readers agrees; an error is wrong if it blames a file that they can decode."""
    results = list(second_results(path)) if is_image_file(path) else []
    decoded = [result for result in results if not isinstance(result, str)]
    try:
        ours = read_image(with_full_window(path, decoded)).array
    except ValueError as error:
        is_false = BLAMES_THE_FILE.search(str(error)) and decoded and path.name not in DAMAGED
        reason = str(error).replace(str(path), "").removeprefix(": ").split(" Supported:")[0]
        return Outcome(WRONG if is_false or str(path) not in str(error) else REFUSED, " ".join(reason.split()))
    except Exception as error:  # the kind of failure to be detected
        return Outcome(WRONG, f"{type(error).__name__}: {error}")
    faults = [result if isinstance(result, str) else difference(ours, result) for result in results]
    return Outcome(RIGHT) if None in faults else Outcome(WRONG, "; ".join(map(str, faults)))


def with_full_window(path: Path, decoded: list[np.ndarray]) -> str:
    """The address of the middle slice or frame, for DICOM with a window that covers all values, also inverted ones."""
    if not has_slices(path):
        return str(path)
    ends = [abs(float(end)) for pixels in decoded[:1] for end in (pixels.min(), pixels.max())]
    is_wide = suffix_of(path) in DICOM_SUFFIXES and 0 < max(ends, default=0) < 1e30
    return f"{path}#middle@0,{64 * max(ends):.12f}" if is_wide else f"{path}#middle"


def in_a_child(path: Path) -> Outcome:
    """The outcome of a file, read in a child process, as it may crash or block."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sender.send(outcome(path)))
    child.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(SECONDS) else Outcome(WRONG, f"no answer in {SECONDS} s")
    except EOFError:
        return Outcome(WRONG, "the process ended")
    finally:
        child.kill()


def files_of(folder: Path) -> list[Path]:
    """All files that may be images, without code, text and similar suffixes."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    return [path for path in paths if not re.search(NO_IMAGES, path.name.lower())]


def table(outcomes: dict[str, dict[str, Outcome]]) -> str:
    """The counts of each source, then the files that were not read, grouped by reason."""
    kinds = {source: Counter(one.kind for one in results.values()) for source, results in outcomes.items()}
    counts = [
        [source, count.total(), *(count[kind] for kind in (RIGHT, REFUSED, WRONG))] for source, count in kinds.items()
    ]
    lines = [markdown_table(["source", "files", "read right", "refused by name", "wrong"], counts)]
    for kind in (WRONG, REFUSED):
        names_by_reason: dict[tuple[str, str], list[str]] = {}
        for source, results in outcomes.items():
            for name, one in results.items():
                if one.kind == kind:
                    names_by_reason.setdefault((source, one.reason.replace("|", "/")), []).append(name)
        rows = []
        for (source, reason), names in names_by_reason.items():
            more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            rows.append([source, ", ".join(names[:SHOWN]) + more, reason])
        if rows:
            lines += ["", f"## {kind.capitalize()}", "", markdown_table(["source", "files", "reason"], rows)]
    return "\n".join(["# Sample files of other libraries", "", INTRODUCTION, "", *lines]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sources", nargs="+", metavar="NAME=FOLDER")
    parser.add_argument("--output", type=Path, help="where to write the table")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    outcomes = {}
    for source, folder in (source.split("=", 1) for source in options.sources):
        files = files_of(Path(folder))
        outcomes[source] = {str(path.relative_to(folder)): in_a_child(path) for path in files}
    text = table(outcomes)
    sys.stdout.write(text)
    if options.output:
        options.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
