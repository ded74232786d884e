"""How codes vary together with the probe's readings: what conditional sampling needs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import torch
from torch import Tensor, nn

from ganvas.types import Scores

BINS = 20


@dataclass(frozen=True)
class Moments:
    """Of codes ``c`` (dim), what lies beyond the components (w_dim), and the probe's readings (K).

    ``mean`` (K,) and ``spread`` (K, K): the readings' mean and covariance. ``codes`` (dim, K), ``beyond`` (w_dim, K): their
    covariances with the readings. ``readings``, ``scores`` and ``noise`` (BINS, K): in bins of readings, the mean reading,
    the mean normal score and its standard deviation; the first two rise.
    """

    mean: Tensor
    spread: Tensor
    codes: Tensor
    beyond: Tensor
    readings: Tensor
    scores: Tensor
    noise: Tensor


def fit_moments(readings: Scores, codes: Tensor, beyond: Tensor, held: tuple[Tensor, Tensor]) -> Moments:
    """Moments over training codes; the bins are of ``held`` out readings and scores."""
    centred = (readings - readings.mean(0)).double()
    spread, shared, outside = (x.double().T @ centred / len(readings) for x in (centred, codes, beyond))
    columns = [_bins(m, a) for m, a in zip(held[0].T, held[1].T, strict=True)]
    binned = (torch.stack(parts, 1) for parts in zip(*columns, strict=True))
    return Moments(readings.mean(0), spread.float(), shared.float(), outside.float(), *binned)


def _bins(readings: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One attribute's bins, of equal numbers of codes."""
    order = readings.argsort()
    edges = torch.linspace(0, len(order), BINS + 1).round().long().tolist()
    # With fewer codes than bins neighbours share some.
    parts = [order[first : max(last, first + 1)] for first, last in pairwise(edges)]
    at = torch.stack([readings[part].mean() for part in parts])
    mean = torch.stack([scores[part].mean() for part in parts])
    noise = torch.stack([scores[part].std(correction=0) for part in parts])
    rise = 1e-4 * torch.arange(BINS).to(at)
    return at.cummax(0).values + rise, mean.cummax(0).values + rise, noise.clamp(min=1e-3)


class Joint(nn.Module):
    """``Moments`` as buffers, so that they are saved, loaded and moved with their editor."""

    def __init__(self, moments: Moments) -> None:
        super().__init__()
        for field in fields(Moments):
            self.register_buffer(field.name, getattr(moments, field.name))

    @property
    def moments(self) -> Moments:
        """The moments, wherever they are now."""
        return Moments(**{field.name: self.get_buffer(field.name) for field in fields(Moments)})


def empty(k: int, dim: int, w_dim: int) -> Moments:
    """Moments of the right shapes."""
    sizes = ((k,), (k, k), (dim, k), (w_dim, k), *[(BINS, k)] * 3)
    return Moments(*(torch.empty(size) for size in sizes))
