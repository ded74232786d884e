"""Linear boundaries: the codes with the highest and lowest scores, and the normal of the plane that separates them."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.types import W

MIN_CODES = 10
"""The least number of codes on each side of a boundary."""


def select_extremes(scores: Float[Tensor, " n"], share: float, name: str) -> tuple[Tensor, Tensor]:
    """Select the rows of the ``share`` of codes (at least ``MIN_CODES``) with the lowest scores, and with the highest.

    Codes with a score that also occurs on the other side are left out.
    Raises GanvasError where fewer than ``MIN_CODES`` are left on a side.
    """
    n = min(max(round(share * len(scores)), MIN_CODES), len(scores) // 2)
    order = scores.argsort(stable=True)
    low, high = order[:n], order[len(order) - n :]
    if n == 0 or scores[low[0]] == scores[high[-1]]:
        raise GanvasError(f"Attribute {name!r} has one score everywhere, nothing to learn from: select the others.")
    lowest, highest = scores[low[-1]], scores[high[0]]
    if lowest >= highest:  # one score reaches into both ends: leave it out on the side where more codes remain
        candidates = (low, high[scores[high] > lowest]), (low[scores[low] < highest], high)
        low, high = max(candidates, key=lambda sides: min(map(len, sides)))
    for side, rows in (("negatives", low), ("positives", high)):
        if len(rows) < MIN_CODES:
            count = f"{len(rows)} of {len(scores)} codes, at least {MIN_CODES} are needed"
            raise GanvasError(f"Attribute {name!r} has too few {side}: {count}. Label more faces, or leave it out.")
    return low, high


def scale_codes(w: W) -> W:
    """Centre codes and scale them to a total variance of 1, so that ``c`` of ``boundary_normal`` means the same in any W."""
    return (w - w.mean(0)) / w.var(0).sum().sqrt().clamp(min=1e-12)


def boundary_normal(x: W, low: Tensor, high: Tensor, c: float) -> Float[Tensor, " w_dim"]:
    """Fit a linear support vector machine between two sets of rows and return its unit normal, towards ``high``.

    ``c`` is the penalty of a code on the wrong side; ``x`` has mean 0. The order in which liblinear visits codes is fixed
    by its seed.
    """
    from sklearn.svm import LinearSVC

    sides = torch.arange(len(low) + len(high)).ge(len(low)).numpy()
    machine = LinearSVC(loss="hinge", C=c, random_state=0, max_iter=20_000)
    machine.fit(x[torch.cat((low, high))].double().cpu().numpy(), sides)
    normal = torch.tensor(machine.coef_[0]).to(x)
    return normal / normal.norm().clamp(min=1e-12)


def scale_to_deviation(normals: Float[Tensor, "attributes w_dim"], w: W) -> Float[Tensor, "attributes w_dim"]:
    """Scale each unit normal to one standard deviation of the codes along it, as ``editors.base.calibrate`` takes them."""
    return normals * (w @ normals.T).std(0)[:, None]
