"""DICOM series: the slices of a volume in a folder of files, or the frames of one file."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tevia_hf.extras import needed_for
from tevia_hf.io.address import DICOM_SUFFIXES, ImageRef, is_clutter, is_image_file, suffix_of
from tevia_hf.io.dicom import affine_of, frame_count, open_dicom, optional, read_frame, slice_spacing_of, spacing_of
from tevia_hf.io.medical_image import Geometry, MedicalImage
from tevia_hf.io.volume import Volume, VolumeGrid

SAME = 0.01  # mm between positions that are one
UNEVEN, ROUNDING = 0.1, 0.05  # of the distance of slices, and in mm
_OF_SERIES = ("SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "PatientID", "StudyInstanceUID")
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
        self.spacing_mm = self.voxel_mm3 = None
        if self.affine is not None:
            column, row, between = (float(step) for step in np.linalg.norm(self.affine[:3, :3], axis=0))
            self.spacing_mm = between, row, column
            self.voxel_mm3 = abs(float(np.linalg.det(self.affine[:3, :3])))
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
        between = self.spacing_mm[0] if self.spacing_mm else None
        return image._replace(source=Geometry(own.path, affine, own.frame, self.count, slice_spacing_mm=between))

    def number_of(self, address_number: int) -> int | None:
        if self.dataset is None:
            return super().number_of(address_number)
        return next((n for n, one in enumerate(self.slices) if one.frame == address_number), None)

    def _template(self) -> Any:
        with needed_for(f"{self.path}: writing its mask"):
            import nibabel
        affine = self._spacing_alone() if self.affine is None else self.affine
        template = nibabel.Nifti1Image(np.zeros((1, 1, 1), np.uint8), affine)
        for place in (template.header.set_qform, template.header.set_sform):
            place(affine, code="scanner" if self.affine is not None else "unknown")
        if not np.allclose(template.header.get_qform(), affine, atol=1e-3):  # it cannot hold a tilted gantry
            template.header.set_qform(affine, code="unknown")
        template.header.set_xyzt_units("mm")
        return template

    def _spacing_alone(self) -> np.ndarray:
        """An affine with the spacing of frames without a position, 1 where it is unknown."""
        row, column = optional(spacing_of, self.dataset, 0) or (1.0, 1.0)
        between = abs(optional(slice_spacing_of, self.dataset, 0) or 1.0)
        return np.diag([-column, -row, between, 1.0])


def chosen_series(address: ImageRef) -> Series:
    """The series of a folder that the address selects, or its only one.

    Raises `ValueError`, with the series that there are, if several are left.
    """
    several, damaged = series_in(address.path)
    if damaged:
        raise ValueError(f"{address.path}: {', '.join(damaged[:3])} cut short or damaged: fetch again, or remove it.")
    chosen = [one for one in several if address.series in (None, one.uid, one.number, one.description)]
    if len(chosen) == 1:
        return chosen[0]
    listed = ", ".join(map(str, several))
    fault = f"holds {len(several)} series" if not chosen or address.series is None else "holds several of them"
    wanted = "" if address.series is None else f", not '{address.series}' alone"
    raise ValueError(
        f"{address.path}: {fault}{wanted}: {listed}. Select one by its number, UID or description, e.g. "
        f"`--series {several[0].number or several[0].uid}`; or give the files, e.g. {address.path}/*.dcm, to segment "
        "each as an image."
    )


def series_in(folder: Path) -> tuple[list[Series], list[str]]:
    """The series in a folder, in order of their numbers, and the names of damaged files.

    Localizers, and other objects than images, are left out.
    """
    series: dict[tuple[str, ...], Series] = {}
    damaged = []
    for path in dicom_files(folder):
        tags = optional(open_dicom, path, True)
        if tags is None or frame_count(tags) < 1 or ("Rows" not in tags and not is_other_object(tags)):
            damaged.append(path.name)
        elif "Rows" in tags and "LOCALIZER" not in (tags.get("ImageType") or ()):
            uid, number, description, patient, study = (str(tags.get(name) or "") for name in _OF_SERIES)
            key = (patient, study, uid or path.name)  # files without a UID are images of their own
            series.setdefault(key, Series(uid, number, description, [])).slices.extend(frames_of(tags, path))
    return sorted(series.values(), key=lambda one: (len(one.number), one.number, one.uid)), damaged


def is_other_object(tags: Any) -> bool:
    """Whether a file holds something else than an image, such as a report or a structure set."""
    kind = tags.get("SOPClassUID")
    return "DirectoryRecordSequence" in tags or bool(kind and "Image" not in kind.name)


def dicom_files(folder: Path) -> list[Path]:
    files = (path for path in sorted(folder.iterdir()) if path.is_file() and not is_clutter(path))
    return [path for path in files if suffix_of(path) in DICOM_SUFFIXES]


def is_series(folder: Path) -> bool:
    """Whether the images in a folder are slices of a series, in a file each, rather than images of their own."""
    files = [path for path in folder.iterdir() if path.is_file() and not is_clutter(path)]
    if not any(suffix_of(path) in DICOM_SUFFIXES for path in files):
        return False
    if any(is_image_file(path) and suffix_of(path) not in DICOM_SUFFIXES for path in files):
        return False
    series, _ = series_in(folder)
    for own in series:
        if (
            own.uid
            and len({one.path for one in own.slices}) > 1
            and not any(one.affine is not None for one in own.slices)
        ):
            warnings.warn(
                f"{folder}: the files of series {own} lack positions or the size of pixels, so that each is an image. "
                f"For a volume, {EXPORT}.",
                UserWarning,
                stacklevel=2,
            )
    return any(len({one.path for one in own.slices if one.affine is not None}) > 1 for own in series)


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
    check_positions(ordered, heights[order], path)
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
            f"{path}: holds {fault}, e.g. {' and '.join(labels_of(first, one))}: move those of a localizer or of "
            f"another acquisition elsewhere, or {EXPORT}."
        )


def check_positions(slices: Sequence[Slice], heights: np.ndarray, path: Path) -> None:
    """Raises `ValueError` for positions, in order of their heights, that repeat or are not evenly spaced on a line."""
    gaps = np.diff(heights)
    if not len(gaps):
        return
    if repeated := [index for index, gap in enumerate(gaps) if gap < SAME]:
        both = labels_of(slices[repeated[0]], slices[repeated[0] + 1])
        raise ValueError(
            f"{path}: {len(repeated)} positions are there twice, e.g. in {' and '.join(both)}: "
            f"give each phase or copy a folder of its own, or {EXPORT}."
        )
    positions = np.array([one.affine[:3, 3] for one in slices if one.affine is not None])
    expected = np.linspace(positions[0], positions[-1], len(positions))
    off = np.linalg.norm(positions - expected, axis=1)
    step = float(np.median(gaps))
    if off.max() <= UNEVEN * step + ROUNDING:
        return
    worst = int(np.argmax(np.abs(gaps - step)))
    steps = gaps / step
    missing = int(np.round(steps - 1).sum())
    is_missing = missing > 0 and np.abs(steps - np.round(steps)).max() < UNEVEN
    raise ValueError(
        f"{path}: {f'{missing} slices are missing' if is_missing else 'uneven positions'}: {gaps[worst]:.4g} mm "
        f"between {' and '.join(labels_of(slices[worst], slices[worst + 1]))}, {step:.4g} mm "
        f"elsewhere, and up to {off.max():.2g} mm from an even row. Add the files that lack, or {EXPORT}."
    )


def labels_of(*slices: Slice) -> list[str]:
    """The names of files, with the numbers of frames if they are of one file."""
    is_one_file = len({one.path for one in slices}) == 1
    return [f"{one.path.name}#{one.frame}" if is_one_file or one.frame else one.path.name for one in slices]
