"""Paths that name a slice of a volume and the window it is seen through: `scan.nii.gz#coronal:40@-600,1500`."""

import math
import re
from pathlib import Path
from typing import Literal, NamedTuple, cast

Plane = Literal["axial", "coronal", "sagittal"]
Window = tuple[float, float]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
DICOM_SUFFIXES = (".dcm", ".dicom")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
MATLAB_SUFFIXES = (".mat",)
SUFFIXES = (*PICTURE_SUFFIXES, *DICOM_SUFFIXES, *NIFTI_SUFFIXES, *MATLAB_SUFFIXES)

MASK_SUFFIXES = (".png", ".nii.gz", ".nii", ".npz")

_SLICED = "|".join(map(re.escape, (*DICOM_SUFFIXES, *NIFTI_SUFFIXES)))
_ADDRESS = re.compile(rf"(?P<path>.*(?:{_SLICED}))#(?P<fragment>[^/\\]*)", re.IGNORECASE | re.DOTALL)
_FRAGMENT = re.compile(
    r"(?:(?P<plane>axial|coronal|sagittal):)?(?P<number>[0-9]+|middle)?"
    r"(?:@(?P<centre>-?[0-9]+(?:\.[0-9]+)?),(?P<width>[0-9]+(?:\.[0-9]+)?))?"
)


class Address(NamedTuple):
    """A file, and of a volume the number of the slice or frame, from 0, or "middle"; `window` is (centre, width)."""

    path: Path
    plane: Plane = "axial"
    number: int | str | None = None
    window: Window | None = None


def parse_address(address: str | Path) -> Address:
    """The parts of a path that may end in `#[plane:][index][@centre,width]` after a DICOM or NIfTI suffix.

    Raises `ValueError` for a fragment of another form.
    """
    match = _ADDRESS.fullmatch(str(address))
    if match is None or str(address).lower().endswith((*PICTURE_SUFFIXES, *MATLAB_SUFFIXES)):
        return Address(Path(address))
    parts = _FRAGMENT.fullmatch(match["fragment"])
    if parts is None or not match["fragment"] or float(parts["width"] or 1) == 0:
        raise ValueError(
            f"{address}: '#{match['fragment']}' names no slice. Write e.g. #40, #coronal:40, #middle or #40@-600,1500 "
            "(slice 40 through the window of centre -600 and width 1500)."
        )
    number, plane = parts["number"], cast(Plane, parts["plane"] or "axial")
    window = (float(parts["centre"]), float(parts["width"])) if parts["width"] else None
    return Address(Path(match["path"]), plane, int(number) if number and number.isdigit() else number, window)


def parse_window(text: str) -> Window:
    """(centre, width) from text such as "-600,1500". Raises `ValueError` for other text, or a width of 0 or less."""
    try:
        centre, width = (float(part) for part in text.split(","))
    except ValueError:
        centre, width = 0.0, 0.0
    if not (math.isfinite(centre) and 0 < width < math.inf):
        raise ValueError(
            f"window is '{text}': give centre and width, e.g. -600,1500 for lungs, 40,400 for soft tissue."
        )
    return centre, width


def with_window(address: str | Path, window: Window) -> Path:
    """The address seen through a window (centre, width), unless it names one or the file knows none."""
    parts = parse_address(address)
    if suffix_of(parts.path) not in (*DICOM_SUFFIXES, *NIFTI_SUFFIXES) or parts.window is not None:
        return Path(address)
    joint = "" if "#" in str(address)[len(str(parts.path)) :] else "#"
    centre, width = (f"{float(end)!r}".removesuffix(".0") for end in window)  # :g would round
    return Path(f"{address}{joint}@{centre},{width}")


def suffix_of(path: str | Path) -> str:
    """The file's suffix in lower case, ".nii.gz" as one, the fragment left out; "" where it is none of `SUFFIXES`."""
    name = parse_address(path).path.name.lower()
    return next((suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if name.endswith(suffix)), "")


def is_image_file(path: str | Path) -> bool:
    return bool(suffix_of(path))


def is_medical(path: str | Path) -> bool:
    """Whether it takes more than Pillow to read the file."""
    return suffix_of(path) not in ("", *PICTURE_SUFFIXES)


def stem(path: str | Path) -> str:
    """The file's name without its suffix, with the slice: "scan_40" of "scan.nii.gz#40"."""
    parts = parse_address(path)
    name = parts.path.name[: -len(suffix_of(path))] if suffix_of(path) else parts.path.name
    plane = "" if parts.plane == "axial" else f"_{parts.plane}"
    return name + (f"{plane}_{parts.number}" if parts.number is not None else plane)
