"""Throughput of data loading and training: images per second of the loader alone, and of a training step.

    python benchmarks/data_loading.py --data-dir $QATA --vision-model $MOBILENET_V2 --text-model $MINILM

Both run on as many threads as the machine has cores, at 224 pixels and batch 16, on QaTa's images: the loader reads,
decodes, augments (flips, zoom, rotation, contrast, noise) and processes them; the step is that of the recipe's model.
The loader is measured in the training process itself, and with one worker process per core.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from tevia_hf import build_trainer, load_segmentation_dataset
from tevia_hf.data.augment import TextAwareAugmentation
from tevia_hf.training.arguments import ModelArguments, TeViATrainingArguments
from tevia_hf.training.recipe import load_model_and_processor

BATCH, IMAGES, STEPS = 16, 640, 10
AUGMENTATION = TextAwareAugmentation(0.5, 0.5, 0.0, 0.5, 0.5, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--data-dir", "--vision-model", "--text-model"):
        parser.add_argument(name, required=True)
    args = parser.parse_args()
    torch.set_num_threads(os.cpu_count() or 1)
    model, processor = load_model_and_processor(
        ModelArguments(vision_model=args.vision_model, text_model=args.text_model)
    )
    images = load_segmentation_dataset("qata", args.data_dir).select(range(IMAGES))
    with tempfile.TemporaryDirectory() as folder:
        settings = TeViATrainingArguments(
            output_dir=folder, use_cpu=True, eval_strategy="no", save_strategy="no", load_best_model_at_end=False
        )
        trainer = build_trainer(model, processor, settings, images, augmentation=AUGMENTATION)
        loading = {workers: loader_rate(trainer, workers) for workers in (0, os.cpu_count())}
        training = step_rate(trainer)
    for workers, rate in loading.items():
        print(f"loader, {workers} workers: {rate:.0f} images/s, {rate / training:.1f} x training")
    print(f"training step, {Path(args.vision_model).name}: {training:.1f} images/s ({os.cpu_count()} cores)")


def loader_rate(trainer, workers: int) -> float:
    """Images per second, without the start of the workers."""
    loader = DataLoader(trainer.train_dataset, BATCH, collate_fn=trainer.data_collator, num_workers=workers)
    batches = iter(loader)
    next(batches)
    start = time.perf_counter()
    return BATCH * sum(1 for _ in batches) / (time.perf_counter() - start)


def step_rate(trainer) -> float:
    """Images per second of forward, backward and update, without loading."""
    batch = next(iter(DataLoader(trainer.train_dataset, BATCH, collate_fn=trainer.data_collator)))
    trainer.model.train()
    for step in range(STEPS + 2):
        if step == 2:
            start = time.perf_counter()
        trainer.model(**batch).loss.backward()
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
    return BATCH * STEPS / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
