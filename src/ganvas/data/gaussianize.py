"""Scores to normal scores and back: histogram equalisation, then the inverse normal distribution function.

Lesné et al., section 4.1: logits and probabilities accumulate at their ends, and codes learned from them would be bimodal.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.precision import convert_to_normal
from ganvas.types import Scores

KNOTS = 1024
TAIL = 0.5
"""The standard deviations at each end whose mean slope the line beyond the fitted range has.

The distance of the last two scores alone would be random.
"""

ROUNDING = 1e-9
"""The distance of normal scores below which they are taken to be equal."""


class Gaussianize(nn.Module):
    """A strictly increasing, piecewise linear map for each attribute; beyond its last knots it goes on as a line.

    ``scores`` and ``normals`` are the knots, each (knots, attributes), float64, increasing along the first axis.
    """

    scores: Tensor
    normals: Tensor

    def __init__(self, scores: Tensor, normals: Tensor) -> None:
        super().__init__()
        # Editors' files store them under names of their own.
        self.register_buffer("scores", convert_to_normal(scores), persistent=False)
        self.register_buffer("normals", convert_to_normal(normals), persistent=False)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Gaussianize:
        """Move to other devices but not to other dtypes: float32 can't tell neighbouring knots apart."""
        device = fn(torch.empty(0, device=self.scores.device)).device
        if device.type != "mps":  # it has no float64
            for name, knots in self._buffers.items():
                self._buffers[name] = None if knots is None else knots.to(device)
        return self

    def forward(self, scores: Scores) -> Scores:
        """Return normal scores; over the fitted data each attribute is distributed as N(0, 1)."""
        return _interpolate(scores, self.scores, self.normals)

    def inverse(self, normals: Scores) -> Scores:
        """Return the scores that have these normal scores."""
        return _interpolate(normals, self.normals, self.scores)

    def get_range(self, column: int) -> tuple[float, float]:
        """Return the lowest and the highest score of a column's fitted data: the ends of the lines aren't among them."""
        scores, normals = self.scores[:, column], self.normals[:, column]
        # The knots of the upper line are evenly spaced, from the highest score on.
        step = normals[-1] - normals[-2]
        is_even = (normals.diff() - step).abs() < ROUNDING
        highest = len(normals) - 1 - int(is_even.flip(0).cumprod(0).sum())
        if not ((normals[:highest] - (normals[highest] - step)).abs() < ROUNDING).any():
            # No knot lies a step below, so that the step is that of the two highest scores.
            highest += 1
        return float(scores[1]), float(scores[max(highest, 2)])

    def select(self, columns: list[int]) -> Gaussianize:
        """Return the map of some attributes only."""
        return Gaussianize(self.scores[:, columns], self.normals[:, columns])


def fit(scores: Scores, attributes: tuple[str, ...], knots: int = KNOTS) -> Gaussianize:
    """Fit on (n, attributes) scores; ties share their mid-rank.

    Raises GanvasError where a score isn't finite or an attribute has fewer than two values (named).
    """
    columns = [_fit_column(scores[:, k].double().cpu().numpy(), name, knots) for k, name in enumerate(attributes)]
    x, y = (torch.from_numpy(np.stack(rows, 1)) for rows in zip(*columns, strict=True))
    return Gaussianize(x, y)


def _fit_column(values: np.ndarray, name: str, knots: int) -> tuple[np.ndarray, np.ndarray]:
    if not np.isfinite(values).all():
        raise GanvasError(f"Attribute {name!r} has scores that aren't finite: leave it out or score again.")
    x, counts = np.unique(values, return_counts=True)
    if len(x) < 2:
        raise GanvasError(f"Attribute {name!r} has the same score everywhere, so nothing can be learned: leave it out.")
    middle = (np.cumsum(counts) - counts / 2) / len(values)
    normals = torch.special.ndtri(torch.from_numpy(middle)).numpy()
    if len(x) > knots:
        # Even in the normal score, so that the tails keep their knots.
        places = np.interp(np.linspace(normals[0], normals[-1], knots), normals, np.arange(len(x)))
        chosen = np.unique(places.round().astype(int))
        x, normals = x[chosen], normals[chosen]
    # One knot beyond each end starts its line. Attributes share one matrix: short columns go on along the upper one.
    # Each line's slope spans at least TAIL, where the data does.
    upper = max(np.searchsorted(normals, normals[-1] - TAIL, "right") - 1, 0)
    lower = min(np.searchsorted(normals, normals[0] + TAIL), len(x) - 1)
    steps = np.arange(1, knots - len(x) + 2)
    ends = [(2 * v[0] - v[lower], v[-1] + steps * (v[-1] - v[upper])) for v in (x, normals)]
    return np.hstack((ends[0][0], x, ends[0][1])), np.hstack((ends[1][0], normals, ends[1][1]))


def _interpolate(values: Tensor, x: Tensor, y: Tensor) -> Tensor:
    # float64: float32 can't tell neighbouring knots apart where many faces score alike.
    v = values.to(x.dtype).T.contiguous()
    xs, ys = x.T.contiguous().to(v.device), y.T.contiguous().to(v.device)
    right = torch.searchsorted(xs, v).clamp(1, xs.shape[1] - 1)
    x0, x1, y0, y1 = (xs.gather(1, right - 1), xs.gather(1, right), ys.gather(1, right - 1), ys.gather(1, right))
    return (y0 + (v - x0) / (x1 - x0) * (y1 - y0)).T.to(values.dtype)
