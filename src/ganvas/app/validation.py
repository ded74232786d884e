"""Check the values in requests, which anybody may send."""

from __future__ import annotations

from typing import Any

from ganvas.errors import GanvasError

MAX_TEXT_LENGTH = 200
"""Characters of a name or a search."""
MAX_NAMES = 100


def check_number(what: str, value: Any, low: float, high: float) -> float:
    """Return a finite number between two. Raises GanvasError for anything else."""
    if type(value) not in (int, float) or not low <= value <= high:
        raise GanvasError(
            f"{what} takes a finite number from {low:g} to {high:g}, not {repr(value)[:MAX_TEXT_LENGTH]}."
        )
    return float(value)


def check_integer(what: str, value: Any, low: int, high: int) -> int:
    """Return a whole number between two. Raises GanvasError for anything else."""
    number = check_number(what, value, low, high)
    if number != int(number):
        raise GanvasError(f"{what} takes a whole number, not {value:g}.")
    return int(number)


def check_text(what: str, value: Any) -> str:
    """Return a line of text. Raises GanvasError for anything else."""
    if not isinstance(value, str) or len(value) > MAX_TEXT_LENGTH:
        raise GanvasError(f"{what} takes a text of {MAX_TEXT_LENGTH} characters at most.")
    return value


def check_names(what: str, value: Any) -> list[str]:
    """Return names without repetitions, none for None. Raises GanvasError for anything else."""
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_NAMES:
        raise GanvasError(f"{what} takes a list of {MAX_NAMES} names at most.")
    return list(dict.fromkeys(check_text(what, name) for name in value))
