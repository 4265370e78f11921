"""Prefixes and suffixes that all image or mask names share, such as "_segmentation" of masks."""

from collections.abc import Collection, Iterator
from os.path import commonprefix
from typing import NamedTuple

_SIDES = {"left", "right", "l", "r", "od", "os", "pre", "post"}


class Affix(NamedTuple):
    """A prefix or suffix of file names; `str()` describes it for messages."""

    prefix: str = ""
    suffix: str = ""

    def strip(self, name: str) -> str:
        """The name without the affix; unchanged where the name lacks the affix or consists of it alone."""
        has_affix = name.startswith(self.prefix) and name.endswith(self.suffix)
        stripped = name.removeprefix(self.prefix).removesuffix(self.suffix)
        return stripped if has_affix and stripped else name

    @property
    def text(self) -> str:
        return self.prefix or self.suffix

    def __str__(self) -> str:
        return f"the beginning `{self.prefix}`" if self.prefix else f"the ending `{self.suffix}`"


def find_affixes(names: Collection[str], targets: Collection[str]) -> list[Affix]:
    """The affixes common to all names that turn them into targets; several where each of them would.

    All names must match a target after stripping. Where no name matches a target as it stands, half of the names or of
    the targets suffice, so that a single file without a partner does not prevent the pairing.
    """
    names, targets = set(names), set(targets)
    if names <= targets:
        return []
    required = min(len(names), len(targets)) / 2 if names.isdisjoint(targets) else len(names)
    matches = {affix: len({affix.strip(name) for name in names} & targets) for affix in _candidates(names)}
    best = max(matches.values(), default=0)
    return [affix for affix, count in matches.items() if count == best] if best and best >= required else []


def affixes_of_both(images: Collection[str], masks: Collection[str]) -> tuple[Affix, Affix] | None:
    """The longest affixes of images and of masks whose removal gives both the same names; each contains a letter.

    A pair of affixes that both name a side, such as "_left" and "_right", is rejected: these are different examples.
    """
    if min(len(images), len(masks)) < 2:
        return None
    image_names, mask_names = (
        {
            affix: set(map(affix.strip, names))
            for affix in sorted(_candidates(set(names)), key=lambda affix: -len(affix.text))
            if any(map(str.isalpha, affix.text))
        }
        for names in (images, masks)
    )
    pairs = ((a, b) for a in image_names for b in mask_names if image_names[a] == mask_names[b])
    return next((pair for pair in pairs if not all(affix.text.strip("_-. ").lower() in _SIDES for affix in pair)), None)


def _candidates(names: set[str]) -> Iterator[Affix]:
    """Prefixes and suffixes common to all names that end at a change between letters, digits and punctuation."""
    prefix, suffix = commonprefix(list(names)), commonprefix([name[::-1] for name in names])[::-1]
    shortest = min(map(len, names))
    for end in range(1, min(len(prefix), shortest - 1) + 1):
        if not prefix[:end].isdigit() and all(_is_boundary(name, end) for name in names):
            yield Affix(prefix=prefix[:end])
    for length in range(1, min(len(suffix), shortest - 1) + 1):
        if not suffix[-length:].isdigit() and all(_is_boundary(name, len(name) - length) for name in names):
            yield Affix(suffix=suffix[-length:])


def _is_boundary(name: str, index: int) -> bool:
    """Whether the kind of character changes at this index, or punctuation follows."""
    before, after = (
        (character.isdigit(), character.isupper(), character.isalpha()) for character in (name[index - 1], name[index])
    )
    return before != after or not name[index].isalnum()
