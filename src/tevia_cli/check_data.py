"""Examine a data set before training; exit code 1 where training or its scores would be wrong."""

import argparse

from .data_options import add_data_options, data_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="qata, mosmed, monuseg, breast, brain or folder")
    parser.add_argument("data_dir", help="folder of the data set")
    add_data_options(parser)
    parser.add_argument("--num-labels", type=int, default=1, help="labels of the masks (default: %(default)s)")
    parser.add_argument("--tokenizer", help="name or folder of a text encoder, to count tokens (default: count words)")
    parser.add_argument("--max-text-length", type=int, default=64, help="tokens the model takes (default: %(default)s)")
    parser.add_argument("--output-dir", help="folder for check.json and overlays.jpg (default: print only)")
    parser.add_argument("--overwrite", action="store_true", help="delete what the folder holds")


def run(args: argparse.Namespace) -> int:
    from types import SimpleNamespace

    from tevia_hf.data.check import check_dataset, count_words
    from tevia_hf.data.registry import list_examples
    from tevia_hf.image_processing_tevia import TeViAImageProcessor
    from tevia_hf.inference.text_features import token_counter
    from tevia_hf.io.output_dir import claim_output_dir

    listing = list_examples(args.dataset, args.data_dir, **data_options(args))
    count_tokens = token_counter(args.tokenizer) if args.tokenizer else count_words
    if args.output_dir:
        claim_output_dir(args.output_dir, overwrite=args.overwrite, inputs=[args.data_dir, args.sentences])
    processor = SimpleNamespace(image_processor=TeViAImageProcessor(num_labels=args.num_labels))
    report = check_dataset(listing, processor, count_tokens, args.max_text_length)
    print(f"\n{report.text()}")
    if args.output_dir:
        report.save(args.output_dir)
        print(f"\nLook at {args.output_dir}/overlays.jpg.")
    return 0 if report.is_sound else 1
