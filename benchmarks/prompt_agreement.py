"""How well sentences drawn from masks agree with the published ones, and where QaTa's thirds of a lung lie.

    python benchmarks/prompt_agreement.py qata=$QATA monuseg=$MONUSEG

Writes the table in `docs/datasets.md`. The rows at which a lung's upper third ends and its lower third begins are those
that fit QaTa's training sentences best.
"""

import itertools
import re
import sys
from pathlib import Path
from unittest.mock import patch

import numpy as np
from datasets.utils import disable_progress_bars, tqdm

from tevia_hf.data.decoding import decode_labels
from tevia_hf.data.generated_prompts import generate_prompts, named_regions
from tevia_hf.data.listing import Listing
from tevia_hf.data.registry import SOURCES, list_examples
from tevia_hf.io.markdown import markdown_table
from tevia_hf.labels_tevia import is_lesion
from tevia_hf.prompts import QATA, lungs

PAGE = Path(__file__).parents[1] / "docs" / "datasets.md"
UPPER_ENDS = np.arange(48, 90, 4) / 224
LOWER_BEGINS = np.arange(76, 130, 4) / 224
FITTED_ON = 800


def main() -> None:
    folders = dict(word.split("=", 1) for word in sys.argv[1:])
    rows = []
    for name, folder in folders.items():
        listing = list_examples(name, folder)
        for split in listing.splits:
            examples = listing.of_split(split)
            agreement = generate_prompts(Listing(split, examples), SOURCES[name].language).agreement
            shares = ", ".join(f"{field} {100 * share:.2f} %" for field, share in agreement.items())
            rows.append([name, split, len(examples), shares])
    table = markdown_table(["data set", "split", "texts", "agreement with the mask"], rows)
    if "qata" in folders:
        table += f"\n\n{fitted_thirds(folders['qata'])}"
    page = PAGE.read_text(encoding="utf-8")
    marked = re.compile(r"(?<=<!-- agreement -->\n).*?(?=<!-- end of agreement -->)", re.DOTALL)
    PAGE.write_text(marked.sub(lambda _: f"\n{table}\n\n", page), encoding="utf-8")
    print(table)


def fitted_thirds(folder: str) -> str:
    examples = list_examples("qata", folder).of_split("train")
    chosen = [examples[index] for index in np.random.default_rng(0).permutation(len(examples))[:FITTED_ON]]
    pairs = [(QATA.read(example.text), is_lesion(decode_labels(example.row(), num_labels=1))) for example in chosen]
    pairs = [(said, mask) for said, mask in pairs if said]
    grid = [(upper, lower) for upper, lower in itertools.product(UPPER_ENDS, LOWER_BEGINS) if lower > upper]
    overlaps = {thirds: overlap(pairs, *thirds) for thirds in tqdm(grid)}
    best = max(overlaps, key=overlaps.__getitem__)
    ours = overlap(pairs, lungs.UPPER_ENDS, lungs.LOWER_BEGINS)
    equal = overlap(pairs, 1 / 3, 2 / 3)
    return (
        f"Overlap of regions on {len(pairs)} training texts: {100 * ours:.1f} % with the upper third ending at "
        f"{lungs.UPPER_ENDS} and the lower beginning at {lungs.LOWER_BEGINS} of the height, as built in; at best "
        f"{100 * overlaps[best]:.1f} % ({best[0]:.3f}, {best[1]:.3f}); {100 * equal:.1f} % with thirds of the image."
    )


def overlap(pairs: list, upper_ends: float, lower_begins: float) -> float:
    """Mean share of common regions among all that sentence or mask name."""
    with patch.multiple(lungs, UPPER_ENDS=upper_ends, LOWER_BEGINS=lower_begins):
        named = [(named_regions(said), named_regions(QATA.observe(mask))) for said, mask in pairs]
    return float(np.mean([len(said & seen) / len(said | seen or {""}) for said, seen in named]))


if __name__ == "__main__":
    disable_progress_bars()
    main()
