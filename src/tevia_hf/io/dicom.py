"""Reading of DICOM files as a viewer displays them."""

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
# Implicit VR, explicit VR and explicit VR big endian, by pydicom's (is implicit, is little endian)
_SYNTAXES = {
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}
_DEFLATED = "1.2.840.10008.1.2.1.99"
_LARGE = 2**25  # bytes of pixels that are not read before they are needed
_CENTIMETRES = 3  # PhysicalUnitsXDirection of ultrasound regions


def read_dicom(address: ImageRef, is_mask: bool = False, most_pixels: int | None = None) -> MedicalImage:
    """One frame: grey as float32 from 0 to 1 (the ends of its window), colour as RGB uint8, a mask as stored.

    The window is that of the address, else the first of the file (VOI LUT, linear or sigmoid), else the range of the
    image without padding, so that nothing saturates. Rescale slope and intercept are applied first, MONOCHROME1 is
    inverted. Optional tags with meaningless values, such as a slope or width of 0, are ignored.

    Raises `ValueError` for a file that is damaged, has no pixels, has a compression without an installed decoder, or
    has several frames of which none is selected.
    """
    return read_frame(open_dicom(address.path), address, is_mask, most_pixels)


def read_frame(dataset: Any, address: ImageRef, is_mask: bool = False, most_pixels: int | None = None) -> MedicalImage:
    """One frame of an opened file, as `read_dicom` returns it."""
    path = address.path
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ValueError(f"{path}: {_without_pixels(dataset, path)}")
    if address.plane != "axial":
        raise ValueError(
            f"{path}: '{address.plane}' is a plane of a volume, but this file has frames. Write {path.name}#0."
        )
    check_size(int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0), path, most_pixels)
    if (count := frame_count(dataset)) < 1:
        raise ValueError(
            f"{path}: its NumberOfFrames is '{dataset.get('NumberOfFrames')}': correct the number, or export it again."
        )
    frame = choose_number(address, count, "frames")
    stored = _stored_pixels(dataset, frame, path)
    if not is_mask:
        pixels = _displayed(dataset, stored, frame, address)
    elif dataset.PhotometricInterpretation == "MONOCHROME1":
        raise ValueError(
            f"{path}: a mask that displays 0 as white (MONOCHROME1), so the lesion may be the pixels stored as 1 or "
            "those displayed as white: save it as PNG with the lesion as 1."
        )
    else:
        pixels = to_whole_numbers(stored, path)
    between = abs(optional(slice_spacing_of, dataset, frame) or math.nan)
    geometry = Geometry(
        path,
        optional(affine_of, dataset, frame),
        frame,
        count,
        slice_spacing_mm=between if math.isfinite(between) else None,
    )
    return MedicalImage(pixels, optional(spacing_of, dataset, frame), geometry)


def frame_count(dataset: Any) -> int:
    """The number of frames; 0 if the tag is malformed."""
    return max(0, optional(lambda: int(dataset.get("NumberOfFrames") or 1)) or 0)


def optional(read: Callable[..., Any], *arguments: Any) -> Any:
    """The value of an optional tag, or `None` if it is malformed: a bad tag must not make the image unreadable."""
    try:
        return read(*arguments)
    except Exception:  # pydicom raises almost any exception on malformed values
        return None


def _without_pixels(dataset: Any, path: Path) -> str:
    """The reason why a file has no pixels, and the fix."""
    if "DirectoryRecordSequence" in dataset:
        return "is a list of DICOM files (DICOMDIR), not an image. Give one of the files that it lists."
    if "SOPClassUID" in dataset or "Modality" in dataset or is_dicom(path):
        return (
            "holds no image (no PixelData). Export the image, not the report or the structure set; fetch a truncated "
            "file again."
        )
    content = path.read_bytes()[:40]
    if not content:
        return "is empty. Fetch or export it again."
    try:
        with Image.open(path) as image:
            return f"is not DICOM but a {image.format} file: rename it to end in .{str(image.format).lower()}."
    except Exception:  # Pillow raises almost any exception on other content
        return f"is not a DICOM file, it begins with {content!r}. Fetch or export it again."


def open_dicom(path: Path, only_tags: bool = False) -> Any:
    """The pydicom data set of a file, without its pixels if only its tags are needed.

    The pixels of a large file are read when they are needed. Raises `ValueError` for a damaged file.
    """
    with needed_for(f"{path}: reading it"):
        import pydicom
    try:
        dataset = pydicom.dcmread(path, force=True, stop_before_pixels=only_tags, defer_size=_LARGE)
        if getattr(dataset, "file_meta", {}).get("TransferSyntaxUID") == _DEFLATED:  # its parts cannot be read alone
            dataset = pydicom.dcmread(path, force=True, stop_before_pixels=only_tags)
        return dataset
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises almost any exception on damaged files
        raise ValueError(f"{path}: not readable as DICOM ({error}). Fetch or export the file again.") from error


def _stored_pixels(dataset: Any, frame: int, path: Path) -> np.ndarray:
    """One frame as stored, (rows, columns), also of palette indices, or (rows, columns, 3) in RGB."""
    from pydicom.pixels import get_decoder, pixel_array

    dataset.ensure_file_meta()
    if "TransferSyntaxUID" not in dataset.file_meta:  # no preamble: the encoding that pydicom detected
        dataset.file_meta.TransferSyntaxUID = _SYNTAXES[dataset.original_encoding]
    syntax = dataset.file_meta.TransferSyntaxUID
    remedy = "pip install python-gdcm, or export it uncompressed (Explicit VR Little Endian)"
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError:  # a transfer syntax that pydicom does not know
        available = False
    if not available:
        raise ValueError(f"{path}: compressed as {syntax.name}, for which no decoder is installed. {remedy}.")
    # From the file, of which it reads this frame alone; a file without a preamble must be read from the data set.
    has_frames = getattr(dataset, "preamble", None) and frame_count(dataset) > 1
    try:
        return pixel_array(path if has_frames else dataset, index=frame)
    except Exception as error:  # decoders raise almost any exception on damaged files
        reason = " ".join(str(error).split())
        if not syntax.is_compressed:
            fault = f"its pixels are corrupt or cut short ({reason}). Fetch or export the file again."
        else:  # the decoder may not support this variant
            fault = (
                f"its pixels, compressed as {syntax.name}, are damaged, or no installed decoder supports them "
                f"({reason}). {remedy}, or fetch it again."
            )
        raise ValueError(f"{path}: {fault}") from error


def _displayed(dataset: Any, stored: np.ndarray, frame: int, address: ImageRef) -> np.ndarray:
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        from pydicom.pixels import apply_color_lut

        colours = apply_color_lut(stored, dataset)[..., :3]
        return _to_bytes(colours, 8 if colours.max() < 256 else 16)  # 16-bit tables may hold 8-bit colours
    if stored.ndim == 3:
        return _to_bytes(stored, dataset.BitsStored)
    values = _rescaled(dataset, stored, frame)
    check_finite(stored if values is None else values, address.path)
    if values is None and address.window is not None:
        raise ValueError(
            f"{address.path}: its rescale slope or intercept is not usable, so no window can be applied: "
            "leave the window out."
        )
    valid = ~_is_padding(dataset, stored)
    unit = to_unit(stored, None, valid) if values is None else _through_window(dataset, values, frame, address, valid)
    return 1 - unit if dataset.PhotometricInterpretation == "MONOCHROME1" else unit


def _to_bytes(colours: np.ndarray, bits: int) -> np.ndarray:
    return colours.astype(np.uint8) if bits == 8 else np.round(colours * (WHITE / (2.0**bits - 1))).astype(np.uint8)


def _rescaled(dataset: Any, stored: np.ndarray, frame: int) -> np.ndarray | None:
    """Stored values in modality units, such as Hounsfield units; `None` for meaningless tags, such as slope 0."""
    if dataset.get("ModalityLUTSequence"):
        return _looked_up(stored, dataset.ModalityLUTSequence[0], dataset)[0]
    tags = _functional_group(dataset, frame, "PixelValueTransformationSequence")
    slope = optional(lambda: float(1 if tags.get("RescaleSlope") is None else tags.RescaleSlope))
    intercept = optional(lambda: float(tags.get("RescaleIntercept") or 0))
    if not slope or intercept is None or not math.isfinite(slope + intercept):
        return None
    return stored * slope + intercept


def _is_padding(dataset: Any, stored: np.ndarray) -> np.ndarray:
    if (padding := dataset.get("PixelPaddingValue")) is None or stored.dtype.kind == "f":
        return np.zeros(stored.shape, bool)
    limit = dataset.get("PixelPaddingRangeLimit")
    # cast to the dtype of the pixels, as some vendors write -2000 as unsigned 63536
    ends = [np.int64(end).astype(stored.dtype) for end in (padding, padding if limit is None else limit)]
    return (stored >= min(ends)) & (stored <= max(ends))


def _through_window(dataset: Any, values: np.ndarray, frame: int, address: ImageRef, valid: np.ndarray) -> np.ndarray:
    tags = _functional_group(dataset, frame, "FrameVOILUTSequence")
    if address.window is not None:
        return to_unit(values, address.window)
    if tags.get("VOILUTSequence"):
        output, maximum = _looked_up(values, tags.VOILUTSequence[0], dataset)
        return (output / maximum).astype(np.float32)
    if (window := optional(_window_of, tags)) is None:
        return to_unit(values, None, valid)
    centre, width, function = window
    if function == "SIGMOID":
        return (1 / (1 + np.exp(-4 * (values - centre) / width))).astype(np.float32)
    # PS3.3 C.11.2.1.2: LINEAR counts the pixels of the window, LINEAR_EXACT measures it
    return to_unit(values, (centre, width) if function == "LINEAR_EXACT" else (centre - 0.5, max(width - 1, 1e-6)))


def _window_of(tags: Any) -> tuple[float, float, str] | None:
    """(centre, width, function) of the file's first window; `None` if its width is too small or not finite."""
    centre, width = (float(np.ravel(tags[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
    function = str(tags.get("VOILUTFunction") or "LINEAR").upper()
    least = 1 if function == "LINEAR" else np.finfo(np.float32).tiny
    return (centre, width, function) if math.isfinite(centre) and least <= width < math.inf else None


def _looked_up(values: np.ndarray, item: Any, dataset: Any) -> tuple[np.ndarray, float]:
    """Values mapped by a look-up table, and its maximum output. (pydicom supports tables of 8 and 16 bits only.)"""
    count, first, bits = (int(entry) for entry in item.LUTDescriptor)
    table = item.LUTData
    if isinstance(table, bytes):
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        table = np.frombuffer(table, "u1" if len(table) <= (count or 2**16) + 1 else f"{order}u2")
    table = np.asarray(table, float)[: count or 2**16]
    indices = np.clip(np.round(values).astype(np.int64) - first, 0, len(table) - 1)
    return table[indices], max(2.0**bits - 1, float(table.max()))


def _functional_group(dataset: Any, frame: int, sequence: str) -> Any:
    """The item of a functional group sequence, of one frame or shared by all; the data set itself if it has none."""
    for groups, index in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or []
        if index < len(items) and (group := (items[index].get(sequence) or [None])[0]):
            return group
    return dataset


def spacing_of(dataset: Any, frame: int) -> tuple[float, float] | None:
    """(row, column) in mm; for projections, the spacing at the detector."""
    for tags in (_functional_group(dataset, frame, "PixelMeasuresSequence"), dataset):
        for name in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
            value = optional(lambda tags=tags, name=name: tuple(map(float, tags.get(name))))
            if value and len(value) == 2 and all(0 < step < math.inf for step in value):
                return value
    regions = dataset.get("SequenceOfUltrasoundRegions") or []
    scales = {
        (10 * abs(float(region.PhysicalDeltaY)), 10 * abs(float(region.PhysicalDeltaX)))
        for region in regions
        if region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == _CENTIMETRES
    }
    return scales.pop() if len(scales) == 1 else None  # ambiguous if regions differ


def slice_spacing_of(dataset: Any, frame: int) -> float:
    """The distance to the next slice in mm, which may be negative, or else the thickness of the slice."""
    measures = _functional_group(dataset, frame, "PixelMeasuresSequence")
    return float(measures.get("SpacingBetweenSlices") or measures.get("SliceThickness"))


def affine_of(dataset: Any, frame: int) -> np.ndarray | None:
    """The affine from (column, row, 0) to RAS+ mm; `None` if the file does not give the position of this frame."""
    plane_position = _functional_group(dataset, frame, "PlanePositionSequence")
    orientation = _functional_group(dataset, frame, "PlaneOrientationSequence")
    spacing = spacing_of(dataset, frame)
    if not (plane_position.get("ImagePositionPatient") and orientation.get("ImageOrientationPatient") and spacing):
        return None
    along_row, along_column = np.array(orientation.ImageOrientationPatient, float).reshape(2, 3)
    thickness = optional(slice_spacing_of, dataset, frame) or 1.0
    directions = np.stack([along_row, along_column, normal := np.cross(along_row, along_column)])
    position = np.array(plane_position.ImagePositionPatient, float)
    if plane_position is dataset and int(dataset.get("NumberOfFrames") or 1) > 1:
        offsets = dataset.get("GridFrameOffsetVector")  # in mm along the normal; without it the position is unknown
        position = position + normal * (float(offsets[frame]) - float(offsets[0]) if offsets else math.nan)
    affine = np.eye(4)
    affine[:3, :3] = (directions * [[spacing[1]], [spacing[0]], [thickness]]).T
    affine[:3, 3] = position
    is_rotation = np.allclose(directions @ directions.T, np.eye(3), atol=1e-2)  # zeros or skew axes are invalid
    return _LPS_TO_RAS @ affine if is_rotation and np.isfinite(affine).all() else None
