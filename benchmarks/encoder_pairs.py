"""Trains three very different pairs of encoders on `synthetic` and measures the text sensitivity of each.

    python benchmarks/encoder_pairs.py --vision path/to/mobilenet_v1 --text path/to/MiniLM --output outputs/pairs

`--vision` and `--text` are the pre-trained encoders of the first pair; those of the other two are small and random, the
text encoder frozen. Writes a JSON file per pair, from which `tools/encoders.py` makes its table.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from transformers import (
    BertTokenizer,
    CLIPTextConfig,
    CLIPTextModel,
    SwinConfig,
    SwinModel,
    T5Config,
    T5EncoderModel,
    ViTConfig,
    ViTModel,
    set_seed,
)

from tevia_hf import TeViAForSegmentation, TeViAProcessor, build_trainer, evaluate_model, load_segmentation_dataset
from tevia_hf.data.augment import TextAwareAugmentation
from tevia_hf.demo.run import WORDS
from tevia_hf.training.arguments import TeViATrainingArguments

SIZE = 64
DECODER_CHANNELS = [96, 64, 48, 24]


def small_swin() -> SwinModel:
    config = SwinConfig(image_size=SIZE, embed_dim=24, depths=[2, 2, 2, 2], num_heads=[1, 2, 4, 8], window_size=4)
    return SwinModel(config)


def small_vit() -> ViTModel:
    sizes = {"hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 256}
    return ViTModel(ViTConfig(**sizes, image_size=SIZE, patch_size=8))


def small_t5() -> T5EncoderModel:
    return T5EncoderModel(T5Config(vocab_size=len(WORDS), d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4))


def small_clip_text() -> CLIPTextModel:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    special = {"pad_token_id": WORDS.index("[PAD]"), "eos_token_id": WORDS.index("[SEP]")}
    return CLIPTextModel(CLIPTextConfig(**sizes, **special, vocab_size=len(WORDS)))


PAIRS = {
    "MobileNetV1 + MiniLM": None,
    "small Swin + T5 encoder": (small_swin, small_t5),
    "small ViT + CLIP text": (small_vit, small_clip_text),
}


def main() -> None:
    args = parse_arguments()
    for name in args.pairs:
        folder = args.output / name.replace(" ", "_").lower()
        set_seed(args.seed)
        vision, text = (args.vision, args.text) if PAIRS[name] is None else random_encoders(name, folder)
        scores, seconds = train_and_measure(vision, text, folder, args)
        result = {"pair": name, "epochs": args.epochs, "seed": args.seed, "seconds": round(seconds), "scores": scores}
        (folder / "scores.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(name, {mode: round(row["dice"], 3) for mode, row in scores.items()}, f"{seconds:.0f} s", flush=True)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vision", required=True, help="folder of a MobileNetV1")
    parser.add_argument("--text", required=True, help="folder of MiniLM")
    parser.add_argument("--output", type=Path, default=Path("outputs/pairs"))
    parser.add_argument("--pairs", nargs="+", choices=list(PAIRS), default=list(PAIRS))
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def random_encoders(name: str, folder: Path) -> tuple[str, str]:
    """Folders of the pair's two encoders, as a user would have them on disk."""
    vision, text = (build() for build in PAIRS[name])
    vision.save_pretrained(folder / "vision")
    text.save_pretrained(folder / "text")
    vocabulary = {word: index for index, word in enumerate(WORDS)}
    BertTokenizer(vocab=vocabulary, do_lower_case=True, model_max_length=32).save_pretrained(folder / "text")
    return str(folder / "vision"), str(folder / "text")


def train_and_measure(vision: str, text: str, folder: Path, args: argparse.Namespace) -> tuple[dict, float]:
    set_seed(args.seed)
    model = TeViAForSegmentation.from_vision_text_pretrained(
        vision, text, decoder_channels=DECODER_CHANNELS, max_text_length=32
    )
    processor = TeViAProcessor.from_encoders(vision, text, max_text_length=32, size={"height": SIZE, "width": SIZE})
    augmentation = TextAwareAugmentation(zoom_probability=0.0, seed=args.seed)
    train = load_segmentation_dataset("synthetic", split="train", size=SIZE, seed=args.seed)
    start = time.perf_counter()
    build_trainer(model, processor, training_arguments(folder, args), train, augmentation=augmentation).train()
    seconds = time.perf_counter() - start
    test = load_segmentation_dataset("synthetic", split="test", size=SIZE, seed=args.seed)
    return evaluate_model(model.eval(), processor, test).scores, seconds


def training_arguments(folder: Path, args: argparse.Namespace) -> TeViATrainingArguments:
    return TeViATrainingArguments(
        output_dir=str(folder / "run"),
        num_train_epochs=args.epochs,
        per_device_train_batch_size=16,
        learning_rate=args.learning_rate,
        weight_decay=0.01,
        prototype_warmup_epochs=2,
        warmup_steps=50,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        logging_steps=100,
        use_cpu=not torch.cuda.is_available(),
        seed=args.seed,
    )


if __name__ == "__main__":
    main()
