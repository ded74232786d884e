"""Conditions on attribute values: parse them, and convert them to ranges in the units of an editor or a scorer."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import replace

import torch

from ganvas.editors.base import Editor
from ganvas.errors import GanvasError, unknown
from ganvas.scorers.base import Scorer
from ganvas.validation import Flag, Number, validated

Range = tuple[Number | None, Number | None]
"""The lowest and the highest value that meet a condition; None where that side is open."""
MAX_DEVIATIONS = 6.0
"""The largest deviation of a face: one in a billion has a larger one."""
VALUE_TOLERANCE_SIGMA = 0.25
"""How near, in standard deviations, a score must come to a condition's single value."""
RANGE_MARGIN_SIGMA = 0.25
"""How far, in standard deviations, an edit goes into a range, at most to its middle: at its border half of the pictures
miss it."""


@validated
class Condition:
    """``low`` ≤ attribute ≤ ``high``, in standard deviations of its Gaussianised score, or as its probability."""

    attribute: str
    low: Number | None
    high: Number | None
    probability: Flag = False

    def __post_init__(self) -> None:
        check_range(self.attribute, self.low, self.high)
        if self.probability and not all(0 <= side <= 1 for side in (self.low, self.high) if side is not None):
            raise GanvasError(f"A probability of {self.attribute!r} lies outside 0 to 1.")


def parse_condition(text: str) -> Condition:
    """Parse a condition: ``Smiling>1``, ``Male=-1``, ``Eyeglasses<0``, ``Young=-1..1``, ``p(Smiling)>0.5``.

    Raises GanvasError for anything else, an empty range, and a probability outside 0 … 1.
    """
    number = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"
    match = re.fullmatch(rf"\s*(p\()?([^<>=()]+?)(\))?\s*([<>]=?|=)\s*{number}(?:\.\.{number})?\s*", text)
    if match is None or (match[1] is None) != (match[3] is None) or (match[6] is not None and match[4] != "="):
        raise GanvasError(
            f"{text!r} isn't a condition: write Smiling>1, Male=-1, Young=-1..1, p(Smiling)>0.5 or, of an"
            " attribute with a unit, Age>60y."
        )
    first, last = float(match[5]), float(match[6] or match[5])
    low = first if match[4] in ("=", ">", ">=") else None
    high = last if match[4] in ("=", "<", "<=") else None
    return Condition(match[2].strip(), low, high, match[1] is not None)


def compute_condition_ranges(conditions: Iterable[Condition], editor: Editor) -> dict[str, Range]:
    """Convert conditions to ranges in the editor's units; several on one attribute must all be met.

    Raises GanvasError for an unknown attribute, an empty range, and the probability of an attribute that has none.
    """
    ranges: dict[str, Range] = {}
    for condition in conditions:
        name, low, high = condition.attribute, condition.low, condition.high
        column = find_attribute(editor, name)
        if condition.probability:
            _check_probability(name, editor.kinds[column])
            low, high = (
                None if s in (None, 0, 1) else convert_to_normal_score(editor, column, _to_logit(s))
                for s in (low, high)
            )
        ranges[name] = _intersect(ranges.get(name, (None, None)), (low, high))
        check_range(name, *ranges[name])
    return ranges


def compute_object_ranges(conditions: Iterable[Condition], editor: Editor, counts_objects: bool) -> dict[str, Range]:
    """Convert conditions on pictures, which state counts in objects, to ranges in the editor's units, as far as it has them.

    ``counts_objects``: the editor reads counts in objects, too; most editors read them as normal scores.
    """
    usable = []
    for condition in conditions:
        if condition.attribute in editor.attributes:
            column = editor.attributes.index(condition.attribute)
            if editor.kinds[column] == "count":
                low = None if condition.low is None else math.ceil(condition.low)
                high = None if condition.high is None else math.floor(condition.high)
                if not counts_objects:
                    low, high = (
                        None if side is None else convert_to_normal_score(editor, column, side) for side in (low, high)
                    )
                condition = replace(condition, low=low, high=high)
            usable.append(condition)
    return compute_condition_ranges(usable, editor)


def compute_score_ranges(
    conditions: Iterable[Condition], scorer: Scorer, editor: Editor | None
) -> dict[str, tuple[float, float]]:
    """Convert conditions on pictures to ranges in the scorer's units, objects or logits; an open side is infinite.

    Conditions on a count are in objects, others in standard deviations of the editor's normal score, or probabilities;
    several on one attribute must all be met. Raises GanvasError for an attribute that the scorer doesn't have, one in
    standard deviations that no editor knows, and ranges that are empty.
    """
    ranges: dict[str, Range] = {}
    for condition in conditions:
        name = condition.attribute
        low, high = _intersect(ranges.get(name, (None, None)), _to_scores(condition, scorer, editor))
        if low is not None and high is not None and low > high:
            raise GanvasError(f"No picture can meet all conditions on {name!r}: they exclude each other.")
        ranges[name] = low, high
    return {
        name: (-math.inf if low is None else low, math.inf if high is None else high)
        for name, (low, high) in ranges.items()
    }


def _to_scores(condition: Condition, scorer: Scorer, editor: Editor | None) -> Range:
    name, low, high = condition.attribute, condition.low, condition.high
    kind = scorer.kinds[scorer.column(name)]
    if condition.probability:
        _check_probability(name, kind)
        low, high = (None if side is None else _to_logit(side) for side in (low, high))
    elif kind == "count":
        # A bound like 2.5 lies between two counts.
        if low is not None and high is not None and math.ceil(low) > math.floor(high):
            raise GanvasError(f"A count is a whole number: no picture has {name!r} from {low:g} to {high:g}.")
    elif editor is None or name not in editor.attributes:
        raise GanvasError(
            f"{name!r} in standard deviations needs an editor that has it: give one, or write p({name})>0.5."
        )
    else:
        if low is not None and low == high:
            low, high = low - VALUE_TOLERANCE_SIGMA, low + VALUE_TOLERANCE_SIGMA
        inverse = editor.gaussianize.select([editor.attributes.index(name)]).inverse
        sides = [None if s is None else float(inverse(torch.tensor([[s]], dtype=torch.float64))) for s in (low, high)]
        low, high = sides
    return low, high


def aim_inside(reading: float, low: float | None, high: float | None, margin: float = RANGE_MARGIN_SIGMA) -> float:
    """Return where an edit should bring a reading: into its range by ``margin``, at most to its middle; nowhere if inside."""
    if low is not None and high is not None:
        margin = min(margin, (high - low) / 2)
    if low is not None and reading < low:
        return low + margin
    return high - margin if high is not None and reading > high else reading


def convert_to_normal_score(editor: Editor, column: int, score: float) -> float:
    """Convert a score to the editor's normal score."""
    return float(editor.gaussianize.select([column])(torch.tensor([[score]], dtype=torch.float64)))


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


def _check_probability(name: str, kind: str) -> None:
    if kind != "probability":
        raise GanvasError(f"Attribute {name!r} is a {kind}: it has no probability.")


def _intersect(first: Range, second: Range) -> Range:
    lows, highs = ([side for side in pair if side is not None] for pair in zip(first, second, strict=True))
    return max(lows, default=None), min(highs, default=None)


def _to_logit(probability: float) -> float:
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))
