"""Conditions on attribute values: parse them, and convert them to ranges in an editor's units."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch

from ganvas.editors.base import Editor
from ganvas.errors import GanvasError, unknown
from ganvas.validation import Number

Range = tuple[Number | None, Number | None]
"""The lowest and the highest value that meet a condition; None where that side is open."""
MAX_DEVIATIONS = 6.0
"""The largest deviation of a face: one in a billion has a larger one."""


@dataclass(frozen=True)
class Condition:
    """``low`` ≤ attribute ≤ ``high``, in standard deviations of its Gaussianised score, or as its probability."""

    attribute: str
    low: float | None
    high: float | None
    probability: bool = False


def parse_condition(text: str) -> Condition:
    """Parse a condition: ``Smiling>1``, ``Male=-1``, ``Eyeglasses<0``, ``Young=-1..1``, ``p(Smiling)>0.5``.

    Raises GanvasError for anything else, an empty range, and a probability outside 0 … 1.
    """
    number = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"
    match = re.fullmatch(rf"\s*(p\()?([^<>=()]+?)(\))?\s*([<>]=?|=)\s*{number}(?:\.\.{number})?\s*", text)
    if match is None or (match[1] is None) != (match[3] is None) or (match[6] is not None and match[4] != "="):
        raise GanvasError(f"{text!r} isn't a condition: write Smiling>1, Male=-1, Young=-1..1 or p(Smiling)>0.5.")
    first, last = float(match[5]), float(match[6] or match[5])
    low = first if match[4] in ("=", ">", ">=") else None
    high = last if match[4] in ("=", "<", "<=") else None
    check_range(match[2].strip(), low, high)
    if match[1] and not all(0 <= side <= 1 for side in (first, last)):
        raise GanvasError(f"{text!r} has a probability outside 0 to 1.")
    return Condition(match[2].strip(), low, high, match[1] is not None)


def condition_ranges(conditions: Iterable[Condition], editor: Editor) -> dict[str, Range]:
    """Convert conditions to ranges in the editor's units; several on one attribute must all be met.

    Raises GanvasError for an unknown attribute, an empty range, and the probability of an attribute that has none.
    """
    ranges: dict[str, Range] = {}
    for condition in conditions:
        name = condition.attribute
        column = find_attribute(editor, name)
        low, high = condition.low, condition.high
        if condition.probability:
            if editor.kinds[column] != "probability":
                raise GanvasError(f"Attribute {name!r} is a {editor.kinds[column]}: it has no probability.")
            low, high = (_to_normal_score(editor, column, side) for side in (low, high))
        old = ranges.get(name, (None, None))
        lows, highs = ([s for s in pair if s is not None] for pair in ((old[0], low), (old[1], high)))
        ranges[name] = (max(lows, default=None), min(highs, default=None))
        check_range(name, *ranges[name])
    return ranges


def _to_normal_score(editor: Editor, column: int, probability: float | None) -> float | None:
    """Convert a probability to a normal score; None where it is open, or 0 or 1."""
    if probability is None or not 0 < probability < 1:
        return None
    logit = torch.full((1, 1), math.log(probability / (1 - probability)), dtype=torch.float64)
    return float(editor.gaussianize.select([column])(logit))


def find_attribute(editor: Editor, name: str) -> int:
    """Return the column of an attribute. Raises GanvasError where the editor doesn't have it."""
    if name not in editor.attributes:
        raise unknown("attribute", name, editor.attributes)
    return editor.attributes.index(name)


def check_range(name: str, low: float | None, high: float | None) -> None:
    """Raise GanvasError where a bound isn't finite, both sides are open, or the range is empty."""
    for side in (low, high):
        if side is not None and not math.isfinite(side):
            raise GanvasError(f"The condition on {name!r} must have finite numbers, not {side}.")
    if low is None and high is None:
        raise GanvasError(f"The condition on {name!r} has no bound: give a lowest or a highest value.")
    if low is not None and high is not None and low > high:
        raise GanvasError(f"No face has {name!r} at least {low:g} and at most {high:g}.")


def check_reachable(name: str, low: float | None, high: float | None) -> None:
    """Raise GanvasError where a bound is beyond the deviations that faces have."""
    bound = f"at least {low:g}" if low is not None and low > MAX_DEVIATIONS else None
    bound = f"at most {high:g}" if high is not None and high < -MAX_DEVIATIONS else bound
    if bound:
        raise GanvasError(f"No face has {name!r} {bound}: values go from {-MAX_DEVIATIONS:g} to {MAX_DEVIATIONS:g}.")
