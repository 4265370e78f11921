"""Measure a model with correct, shuffled, no and other text; writes a table, a figure and each image's scores."""

import argparse

from .data_options import add_data_options, data_options


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="name or folder of a TeViA model")
    parser.add_argument(
        "--dataset",
        default="synthetic",
        help="synthetic, qata, mosmed, monuseg, breast, brain or folder (default: %(default)s)",
    )
    parser.add_argument("--data-dir", help="folder of the data set")
    parser.add_argument("--split", default="test", help="train, val or test (default: %(default)s)")
    add_data_options(parser)
    parser.add_argument("--max-samples", type=int, help="so many images, drawn by the seed")
    parser.add_argument(
        "--text",
        default="correct,shuffled,none",
        help="kinds of text, of correct, shuffled (both always), none, flipped, contradictory (default: %(default)s)",
    )
    parser.add_argument("--threshold", type=float, default=0.5, help="on the probability (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=16, help="images at once (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="draws shuffles and intervals (default: %(default)s)")
    parser.add_argument("--output-dir", required=True, help="folder to write to")
    parser.add_argument("--overwrite", action="store_true", help="delete what the folder holds")


def run(args: argparse.Namespace) -> int:
    from tevia_hf.data.registry import load_segmentation_dataset
    from tevia_hf.data.splits import groups_seen_in_training, sample
    from tevia_hf.evaluation.evaluate import evaluate_model
    from tevia_hf.evaluation.text_conditions import check_text_modes, check_texts
    from tevia_hf.inference.loading import load_trained, weights_digest
    from tevia_hf.io.output_dir import claim_output_dir

    text_modes = tuple(args.text.split(","))
    check_text_modes(text_modes)
    model, processor = load_trained(args.model)
    dataset = sample(
        load_segmentation_dataset(args.dataset, args.data_dir, args.split, **data_options(args)),
        args.max_samples,
        args.seed,
    )
    check_texts(dataset, model.config.use_text)  # before the folder is claimed, so that a next try finds it free
    claim_output_dir(args.output_dir, overwrite=args.overwrite, inputs=[args.model, args.data_dir, args.sentences])
    report = evaluate_model(model, processor, dataset, text_modes, args.threshold, args.batch_size, args.seed)
    seen = groups_seen_in_training(args.model, dataset)
    report.settings.update(model=args.model, weights=weights_digest(args.model))
    report.settings.update(dataset=args.dataset, data_dir=args.data_dir, split=args.split, **choice_of_examples(args))
    report.settings.update(groups_seen_in_training=None if seen is None else len(seen))
    report.save(args.output_dir)
    print(f"\n{report.table()}\n\n{len(dataset)} images; the figures are in {args.output_dir}.")
    if seen:
        print(f"{len(seen)} groups (patients) were in the model's training, such as {seen[0]}: the scores flatter it.")
    return 0


def choice_of_examples(args: argparse.Namespace) -> dict:
    """What makes the examples other than those of the data set's split, for the report; empty where nothing does."""
    names = ("sentences", "group_split", "window", "max_samples")
    chosen = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    return chosen | ({"split_seed": args.split_seed} if args.group_split else {})
