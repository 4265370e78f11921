"""Range checks of numeric options: each returns the value, or raises `ValueError` with the allowed range.

"`threshold` is 50: give a number from 0 to 1, e.g. 0.5." NaN, infinity, True and text are not numbers.
"""

import math
import re
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

MAX_SEED = 2**32 - 1  # NumPy's limit


def check_share(name: str, value: Any, example: str = "0.5") -> float:
    """A number from 0 to 1, both included."""
    return _checked(name, value, _is_real(value) and 0 <= value <= 1, f"a number from 0 to 1, e.g. {example}")


def check_share_below_one(name: str, value: Any, example: str = "0.9") -> float:
    """A number from 0, below 1."""
    return _checked(name, value, _is_real(value) and 0 <= value < 1, f"a number from 0 on, below 1, e.g. {example}")


def check_share_above_zero(name: str, value: Any, example: str = "0.75") -> float:
    """A number above 0 and up to 1."""
    return _checked(name, value, _is_real(value) and 0 < value <= 1, f"a number above 0, up to 1, e.g. {example}")


def check_positive(name: str, value: Any, example: str = "1") -> float:
    """A finite number above 0."""
    return _checked(name, value, _is_real(value) and value > 0, f"a number above 0, e.g. {example}")


def check_not_negative(name: str, value: Any, example: str = "0.1") -> float:
    """A finite number, at least 0."""
    return _checked(name, value, _is_real(value) and value >= 0, f"a number from 0 on, e.g. {example}")


def check_number(name: str, value: Any, example: str = "1") -> float:
    """A finite number."""
    return _checked(name, value, _is_real(value), f"a finite number, e.g. {example}")


def check_count(name: str, value: Any, example: str = "16", least: int = 1, most: int | None = None) -> int:
    """An integer of at least `least` and at most `most`."""
    is_right = _is_whole(value) and least <= value and (most is None or value <= most)
    bound = "on" if most is None else f"to {most}"
    return _checked(name, value, is_right, f"a whole number from {least} {bound}, e.g. {example}")


def check_seed(name: str, value: Any) -> int:
    """An integer that can seed a random generator."""
    return check_count(name, value, example="0", least=0, most=MAX_SEED)


def number_from(text: str) -> int | float | str:
    """The number in a text; other text unchanged, which every check rejects."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _is_real(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def check_choice(what: str, value: str, choices: Iterable[str]) -> None:
    """Raises `ValueError` that lists the choices unless `value` is one of them."""
    if value not in choices:
        raise ValueError(f"{what} is '{value}'. Choose one of: {', '.join(choices)}.")


def _checked(name: str, value: Any, is_right: bool, allowed: str) -> Any:
    if is_right:
        return value
    if isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d*,\d+\s*", value):
        allowed = f"{value.strip().replace(',', '.')}, with a decimal point; allowed is {allowed}"
    shown = repr(value) if isinstance(value, str) else value
    raise ValueError(f"`{name}` is {shown}: give {allowed}.")


__all__ = [
    "check_choice",
    "check_count",
    "check_not_negative",
    "check_number",
    "check_positive",
    "check_seed",
    "check_share",
    "check_share_above_zero",
    "check_share_below_one",
    "number_from",
]
