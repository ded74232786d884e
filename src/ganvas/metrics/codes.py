"""How far an edit moved codes, and whether they stayed in the typical set of W."""

from __future__ import annotations

import torch
from torch import Tensor

from ganvas.data.distribution import Distribution
from ganvas.errors import GanvasError
from ganvas.metrics.base import Trial, metric


@metric()
def strength(trial: Trial) -> Tensor:
    """The change that was asked of the editor, signed, in its own units."""
    return trial.strengths


@metric(digits=1)
def distance(trial: Trial) -> Tensor:
    """Length of the move in W, averaged over rows."""
    return (trial.after - trial.before).norm(dim=-1).mean(-1)


@metric(digits=1)
def mahalanobis_length(trial: Trial) -> Tensor:
    """Mahalanobis length of the move, of the row that moved farthest."""
    moves = trial.after - trial.before
    if torch.equal(moves, moves[:, :1].expand_as(moves)):
        moves = moves[:, :1]
    return (moves @ _get_typical_set(trial).whitening.to(moves)).norm(dim=2).amax(1)


@metric(digits=1)
def mahalanobis(trial: Trial) -> Tensor:
    """Mahalanobis distance of the edited code from the mean of W."""
    return _get_typical_set(trial).mahalanobis(trial.after)


@metric(share=True, digits=3)
def left_w(trial: Trial) -> Tensor:
    """The edit took the code out of the typical set, in which it had been."""
    typical_set = _get_typical_set(trial)
    return (typical_set.contains(trial.before) & ~typical_set.contains(trial.after)).float()


@metric(share=True, every_code=True, digits=3, protocols=("paper",))
def stopped(trial: Trial) -> Tensor:
    """The bound of the typical set, not the largest strength, ended the edit before it arrived."""
    if trial.stopped is None:
        raise GanvasError("This trial has no bound.")
    return trial.stopped.float()


@metric(every_code=True, digits=1, protocols=("paper", "matched"))
def renders(trial: Trial) -> Tensor:
    """Pictures rendered to find the strength, for all changes of a code together."""
    if trial.renders is None:
        raise GanvasError("This trial counts no pictures.")
    return trial.renders.float()


def _get_typical_set(trial: Trial) -> Distribution:
    if trial.typical_set is None:
        raise GanvasError("This trial has no typical set: pass `typical_set=` when making it.")
    return trial.typical_set
