"""The ending or beginning that all names of one kind add to those of another, such as "_segmentation" of masks."""

from collections.abc import Collection, Iterator
from os.path import commonprefix
from typing import NamedTuple

_SIDES = {"left", "right", "l", "r", "od", "os", "pre", "post"}


class Affix(NamedTuple):
    """What names begin or end in; as text, how people call it."""

    prefix: str = ""
    suffix: str = ""

    def strip(self, name: str) -> str:
        """The name without it; one that does not have it, or is nothing else, stays."""
        has_it = name.startswith(self.prefix) and name.endswith(self.suffix)
        inside = name.removeprefix(self.prefix).removesuffix(self.suffix)
        return inside if has_it and inside else name

    @property
    def text(self) -> str:
        return self.prefix or self.suffix

    def __str__(self) -> str:
        return f"the beginning `{self.prefix}`" if self.prefix else f"the ending `{self.suffix}`"


def find_affixes(names: Collection[str], wanted: Collection[str]) -> list[Affix]:
    """What all names have in common and without which they are wanted ones; several where either would do.

    All names must then be wanted, or, where none is as it stands, half of them or of the wanted: a file without
    a partner does not part the others.
    """
    names, wanted = set(names), set(wanted)
    if names <= wanted:
        return []
    enough = min(len(names), len(wanted)) / 2 if names.isdisjoint(wanted) else len(names)
    fits = {affix: len({affix.strip(name) for name in names} & wanted) for affix in _candidates(names)}
    best = max(fits.values(), default=0)
    return [affix for affix, count in fits.items() if count == best] if best and best >= enough else []


def affixes_of_both(images: Collection[str], masks: Collection[str]) -> tuple[Affix, Affix] | None:
    """The longest affixes, each with a letter, without which all images and all masks have the same names.

    Two that name sides of a patient part what differs.
    """
    if min(len(images), len(masks)) < 2:
        return None
    of_images, of_masks = (
        {
            affix: set(map(affix.strip, names))
            for affix in sorted(_candidates(set(names)), key=lambda affix: -len(affix.text))
            if any(map(str.isalpha, affix.text))
        }
        for names in (images, masks)
    )
    pairs = ((a, b) for a in of_images for b in of_masks if of_images[a] == of_masks[b])
    return next((pair for pair in pairs if not all(affix.text.strip("_-. ").lower() in _SIDES for affix in pair)), None)


def _candidates(names: set[str]) -> Iterator[Affix]:
    """Beginnings and endings common to all names, up to where letters, digits or marks change."""
    prefix, suffix = commonprefix(list(names)), commonprefix([name[::-1] for name in names])[::-1]
    shortest = min(map(len, names))
    for end in range(1, min(len(prefix), shortest - 1) + 1):
        if not prefix[:end].isdigit() and all(_is_boundary(name, end) for name in names):
            yield Affix(prefix=prefix[:end])
    for length in range(1, min(len(suffix), shortest - 1) + 1):
        if not suffix[-length:].isdigit() and all(_is_boundary(name, len(name) - length) for name in names):
            yield Affix(suffix=suffix[-length:])


def _is_boundary(name: str, place: int) -> bool:
    """Whether the kind of letter changes there, or a mark follows."""
    before, after = (
        (letter.isdigit(), letter.isupper(), letter.isalpha()) for letter in (name[place - 1], name[place])
    )
    return before != after or not name[place].isalnum()
