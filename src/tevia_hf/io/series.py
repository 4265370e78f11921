"""DICOM series: the slices of a volume in a folder of files, or the frames of one file."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tevia_hf.extras import needed_for
from tevia_hf.io.address import DICOM_SUFFIXES, ImageRef, is_clutter, suffix_of
from tevia_hf.io.dicom import affine_of, frame_count, open_dicom, optional, read_frame
from tevia_hf.io.medical_image import Geometry, MedicalImage
from tevia_hf.io.volume import Volume, VolumeGrid

SAME = 0.01  # mm between positions that are one
UNEVEN = 0.1  # of the distance of slices
EXPORT = "export the series again as the scanner made it, or convert it to NIfTI (dcm2niix)"


class Slice(NamedTuple):
    """A frame of a file, with what places it: `affine` is (4, 4), (column, row, 0) to RAS+ mm; None if unknown."""

    path: Path
    frame: int
    size: tuple[int, int]
    affine: np.ndarray | None


class Series(NamedTuple):
    """The files of a folder that share a SeriesInstanceUID."""

    uid: str
    number: str
    description: str
    slices: list[Slice]

    def __str__(self) -> str:
        return f"{self.number or self.uid} '{self.description}' ({len(self.slices)} slices)"


class DicomVolume(Volume):
    """The slices of a series, or the frames of a file, in order of their position along the normal.

    Args:
        address: a folder, with `series` if it holds several; or a file with several frames. With its window.

    Raises `ValueError` for a folder whose slices do not form one volume.
    """

    def __init__(self, address: ImageRef, most_pixels: int | None = None):
        self.path, self.most_pixels, self.address = address.path, most_pixels, address
        self.dataset = None if self.path.is_dir() else open_dicom(self.path)
        slices = chosen_series(address).slices if self.dataset is None else frames_of(self.dataset, self.path)
        self.slices, self.affine = placed_in_order(slices, self.path)
        self.count = len(self.slices)
        self.voxel_mm3 = None if self.affine is None else abs(float(np.linalg.det(self.affine[:3, :3])))
        self.grid = VolumeGrid(
            (*self.slices[0].size[::-1], self.count), np.array([[0, 1], [1, 1], [2, 1]]), self._template()
        )

    def slice(self, number: int) -> MedicalImage:
        own = self.slices[number]
        address = replace(self.address, path=own.path, number=own.frame, series=None)
        image = read_frame(self.dataset or open_dicom(own.path), address, most_pixels=self.most_pixels)
        if self.affine is None:
            return image
        affine = self.affine.copy()
        affine[:3, 3] += number * affine[:3, 2]
        between = float(np.linalg.norm(affine[:3, 2]))
        return image._replace(source=Geometry(own.path, affine, own.frame, self.count, slice_spacing_mm=between))

    def _template(self) -> Any:
        with needed_for(f"{self.path}: writing its mask"):
            import nibabel
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) if self.affine is None else self.affine
        template = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), affine)
        for place in (template.header.set_qform, template.header.set_sform):
            place(affine, code="scanner" if self.affine is not None else "unknown")
        template.header.set_xyzt_units("mm")
        return template


def chosen_series(address: ImageRef) -> Series:
    """The series of a folder that the address selects, or its only one.

    Raises `ValueError`, with the series that there are, if several are left.
    """
    several = series_in(address.path)
    chosen = [one for one in several if address.series in (None, one.uid, one.number, one.description)]
    if len(chosen) == 1:
        return chosen[0]
    listed = ", ".join(map(str, several))
    fault = f"holds {len(several)} series" if not chosen or address.series is None else "holds several of them"
    wanted = "" if address.series is None else f", not '{address.series}' alone"
    raise ValueError(
        f"{address.path}: {fault}{wanted}: {listed}. Select one by its number, UID or description, e.g. "
        f"`--series {several[0].number or several[0].uid}`."
    )


def series_in(folder: Path) -> list[Series]:
    """The series in a folder, in order of their numbers; without localizers and files that are no images."""
    series: dict[str, Series] = {}
    for path in sorted(folder.iterdir()):
        if is_clutter(path) or not path.is_file() or suffix_of(path) not in DICOM_SUFFIXES:
            continue
        tags = open_dicom(path, only_tags=True)
        if "Rows" not in tags or "LOCALIZER" in (tags.get("ImageType") or ()):
            continue
        uid, number, description = (
            str(tags.get(name) or "") for name in ("SeriesInstanceUID", "SeriesNumber", "SeriesDescription")
        )
        series.setdefault(uid, Series(uid, number, description, [])).slices.extend(frames_of(tags, path))
    return sorted(series.values(), key=lambda one: (len(one.number), one.number, one.uid))


def is_series(folder: Path) -> bool:
    """Whether a folder holds a DICOM series of several slices, rather than images of their own."""
    if not any(suffix_of(path) in DICOM_SUFFIXES for path in folder.iterdir() if path.is_file()):
        return False
    return any(len(one.slices) > 1 and one.slices[0].affine is not None for one in series_in(folder))


def frames_of(tags: Any, path: Path) -> list[Slice]:
    """The frames of a file as slices."""
    size = int(tags.get("Rows") or 0), int(tags.get("Columns") or 0)
    frames = range(frame_count(tags))
    return [Slice(path, frame, size, optional(affine_of, tags, frame)) for frame in frames]


def placed_in_order(slices: Sequence[Slice], path: Path) -> tuple[list[Slice], np.ndarray | None]:
    """The slices by their position along the normal, and the affine from (column, row, slice) to RAS+ mm.

    Frames without a position stay in the order of the file, with None.

    Raises `ValueError`, with the names of files, for slices that do not lie evenly spaced over each other.
    """
    if len({one.path for one in slices}) == 1 and slices[0].affine is None:
        return list(slices), None
    check_alike(slices, path)
    affines = [one.affine for one in slices if one.affine is not None]
    normal = np.cross(affines[0][:3, 0], affines[0][:3, 1])
    heights = np.array([affine[:3, 3] for affine in affines]) @ (normal / np.linalg.norm(normal))
    order = np.argsort(heights, kind="stable")
    ordered = [slices[index] for index in order]
    check_spacing(ordered, heights[order], path)
    affine = affines[order[0]].copy()
    if len(slices) > 1:  # the mean step, which rounded positions do not add up in
        affine[:3, 2] = (affines[order[-1]][:3, 3] - affine[:3, 3]) / (len(slices) - 1)
    return ordered, affine


def check_alike(slices: Sequence[Slice], path: Path) -> None:
    """Raises `ValueError` for slices without a position, of several sizes, orientations or pixel sizes."""
    first = slices[0]
    for one in slices:
        if one.affine is None or first.affine is None:
            name = (one if one.affine is None else first).path.name
            raise ValueError(f"{path}: {name} has no position in the patient: remove the file, or {EXPORT}.")
        if one.size != first.size:
            sizes = " and ".join(f"{rows} x {columns}" for rows, columns in (first.size, one.size))
            fault = f"slices of {sizes} pixels"
        elif not np.allclose(one.affine[:3, :2], first.affine[:3, :2], rtol=1e-2, atol=1e-3):
            fault = "slices of different orientation or pixel size"
        else:
            continue
        raise ValueError(
            f"{path}: holds {fault}, e.g. {first.path.name} and {one.path.name}: move those of a localizer or of "
            f"another acquisition elsewhere, or {EXPORT}."
        )


def check_spacing(slices: Sequence[Slice], heights: np.ndarray, path: Path) -> None:
    """Raises `ValueError` for positions, in order, that repeat or are not evenly spaced."""
    gaps = np.diff(heights)
    if not len(gaps):
        return
    step = float(np.median(gaps))
    worst = int(np.argmax(np.abs(gaps - step)))
    names = f"{slices[worst].path.name} and {slices[worst + 1].path.name}"
    if repeated := [index for index, gap in enumerate(gaps) if gap < SAME]:
        first, second = slices[repeated[0]], slices[repeated[0] + 1]
        raise ValueError(
            f"{path}: {len(repeated)} positions are there twice, e.g. in {label_of(first)} and {label_of(second)}: "
            f"give each phase or copy a folder of its own, or {EXPORT}."
        )
    if abs(gaps[worst] - step) <= UNEVEN * step:
        return
    missing = gaps[worst] / step - 1
    fault = f"{round(missing)} slices are missing" if abs(missing - round(missing)) < UNEVEN else "uneven spacing"
    raise ValueError(
        f"{path}: {fault}: {gaps[worst]:.4g} mm between {names}, {step:.4g} mm elsewhere. Add the files that lack, or "
        f"{EXPORT}."
    )


def label_of(one: Slice) -> str:
    return one.path.name + (f"#{one.frame}" if one.frame else "")
