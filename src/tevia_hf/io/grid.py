"""Check that an image and its mask lie on the same pixel grid."""

from pathlib import Path

import numpy as np

from tevia_hf.io.medical_image import Geometry, MedicalImage

TOLERANCE = 0.25  # of a pixel, and of a slice thickness; wrong conventions shift a grid by half a pixel
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
    """How the grid of a mask differs from that of its image, and the fix; `None` if no difference is known.

    Compares the size in pixels, the EXIF orientation and, if both files have them, number of slices, pixel size and
    position.
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
    image_name, mask_name = (source.path.name for source in sources)
    return (
        f"the mask {mask_name} lies on another grid than its image {image_name}: {'; '.join(differences)}. "
        "Resample the mask to the image's grid by nearest neighbour, or save it with the image's own affine if it was "
        "drawn there"
    )


def turn_note(image: MedicalImage, mask: MedicalImage) -> str | None:
    """A warning if EXIF rotates image or mask alone and their sizes do not show which of them the mask was drawn on."""
    (image_turn, mask_turn), (height, width) = _orientations(image, mask), image.array.shape[:2]
    turn = max(image_turn, mask_turn)
    if image_turn == mask_turn or not (height == width or turn < 5):
        return None
    part = "image" if image_turn != 1 else "mask"
    return f"its {part} alone is rotated by EXIF (orientation {turn}): check that the mask lies over the lesion"


def _turn_advice(image: MedicalImage, mask: MedicalImage) -> str | None:
    """The fix if EXIF rotates the image or the mask alone."""
    image_turn, mask_turn = _orientations(image, mask)
    if image_turn == mask_turn or image.array.shape[:2] != mask.array.shape[:2][::-1]:
        return None
    if mask_turn == 1:
        call = f"`mask.transpose(Image.Transpose.{_TURNS[image_turn]})`"
        return f"the image is rotated by EXIF (orientation {image_turn}), the mask is not. Rotate the mask too: {call}"
    return f"the mask is rotated by EXIF (orientation {mask_turn}), the image is not. Save the mask without that tag"


def _sources(image: MedicalImage, mask: MedicalImage) -> list[Geometry]:
    """The geometry of both; an image in memory has the default one."""
    return [part.source or Geometry(Path()) for part in (image, mask)]


def _orientations(image: MedicalImage, mask: MedicalImage) -> list[int]:
    return [source.orientation if source.orientation in _TURNS else 1 for source in _sources(image, mask)]


def _step_difference(image: MedicalImage, mask: MedicalImage) -> list[str]:
    parts = zip((image, mask), _sources(image, mask), strict=True)
    steps = [part.spacing_mm for part, source in parts if source.is_placed and part.spacing_mm is not None]
    if len(steps) < 2 or np.allclose(steps[0], steps[1], rtol=1e-2):
        return []
    image_size, mask_size = (" x ".join(f"{step:.4g}" for step in part) for part in steps)
    return [f"pixels of {mask_size} mm against {image_size} mm"]


def _place_difference(image: MedicalImage, mask: MedicalImage) -> list[str]:
    """The distance in mm between the corners of both, if it exceeds the tolerance."""
    affines = [one.affine for one in _sources(image, mask) if one.is_placed and one.affine is not None]
    if len(affines) < 2:
        return []
    height, width = image.array.shape[:2]
    corners = np.array([[0, 0, 0, 1], [width - 1, 0, 0, 1], [0, height - 1, 0, 1]], float).T  # (4, corners)
    image_corners, mask_corners = (affine[:3] @ corners for affine in affines)
    steps = np.linalg.norm(affines[0][:3, :3], axis=0)
    normal = np.cross(affines[0][:3, 0], affines[0][:3, 1])
    normal /= np.linalg.norm(normal)
    offsets = mask_corners - image_corners  # (3, corners)
    through = normal @ offsets
    within = np.linalg.norm(offsets - np.outer(normal, through), axis=0)
    if np.abs(through).max() <= TOLERANCE * steps[2] and within.max() <= TOLERANCE * steps[:2].min():
        return []
    first = [", ".join(f"{value:.4g}" for value in points[:, 0]) for points in (mask_corners, image_corners)]
    largest = np.linalg.norm(offsets, axis=0).max()
    return [f"its first pixel at ({first[0]}) mm against ({first[1]}) mm, corners up to {largest:.4g} mm apart"]
