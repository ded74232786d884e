"""Side effects of edits as a judge reads them: one value a code, in standard deviations of the judge's normal scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ganvas.evaluation.judges import JudgeScale


def mean_drift(scale: JudgeScale, before: Tensor, after: Tensor, edited: Sequence[str]) -> Tensor:
    """Average |change| over all attributes but the edited ones, (n,); nan where this judge has no others."""
    change = _measure_others(scale, before, after, edited)
    return change.mean(1) if change.shape[1] else change.new_full((len(change),), torch.nan)


def largest_drift(scale: JudgeScale, before: Tensor, after: Tensor, edited: Sequence[str]) -> Tensor:
    """Return the largest |change| of the other attributes, (n,); nan where this judge has no others."""
    change = _measure_others(scale, before, after, edited)
    return change.amax(1) if change.shape[1] else change.new_full((len(change),), torch.nan)


def unexplained_drift(
    scale: JudgeScale, before: Tensor, after: Tensor, target: Tensor, place: int, edited: Sequence[str]
) -> Tensor:
    """Return the drift that correlation doesn't explain, (n,).

    Faces whose target differs by ``target`` (n,) standard deviations differ in another attribute by its correlation with
    the target times that, on average. The part of each change beyond this is averaged, and all of one in the other
    direction. ``place``: the target's row in ``JudgeScale.correlation``.
    """
    others = scale.mask_others(edited)
    change = scale.measure_change(before, after)[:, others]
    explained = scale.correlation[place, others][None] * target[:, None]
    left = change - change.clamp(explained.clamp(max=0), explained.clamp(min=0))
    left = left.abs()
    return left.mean(1) if left.shape[1] else left.new_full((len(left),), torch.nan)


def target_change(scale: JudgeScale, before: Tensor, after: Tensor, attribute: str) -> Tensor:
    """Return the change of the target for this judge, under its own or another name, (n,); nan where the judge lacks it."""
    match = scale.find_attribute(attribute)
    if match is None:
        return torch.full((len(before),), torch.nan)
    place, sign = match
    return scale.measure_change(before, after)[:, place] * sign


def _measure_others(scale: JudgeScale, before: Tensor, after: Tensor, edited: Sequence[str]) -> Tensor:
    return scale.measure_change(before, after)[:, scale.mask_others(edited)].abs()
