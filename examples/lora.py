"""Fine-tunes a model by LoRA with the plain `Trainer`, and merges the adapters; needs the extras `train`, `peft`.

    python examples/lora.py hub_configs/tevia-tiny outputs/lora

The adapters are in the text encoder's attention here; `target_modules` may name layers of the vision encoder or the
decoder. A recipe does the same with `lora: {r: 8}`.
"""

import argparse

import peft
from transformers import Trainer, TrainingArguments

from tevia_hf import MomentumPrototypeCallback, TeViAForSegmentation, TeViAProcessor, load_segmentation_dataset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("output_dir")
    parser.add_argument("--images", type=int, default=64, help="number of synthetic training images")
    args = parser.parse_args()

    processor = TeViAProcessor.from_pretrained(args.model)
    lora = peft.LoraConfig(r=8, target_modules=["query", "value"])
    model = peft.get_peft_model(TeViAForSegmentation.from_pretrained(args.model), lora)
    model.print_trainable_parameters()

    def collate(examples):
        columns = {key: [example[key] for example in examples] for key in ("image", "text", "mask")}
        return processor(columns["image"], columns["text"], columns["mask"])

    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=f"{args.output_dir}/training",
            num_train_epochs=1,
            per_device_train_batch_size=16,
            learning_rate=1e-3,
            save_strategy="no",
            remove_unused_columns=False,  # the collator needs image, text and mask
            report_to=[],
        ),
        train_dataset=load_segmentation_dataset("synthetic", split="train", count=args.images),
        data_collator=collate,
        callbacks=[MomentumPrototypeCallback()],
    )
    trainer.train()
    model.save_pretrained(f"{args.output_dir}/adapter")  # a few kB, with the prototypes
    model.merge_and_unload().save_pretrained(f"{args.output_dir}/merged")  # a plain model, which needs no peft
    processor.save_pretrained(f"{args.output_dir}/merged")


if __name__ == "__main__":
    main()
