"""What methods of linear boundaries share: codes at the ends of an attribute, and the normal of what parts two groups."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.types import Scores, W

MIN_CODES = 10
"""Codes on each side of a boundary, at least."""


def select_extremes(scores: Float[Tensor, " n"], share: float, name: str) -> tuple[Tensor, Tensor]:
    """Row numbers of the ``share`` of codes (``MIN_CODES`` at least) with the lowest scores, and of those with the highest.

    Codes that share a score with the other side are left out.
    Raises GanvasError where fewer than ``MIN_CODES`` are left on a side.
    """
    n = min(max(round(share * len(scores)), MIN_CODES), len(scores) // 2)
    order = scores.argsort(stable=True)
    low, high = order[:n], order[len(order) - n :]
    if n == 0 or scores[low[0]] == scores[high[-1]]:
        raise GanvasError(f"Attribute {name!r} has one score everywhere, nothing to learn from: select the others.")
    least, most = scores[low[-1]], scores[high[0]]
    if least >= most:  # one score fills the middle and reaches into both ends: it goes with the side that leaves more
        parted = (low, high[scores[high] > least]), (low[scores[low] < most], high)
        low, high = max(parted, key=lambda sides: min(map(len, sides)))
    for side, rows in (("negatives", low), ("positives", high)):
        if len(rows) < MIN_CODES:
            count = f"{len(rows)} of {len(scores)} codes stand out, at least {MIN_CODES} are needed"
            raise GanvasError(f"Attribute {name!r} has too few {side}: {count}. Label more faces, or leave it out.")
    return low, high


def scale_codes(w: W) -> W:
    """Codes about their mean with a total variance of 1, so that ``c`` of ``boundary_normal`` means the same in any W."""
    return (w - w.mean(0)) / w.var(0).sum().sqrt().clamp(min=1e-12)


def boundary_normal(x: W, low: Tensor, high: Tensor, c: float) -> Float[Tensor, " w_dim"]:
    """The unit normal, towards ``high``, of the linear support vector machine that parts the codes at two sets of rows.

    ``c`` is the price of a code on the wrong side; ``x`` is about its mean. liblinear visits codes in an order that its
    own fixed seed draws; it ends where libsvm does, ten times sooner.
    """
    from sklearn.svm import LinearSVC

    sides = torch.arange(len(low) + len(high)).ge(len(low)).numpy()
    machine = LinearSVC(loss="hinge", C=c, random_state=0, max_iter=20_000)
    machine.fit(x[torch.cat((low, high))].double().cpu().numpy(), sides)
    found = torch.tensor(machine.coef_[0]).to(x)
    return found / found.norm().clamp(min=1e-12)


def scale_to_deviation(normals: Float[Tensor, "attributes w_dim"], w: W) -> Float[Tensor, "attributes w_dim"]:
    """Unit normals as directions of one standard deviation of the codes along each: what ``editors.base.calibrate`` takes."""
    return normals * (w @ normals.T).std(0)[:, None]


def format_report(names: tuple[str, ...], **columns: Tensor | Scores) -> dict[str, dict[str, float]]:
    """A report's tables: one number an attribute in each."""
    return {
        key: dict(zip(names, [round(x, 4) for x in column.tolist()], strict=True)) for key, column in columns.items()
    }


def find_unresponsive(names: tuple[str, ...], moved: Float[Tensor, " attributes"]) -> list[str]:
    """The attributes whose readings ``moved`` by less than half of a change."""
    return [name for name, by in zip(names, moved.tolist(), strict=True) if not by >= 0.5]
