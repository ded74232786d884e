"""Statistics: means with confidence intervals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.errors import GanvasError

BOOTSTRAP_DRAWS = 1000
"""Number of bootstrap resamples."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % bootstrap interval, over ``n`` codes; all nan where no code counts."""

    mean: float
    low: float
    high: float
    n: int


def bootstrap_mean(values: Tensor, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> Estimate:
    """Estimate the mean of one value a code, (n,), leaving nan out, with a percentile bootstrap interval over codes.

    Raises GanvasError for values that aren't one-dimensional.
    """
    if values.ndim != 1:
        raise GanvasError(f"An estimate takes one value a code, shape (n,), not {tuple(values.shape)}.")
    values = values[~values.isnan()].double().cpu()
    n = len(values)
    if not n:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    picks = torch.randint(n, (draws, n), generator=torch.Generator().manual_seed(seed))
    low, high = values[picks].mean(1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(float(values.mean()), low, high, n)
