"""Joins a vision and a text encoder of your choice to an untrained model; needs the extra `torch` only.

    python examples/two_encoders.py facebook/dinov2-small sentence-transformers/all-MiniLM-L6-v2 outputs/untrained

Both may be names on the Hub or folders. Train the result by `--model-name-or-path outputs/untrained` of `tevia train`.
"""

import argparse

import numpy as np

from tevia_hf import TeViAForSegmentation, TeViAProcessor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("vision", help="any vision model of transformers")
    parser.add_argument("text", help="any text encoder of transformers; it stays frozen")
    parser.add_argument("output_dir")
    parser.add_argument("--size", type=int, default=224, help="input size in pixels")
    args = parser.parse_args()

    model = TeViAForSegmentation.from_vision_text_pretrained(args.vision, args.text)
    processor = TeViAProcessor.from_encoders(args.vision, args.text, size=args.size)

    image = np.zeros((100, 150), dtype=np.uint8)
    outputs = model.eval()(**processor(image, "Two infected areas, upper left lung."))
    (mask,) = processor.post_process_segmentation(outputs, target_sizes=[image.shape])

    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    print(f"mask of {tuple(mask.shape)}; {trained:,} parameters to train, {frozen:,} frozen")
    model.save_pretrained(args.output_dir)
    processor.save_pretrained(args.output_dir)


if __name__ == "__main__":
    main()
