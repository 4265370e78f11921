"""Whether an image and its mask lie on the same grid of pixels."""

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
        return (
            f"the mask is {mask_size[0]} x {mask_size[1]} (height x width) but its image is {size[0]} x {size[1]}: "
            + (
                _turn_advice(image, mask)
                or "resize the mask to its image (nearest neighbour), or pair it with the right image"
            )
        )
    differences = [*_count_difference(image.source, mask.source), *_step_difference(image, mask)]
    differences += _place_difference(image, mask)
    if not differences:
        return None
    return (
        f"the mask {_path(mask)} lies on another grid than its image {_path(image)}: {'; '.join(differences)}. "
        "Resample the mask to the image's grid by nearest neighbour, or save it with the image's own affine if it was "
        "drawn there"
    )


def turn_note(image: MedicalImage, mask: MedicalImage) -> str | None:
    """A remark where EXIF turns one of the two alone and their sizes do not tell what the mask was drawn on."""
    orientations = [_orientation(part) for part in (image, mask)]
    turned = max(orientations)
    is_square = image.array.shape[0] == image.array.shape[1]
    if orientations[0] == orientations[1] or not (is_square or turned < 5):
        return None
    part = "image" if orientations[0] != 1 else "mask"
    return f"its {part} alone is turned by EXIF (orientation {turned}): look whether the mask lies over the lesion"


def _turn_advice(image: MedicalImage, mask: MedicalImage) -> str | None:
    """What to do where EXIF turned the image, or the mask, alone."""
    (of_image, of_mask), sizes = [_orientation(part) for part in (image, mask)], [image.array.shape, mask.array.shape]
    if of_image == of_mask or sizes[0][:2] != sizes[1][:2][::-1]:
        return None
    if of_mask == 1:
        turn = f"`mask.transpose(Image.Transpose.{_TURNS[of_image]})`"
        return f"the image is turned by EXIF (orientation {of_image}) and the mask is not. Turn the mask too: {turn}"
    return f"the mask is turned by EXIF (orientation {of_mask}) and the image is not. Save the mask without that tag"


def _orientation(image: MedicalImage) -> int:
    found = 1 if image.source is None else image.source.orientation
    return found if found in _TURNS else 1


def _path(image: MedicalImage) -> str:
    return "" if image.source is None else image.source.path.name


def _count_difference(image: Geometry | None, mask: Geometry | None) -> list[str]:
    counts = [1 if source is None else source.count for source in (image, mask)]
    return [f"{counts[1]} slices against {counts[0]}"] if min(counts) > 1 and counts[0] != counts[1] else []


def _step_difference(image: MedicalImage, mask: MedicalImage) -> list[str]:
    steps = [part.spacing_mm if part.source is None or part.source.is_placed else None for part in (image, mask)]
    if steps[0] is None or steps[1] is None or np.allclose(steps[0], steps[1], rtol=1e-2):
        return []
    of_image, of_mask = (" x ".join(f"{step:.4g}" for step in part) for part in steps if part is not None)
    return [f"pixels of {of_mask} mm against {of_image} mm"]


def _place_difference(image: MedicalImage, mask: MedicalImage) -> list[str]:
    """How far the corners of both lie apart, in mm, where that is more than the tolerance."""
    sources = (image.source, mask.source)
    affines = [source.affine for source in sources if source and source.is_placed and source.affine is not None]
    if len(affines) < len(sources):
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
