"""Write masks and overlays for image files, with one text for all or a table of texts."""

import argparse
import sys
from typing import Any

from .options import add_number, checked

OPTIONS = "--help --text --text-table --window --mask-suffix --threshold --batch-size --output-dir --overwrite".split()
TEXT = "the text for every image (default: none); 'left' is the left side of the image"
WINDOW = "window centre and width of DICOM and NIfTI images (write --window=-600,1500)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tevia_hf.io import MASK_SUFFIXES, parse_window

    parser.add_argument("model", help="name or folder of a TeViA model")
    parser.add_argument("images", nargs="+", help="image files or folders; slices as scan.nii.gz#40 or scan.dcm#3")
    texts = parser.add_mutually_exclusive_group()
    texts.add_argument("--text", default="", help=TEXT)
    texts.add_argument("--text-table", help="CSV or xlsx with the columns Image, Description")
    parser.add_argument("--window", type=checked(parse_window), help=WINDOW)
    suffix = "of the masks (default: %(default)s)"
    parser.add_argument("--mask-suffix", default=".png", choices=MASK_SUFFIXES, help=suffix)
    add_number(parser, "threshold", "check_share", "on the probability, from 0 to 1", default=0.5)
    add_number(parser, "batch_size", "check_count", "images per batch", default=16)
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="delete an earlier output in the folder")


def run(output_dir: str, **options: Any) -> int:
    from tevia_hf.inference.predict import predict_files

    table = predict_files(output_dir=output_dir, **options)
    failures = table[table["error"] != ""]
    for error in failures["error"]:
        print(error, file=sys.stderr)
    print(f"\n{len(table) - len(failures)} of {len(table)} masks are in {output_dir}.")
    return 1 if len(failures) else 0
