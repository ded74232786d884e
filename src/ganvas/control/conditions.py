"""Conditions on attribute values: as they are written, and as ranges in an editor's units."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ganvas.editors.base import Editor
from ganvas.errors import GanvasError, unknown

Range = tuple[float | None, float | None]
"""The lowest and the highest value that meet a condition; None where that side is open."""
MAX_DEVIATIONS = 6.0
"""Standard deviations within which there are faces at all; one in a billion lies beyond."""


@dataclass(frozen=True)
class Condition:
    """``low`` ≤ attribute ≤ ``high``, in standard deviations of its Gaussianised score, or as its probability."""

    attribute: str
    low: float | None
    high: float | None
    probability: bool = False


def parse_condition(text: str) -> Condition:
    """``Smiling>1``, ``Male=-1``, ``Eyeglasses<0``, ``Young=-1..1``, ``p(Smiling)>0.5``.

    Raises GanvasError for anything else, an empty range, and a probability outside 0 … 1.
    """
    number = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"
    match = re.fullmatch(rf"\s*(p\()?([^<>=()]+?)(\))?\s*([<>]=?|=)\s*{number}(?:\.\.{number})?\s*", text)
    if match is None or (match[1] is None) != (match[3] is None) or (match[6] is not None and match[4] != "="):
        raise GanvasError(f"{text!r} isn't a condition: write Smiling>1, Male=-1, Young=-1..1 or p(Smiling)>0.5.")
    first, last = float(match[5]), float(match[6] or match[5])
    low = first if match[4] in ("=", ">", ">=") else None
    high = last if match[4] in ("=", "<", "<=") else None
    _check(match[2].strip(), low, high)
    if match[1] and not all(0 <= side <= 1 for side in (first, last)):
        raise GanvasError(f"{text!r} asks for a probability outside 0 to 1.")
    return Condition(match[2].strip(), low, high, match[1] is not None)


def condition_ranges(conditions: Iterable[Condition], editor: Editor) -> dict[str, Range]:
    """Conditions as ranges in the editor's units; several on one attribute must all be met.

    Raises GanvasError for an unknown attribute, an empty range, and the probability of what isn't one.
    """
    found: dict[str, Range] = {}
    for condition in conditions:
        name = condition.attribute
        column = _column(editor, name)
        low, high = condition.low, condition.high
        if condition.probability:
            if editor.kinds[column] != "probability":
                raise GanvasError(f"Attribute {name!r} is a {editor.kinds[column]}, it has no probability.")
            low, high = (_normal(editor, column, side) for side in (low, high))
        old = found.get(name, (None, None))
        lows, highs = ([s for s in pair if s is not None] for pair in ((old[0], low), (old[1], high)))
        found[name] = (max(lows, default=None), min(highs, default=None))
        _check(name, *found[name])
    return found


def _normal(editor: Editor, column: int, probability: float | None) -> float | None:
    """A probability as a normal score; None where it's open, or 0 or 1."""
    if probability is None or not 0 < probability < 1:
        return None
    logit = torch.full((1, 1), math.log(probability / (1 - probability)), dtype=torch.float64)
    return float(editor.gaussianize.select([column])(logit))


def _column(editor: Editor, name: str) -> int:
    if name not in editor.attributes:
        raise unknown("attribute", name, editor.attributes)
    return editor.attributes.index(name)


def _check(name: str, low: float | None, high: float | None) -> None:
    for side in (low, high):
        if side is not None and not math.isfinite(side):
            raise GanvasError(f"The condition on {name!r} must have finite numbers, not {side}.")
    if low is None and high is None:
        raise GanvasError(f"The condition on {name!r} is none: both sides are open.")
    if low is not None and high is not None and low > high:
        raise GanvasError(f"No face has {name!r} at least {low:g} and at most {high:g}.")


def _check_reach(name: str, low: float | None, high: float | None) -> None:
    """Raises GanvasError where no face is as the condition asks."""
    asked = f"at least {low:g}" if low is not None and low > MAX_DEVIATIONS else None
    asked = f"at most {high:g}" if high is not None and high < -MAX_DEVIATIONS else asked
    if asked:
        raise GanvasError(f"No face has {name!r} {asked}: it goes from {-MAX_DEVIATIONS:g} to {MAX_DEVIATIONS:g}.")
