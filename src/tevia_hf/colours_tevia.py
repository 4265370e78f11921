"""The colours of labels in every overlay of a mask on its image."""

# Okabe-Ito colours, distinguishable for colour-blind readers; the first is that of a lesion.
LABEL_COLOURS = [(230, 159, 0), (86, 180, 233), (204, 121, 167), (0, 158, 115), (213, 94, 0), (0, 114, 178)]
FILL_OPACITY = 0.35


def colour_of(label: int) -> tuple[int, int, int]:
    """The RGB colour of a label, from 1."""
    return LABEL_COLOURS[(label - 1) % len(LABEL_COLOURS)]


__all__ = ["FILL_OPACITY", "LABEL_COLOURS", "colour_of"]
