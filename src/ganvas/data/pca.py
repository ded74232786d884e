"""Principal components of W, in whose space the compact editor works."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.types import W

CHUNK = 4096
"""Rows in float64 at a time."""


@dataclass(frozen=True)
class PCA:
    """``components`` (components, w_dim) are orthonormal rows, by falling variance; ``variances`` (w_dim,) has all of them."""

    mean: Tensor
    components: Tensor
    variances: Tensor

    def project(self, w: W) -> Float[Tensor, "n components"]:
        """Return coordinates along the components, not whitened."""
        return (w - self.mean.to(w)) @ self.components.to(w).T

    def unproject(self, x: Float[Tensor, "n components"]) -> W:
        """Return the codes that have these coordinates and lie in the span of the components."""
        return x @ self.components.to(x) + self.mean.to(x)

    @property
    def share(self) -> Tensor:
        """The share of the variance that the first 1, 2, … components hold, (w_dim,)."""
        return self.variances.cumsum(0) / self.variances.sum()


def fit_pca(w: W, components: int) -> PCA:
    """Fit the first ``components`` principal components of codes; equal codes give equal signs.

    Raises GanvasError where the codes don't vary in so many directions.
    """
    mean = w.mean(0, dtype=torch.float64)
    covariance = mean.new_zeros(w.shape[1], w.shape[1])
    for rows in w.split(CHUNK):
        centred = rows.double() - mean
        covariance.addmm_(centred.T, centred)
    variances, axes = torch.linalg.eigh(covariance / max(len(w), 1))
    variances, axes = variances.flip(0).clamp(min=0), axes.flip(1).T
    rank = int((variances > 1e-12 * variances[0]).sum())
    if not 1 <= components <= rank:
        raise GanvasError(f"The number of components must be from 1 to {rank} for these codes, not {components}.")
    axes = axes[:components]
    # The sign of an eigenvector is arbitrary: make its largest entry positive.
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    return PCA(mean.float(), (axes * largest.sign()).float(), variances.float())
