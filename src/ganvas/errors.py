"""The one exception that a user's input can raise."""

from collections.abc import Iterable


class GanvasError(ValueError):
    """Bad input, said in one line: what was wrong, with its value, and what is possible."""


def unknown(kind: str, name: object, known: Iterable[str]) -> GanvasError:
    """The error for a name that nothing has: ``Unknown attribute 'smle': pick one of Smiling, …``."""
    return GanvasError(f"Unknown {kind} {str(name)!r}: pick one of {', '.join(known)}.")
