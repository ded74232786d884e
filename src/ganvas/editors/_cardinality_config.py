"""The cardinality editor's options, and what follows from them and the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from ganvas.data.dataset import LatentDataset
from ganvas.editors._cardinality_moves import Groups
from ganvas.editors._count_classifier import HIDDEN, CountClassifierConfig, Counts
from ganvas.editors._fit import check_integer, check_number
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator

TRAINING_SHARE = 0.8
"""The share of the codes that is trained on; the others are held out."""
MIN_CODES = 50
"""The least number of codes to fit on."""
DERIVED_OPTIONS = ("groups", "coordinates", "lows", "highs")
DERIVED_CLIMB_OPTIONS = ("one_sided", "own", "scale", "kept_lows", "kept_highs")
"""What editors store beside their options: values computed from the labels. More of them with ``climb``."""
SPACES, ROWS, GAINS = ("", "w", "w+"), ("free", "resolution"), ("", "right", "reading")


@dataclass(frozen=True)
class CardinalityConfig(CountClassifierConfig):
    """Options of ``cardinality.fit``. The defaults are the paper's, where it states them.

    ``space``: "w", "w+", or "" for that of the data. ``weight``: λ. ``pca``: the number of leading components, 0 for the
    whole space, along its own axes. ``gain``: none (""), "right" or "reading". ``climb``: the number of optimisation
    steps for each code, instead of H; 0 for H. ``knowledge``: the training steps of each classifier; ``steps``, ``batch``
    and ``rate`` are those of H (``rate`` also that of ``climb``).
    """

    space: str = ""
    rows: str = "free"
    weight: float = 0.5
    preserve: float = 0.0
    parts: tuple[str, ...] = ()
    density: float = 0.0
    pca: int = 0
    signs: int = 1
    width: int = 0
    pieces: int = 1
    classifiers: int = 1
    gain: str = ""
    climb: int = 0
    knowledge: int = 1500
    steps: int = 1500
    batch: int = 128
    rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "parts", tuple(self.parts))
        super().__post_init__()
        for name, choices in (("space", SPACES), ("rows", ROWS), ("gain", GAINS)):
            if getattr(self, name) not in choices:
                raise unknown(name, getattr(self, name), [repr(each) for each in choices])
        for name in ("weight", "preserve", "density"):
            check_number(name, getattr(self, name))
        for name in ("pca", "width", "climb", "seed"):
            check_integer(name, getattr(self, name), 0)
        for name in ("pieces", "classifiers", "knowledge"):
            check_integer(name, getattr(self, name), 1)
        if self.signs not in (1, 2):
            raise GanvasError(f"signs must be 1 or 2, not {self.signs!r}.")
        if self.climb and self.gain:
            raise GanvasError("gain doesn't go with climb, which has no H to scale: leave one of them out.")
        if self.climb > 1000:
            raise GanvasError(f"climb must be at most 1000 steps, not {self.climb}.")
        if self.pieces > 100 or self.classifiers > 100:
            raise GanvasError(f"pieces and classifiers must be at most 100, not {self.pieces} and {self.classifiers}.")


def parse_config(options: Mapping[str, Any]) -> CardinalityConfig:
    """Build a ``CardinalityConfig`` from options, or from all that an editor stores, without its derived values.

    Raises GanvasError for an unknown name, or an impossible value.
    """
    choices = [field.name for field in fields(CardinalityConfig)]
    if options.keys() >= set(DERIVED_OPTIONS):
        options = {
            name: value for name, value in options.items() if name not in DERIVED_OPTIONS + DERIVED_CLIMB_OPTIONS
        }
    for name in options:
        if name not in choices:
            raise unknown("option", name, ["attributes", "recipe", *choices])
    plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in options.items()}
    return CardinalityConfig(**plain)


def complete_config(options: CardinalityConfig, data: LatentDataset, generator: Generator) -> CardinalityConfig:
    """Fill in the options that depend on the data. Raises GanvasError for too few codes and unknown parts."""
    if len(data) < MIN_CODES:
        raise GanvasError(f"{len(data)} codes are too few: at least {MIN_CODES} are needed.")
    space = options.space or data.space
    groups = parse_groups(replace(options, space=space), generator)
    # Codes with equal rows vary in w_dim directions only.
    rank = min(generator.w_dim * (1 if data.space == "w" else len(groups)), round(TRAINING_SHARE * len(data)) - 1)
    for name in options.parts:
        if name not in data.attributes:
            raise unknown("attribute", name, data.attributes)
    return replace(options, space=space, hidden=options.hidden or HIDDEN[space], pca=min(options.pca, rank))


def parse_groups(options: CardinalityConfig, generator: Generator) -> Groups:
    """Return the groups of rows that move together."""
    rows, resolutions = range(generator.num_ws), generator.row_resolutions
    if options.space == "w":
        return (tuple(rows),)
    if options.rows == "free":
        return tuple((row,) for row in rows)
    return tuple(tuple(row for row in rows if resolutions[row] == r) for r in dict.fromkeys(resolutions))


def integer_scores(data: LatentDataset, attributes: tuple[str, ...]) -> Counts:
    """Return scores as integers, (n, attributes). Raises GanvasError where they aren't whole numbers."""
    scores = data.select(attributes).scores
    for name, column in zip(attributes, scores.T, strict=True):
        if not torch.equal(column, column.round()):
            raise GanvasError(f"Attribute {name!r} isn't a count: its scores aren't whole numbers. Leave it out.")
    return scores.round().long()


def is_sum(data: LatentDataset, name: str, parts: tuple[str, ...]) -> bool:
    """Return whether an attribute is the sum of ``parts``, for most codes."""
    if name in parts or len(parts) < 2:
        return False
    total, each = (data.scores[:, [data.attributes.index(p) for p in names]].sum(1) for names in ((name,), parts))
    return bool((total == each).float().mean() > 0.5)
