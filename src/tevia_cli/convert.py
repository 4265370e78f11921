"""Turn a Lightning checkpoint of the authors' network into a model and processor for `from_pretrained`."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="the .ckpt file; nothing in it is run")
    parser.add_argument("--vision", required=True, help="name or folder with the ConvNeXt's config")
    parser.add_argument("--text", required=True, help="name or folder with the text encoder's config and tokenizer")
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="delete what the folder holds")


def run(args: argparse.Namespace) -> int:

    from tevia_hf.hub.convert_lightning import convert_lightning_checkpoint, published_processor
    from tevia_hf.io.output_dir import claim_output_dir
    from tevia_hf.text_encoder_tevia import load_text_config
    from tevia_hf.vision_layout_tevia import load_vision_config

    vision_config, text_config = load_vision_config(args.vision), load_text_config(args.text)
    model = convert_lightning_checkpoint(args.checkpoint, vision_config, text_config)
    processor = published_processor(args.vision, args.text)
    claim_output_dir(args.output_dir, overwrite=args.overwrite, inputs=[args.checkpoint, args.vision, args.text])
    model.save_pretrained(args.output_dir)
    processor.save_pretrained(args.output_dir)
    print(f"{model.conversion_report}\n\nModel and processor are in {args.output_dir}.")
    return 0
