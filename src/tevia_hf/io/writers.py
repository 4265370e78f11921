"""Writing of masks as images, or as volumes at the position of the image."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tevia_hf.extras import needed_for
from tevia_hf.io.medical_image import MedicalImage
from tevia_hf.io.output_dir import whole_file
from tevia_hf.labels_tevia import WHITE, highest_label, to_labels

PNG_LEVEL = 3  # takes half the time of zlib's default, for files a third larger


def write_mask(path: str | Path, mask: np.ndarray, num_labels: int = 1, like: MedicalImage | None = None) -> Path:
    """Writes a mask atomically and returns its path; missing folders are created.

    - `.png`: 8-bit grey. One label is written as 0 and 255, visible in any viewer; several labels are written as such.
    - `.nii`, `.nii.gz`: labels, one slice, at the position of the image.

    Args:
        mask: (height, width), boolean or integer: 0/1 or 0/255, or with several labels 0 to num_labels - 1 and 255.
        like: The image as returned by `read_image`, for spacing and position.

    Raises `ValueError` for another suffix, another shape than the image's, and values that are not labels.
    """
    path, mask = Path(path), np.asarray(mask)
    suffix = next((suffix for suffix in MASK_SUFFIXES if path.name.lower().endswith(suffix)), None)
    if suffix is None:
        raise ValueError(f"{path}: masks are written as {', '.join(MASK_SUFFIXES)}. Use '{path.stem}.png'.")
    if mask.ndim != 2 or (like is not None and mask.shape != like.array.shape[:2]):
        expected = "(height, width)" if like is None else f"{like.array.shape[:2]}, that of the image,"
        raise ValueError(f"{path}: the mask has shape {mask.shape}, {expected} is expected. Write one mask at a time.")
    labels = to_labels(mask, num_labels, f"{path}: the mask")
    if num_labels == 1 and (labels > highest_label(num_labels)).any():
        raise ValueError(
            f"{path}: the mask holds ignored pixels (255), which no file with num_labels=1 can hold: set them to 0, or "
            "write it with num_labels=2."
        )
    with whole_file(path) as part:
        _WRITERS[suffix](part, labels, num_labels, like)
    return path


def _write_png(path: Path, labels: np.ndarray, num_labels: int, like: MedicalImage | None) -> None:
    Image.fromarray(labels * WHITE if num_labels == 1 else labels).save(path, compress_level=PNG_LEVEL)


def _write_nifti(path: Path, labels: np.ndarray, num_labels: int, like: MedicalImage | None) -> None:
    with needed_for(f"{path}: writing it"):
        import nibabel
    volume = nibabel.as_closest_canonical(nibabel.Nifti1Image(labels.T[..., None], _affine(like)))
    volume.header.set_xyzt_units("mm")
    nibabel.save(volume, path)


def _affine(like: MedicalImage | None) -> np.ndarray:
    """The affine from (column, row, 0) to RAS+ mm; for an image without position, one that viewers display upright."""
    if like is not None and like.source is not None and like.source.affine is not None:
        return like.source.affine
    row, column = like.spacing_mm if like is not None and like.spacing_mm is not None else (1.0, 1.0)
    return np.diag([-column, -row, 1.0, 1.0])


_WRITERS: dict[str, Callable[[Path, np.ndarray, int, MedicalImage | None], None]] = {
    ".png": _write_png,
    ".nii.gz": _write_nifti,
    ".nii": _write_nifti,
}
MASK_SUFFIXES = tuple(_WRITERS)
