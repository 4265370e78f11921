"""DICOM, NIfTI and MATLAB files written for tests."""

import h5py
import nibabel
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

RAMP = np.arange(12, dtype=np.uint16).reshape(3, 4) * 100  # 0 to 1100
PLANES = ("axial", "coronal", "sagittal")
CODES = ["RAS", "LPS", "LAS", "RPI", "ASR", "PIR", "SAL", "IPL"]


def write_dicom(path, pixels, preamble=True, **tags):
    """A DICOM file of `pixels` (rows, columns[, 3]) or, with NumberOfFrames, (frames, rows, columns)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = CTImageStorage, "1.2.3"
    colour = pixels.ndim == 3 and "NumberOfFrames" not in tags
    dataset.Rows, dataset.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    for name, value in tags.items():
        setattr(dataset, name, value)
    if pixels.dtype.kind == "f":
        dataset.FloatPixelData = pixels.tobytes()
    else:
        dataset.PixelData = pixels.tobytes()
    dataset.save_as(path, enforce_file_format=preamble)
    return path


def item(**tags):
    dataset = Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def lookup_table(values, first, bits):
    return item(LUTDescriptor=[len(values), first, bits], LUTData=np.array(values, "<u2").tobytes())


def write_nifti(path, volume, affine=None):
    nibabel.save(nibabel.Nifti1Image(volume, np.eye(4) if affine is None else affine), path)
    return path


def write_figshare(path, image, mask=None, label=2, patient="MR017260F"):
    """As MATLAB stores it: column by column, so that HDF5 shows the axes swapped."""
    with h5py.File(path, "w") as file:
        file["cjdata/image"] = image.T
        file["cjdata/tumorMask"] = (image > 0 if mask is None else mask).T.astype(np.uint8)
        file["cjdata/label"] = np.array([[label]], np.float64)
        file["cjdata/PID"] = np.array([[ord(letter)] for letter in patient], np.uint16)
    return path


def affine_of(codes, spacing=(1.0, 1.0, 1.0), origin=(5.0, -7.0, 11.0)):
    """The affine of a volume whose axes point where the letters say, such as "LPS"."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (letter, step) in enumerate(zip(codes, spacing, strict=True)):
        world = next(i for i, pair in enumerate(("LR", "PA", "IS")) if letter in pair)
        affine[world, axis] = step if letter in "RAS" else -step
    affine[:3, 3] = origin
    return affine


def stored_as(canonical, codes):
    """The RAS+ array `canonical` with its axes in the order and direction of `codes`."""
    order = [next(i for i, pair in enumerate(("LR", "PA", "IS")) if letter in pair) for letter in codes]
    flips = [slice(None, None, 1 if letter in "RAS" else -1) for letter in codes]
    return canonical.transpose(order)[tuple(flips)]
