"""The demo's count strip: pictures of digits with up to two fewer and two more, by the cardinality editor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from ganvas import editors
from ganvas.errors import GanvasError
from ganvas.generators import card
from ganvas.labelling import label
from ganvas.page import Section
from ganvas.pictures import KEPT_SIZE, shrink
from ganvas.recipe import FromSeed, Named, Recipe, Step, Tools, load_editor_for, load_tools, render
from ganvas.recipe_files import draw_sheet
from ganvas.scorer import Scorer
from ganvas.scorers import load_scorer
from ganvas.sheet import Sheet

FILE, EDITOR_FILE = "counts.png", "cardinality.safetensors"
SURE = 0.9
LOOKED = 500
"""Seeds that are looked through for pictures to start from."""


@dataclass(frozen=True)
class Counting:
    """What the strip shows: ``rows`` pictures that have ``start`` objects, with each of ``changes`` more."""

    generator: str = "multimnist"
    rows: int = 4
    start: int = 3
    changes: tuple[int, ...] = (-2, -1, 0, 1, 2)
    labels: int = 1500
    """Pictures that are labelled where no editor ships for the generator."""
    fit: Mapping[str, Any] = field(default_factory=lambda: {"classifiers": 1, "knowledge": 400, "steps": 400})
    """The options of the cardinality editor that is then fitted."""


def strip(out: Path, how: Counting = Counting(), watch: Callable[[Sequence[Any]], Iterable[Any]] = iter) -> Section:
    """Draw it into ``out`` and say what is on it. The editor is the one that ships, or is fitted now."""
    tools = load_tools(how.generator)
    return strip_of(with_editor(tools, how, out), load_scorer(card(how.generator).scorer), how, out, watch)


def with_editor(tools: Tools, how: Counting, out: Path) -> Tools:
    """Tools with the editor that the generator's card names, or with one that is fitted on fresh labels and saved."""
    name = card(how.generator).editor
    try:
        # An editor of an earlier generator of that name is refused, and another made.
        editor, named = load_editor_for(tools.generator, name)
        if "count" in editor.attributes:
            return replace(tools, editor=editor, editor_name=named)
    except GanvasError:
        pass
    scorer = load_scorer(card(how.generator).scorer)
    return fitted(tools, scorer, how, out)


def fitted(tools: Tools, scorer: Scorer, how: Counting, out: Path) -> Tools:
    """Tools with an editor that is learned now, in seconds: equal on every run."""
    data = label(tools.generator, scorer, how.labels)
    editor = editors.fit("cardinality", data, tools.generator, attributes=["count"], **how.fit)
    editors.save(editor, out / EDITOR_FILE)
    return replace(tools, editor=editor, editor_name=Named(EDITOR_FILE, editors.fingerprint(editor)))


def strip_of(
    tools: Tools, scorer: Scorer, how: Counting, out: Path, watch: Callable[[Sequence[Any]], Iterable[Any]] = iter
) -> Section:
    """The strip of these tools, counted by ``scorer``."""
    seeds = starting(tools, scorer, how)
    pictures = [_recipe(tools, seed, change) for seed in seeds for change in how.changes]
    columns = tuple("as drawn" if change == 0 else f"{change:+d}" for change in how.changes)
    sheet = Sheet("grid", tuple(pictures), tuple(map(str, seeds)), columns, KEPT_SIZE)
    draw_sheet(sheet, out / FILE, tools, watch=watch)
    column, found = scorer.column("count"), []
    for i, seed in enumerate(seeds):
        row = pictures[i * len(how.changes) : (i + 1) * len(how.changes)]
        found.append((str(seed), *(f"{float(_scores(tools, scorer, recipe)[column]):.0f}" for recipe in row)))
    text = (
        f"{how.generator}, a generator of digits, and the cardinality editor (Doubinsky et al., 2022): a change of +1 is one"
        " object more, of −2 two fewer, in successive unit moves. Rows are the first seeds of whose"
        f" {how.start} objects the counter is sure; the table has what it counts in each picture, right or wrong."
    )
    return Section("Count control: digits added and removed", text, FILE, [("seed", *columns), *found])


def starting(tools: Tools, scorer: Scorer, how: Counting) -> list[int]:
    """The first seeds whose pictures have ``start`` objects, surely where the scorer says so; fewer, or any, where there are
    none."""
    count, found = scorer.column("count"), []
    for seed in range(LOOKED):
        scores = _scores(tools, scorer, _recipe(tools, seed, 0))
        sure = "sure" not in scorer.attributes or float(scores[scorer.column("sure")].sigmoid()) >= SURE
        if sure and float(scores[count]) == how.start:
            found.append(seed)
        if len(found) == how.rows:
            break
    return found or list(range(how.rows))


def _recipe(tools: Tools, seed: int, change: int) -> Recipe:
    edits = (Step(shift={"count": float(change)}),) if change else ()
    return Recipe(tools.generator_name, FromSeed(seed, 1.0), tools.dtype, None, tools.editor_name, edits)


@torch.no_grad()
def _scores(tools: Tools, scorer: Scorer, recipe: Recipe) -> torch.Tensor:
    picture = render(recipe, tools)
    return scorer(shrink(picture, min(KEPT_SIZE, tools.generator.resolution)))[0]
