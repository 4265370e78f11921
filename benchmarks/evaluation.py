"""Time of an evaluation with six text conditions on one core, and of listing the data set.

    python benchmarks/evaluation.py MODEL NAME FOLDER SPLIT IMAGES

To compare two versions, run them alternately, each with its `src` on PYTHONPATH; the printed scores must be equal.
"""

import sys
import time

import torch

from tevia_hf import TeViAForSegmentation, TeViAProcessor, evaluate_model, load_segmentation_dataset

CONDITIONS = ["none", "paraphrased", "underspecified", "absent"]  # beside correct and shuffled


def main(model: str, name: str, folder: str, split: str, images: str) -> None:
    torch.set_num_threads(1)
    network, processor = TeViAForSegmentation.from_pretrained(model).eval(), TeViAProcessor.from_pretrained(model)
    start = time.process_time()
    dataset = load_segmentation_dataset(name, folder, split).select(range(int(images)))
    print(f"listed in {time.process_time() - start:.1f} s of CPU time")
    evaluate_model(network, processor, dataset.select(range(2)), ["none"])  # loads MONAI and matplotlib
    start, wall = time.process_time(), time.perf_counter()
    report = evaluate_model(network, processor, dataset, CONDITIONS)
    print(f"{images} images in {time.process_time() - start:.1f} s of CPU time, {time.perf_counter() - wall:.1f} s")
    print(report.scores)


if __name__ == "__main__":
    main(*sys.argv[1:])
