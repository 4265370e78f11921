"""Scores of whole volumes, with distances in three dimensions."""

import warnings
from collections.abc import Sequence
from math import dist

import numpy as np

from tevia_hf import mask_scores
from tevia_hf.extras import needed_for
from tevia_hf.mask_pairs import label_pairs
from tevia_hf.mask_scores import SURFACE_TOLERANCE, MaskPair
from tevia_hf.option_checks_tevia import check_not_negative, check_positive

VolumeSpacing = tuple[float, float, float]


def volume_metrics(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing_mm: VolumeSpacing | None = None,
    surface_tolerance: float = SURFACE_TOLERANCE,
    white_is_lesion: bool | None = None,
) -> dict[str, float]:
    """The scores of one volume: `dice` and `iou` over all voxels, `hd95` and `surface_dice` in three dimensions.

    Args:
        prediction: (slices, height, width) integer labels, 0 the background. With several labels, each score is a mean
            over those present in either mask.
        reference: the true labels; voxels of 255 are ignored in both masks.
        spacing_mm: (slice, row, column) size of a voxel; without it, distances are in voxels.
        surface_tolerance: maximum distance at which surfaces count as equal in `surface_dice`, in the unit of `hd95`.
        white_is_lesion: see `image_metrics`.

    `hd95` is the 95th percentile of the distances from each surface to the other, the larger of both directions, and
    both distances are those of MONAI. If neither mask holds a label, every score is perfect (1, and a distance of 0);
    if only one does, `hd95` is the volume's diagonal, and the others are 0.

    Raises `ValueError` for arrays that are no volumes, for shapes that differ, and the errors of `image_metrics`.
    """
    check_not_negative("surface_tolerance", surface_tolerance, example="2.0")
    for size in spacing_mm or ():
        check_positive("spacing_mm", size, example="2.5")
    if np.ndim(prediction) != 3 or (spacing_mm is not None and len(spacing_mm) != 3):
        raise ValueError(
            f"The prediction has shape {np.shape(prediction)} and the spacing is {spacing_mm}: give (slices, height, "
            "width) and (slice, row, column), or score single images by `image_metrics`."
        )
    if np.shape(prediction) != np.shape(reference):
        raise ValueError(
            f"The prediction has shape {np.shape(prediction)}, the reference {np.shape(reference)}: resample one to "
            "the grid of the other (nearest neighbour)."
        )
    flat, true_flat = (np.reshape(volume, (-1, np.shape(volume)[-1])) for volume in (prediction, reference))
    ((predicted, true),) = label_pairs([flat], [true_flat], white_is_lesion)
    pair = MaskPair(predicted.reshape(np.shape(reference)), true.reshape(np.shape(reference)))
    spacing = spacing_mm or (1.0, 1.0, 1.0)
    distances = [surface_scores(*masks, spacing, surface_tolerance) for masks in pair.masks.values()]
    hd95, surface_dice = np.mean(distances, axis=0) if distances else (0.0, 1.0)
    values = {"dice": mask_scores.dice(pair), "iou": mask_scores.iou(pair)}
    return values | {"hd95": float(hd95), "surface_dice": float(surface_dice)}


def surface_scores(
    predicted: np.ndarray, true: np.ndarray, spacing: Sequence[float], tolerance: float
) -> tuple[float, float]:
    """`hd95` and `surface_dice` of two boolean volumes, at least one of which is not empty."""
    if not (predicted.any() and true.any()):
        return dist((0, 0, 0), np.multiply(predicted.shape, spacing)), 0.0
    with needed_for("Scoring surfaces"):
        import torch
        from monai.metrics import compute_hausdorff_distance, compute_surface_dice
    # MONAI 1.5 and 1.6 warn about an argument that they give themselves.
    warnings.filterwarnings("ignore", ".*always_return_as_numpy", FutureWarning)

    # MONAI takes the outermost voxels of a mask for its surface only if there are others around it.
    first, second = (torch.from_numpy(np.pad(mask, 1))[None, None] for mask in (predicted, true))
    steps = list(map(float, spacing))
    hd95 = compute_hausdorff_distance(first, second, include_background=True, percentile=95, spacing=steps)
    surface_dice = compute_surface_dice(first, second, [tolerance], include_background=True, spacing=steps)
    return float(hd95), float(surface_dice)
