"""Sample codes under conditions: faces with chosen attribute values or ranges, and the other attributes drawn jointly.

Lesné et al. sample W conditionally by fixing codes c_k and drawing the others. Here the expected scores are fixed instead,
since a c_k is trained to be independent of correlated attributes. Of many drawn codes the first that meets the conditions is
taken, so that the other attributes have their conditional distribution. Where none does, the nearest is edited by its gap.

A scorer's score scatters around the score that a code lets expect. Expected scores are therefore kept inside a range by a
margin such that each sample's score falls into it with the probability ``chance``. Far out in W a scorer reads less of a rare
attribute than is expected, so codes are drawn a little nearer to the mean (``FREE_PSI``).
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

from ganvas.control.conditions import Range, check_range, check_reachable, find_attribute
from ganvas.data.codes import check_generator
from ganvas.editors.base import Editor
from ganvas.editors.compact import CompactEditor
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, assign_labels, sample
from ganvas.types import Labels, Scores, W, WPlus

NUM_CANDIDATES = 255
"""Codes that are drawn beside the seed's own to find one that meets the conditions."""
MAX_CORRECTIONS = 4
"""The most edits of a code, since expected scores aren't linear."""
TOLERANCE = 0.05
"""How far outside its range, in standard deviations, an expected score may be without a warning."""
FREE_PSI = 0.85
"""The truncation psi of drawn codes at ``psi`` 1."""


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
    """Sample codes (n, num_ws, w_dim) that meet ``where`` (attribute -> range or value, in the editor's units); rows are equal.

    Code i depends on ``seed + i`` alone, not on ``n``. A value is the probe's reading; each score is in its range with the
    probability ``chance``, where there are such faces. ``psi`` truncates what the conditions leave free. ``labels``
    (n, num_labels) are a conditional generator's, by default ``assign_labels``: a code is chosen among codes of its own label.
    A warning says how many codes are expected outside their ranges by more than ``TOLERANCE``, and how far the worst is.
    Raises GanvasError for an editor without a compact space or of another generator, an unknown attribute, a range that is
    empty or without faces, and labels that the generator doesn't take.
    """
    if not isinstance(editor, CompactEditor):
        raise GanvasError(
            f"Conditional sampling needs an editor with a compact space, not one of {editor.method!r}: `ganvas balance`"
            " works with any editor."
        )
    check_generator("The editor", editor.generator_name, editor.generator, generator)
    if n < 1:
        raise GanvasError(f"The number of codes must be at least 1, not {n}.")
    if not 0 < chance < 1:
        raise GanvasError(f"chance must be a probability between 0 and 1, not {chance}.")
    if labels is None:
        labels = assign_labels(generator, range(seed, seed + n))
    elif len(labels) != n:
        raise GanvasError(f"{len(labels)} labels were given for {n} codes: give one a code.")
    sides = {name: value if isinstance(value, tuple) else (value, value) for name, value in where.items()}
    if not sides:
        raise GanvasError("Conditional sampling needs at least one condition, like Smiling>1.")
    columns = [find_attribute(editor, name) for name in sides]
    for name, (low, high) in sides.items():
        check_range(name, low, high)
        check_reachable(name, low, high)
    sampler = _ConditionalSampler(
        generator, editor, columns, _TargetRanges.from_ranges(editor, columns, list(sides.values()), chance), psi
    )
    # One code at a time: a product's last digits would change with the batch.
    w = torch.cat([sampler.sample_code(seed + i, None if labels is None else labels[i : i + 1]) for i in range(n)])
    miss = sampler.compute_miss(w)
    misses, worst = miss.amax(1), list(sides)[int(miss.amax(0).argmax())]
    if (misses > TOLERANCE).any():
        count = f"{int((misses > TOLERANCE).sum())} of {n} codes from seed {seed} on are expected outside their ranges"
        farthest = f"{worst} by up to {float(misses.max()):.2f} σ"
        warnings.warn(f"{count}, {farthest}: ask for less, or for fewer things at once.", stacklevel=3)
    return generator.expand(w)


@dataclass(frozen=True)
class _TargetRanges:
    """Target ranges from ``low`` to ``high``, each (conditions,): of the probe's reading where ``value``, else of expected
    scores."""

    low: Tensor
    high: Tensor
    value: Tensor
    margin: Tensor
    """How far ``low`` and ``high`` lie inside the conditions' ranges."""

    @classmethod
    def from_ranges(cls, editor: CompactEditor, columns: list[int], sides: list[Range], chance: float) -> _TargetRanges:
        """Make targets with a margin, so that a score falls into its range with ``chance``, at most up to the range's middle."""
        margin = editor.get_buffer("doubt")[columns] * float(ndtri(chance))
        low = torch.tensor([-math.inf if low is None else low for low, _ in sides]).to(margin)
        high = torch.tensor([math.inf if high is None else high for _, high in sides]).to(margin)
        margin = torch.minimum(margin, (high - low) / 2)
        return cls(low + margin, high - margin, low == high, margin)

    def compute_gap(self, readings: Scores) -> Scores:
        """Compute how far to move, (n, conditions); 0 where the condition is met."""
        return torch.minimum(torch.maximum(readings, self.low), self.high) - readings

    def compute_miss(self, readings: Scores) -> Scores:
        """Compute how far outside the conditions' ranges readings are, (n, conditions), 0 or more."""
        return (self.compute_gap(readings).abs() - self.margin).clamp(min=0)


@dataclass(frozen=True)
class _ConditionalSampler:
    """Codes of seeds, brought to the targets."""

    generator: Generator
    editor: CompactEditor
    columns: list[int]
    targets: _TargetRanges
    psi: float

    def sample_code(self, seed: int, label: Labels | None) -> W:
        """Sample the w of one seed, (1, w_dim), of the ``label`` (1, num_labels)."""
        w = self._choose_candidate(seed, label)
        constrained = w.new_zeros(1, len(self.editor.attributes))
        constrained[:, self.columns] = 1.0
        for _ in range(MAX_CORRECTIONS):
            gap = self.compute_gap(w)
            if not gap.any():
                break
            changes = w.new_zeros(1, len(self.editor.attributes))
            changes[:, self.columns] = gap
            # Conditions that are met already must not be changed by the edit for the others.
            w = w + self.editor.shift_named(w, changes, torch.maximum(changes.abs(), constrained))
        return w

    def _choose_candidate(self, seed: int, label: Labels | None) -> W:
        """Choose the code with the least gap of the seed's own and ``NUM_CANDIDATES`` of its label, truncated, (1, w_dim)."""
        z = torch.from_numpy(np.random.default_rng((seed, 1)).standard_normal((NUM_CANDIDATES, self.generator.z_dim)))
        w = sample(self.generator, 1, 1.0, seed, label)[:, 0]
        w = torch.cat((w, self.generator.mapping(z.to(w), None if label is None else label.expand(len(z), -1))))
        w = self.generator.truncate(w, self.psi * FREE_PSI)
        return w[self.compute_gap(w).square().sum(1).argmin(0, keepdim=True)]

    def compute_gap(self, w: W) -> Scores:
        """Compute how far each condition is from being met, (n, conditions)."""
        return self.targets.compute_gap(self._read_conditions(w))

    def compute_miss(self, w: W) -> Scores:
        """Compute how far outside each condition codes are expected, (n, conditions)."""
        return self.targets.compute_miss(self._read_conditions(w))

    def _read_conditions(self, w: W) -> Scores:
        readings, expected = self.editor.probe(w), self.editor.predict_scores(w)
        return torch.where(self.targets.value, readings[:, self.columns], expected[:, self.columns])
