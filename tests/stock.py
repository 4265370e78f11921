"""A stock `transformers.Trainer` of a tiny model, set up by users of our callbacks alone."""

import numpy as np
import torch
from PIL import Image
from tiny import tiny_config, tiny_processor
from transformers import Trainer, TrainingArguments

from tevia_hf import MomentumPrototypeCallback, TeViAForSegmentation
from tevia_hf.data.collate import SegmentationCollator
from tevia_hf.data.features import dataset_from_rows

COUNT, BATCH = 6, 2
STEPS = COUNT // BATCH  # of an epoch


def labelled(count=COUNT):
    """`count` images with lesions of different sizes, so that every batch moves the prototypes differently."""
    rows = []
    for index in range(count):
        image = np.random.default_rng(index).integers(0, 255, (32, 32)).astype(np.uint8)
        mask = np.zeros((32, 32), np.uint8)
        mask[4 : 10 + index, 4:20] = 255
        text = f"{('left', 'right')[index % 2]} lung"
        rows.append({"id": str(index), "text": text, "image": Image.fromarray(image), "mask": Image.fromarray(mask)})
    return dataset_from_rows(rows)


def new_model(**settings) -> TeViAForSegmentation:
    torch.manual_seed(0)
    return TeViAForSegmentation(tiny_config(**{"prototype_momentum": 0.5, **settings}))


def stock_trainer(model, dataset, folder, callbacks=None, trainer_class=Trainer, extra=None, **settings) -> Trainer:
    defaults = {
        "per_device_train_batch_size": BATCH,
        "num_train_epochs": 3,
        "train_sampling_strategy": "sequential",
        "remove_unused_columns": False,
        "save_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
    }
    return trainer_class(
        model=model,
        args=TrainingArguments(output_dir=str(folder), **{**defaults, **settings}),
        train_dataset=dataset,
        data_collator=SegmentationCollator(tiny_processor()),
        callbacks=[MomentumPrototypeCallback()] if callbacks is None else callbacks,
        **(extra or {}),
    )
