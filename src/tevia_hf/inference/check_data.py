"""Checks of a data set, by name, as a model would read it."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from transformers import AutoTokenizer

from ..data.check import DataReport, check_dataset, count_words
from ..data.classes import named_classes
from ..data.registry import list_examples
from ..image_processing_tevia import TeViAImageProcessor
from ..io.output_dir import claim_output_dir
from ..labels_tevia import IGNORE_INDEX
from ..option_checks_tevia import check_count
from ..prompts import unknown_sides_warning
from .text_differences import text_problems


def check_data(
    dataset: str,
    data_dir: str | Path,
    output_dir: str | Path | None = None,
    *,
    num_labels: int | None = None,
    class_names: Sequence[str] | None = None,
    tokenizer: str | None = None,
    max_text_length: int = 64,
    white_is_lesion: bool | None = None,
    overwrite: bool = False,
    cache: bool = True,
    **options: Any,
) -> DataReport:
    """The report of `tevia check-data`: the content of a data set, its faults and warnings.

    Args:
        dataset: name of a data set on disk.
        data_dir: its folder.
        options: `text_table`, `group_split`, `split_seed`, `window` and `slices`: see the fields of a recipe.
        output_dir: folder to save the report to; `overwrite` deletes an earlier output there.
        num_labels: number of labels of the masks; by default 1, or the number of class names and the background.
        class_names: of labels 1, 2, ..., for the statistics and the legend.
        tokenizer: name or folder of a text encoder, to count tokens and to detect texts that it cannot distinguish; by
            default words are counted, and only equal texts and equal beginnings are detected.
        max_text_length: maximum text length of the model, in tokens.
        white_is_lesion: the meaning of 255 in the masks; by default inferred from all of them.
        cache: skip files that were checked before, here or by a training, and have not changed.

    Raises `ValueError` for an unknown data set, a folder that cannot be read or written, and names that do not fit
    `num_labels`.
    """
    if num_labels is not None:
        check_count("num_labels", num_labels, example="2", most=IGNORE_INDEX)
    classes, num_labels = named_classes(class_names, num_labels)
    check_count("max_text_length", max_text_length, example="64")
    listing = list_examples(dataset, data_dir, **options)
    text_tokenizer = AutoTokenizer.from_pretrained(tokenizer) if tokenizer else None
    if output_dir is not None:
        claim_output_dir(output_dir, overwrite=overwrite, inputs=[data_dir, options.get("text_table")])
    processor = SimpleNamespace(image_processor=TeViAImageProcessor(num_labels=num_labels))
    counter = (lambda text: len(text_tokenizer(text, verbose=False)["input_ids"])) if text_tokenizer else count_words
    report = check_dataset(
        listing, processor, counter, max_text_length, white_is_lesion=white_is_lesion, cache=cache, classes=classes
    )
    # Of the training split, or of the whole set if it has none.
    texts = [example.text for example in listing.of_split("train") or listing.examples]
    problems, unknown = text_problems(texts, text_tokenizer, max_text_length), unknown_sides_warning(texts)
    report.faults += problems.faults
    report.warnings += [*problems.warnings, *([unknown] if unknown else [])]
    if output_dir is not None:
        report.save(output_dir)
    return report
