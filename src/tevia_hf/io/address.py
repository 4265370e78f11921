"""Image addresses: a file, optionally with the slice of a volume and an intensity window.

Users write them as paths, `scan.nii.gz#coronal:40@-600,1500`; `parse_address` parses these to an `ImageRef`.
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

Plane = Literal["axial", "coronal", "sagittal"]
Window = tuple[float, float]

TIFF_SUFFIXES = (".tif", ".tiff")
TABLE_SUFFIXES = (".csv", ".xlsx")  # of tables that name images
PLAIN_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", *TIFF_SUFFIXES, ".bmp", ".gif", ".jp2", ".j2k", ".webp", ".pgm", ".ppm", ".pnm"),
)
DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
NIFTI_SUFFIXES = (".nii.gz", ".nii")
_SLICED_SUFFIXES = (*DICOM_SUFFIXES, *NIFTI_SUFFIXES)
_known_suffixes = [*PLAIN_SUFFIXES, *_SLICED_SUFFIXES]
_LEFT_BY_SYSTEMS = ("thumbs.db", "desktop.ini", "__macosx")
_SLICED = "|".join(map(re.escape, _SLICED_SUFFIXES))
_ADDRESS = re.compile(rf"(?P<path>.*(?:{_SLICED}))#(?P<fragment>[^/\\]*)", re.IGNORECASE | re.DOTALL)
_FRAGMENT = re.compile(
    r"(?:(?P<plane>axial|coronal|sagittal):)?(?P<number>[0-9]+|middle|all)?"
    r"(?:@(?P<centre>-?[0-9]+(?:\.[0-9]+)?),(?P<width>[0-9]+(?:\.[0-9]+)?))?"
)


@dataclass(frozen=True)
class ImageRef:
    """An image on disk; `str()` and `os.fspath()` return its address."""

    path: Path
    plane: Plane = "axial"  # orientation of the slices of a volume
    number: int | str | None = None  # of the slice or frame, from 0, "middle" or "all"; None for a file with only one
    window: Window | None = None  # (centre, width) in the file's units
    series: str | None = None  # of a folder of DICOM files: number, UID or description

    def __str__(self) -> str:
        return f"{self.path}{'#' if self.fragment else ''}{self.fragment}"

    __fspath__ = __str__

    @property
    def fragment(self) -> str:
        """The part of the address after "#": plane, number and window; "" for none."""
        plane = "" if self.plane == "axial" else f"{self.plane}:"
        number = "" if self.number is None else self.number
        window = ",".join(repr(float(end)).removesuffix(".0") for end in self.window or ())  # repr, as :g would round
        return f"{plane}{number}{'@' if window else ''}{window}"

    @property
    def is_volume(self) -> bool:
        """Whether it stands for all slices."""
        return self.number == "all"

    @property
    def name(self) -> str:
        """The file name with the fragment."""
        return str(replace(self, path=Path(self.path.name)))


def supported_suffixes() -> tuple[str, ...]:
    """The suffixes of image files, in lower case."""
    return tuple(_known_suffixes)


def add_suffixes(suffixes: Iterable[str]) -> None:
    """Registers suffixes of image files that hold one image each."""
    _known_suffixes.extend(suffix for suffix in suffixes if suffix not in _known_suffixes)


def parse_address(address: str | Path | ImageRef) -> ImageRef:
    """Parses a path that may end in `#[plane:][number][@centre,width]` after a DICOM or NIfTI suffix.

    Raises `ValueError` for an invalid fragment.
    """
    if isinstance(address, ImageRef):
        return address
    if "#" not in str(address):
        return ImageRef(Path(address))
    match = _ADDRESS.fullmatch(str(address))
    if match is None:  # "IM000001#3", where the file "IM000001" is DICOM
        match = re.fullmatch(r"(?P<path>[^#]+)#(?P<fragment>[^/\\\\]*)", str(address), re.DOTALL)
        match = match if match and not Path(address).exists() and is_dicom(Path(match["path"])) else None
    unsliced = tuple(suffix for suffix in _known_suffixes if suffix not in _SLICED_SUFFIXES)
    if match is None or str(address).lower().endswith(unsliced):
        return ImageRef(Path(address))
    parts = _FRAGMENT.fullmatch(match["fragment"])
    if parts is None or not match["fragment"] or float(parts["width"] or 1) == 0:
        raise ValueError(
            f"{address}: '#{match['fragment']}' names no slice. Write e.g. #40, #coronal:40, #middle, #all or "
            "#40@-600,1500 (slice 40 with the window of centre -600 and width 1500)."
        )
    number, plane = parts["number"], cast(Plane, parts["plane"] or "axial")
    window = (float(parts["centre"]), float(parts["width"])) if parts["width"] else None
    return ImageRef(Path(match["path"]), plane, int(number) if number and number.isdigit() else number, window)


def is_dicom(path: Path) -> bool:
    """Whether a file has a DICOM preamble, whatever its name."""
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except (OSError, ValueError):
        return False


def parse_window(text: str) -> Window:
    """(centre, width) from text such as "-600,1500". Raises `ValueError` for other text, or a width of 0 or less."""
    try:
        centre, width = (float(part) for part in text.split(","))
    except (ValueError, AttributeError):  # a recipe may hold a number
        centre, width = 0.0, 0.0
    return check_window((centre, width), text)


def check_window(window: Window, text: str | None = None) -> Window:
    """The window. Raises `ValueError`, citing `text`, unless the centre is finite and the width finite and above 0."""
    centre, width = window
    if not (math.isfinite(centre) and 0 < width < math.inf):
        shown = f"{centre:g},{width:g}" if text is None else text
        raise ValueError(
            f"window is '{shown}': give centre and width, e.g. -600,1500 for lungs, 40,400 for soft tissue."
        )
    return centre, width


def with_window(address: str | Path | ImageRef, window: Window) -> ImageRef:
    """The image with a window (centre, width), unless it has one or its format supports none."""
    image = parse_address(address)
    has_window = image.is_volume or has_slices(image)
    return replace(image, window=window) if has_window and image.window is None else image


def suffix_of(address: str | Path | ImageRef) -> str:
    """The file suffix in lower case (".nii.gz" as one), without the fragment; "" if it is not supported.

    A DICOM file without a known suffix, as archives export them, has ".dcm".
    """
    path = parse_address(address).path
    return _known_suffix(path.name) or (".dcm" if is_dicom(path) else "")


def _known_suffix(name: str) -> str:
    return max(filter(name.lower().endswith, _known_suffixes), key=len, default="")


def is_image_file(address: str | Path | ImageRef) -> bool:
    return bool(suffix_of(address))


def has_slices(address: str | Path | ImageRef) -> bool:
    """Whether its file format may hold several slices or frames."""
    return suffix_of(address) in _SLICED_SUFFIXES


def is_medical(address: str | Path | ImageRef) -> bool:
    """Whether the file format is neither a plain one nor unknown."""
    return suffix_of(address) not in ("", *PLAIN_SUFFIXES)


def stem(address: str | Path | ImageRef) -> str:
    """The file name without suffix, with the slice: "scan_40" of "scan.nii.gz#40", "scan" of "scan.nii.gz#all"."""
    image = parse_address(address)
    name = (image.path.resolve() if image.path.name in ("", "..") else image.path).name
    name = name[: len(name) - len(_known_suffix(name))]
    if image.is_volume:
        return name
    plane = "" if image.plane == "axial" else f"_{image.plane}"
    return name + (f"{plane}_{image.number}" if image.number is not None else plane)


def is_clutter(path: str | Path) -> bool:
    """Whether a path was left by an operating system or office program: a hidden file (".DS_Store", "._a.png"), a lock
    file ("~$t.xlsx", ".~lock.t.csv#"), "Thumbs.db", "desktop.ini", or a path inside "__MACOSX".
    """
    path = Path(path)
    return path.name.startswith((".", "~$")) or path.name.lower() in _LEFT_BY_SYSTEMS or "__MACOSX" in path.parts
