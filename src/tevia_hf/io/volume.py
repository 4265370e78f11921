"""Volumes, whose slices are read one by one, and the mask of a volume, which is written slice by slice."""

import math
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple
from weakref import finalize

import numpy as np

from tevia_hf.io.medical_image import MedicalImage
from tevia_hf.io.output_dir import whole_file


class VolumeGrid(NamedTuple):
    """The voxels of a volume as stored in a NIfTI file, and the slices that are cut from them.

    Args:
        shape: (3,), as stored.
        to_display: nibabel's orientation (3, 2) from the stored axes to (column, row, slice) as displayed.
        template: a NIfTI image whose type and header the mask takes.
    """

    shape: tuple[int, int, int]
    to_display: np.ndarray
    template: Any

    @property
    def size(self) -> tuple[int, int, int]:
        """(columns, rows, slices)."""
        columns, rows, slices = (self.shape[axis] for axis in np.argsort(self.to_display[:, 0]))
        return columns, rows, slices

    def place(self, number: int) -> tuple[slice, slice, slice]:
        """Where a slice is stored, as a part of the volume of thickness 1."""
        (axis,) = np.flatnonzero(self.to_display[:, 0] == 2)
        stored = number if self.to_display[axis, 1] > 0 else self.shape[axis] - 1 - number
        first, second, third = (slice(stored, stored + 1) if each == axis else slice(None) for each in range(3))
        return first, second, third

    def as_displayed(self, stored: np.ndarray) -> np.ndarray:
        """The (height, width) of a part of thickness 1."""
        from nibabel.orientations import apply_orientation

        return apply_orientation(stored, self.to_display)[:, :, 0].T

    def as_stored(self, displayed: np.ndarray) -> np.ndarray:
        """The part of thickness 1 of a slice (height, width)."""
        from nibabel.orientations import apply_orientation, axcodes2ornt, ornt_transform

        return apply_orientation(displayed.T[:, :, None], ornt_transform(axcodes2ornt("RAS"), self.to_display))

    def mask(self, voxels: np.ndarray) -> Any:
        """The labels uint8 of all voxels, as stored, as a NIfTI image with the header of the volume."""
        header = self.template.header.copy()
        header.set_data_dtype(np.uint8)
        header.set_slope_inter(1, 0)
        header["cal_min"] = header["cal_max"] = 0
        return type(self.template)(voxels, self.template.affine, header)


class Volume(ABC):
    """An opened volume: `count` slices (height, width), each read when it is asked for.

    `spacing_mm` is the (slice, row, column) size of a voxel, None if the positions of the slices are unknown.
    """

    path: Path
    count: int
    grid: VolumeGrid
    spacing_mm: tuple[float, float, float] | None
    voxel_mm3: float | None

    def number_of(self, address_number: int) -> int | None:
        """The slice that has this number in an address, such as "cine.dcm#3"; `None` if there is none."""
        return address_number if address_number < self.count else None

    @abstractmethod
    def slice(self, number: int) -> MedicalImage:
        """A slice as `read_image` returns it. Raises `ValueError` if it is damaged or its values are not finite."""

    def close(self) -> None:
        """Deletes what opening it wrote, if anything; it can then not be read any more."""
        return


class VolumeSlice(NamedTuple):
    """A slice to read later; of a volume that could not be opened, there is the error."""

    volume: Volume | Exception
    number: int = 0

    def load(self) -> MedicalImage:
        if isinstance(self.volume, Exception):
            raise self.volume
        return self.volume.slice(self.number)


class VolumeMask:
    """The label map uint8 of a volume, kept in a file as a volume may be large.

    Args:
        grid: of the volume.
        path: of the file, which is deleted by `close`, or with the object.
    """

    def __init__(self, grid: VolumeGrid, path: Path):
        self.grid, self.path = grid, path
        with path.open("wb") as file:
            file.truncate(math.prod(grid.shape))
        self.close = finalize(self, path.unlink, missing_ok=True)

    def _voxels(self) -> np.memmap:
        # Mapped anew each time: pages that stay mapped count as memory of the process.
        return np.memmap(self.path, np.uint8, "r+", shape=self.grid.shape, order="F")

    def add(self, number: int, labels: np.ndarray) -> None:
        """Stores the labels of a slice (height, width)."""
        self._voxels()[self.grid.place(number)] = self.grid.as_stored(labels)

    def slice(self, number: int) -> np.ndarray:
        """The labels of a slice (height, width)."""
        return self.grid.as_displayed(np.array(self._voxels()[self.grid.place(number)]))

    def save(self, path: Path) -> None:
        """Writes it as NIfTI with the header of the volume, atomically."""
        with whole_file(path) as part:
            self.grid.mask(self._voxels()).to_filename(part)
