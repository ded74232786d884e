"""Disentanglement, completeness and informativeness of codes.

Eastwood and Williams, *A Framework for the Quantitative Evaluation of Disentangled Representations*, ICLR 2018,
https://openreview.net/forum?id=By-7dz-AZ.

Each attribute is predicted from the standardised codes by a lasso, whose |coefficients| say how much each number of the code
matters to it: R (code, attributes). Disentanglement of a number: one minus the entropy of its row of R, in units of
the attributes; completeness of an attribute: the same down its column, in units of the codes. Both are 1 where one number
predicts one attribute and nothing else, and 0 where all matter alike. Informativeness is the share of an attribute's variance
that is predicted on codes left out (the paper reports the error, 1 minus this).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ganvas.editors.base import Editor, LinearEditor
from ganvas.editors.compact import CompactEditor
from ganvas.errors import GanvasError
from ganvas.stats import Estimate, estimate_from_draws
from ganvas.types import W

MIN_CODES = 100
"""Codes that regressions on tens of numbers need."""
HELD_OUT_PARTS = 4
"""One code in so many is left out for informativeness."""
ALPHA_COUNT = 12
"""Number of strengths of the lasso that validation chooses from."""


@dataclass(frozen=True)
class DCI:
    """Disentanglement, completeness and informativeness, each with its interval."""

    disentanglement: Estimate
    completeness: Estimate
    informativeness: Estimate


def compute_codes(editor: Editor, w: W) -> Tensor:
    """Return an editor's codes, (n, codes): the compact code, or the position of a code along each unit direction.

    Raises GanvasError for an editor that has neither.
    """
    if isinstance(editor, CompactEditor):
        return editor.encode(w)
    if isinstance(editor, LinearEditor):
        directions = editor.get_buffer("directions")
        directions = directions if directions.ndim == 2 else directions.mean(1)
        lengths = directions.norm(dim=1)
        if not (lengths > 0).any():
            raise GanvasError("The editor's directions are all 0.")
        return w @ (directions / lengths.clamp(min=1e-12)[:, None]).to(w).T
    raise GanvasError(
        f"{editor.method} moves codes and has none of its own: DCI is measured of compact and linear editors."
    )


def measure_dci(codes: Tensor, factors: Tensor, draws: int, seed: int = 0) -> DCI:
    """Measure the DCI of ``codes`` (n, codes) for ``factors`` (n, attributes), with bootstrap intervals over the rows.

    Raises GanvasError for fewer than ``MIN_CODES`` rows.
    """
    n = len(codes)
    if n < MIN_CODES:
        raise GanvasError(f"DCI needs at least {MIN_CODES} scored pictures, not {n}.")
    x, y = codes.double().cpu().numpy(), factors.double().cpu().numpy()
    held = np.arange(n) % HELD_OUT_PARTS == HELD_OUT_PARTS - 1
    alphas = _choose_alphas(x[~held], y[~held])
    rng = np.random.RandomState(seed)
    point = _fit_and_score(x[~held], y[~held], x[held], y[held], alphas)
    drawn = []
    for _ in range(draws):
        # Resampled within each part: no row is both learned from and left out.
        a, b = (rng.choice(np.flatnonzero(mask), mask.sum()) for mask in (~held, held))
        drawn.append(_fit_and_score(x[a], y[a], x[b], y[b], alphas))
    # Rows that repeat in a resample shift what a lasso finds, so that percentiles may miss the point.
    return DCI(
        *(estimate_from_draws(p, torch.tensor(d), n) for p, d in zip(point, zip(*drawn, strict=True), strict=True))
    )


def score_importance(importance: np.ndarray) -> tuple[float, float]:
    """Return the disentanglement and completeness of R (codes, attributes); codes that matter to nothing don't count."""
    d, k = importance.shape
    total = importance.sum()
    if total <= 0:
        return 0.0, 0.0
    rows, columns = importance.sum(1), importance.sum(0)
    disentangled = 1 - _entropy(importance / np.maximum(rows, 1e-12)[:, None], 1) / np.log(max(k, 2))
    complete = 1 - _entropy(importance / np.maximum(columns, 1e-12)[None], 0) / np.log(max(d, 2))
    counted = columns > 0
    return float((disentangled * rows).sum() / total), float(complete[counted].mean())


def _entropy(p: np.ndarray, axis: int) -> np.ndarray:
    """Return the entropy along an axis."""
    return -(p * np.log(np.where(p > 0, p, 1.0))).sum(axis)


def _choose_alphas(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Choose each attribute's strength of the lasso: the one that predicts best on the last third of the codes."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import lasso_path

    cut = len(x) * 2 // 3
    (a, b), (mean, spread) = (x[:cut], x[cut:]), _standardise_scale(x[:cut])
    a, b = (a - mean) / spread, (b - mean) / spread
    best = []
    for column in y.T:
        centre = column[:cut].mean()
        target = column[:cut] - centre
        alphas = np.abs(a.T @ target).max() / cut * np.geomspace(1, 1e-3, ALPHA_COUNT)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            _, coefficients, _ = lasso_path(a, target, alphas=np.maximum(alphas, 1e-9))
        errors = ((column[cut:, None] - centre - b @ coefficients) ** 2).mean(0)
        best.append(alphas[errors.argmin()])
    return np.array(best)


def _fit_and_score(
    x: np.ndarray, y: np.ndarray, x_held: np.ndarray, y_held: np.ndarray, alphas: np.ndarray
) -> tuple[float, float, float]:
    """Fit each attribute's lasso on ``x``, ``y`` and return disentanglement, completeness, and informativeness on the rest."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso

    mean, spread = _standardise_scale(x)
    x, x_held = (x - mean) / spread, (x_held - mean) / spread
    importance, explained = np.zeros((x.shape[1], y.shape[1])), []
    for k, alpha in enumerate(alphas):
        # Attributes as standard deviations, so that coefficients of different ones compare.
        scale = max(y[:, k].std(), 1e-9)
        fitted = Lasso(alpha=max(alpha / scale, 1e-6), precompute=True, max_iter=2000, tol=1e-3)
        with warnings.catch_warnings():
            # Directions that are nearly alike: the last digits of such coefficients don't matter here.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fitted.fit(x, (y[:, k] - y[:, k].mean()) / scale)
        importance[:, k] = np.abs(fitted.coef_)
        target = (y_held[:, k] - y[:, k].mean()) / scale
        variance = max(target.var(), 1e-9)
        explained.append(1 - ((target - fitted.predict(x_held)) ** 2).mean() / variance)
    return (*score_importance(importance), float(np.mean(explained)))


def _standardise_scale(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(0), np.maximum(x.std(0), 1e-9)
