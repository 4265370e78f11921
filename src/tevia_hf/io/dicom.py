"""DICOM files to pictures, as a viewer shows them."""

from pathlib import Path
from typing import Any

import numpy as np

from tevia_hf.io.address import Address
from tevia_hf.io.medical_image import Geometry, MedicalImage
from tevia_hf.io.pixels import check_size, choose_number, require, to_labels, to_unit

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REFERENCES = ("SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID", "SeriesInstanceUID", "StudyInstanceUID")
_CENTIMETRES = 3  # PhysicalUnitsXDirection of ultrasound regions


def read_dicom(address: Address, is_mask: bool = False) -> MedicalImage:
    """One frame: grey as float32 from 0 to 1, the ends of its window; colour as RGB uint8; a mask as stored.

    The window is the address's, else the file's first (VOI LUT, linear or sigmoid), else the least and greatest value
    of the picture, padding left out, so that nothing saturates. Rescale slope and intercept come first, MONOCHROME1 is
    inverted.

    Raises `ValueError` for a file that is damaged, compressed in a way no decoder is installed for, without pixels, or
    of several frames of which none is named.
    """
    path = address.path
    dataset = _open(path)
    if "PixelData" not in dataset and "FloatPixelData" not in dataset and "DoubleFloatPixelData" not in dataset:
        raise ValueError(
            f"{path}: holds no picture (no PixelData). Export the image, not the report or the structure set."
        )
    check_size(int(dataset.get("Rows", 0)), int(dataset.get("Columns", 0)), path)
    frame = choose_number(address.number, int(dataset.get("NumberOfFrames", 1) or 1), path, "frames")
    stored = _stored_pixels(dataset, frame, path)
    geometry = Geometry(path, _affine(dataset, frame), frame, _references(dataset))
    spacing = _spacing(dataset, frame)
    if is_mask:
        return MedicalImage(to_labels(stored if stored.ndim == 2 else stored.max(-1), path), spacing, geometry)
    return MedicalImage(_seen(dataset, stored, frame, address), spacing, geometry)


def _open(path: Path) -> Any:
    pydicom = require("pydicom", path)
    try:
        return pydicom.dcmread(path, force=True)
    except Exception as error:  # pydicom raises nearly anything on damaged bytes
        raise ValueError(f"{path}: not readable as DICOM ({error}). Fetch or export the file again.") from error


def _stored_pixels(dataset: Any, frame: int, path: Path) -> np.ndarray:
    """(rows, columns[, 3]) of one frame, colour as RGB, palettes resolved."""
    from pydicom.pixels import apply_color_lut, pixel_array

    if not hasattr(dataset, "file_meta") or "TransferSyntaxUID" not in dataset.file_meta:  # no preamble: the default
        dataset.ensure_file_meta()
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    try:
        pixels = pixel_array(dataset, index=frame)
        if dataset.PhotometricInterpretation == "PALETTE COLOR":
            pixels = apply_color_lut(pixels, dataset)
            pixels = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise ValueError(
            f"{path}: its picture cannot be decoded ({error}). Export it uncompressed (Explicit VR Little Endian), or "
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg."
        ) from error
    return pixels


def _seen(dataset: Any, stored: np.ndarray, frame: int, address: Address) -> np.ndarray:
    if stored.ndim == 3:
        return stored if stored.dtype == np.uint8 else np.round(255 * to_unit(stored, None)).astype(np.uint8)
    from pydicom.pixels import apply_modality_lut

    values = apply_modality_lut(stored, _transformation(dataset, frame, "PixelValueTransformationSequence"))
    padding = dataset.get("PixelPaddingValue")
    counted = None if padding is None else stored != int(padding)
    unit = _through_window(dataset, values, frame, address, counted)
    return 1 - unit if dataset.PhotometricInterpretation == "MONOCHROME1" else unit


def _through_window(
    dataset: Any, values: np.ndarray, frame: int, address: Address, counted: np.ndarray | None
) -> np.ndarray:
    if address.window is not None:
        return to_unit(values, address.window)
    tags = _transformation(dataset, frame, "FrameVOILUTSequence")
    if "VOILUTSequence" in tags:
        from pydicom.pixels import apply_voi

        entries = tags.VOILUTSequence[0].LUTDescriptor
        return (apply_voi(values.astype(stored_type(dataset)), tags) / (2.0 ** entries[2] - 1)).astype(np.float32)
    if "WindowCenter" not in tags:
        return to_unit(values, None, counted)
    centre, width = (_first(tags[name].value) for name in ("WindowCenter", "WindowWidth"))
    function = tags.get("VOILUTFunction", "LINEAR")
    if function == "SIGMOID":
        return (1 / (1 + np.exp(-4 * (values - centre) / width))).astype(np.float32)
    # PS3.3 C.11.2.1.2: LINEAR counts the pixels of the window, LINEAR_EXACT measures it
    return to_unit(values, (centre, width) if function == "LINEAR_EXACT" else (centre - 0.5, max(width - 1, 1e-6)))


def stored_type(dataset: Any) -> np.dtype:
    return np.dtype(f"{'i' if dataset.PixelRepresentation else 'u'}{dataset.BitsAllocated // 8}")


def _transformation(dataset: Any, frame: int, sequence: str) -> Any:
    """Where the frame's rescale or window stands: in its functional group, else in the data set itself."""
    group = _functional_group(dataset, frame, sequence)
    return dataset if group is None else group


def _functional_group(dataset: Any, frame: int, sequence: str) -> Any | None:
    """The item of a sequence of an enhanced file, for one frame or shared by all."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or []
        if index < len(items) and items[index].get(sequence):
            return items[index].get(sequence)[0]
    return None


def _spacing(dataset: Any, frame: int) -> tuple[float, float] | None:
    """(row, column) in mm; of a projection at the detector."""
    measures = _functional_group(dataset, frame, "PixelMeasuresSequence")
    for tags in filter(None, (measures, dataset)):
        for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
            if tags.get(name):
                row, column = tags.get(name)
                return float(row), float(column)
    for region in dataset.get("SequenceOfUltrasoundRegions") or []:
        if region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == _CENTIMETRES:
            return 10 * abs(float(region.PhysicalDeltaY)), 10 * abs(float(region.PhysicalDeltaX))
    return None


def _affine(dataset: Any, frame: int) -> np.ndarray | None:
    """From (column, row, 0) to RAS+ mm, where the file says where it lies."""
    place = _functional_group(dataset, frame, "PlanePositionSequence") or dataset
    facing = _functional_group(dataset, frame, "PlaneOrientationSequence") or dataset
    spacing = _spacing(dataset, frame)
    if not (place.get("ImagePositionPatient") and facing.get("ImageOrientationPatient") and spacing):
        return None
    along_row, along_column = np.array(facing.ImageOrientationPatient, float).reshape(2, 3)
    thickness = float(dataset.get("SpacingBetweenSlices") or dataset.get("SliceThickness") or 1.0)
    affine = np.eye(4)
    affine[:3, 0] = along_row * spacing[1]
    affine[:3, 1] = along_column * spacing[0]
    affine[:3, 2] = np.cross(along_row, along_column) * thickness
    affine[:3, 3] = np.array(place.ImagePositionPatient, float)
    return _LPS_TO_RAS @ affine


def _references(dataset: Any) -> dict[str, str]:
    return {name: str(dataset.get(name)) for name in _REFERENCES if dataset.get(name)}


def _first(value: Any) -> float:
    return float(value) if isinstance(value, (int, float, str)) else float(value[0])
