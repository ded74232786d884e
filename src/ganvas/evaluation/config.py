"""Sizes of an evaluation: the full one, a quick one, or any other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ganvas.control.search import StrengthLadder
from ganvas.errors import GanvasError
from ganvas.seeds import EVALUATION_SEED


@dataclass(frozen=True)
class StrengthGrid:
    """Strengths to try: ``step``, 2 ``step``, … ``maximum``, in the units of ``Editor.edit``; number k is rung k.

    ``stride``: the paper's protocol climbs so many rungs at a time. ``patience``: it gives up after so many strides that
    brought the score no further: a degraded picture doesn't reach the target. ``tolerance``: how near to an equal change of the
    target is near enough, in standard deviations, within ``max_pictures`` pictures.
    """

    step: float = 0.05
    maximum: float = 6.0
    stride: int = 10
    patience: int = 2
    tolerance: float = 0.15
    max_pictures: int = 6

    def __post_init__(self) -> None:
        if not 0 < self.step * self.stride <= self.maximum < float("inf") or self.stride < 1:
            raise GanvasError(
                f"A grid of strengths needs 0 < step · stride <= maximum, not step {self.step}, stride {self.stride} and maximum"
                f" {self.maximum}."
            )
        if self.patience < 1 or self.max_pictures < 1 or not self.tolerance > 0:
            raise GanvasError(
                f"patience, max_pictures and tolerance must be above 0, not {self.patience}, {self.max_pictures}"
                f" and {self.tolerance}."
            )

    @property
    def ladder(self) -> StrengthLadder:
        """All strengths."""
        return StrengthLadder(self.step, self.maximum)


@dataclass(frozen=True)
class EvaluationConfig:
    """Faces an attribute for each protocol, all drawn from ``seed`` upwards at ``psi``; 0 leaves a protocol out.

    The defaults are the full report, on the methods of ``methods.list_entries``.
    """

    first: int = 256
    """Faces in the paper's protocol, for methods of the group "first"."""
    rest: int = 64
    """Faces in the paper's protocol, for the other methods."""
    ablations: int = 8
    """Faces for the compact method's ablations, at equal changes only."""
    matched: int = 64
    """Faces that are brought to equal changes of the target, for the group "first": the first ones of ``first``."""
    matched_rest: int = 24
    """Faces that are brought to equal changes of the target, for the other methods: the first ones of ``rest``."""
    other_attribute_faces: int = 32
    """Faces for every other attribute of the scorer, for methods that try all, at the first of ``targets`` only."""
    joint_edit_faces: int = 8
    """Faces for edits of two and three attributes at once, for methods of the group "first"."""
    random_moves: int = 32
    """Random moves at each target."""
    pictures: int = 3
    """Faces an attribute on the picture sheets."""
    targets: tuple[float, ...] = (1.0, 2.0)
    """Equal changes of the target's normal score, in standard deviations."""
    curve: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
    """Changes of the target at which the curves have a point; they cost no pictures."""
    search: StrengthGrid = StrengthGrid()
    pool: int = 1024
    """Fresh faces to score at least."""
    pool_limit: int = 2048
    """Fresh faces to score at most, to find enough that an attribute can be tried on."""
    measured: int = 20_000
    """Codes that the covariance of W is fitted on."""
    latent: int = 512
    """Codes for measures without pictures."""
    labels: tuple[int, ...] = (100, 300, 1_000, 3_000, 10_000, 30_000)
    """Numbers of labels to learn from, for label efficiency."""
    dci: int = 50
    """Bootstrap resamples of DCI; each is as many regressions as there are attributes."""
    batch: int = 8
    seed: int = EVALUATION_SEED
    psi: float = 1.0
    share: float = 1.0
    """The share of the full report's faces, as ``scale`` sets it: reports state it."""

    def __post_init__(self) -> None:
        for name in ("first", "rest", "pool", "latent", "batch"):
            if getattr(self, name) < 1:
                raise GanvasError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if not all(0 < change < math.inf for change in (*self.targets, *self.curve)):
            raise GanvasError(f"targets and curve must be finite and above 0, not {(*self.targets, *self.curve)}.")
        if not math.isfinite(self.psi):
            raise GanvasError(f"psi must be a finite number, not {self.psi}.")

    def count_faces(self, group: str) -> tuple[int, int]:
        """Return the faces an attribute for a method of ``group``: in the paper's protocol, and at equal changes."""
        pairs = {"first": (self.first, min(self.matched, self.first)), "ablation": (0, self.ablations)}
        return pairs.get(group, (self.rest, min(self.matched_rest, self.rest)))

    def scale(self, share: float) -> EvaluationConfig:
        """Return the same config with a share of the faces, the first ones, and no fewer of any than ``MINIMUM_SIZES``.

        A larger share that goes on in the folder of a smaller one reuses its pictures.
        Raises GanvasError for a share that isn't above 0 and at most 1.
        """
        if not 0 < share <= 1:
            raise GanvasError(f"A share of the faces is above 0 and at most 1, not {share}.")
        sizes = {name: getattr(self, name) for name in MINIMUM_SIZES}
        scaled = {name: min(n, max(MINIMUM_SIZES[name], math.ceil(share * n))) for name, n in sizes.items()}
        return replace(self, **scaled, share=share)


MINIMUM_SIZES = {
    "first": 16,
    "rest": 8,
    "ablations": 4,
    "matched": 16,
    "matched_rest": 8,
    "other_attribute_faces": 8,
    "joint_edit_faces": 4,
    "random_moves": 8,
    "pool": 384,
    "latent": 256,
    "dci": 10,
}
"""The smallest size of each protocol, however small the share."""
FULL = EvaluationConfig()
"""The report that ``docs/results`` holds."""
QUICK = EvaluationConfig(
    first=16,
    rest=16,
    ablations=0,
    matched=8,
    matched_rest=8,
    other_attribute_faces=0,
    joint_edit_faces=0,
    random_moves=4,
    pictures=1,
    targets=(1.0,),
    search=StrengthGrid(stride=20),
    pool=64,
    pool_limit=128,
    labels=(),
    dci=0,
)
"""A report on a few methods and 16 faces, with strides of 1 σ."""
