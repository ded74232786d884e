"""The probe: a ridge regression that reads attributes off codes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.precision import convert_to_normal
from ganvas.types import Scores, W

COMPONENTS = 150
"""Principal components of W that the regression uses; the others add hardly anything but noise."""
CHUNK = 4096
"""Rows in float64 at a time."""


class Probe(nn.Module):
    """A ridge regression from the principal components of W to Gaussianised scores.

    ``weight`` (w_dim, attributes), ``bias`` (attributes,): the components and the regression in one affine map.
    W is smooth and a scorer's errors aren't, so that a probe averages them out.
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        # Editors' files store them under names of their own.
        self.register_buffer("weight", convert_to_normal(weight), persistent=False)
        self.register_buffer("bias", convert_to_normal(bias), persistent=False)

    def forward(self, w: W) -> Scores:
        """Return normal scores (n, attributes)."""
        return w @ self.weight.to(w) + self.bias.to(w)

    def select(self, columns: list[int]) -> Probe:
        """Return the probe of some attributes only."""
        return Probe(self.weight[:, columns], self.bias[columns])


@dataclass(frozen=True)
class _Moments:
    """Sums over rows of (w, targets) side by side, about ``centre``: all that a regression needs. Moments of disjoint
    rows add up, so the moments of some rows can be subtracted."""

    n: int
    total: Tensor
    gram: Tensor
    centre: Tensor
    w_dim: int

    def __sub__(self, other: _Moments) -> _Moments:
        return _Moments(self.n - other.n, self.total - other.total, self.gram - other.gram, self.centre, self.w_dim)


def fit_probe(w: W, targets: Scores, components: int = COMPONENTS) -> Probe:
    """Fit a ridge regression of ``targets`` (n, attributes) on the principal components of ``w``.

    The strength is chosen for each attribute by generalised cross-validation (Golub, Heath and Wahba 1979), in closed
    form over a grid: components are uncorrelated, so that a strength only scales each one's coefficient.
    """
    return _fit_ridge(_sum_moments(w, targets, _compute_centre(w, targets)), components)


def predict_out_of_fold(w: W, targets: Scores, folds: int = 5, components: int = COMPONENTS) -> Scores:
    """Predict each row by a regression on the other folds; row ``i`` is in fold ``i % folds``.

    Raises GanvasError where there are fewer than two folds or fewer than two rows outside one.
    """
    if not 2 <= folds <= len(w) - 1:
        raise GanvasError(f"The number of folds must be from 2 to {len(w) - 1} for {len(w)} codes, not {folds}.")
    centre = _compute_centre(w, targets)
    parts = [_sum_moments(w[k::folds], targets[k::folds], centre) for k in range(folds)]
    total, gram = (torch.stack(sums).sum(0) for sums in zip(*((p.total, p.gram) for p in parts), strict=True))
    whole = _Moments(len(w), total, gram, centre, w.shape[1])
    predicted = torch.empty_like(targets)
    for k, part in enumerate(parts):
        predicted[k::folds] = _fit_ridge(whole - part, components)(w[k::folds]).to(targets)
    return predicted


def _compute_centre(w: Tensor, targets: Tensor) -> Tensor:
    return torch.cat([x.mean(0, dtype=torch.float64) for x in (w, targets)])


def _sum_moments(w: Tensor, targets: Tensor, centre: Tensor) -> _Moments:
    total, gram = torch.zeros_like(centre), centre.new_zeros(len(centre), len(centre))
    for x, y in zip(w.split(CHUNK), targets.split(CHUNK), strict=True):
        rows = torch.cat((x.double(), y.double()), 1).sub_(centre)
        total += rows.sum(0)
        gram.addmm_(rows.T, rows)
    return _Moments(len(w), total, gram, centre, w.shape[1])


def _fit_ridge(moments: _Moments, components: int) -> Probe:
    d, mean = moments.w_dim, moments.total / moments.n
    covariance = moments.gram / moments.n - mean.outer(mean)
    variances, axes = torch.linalg.eigh(covariance[:d, :d])
    # With as many components as codes every strength fits, and cross-validation can't tell them apart.
    rank = min(components, max(moments.n // 2, 1), int((variances > 1e-12 * variances[-1]).sum()))
    variances, axes = variances[d - rank :], axes[:, d - rank :]
    covariances = axes.T @ covariance[:d, d:]
    strength = _choose_strength(variances, covariances, covariance.diagonal()[d:], moments.n)
    weight = axes @ (covariances / (variances[:, None] + strength))
    centre = moments.centre + mean
    bias = centre[d:] - centre[:d] @ weight
    return Probe(weight.float(), bias.float())


def _choose_strength(variances: Tensor, covariances: Tensor, spread: Tensor, n: int) -> Tensor:
    """Choose each attribute's ridge strength: the one of a grid with the least generalised cross-validation error.

    ``covariances`` (components, attributes): covariances of components and targets; ``spread``: the targets' variances.
    """
    if not len(variances):
        return torch.ones_like(spread)
    grid = torch.logspace(-8, 2, 51, dtype=variances.dtype, device=variances.device)[:, None] * variances.mean()
    # What is left of a target is its variance less what each shrunken component explains.
    explained = ((variances + 2 * grid) / (variances + grid).square()) @ covariances.square()
    degrees = 1 + (variances / (variances + grid)).sum(1, keepdim=True)
    error = (spread - explained).clamp(min=0) / (1 - degrees / n).square()
    return grid[error.argmin(0), 0]
