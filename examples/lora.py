"""Fine-tunes a model by LoRA with the plain `Trainer`, reloads and merges it; needs the extras `train`, `peft`.

    python examples/lora.py hub_configs/tevia-tiny outputs/lora

A recipe does the same with `lora: {r: 8}`: adapters in both encoders' linear layers, and the whole decoder is trained.
"""

import argparse
import re
from pathlib import Path

import peft
import torch
from transformers import Trainer, TrainingArguments

from tevia_hf import MomentumPrototypeCallback, TeViAForSegmentation, TeViAProcessor, load_segmentation_dataset

ENCODERS, DECODER = r"model\.\w+\.model\..+", r"model\.(decoder|laterals|backbone\.pyramid)\.\d+|decode_head"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("output_dir", type=Path)
    parser.add_argument("--images", type=int, default=64, help="number of synthetic training images")
    args = parser.parse_args()

    processor = TeViAProcessor.from_pretrained(args.model)
    base = TeViAForSegmentation.from_pretrained(args.model)
    parts = dict(base.named_modules())
    linear = [name for name, part in parts.items() if re.fullmatch(ENCODERS, name) and type(part) is torch.nn.Linear]
    decoder = [name for name, part in parts.items() if re.fullmatch(DECODER, name) and [*part.parameters()]]
    model = peft.get_peft_model(base, peft.LoraConfig(r=8, target_modules=linear, modules_to_save=decoder))
    base.model.null_text.requires_grad_(True)  # stands for a missing text
    model.print_trainable_parameters()

    def collate(examples):
        columns = {key: [example[key] for example in examples] for key in ("image", "text", "mask")}
        return processor(columns["image"], columns["text"], columns["mask"], white_is_lesion=True)

    options = {"num_train_epochs": 1, "per_device_train_batch_size": 16, "learning_rate": 1e-3, "save_strategy": "no"}
    options |= {"remove_unused_columns": False, "report_to": []}  # the collator needs image, text and mask
    Trainer(
        model,
        TrainingArguments(output_dir=str(args.output_dir / "training"), **options),
        train_dataset=load_segmentation_dataset("synthetic", split="train", count=args.images),
        data_collator=collate,
        callbacks=[MomentumPrototypeCallback()],  # saves the prototypes with the adapter
    ).train()
    model.save_pretrained(args.output_dir / "adapter")
    base = TeViAForSegmentation.from_pretrained(args.model)
    reloaded = peft.PeftModel.from_pretrained(base, args.output_dir / "adapter")
    reloaded.merge_and_unload().save_pretrained(args.output_dir / "merged")  # a plain model, which needs no peft
    processor.save_pretrained(args.output_dir / "merged")
    for path in sorted(args.output_dir.glob("*/*.safetensors")):
        print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
