"""Time of all metrics on 1,000 pairs of masks of 224 x 224 pixels, on one core."""

import time

import numpy as np
import torch
from scipy import ndimage

from tevia_hf.metrics import score_images
from tevia_hf.score_summaries import summarize

PAIRS, SIZE = 1000, 224


def main() -> None:
    torch.set_num_threads(1)
    predictions, references = zip(*map(mask_pair, range(PAIRS)), strict=True)
    score_images(predictions[:1], references[:1])  # loads MONAI
    start = time.perf_counter()
    scores = summarize(score_images(predictions, references, [(0.8, 0.7)] * PAIRS))
    print(f"{PAIRS} pairs in {time.perf_counter() - start:.1f} s: {scores}")


def mask_pair(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two smooth, partly overlapping masks of a few lesions each, which cover about a sixth of the image."""
    rng = np.random.default_rng(seed)
    field, other = (ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE)), 12) for _ in range(2))
    pair = (field, field + 0.4 * other)
    return tuple((values > np.quantile(values, 5 / 6)).astype(np.uint8) for values in pair)


if __name__ == "__main__":
    main()
