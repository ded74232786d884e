"""What an edit did beside its target, as a judge sees it: one value a code, in standard deviations of normal scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ganvas.evaluation.judges import JudgeScale


def mean_drift(ruler: JudgeScale, before: Tensor, after: Tensor, edited: Sequence[str]) -> Tensor:
    """(n,): the mean |change| of all attributes but the edited ones; nan where this judge sees no others."""
    change = _others(ruler, before, after, edited)
    return change.mean(1) if change.shape[1] else change.new_full((len(change),), torch.nan)


def largest_drift(ruler: JudgeScale, before: Tensor, after: Tensor, edited: Sequence[str]) -> Tensor:
    """(n,): the largest |change| of the other attributes."""
    change = _others(ruler, before, after, edited)
    return change.amax(1) if change.shape[1] else change.new_full((len(change),), torch.nan)


def unexplained_drift(
    ruler: JudgeScale, before: Tensor, after: Tensor, target: Tensor, place: int, edited: Sequence[str]
) -> Tensor:
    """(n,): the drift that correlation doesn't explain.

    Faces whose target differs by ``target`` (n,) standard deviations differ in another attribute by its correlation with
    the target times that, on average. What a change has beyond this is averaged, and all of one that goes the other way.
    ``place``: the target's row in ``Ruler.correlation``.
    """
    others = ruler.others(edited)
    change = ruler.change(before, after)[:, others]
    explained = ruler.correlation[place, others][None] * target[:, None]
    left = change - change.clamp(explained.clamp(max=0), explained.clamp(min=0))
    left = left.abs()
    return left.mean(1) if left.shape[1] else left.new_full((len(left),), torch.nan)


def target_change(ruler: JudgeScale, before: Tensor, after: Tensor, attribute: str) -> Tensor:
    """(n,): how far the target itself moved for this judge, under its own or another name; nan where it isn't seen."""
    found = ruler.twin(attribute)
    if found is None:
        return torch.full((len(before),), torch.nan)
    place, sign = found
    return ruler.change(before, after)[:, place] * sign


def _others(ruler: JudgeScale, before: Tensor, after: Tensor, edited: Sequence[str]) -> Tensor:
    return ruler.change(before, after)[:, ruler.others(edited)].abs()
