"""Write masks and overlay pictures for image files, with one sentence for all or a table of sentences."""

import argparse
import sys

from .options import checked, number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tevia_hf.io import MASK_SUFFIXES, parse_window

    parser.add_argument("model", help="name or folder of a TeViA model")
    parser.add_argument("images", nargs="+", help="image files or folders; slices as scan.nii.gz#40 or scan.dcm#3")
    sentences = parser.add_mutually_exclusive_group()
    sentences.add_argument("--text", default="", help="the sentence for every image (default: none)")
    sentences.add_argument("--sentences", help="CSV or xlsx with the columns Image, Description")
    parser.add_argument(
        "--window",
        type=checked(parse_window),
        help="centre and width that DICOM and NIfTI are seen through (write --window=-600,1500)",
    )
    parser.add_argument(
        "--mask-suffix", default=".png", choices=MASK_SUFFIXES, help="of the masks (default: %(default)s)"
    )
    parser.add_argument(
        "--threshold",
        type=number("threshold", "check_share"),
        default=0.5,
        help="on the probability, from 0 to 1 (default: %(default)s)",
    )
    parser.add_argument(
        "--batch-size",
        type=number("batch_size", "check_count"),
        default=16,
        help="images at once (default: %(default)s)",
    )
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="delete what the folder holds")


def run(args: argparse.Namespace) -> int:
    from tevia_hf.inference.predict import predict_files

    names = ("text", "sentences", "threshold", "batch_size", "mask_suffix", "window", "overwrite")
    settings = {name: getattr(args, name) for name in names}
    table = predict_files(args.model, args.images, args.output_dir, **settings)
    failures = table[table["error"] != ""]
    for error in failures["error"]:
        print(error, file=sys.stderr)
    print(f"\n{len(table) - len(failures)} of {len(table)} masks are in {args.output_dir}.")
    return 1 if len(failures) else 0
