"""The demo's count strip: pictures of digits with fewer and more digits, by the cardinality editor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ganvas.evaluation.pages import PageSection
from ganvas.generators import find_card
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.recipe.files import draw_sheet
from ganvas.recipe.model import EditStep, FromSeed, Recipe
from ganvas.recipe.rendering import Tools, load_tools, render
from ganvas.recipe.sheet import Sheet
from ganvas.scorers import load_scorer
from ganvas.scorers.base import Scorer

STRIP_FILE = "counts.png"
MIN_SURE_PROBABILITY = 0.9
MAX_SEEDS_SEARCHED = 500
"""The most seeds among which pictures to start from are searched."""


@dataclass(frozen=True)
class CountStripConfig:
    """What the strip shows: ``rows`` pictures of ``start`` objects, with each of ``changes`` more."""

    generator: str = "multimnist"
    editor: str = "multimnist/cardinality"
    """An editor that is quick: "multimnist/composed" keeps the other digits, and searches for a second a picture."""
    rows: int = 4
    start: int = 2
    changes: tuple[int, ...] = (-1, 0, 1, 2)


def draw_count_strip(
    out: Path, config: CountStripConfig = CountStripConfig(), track: Callable[[Sequence[Any]], Iterable[Any]] = iter
) -> PageSection:
    """Draw the strip into ``out``, with the scorer of the generator's card; return its section of the page."""
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
    pictures = [_make_recipe(tools, seed, change) for seed in seeds for change in config.changes]
    columns = tuple("as drawn" if change == 0 else f"{change:+d}" for change in config.changes)
    sheet = Sheet("grid", tuple(pictures), tuple(map(str, seeds)), columns, LABEL_SIDE)
    draw_sheet(sheet, out / STRIP_FILE, tools, track=track)
    column, rows = scorer.column("count"), []
    for i, seed in enumerate(track(seeds)):
        row = pictures[i * len(config.changes) : (i + 1) * len(config.changes)]
        rows.append((str(seed), *(f"{float(_score_recipe(tools, scorer, recipe)[column]):.0f}" for recipe in row)))
    text = (
        f"{config.generator}, a generator of digits, and an editor of counts (after Doubinsky et al., 2022): a change of +1 is"
        " one object more, of +2 two, in successive unit moves. Rows are the first seeds of whose"
        f" {config.start} objects the counter is sure, or the first of all where there are none; the table has what it counts in"
        " each picture, right or wrong."
    )
    return PageSection("Count control: digits added and removed", text, STRIP_FILE, [("seed", *columns), *rows])


def find_start_seeds(tools: Tools, scorer: Scorer, config: CountStripConfig) -> list[int]:
    """Return the first seeds whose pictures have ``start`` objects, surely so where the scorer has ``sure``.

    There may be fewer than ``rows``; where there are none, the first seeds of all.
    """
    count, seeds = scorer.column("count"), []
    for seed in range(MAX_SEEDS_SEARCHED):
        scores = _score_recipe(tools, scorer, _make_recipe(tools, seed, 0))
        sure = "sure" not in scorer.attributes or float(scores[scorer.column("sure")].sigmoid()) >= MIN_SURE_PROBABILITY
        if sure and float(scores[count]) == config.start:
            seeds.append(seed)
        if len(seeds) == config.rows:
            break
    return seeds or list(range(config.rows))


def _make_recipe(tools: Tools, seed: int, change: int) -> Recipe:
    edits = (EditStep(shift={"count": float(change)}),) if change else ()
    return Recipe(tools.generator_name, FromSeed(seed, 1.0), tools.dtype, None, tools.editor_name, edits)


@torch.no_grad()
def _score_recipe(tools: Tools, scorer: Scorer, recipe: Recipe) -> torch.Tensor:
    picture = render(recipe, tools)
    return scorer(downscale(picture, min(LABEL_SIDE, tools.generator.resolution)))[0]
