"""DICOM files to images, as a viewer shows them."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tevia_hf.extras import needed_for
from tevia_hf.io.address import ImageRef, is_dicom
from tevia_hf.io.medical_image import Geometry, MedicalImage
from tevia_hf.io.pixels import check_finite, check_size, choose_number, to_unit, to_whole_numbers
from tevia_hf.labels_tevia import WHITE

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
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
    of the image, padding left out, so that nothing saturates. Rescale slope and intercept come first, MONOCHROME1 is
    inverted. An optional tag that tells nothing, such as a slope or a width of 0, is as good as none.

    Raises `ValueError` for a file that is damaged, compressed in a way no decoder is installed for, without pixels, or
    of several frames of which none is named.
    """
    path = address.path
    dataset = _open(path)
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ValueError(f"{path}: {_without_pixels(dataset, path)}")
    if address.plane != "axial":
        raise ValueError(
            f"{path}: '{address.plane}' is a plane of a volume, this file has frames. Write {path.name}#0."
        )
    check_size(int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0), path, most_pixels)
    count = _optional(lambda: int(dataset.get("NumberOfFrames") or 1)) or 0
    if count < 1:
        raise ValueError(
            f"{path}: its NumberOfFrames is '{dataset.get('NumberOfFrames')}', give how many there are, or export it "
            "again."
        )
    frame = choose_number(address, count, "frames")
    stored = _stored_pixels(dataset, frame, path)
    if not is_mask:
        pixels = _seen(dataset, stored, frame, address)
    elif dataset.PhotometricInterpretation == "MONOCHROME1":
        raise ValueError(
            f"{path}: a mask that shows 0 as white (MONOCHROME1), so that the lesion may be what is stored as 1 or "
            "what is shown as white: save it as PNG with the lesion as 1."
        )
    else:
        pixels = to_whole_numbers(stored, path)
    geometry = Geometry(path, _optional(_affine, dataset, frame), frame, count)
    return MedicalImage(pixels, _optional(_spacing, dataset, frame), geometry)


def _optional(read: Callable[..., Any], *arguments: Any) -> Any:
    """What a tag tells; `None` where makers wrote it so that it tells nothing: it costs the tag, not the image."""
    try:
        return read(*arguments)
    except Exception:  # pydicom raises nearly anything on values of another form
        return None


def _without_pixels(dataset: Any, path: Path) -> str:
    """Why there are no pixels in a file, and what to do."""
    if "DirectoryRecordSequence" in dataset:
        return "is a list of DICOM files (DICOMDIR), no image. Give one of the files that it lists."
    if "SOPClassUID" in dataset or "Modality" in dataset or is_dicom(path):
        return (
            "holds no image (no PixelData). Export the image, not the report or the structure set, and fetch a file "
            "that was cut short again."
        )
    content = path.read_bytes()[:40]
    if not content:
        return "is empty. Fetch or export it again."
    try:
        with Image.open(path) as image:
            return f"is no DICOM but a {image.format} file: name it so that it ends in .{str(image.format).lower()}."
    except Exception:  # Pillow raises nearly anything on other content
        return f"is no DICOM file, it begins with {content!r}. Fetch or export it again."


def _open(path: Path) -> Any:
    with needed_for(f"{path}: reading it"):
        import pydicom
    try:
        return pydicom.dcmread(path, force=True)
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises nearly anything on damaged bytes
        raise ValueError(f"{path}: not readable as DICOM ({error}). Fetch or export the file again.") from error


def _stored_pixels(dataset: Any, frame: int, path: Path) -> np.ndarray:
    """(rows, columns) of one frame, the indices of a palette; (rows, columns, 3) in RGB of a colour file."""
    from pydicom.pixels import get_decoder, pixel_array

    dataset.ensure_file_meta()
    if "TransferSyntaxUID" not in dataset.file_meta:  # no preamble: as it was read
        dataset.file_meta.TransferSyntaxUID = _SYNTAXES[dataset.original_encoding]
    syntax = dataset.file_meta.TransferSyntaxUID
    remedy = "pip install python-gdcm, or export it uncompressed (Explicit VR Little Endian)"
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:
        available = False
    if not available:
        raise ValueError(f"{path}: compressed as {syntax.name}, for which no decoder is installed. {remedy}.")
    try:
        return pixel_array(dataset, index=frame)
    except Exception as error:  # decoders raise nearly anything on damaged bytes
        reason = " ".join(str(error).split())
        if not syntax.is_compressed:
            fault = f"its pixels are corrupt or cut short ({reason}). Fetch or export the file again."
        else:  # it may be the decoder that lacks a kind
            fault = (
                f"its pixels, compressed as {syntax.name}, are of a kind that no installed decoder reads, or damaged "
                f"({reason}). {remedy}, or fetch it again."
            )
        raise ValueError(f"{path}: {fault}") from error


def _seen(dataset: Any, stored: np.ndarray, frame: int, address: ImageRef) -> np.ndarray:
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        colours = apply_color_lut(stored, dataset)[..., :3]
        return _to_bytes(colours, 8 if colours.max() < 256 else 16)  # 8-bit colours come in 16-bit tables too
    if stored.ndim == 3:
        return _to_bytes(stored, dataset.BitsStored)
    values = _rescaled(dataset, stored, frame)
    check_finite(stored if values is None else values, address.path)
    if values is None and address.window is not None:
        raise ValueError(
            f"{address.path}: its rescale slope or intercept tells nothing, so that no window can be applied to it: "
            "leave the window out."
        )
    counted = ~_is_padding(dataset, stored)
    if values is None:
        unit = to_unit(stored, None, counted)
    else:
        unit = _through_window(dataset, values, frame, address, counted)
    return 1 - unit if dataset.PhotometricInterpretation == "MONOCHROME1" else unit


def _to_bytes(colours: np.ndarray, bits: int) -> np.ndarray:
    return colours.astype(np.uint8) if bits == 8 else np.round(colours * (WHITE / (2.0**bits - 1))).astype(np.uint8)


def _rescaled(dataset: Any, stored: np.ndarray, frame: int) -> np.ndarray | None:
    """Stored values to the modality's own, such as Hounsfield units; `None` where tags tell nothing, as slope 0."""
    if dataset.get("ModalityLUTSequence"):
        return _looked_up(stored, dataset.ModalityLUTSequence[0], dataset)[0]
    tags = _functional_group(dataset, frame, "PixelValueTransformationSequence")
    slope = _optional(lambda: float(1 if tags.get("RescaleSlope") is None else tags.RescaleSlope))
    intercept = _optional(lambda: float(tags.get("RescaleIntercept") or 0))
    if not slope or intercept is None or not math.isfinite(slope + intercept):
        return None
    return stored * slope + intercept


def _is_padding(dataset: Any, stored: np.ndarray) -> np.ndarray:
    if (padding := dataset.get("PixelPaddingValue")) is None or stored.dtype.kind == "f":
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    # brought to the pixels' type: makers write -2000 as its unsigned twin 63536
    ends = [np.int64(end).astype(stored.dtype) for end in (padding, padding if limit is None else limit)]
    return (stored >= min(ends)) & (stored <= max(ends))


def _through_window(dataset: Any, values: np.ndarray, frame: int, address: ImageRef, counted: np.ndarray) -> np.ndarray:
    tags = _functional_group(dataset, frame, "FrameVOILUTSequence")
    if address.window is not None:
        return to_unit(values, address.window)
    if tags.get("VOILUTSequence"):
        found, top = _looked_up(values, tags.VOILUTSequence[0], dataset)
        return (found / top).astype(np.float32)
    if (window := _optional(_window_of, tags)) is None:
        return to_unit(values, None, counted)
    centre, width, function = window
    if function == "SIGMOID":
        return (1 / (1 + np.exp(-4 * (values - centre) / width))).astype(np.float32)
    # PS3.3 C.11.2.1.2: LINEAR counts the pixels of the window, LINEAR_EXACT measures it
    return to_unit(values, (centre, width) if function == "LINEAR_EXACT" else (centre - 0.5, max(width - 1, 1e-6)))


def _window_of(tags: Any) -> tuple[float, float, str] | None:
    """(centre, width, function) of the file's first window; `None` where it has none that shows anything."""
    centre, width = (float(np.ravel(tags[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    function = str(tags.get("VOILUTFunction") or "LINEAR").upper()
    least = 1 if function == "LINEAR" else np.finfo(np.float32).tiny
    return (centre, width, function) if math.isfinite(centre) and least <= width < math.inf else None


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


def _functional_group(dataset: Any, frame: int, sequence: str) -> Any:
    """The item of a sequence of an enhanced file, for one frame or shared by all; the data set itself without one."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or []
        if index < len(items) and (group := (items[index].get(sequence) or [None])[0]):
            return group
    return dataset


def _spacing(dataset: Any, frame: int) -> tuple[float, float] | None:
    """(row, column) in mm; of a projection at the detector."""
    for tags in (_functional_group(dataset, frame, "PixelMeasuresSequence"), dataset):
        for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
            value = _optional(lambda tags=tags, name=name: tuple(map(float, tags.get(name))))
            if value and len(value) == 2 and all(0 < step < math.inf for step in value):
                return value
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    scales = {
        (10 * abs(float(region.PhysicalDeltaY)), 10 * abs(float(region.PhysicalDeltaX)))
        for region in regions
        if region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == _CENTIMETRES
    }
    return scales.pop() if len(scales) == 1 else None  # no one spacing where regions differ


def _affine(dataset: Any, frame: int) -> np.ndarray | None:
    """From (column, row, 0) to RAS+ mm, where the file says where this frame lies."""
    place = _functional_group(dataset, frame, "PlanePositionSequence")
    facing = _functional_group(dataset, frame, "PlaneOrientationSequence")
    spacing = _spacing(dataset, frame)
    if not (place.get("ImagePositionPatient") and facing.get("ImageOrientationPatient") and spacing):
        return None
    along_row, along_column = np.array(facing.ImageOrientationPatient, float).reshape(2, 3)
    measures = _functional_group(dataset, frame, "PixelMeasuresSequence")
    thickness = _optional(lambda: float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness"))) or 1.0
    directions = np.stack([along_row, along_column, normal := np.cross(along_row, along_column)])
    position = np.array(place.ImagePositionPatient, float)
    if place is dataset and int(dataset.get("NumberOfFrames") or 1) > 1:
        offsets = dataset.get(
            "GridFrameOffsetVector"
        )  # in mm along the normal; where a frame lies is not known without
        position = position + normal * (float(offsets[frame]) - float(offsets[0]) if offsets else math.nan)
    affine = np.eye(4)
    affine[:3, :3] = (directions * [[spacing[1]], [spacing[0]], [thickness]]).T
    affine[:3, 3] = position
    is_turned = np.allclose(directions @ directions.T, np.eye(3), atol=1e-2)  # zeros, or skew, tell no place
    return _LPS_TO_RAS @ affine if is_turned and np.isfinite(affine).all() else None
