"""Write masks and overlay pictures for image files, with one sentence for all or a table of sentences."""

import argparse
import sys

MASK_SUFFIXES = (".png", ".nii.gz", ".nii", ".npz")  # those of `tevia_hf.io`


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name or folder of a TeViA model")
    parser.add_argument("images", nargs="+", help="image files or folders; slices as scan.nii.gz#40 or scan.dcm#3")
    sentences = parser.add_mutually_exclusive_group()
    sentences.add_argument("--text", default="", help="the sentence for every image (default: none)")
    sentences.add_argument("--sentences", help="CSV or xlsx with the columns Image, Description")
    parser.add_argument(
        "--window", help="centre,width that DICOM and NIfTI are seen through (write --window=-600,1500)"
    )
    parser.add_argument(
        "--mask-suffix", default=".png", choices=MASK_SUFFIXES, help="of the masks (default: %(default)s)"
    )
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="delete what the folder holds")


def run(args: argparse.Namespace) -> int:
    from tevia_hf.inference.loading import load_trained
    from tevia_hf.inference.predict import list_images, predict, sentences_from_table
    from tevia_hf.io.address import parse_window, with_window
    from tevia_hf.io.output_dir import claim_output_dir

    images = list_images(args.images)
    if args.window:
        images = [with_window(image, parse_window(args.window)) for image in images]
    texts = sentences_from_table(args.sentences, images) if args.sentences else [args.text] * len(images)
    model, processor = load_trained(args.model)
    claim_output_dir(args.output_dir, overwrite=args.overwrite, inputs=[args.model, *images, args.sentences])
    table = predict(model, processor, images, texts, args.output_dir, args.threshold, args.batch_size, args.mask_suffix)
    failures = table[table["error"] != ""]
    for error in failures["error"]:
        print(error, file=sys.stderr)
    print(f"\n{len(table) - len(failures)} of {len(table)} masks are in {args.output_dir}.")
    return 1 if len(failures) else 0
