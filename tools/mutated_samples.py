"""The small valid files that `mutated_files.py` damages: names and contents for each reader."""

import gzip
import io
from collections.abc import Callable

import nibabel
import numpy as np
import openpyxl
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

RAMP = (np.arange(16 * 12).reshape(12, 16) * 37 % 251).astype(np.uint8)
COLOURS = np.stack([RAMP, RAMP[::-1], 255 - RAMP], -1)
RECIPE = """\
dataset: synthetic
output_dir: outputs/a
vision_model: a/vision
text_model: a/text
config: {num_labels: 1}
lora: {r: 4}
learning_rate: 1e-3
num_train_epochs: 2
save_total_limit: 2
window: [40, 400]
max_train_samples: 8
"""


def images() -> dict[str, bytes]:
    grey, colour = Image.fromarray(RAMP), Image.fromarray(COLOURS)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "grey.png": _saved(grey, "PNG"),
        "deep.png": _saved(Image.fromarray(RAMP.astype(np.uint16) * 257), "PNG"),
        "palette.png": _saved(colour.quantize(8), "PNG", transparency=0),
        "alpha.png": _saved(colour.convert("RGBA"), "PNG"),
        "turned.jpg": _saved(colour, "JPEG", exif=exif),
        "cmyk.jpg": _saved(colour.convert("CMYK"), "JPEG", progressive=True),
        "a.bmp": _saved(colour, "BMP"),
        "a.gif": _saved(colour.quantize(8), "GIF"),
        "a.jp2": _saved(colour, "JPEG2000"),
        "a.webp": _saved(colour, "WEBP", lossless=True),
        "lossy.webp": _saved(colour, "WEBP"),
        "a.pgm": _saved(grey, "PPM"),
        "plain.ppm": b"P3 2 2 255\n" + b"1 2 3 " * 4,
    }


def tiffs() -> dict[str, bytes]:
    kinds: dict[str, tuple[np.ndarray, dict]] = {
        "plain.tif": (RAMP, {}),
        "zip.tif": (COLOURS, {"compression": "zlib", "predictor": True}),
        "planes.tif": (
            COLOURS.transpose(2, 0, 1).astype(np.uint16),
            {"planarconfig": "separate", "photometric": "rgb"},
        ),
        "white.tif": (RAMP.astype(np.uint16), {"photometric": "miniswhite"}),
        "signed.tif": (RAMP.astype(np.int8), {}),
        "complex.tif": (RAMP.astype(np.complex64), {}),
        "half.tif": (RAMP.astype(np.float16), {}),
        "tiled.tif": (np.tile(RAMP, (3, 2)), {"tile": (16, 16)}),
    }
    contents = {}
    for name, (pixels, options) in kinds.items():
        tifffile.imwrite(target := io.BytesIO(), pixels, **options)
        contents[name] = target.getvalue()
    return contents | {"lzw.tif": _saved(Image.fromarray(COLOURS), "TIFF", compression="tiff_lzw")}


def dicoms() -> dict[str, bytes]:
    window = {"WindowCenter": 100, "WindowWidth": 50, "RescaleSlope": 2, "RescaleIntercept": -10}
    place = {"ImagePositionPatient": [0, 0, 1], "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "PixelSpacing": [1, 2]}
    table = _item(LUTDescriptor=[4, 0, 16], LUTData=np.arange(4, dtype="<u2").tobytes())
    measures = _item(PixelMeasuresSequence=[_item(PixelSpacing=[1, 1])])
    red = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    red |= {f"{n}PaletteColorLookupTableData": np.arange(256, dtype="<u2").tobytes() for n in ("Red", "Green", "Blue")}
    deep = RAMP.astype(np.uint16)
    return {
        "grey.dcm": _dicom(deep, **window, **place, PixelPaddingValue=5),
        "implicit.dcm": _dicom(deep, ImplicitVRLittleEndian, VOILUTSequence=[table]),
        "big.dcm": _dicom(deep, ExplicitVRBigEndian, **window),
        "table.dcm": _dicom(RAMP, ModalityLUTSequence=[table], PhotometricInterpretation="MONOCHROME1"),
        "colour.dcm": _dicom(COLOURS, SamplesPerPixel=3, PlanarConfiguration=0, PhotometricInterpretation="RGB"),
        "palette.dcm": _dicom(RAMP, PhotometricInterpretation="PALETTE COLOR", **red),
        "frames.dcm": _dicom(np.stack([RAMP] * 3), NumberOfFrames=3, SharedFunctionalGroupsSequence=[measures]),
        "rle.dcm": _dicom(deep, RLELossless, **place),
    }


def niftis() -> dict[str, bytes]:
    volume = np.stack([RAMP] * 3, -1)
    colours = COLOURS.view([("R", "u1"), ("G", "u1"), ("B", "u1")])
    kinds = {"a.nii": volume, "c.nii": volume.astype(np.complex64), "f.nii": volume / 7, "rgb.nii": colours}
    contents = {name: nibabel.Nifti1Image(values, np.diag([-1, 2, 3, 1])).to_bytes() for name, values in kinds.items()}
    return contents | {
        "z.nii.gz": gzip.compress(contents["a.nii"]),
        "two.nii": nibabel.Nifti2Image(volume, np.eye(4)).to_bytes(),
    }


def csvs() -> dict[str, bytes]:
    text = 'Image,Description,split\na.png,"left, upper lobe",train\n001,NA,\nc.png,"a 3"" lesion",val\n'
    return {
        "a.csv": text.encode(),
        "semicolons.csv": text.replace(",", ";").encode("utf-8-sig"),
        "wide.csv": text.encode("utf-16"),
    }


def workbooks() -> dict[str, bytes]:
    book = openpyxl.Workbook()
    for row in (["Image", "Description", "group"], ["a.png", "left", 1], ["b.png", 2.5, True], ["c.png", None, "x"]):
        book.active.append(row)
    book.active.merge_cells("E3:F3")
    book.save(target := io.BytesIO())
    return {"a.xlsx": target.getvalue()}


def recipes() -> dict[str, bytes]:
    return {"recipe.yaml": RECIPE.encode()}


def _saved(image: Image.Image, form: str, **options) -> bytes:
    image.save(target := io.BytesIO(), form, **options)
    return target.getvalue()


def _item(**tags) -> Dataset:
    dataset = Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def _dicom(pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **tags) -> bytes:
    size = {"Rows": RAMP.shape[0], "Columns": RAMP.shape[1], "SamplesPerPixel": 1, "PixelRepresentation": 0}
    bits = {"BitsAllocated": 8 * pixels.itemsize, "BitsStored": 8 * pixels.itemsize, "HighBit": 8 * pixels.itemsize - 1}
    names = {"SOPClassUID": CTImageStorage, "SOPInstanceUID": "1.2.3", "PhotometricInterpretation": "MONOCHROME2"}
    dataset = _item(**(size | bits | names | tags))
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    dataset.PixelData = pixels.astype(">u2").tobytes() if syntax == ExplicitVRBigEndian else pixels.tobytes()
    dataset["PixelData"].VR = "OW" if pixels.itemsize == 2 else "OB"
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    dataset.save_as(target := io.BytesIO(), enforce_file_format=True)
    return target.getvalue()


SAMPLES: dict[str, Callable[[], dict[str, bytes]]] = {
    "image": images,
    "tiff": tiffs,
    "dicom": dicoms,
    "nifti": niftis,
    "csv": csvs,
    "xlsx": workbooks,
    "recipe": recipes,
}
