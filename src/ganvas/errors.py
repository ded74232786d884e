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

    For example: ``Unknown attribute 'smle': did you mean 'Smiling'? Pick one of Smiling, ….``
    """
    names, given = list(choices), shorten(str(name), 80, placeholder="…")
    # A name that has what was given as a part is nearer than one of similar letters: "glasses" means Eyeglasses.
    parts = [each.lower() for each in names if len(given) > 2 and given.lower() in each.lower()]
    near = [min(parts, key=len)] if parts else get_close_matches(given.lower(), [each.lower() for each in names], 1)
    hint = next((f"did you mean {each!r}? Pick" for each in names if [each.lower()] == near), "pick")
    return GanvasError(f"Unknown {kind} {given!r}: {hint} one of {', '.join(names)}.")
