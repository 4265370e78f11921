"""The content of a report: its tables and remarks, which Markdown and HTML show alike."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..io.markdown import Block, Bullets, Section, Table
from ..metric_table import PRIMARY, primary_name, units_text
from ..score_summaries import EMPTY_MASK_RULE
from .report_tables import class_blocks, foreground_lines, interval_text, number
from .text_agreement import text_tables
from .text_conditions import OWN
from .volumes import volume_blocks

if TYPE_CHECKING:
    from .report import EvaluationReport


def report_sections(report: "EvaluationReport") -> list[Section]:
    """The sections of a report, without empty ones."""
    sections = [
        Section("Scores with each text", [main_table(report), *score_remarks(report), *data_remarks(report)]),
        Section("Scores of volumes", volume_blocks(report.volume_summary())),
        Section("Scores by class", list(class_blocks(report.classes, report.denying_conditions))),
        Section("Masks against texts", text_tables(report.against_text)),
    ]
    return [section for section in sections if section.blocks]


def main_table(report: "EvaluationReport") -> Table:
    """One row per text condition; those that deny the lesions are marked, since their Dice is meaningless."""
    first, *others = report.metrics
    marks = {name: " †" if name in report.denying_conditions else "" for name in report.scores}
    rows = [
        [
            name + marks[name],
            number(row[first]),
            interval_text(report.intervals[name][PRIMARY]),
            *(number(row[metric]) for metric in others),
        ]
        for name, row in report.scores.items()
    ]
    return Table(["text", first, "95 %", *others], rows)


def score_remarks(report: "EvaluationReport") -> Iterator[Block]:
    """Units, the rule for empty masks, scores of images with and without a lesion, and the text sensitivity."""
    units = units_text(report.metrics)
    yield f"{units}{'; ' if units else ''}95 %: bootstrap interval of `{PRIMARY}`."
    yield EMPTY_MASK_RULE
    yield from foreground_lines(next(iter(report.foreground.values())))
    if (paired := report.text_sensitivity) is not None:
        yield (
            f"Text sensitivity ({PRIMARY} with an image's own text minus with another's): {paired.difference:.3f}, "
            f"{interval_text(paired.interval)}, p = {paired.p_value:.2g}."
        )
        own_texts = report.images["text"][report.images["text_mode"] == OWN]
        if len(own_texts) > 1 and own_texts.nunique() == 1:
            yield "All texts are equal: their effect cannot be measured by shuffling them."


def data_remarks(report: "EvaluationReport") -> Iterator[Block]:
    """What limits the meaning of the scores: known patients, skipped examples, texts that deny or do not change."""
    if (dtype := report.settings.get("dtype", "float32")) != "float32":
        yield f"Computed in {dtype}."
    if tiling := report.settings.get("tiling"):
        yield f"Predicted in tiles of {tiling['size']} pixels with an overlap of {tiling['overlap']:g}."
    if seen := report.settings.get("groups_seen_in_training"):
        yield f"{seen} groups (patients) were in the model's training: the scores flatter it."
    if skipped := report.settings.get("skipped"):
        yield f"{len(skipped)} examples could not be read and are left out:"
        yield Bullets([f"{one['id']}: {one['reason']}" for one in skipped])
    if report.denying_conditions:
        about = f"its {primary_name()} is no score: see what is marked all the same."
        yield f"† The text denies the lesion, so that {about}"
    for name, changed in report.settings["texts_changed"].items():
        if changed < report.settings["images"]:
            yield f"{name}: {changed} of {report.settings['images']} texts changed, the others are as they were."
