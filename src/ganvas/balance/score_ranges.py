"""Conditions as ranges of a scorer's scores, to tell which pictures meet them.

For a count they are in objects (``count=4``, ``digit_7>=1``), ``p(Smiling)>0.9`` is a probability, and everything else is in
standard deviations of an editor's normal score, as for sampling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch

from ganvas.control.conditions import Condition
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.scorers.base import Scorer

VALUE_TOLERANCE_SIGMA = 0.25
"""How near, in standard deviations, a score must come to a condition's single value."""


@dataclass(frozen=True)
class ScoreRanges:
    """The range of each attribute, in the scorer's own units: objects for counts, logits for probabilities."""

    ranges: Mapping[str, tuple[float, float]]

    def find_failed(self, scores: Mapping[str, float]) -> str | None:
        """Find the first attribute whose score is outside its range; None where there is none."""
        for name, (low, high) in self.ranges.items():
            if not low <= scores[name] <= high:
                return name
        return None


def score_ranges(conditions: Iterable[Condition], scorer: Scorer, editor: Editor | None) -> ScoreRanges:
    """Convert conditions to the scorer's units; several on one attribute must all be met.

    Raises GanvasError for an attribute that the scorer doesn't have, one in standard deviations that no editor knows,
    and ranges that are empty.
    """
    ranges: dict[str, tuple[float, float]] = {}
    for condition in conditions:
        low, high = _convert_to_scores(condition, scorer, editor)
        old = ranges.get(condition.attribute, (-math.inf, math.inf))
        ranges[condition.attribute] = (max(low, old[0]), min(high, old[1]))
        if ranges[condition.attribute][0] > ranges[condition.attribute][1]:
            raise GanvasError(
                f"No picture can meet all conditions on {condition.attribute!r}: they exclude each other."
            )
    return ScoreRanges(ranges)


def _convert_to_scores(condition: Condition, scorer: Scorer, editor: Editor | None) -> tuple[float, float]:
    name, low, high = condition.attribute, condition.low, condition.high
    kind = scorer.kinds[scorer.column(name)]
    if condition.probability:
        if kind != "probability":
            raise GanvasError(f"Attribute {name!r} is a {kind}, it has no probability.")
        return _to_logit(low, -math.inf), _to_logit(high, math.inf)
    if kind == "count":
        # A bound like 2.5 lies between two counts.
        empty = low is not None and high is not None and math.ceil(low) > math.floor(high)
        if empty:
            raise GanvasError(f"A count is a whole number: no picture has {name!r} from {low:g} to {high:g}.")
        return (-math.inf if low is None else low), (math.inf if high is None else high)
    if editor is None or name not in editor.attributes:
        raise GanvasError(
            f"{name!r} in standard deviations needs an editor that has it: give one, or write p({name})>0.5."
        )
    if low is not None and low == high:
        low, high = low - VALUE_TOLERANCE_SIGMA, low + VALUE_TOLERANCE_SIGMA
    knots = editor.gaussianize.select([editor.attributes.index(name)])
    sides = (None if s is None else float(knots.inverse(torch.tensor([[s]], dtype=torch.float64))) for s in (low, high))
    first, last = sides
    return (-math.inf if first is None else first), (math.inf if last is None else last)


def _to_logit(probability: float | None, otherwise: float) -> float:
    if probability is None:
        return otherwise
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))
