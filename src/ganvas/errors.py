"""The one exception that a user's input can raise."""

from collections.abc import Iterable
from difflib import get_close_matches


class GanvasError(ValueError):
    """Bad input, said in one line: what was wrong, with its value, and what is possible."""


def unknown(kind: str, name: object, known: Iterable[str]) -> GanvasError:
    """The error for a name that nothing has: ``Unknown attribute 'smle': pick one of Smiling, …. Did you mean 'Smiling'?``"""
    names = list(known)
    near = get_close_matches(str(name).lower(), [each.lower() for each in names], 1)
    hint = [f" Did you mean {each!r}?" for each in names if [each.lower()] == near]
    return GanvasError(f"Unknown {kind} {str(name)!r}: pick one of {', '.join(names)}.{hint[0] if hint else ''}")
