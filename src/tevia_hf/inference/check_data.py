"""A data set by name, examined as a model would read it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ..data.check import DataReport, check_dataset, count_words
from ..data.registry import list_examples
from ..image_processing_tevia import TeViAImageProcessor
from ..io.output_dir import claim_output_dir
from ..option_checks_tevia import check_count
from .text_features import token_counter


def check_data(
    dataset: str,
    data_dir: str | Path,
    output_dir: str | Path | None = None,
    *,
    num_labels: int = 1,
    tokenizer: str | None = None,
    max_text_length: int = 64,
    overwrite: bool = False,
    **options: Any,
) -> DataReport:
    """The report of `tevia check-data`: what a data set holds, and what is wrong with it.

    Args:
        dataset, data_dir, options: as `list_examples` takes them.
        output_dir: folder to save the report to; `overwrite` deletes an earlier output there.
        num_labels: of the masks.
        tokenizer: name or folder of a text encoder, whose tokens count; by default words do.
        max_text_length: tokens that the model takes.

    Raises `ValueError` for an unknown data set and a folder that cannot be read or written.
    """
    check_count("num_labels", num_labels, example="2", most=255)
    check_count("max_text_length", max_text_length, example="64")
    listing = list_examples(dataset, data_dir, **options)
    count_tokens = token_counter(tokenizer) if tokenizer else count_words
    if output_dir is not None:
        claim_output_dir(output_dir, overwrite=overwrite, inputs=[data_dir, options.get("sentences")])
    processor = SimpleNamespace(image_processor=TeViAImageProcessor(num_labels=num_labels))
    report = check_dataset(listing, processor, count_tokens, max_text_length)
    if output_dir is not None:
        report.save(output_dir)
    return report
