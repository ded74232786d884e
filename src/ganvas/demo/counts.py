"""The demo's count strip: pictures of digits with one fewer, one more and two more, by the cardinality editor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ganvas.evaluation.html_page import PageSection
from ganvas.generators import find_card
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.recipe.files import draw_sheet
from ganvas.recipe.model import EditStep, FromSeed, Recipe
from ganvas.recipe.rendering import Tools, load_tools, render
from ganvas.recipe.sheet import Sheet
from ganvas.scorers import load_scorer
from ganvas.scorers.base import Scorer

FILE = "counts.png"
SURE_PROBABILITY = 0.9
SEEDS_SEARCHED = 500
"""Seeds that are looked through for pictures to start from."""


@dataclass(frozen=True)
class CountStripConfig:
    """What the strip shows: ``generators.stylegan2.rows`` pictures that have ``start`` objects, with each of ``changes`` more."""

    generator: str = "multimnist"
    rows: int = 4
    start: int = 2
    changes: tuple[int, ...] = (-1, 0, 1, 2)


def draw_count_strip(
    out: Path, how: CountStripConfig = CountStripConfig(), watch: Callable[[Sequence[Any]], Iterable[Any]] = iter
) -> PageSection:
    """Draw it into ``out`` and say what is on it: with the editor and the scorer that the generator's card names."""
    named = find_card(how.generator)
    return draw_strip_with(load_tools(how.generator, editor=named.editor), load_scorer(named.scorer), how, out, watch)


def draw_strip_with(
    tools: Tools,
    scorer: Scorer,
    how: CountStripConfig,
    out: Path,
    watch: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> PageSection:
    """The strip of these tools, counted by ``scorers.base``."""
    seeds = find_starts(tools, scorer, how)
    pictures = [_recipe(tools, seed, change) for seed in seeds for change in how.changes]
    columns = tuple("as drawn" if change == 0 else f"{change:+d}" for change in how.changes)
    sheet = Sheet("grid", tuple(pictures), tuple(map(str, seeds)), columns, LABEL_SIDE)
    draw_sheet(sheet, out / FILE, tools, track=watch)
    column, found = scorer.column("count"), []
    for i, seed in enumerate(seeds):
        row = pictures[i * len(how.changes) : (i + 1) * len(how.changes)]
        found.append((str(seed), *(f"{float(_scores(tools, scorer, recipe)[column]):.0f}" for recipe in row)))
    text = (
        f"{how.generator}, a generator of digits, and the cardinality editor (Doubinsky et al., 2022): a change of +1 is one"
        " object more, of +2 two, in successive unit moves. Rows are the first seeds of whose"
        f" {how.start} objects the counter is sure, or the first of all where there are none; the table has what it counts in"
        " each picture, right or wrong."
    )
    return PageSection("Count control: digits added and removed", text, FILE, [("seed", *columns), *found])


def find_starts(tools: Tools, scorer: Scorer, how: CountStripConfig) -> list[int]:
    """The first seeds whose pictures have ``start`` objects, surely where the scorer says so; fewer, or any, where there are
    none."""
    count, found = scorer.column("count"), []
    for seed in range(SEEDS_SEARCHED):
        scores = _scores(tools, scorer, _recipe(tools, seed, 0))
        sure = "sure" not in scorer.attributes or float(scores[scorer.column("sure")].sigmoid()) >= SURE_PROBABILITY
        if sure and float(scores[count]) == how.start:
            found.append(seed)
        if len(found) == how.rows:
            break
    return found or list(range(how.rows))


def _recipe(tools: Tools, seed: int, change: int) -> Recipe:
    edits = (EditStep(shift={"count": float(change)}),) if change else ()
    return Recipe(tools.generator_name, FromSeed(seed, 1.0), tools.dtype, None, tools.editor_name, edits)


@torch.no_grad()
def _scores(tools: Tools, scorer: Scorer, recipe: Recipe) -> torch.Tensor:
    picture = render(recipe, tools)
    return scorer(downscale(picture, min(LABEL_SIDE, tools.generator.resolution)))[0]
