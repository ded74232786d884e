"""Pearson's correlations of columns."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def correlate_columns(a: Float[Tensor, "n i"], b: Float[Tensor, "n j"]) -> Float[Tensor, "i j"]:
    """Return the correlation of each column of ``a`` with each of ``b``; 0 where one of the two doesn't vary."""
    a, b = _standardize(a), _standardize(b)
    return (a.T @ b).float()


def correlate_pairs(a: Float[Tensor, "n i"], b: Float[Tensor, "n i"]) -> Float[Tensor, " i"]:
    """Return the correlation of each column of ``a`` with the same column of ``b``; 0 where one of the two doesn't vary."""
    return (_standardize(a) * _standardize(b)).sum(0).float()


def _standardize(x: Tensor) -> Tensor:
    """Return columns of mean 0 and length 1."""
    centred = x.double() - x.mean(0, dtype=torch.float64)
    return centred / centred.norm(dim=0).clamp(min=1e-12)
