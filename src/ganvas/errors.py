"""The exception for bad input from a user."""

from collections.abc import Iterable
from difflib import get_close_matches
from textwrap import shorten


class GanvasError(ValueError):
    """Bad input from a user, such as an unknown name, a number out of range or a damaged file.

    The message is one line: what was wrong, with its value, and what to do. ``GanvasError`` is a ``ValueError``.
    """


def unknown(kind: str, name: object, choices: Iterable[str]) -> GanvasError:
    """Return the error for a name that isn't one of ``choices``, with the most similar one as a hint.

    For example: ``Unknown attribute 'smle': pick one of Smiling, …. Did you mean 'Smiling'?``
    """
    names, given = list(choices), shorten(str(name), 80, placeholder="…")
    near = get_close_matches(given.lower(), [each.lower() for each in names], 1)
    hint = [f" Did you mean {each!r}?" for each in names if [each.lower()] == near]
    return GanvasError(f"Unknown {kind} {given!r}: pick one of {', '.join(names)}.{hint[0] if hint else ''}")
