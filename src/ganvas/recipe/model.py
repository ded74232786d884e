"""Recipes: everything about a picture, as values that are validated, and their JSON.

A face starts somewhere (a seed, conditions, a row of a codes file), may take a share of a second face, and is then
edited step by step. ``recipe.rendering`` draws the picture, ``recipe.sheet`` puts several into one picture.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from dataclasses import field, fields, is_dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from ganvas.control.conditions import Range, check_range
from ganvas.errors import GanvasError, unknown
from ganvas.generators.regions import Region
from ganvas.io.fingerprints import NamedTool
from ganvas.types import Dtype
from ganvas.validation import Natural, Number, PositiveInt, parse, validated

VERSION = 1
MAX_PICTURES = 1000
"""Pictures in one sheet: its recipe must fit into a PNG's text."""
MAX_PIXELS = 100_000_000
"""Pixels of all pictures of one sheet: they are held in memory."""

Seed = Annotated[int, Field(strict=True, ge=0, lt=2**32)]


@validated
class FromSeed:
    """The face of a seed, truncated by ``psi``; ``labels`` are a conditional generator's."""

    seed: Seed
    psi: Number = 0.7
    labels: tuple[Number, ...] | None = None


@validated
class FromConditions:
    """A face drawn with ``seed`` among those that meet the conditions (attribute -> range, in the editor's units).

    ``psi`` truncates what the conditions leave free; ``labels`` are a conditional generator's.
    """

    where: Mapping[str, Range]
    seed: Seed
    psi: Number = 0.7
    labels: tuple[Number, ...] | None = None
    WRITTEN_IF_SET: ClassVar = ("labels",)

    def __post_init__(self) -> None:
        for name, (low, high) in self.where.items():
            check_range(name, low, high)
        if not self.where:
            raise GanvasError("Conditional sampling needs at least one condition, like Smiling>1.")


@validated
class FromCodes:
    """Row ``row`` of the codes file with this sha256; its path is given when the recipe is rendered."""

    codes: str
    row: Natural


STARTS = {"seed": FromSeed, "conditions": FromConditions, "codes": FromCodes}
"""The kinds of starts by their names in JSON."""


def _parse_start(value: object) -> object:
    if isinstance(value, FromSeed | FromConditions | FromCodes):
        return value
    kind = value.get("from") if isinstance(value, dict) else value
    if not isinstance(value, dict) or kind not in tuple(STARTS):
        raise unknown("start", kind, STARTS)
    return parse(STARTS[str(kind)], {key: item for key, item in value.items() if key != "from"}, complete=True)


Start = Annotated[FromSeed | FromConditions | FromCodes, BeforeValidator(_parse_start)]


@validated
class Mix:
    """Rows of the code that come from a second face, by ``amount``: 1 is style mixing, all rows at 0.5 is half-way."""

    start: Start
    rows: Annotated[tuple[Natural, ...], Field(min_length=1)]
    amount: Number = 1.0


@validated
class EditStep:
    """One edit: attributes set to values and attributes shifted by changes (both in σ), all in one step."""

    set: Mapping[str, Number] = field(default_factory=dict)
    shift: Mapping[str, Number] = field(default_factory=dict)
    amount: Number = 1.0
    """The share of the edit that is applied: the frames of an animation go from 0 to 1."""
    rows: Annotated[tuple[Natural, ...], Field(min_length=1)] | None = None
    """The rows of W+ that are moved, in rising order; None: all that the editor moves."""
    refined: Mapping[str, Number] | None = None
    """The changes that are applied in place of ``set`` and ``shift``: those at which one picture reads as these ask."""
    search_steps: Natural | None = None
    """How many steps an editor that searches each code takes; None: as many as it does by itself."""
    WRITTEN_IF_SET: ClassVar = ("rows", "refined", "search_steps")

    def __post_init__(self) -> None:
        if self.rows is not None and list(self.rows) != sorted(set(self.rows)):
            raise GanvasError(f"The rows of an edit must rise, each once, not {', '.join(map(str, self.rows))}.")
        if both := sorted(self.set.keys() & self.shift.keys()):
            raise GanvasError(f"Attribute {both[0]!r} is both set and shifted in one edit: do one of them.")

    def apply_refinement(self) -> EditStep:
        """Return the same edit with its refined changes as shifts, if it has any."""
        return self if self.refined is None else replace(self, set={}, shift=self.refined, refined=None)


@validated
class InputTransform:
    """How a StyleGAN3's picture is turned (degrees anticlockwise), then moved right and down (in widths of a picture)."""

    angle: Number = 0.0
    x: Number = 0.0
    y: Number = 0.0


@validated
class Recipe:
    """One picture. ``editor`` is None where nothing is edited or drawn by conditions."""

    generator: NamedTool
    start: Start
    dtype: Dtype = "float32"
    mix: Mix | None = None
    editor: NamedTool | None = None
    edits: tuple[EditStep, ...] = ()
    photo: str | None = None
    """The sha256 of the aligned photograph that the code inverts, where the inversion's residual is added to the picture."""
    other_generator: Literal[True] | None = None
    """Set where the editor was fitted for another generator, and was allowed to edit this one's codes."""
    regions: Annotated[tuple[Region, ...], Field(min_length=1)] | None = None
    """Where edits may change the picture; None: everywhere, or by ``mask``."""
    mask: str | None = None
    """The sha256 of a mask's pixels, where a picture says where edits may change it."""
    transform: InputTransform | None = None
    WRITTEN_IF_SET: ClassVar = ("photo", "other_generator", "regions", "mask", "transform")

    def __post_init__(self) -> None:
        if self.regions is not None and self.mask is not None:
            raise GanvasError("A recipe's edits are kept in regions or by a mask, not by both.")
        if self.photo is not None and self.transform is not None:
            raise GanvasError("A recipe with a photograph can't turn or move the picture: its residual would stay.")
        if self.photo is not None and not isinstance(self.start, FromCodes):
            raise GanvasError(
                "A recipe with a photograph must start from codes: its residual belongs to one inversion."
            )
        drawn = any(isinstance(start, FromConditions) for start in self.starts)
        if self.editor is None and (self.edits or drawn):
            raise GanvasError("A recipe with edits or conditions must name its editor.")

    @property
    def starts(self) -> tuple[Start, ...]:
        """The starts of its one or two faces."""
        return (self.start,) if self.mix is None else (self.start, self.mix.start)


@validated
class Sheet:
    """Several pictures in one: a labelled "grid" (row by row), or the frames of an "animation" (one row)."""

    kind: Literal["grid", "animation"]
    pictures: Annotated[tuple[Recipe, ...], Field(min_length=1, max_length=MAX_PICTURES)]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    size: PositiveInt = 256
    """The side of each picture in pixels, at most the generator's resolution."""
    rate: Number = 0.0
    """An animation's frames a second."""

    def __post_init__(self) -> None:
        n = len(self.pictures)
        if self.kind == "grid" and n != len(self.rows) * len(self.columns):
            raise GanvasError(f"A grid of {len(self.rows)}×{len(self.columns)} doesn't fit {n} pictures.")
        if self.size**2 * n > MAX_PIXELS:
            raise GanvasError(
                f"The side of {n} pictures is 1 to {int((MAX_PIXELS / n) ** 0.5)} pixels, not {self.size}."
            )
        if not (0 < self.rate <= 100 if self.kind == "animation" else self.rate == 0):
            raise GanvasError(f"An animation has more than 0 and at most 100 frames a second, not {self.rate:g}.")


def to_json(recipe: Recipe | Sheet) -> dict[str, Any]:
    """Return the recipe as a JSON object, the inverse of ``from_json``. Equal recipes give equal text: 1 is written as 1.0."""
    kind = recipe.kind if isinstance(recipe, Sheet) else "picture"
    return {"version": VERSION, "kind": kind} | to_plain(recipe)


def from_json(value: Any, origin: object) -> Recipe | Sheet:
    """Parse the recipe in a JSON object that came from ``origin``. Raises GanvasError for anything invalid, with its path."""
    try:
        if not isinstance(value, dict):
            raise GanvasError("a recipe is a JSON object.")
        version, kind = value.get("version"), value.get("kind")
        if type(version) is not int or version != VERSION:
            raise GanvasError(f"unknown version {reprlib.repr(version)}: this version of ganvas reads {VERSION}.")
        if kind not in ("picture", "grid", "animation"):
            raise unknown("kind", kind, ("picture", "grid", "animation"))
        omitted = ("version", "kind") if kind == "picture" else ("version",)
        rest = {key: item for key, item in value.items() if key not in omitted}
        return parse(Recipe if kind == "picture" else Sheet, rest, complete=True)
    except GanvasError as error:
        raise GanvasError(f"Recipe {origin}: {error}") from None


def to_plain(value: Any) -> Any:
    """Convert values to those of JSON, without what is written only if set."""
    if is_dataclass(value):
        omitted = [name for name in getattr(value, "WRITTEN_IF_SET", ()) if getattr(value, name) is None]
        items = [(each.name, getattr(value, each.name)) for each in fields(value) if each.name not in omitted]
        start = [("from", name) for name, kind in STARTS.items() if isinstance(value, kind)]
        return {name: to_plain(item) for name, item in (*start, *items)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, tuple) else value
