"""What requests give: read and checked here, since anybody may send anything."""

from __future__ import annotations

from typing import Any

from ganvas.errors import GanvasError

MOST_TEXT = 200
"""Characters of a name, or of what is searched for."""
MOST_NAMES = 100


def number(what: str, value: Any, low: float, high: float) -> float:
    """A finite number between two. Raises GanvasError for anything else."""
    if type(value) not in (int, float) or not low <= value <= high:
        raise GanvasError(f"{what} takes a finite number from {low:g} to {high:g}, not {repr(value)[:MOST_TEXT]}.")
    return float(value)


def whole_number(what: str, value: Any, low: int, high: int) -> int:
    """A whole number between two. Raises GanvasError for anything else."""
    found = number(what, value, low, high)
    if found != int(found):
        raise GanvasError(f"{what} takes a whole number, not {value:g}.")
    return int(found)


def text(what: str, value: Any) -> str:
    """A line of text. Raises GanvasError for anything else."""
    if not isinstance(value, str) or len(value) > MOST_TEXT:
        raise GanvasError(f"{what} takes a text of {MOST_TEXT} characters at most.")
    return value


def names(what: str, value: Any) -> list[str]:
    """Names, each once; none of them for None. Raises GanvasError for anything else."""
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MOST_NAMES:
        raise GanvasError(f"{what} takes a list of {MOST_NAMES} names at most.")
    return list(dict.fromkeys(text(what, name) for name in value))
