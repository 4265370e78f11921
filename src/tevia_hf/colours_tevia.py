"""How masks are shown: one colour for each label, wherever a mask is laid over its image."""

# Okabe-Ito colours, distinct for colour-blind readers too; the first is that of a lesion.
LABEL_COLOURS = [(230, 159, 0), (86, 180, 233), (204, 121, 167), (0, 158, 115), (213, 94, 0), (0, 114, 178)]
FILL_OPACITY = 0.35


def colour_of(label: int) -> tuple[int, int, int]:
    """The colour, in RGB, of a label from 1."""
    return LABEL_COLOURS[(label - 1) % len(LABEL_COLOURS)]


__all__ = ["FILL_OPACITY", "LABEL_COLOURS", "colour_of"]
