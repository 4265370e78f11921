"""DICOM files to pictures, as a viewer shows them."""

from pathlib import Path
from typing import Any

import numpy as np

from tevia_hf.extras import needed_for
from tevia_hf.io.address import ImageRef
from tevia_hf.io.medical_image import Geometry, MedicalImage
from tevia_hf.io.pixels import check_finite, check_size, choose_number, to_unit, to_whole_numbers
from tevia_hf.labels_tevia import WHITE

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REFERENCES = ("SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID", "SeriesInstanceUID", "StudyInstanceUID")
# Implicit VR, explicit VR and explicit VR big endian, by what pydicom found: (is implicit, is little endian)
_SYNTAXES = {
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}
_CENTIMETRES = 3  # PhysicalUnitsXDirection of ultrasound regions


def read_dicom(address: ImageRef, is_mask: bool = False, most_pixels: int | None = None) -> MedicalImage:
    """One frame: grey as float32 from 0 to 1, the ends of its window; colour as RGB uint8; a mask as stored.

    The window is the address's, else the file's first (VOI LUT, linear or sigmoid), else the least and greatest value
    of the picture, padding left out, so that nothing saturates. Rescale slope and intercept come first, MONOCHROME1 is
    inverted.

    Raises `ValueError` for a file that is damaged, compressed in a way no decoder is installed for, without pixels, or
    of several frames of which none is named.
    """
    path = address.path
    dataset = _open(path)
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ValueError(
            f"{path}: holds no picture (no PixelData). Export the image, not the report or the structure set."
        )
    if address.plane != "axial":
        raise ValueError(
            f"{path}: '{address.plane}' is a plane of a volume, this file has frames. Write {path.name}#0."
        )
    check_size(int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0), path, most_pixels)
    frame = choose_number(address, int(dataset.get("NumberOfFrames") or 1), "frames")
    stored = _stored_pixels(dataset, frame, path)
    geometry = Geometry(path, _affine(dataset, frame), frame, _references(dataset))
    pixels = to_whole_numbers(stored, path) if is_mask else _seen(dataset, stored, frame, address)
    return MedicalImage(pixels, _spacing(dataset, frame), geometry)


def _open(path: Path) -> Any:
    with needed_for(f"{path}: reading it"):
        import pydicom
    try:
        return pydicom.dcmread(path, force=True)
    except Exception as error:  # pydicom raises nearly anything on damaged bytes
        raise ValueError(f"{path}: not readable as DICOM ({error}). Fetch or export the file again.") from error


def _stored_pixels(dataset: Any, frame: int, path: Path) -> np.ndarray:
    """(rows, columns) of one frame, the indices of a palette; (rows, columns, 3) in RGB of a colour file."""
    from pydicom.pixels import pixel_array

    dataset.ensure_file_meta()
    if "TransferSyntaxUID" not in dataset.file_meta:  # no preamble: as it was read
        dataset.file_meta.TransferSyntaxUID = _SYNTAXES[dataset.original_encoding]
    _require_decoder(dataset.file_meta.TransferSyntaxUID, path)
    try:
        return pixel_array(dataset, index=frame)
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        raise ValueError(
            f"{path}: its picture is corrupt or cut short ({error}). Fetch or export the file again, uncompressed if "
            "it is not (Explicit VR Little Endian)."
        ) from error


def _require_decoder(syntax: Any, path: Path) -> None:
    from pydicom.pixels import get_decoder

    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise ValueError(
            f"{path}: compressed as {syntax.name}, for which no decoder is installed. pip install python-gdcm, or "
            "export it uncompressed (Explicit VR Little Endian)."
        )


def _seen(dataset: Any, stored: np.ndarray, frame: int, address: ImageRef) -> np.ndarray:
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        colours = apply_color_lut(stored, dataset)[..., :3]
        return _to_bytes(colours, 8 if colours.max() < 256 else 16)  # 8-bit colours come in 16-bit tables too
    if stored.ndim == 3:
        return _to_bytes(stored, dataset.BitsStored)
    values = _rescaled(dataset, stored, frame)
    check_finite(values, address.path)
    unit = _through_window(dataset, values, frame, address, ~_is_padding(dataset, stored))
    return 1 - unit if dataset.PhotometricInterpretation == "MONOCHROME1" else unit


def _to_bytes(colours: np.ndarray, bits: int) -> np.ndarray:
    return colours.astype(np.uint8) if bits == 8 else np.round(colours * (WHITE / (2.0**bits - 1))).astype(np.uint8)


def _rescaled(dataset: Any, stored: np.ndarray, frame: int) -> np.ndarray:
    """Stored values to the modality's own, such as Hounsfield units."""
    if dataset.get("ModalityLUTSequence"):
        return _looked_up(stored, dataset.ModalityLUTSequence[0], dataset)[0]
    tags = _transformation(dataset, frame, "PixelValueTransformationSequence")
    slope, intercept = (tags.get(name) for name in ("RescaleSlope", "RescaleIntercept"))
    return stored * float(1 if slope is None else slope) + float(intercept or 0)


def _is_padding(dataset: Any, stored: np.ndarray) -> np.ndarray:
    if (padding := dataset.get("PixelPaddingValue")) is None or stored.dtype.kind == "f":
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    # brought to the pixels' type: makers write -2000 as its unsigned twin 63536
    ends = [np.int64(end).astype(stored.dtype) for end in (padding, padding if limit is None else limit)]
    return (stored >= min(ends)) & (stored <= max(ends))


def _through_window(dataset: Any, values: np.ndarray, frame: int, address: ImageRef, counted: np.ndarray) -> np.ndarray:
    tags = _transformation(dataset, frame, "FrameVOILUTSequence")
    if address.window is not None:
        return to_unit(values, address.window)
    if tags.get("VOILUTSequence"):
        found, top = _looked_up(values, tags.VOILUTSequence[0], dataset)
        return (found / top).astype(np.float32)
    if tags.get("WindowCenter") is None or tags.get("WindowWidth") is None:
        return to_unit(values, None, counted)
    return _windowed(values, tags, address.path)


def _windowed(values: np.ndarray, tags: Any, path: Path) -> np.ndarray:
    """From 0 to 1 through the first window of the file, by the function it names."""
    centre, width = (_first(tags[name].value) for name in ("WindowCenter", "WindowWidth"))
    function = str(tags.get("VOILUTFunction") or "LINEAR").upper()
    if width <= 0 or (function == "LINEAR" and width < 1):
        raise ValueError(f"{path}: its window has a width of {width:g}. Give one, e.g. {path.name}#@40,400.")
    if function == "SIGMOID":
        return (1 / (1 + np.exp(-4 * (values - centre) / width))).astype(np.float32)
    # PS3.3 C.11.2.1.2: LINEAR counts the pixels of the window, LINEAR_EXACT measures it
    return to_unit(values, (centre, width) if function == "LINEAR_EXACT" else (centre - 0.5, max(width - 1, 1e-6)))


def _looked_up(values: np.ndarray, item: Any, dataset: Any) -> tuple[np.ndarray, float]:
    """Values through a table, and the greatest value that it may give. (pydicom's look-up is for 8 and 16 bits.)"""
    count, first, bits = (int(entry) for entry in item.LUTDescriptor)
    table = item.LUTData
    if isinstance(table, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        table = np.frombuffer(table, "u1" if len(table) <= (count or 2**16) + 1 else f"{order}u2")
    table = np.asarray(table, float)[: count or 2**16]
    places = np.clip(np.round(values).astype(np.int64) - first, 0, len(table) - 1)
    return table[places], max(2.0**bits - 1, float(table.max()))


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
            if (value := tags.get(name)) and min(value) > 0:
                row, column = value
                return float(row), float(column)
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    scales = {scale for region in regions if (scale := _region_scale(region))}
    return scales.pop() if len(scales) == 1 else None  # no one spacing where regions differ


def _region_scale(region: Any) -> tuple[float, float] | None:
    if not region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == _CENTIMETRES:
        return None
    return 10 * abs(float(region.PhysicalDeltaY)), 10 * abs(float(region.PhysicalDeltaX))


def _affine(dataset: Any, frame: int) -> np.ndarray | None:
    """From (column, row, 0) to RAS+ mm, where the file says where it lies."""
    place = _functional_group(dataset, frame, "PlanePositionSequence") or dataset
    facing = _functional_group(dataset, frame, "PlaneOrientationSequence") or dataset
    spacing = _spacing(dataset, frame)
    if not (place.get("ImagePositionPatient") and facing.get("ImageOrientationPatient") and spacing):
        return None
    along_row, along_column = np.array(facing.ImageOrientationPatient, float).reshape(2, 3)
    measures = _functional_group(dataset, frame, "PixelMeasuresSequence") or dataset
    thickness = float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness") or 1.0)
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
