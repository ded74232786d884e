"""The distribution of W: the Mahalanobis distance of codes from drawn codes, and its bound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, map_seeds
from ganvas.seeds import DISTRIBUTION_SEED
from ganvas.types import W, WPlus

PERCENTILE = 99.9
"""The share of drawn codes within the bound, in percent."""
RIDGE = 1e-3
"""Added to every eigenvalue of the covariance, as a share of their mean.

W of StyleGAN2 has a long tail of small eigenvalues, which must count, or an edit could leave W through them. The ridge is far
below the smallest: it only gives directions without any variance (of a degenerate generator) a finite weight.
"""
CHUNK = 4096


@dataclass(frozen=True)
class Distribution:
    """The mean and covariance of W.

    ``whitening`` (w_dim, components) takes ``w - mean`` to principal components of unit variance, the largest first.
    ``bounds`` (components,) holds for each number of leading components the 99.9th percentile of the distances of codes
    that the covariance was not fitted on.
    """

    mean: Tensor
    whitening: Tensor
    bounds: Tensor
    generator: str
    """The generator's fingerprint."""

    @property
    def bound(self) -> float:
        """The largest distance of a code that counts as within the distribution."""
        return float(self.bounds[-1])

    def mahalanobis(self, codes: W | WPlus) -> Tensor:
        """Compute the Mahalanobis distance of each code from the mean, (n,); of a W+ code the largest of its rows'."""
        if codes.ndim == 3 and torch.equal(codes, codes[:, :1].expand_as(codes)):
            codes = codes[:, 0]
        distances = ((codes - self.mean.to(codes)) @ self.whitening.to(codes)).norm(dim=-1)
        return distances if codes.ndim == 2 else distances.amax(1)

    def contains(self, codes: W | WPlus) -> Tensor:
        """Return which codes lie within the bound, (n,), bool."""
        return self.mahalanobis(codes) <= self.bound

    def select_leading(self, components: int) -> Distribution:
        """Return the distribution over the leading principal components only, with its own bound.

        In many dimensions the bound is loose along a single direction, since the distance of an ordinary code is near it
        already; over few components it is tight. Raises GanvasError for an impossible number of components.
        """
        if not 1 <= components <= len(self.bounds):
            raise GanvasError(f"The number of components must be from 1 to {len(self.bounds)}, not {components}.")
        return Distribution(self.mean, self.whitening[:, :components], self.bounds[:components], self.generator)


def fit_distribution(generator: Generator, n: int = 20_000, seed: int = DISTRIBUTION_SEED) -> Distribution:
    """Fit mean and covariance on the codes of ``n`` seeds at psi 1, and the bounds on those of the next ``n``.

    Raises GanvasError where ``n`` is below twice the generator's ``w_dim``: a covariance needs more codes than that.
    """
    if n < 2 * generator.w_dim:
        raise GanvasError(f"The covariance of W needs at least {2 * generator.w_dim} codes, not {n}.")
    fitted = _draw(generator, seed, n)
    mean = fitted.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov(fitted.T).reshape(len(mean), len(mean)))
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    whitening = vectors / (values + RIDGE * values.mean()).sqrt()
    fresh = ((_draw(generator, seed + n, n) - mean) @ whitening).square().cumsum(1).sqrt()
    bounds = torch.from_numpy(np.percentile(fresh.numpy(), PERCENTILE, axis=0))
    return Distribution(mean.float(), whitening.float(), bounds.float(), generator.fingerprint)


@torch.no_grad()
def _draw(generator: Generator, seed: int, n: int) -> Tensor:
    """Draw the codes of ``n`` seeds, float64 on the CPU."""
    starts = range(seed, seed + n, CHUNK)
    chunks = [map_seeds(generator, range(s, min(s + CHUNK, seed + n))) for s in starts]
    return torch.cat(chunks).double().cpu()
