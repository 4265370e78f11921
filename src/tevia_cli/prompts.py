"""Generate texts from the masks of a data set; they carry part of the answer, as the file beside them explains."""

import argparse
from typing import Any

from .options import add_class_names, add_data_options, add_number

OPTIONS = (
    "--help --output --language --template --empty-template --finding --class-names --patient-sides --num-labels "
    "--white-is-lesion --cache --no-cache --overwrite"
).split()
TEMPLATE = "your own template, e.g. '{Count_word} {size} lesion{s} at the {place}.'"
EMPTY = "text of an empty mask (default: %(default)s)"
NUM_LABELS = "number of labels of the masks; with several, 255 is ignored"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from tevia_hf.data.registry import names_on_disk
    from tevia_hf.prompts import LANGUAGES

    parser.add_argument("dataset", help=f"one of {', '.join(names_on_disk())}")
    parser.add_argument("data_dir", help="folder of the data set")
    parser.add_argument("--output", default="prompts.csv", help="table to write (default: %(default)s)")
    parser.add_argument(
        "--language", help=f"wording of the texts, one of {', '.join(LANGUAGES)} (default: that of the data set)"
    )
    parser.add_argument("--template", help=TEMPLATE)
    parser.add_argument("--empty-template", default="No lesion.", help=EMPTY)
    parser.add_argument("--finding", help="value of {finding}, if the data set has no classes")
    add_class_names(parser, "names of labels 1, 2, ...: with several, {finding} names the classes in the mask")
    parser.add_argument(
        "--patient-sides", action="store_true", help="'left' is the left of the patient, not of the image"
    )
    add_number(parser, "num_labels", "check_count", NUM_LABELS, example="2", most=255)
    add_data_options(parser, "white_is_lesion", "cache")
    parser.add_argument("--overwrite", action="store_true", help="replace the table")


def run(output: str, **options: Any) -> int:
    from tevia_hf.data.generated_prompts import write_prompts

    generated = write_prompts(output=output, **options)
    print(f"\n{generated.about()}\nThe texts are in {output}; set it as `text_table`.")
    for problem in generated.problems[:10]:
        print(problem)
    print(f"{len(generated.problems)} problems." if generated.problems else "Every text matches its mask.")
    return 1 if generated.problems else 0
