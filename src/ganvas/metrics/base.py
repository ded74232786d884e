"""The trial that a metric takes, and the decorator that registers one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.data.distribution import Distribution
from ganvas.errors import GanvasError, unknown
from ganvas.types import Scores, WPlus


@dataclass(frozen=True)
class Trial:
    """``n`` codes whose ``attribute`` was edited, as one judge scores their pictures before and after."""

    attribute: str
    attributes: tuple[str, ...]
    """Names of the columns of the scores."""
    kinds: tuple[str, ...]
    before: WPlus
    after: WPlus
    scores_before: Scores
    scores_after: Scores
    arrived: Tensor
    """(n,) bool: the target was reached, within bounds."""
    strengths: Tensor
    """(n,) the changes that were made, in the units of ``Editor.edit``."""
    stopped: Tensor | None = None
    """(n,) bool: not arrived, because the typical set's bound stopped the edit before the largest strength."""
    renders: Tensor | None = None
    """(n,) pictures rendered to find the strength."""
    faces_before: Tensor | None = None
    faces_after: Tensor | None = None
    """(n, d) face embeddings before and after, None where they weren't computed; nan rows where no face was detected."""
    changes: Tensor | None = None
    """(n, attributes) signed changes of the judge's normal scores, in σ."""
    towards: Tensor | None = None
    """(attributes,) 1 or -1, the direction asked for, of what the edit asks of this judge's attributes; 0 of others."""
    others: Tensor | None = None
    """(attributes,) bool: neither asked for nor entailed, under any name."""
    correlation: Tensor | None = None
    """(attributes,) correlation of each normal score with the target's, over fresh faces."""
    target_change: Tensor | None = None
    """(n,) signed change of the target as the labels' scorer reads it, in σ."""
    typical_set: Distribution | None = None

    def __len__(self) -> int:
        return len(self.arrived)

    @property
    def column(self) -> int:
        """The column of the edited attribute. Raises GanvasError where the scores have none."""
        if self.attribute not in self.attributes:
            raise unknown("attribute", self.attribute, self.attributes)
        return self.attributes.index(self.attribute)


@dataclass(frozen=True)
class Metric:
    """A registered metric; ``metric`` says what its fields mean."""

    name: str
    function: Callable[[Trial], Tensor]
    text: str
    judged: bool
    each: bool
    share: bool
    every_code: bool
    digits: int
    protocols: tuple[str, ...]


METRICS: dict[str, Metric] = {}
"""Registered metrics by name; ``ganvas.metrics.list_metrics`` imports all modules first."""


def metric(
    *,
    judged: bool = False,
    each: bool = False,
    share: bool = False,
    every_code: bool = False,
    digits: int = 2,
    protocols: tuple[str, ...] = (),
) -> Callable[[Callable[[Trial], Tensor]], Callable[[Trial], Tensor]]:
    """Register a function under its name, with its docstring's first line as the text that reports show.

    Args:
        judged: It reads scores, so that each judge has its own values; others are measured once a trial.
        each: It returns (n, attributes), one value for each of the judge's attributes.
        share: Its values are 0 and 1, so that their mean is a proportion.
        every_code: Its mean is over all codes that were tried, not only over those that reached the target.
        digits: Decimals in reports.
        protocols: The protocols that it is measured in (``ganvas.evaluation.protocols``); () for all.

    Returns:
        A decorator that returns the function itself.

    Raises:
        GanvasError: Where another function has the name.
    """

    def register(function: Callable[[Trial], Tensor]) -> Callable[[Trial], Tensor]:
        name, text = function.__name__, (function.__doc__ or "").strip().partition("\n")[0]
        known_function = METRICS[name].function if name in METRICS else function
        if (known_function.__module__, known_function.__qualname__) != (function.__module__, function.__qualname__):
            raise GanvasError(
                f"There are two metrics {name!r}, in {known_function.__module__} and {function.__module__}."
            )
        METRICS[name] = Metric(name, function, text, judged, each, share, every_code, digits, protocols)
        return function

    return register


def to_readable(scores: Scores, kinds: tuple[str, ...]) -> Scores:
    """Convert logits to probabilities and leave scores of other kinds as they are."""
    is_probability = torch.tensor([kind == "probability" for kind in kinds], device=scores.device)
    return torch.where(is_probability, torch.sigmoid(scores), scores)
