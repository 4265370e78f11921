"""Convert a Lightning checkpoint of the authors' network to a model and processor for `from_pretrained`."""

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", help="the .ckpt file; no code in it is executed")
    parser.add_argument("--vision", required=True, help="name or folder with the ConvNeXt's config")
    parser.add_argument("--text", required=True, help="name or folder with the text encoder's config and tokenizer")
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier output in the folder")


def run(output_dir: str, **options: Any) -> int:
    from tevia_hf.hub.convert_lightning import convert_checkpoint_file

    model = convert_checkpoint_file(output_dir=output_dir, **options)
    print(f"{model.conversion_report}\n\nModel and processor are in {output_dir}.")
    return 0
