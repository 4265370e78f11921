"""Write sentences drawn from the masks of a data set; they carry part of the answer, as the file beside them says."""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", help="qata, mosmed, monuseg, breast, brain or folder")
    parser.add_argument("data_dir", help="folder of the data set")
    parser.add_argument("--output", default="prompts.csv", help="table to write (default: %(default)s)")
    parser.add_argument("--grammar", help="qata, breast, nuclei or brain (default: that of the data set)")
    parser.add_argument(
        "--template", help="a sentence of your own, e.g. '{Count_word} {size} lesion{s} at the {place}.'"
    )
    parser.add_argument(
        "--empty-template", default="No lesion.", help="sentence of an empty mask (default: %(default)s)"
    )
    parser.add_argument("--finding", help="the class that {finding} stands for, where the data set does not tell")
    parser.add_argument("--patient-sides", action="store_true", help="'left' is the patient's left, not the picture's")
    parser.add_argument("--overwrite", action="store_true", help="replace the table")


def run(args: argparse.Namespace) -> int:
    from tevia_hf.data.drawn_sentences import choose_grammar, draw_sentences
    from tevia_hf.data.registry import list_examples

    grammar = choose_grammar(args.dataset, args.grammar, args.template, args.empty_template)
    drawn = draw_sentences(list_examples(args.dataset, args.data_dir), grammar, args.finding, args.patient_sides)
    path = drawn.save(args.output, overwrite=args.overwrite)
    print(f"\n{drawn.about()}\nThe sentences are in {path}; pass it as `sentences`.")
    for problem in drawn.problems[:10]:
        print(problem)
    print(f"{len(drawn.problems)} problems." if drawn.problems else "Every sentence is true of its mask.")
    return 1 if drawn.problems else 0
