"""Tables in LaTeX."""

from collections.abc import Sequence
from typing import Any

ESCAPED: dict[str, str] = {character: f"\\{character}" for character in "&%$#_{}"}
ESCAPED |= {"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"}
ESCAPED |= {"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}  # other characters in the encoding OT1


def latex_text(text: Any) -> str:
    """The text on one line with the characters escaped that LaTeX reads otherwise."""
    line = " ".join(str(text).split()).translate({ord(character): escaped for character, escaped in ESCAPED.items()})
    return f"{{}}{line}" if line.startswith(("[", "*")) else line  # which would be arguments of the `\\` before them


def booktabs(header: Sequence[str], rows: Sequence[Sequence[str]], text_columns: int, note: str) -> str:
    """A tabular with the rules of the package booktabs and a note below, of header, cells and note in LaTeX.

    Args:
        text_columns: number of leading columns that hold text; the others are right-aligned.
    """
    import pandas as pd

    frame = pd.DataFrame([list(row) for row in rows], columns=list(header))
    columns = "l" * text_columns + "r" * (len(header) - text_columns)
    table = frame.style.hide(axis="index").to_latex(hrules=True, column_format=columns)
    return f"% \\usepackage{{booktabs}}\n{table}\n\\par\\smallskip\n{{\\footnotesize {note}\\par}}"
