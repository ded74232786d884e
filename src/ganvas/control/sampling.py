"""Codes that meet conditions: faces with chosen attribute values or ranges, everything else as it comes with them.

Lesné et al. sample W conditionally by fixing codes c_k and drawing the others. Here what is fixed is what scores are
expected, since a c_k is trained away from what goes with it. Of many codes of the generator's own the first is taken that
meets the conditions, so that the rest comes as it comes with them. Where none does, the nearest is edited by what it lacks.

A scorer's score scatters about what the code lets expect. Expected scores are therefore kept so far inside a range that
each sample's score falls into it with the chance ``chance``. That isn't all: far out in W a scorer sees of a rare attribute
less than is expected, so that codes are drawn a little nearer to the mean (``FREE_PSI``).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from ganvas.control.conditions import Range, _check, _check_reach, _column
from ganvas.data.codes import check_generator
from ganvas.editors.base import Editor
from ganvas.editors.compact import CompactEditor
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, round_labels, sample, truncate
from ganvas.types import Labels, Scores, W, WPlus

CANDIDATES = 255
"""Codes that are looked through for one that meets the conditions, beside the seed's own."""
CORRECTIONS = 4
"""Times that a code is edited: what is expected isn't linear."""
TOLERANCE = 0.05
"""How far, in standard deviations, a code may be expected outside of what was asked for without a word."""
FREE_PSI = 0.85
"""The truncation psi of codes that are drawn, at the psi of 1 that is asked for."""


@torch.no_grad()
def sample_where(
    generator: Generator,
    editor: Editor,
    where: Mapping[str, Range | float],
    n: int,
    seed: int = 0,
    *,
    psi: float = 1.0,
    chance: float = 0.9,
    labels: Labels | None = None,
) -> WPlus:
    """Codes (n, num_ws, w_dim) that meet ``where`` (attribute -> range or value, in the editor's units); rows are equal.

    Code i depends on ``seed + i`` alone, not on ``n``. A value is the probe's reading; a range is met by each score with
    ``chance``, where there are such faces. ``psi`` truncates what the conditions leave free. ``data.label_files``
    (n, num_labels) are a
    conditional generator's, by default ``round_labels``: a code is chosen among codes of its own label alone. A warning
    says how many codes are expected outside of what was asked for by more than ``TOLERANCE``, and how far the worst is.
    Raises GanvasError for an editor without a compact space or of another generator, an unknown attribute, an
    empty range, one where there are no faces, and labels that the generator doesn't take.
    """
    if not isinstance(editor, CompactEditor):
        raise GanvasError(
            f"Conditional sampling needs an editor with a compact space, not one of {editor.method!r}: `ganvas balance` draws"
            " by any."
        )
    check_generator("The editor", editor.generator_name, editor.generator, generator)
    if n < 1:
        raise GanvasError(f"The number of codes must be at least 1, not {n}.")
    if not 0 < chance < 1:
        raise GanvasError(f"The chance to meet a range lies between 0 and 1, not at {chance}.")
    if labels is None:
        labels = round_labels(generator, range(seed, seed + n))
    elif len(labels) != n:
        raise GanvasError(f"{len(labels)} labels were given for {n} codes: give one a code.")
    sides = {name: value if isinstance(value, tuple) else (value, value) for name, value in where.items()}
    if not sides:
        raise GanvasError("Conditional sampling needs at least one condition, like Smiling>1.")
    columns = [_column(editor, name) for name in sides]
    for name, (low, high) in sides.items():
        _check(name, low, high)
        _check_reach(name, low, high)
    conditioning = _Conditioning(
        generator, editor, columns, _Wanted.of(editor, columns, list(sides.values()), chance), psi
    )
    # One code at a time: a product's last digits would change with the batch.
    w = torch.cat([conditioning.code(seed + i, None if labels is None else labels[i : i + 1]) for i in range(n)])
    missed = conditioning.missed(w)
    short, worst = missed.amax(1), list(sides)[int(missed.amax(0).argmax())]
    if (short > TOLERANCE).any():
        told = f"{int((short > TOLERANCE).sum())} of {n} codes from seed {seed} on are expected outside of what was asked for"
        farthest = f"{worst} by up to {float(short.max()):.2f} σ"
        warnings.warn(f"{told}, {farthest}: ask for less, or for fewer things at once.", stacklevel=3)
    return generator.expand(w)


@dataclass(frozen=True)
class _Wanted:
    """(conditions,) each: what is asked for lies from ``low`` to ``high``; a ``value`` is the probe's reading, the rest expected
    scores."""

    low: Tensor
    high: Tensor
    value: Tensor
    margin: Tensor
    """How far ``low`` and ``high`` lie inside of what was asked for."""

    @classmethod
    def of(cls, editor: CompactEditor, columns: list[int], sides: list[Range], chance: float) -> _Wanted:
        """With a margin inside of ranges, so wide that a score falls in with ``chance``, but never past their middle."""
        margin = editor.get_buffer("doubt")[columns] * float(ndtri(chance))
        low = torch.tensor([-math.inf if low is None else low for low, _ in sides]).to(margin)
        high = torch.tensor([math.inf if high is None else high for _, high in sides]).to(margin)
        margin = torch.minimum(margin, (high - low) / 2)
        return cls(low + margin, high - margin, low == high, margin)

    def lacking(self, found: Scores) -> Scores:
        """How far to move, (n, conditions); 0 where the condition is met."""
        return torch.minimum(torch.maximum(found, self.low), self.high) - found

    def missed(self, found: Scores) -> Scores:
        """How far outside of what was asked for, (n, conditions), from 0 on."""
        return (self.lacking(found).abs() - self.margin).clamp(min=0)


@dataclass(frozen=True)
class _Conditioning:
    """Codes of seeds, brought to what is ``balance.score_ranges``."""

    generator: Generator
    editor: CompactEditor
    columns: list[int]
    wanted: _Wanted
    psi: float

    def code(self, seed: int, label: Labels | None) -> W:
        """The w of one seed, (1, w_dim), of the ``label`` (1, num_labels)."""
        w = self._nearest(seed, label)
        kept = w.new_zeros(1, len(self.editor.attributes))
        kept[:, self.columns] = 1.0
        for _ in range(CORRECTIONS):
            lacking = self.lacking(w)
            if not lacking.any():
                break
            changes = w.new_zeros(1, len(self.editor.attributes))
            changes[:, self.columns] = lacking
            # What is met already must not be drawn in by what is still lacking.
            w = w + self.editor.shift_named(w, changes, torch.maximum(changes.abs(), kept))
        return w

    def _nearest(self, seed: int, label: Labels | None) -> W:
        """Of the seed's own code and ``CANDIDATES`` others of its label, truncated, the first that lacks least: (1, w_dim)."""
        z = torch.from_numpy(np.random.default_rng((seed, 1)).standard_normal((CANDIDATES, self.generator.z_dim)))
        w = sample(self.generator, 1, 1.0, seed, label)[:, 0]
        w = torch.cat((w, self.generator.mapping(z.to(w), None if label is None else label.expand(len(z), -1))))
        w = truncate(w, self.generator.w_avg, self.psi * FREE_PSI)
        return w[self.lacking(w).square().sum(1).argmin(0, keepdim=True)]

    def lacking(self, w: W) -> Scores:
        """How far each condition is from being met, (n, conditions)."""
        return self.wanted.lacking(self._found(w))

    def missed(self, w: W) -> Scores:
        """How far outside of each condition codes are expected, (n, conditions)."""
        return self.wanted.missed(self._found(w))

    def _found(self, w: W) -> Scores:
        readings, expected = self.editor.probe(w), self.editor.predict_scores(w)
        return torch.where(self.wanted.value, readings[:, self.columns], expected[:, self.columns])
