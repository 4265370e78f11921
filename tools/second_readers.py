"""Decoding of image files by other libraries, for comparison with ours; used by `sample_files.py`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tevia_hf.io.address import DICOM_SUFFIXES, suffix_of

ORIENTATION = 0x0112
# Files whose damage spares the image or stops a second reader -> an undamaged file with the same image
SAME_IMAGE = {
    "mmap_error.bmp": "bmp/g/pal8.bmp",
    "hopper_rle8_row_overflow.bmp": "hopper_rle8.bmp",
    "rgb32h52.bmp": "../g/rgb32.bmp",
    "badrle.bmp": "../g/pal8rle.bmp",
}
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda pixels: np.rot90(pixels, 2),
    4: np.flipud,
    5: lambda pixels: np.swapaxes(pixels, 0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.swapaxes(np.rot90(pixels, 2), 0, 1),
    8: np.rot90,
}


def by_simpleitk(path: Path) -> np.ndarray:
    """The middle frame of a DICOM file, rescaled, MONOCHROME1 inverted; for other files the pixels."""
    import SimpleITK

    reader = SimpleITK.ImageFileReader()
    if suffix_of(path) in DICOM_SUFFIXES:
        reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    pixels = SimpleITK.GetArrayFromImage(image := reader.Execute())
    return pixels[len(pixels) // 2] if image.GetDimension() == 3 else pixels


def by_hand(path: Path) -> np.ndarray:
    """The stored values of the middle frame of a DICOM file that is uncompressed or RLE-compressed."""
    import imagecodecs
    import pydicom
    from pydicom.encaps import generate_frames

    tags = pydicom.dcmread(path, force=True)
    count, (samples, bits) = int(tags.get("NumberOfFrames") or 1), (tags.SamplesPerPixel, tags.BitsAllocated)
    shape = (tags.Rows, tags.Columns, samples) if samples > 1 else (tags.Rows, tags.Columns)
    order = "<" if tags.file_meta.TransferSyntaxUID.is_little_endian else ">"
    if tags.file_meta.TransferSyntaxUID.is_encapsulated:
        frame = list(generate_frames(tags.PixelData, number_of_frames=count))[count // 2]
        planes = np.frombuffer(imagecodecs.dicomrle_decode(frame, f"<u{bits // 8}"), f"<u{bits // 8}")
        return np.moveaxis(planes.reshape(samples, tags.Rows, tags.Columns), 0, -1).reshape(shape)
    stored = np.frombuffer(tags.PixelData[: count * int(np.prod(shape)) * bits // 8], f"{order}u{bits // 8}")
    return stored.reshape(count, *shape)[count // 2]


def axial_by_simpleitk(path: Path) -> np.ndarray:
    """The middle axial slice of a NIfTI file, anterior up."""
    import SimpleITK

    volume = SimpleITK.ReadImage(str(path), imageIO="NiftiImageIO")
    pixels = SimpleITK.GetArrayFromImage(SimpleITK.DICOMOrient(volume, "LPS"))
    return pixels[len(pixels) // 2]


def by_tifffile(path: Path) -> np.ndarray:
    import cv2
    from tifffile import PHOTOMETRIC, TiffFile

    with TiffFile(path) as file:
        page = file.pages.first
        form, pixels = PHOTOMETRIC(page.photometric), page.asarray()
        pixels = np.moveaxis(pixels, 0, -1) if page.axes.startswith("S") else pixels
        turn = TURNS.get(page.tags.valueof("Orientation", default=1), np.asarray)
        if form == PHOTOMETRIC.PALETTE:
            indices = pixels[..., 0] if pixels.ndim == 3 else pixels
            pixels = np.moveaxis(page.colormap[:, indices.astype(int)], 0, -1)
        elif form == PHOTOMETRIC.SEPARATED:
            maximum = float(np.iinfo(pixels.dtype).max)
            pixels = (maximum - pixels[..., :3]) * (maximum - pixels[..., 3:4])
        elif form == PHOTOMETRIC.CIELAB:
            signed = pixels.astype(np.float32) * (100 / 255, 1, 1)
            signed[..., 1:] = pixels[..., 1:].view(np.int8)
            pixels = cv2.cvtColor(signed.astype(np.float32), cv2.COLOR_LAB2RGB)
        elif "PhotometricInterpretation" in page.tags and form == PHOTOMETRIC.MINISWHITE:
            pixels = -pixels.astype(float)
        elif 1 in page.extrasamples:  # premultiplied colours
            pixels = pixels[..., :3] / np.maximum(pixels[..., 3:], 1)
        return turn(pixels)


def by_opencv(path: Path) -> np.ndarray:
    import cv2

    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION)
    if pixels is None:
        raise ValueError("OpenCV reads nothing")
    with Image.open(path) as image:
        return TURNS.get(image.getexif().get(ORIENTATION, 1), np.asarray)(pixels[..., ::-1])


def by_imagecodecs(path: Path) -> np.ndarray:
    import imagecodecs

    return imagecodecs.imread(str(path))


def second_results(path: Path) -> Iterator[np.ndarray | str]:
    """The pixels from each second reader, or its error message."""
    suffix = suffix_of(path)
    readers: tuple[Callable[[Path], np.ndarray], ...] = (by_opencv, by_imagecodecs)
    if suffix in DICOM_SUFFIXES:
        readers = (by_simpleitk, by_hand)
    elif suffix in (".nii", ".nii.gz"):
        readers = (axial_by_simpleitk,)
    elif suffix in (".tif", ".tiff"):
        readers = (by_tifffile, by_opencv)
    path = path.parent / SAME_IMAGE.get(path.name, path.name)
    for reader in readers:
        try:
            yield reader(path)
        except Exception as error:  # readers raise almost any exception on damaged files
            yield f"{type(error).__name__}: {error}".splitlines()[0]
