"""Check of a data set before training: statistics of its splits, faults, warnings and a contact sheet."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tevia_hf.data.classes import named_classes
from tevia_hf.data.example import Example
from tevia_hf.data.faults import grouped, labels_in, some_of
from tevia_hf.data.features import SPLITS, row_problems
from tevia_hf.data.listing import Listing
from tevia_hf.data.survey import THUMBNAIL, Findings, Survey, examine
from tevia_hf.io.markdown import markdown_table
from tevia_hf.io.output_dir import write_whole
from tevia_hf.io.parallel import on_all_cores
from tevia_hf.visualization import contact_sheet, overlay

SHEET_ROWS, SHEET_COLUMNS, SHEET_PIXELS = 3, 4, 768
NEARLY_EQUAL = 0.997  # correlation of thumbnails; re-encoded or slightly cropped copies lie above
_BLOCK = 1024
_SHOWN = 10


class ReadableExample(NamedTuple):
    """The findings of one readable example; `lesion` is its share of the image."""

    example: Example
    findings: Findings
    lesion: float


@dataclass
class DataReport:
    """Result of a data check; faults would make training or its scores wrong, warnings should be reviewed."""

    source: str
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)  # statistics of each split
    texts: dict[str, Any] = field(default_factory=dict)  # number of distinct and truncated texts, maximum length
    faults: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sheet: Image.Image | None = None  # overlays of some examples; None if no example could be read
    white_is_lesion: bool | None = None  # what 255 means in the masks; None if they disagree

    @property
    def is_sound(self) -> bool:
        return not self.faults

    def text(self) -> str:
        """The report for a terminal: a table of the splits, texts, faults and warnings."""
        names = list(next(iter(self.splits.values()), {}))
        lines = [markdown_table(["split", *names], ([split, *facts.values()] for split, facts in self.splits.items()))]
        lines += ["", "Texts: " + ", ".join(f"{value} {name}" for name, value in self.texts.items()) + "."]
        for title, messages in (("fault", self.faults), ("warning", self.warnings)):
            lines += ["", f"{len(messages)} {title}{'' if len(messages) == 1 else 's'}" + (":" if messages else ".")]
            lines += [f"- {message}" for message in messages]
        return "\n".join(lines)

    def save(self, folder: str | Path) -> None:
        """Writes `check.json`, and `overlays.jpg` if there is a contact sheet."""
        folder = Path(folder)
        content = {name: value for name, value in asdict(self).items() if name != "sheet"}
        write_whole(folder / "check.json", json.dumps(content, indent=2) + "\n")
        if self.sheet is not None:
            self.sheet.save(folder / "overlays.jpg", quality=90)


def count_words(text: str) -> int:
    """Number of words and punctuation marks: a lower bound on the tokens of a usual tokenizer."""
    return len(re.findall(r"\w+|[^\w\s]", text))


def check_dataset(
    listing: Listing,
    processor: Any,
    count_tokens: Callable[[str], int] = count_words,
    max_text_length: int | None = None,
    seed: int = 0,
    white_is_lesion: bool | None = None,
    cache: bool = True,
    classes: Mapping[int, str] | None = None,
) -> DataReport:
    """Reads every image, mask and text as training does, and reports faults and warnings.

    Args:
        processor: a `TeViAProcessor`, or any object with an `image_processor`; it decides which masks are rejected.
        count_tokens: returns the number of tokens of a text; by default words and punctuation marks.
        max_text_length: number of tokens beyond which a text is truncated; None does not count truncated texts.
        seed: selects the examples of the contact sheet.
        white_is_lesion: see `ReadingOptions`.
        cache: see `ReadingOptions`.
        classes: label -> name of the class, for the statistics and the legend; by default LABEL_1, ...

    Faults are: files that cannot be paired or read; masks that do not lie on their image's grid, or whose values are
    no labels; masks that disagree about the meaning of 255; groups in more than one split; identical images under
    several names, which a split by name may separate; missing texts where other examples have one; a training split
    without any lesion. Warnings describe what is unusual but not certainly wrong.
    """
    classes = classes or named_classes(None, processor.image_processor.num_labels)[0]
    report = DataReport(listing.source, faults=grouped([problem.text for problem in listing.problems]))
    report.warnings += [*listing.warnings, *listing.notes]
    if not listing.examples:
        report.faults.append("no examples were found")
    for split in listing.splits:
        report.faults += grouped(row_problems([example.row() for example in listing.of_split(split)]))
    if unknown := [split for split in listing.splits if split not in SPLITS]:
        report.faults.append(f"unknown splits {unknown}: use {', '.join(SPLITS)}")
    survey = Survey(processor.image_processor, white_is_lesion, cache)
    complete = [example for example in listing.examples if example.image is not None and example.masks]
    pairs = [
        (complete[position], findings) for position, findings in survey.read([example.row() for example in complete])
    ]
    readable = [ReadableExample(*pair, share) for pair, share in zip(pairs, survey.lesion_shares(), strict=True)]
    report.faults += survey.problems()
    try:
        report.white_is_lesion = survey.white_is_lesion()
    except ValueError as error:
        report.faults.append(str(error))
    report.warnings += survey.warnings()
    readable_in = {split: [one for one in readable if one.example.split == split] for split in listing.splits}
    report.splits = {
        split: _split_facts(listing.of_split(split), readable_in[split], classes) for split in listing.splits
    }
    if (train := readable_in.get("train")) and not any(one.lesion for one in train):
        report.faults.append("no mask of the split 'train' contains a lesion: nothing can be learned from it")
    _check_groups(listing.examples, report)
    _check_duplicates(readable, report)
    _check_texts(listing.examples, count_tokens, max_text_length, report)
    report.sheet = _sheet(readable, survey, report.white_is_lesion, seed, classes) if readable else None
    return report


def _split_facts(
    examples: Sequence[Example], readable: Sequence[ReadableExample], classes: Mapping[int, str]
) -> dict[str, Any]:
    sizes = Counter("{1}x{0}".format(*one.findings.size) for one in readable).most_common()
    shown = {value for one in readable for values in one.findings.values for value in values[:_SHOWN]}
    values = sorted({f"{value:g}" for value in shown}, key=float)
    shares = [one.lesion for one in readable if one.lesion]
    return {
        "examples": len(examples),
        "readable": len(readable),
        "groups": len({example.group for example in examples}),
        "sizes": ", ".join(f"{size} ({count})" for size, count in sizes[:3]) + (", ..." if len(sizes) > 3 else ""),
        "mask values": ", ".join(values),
        "empty masks": len(readable) - len(shares),
        **({"images per class": _images_per_class(readable, classes)} if len(classes) > 1 else {}),
        "median lesion": f"{100 * np.median(shares):.1f} %" if shares else "-",
        "with text": sum(bool(example.text) for example in examples),
    }


def _images_per_class(readable: Sequence[ReadableExample], classes: Mapping[int, str]) -> str:
    """The number of images with each class, such as "benign 20, malignant 18"."""
    counts = Counter(label for one in readable for label in labels_in(one.findings.values))
    return ", ".join(f"{name} {counts[label]}" for label, name in classes.items())


def _check_groups(examples: Sequence[Example], report: DataReport) -> None:
    splits_of = defaultdict(set)
    for example in examples:
        splits_of[example.group].add(example.split)
    if shared := sorted(group for group, splits in splits_of.items() if len(splits) > 1):
        count = sum(len(splits_of[example.group]) > 1 for example in examples)
        report.faults.append(
            f"{len(shared)} groups (patients, studies) with {count} examples lie in more than one split: "
            f"{some_of(shared, _SHOWN)}. Scores would be those of known patients; split again with --group-split"
        )


def _check_duplicates(readable: Sequence[ReadableExample], report: DataReport) -> None:
    thumbnails = np.frombuffer(bytes.fromhex("".join(one.findings.thumbnail for one in readable)), np.float32)
    alike: dict[tuple[str, str], list[tuple[ReadableExample, ReadableExample]]] = defaultdict(list)
    for first, second in near_duplicates(thumbnails.reshape(-1, THUMBNAIL**2)):
        a, b = readable[first], readable[second]
        place = "in different splits" if a.example.split != b.example.split else "in one split"
        if a.findings.fingerprint == b.findings.fingerprint:
            alike["equal", place].append((a, b))
        elif a.example.group != b.example.group:  # slices of one patient are naturally similar
            alike["nearly equal", place].append((a, b))
    for (kind, place), pairs in sorted(alike.items()):
        names = [" and ".join(f"'{one.example.id}' ({one.example.split})" for one in pair) for pair in pairs]
        faults = report.faults if kind == "equal" else report.warnings
        faults.append(f"{len(pairs)} pairs of {kind} images {place}: {some_of(names, _SHOWN)}")


def near_duplicates(thumbnails: np.ndarray, threshold: float = NEARLY_EQUAL) -> Iterator[tuple[int, int]]:
    """Pairs of rows (first < second) of (images, 1024) thumbnails that correlate by `threshold` or more."""
    for start in range(0, len(thumbnails), _BLOCK):
        similar = thumbnails[start : start + _BLOCK] @ thumbnails[start:].T >= threshold
        for row, column in np.argwhere(np.triu(similar, 1)):
            yield start + int(row), start + int(column)


def _check_texts(
    examples: Sequence[Example], count_tokens: Callable[[str], int], max_text_length: int | None, report: DataReport
) -> None:
    texts = [example.text for example in examples if example.text and example.text.strip()]
    without_text = [example.id for example in examples if not (example.text or "").strip()]
    lengths = {text: count_tokens(text) for text in set(texts)}
    unit = "words and marks" if count_tokens is count_words else "tokens"
    report.texts = {"distinct": len(lengths), f"{unit} in the longest": max(lengths.values(), default=0)}
    if max_text_length is not None:
        report.texts["truncated"] = truncated = sum(lengths[text] > max_text_length for text in texts)
        if truncated:
            limit = max(lengths.values()) if unit == "tokens" else "..."
            advice = f"raise `max_text_length` (`config: {{max_text_length: {limit}}}` of a recipe)"
            report.warnings.append(f"{truncated} texts are longer than {max_text_length} {unit}: {advice}")
    if not texts:
        hint = "generate texts with `tevia prompts`, or train with `config: {use_text: false}`"
        report.warnings.append(f"no example has a text: {hint}")
    elif without_text:
        names = some_of(without_text, _SHOWN)
        report.faults.append(f"{len(without_text)} of {len(examples)} examples have no text: {names}. Add the texts")


def _sheet(
    readable: Sequence[ReadableExample],
    survey: Survey,
    white_is_lesion: bool | None,
    seed: int,
    classes: Mapping[int, str],
) -> Image.Image:
    """A contact sheet of examples chosen by the seed, those with a lesion first: each mask over its image."""

    def overlay_of(one: ReadableExample) -> Image.Image:
        examined = examine(one.example.row(), survey.image_processor)
        labels = examined.labels(survey.image_processor.num_labels, white_is_lesion)
        return overlay(examined.image.array, labels, longest_side=SHEET_PIXELS)

    order = [readable[index] for index in np.random.default_rng(seed).permutation(len(readable))]
    chosen = sorted(order, key=lambda one: not one.lesion)[: SHEET_ROWS * SHEET_COLUMNS]
    overlays = [image for _, image in on_all_cores(overlay_of, chosen)]
    captions = [f"{one.example.id} ({one.example.split}): {one.example.text or 'no text'}" for one in chosen]
    rows = [slice(start, start + SHEET_COLUMNS) for start in range(0, len(chosen), SHEET_COLUMNS)]
    title = "Images, masks and texts"
    return contact_sheet([overlays[row] for row in rows], [captions[row] for row in rows], title, classes)
