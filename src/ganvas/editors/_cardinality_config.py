"""The cardinality editor's options, and what follows from them and the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from ganvas.data.dataset import LatentDataset
from ganvas.editors._cardinality_moves import Groups
from ganvas.editors._count_classifier import HIDDEN, CountClassifierConfig, Counts
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.validation import Natural, NonNegative, Positive, PositiveInt, validated

TRAINING_SHARE = 0.8
"""The share of the codes that is trained on; the others are held out."""
MIN_CODES = 50
"""The least number of codes to fit on."""
DERIVED_OPTIONS = ("groups", "coordinates", "lows", "highs")
DERIVED_CLIMB_OPTIONS = ("one_sided", "own", "scale", "kept_lows", "kept_highs")
"""What editors store beside their options: values computed from the labels. More of them with ``climb``."""


@validated
class CardinalityConfig(CountClassifierConfig):
    """Options of ``cardinality.fit``. The defaults are the paper's, where it states them.

    ``space``: "w", "w+", or "" for that of the data. ``weight``: λ. ``pca``: the number of leading components, 0 for the
    whole space, along its own axes. ``gain``: none (""), "right" or "reading". ``climb``: the number of optimisation
    steps for each code, instead of H; 0 for H. ``knowledge``: the training steps of each classifier; ``steps``, ``batch``
    and ``rate`` are those of H (``rate`` also that of ``climb``).
    """

    space: Literal["", "w", "w+"] = ""
    rows: Literal["free", "resolution"] = "free"
    weight: NonNegative = 0.5
    preserve: NonNegative = 0.0
    parts: tuple[str, ...] = ()
    density: NonNegative = 0.0
    pca: Natural = 0
    signs: Literal[1, 2] = 1
    width: Natural = 0
    pieces: Annotated[int, Field(strict=True, ge=1, le=100)] = 1
    classifiers: Annotated[int, Field(strict=True, ge=1, le=100)] = 1
    gain: Literal["", "right", "reading"] = ""
    climb: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    knowledge: PositiveInt = 1500
    steps: PositiveInt = 1500
    batch: PositiveInt = 128
    rate: Positive = 2e-3
    seed: Natural = 0

    def __post_init__(self) -> None:
        if self.climb and self.gain:
            raise GanvasError("gain doesn't go with climb, which has no H to scale: leave one of them out.")


def parse_config(options: Mapping[str, Any]) -> CardinalityConfig:
    """Build a ``CardinalityConfig`` from options, or from all that an editor stores, without its derived values."""
    stored = options.keys() >= set(DERIVED_OPTIONS)
    derived = DERIVED_OPTIONS + DERIVED_CLIMB_OPTIONS if stored else ()
    return CardinalityConfig(**{name: value for name, value in options.items() if name not in derived})


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
