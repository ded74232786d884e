"""Statistics with 95 % intervals: proportions by Wilson, all else by a bootstrap over codes.

What is measured repeatedly on one code (towards more and towards less, at several changes) isn't independent: wherever ``codes``
says which value belongs to which code, codes are drawn with all of their values. ``strata`` (such as the attributes edited)
are averaged with equal weights, and are never drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ganvas.errors import GanvasError

BOOTSTRAP_DRAWS = 1000
"""Number of bootstrap resamples."""
MIN_CLAIM_CODES = 8
"""Codes that a claim needs: with fewer, bootstrap intervals are too narrow."""
Z = 1.959963984540054
"""The standard normal's 97.5 % quantile."""


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, over ``n`` codes; nan where no code counts, and where the value isn't defined."""

    mean: float
    low: float
    high: float
    n: int


def estimate_proportion(values: Tensor, codes: Tensor | None = None, strata: Tensor | None = None) -> Estimate:
    """Estimate the share of ones among 0 and 1, (n,), leaving nan out, with Wilson's interval.

    Strata weigh alike, so that codes weigh differently: the interval is that of Kish's effective number of codes, in which a
    code with several values, in one stratum or in several, is one trial.
    """
    _check_values(values)
    table = _tabulate(values[:, None], codes, strata)
    n = len(table)
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0)
    mean = float(_divide(table.sum(0))[..., 0].mean())
    counts = table[:, 1, :, 0]
    weights = (counts / counts.sum(0)).mean(1)
    return Estimate(mean, *_compute_wilson(mean, 1 / float(weights.square().sum())), n)


def estimate_proportion_difference(a: Tensor, b: Tensor) -> Estimate:
    """Estimate the share of ones in ``a`` minus that in ``b``, (n,) 0 and 1 of the same codes, over codes that have both.

    The interval is Newcombe's paired score interval (Statistics in Medicine 17, 1998, method 10), which has a width
    where all pairs are alike, too.
    """
    _check_values(a, b)
    both = ~(a.isnan() | b.isnan())
    a, b, n = a[both].double(), b[both].double(), int(both.sum())
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0)
    p, q = float(a.mean()), float(b.mean())
    (p_low, p_high), (q_low, q_high) = _compute_wilson(p, n), _compute_wilson(q, n)
    covariance = float((a * b).mean()) - p * q
    if covariance > 0:  # Newcombe's continuity correction
        covariance = max(covariance - 0.5 / n, 0.0)
    scale = math.sqrt(p * (1 - p) * q * (1 - q))
    correlation = covariance / scale if scale else 0.0
    below, above = (
        math.sqrt(max(x * x - 2 * correlation * x * y + y * y, 0.0))
        for x, y in ((p - p_low, q_high - q), (p_high - p, q - q_low))
    )
    return Estimate(p - q, p - q - below, p - q + above, n)


def _compute_wilson(mean: float, n: float) -> tuple[float, float]:
    """Return Wilson's interval of a share of ``n`` trials, which needn't be a whole number."""
    shrink = 1 + Z**2 / n
    centre = (mean + Z**2 / (2 * n)) / shrink
    half = Z / shrink * math.sqrt(mean * (1 - mean) / n + Z**2 / (4 * n**2))
    return max(min(centre - half, mean), 0.0), min(max(centre + half, mean), 1.0)


def bootstrap_mean(
    values: Tensor,
    codes: Tensor | None = None,
    strata: Tensor | None = None,
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
) -> Estimate:
    """Estimate the mean of values, (n,), leaving nan out.

    Args:
        values: (n,) one value a code, or as ``codes`` says.
        codes: (n,) integers, the code of each value; without it each value is another code's.
        strata: (n,) integers; means of strata are averaged with equal weights.
        draws: The number of bootstrap resamples.
        seed: The seed of the resamples.

    Returns:
        The mean with its percentile interval; nan where nothing counts.

    Raises:
        GanvasError: For values that aren't one-dimensional.
    """
    _check_values(values)
    return _bootstrap(_tabulate(values[:, None], codes, strata), lambda means: means[..., 0].nanmean(-1), draws, seed)


def bootstrap_difference(a: Tensor, b: Tensor, codes: Tensor | None = None, strata: Tensor | None = None) -> Estimate:
    """Estimate the mean of ``a`` minus that of ``b``, paired: over the codes that have both."""
    _check_values(a, b)
    return bootstrap_mean(a.double() - b.double(), codes, strata)


def bootstrap_ratio(a: Tensor, b: Tensor, codes: Tensor | None = None, strata: Tensor | None = None) -> Estimate:
    """Estimate the mean of ``a`` over that of ``b``, paired; over several strata the geometric mean of their ratios.

    It is nan where that isn't defined: for strata whose ratios aren't all positive, nor all 0, or where this is so in more
    than 2.5 % of the resamples.
    """
    _check_values(a, b)
    pairs = torch.stack((a, b), 1).double()
    pairs = torch.where(pairs.isnan().any(1, keepdim=True), torch.nan, pairs)
    return _bootstrap(_tabulate(pairs, codes, strata), lambda means: _mean_ratio(means[..., 0], means[..., 1]))


def bootstrap_absolute_means(
    values: Tensor, codes: Tensor | None = None, strata: Tensor | None = None, against: Tensor | None = None
) -> Estimate:
    """Estimate the average over columns of the absolute mean of each, (n, columns); columns of nan are left out.

    Args:
        values: (n, columns), such as the signed changes of all attributes that weren't edited.
        codes: (n,) integers, the code of each row.
        strata: (n,) integers.
        against: (n, columns) for the same rows: the ratio to its average instead, over rows that have both.

    Returns:
        The estimate; its interval is 1.96 standard deviations of the draws on each side, since absolute means of draws are
        biased upwards, so that their percentiles may miss the value.
    """
    width = values.shape[1]

    def average(means: Tensor) -> Tensor:
        return means.abs().nanmean(-1)

    if against is None:
        return _bootstrap(_tabulate(values, codes, strata), lambda m: average(m).nanmean(-1), centred=True)
    both = torch.cat((values, against), 1).double()
    missing = torch.cat((values + against, values + against), 1).isnan()
    table = _tabulate(torch.where(missing, torch.nan, both), codes, strata)
    return _bootstrap(table, lambda m: _mean_ratio(average(m[..., :width]), average(m[..., width:])), centred=True)


def estimate_from_draws(point: float, drawn: Tensor, n: int) -> Estimate:
    """Return a value with 1.96 standard deviations of its resamples, (draws,), on each side: where percentiles may miss it."""
    half = Z * float(drawn.std(unbiased=False))
    return Estimate(point, point - half, point + half, n)


def is_in_selection_half(codes: Tensor) -> Tensor:
    """Return which codes serve to choose the best of several, (n,) bool; results are reported on the others."""
    return codes % 2 == 0


def judge_claim(estimate: Estimate | None, at_least: float = -math.inf, at_most: float = math.inf) -> str:
    """Return "yes" where the whole interval is within the bounds, "no" where it is wholly outside, else "open".

    It is open for fewer than ``MIN_CLAIM_CODES`` codes, too.
    """
    if estimate is None or estimate.n < MIN_CLAIM_CODES:
        return "open"
    if at_least <= estimate.low and estimate.high <= at_most:
        return "yes"
    return "no" if estimate.high < at_least or estimate.low > at_most else "open"


def _check_values(*values: Tensor) -> None:
    for v in values:
        if v.ndim != 1:
            raise GanvasError(f"An estimate takes one value a code, shape (n,), not {tuple(v.shape)}.")


def _mean_ratio(a: Tensor, b: Tensor) -> Tensor:
    """Return a / b of one stratum, else the geometric mean of the strata's ratios, over the last dimension.

    nan where a ratio isn't positive, unless all are 0: a stratum that goes the wrong way isn't left out.
    """
    ratios = a / b
    if ratios.shape[-1] == 1:
        return ratios[..., 0]
    missing = a.isnan() | b.isnan()
    defined = (missing | (ratios > 0) & ratios.isfinite()).all(-1) | (missing | (ratios == 0)).all(-1)
    return torch.where(defined, ratios.log().nanmean(-1).exp(), torch.nan)


def _tabulate(values: Tensor, codes: Tensor | None, strata: Tensor | None) -> Tensor:
    """Return the sums and numbers of values for each code and stratum, (codes, 2, strata, columns)."""
    values = values.double().cpu()
    n, columns = values.shape
    counted = ~values.isnan()
    keep = counted.any(1)
    values, counted = values[keep], counted[keep]
    places = torch.arange(n)[keep] if codes is None else codes.cpu()[keep]
    labels = torch.zeros(n, dtype=torch.long)[keep] if strata is None else strata.cpu()[keep]
    # Sorted, so that an estimate doesn't depend on the order of the rows.
    rows, levels = places.unique(return_inverse=True), labels.unique(return_inverse=True)
    size = (len(rows[0]), len(levels[0]))
    table = torch.zeros(size[0] * size[1], 2, columns, dtype=torch.float64)
    pairs = torch.stack((values.nan_to_num(nan=0.0), counted.double()), 1)
    table.index_add_(0, rows[1] * max(size[1], 1) + levels[1], pairs)
    return table.reshape(*size, 2, columns).transpose(1, 2)


def _bootstrap(
    table: Tensor,
    statistic: Callable[[Tensor], Tensor],
    draws: int = BOOTSTRAP_DRAWS,
    seed: int = 0,
    centred: bool = False,
) -> Estimate:
    """Estimate a statistic of means, (..., strata, columns) to (...), by drawing the rows of ``_tabulate``'s table."""
    n = len(table)
    if not n:
        return Estimate(math.nan, math.nan, math.nan, 0)
    point = float(statistic(_divide(table.sum(0))))
    sums = (_draw_weights(n, draws, seed) @ table.reshape(n, -1)).reshape(draws, *table.shape[1:])
    drawn = statistic(_divide(sums))
    undefined = drawn.isnan()
    if math.isnan(point) or undefined.double().mean() > 0.025:
        return Estimate(math.nan, math.nan, math.nan, n)
    drawn = drawn[~undefined]
    if centred:
        found = estimate_from_draws(point, drawn, n)
        # What is centred is an average of absolute values.
        return Estimate(point, max(found.low, 0.0), found.high, n)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(point, low, high, n)


def _divide(sums: Tensor) -> Tensor:
    """Return means from sums and numbers, (..., 2, strata, columns); nan where nothing was summed."""
    return sums[..., 0, :, :] / torch.where(sums[..., 1, :, :] > 0, sums[..., 1, :, :], torch.nan)


@lru_cache(maxsize=16)
def _draw_weights(n: int, draws: int, seed: int) -> Tensor:
    """Draw how often each of ``n`` codes is in each resample, (draws, n)."""
    picks = torch.randint(n, (draws, n), generator=torch.Generator().manual_seed(seed))
    return torch.zeros(draws, n, dtype=torch.float64).scatter_add_(1, picks, torch.ones(draws, n, dtype=torch.float64))
