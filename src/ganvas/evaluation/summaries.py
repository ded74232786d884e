"""Summaries of trials: estimates with their intervals, and their JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from ganvas.data.distribution import Distribution
from ganvas.evaluation.context import EvaluationContext
from ganvas.evaluation.drift import largest_drift, mean_drift, target_change, unexplained_drift
from ganvas.identity import cosine, distance
from ganvas.metrics import Trial, distance_moved, identity_cosine, identity_distance, success, variation_row
from ganvas.stats import BOOTSTRAP_DRAWS, Estimate, bootstrap_mean


def summarise_trial(context: EvaluationContext, trial: Trial) -> dict[str, Any]:
    """Summarise every measure of a trial, over the edits that arrived (success: over all)."""
    before, after = trial.before, trial.after
    own = context.scales[0]
    row = variation_row(trial)[: len(context.panel.own.attributes)].tolist()
    return {
        "n": len(trial),
        "success": bootstrap_mean(success(trial)),
        "stopped": int(trial.stopped.sum()) if trial.stopped is not None else None,
        "renders": bootstrap_mean(trial.renders.float()) if trial.renders is not None else None,
        "strength": _average_arrived(trial, trial.strengths),
        "distance": _average_arrived(trial, distance_moved(trial)),
        "mahalanobis": _average_arrived(trial, context.typical_set.mahalanobis(after)),
        "moved": _average_arrived(trial, _measure_lengths(context.typical_set, after - before)),
        "left": _average_arrived(
            trial, (context.typical_set.contains(before) & ~context.typical_set.contains(after)).float()
        ),
        **_summarise_identity(trial),
        "target": _by_judge(context, trial, "target"),
        "drift": _by_judge(context, trial, "drift"),
        "largest": _by_judge(context, trial, "largest"),
        "beyond": _by_judge(context, trial, "beyond"),
        "variation": dict(zip(context.panel.own.attributes, row, strict=True)) if trial.arrived.any() else None,
        "judge": own.name,
    }


def measure_per_code(context: EvaluationContext, trial: Trial, judge: int, what: str = "drift") -> Tensor:
    """Return one measure by one judge, (n,); nan for what hasn't arrived.

    ``what``: "drift", "largest", "target" or "beyond".
    """
    scale, own, edited = context.scales[judge], context.scales[0], (trial.attribute,)
    before, after = trial.scores_before, trial.scores_after
    if what == "target":
        values = target_change(scale, before, after, trial.attribute)
    elif what == "beyond":
        moved = target_change(own, before, after, trial.attribute)
        values = unexplained_drift(scale, before, after, moved, own.attributes.index(trial.attribute), edited)
    else:
        values = {"drift": mean_drift, "largest": largest_drift}[what](scale, before, after, edited)
    return torch.where(trial.arrived, values.float(), torch.nan)


def measure_identity(trial: Trial) -> Tensor | None:
    """Return equation (8) a code, nan for what hasn't arrived or has no face; None without face embeddings."""
    return None if trial.faces_after is None else torch.where(trial.arrived, identity_cosine(trial).float(), torch.nan)


def mean_ratio(a: Tensor, b: Tensor, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> Estimate:
    """Estimate the mean of ``a`` over that of ``b``, on the faces that have both; the bootstrap draws faces."""
    return _compare_paired(a, b, draws, seed, lambda x, y: x / y)


def mean_difference(a: Tensor, b: Tensor, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> Estimate:
    """Estimate the mean of ``a`` minus that of ``b``, on the faces that have both; the bootstrap draws faces."""
    return _compare_paired(a, b, draws, seed, lambda x, y: x - y)


def measure_random_pairs(faces: Tensor | None, seed: int = 0) -> dict[str, Estimate] | None:
    """Estimate the cosine ("identity") and dlib's distance ("identity_distance") of embeddings (n, 128) of different faces.

    Each face is in two pairs, with faces drawn at random. None for fewer than two faces.
    """
    if faces is None or len(faces) < 2:
        return None
    order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(seed))
    pairs = faces[order], faces[order.roll(1)]
    return {"identity": bootstrap_mean(cosine(*pairs)), "identity_distance": bootstrap_mean(distance(*pairs))}


def to_json(value: Any) -> Any:
    """Convert estimates, tuples and nan to what JSON holds."""
    if isinstance(value, Estimate):
        return to_json(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): to_json(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(v) for v in value]
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    return value


def _compare_paired(
    a: Tensor, b: Tensor, draws: int, seed: int, compare: Callable[[Tensor, Tensor], Tensor]
) -> Estimate:
    """Estimate a comparison of two means on the faces that have both."""
    n = min(len(a), len(b))
    a, b = a[:n].double().cpu(), b[:n].double().cpu()
    both = ~(a.isnan() | b.isnan())
    a, b = a[both], b[both]
    if not len(a):
        return Estimate(math.nan, math.nan, math.nan, 0)
    picks = torch.randint(len(a), (draws, len(a)), generator=torch.Generator().manual_seed(seed))
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = compare(a[picks].mean(1), b[picks].mean(1)).nan_to_num(nan=0.0).quantile(ends).tolist()
    return Estimate(float(compare(a.mean(), b.mean())), low, high, len(a))


def _average_arrived(trial: Trial, values: Tensor) -> Estimate:
    """Estimate a mean over the codes that arrived."""
    return bootstrap_mean(torch.where(trial.arrived, values.float(), torch.nan))


def _measure_lengths(typical_set: Distribution, moves: Tensor) -> Tensor:
    """Return the Mahalanobis lengths of moves in W+, (n,), of the row that moved farthest: some editors move a few rows."""
    if torch.equal(moves, moves[:, :1].expand_as(moves)):
        moves = moves[:, :1]
    return (moves @ typical_set.whitening.to(moves)).norm(dim=2).amax(1)


def _summarise_identity(trial: Trial) -> dict[str, Any]:
    if trial.faces_before is None or trial.faces_after is None:
        return {"identity": None, "identity_distance": None, "no_face": None}
    return {
        "identity": _average_arrived(trial, identity_cosine(trial)),
        "identity_distance": _average_arrived(trial, identity_distance(trial)),
        "no_face": int((trial.arrived & find_lost_faces(trial)).sum()),
    }


def find_lost_faces(trial: Trial) -> Tensor:
    """Return True where no face was found, before or after, (n,)."""
    if trial.faces_before is None or trial.faces_after is None:
        return torch.zeros(len(trial.arrived), dtype=torch.bool)
    return (trial.faces_before.isnan() | trial.faces_after.isnan()).any(1)


def _by_judge(context: EvaluationContext, trial: Trial, what: str) -> dict[str, Estimate]:
    return {
        scale.name: bootstrap_mean(measure_per_code(context, trial, j, what)) for j, scale in enumerate(context.scales)
    }
