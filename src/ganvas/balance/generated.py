"""Balance a set: make pictures that meet conditions, with labels and recipes, and count what was discarded.

Doubinsky et al. (https://cea.hal.science/cea-04852483) want control of counts to "augment existing data sets where it's
needed". Candidates come from seeds, in one of three ways: drawn from the conditions (editors with a compact space),
drawn freely and then edited to the nearest value that meets them (any other editor), or drawn freely (no editor).
Attributes that only the scorer has, like a counter's ``sure``, are met by discarding alone. ``balance.real`` starts from
real pictures instead of seeds.

Conditions are written as for sampling; their units are those of ``control.conditions.compute_score_ranges``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.balance.sets import BalancedSet, BalanceRequest, counts_objects
from ganvas.control.conditions import RANGE_MARGIN_SIGMA, Range, aim_inside, compute_object_ranges
from ganvas.editors.base import Editor
from ganvas.editors.compact import CompactEditor
from ganvas.errors import GanvasError
from ganvas.generators.base import encode_label
from ganvas.progress import Progress
from ganvas.recipe.model import EditStep, FromConditions, FromSeed, Recipe
from ganvas.recipe.rendering import Tools, compute_code
from ganvas.scorers.base import Scorer

BATCH_SIZE = 32
"""Candidates between two writes of the report."""
MIN_CANDIDATES, CANDIDATES_PER_PICTURE = 1000, 100
"""The limit on candidates is ``CANDIDATES_PER_PICTURE`` times the number of pictures, and never less than ``MIN_CANDIDATES``."""


@torch.no_grad()
def balance(
    tools: Tools, scorer: Scorer, request: BalanceRequest, out: str | Path, progress: Progress = lambda kept, n: None
) -> dict[str, Any]:
    """Fill the folder ``out`` with ``request.n`` pictures that meet the conditions.

    It gets PNG files with their recipes, ``labels.parquet`` (file, seed, and every score as ``to_readable``) and
    ``balance.json``, which is returned. A run that was stopped is continued. ``progress`` is called with the number of
    pictures written and of all.

    Raises GanvasError for conditions that neither scorer nor editor can meet, a folder that holds another set, a label that
    the generator doesn't have, and where far too few candidates meet the conditions.
    """
    labels = None if request.label is None else encode_label(tools.generator, request.label)
    way = _choose_way(request, tools)
    made = BalancedSet.open(out, request, way, tools, scorer)
    while not made.full:
        first = request.seed + made.state["tried"]
        for seed in range(first, first + BATCH_SIZE):
            _check_progress(made.state, request)
            recipe = _make_candidate(tools, request, way, seed, labels)
            picture = tools.generator.synthesis(compute_code(recipe, tools))
            made.state["tried"] += 1
            made.add(f"seed{seed:07d}.png", picture, made.score(picture), recipe, {"seed": seed})
            progress(made.state["kept"], request.n)
            if made.full:
                break
        made.write()
    return made.state


def _choose_way(request: BalanceRequest, tools: Tools) -> str:
    """Choose how candidates are made: by "draw", "edit" or "conditions". Raises GanvasError for one that the editor can't."""
    editable = tools.editor is not None and any(c.attribute in tools.editor.attributes for c in request.conditions)
    compact = editable and isinstance(tools.editor, CompactEditor)
    best = "conditions" if compact else "edit" if editable else "draw"
    way = request.way or best
    if way == "conditions" and not compact or way == "edit" and not editable:
        raise GanvasError(f"Candidates can't be made by {way!r} with this editor and these conditions: use {best!r}.")
    return way


def _make_candidate(
    tools: Tools, request: BalanceRequest, way: str, seed: int, labels: tuple[float, ...] | None
) -> Recipe:
    """Make the recipe of a seed's candidate."""
    plain = Recipe(tools.generator_name, FromSeed(seed, request.psi, labels), tools.dtype)
    editor = tools.editor
    if editor is None or way == "draw":
        return plain
    where = compute_object_ranges(request.conditions, editor, counts_objects(editor))
    if way == "conditions":
        start = FromConditions(where, seed, request.psi, labels)
        return Recipe(tools.generator_name, start, tools.dtype, None, tools.editor_name)
    edits = _plan_edits(where, editor, editor.read(compute_code(plain, tools))[0])
    return Recipe(plain.generator, plain.start, tools.dtype, None, tools.editor_name if edits else None, edits)


def _plan_edits(where: Mapping[str, Range], editor: Editor, readings: Tensor) -> tuple[EditStep, ...]:
    """Return the edit that brings readings outside their ranges inside, as near as is safe; () where there are none."""
    targets = {}
    for name, (low, high) in where.items():
        column = editor.attributes.index(name)
        objects = editor.kinds[column] == "count" and counts_objects(editor)
        reading = float(readings[column].round() if objects else readings[column])
        goal = aim_inside(reading, low, high, 0.0 if objects else RANGE_MARGIN_SIGMA)
        if goal != reading:
            targets[name] = goal
    return (EditStep(set=targets),) if targets else ()


def _check_progress(state: Mapping[str, Any], request: BalanceRequest) -> None:
    if state["tried"] >= (request.max_candidates or max(MIN_CANDIDATES, CANDIDATES_PER_PICTURE * request.n)):
        raise GanvasError(
            f"Only {state['kept']} of {state['tried']} candidates meet the conditions: ask for something less rare,"
            " or for more candidates."
        )
    if request.seed + state["tried"] + BATCH_SIZE >= 2**32:
        raise GanvasError(f"There are no more seeds after {state['kept']} pictures: start from a smaller seed.")
