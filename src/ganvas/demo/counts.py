"""The demo's count strip: pictures of digits with fewer and more digits, and with a digit of one class more or fewer."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ganvas.evaluation.pages import PageSection
from ganvas.generators import find_card
from ganvas.io.images import LABEL_SIDE, downscale, from_bytes
from ganvas.recipe.files import save_grid
from ganvas.recipe.model import EditStep, FromSeed, Recipe
from ganvas.recipe.rendering import Tools, load_tools, render
from ganvas.recipe.sheet import Sheet, render_frames
from ganvas.scorers import load_scorer
from ganvas.scorers.base import Scorer

STRIP_FILE = "counts.png"
MIN_SURE_PROBABILITY = 0.9
MAX_SEEDS_SEARCHED = 500
"""The most seeds among which pictures to start from are searched."""


def list_default_changes() -> dict[str, Mapping[str, float]]:
    """Return the strip's columns: their titles, and the changes by attribute."""
    return {
        "-1": {"count": -1.0},
        "as drawn": {},
        "+1": {"count": 1.0},
        "+2": {"count": 2.0},
        "add a 7": {"digit_7": 1.0},
        "remove the 3": {"digit_3": -1.0},
    }


@dataclass(frozen=True)
class CountStripConfig:
    """What the strip shows: ``rows`` pictures that have ``start``, counts by attribute, with each of ``changes``."""

    generator: str = "multimnist"
    editor: str = "multimnist/composed"
    rows: int = 2
    start: Mapping[str, int] = field(default_factory=lambda: {"count": 2, "digit_3": 1, "digit_7": 0})
    description: str = "two digits, one of them a 3 and none a 7"
    """What ``start`` is, in words."""
    changes: Mapping[str, Mapping[str, float]] = field(default_factory=list_default_changes)


def draw_count_strip(
    out: Path, config: CountStripConfig | None = None, track: Callable[[Sequence[Any]], Iterable[Any]] = iter
) -> PageSection:
    """Draw the strip into ``out``, with the scorer of the generator's card; return its section of the page."""
    config = config or CountStripConfig()
    scorer = load_scorer(find_card(config.generator).scorer)
    return draw_strip(load_tools(config.generator, editor=config.editor), scorer, config, out, track)


def draw_strip(
    tools: Tools,
    scorer: Scorer,
    config: CountStripConfig,
    out: Path,
    track: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> PageSection:
    """Draw the strip with these tools into ``out``, counted by ``scorer``; return its section of the page."""
    seeds = find_start_seeds(tools, scorer, config)
    recipes = [_make_recipe(tools, seed, change) for seed in seeds for change in config.changes.values()]
    sheet = Sheet("grid", tuple(recipes), tuple(map(str, seeds)), tuple(config.changes), LABEL_SIDE)
    pictures, _ = render_frames(sheet, tools, track)
    save_grid(sheet, pictures, out / STRIP_FILE, tools)
    with torch.no_grad():
        counts = scorer(from_bytes(torch.stack(pictures)))[:, scorer.column("count")].view(len(seeds), -1)
    rows = [(str(seed), *(f"{float(count):.0f}" for count in row)) for seed, row in zip(seeds, counts, strict=True)]
    text = (
        f"{config.generator}, a generator of digits, and an editor of counts (after Doubinsky et al., 2022): a change of +1 is"
        " one object more, of +2 two, in successive unit moves; a class may be named. The other objects stay."
        f" Rows are the first seeds of {config.description}, or the first of all where there are none; the"
        " table has what the counter counts in each picture, right or wrong."
    )
    return PageSection("Count control: digits added and removed", text, STRIP_FILE, [("seed", *config.changes), *rows])


def find_start_seeds(tools: Tools, scorer: Scorer, config: CountStripConfig) -> list[int]:
    """Return the first seeds whose pictures have ``start``, surely so where the scorer has ``sure``.

    There may be fewer than ``rows``; where there are none, the first seeds of all.
    """
    seeds: list[int] = []
    for seed in range(MAX_SEEDS_SEARCHED):
        picture = render(_make_recipe(tools, seed, {}), tools)
        with torch.no_grad():
            scores = scorer(downscale(picture, min(LABEL_SIDE, tools.generator.resolution)))[0]
        sure = "sure" not in scorer.attributes or float(scores[scorer.column("sure")].sigmoid()) >= MIN_SURE_PROBABILITY
        if sure and all(float(scores[scorer.column(name)]) == number for name, number in config.start.items()):
            seeds.append(seed)
        if len(seeds) == config.rows:
            break
    return seeds or list(range(config.rows))


def _make_recipe(tools: Tools, seed: int, change: Mapping[str, float]) -> Recipe:
    edits = (EditStep(shift=dict(change)),) if change else ()
    return Recipe(tools.generator_name, FromSeed(seed, 1.0), tools.dtype, None, tools.editor_name, edits)
