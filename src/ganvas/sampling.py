"""Codes that meet conditions: faces with chosen attribute values or ranges, everything else as it comes with them.

Lesné et al. sample W conditionally by fixing codes c_k and drawing the others. Here what is fixed is the probe's reading
of the chosen attributes, since a c_k is trained away from what goes with it; codes and what lies beyond the
components are drawn from their distribution given those readings. That distribution is normal in its second moments,
which Matheron's rule conditions exactly: draw a code of the generator's own, then add the regression of codes on readings
times what the readings lack. So the free dimensions keep the shape that they have in W, not that of a normal distribution.

A scorer's score is its reading plus an error that the code doesn't show. Readings are therefore kept so far inside a range
that scores fall into it with the chance ``chance``, on average over the drawn readings.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri
from torch import Tensor

from ganvas.codes import check_generator
from ganvas.edit import Editor
from ganvas.editors._compact_joint import Moments
from ganvas.editors.compact import CompactEditor
from ganvas.errors import GanvasError, unknown
from ganvas.generator import Generator, sample, truncate
from ganvas.types import WPlus

Range = tuple[float | None, float | None]
"""The lowest and the highest value that meet a condition; None where that side is open."""

FARTHEST = 6.0
"""Standard deviations of readings within which there are faces at all; one in a billion lies beyond."""
SWEEPS = 40
"""Of Gibbs sampling, where several attributes have conditions."""
CORRECTIONS = 4
"""Times that codes are moved to where their readings should be: the decoder isn't linear."""


@dataclass(frozen=True)
class Condition:
    """``low`` ≤ attribute ≤ ``high``, in standard deviations of its Gaussianised score, or as its probability."""

    attribute: str
    low: float | None
    high: float | None
    probability: bool = False


def parse_condition(text: str) -> Condition:
    """``Smiling>1``, ``Male=-1``, ``Eyeglasses<0``, ``Young=-1..1``, ``p(Smiling)>0.5``.

    Raises GanvasError for anything else, an empty range, and a probability outside 0 … 1.
    """
    number = r"([-+]?[0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)"
    match = re.fullmatch(rf"\s*(p\()?([^<>=()]+?)(\))?\s*([<>]=?|=)\s*{number}(?:\.\.{number})?\s*", text)
    if match is None or (match[1] is None) != (match[3] is None) or (match[6] is not None and match[4] != "="):
        raise GanvasError(f"{text!r} isn't a condition: write Smiling>1, Male=-1, Young=-1..1 or p(Smiling)>0.5.")
    first, last = float(match[5]), float(match[6] or match[5])
    low = first if match[4] in ("=", ">", ">=") else None
    high = last if match[4] in ("=", "<", "<=") else None
    _check(match[2].strip(), low, high)
    if match[1] and not all(0 <= side <= 1 for side in (first, last)):
        raise GanvasError(f"{text!r} asks for a probability outside 0 to 1.")
    return Condition(match[2].strip(), low, high, match[1] is not None)


def ranges(conditions: Iterable[Condition], editor: Editor) -> dict[str, Range]:
    """Conditions as ranges in the editor's units; several on one attribute must all be met.

    Raises GanvasError for an unknown attribute, an empty range, and the probability of what isn't one.
    """
    found: dict[str, Range] = {}
    for condition in conditions:
        name = condition.attribute
        column = _column(editor, name)
        low, high = condition.low, condition.high
        if condition.probability:
            if editor.kinds[column] != "probability":
                raise GanvasError(f"Attribute {name!r} is a {editor.kinds[column]}, it has no probability.")
            low, high = (_normal(editor, column, side) for side in (low, high))
        old = found.get(name, (None, None))
        lows, highs = ([s for s in pair if s is not None] for pair in ((old[0], low), (old[1], high)))
        found[name] = (max(lows, default=None), min(highs, default=None))
        _check(name, *found[name])
    return found


@torch.no_grad()
def sample_where(
    generator: Generator,
    editor: Editor,
    where: Mapping[str, Range | float],
    n: int,
    seed: int = 0,
    *,
    psi: float = 1.0,
    chance: float = 0.97,
) -> WPlus:
    """Codes (n, num_ws, w_dim) that meet ``where`` (attribute -> range or value, in the editor's units); rows are equal.

    Code i depends on ``seed + i`` alone, not on ``n``. A value is the probe's reading, met within 0.05
    (within 0.001 by the shipped editor); a range is met by scores with ``chance``. ``psi`` truncates what the
    conditions leave free.
    Raises GanvasError for an editor without a compact space or of another generator, an unknown attribute, an
    empty range, or one where there are no faces.
    """
    if not isinstance(editor, CompactEditor):
        raise GanvasError(f"Conditional sampling needs an editor with a compact space, not one of {editor.method!r}.")
    check_generator("The editor", editor.generator_name, editor.generator, generator)
    if n < 1:
        raise GanvasError(f"The number of codes must be at least 1, not {n}.")
    if not 0 < chance < 1:
        raise GanvasError(f"The chance to meet a range lies between 0 and 1, not at {chance}.")
    sides = {name: value if isinstance(value, tuple) else (value, value) for name, value in where.items()}
    if not sides:
        raise GanvasError("Conditional sampling needs at least one condition, like Smiling>1.")
    columns = [_column(editor, name) for name in sides]
    readings = _Readings.of(editor.joint.moments, columns)
    for k, (name, (low, high)) in enumerate(sides.items()):
        _check(name, low, high)
        readings.check(k, name, low, high)
    boxes = [readings.within(k, *side, chance) for k, side in enumerate(sides.values())]
    conditioning = _Conditioning(generator, editor, columns, readings, boxes, psi)
    # One code at a time: a product's last digits would change with the batch.
    return generator.expand(torch.cat([conditioning.code(seed + i) for i in range(n)]))


@dataclass(frozen=True)
class _Conditioning:
    """Codes of seeds, brought to readings drawn within ``boxes``."""

    generator: Generator
    editor: CompactEditor
    columns: list[int]
    readings: _Readings
    boxes: list[tuple[float, float]]
    psi: float

    @cached_property
    def regression(self) -> tuple[Tensor, Tensor]:
        """What readings tell of codes and of what lies beyond the components: (conditions, dim), (conditions, w_dim)."""
        moments, columns = self.editor.joint.moments, self.columns
        inverse = torch.linalg.pinv(moments.spread[columns][:, columns].double(), hermitian=True)
        codes, beyond = (part[:, columns].double() @ inverse for part in (moments.codes, moments.beyond))
        return codes.T.float(), beyond.T.float()

    def code(self, seed: int) -> Tensor:
        """The w of one seed, (1, w_dim)."""
        editor, pca = self.editor, self.editor.pca
        w = sample(self.generator, 1, 1.0, seed)[:, 0]
        here = editor.probe(w)[0, self.columns].double().cpu().numpy()
        target = torch.from_numpy(self.readings.draw(here, self.boxes, np.random.default_rng((seed, 1)))).to(w)
        w = truncate(w, self.generator.w_avg, self.psi)
        c = editor.encode(w)
        carried = w - editor.decode(c) if editor.options["residual"] else w - pca.unproject(pca.project(w))
        codes, beyond = self.regression
        for _ in range(CORRECTIONS):
            lacking = target - editor.probe(w)[:, self.columns]
            c, carried = c + lacking @ codes, carried + lacking @ beyond
            w = editor.decode(c) + carried
        return w


@dataclass(frozen=True)
class _Readings:
    """The readings of the chosen attributes, as a normal distribution, and the scores that go with them."""

    mean: np.ndarray
    spread: np.ndarray
    readings: np.ndarray
    scores: np.ndarray
    noise: np.ndarray

    @classmethod
    def of(cls, moments: Moments, columns: list[int]) -> _Readings:
        """Of some columns of an editor's moments."""
        spread = moments.spread[columns][:, columns]
        bins = (part[:, columns] for part in (moments.readings, moments.scores, moments.noise))
        return cls(*(part.double().cpu().numpy() for part in (moments.mean[columns], spread, *bins)))

    def reach(self, k: int) -> tuple[float, float]:
        """The lowest and the highest reading that there is."""
        sd = math.sqrt(max(self.spread[k, k], 1e-12))
        return self.mean[k] - FARTHEST * sd, self.mean[k] + FARTHEST * sd

    def check(self, k: int, name: str, low: float | None, high: float | None) -> None:
        """Raises GanvasError where no face is as the condition asks."""
        first, last = self.reach(k)
        asked = f"at least {low:g}" if low is not None and low > last else None
        asked = f"at most {high:g}" if high is not None and high < first else asked
        if asked:
            raise GanvasError(f"No face has {name!r} {asked}: readings go from {first:.1f} to {last:.1f}.")

    def within(self, k: int, low: float | None, high: float | None, chance: float) -> tuple[float, float]:
        """The range of readings whose scores lie in ``low`` … ``high`` with ``chance``; its middle where none is so sure."""
        if low is not None and high is not None and low == high:
            return low, high
        a, b = -math.inf if low is None else low, math.inf if high is None else high
        # Readings end somewhere: a margin must leave room for them.
        first, last = (float(_along(side, self.readings[:, k], self.scores[:, k])) for side in self.reach(k))
        least, most = 0.0, max(min((b - a) * 0.45, last - a, b - first, 4 * self.noise[:, k].max()), 0.0)
        for _ in range(40):
            margin = (least + most) / 2
            if self._chance(k, a, b, margin) < chance:
                least = margin
            else:
                most = margin
        return self._sides(k, a + most, b - most)

    def _sides(self, k: int, low: float, high: float) -> tuple[float, float]:
        """Mean scores as readings."""
        ends = (float(_along(side, self.scores[:, k], self.readings[:, k])) for side in (low, high))
        return min(next(ends), self.reach(k)[1]), max(next(ends), self.reach(k)[0])

    def _chance(self, k: int, low: float, high: float, margin: float) -> float:
        """That a score lies in the range, over readings whose mean scores keep ``margin`` inside of it."""
        box = self._sides(k, low + margin, high - margin)
        drawn = _truncated((np.arange(200) + 0.5) / 200, self.mean[k], math.sqrt(max(self.spread[k, k], 1e-12)), *box)
        mean = _along(drawn, self.readings[:, k], self.scores[:, k])
        noise = np.interp(drawn, self.readings[:, k], self.noise[:, k])
        return float((ndtr((high - mean) / noise) - ndtr((low - mean) / noise)).mean())

    def draw(self, here: np.ndarray, boxes: list[tuple[float, float]], rng: np.random.Generator) -> np.ndarray:
        """Readings within ``boxes``. One alone is drawn by the rank of the code's own, so that codes move no
        further than they must; several by Gibbs sampling."""
        sd = np.sqrt(np.diag(self.spread).clip(1e-12))
        if len(boxes) == 1:
            u = np.clip(ndtr((here - self.mean) / sd), 1e-6, 1 - 1e-6)
            return _truncated(u, self.mean, sd, *(np.array([side]) for side in boxes[0]))
        target = np.array([np.clip(x, low, high) for x, (low, high) in zip(here, boxes, strict=True)])
        for u in rng.uniform(1e-6, 1 - 1e-6, (SWEEPS, len(boxes))):
            for k, (box, (weights, left)) in enumerate(zip(boxes, self.given_others, strict=True)):
                mean = self.mean[k] + weights @ (target - self.mean)
                target[k] = _truncated(u[k], mean, left, *box)
        return target

    @cached_property
    def given_others(self) -> list[tuple[np.ndarray, float]]:
        """For each attribute its regression on the others (0 for itself), and the standard deviation that is left."""
        found = []
        for k in range(len(self.mean)):
            others = [j for j in range(len(self.mean)) if j != k]
            weights = np.zeros(len(self.mean))
            weights[others] = np.linalg.pinv(self.spread[np.ix_(others, others)]) @ self.spread[others, k]
            found.append((weights, math.sqrt(max(self.spread[k, k] - weights @ self.spread[:, k], 1e-12))))
        return found


def _along(x: ArrayLike, xs: np.ndarray, ys: np.ndarray) -> np.ndarray:
    """The piecewise linear map through rising knots, going on beyond them with its mean slope."""
    slope = (ys[-1] - ys[0]) / (xs[-1] - xs[0])
    x = np.asarray(x)
    return np.asarray(np.interp(x, xs, ys) + slope * (np.minimum(x - xs[0], 0) + np.maximum(x - xs[-1], 0)))


def _truncated(u: ArrayLike, mean: ArrayLike, sd: ArrayLike, low: ArrayLike, high: ArrayLike) -> np.ndarray:
    """The quantile ``u`` of a normal distribution cut to ``low`` … ``high``, exact far out in both tails."""
    u, mean, sd, low, high = map(np.asarray, (u, mean, sd, low, high))
    a, b = (low - mean) / sd, (high - mean) / sd
    # Far above the mean 1 - probability says more than the probability: mirror.
    mirrored = a + b > 0
    first, last = np.where(mirrored, -b, a), np.where(mirrored, -a, b)
    share = np.where(mirrored, 1 - u, u)
    p = ndtr(first) + share * (ndtr(last) - ndtr(first))
    # Where even that underflows, the nearer end is all there is.
    x = np.clip(np.where(p > 1e-300, ndtri(np.maximum(p, 1e-300)), last), first, last)
    return np.asarray(mean + sd * np.where(mirrored, -x, x))


def _normal(editor: Editor, column: int, probability: float | None) -> float | None:
    """A probability as a normal score; None where it's open, or 0 or 1."""
    if probability is None or not 0 < probability < 1:
        return None
    logit = torch.full((1, 1), math.log(probability / (1 - probability)), dtype=torch.float64)
    return float(editor.gaussianize.select([column])(logit))


def _column(editor: Editor, name: str) -> int:
    if name not in editor.attributes:
        raise unknown("attribute", name, editor.attributes)
    return editor.attributes.index(name)


def _check(name: str, low: float | None, high: float | None) -> None:
    for side in (low, high):
        if side is not None and not math.isfinite(side):
            raise GanvasError(f"The condition on {name!r} must have finite numbers, not {side}.")
    if low is None and high is None:
        raise GanvasError(f"The condition on {name!r} is none: both sides are open.")
    if low is not None and high is not None and low > high:
        raise GanvasError(f"No face has {name!r} at least {low:g} and at most {high:g}.")
