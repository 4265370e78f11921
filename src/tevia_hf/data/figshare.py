"""Records of figshare's brain tumours: MATLAB 7.3 files, which are HDF5, each an image with its mask.

Importing this module makes `read_image` read them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tevia_hf.extras import needed_for
from tevia_hf.io import Geometry, ImageRef, MedicalImage, register_reader
from tevia_hf.io.pixels import check_size

RECORD_SUFFIX = ".mat"


def read_record(address: ImageRef, is_mask: bool = False, most_pixels: int | None = None) -> MedicalImage:
    """`cjdata/image` (int16, its values kept), or as a mask `cjdata/tumorMask` as stored, both (height, width).

    Raises `ValueError` for a file that is damaged or of another kind.
    """
    with _record(address.path) as record:
        stored = record["tumorMask" if is_mask else "image"]
        height, width = stored.shape[::-1]
        check_size(height, width, address.path, most_pixels)
        pixels = np.asarray(stored).T  # MATLAB stores column after column
    return MedicalImage(np.ascontiguousarray(pixels), None, Geometry(address.path))


def read_kind_and_patient(path: str | Path) -> tuple[int, str]:
    """The tumour class (1 meningioma, 2 glioma, 3 pituitary) and the patient of a record.

    Raises `ValueError` for a file that is damaged or of another kind.
    """
    with _record(Path(path)) as record:
        label = int(np.asarray(record["label"]).item())
        patient = "".join(chr(int(code)) for code in np.asarray(record["PID"]).ravel())
    return label, patient


@contextmanager
def _record(path: Path) -> Iterator[Any]:
    with needed_for(f"{path}: reading it"):
        import h5py
    try:
        with h5py.File(path) as file:
            yield file["cjdata"]
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path}: not a brain tumour record ({error}). Fetch it again; expected is a MATLAB 7.3 file with `cjdata`."
        ) from error


register_reader([RECORD_SUFFIX], read_record)
