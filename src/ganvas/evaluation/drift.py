"""What an edit did beside its target, as a judge sees it: one value a code, in standard deviations of normal scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ganvas.evaluation.judges import JudgeScale


def mean_drift(scale: JudgeScale, before: Tensor, after: Tensor, edited: Sequence[str]) -> Tensor:
    """(n,): the mean |change| of all attributes but the edited ones; nan where this judge sees no others."""
    change = _others(scale, before, after, edited)
    return change.mean(1) if change.shape[1] else change.new_full((len(change),), torch.nan)


def largest_drift(scale: JudgeScale, before: Tensor, after: Tensor, edited: Sequence[str]) -> Tensor:
    """(n,): the largest |change| of the other attributes."""
    change = _others(scale, before, after, edited)
    return change.amax(1) if change.shape[1] else change.new_full((len(change),), torch.nan)


def unexplained_drift(
    scale: JudgeScale, before: Tensor, after: Tensor, target: Tensor, place: int, edited: Sequence[str]
) -> Tensor:
    """(n,): the drift that correlation doesn't explain.

    Faces whose target differs by ``target`` (n,) standard deviations differ in another attribute by its correlation with
    the target times that, on average. What a change has beyond this is averaged, and all of one that goes the other way.
    ``place``: the target's row in ``Ruler.correlation``.
    """
    others = scale.mask_others(edited)
    change = scale.measure_change(before, after)[:, others]
    explained = scale.correlation[place, others][None] * target[:, None]
    left = change - change.clamp(explained.clamp(max=0), explained.clamp(min=0))
    left = left.abs()
    return left.mean(1) if left.shape[1] else left.new_full((len(left),), torch.nan)


def target_change(scale: JudgeScale, before: Tensor, after: Tensor, attribute: str) -> Tensor:
    """(n,): how far the target itself moved for this judge, under its own or another name; nan where it isn't seen."""
    found = scale.find_attribute(attribute)
    if found is None:
        return torch.full((len(before),), torch.nan)
    place, sign = found
    return scale.measure_change(before, after)[:, place] * sign


def _others(scale: JudgeScale, before: Tensor, after: Tensor, edited: Sequence[str]) -> Tensor:
    return scale.measure_change(before, after)[:, scale.mask_others(edited)].abs()
