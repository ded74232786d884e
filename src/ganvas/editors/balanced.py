"""Balanced sampling: boundaries from codes among which the other attributes occur as often on one side as on the other.

Doubinsky, Audebert, Crucianu and Le Borgne, *Multi-attribute balanced sampling for disentangled GAN controls*, Pattern
Recognition Letters 2022, https://arxiv.org/abs/2111.00909. A generator repeats the biases of its data (glasses go with
age), and so do boundaries learned from its samples. Here codes are sampled so that every combination of attributes is
equally frequent; then linear support vector machines are trained as by InterfaceGAN, and nothing is projected out.

A code is on one side of the attribute to be learned (the ``share`` with the highest scores, or the ``share`` with the
lowest), and has or lacks each attribute that it is balanced against (its score above or below the median, since few codes
are positive for rare ones). That makes 2 · 2ᵐ cells for m others. From each the same number of codes is drawn at random:
as many as the smallest has, at most ``max_codes`` over all cells.

The paper balances all its attributes at once, against each other (``against``); of forty no sample has all 2⁴⁰
combinations. So an attribute is balanced against the ``others`` that its scores correlate with most, except those that
leave fewer codes than ``max_codes``, or than a quarter of the codes on a side: such an attribute is nearly a synonym.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ganvas.data.dataset import LatentDataset, find_columns
from ganvas.editors._directions import MIN_CODES, fit_boundary_normal, scale_codes, select_extremes
from ganvas.editors.base import LinearEditor, build_metadata, calibrate, format_report
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator

NEEDS = "labels"
"""What the method learns from."""
REPORTS = ()
"""The parts of reports that the method is in beside the full comparison: none."""
IS_FAST = True
"""The method is fitted within seconds."""

from_tensors = LinearEditor.from_tensors


@dataclass(frozen=True)
class BalancedConfig:
    """How to sample: ``share`` of the codes on each side, at most ``max_codes`` in all, drawn with ``seed``."""

    share: float
    max_codes: int
    seed: int


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    others: int = 3,
    against: Sequence[str] | str | None = None,
    share: float = 0.2,
    max_codes: int = 1200,
    c: float = 0.1,
    seed: int = 0,
    attributes: tuple[str, ...] | list[str] | None = None,
) -> LinearEditor:
    """Fit a linear boundary for each attribute, on balanced samples.

    ``others``: how many of the most correlated attributes to balance against; ``against``: balance against these instead.
    ``share`` and ``max_codes``: of codes, as in ``BalancedConfig``. ``c``: the penalty of a code on the wrong side of a boundary.
    ``attributes``: only these, in this order; they are balanced against any of ``data``.
    Raises GanvasError for impossible options, too few codes on a side, and combinations of ``against`` that are too rare.
    """
    _check_options(others, share, max_codes, c)
    names = data.attributes if attributes is None else tuple(attributes)
    columns = find_columns(names, data.attributes)
    against = [part.strip() for part in against.split(",")] if isinstance(against, str) else against
    if not isinstance(against, Sequence | None):
        raise GanvasError(f"against takes names of attributes, not {against!r}.")
    fixed = None if against is None else find_columns(list(against), data.attributes)
    w, a = data.w.to(generator.device), data.normals().to(generator.device)
    x, has, config = scale_codes(w), a > a.median(0).values, BalancedConfig(share, max_codes, seed)
    normals, codes, balanced_columns = [], [], []
    for k, name in zip(columns, names, strict=True):
        sides = select_extremes(a[:, k], share, name)
        if fixed is None:
            low, high, used = _balance_greedily(sides, has, _sort_by_correlation(a, k), others, config)
        else:
            used = [column for column in fixed if column != k]
            low, high = _balance_sides(sides, has[:, used], config)
            if not len(low):
                rest = ", ".join(data.attributes[column] for column in used)
                raise GanvasError(f"Too few codes have some combination of {name}, {rest}: balance against fewer.")
        normals.append(fit_boundary_normal(x, low, high, c))
        codes.append(len(low))
        balanced_columns.append([data.attributes[column] for column in used])
    chosen = data.select(names)
    directions, gain = calibrate(torch.stack(normals), chosen.probe, w)
    counts = (torch.tensor([float(n) for n in column]) for column in (codes, map(len, balanced_columns)))
    report: dict[str, Any] = {
        "against": [f"{name}: {' + '.join(used) or 'none'}" for name, used in zip(names, balanced_columns, strict=True)]
    }
    report |= format_report(names, gain=gain, **dict(zip(("codes_a_side", "balanced_against"), counts, strict=True)))
    fixed_names = None if against is None else list(against)
    options = {"others": others, "against": fixed_names, "c": c, **vars(config)}
    return LinearEditor(build_metadata("balanced", chosen, generator, options, report), directions)


def _check_options(others: int, share: float, max_codes: int, c: float) -> None:
    if type(others) is not int or not 0 <= others <= 8:
        raise GanvasError(f"others must be a whole number from 0 to 8, not {others!r}: combinations double with each.")
    if not 0 < share <= 0.5:
        raise GanvasError(f"share must be above 0 and at most 0.5, not {share}.")
    if type(max_codes) is not int or max_codes < 2 * MIN_CODES:
        raise GanvasError(f"max_codes must be a whole number of at least {2 * MIN_CODES}, not {max_codes!r}.")
    if not 0 < c < float("inf"):
        raise GanvasError(f"c must be a number above 0, not {c}.")


def _sort_by_correlation(a: Tensor, k: int) -> list[int]:
    """Return the other columns, sorted by falling |correlation| with column ``k``."""
    correlation = torch.corrcoef(a.T.double())[k].abs() if a.shape[1] > 1 else torch.zeros(1)
    return [column for column in correlation.argsort(descending=True, stable=True).tolist() if column != k]


def _balance_greedily(
    sides: tuple[Tensor, Tensor], has: Tensor, candidates: list[int], others: int, config: BalancedConfig
) -> tuple[Tensor, Tensor, list[int]]:
    """Balance both sides against as many of ``candidates`` as leave enough codes, at most ``others``, in their order.

    Returns the rows of both sides and the columns that they are balanced against.
    """
    used: list[int] = []
    minimum = min(config.max_codes // 2, *(len(rows) // 4 for rows in sides))
    for column in candidates:
        trial = [*used, column]
        if len(used) < others and len(_balance_sides(sides, has[:, trial], config)[0]) >= minimum:
            used = trial
    return *_balance_sides(sides, has[:, used], config), used


def _balance_sides(sides: tuple[Tensor, Tensor], has: Tensor, config: BalancedConfig) -> tuple[Tensor, Tensor]:
    """Draw as many rows of each combination of ``has`` (n, others) on each side; none if a cell has fewer than ``MIN_CODES``."""
    cells = 2 ** has.shape[1]
    which = has.long() @ (2 ** torch.arange(has.shape[1], device=has.device))
    smallest = min(int(torch.bincount(which[rows], minlength=cells).min()) for rows in sides)
    each = min(smallest, max(-(-config.max_codes // (2 * cells)), MIN_CODES)) if smallest >= MIN_CODES else 0
    random = torch.Generator().manual_seed(config.seed)
    shuffled = [rows[torch.randperm(len(rows), generator=random).to(rows.device)] for rows in sides]
    low, high = (torch.cat([rows[which[rows] == cell][:each] for cell in range(cells)]) for rows in shuffled)
    return low, high
