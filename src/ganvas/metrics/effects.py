"""What an edit did to the attributes that a judge reads: to the one asked for, and to all others."""

from __future__ import annotations

import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.metrics.base import Trial, metric, to_readable


@metric(share=True, every_code=True, digits=3)
def success(trial: Trial) -> Tensor:
    """The target was reached (Lesné et al.'s share of correct edits)."""
    return trial.arrived.float()


@metric(judged=True)
def target_change(trial: Trial) -> Tensor:
    """Change of what was asked for, towards the goal, in σ; of several attributes their mean."""
    if trial.towards is None:
        raise GanvasError("This trial doesn't say what was asked for.")
    return (_get_changes(trial) * trial.towards).sum(1) / _nan_for_none(trial.towards.abs().sum())


@metric(judged=True)
def drift(trial: Trial) -> Tensor:
    """Mean |change| of the attributes that weren't asked for, in σ."""
    change = _get_changes(trial)[:, _get_others(trial)].abs()
    return change.mean(1)


@metric(judged=True)
def largest_drift(trial: Trial) -> Tensor:
    """Largest |change| of an attribute that wasn't asked for, in σ."""
    change = _get_changes(trial)[:, _get_others(trial)].abs()
    return change.amax(1) if change.shape[1] else change.new_full((len(change),), torch.nan)


@metric(judged=True)
def unexplained_drift(trial: Trial) -> Tensor:
    """The part of the drift, in σ, that the attributes' correlation with the target doesn't explain.

    Faces whose target differs by t standard deviations differ in another attribute by its correlation with the target times t,
    on average. Of each change the part beyond this counts, and all of one in the other direction.
    """
    if trial.correlation is None or trial.target_change is None:
        raise GanvasError("This trial doesn't say how attributes go with the target.")
    others = _get_others(trial)
    change = _get_changes(trial)[:, others]
    explained = trial.correlation[others][None].to(change) * trial.target_change[:, None].to(change)
    return (change - change.clamp(explained.clamp(max=0), explained.clamp(min=0))).abs().mean(1)


@metric(judged=True, each=True, protocols=("equal",))
def change(trial: Trial) -> Tensor:
    """Signed change of each attribute, in σ; its absolute mean over codes, off the target, is the side effect."""
    return _get_changes(trial)


@metric(judged=True, each=True, protocols=("paper",))
def variation(trial: Trial) -> Tensor:
    """Signed change of each attribute, as a probability: the mean over edits that arrived is a row of equation (7)."""
    return to_readable(trial.scores_after, trial.kinds) - to_readable(trial.scores_before, trial.kinds)


def _get_changes(trial: Trial) -> Tensor:
    if trial.changes is None:
        raise GanvasError("This trial has no normal scores: a judge's scale gives them.")
    return trial.changes


def _get_others(trial: Trial) -> Tensor:
    if trial.others is None:
        raise GanvasError("This trial doesn't say which attributes weren't asked for.")
    return trial.others


def _nan_for_none(count: Tensor) -> Tensor:
    return torch.where(count > 0, count, torch.nan)
