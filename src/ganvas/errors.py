"""The exception for bad input from a user."""

from collections.abc import Iterable
from difflib import get_close_matches


class GanvasError(ValueError):
    """Bad input from a user, such as an unknown name, a number out of range or a damaged file.

    The message is one line: what was wrong, with its value, and what to do. ``GanvasError`` is a ``ValueError``.
    """


def unknown(kind: str, name: object, choices: Iterable[str]) -> GanvasError:
    """Return the error for a name that isn't one of ``choices``, with the most similar one as a hint.

    For example: ``Unknown attribute 'smle': pick one of Smiling, …. Did you mean 'Smiling'?``
    """
    names = list(choices)
    near = get_close_matches(str(name).lower(), [each.lower() for each in names], 1)
    hint = [f" Did you mean {each!r}?" for each in names if [each.lower()] == near]
    return GanvasError(f"Unknown {kind} {str(name)!r}: pick one of {', '.join(names)}.{hint[0] if hint else ''}")
