"""Recipes: everything about a picture, as values.

A face starts somewhere (a seed, conditions, a row of a codes file), may take a share of a second face, and is then
edited step by step. ``recipe.rendering`` draws the picture, ``recipe.json_format`` turns recipes into JSON and back,
``ganvas.recipe.sheet`` puts several into one picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from ganvas.errors import GanvasError
from ganvas.types import DTYPES

Range = tuple[float | None, float | None]
"""The lowest and the highest value that meet a condition; None where that side is open."""


@dataclass(frozen=True)
class NamedTool:
    """A generator or an editor: its name, and the sha256 of its weights."""

    name: str
    fingerprint: str


@dataclass(frozen=True)
class FromSeed:
    """The face of a seed, truncated by ``psi``; ``labels`` are a conditional generator's."""

    seed: int
    psi: float = 0.7
    labels: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_seed(self.seed)
        _check_finite("psi", self.psi, *(self.labels or ()))


@dataclass(frozen=True)
class FromConditions:
    """A face drawn with ``seed`` among those that meet the conditions (attribute -> range, in the editor's units).

    ``psi`` truncates what the conditions leave free; ``labels`` are a conditional generator's.
    """

    where: Mapping[str, Range]
    seed: int
    psi: float = 0.7
    labels: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        _check_seed(self.seed)
        _check_finite("psi", self.psi, *(self.labels or ()))
        for name, (low, high) in self.where.items():
            _check_finite(f"The condition on {name!r}", *(side for side in (low, high) if side is not None))
            if low is not None and high is not None and low > high:
                raise GanvasError(f"No face has {name!r} at least {low:g} and at most {high:g}.")
        if not self.where:
            raise GanvasError("Conditional sampling needs at least one condition, like Smiling>1.")


@dataclass(frozen=True)
class FromCodes:
    """Row ``row`` of the codes file with this sha256; its path is given when the recipe is rendered."""

    codes: str
    row: int

    def __post_init__(self) -> None:
        if self.row < 0:
            raise GanvasError(f"A row of a codes file is a whole number from 0 on, not {self.row}.")


Start = FromSeed | FromConditions | FromCodes


@dataclass(frozen=True)
class Mix:
    """Rows of the code that come from a second face, by ``amount``: 1 is style mixing, all rows at 0.5 is half-way."""

    start: Start
    rows: tuple[int, ...]
    amount: float = 1.0

    def __post_init__(self) -> None:
        _check_finite("The amount of a mix", self.amount)
        if not self.rows or min(self.rows) < 0:
            raise GanvasError("A mix needs the rows that come from the second face, counted from 0.")


@dataclass(frozen=True)
class EditStep:
    """One edit: attributes set to values and attributes shifted by changes (both in σ), all in one step."""

    set: Mapping[str, float] = field(default_factory=dict)
    shift: Mapping[str, float] = field(default_factory=dict)
    amount: float = 1.0
    """The share of the edit that is applied: the frames of an animation go from 0 to 1."""

    def __post_init__(self) -> None:
        _check_finite("The amount of an edit", self.amount)
        for name, value in (*self.set.items(), *self.shift.items()):
            _check_finite(f"The value of {name!r}", value)
        if both := sorted(self.set.keys() & self.shift.keys()):
            raise GanvasError(f"Attribute {both[0]!r} is both set and shifted in one edit: do one of them.")


@dataclass(frozen=True)
class Recipe:
    """One picture. ``editor`` is None where nothing is edited or drawn by conditions."""

    generator: NamedTool
    start: Start
    dtype: str = "float32"
    mix: Mix | None = None
    editor: NamedTool | None = None
    edits: tuple[EditStep, ...] = ()
    photo: str | None = None
    """The sha256 of the aligned photograph that the code inverts, where the inversion's residual is added to the picture."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise GanvasError(f"Unknown dtype {self.dtype!r}: pick one of {', '.join(DTYPES)}.")
        if self.photo is not None and not isinstance(self.start, FromCodes):
            raise GanvasError(
                "A recipe with a photograph must start from codes: its residual belongs to one inversion."
            )
        if self.editor is None and needs_editor(self.starts, self.edits):
            raise GanvasError("A recipe with edits or conditions must name its editor.")

    @property
    def starts(self) -> tuple[Start, ...]:
        """The starts of its one or two faces."""
        return (self.start,) if self.mix is None else (self.start, self.mix.start)


def needs_editor(starts: tuple[Start, ...], edits: tuple[EditStep, ...]) -> bool:
    """Return whether anything is edited or drawn by conditions."""
    return bool(edits) or any(isinstance(start, FromConditions) for start in starts)


def _check_finite(what: str, *values: float) -> None:
    for value in values:
        if not math.isfinite(value):
            raise GanvasError(f"{what} must be a finite number, not {value}.")


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise GanvasError(f"A seed is a whole number from 0 to {2**32 - 1}, not {seed}.")
