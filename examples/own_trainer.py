"""Trains named classes on your own `datasets.Dataset` with the plain `Trainer`, and evaluates; needs the extra `train`.

    python examples/own_trainer.py hub_configs/tevia-tiny outputs/own-trainer

Replace `load` by your own data: images and masks are PIL images or paths; a mask holds 0 for background, 1, 2, ...
"""

import argparse

import numpy as np
from datasets import Dataset
from PIL import Image
from transformers import Trainer, TrainingArguments, set_seed

import tevia_hf
from tevia_hf import MomentumPrototypeCallback, TeViAForSegmentation, TeViAProcessor, labels_from_logits

CLASSES = {1: "left lesion", 2: "right lesion"}


def load(split, count):
    """Synthetic images of 64 x 64 pixels; lesions in their left half are of class 1, others of class 2."""
    rows = tevia_hf.load_segmentation_dataset("synthetic", split=split, count=count)
    side = np.repeat(np.array([1, 2], np.uint8), 32)
    masks = [Image.fromarray((np.array(mask) > 0) * side) for mask in rows["mask"]]
    return Dataset.from_dict({"image": list(rows["image"]), "mask": masks, "text": list(rows["text"])})


def compute_metrics(prediction):
    masks, labels = list(prediction.predictions), list(prediction.label_ids)
    return tevia_hf.segmentation_metrics(masks, labels, outlines=False, white_is_lesion=False, classes=CLASSES)


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("output_dir")
parser.add_argument("--epochs", type=int, default=10, help="with few, the new head may miss a class")
args = parser.parse_args()
set_seed(0)  # of the new head for three labels
# For a model of two encoders, `from_vision_text_pretrained` and `from_encoders` take the same `id2label`.
names = {0: "background", **CLASSES}
model = TeViAForSegmentation.from_pretrained(args.model, id2label=names, ignore_mismatched_sizes=True)
processor = TeViAProcessor.from_pretrained(args.model)
processor.image_processor.num_labels = len(names)
settings = {"num_train_epochs": args.epochs, "per_device_train_batch_size": 16, "learning_rate": 1e-3}
settings |= {"eval_strategy": "epoch", "remove_unused_columns": False}  # the latter: the collator needs the columns
trainer = Trainer(
    model=model,
    args=TrainingArguments(args.output_dir, report_to=[], **settings),
    train_dataset=load("train", 256),
    eval_dataset=load("val", 32),
    data_collator=lambda rows: processor(*([row[name] for row in rows] for name in ("image", "text", "mask"))),
    processing_class=processor,
    compute_metrics=compute_metrics,
    preprocess_logits_for_metrics=lambda logits, labels: labels_from_logits(logits),
    callbacks=[MomentumPrototypeCallback()],
)
trainer.train()
trainer.save_model()
print(tevia_hf.evaluate_model(model, processor, load("test", 32)).table())
