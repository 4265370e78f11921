"""Write sentences drawn from the masks of a data set; they carry part of the answer, as the file beside them says."""

import argparse
from typing import Any

from .options import add_data_options, add_number

TEMPLATE = "a sentence of your own, e.g. '{Count_word} {size} lesion{s} at the {place}.'"
EMPTY = "sentence of an empty mask (default: %(default)s)"
NUM_LABELS = "labels of the masks; with several, 255 is ignored everywhere"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tevia_hf.data.registry import names_on_disk
    from tevia_hf.prompts import LANGUAGES

    parser.add_argument("dataset", help=f"one of {', '.join(names_on_disk())}")
    parser.add_argument("data_dir", help="folder of the data set")
    parser.add_argument("--output", default="prompts.csv", help="table to write (default: %(default)s)")
    parser.add_argument("--language", help=f"one of {', '.join(LANGUAGES)} (default: that of the data set)")
    parser.add_argument("--template", help=TEMPLATE)
    parser.add_argument("--empty-template", default="No lesion.", help=EMPTY)
    parser.add_argument("--finding", help="the class that {finding} stands for, where the data set does not tell")
    parser.add_argument("--patient-sides", action="store_true", help="'left' is the patient's left, not the picture's")
    add_number(parser, "num_labels", "check_count", NUM_LABELS, example="2", most=255)
    add_data_options(parser, "white_is_lesion", "cache")
    parser.add_argument("--overwrite", action="store_true", help="replace the table")


def run(output: str, **options: Any) -> int:
    from tevia_hf.data.generated_prompts import write_prompts

    drawn = write_prompts(output=output, **options)
    print(f"\n{drawn.about()}\nThe texts are in {output}; pass it as `text_table`.")
    for problem in drawn.problems[:10]:
        print(problem)
    print(f"{len(drawn.problems)} problems." if drawn.problems else "Every sentence is true of its mask.")
    return 1 if drawn.problems else 0
