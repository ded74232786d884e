"""Statistics: means with confidence intervals."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.errors import GanvasError

BOOTSTRAP_DRAWS = 1000
"""Bootstrap resamples."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95 % bootstrap interval, over ``n`` codes; all nan where no code counts."""

    mean: float
    low: float
    high: float
    n: int


def bootstrap_mean(values: Tensor, draws: int = BOOTSTRAP_DRAWS, seed: int = 0) -> Estimate:
    """The mean of one value a code, (n,), nan left out; the percentile bootstrap over codes gives the interval."""
    if values.ndim != 1:
        raise GanvasError(f"An estimate is made of one value a code, not of shape {tuple(values.shape)}.")
    values = values[~values.isnan()].double().cpu()
    n = len(values)
    if not n:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    picks = torch.randint(n, (draws, n), generator=torch.Generator().manual_seed(seed))
    low, high = values[picks].mean(1).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(float(values.mean()), low, high, n)
