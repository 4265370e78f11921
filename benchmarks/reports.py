"""Time and memory of building and saving a report on many images, on one core; scores are random, no model runs.

    python benchmarks/reports.py [IMAGES] [CLASSES]

To compare two versions, run both, each with its `src` on PYTHONPATH; the printed digest of intervals must be equal.
"""

import hashlib
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from tevia_hf.data.features import dataset_from_rows
from tevia_hf.evaluation.results import ConditionResults, report_of
from tevia_hf.evaluation.text_agreement import MaskAndText
from tevia_hf.evaluation.text_conditions import TEXT_CONDITIONS
from tevia_hf.score_summaries import ImageScores

CONDITIONS = ["correct", "shuffled", "none"]
MEANS = ["dice", "iou", "hd95", "surface_dice", "accuracy", "lesion_precision", "lesion_recall"]
RATIOS = ["dice_pooled", "iou_pooled", "lesion_precision", "lesion_recall"]


def main(images: int = 100_000, classes: int = 1) -> None:
    texts = [f"Bilateral pulmonary infection, {index % 7} infected areas." for index in range(images)]
    image = Image.new("L", (16, 16), 90)
    rows = [
        {"id": f"image-{index}", "group": f"patient-{index // 3}", "text": text, "image": image, "mask": image}
        for index, text in enumerate(texts)
    ]
    dataset = dataset_from_rows(rows)
    rng = np.random.default_rng(0)
    names = {label: f"class {label}" for label in range(1, classes + 1)}
    results = {}
    for name in CONDITIONS:
        scores = [random_scores(rng, names if classes > 1 else {}) for _ in range(images)]
        agreement = [MaskAndText({"count": (True, True)}, False, score.true_pixels > 0, 0.1) for score in scores]
        results[name] = ConditionResults(TEXT_CONDITIONS[name], texts, scores, agreement, {0: np.zeros((16, 16), int)})
    settings = {"images": images, "threshold": 0.5, "seed": 0, "hd95_unit": "px", "texts_changed": {}}
    settings["classes"] = {name: label for label, name in names.items()}
    print(f"{images} images, {memory()} before the report")
    start = time.process_time()
    report = report_of(results, dataset, {0: np.zeros((16, 16), int)}, settings)
    built = time.process_time()
    print(f"built in {built - start:.1f} s of CPU time, {memory()}")
    with tempfile.TemporaryDirectory() as folder:
        report.save(folder)
        print(f"saved in {time.process_time() - built:.1f} s of CPU time, {memory()}")
        for path in sorted(Path(folder).iterdir()):
            print(f"  {path.name}: {path.stat().st_size / 1e6:.1f} MB")
    print(f"intervals {digest([report.intervals, [own.intervals for own in report.foreground.values()]])}")
    print(report.text_sensitivity)


def random_scores(rng: np.random.Generator, names: dict[int, str]) -> ImageScores:
    """Scores of one image, a tenth of them without a lesion."""
    values = dict(zip(MEANS, rng.random(len(MEANS)).tolist(), strict=True))
    sums = {key: {1: (float(top), float(top + 5))} for key, top in zip(RATIOS, rng.integers(0, 9, 4), strict=True)}
    has_lesion, predicted = bool(rng.random() < 0.9), int(rng.integers(0, 50))
    classes = {label: random_scores(rng, {}) for label in names}
    return ImageScores(values, sums, predicted, 20 * has_lesion, classes)


def memory() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB at most"


def digest(values: object) -> str:
    rounded = json.loads(json.dumps(values), parse_float=lambda text: round(float(text), 9))
    return hashlib.sha256(json.dumps(rounded, sort_keys=True).encode()).hexdigest()[:16]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
