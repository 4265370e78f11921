"""Whether an image and its mask lie on the same grid of pixels."""

from pathlib import Path

import numpy as np

from tevia_hf.io.medical_image import Geometry, MedicalImage

TOLERANCE = 0.25  # of a pixel, and of a slice's thickness: half a pixel is what wrong conventions are apart
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def grid_fault(image: MedicalImage, mask: MedicalImage) -> str | None:
    """Where a mask does not lie over its image, what both say and what to do; `None` where it does, or nothing tells.

    Compared are the size in pixels, the turn noted by EXIF, and wherever both files know them, slices, size of a pixel
    and place.
    """
    size, mask_size = image.array.shape[:2], mask.array.shape[:2]
    if size != mask_size:
        resize = "resize the mask to its image (nearest neighbour), or pair it with the right image"
        return (
            f"the mask is {mask_size[0]} x {mask_size[1]} (height x width) but its image is {size[0]} x {size[1]}: "
            f"{_turn_advice(image, mask) or resize}"
        )
    sources = _sources(image, mask)
    counts = [source.count for source in sources]
    differences = [f"{counts[1]} slices against {counts[0]}"] if 1 < min(counts) < max(counts) else []
    differences += [*_step_difference(image, mask), *_place_difference(image, mask)]
    if not differences:
        return None
    of_image, of_mask = (source.path.name for source in sources)
    return (
        f"the mask {of_mask} lies on another grid than its image {of_image}: {'; '.join(differences)}. "
        "Resample the mask to the image's grid by nearest neighbour, or save it with the image's own affine if it was "
        "drawn there"
    )


def turn_note(image: MedicalImage, mask: MedicalImage) -> str | None:
    """A remark where EXIF turns one of the two alone and their sizes do not tell what the mask was drawn on."""
    (of_image, of_mask), (height, width) = _orientations(image, mask), image.array.shape[:2]
    turned = max(of_image, of_mask)
    if of_image == of_mask or not (height == width or turned < 5):
        return None
    part = "image" if of_image != 1 else "mask"
    return f"its {part} alone is turned by EXIF (orientation {turned}): look whether the mask lies over the lesion"


def _turn_advice(image: MedicalImage, mask: MedicalImage) -> str | None:
    """What to do where EXIF turned the image, or the mask, alone."""
    of_image, of_mask = _orientations(image, mask)
    if of_image == of_mask or image.array.shape[:2] != mask.array.shape[:2][::-1]:
        return None
    if of_mask == 1:
        turn = f"`mask.transpose(Image.Transpose.{_TURNS[of_image]})`"
        return f"the image is turned by EXIF (orientation {of_image}) and the mask is not. Turn the mask too: {turn}"
    return f"the mask is turned by EXIF (orientation {of_mask}) and the image is not. Save the mask without that tag"


def _sources(image: MedicalImage, mask: MedicalImage) -> list[Geometry]:
    """Where both come from; what is held in memory has no place, and is not turned."""
    return [part.source or Geometry(Path()) for part in (image, mask)]


def _orientations(image: MedicalImage, mask: MedicalImage) -> list[int]:
    return [source.orientation if source.orientation in _TURNS else 1 for source in _sources(image, mask)]


def _step_difference(image: MedicalImage, mask: MedicalImage) -> list[str]:
    parts = zip((image, mask), _sources(image, mask), strict=True)
    steps = [part.spacing_mm for part, source in parts if source.is_placed and part.spacing_mm is not None]
    if len(steps) < 2 or np.allclose(steps[0], steps[1], rtol=1e-2):
        return []
    of_image, of_mask = (" x ".join(f"{step:.4g}" for step in part) for part in steps)
    return [f"pixels of {of_mask} mm against {of_image} mm"]


def _place_difference(image: MedicalImage, mask: MedicalImage) -> list[str]:
    """How far the corners of both lie apart, in mm, where that is more than the tolerance."""
    affines = [one.affine for one in _sources(image, mask) if one.is_placed and one.affine is not None]
    if len(affines) < 2:
        return []
    height, width = image.array.shape[:2]
    corners = np.array([[0, 0, 0, 1], [width - 1, 0, 0, 1], [0, height - 1, 0, 1]], float).T  # (4, corners)
    of_image, of_mask = (affine[:3] @ corners for affine in affines)
    steps = np.linalg.norm(affines[0][:3, :3], axis=0)
    normal = np.cross(affines[0][:3, 0], affines[0][:3, 1])
    normal /= np.linalg.norm(normal)
    apart = of_mask - of_image  # (3, corners)
    through = normal @ apart
    within = np.linalg.norm(apart - np.outer(normal, through), axis=0)
    if np.abs(through).max() <= TOLERANCE * steps[2] and within.max() <= TOLERANCE * steps[:2].min():
        return []
    first = [", ".join(f"{value:.4g}" for value in points[:, 0]) for points in (of_mask, of_image)]
    most = np.linalg.norm(apart, axis=0).max()
    return [f"its first pixel at ({first[0]}) mm against ({first[1]}) mm, corners up to {most:.4g} mm apart"]
