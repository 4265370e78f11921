"""Fine-tunes a TeViA model with the plain `Trainer`, on synthetic images; needs the extra `train`."""

from transformers import AutoModelForSemanticSegmentation, AutoProcessor, Trainer, TrainingArguments

# This import also registers TeViA with the Auto classes.
from tevia_hf import MomentumPrototypeCallback, labels_from_logits, load_segmentation_dataset, segmentation_metrics

name = "hub_configs/tevia-tiny"
model = AutoModelForSemanticSegmentation.from_pretrained(name)
processor = AutoProcessor.from_pretrained(name)


def collate(examples):
    columns = {key: [example[key] for example in examples] for key in ("image", "text", "mask")}
    # Pixels, tokens and labels. Without `white_is_lesion`, each batch decides for itself what 255 means in its masks.
    return processor(columns["image"], columns["text"], columns["mask"], white_is_lesion=True)


def compute_metrics(prediction):
    masks, labels = list(prediction.predictions), list(prediction.label_ids)
    return segmentation_metrics(masks, labels, outlines=False, white_is_lesion=False)  # 255 is ignored in labels


trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="outputs/fine-tuned",
        num_train_epochs=1,
        per_device_train_batch_size=16,
        learning_rate=3e-4,
        eval_strategy="epoch",
        remove_unused_columns=False,  # the collator needs image, text and mask
        report_to=[],
    ),
    train_dataset=load_segmentation_dataset("synthetic", split="train", count=64),
    eval_dataset=load_segmentation_dataset("synthetic", split="val", count=32),
    data_collator=collate,
    processing_class=processor,  # saved, and pushed, beside the model
    compute_metrics=compute_metrics,
    preprocess_logits_for_metrics=lambda logits, labels: labels_from_logits(logits),
    callbacks=[MomentumPrototypeCallback()],
)
trainer.train()
trainer.save_model()
