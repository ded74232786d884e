"""Refine the edit of a recipe by its pictures; the recipe then has the changes that were found, and needs no scorer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ganvas.control.refinement import BINARY_ATTRIBUTES, DEFAULT_CORRECTIONS, RefinedChanges, refine_changes
from ganvas.control.target_values import convert_to_unit
from ganvas.data.label import EARLY_SIDE
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.recipe.model import EditStep, Recipe
from ganvas.recipe.rendering import Tools, compute_unedited_code, draw_code, prepare_editor
from ganvas.scorers import find_scorer
from ganvas.scorers.base import Scorer
from ganvas.types import Images, WPlus

DECIMALS = 4
"""The decimals of a change that recipes state."""


def load_label_scorer(editor: Editor) -> Scorer:
    """Load the scorer whose labels an editor learned from. Raises GanvasError where ganvas doesn't have it."""
    scorer = find_scorer(editor.scorer)
    if scorer is None:
        name = editor.scorer.rpartition(":")[0] or "unknown"
        raise GanvasError(
            f"This editor's changes can't be refined: its scorer ({name}) isn't here, or in another version than it learned from."
        )
    return scorer


def choose_corrections(refine: int | None, edits: Sequence[EditStep], editor: Editor | None, refine_all: bool) -> int:
    """Return how often an edit is corrected: ``refine`` times; None: DEFAULT_CORRECTIONS times if it can be, else 0.

    ``refine_all``: whether None corrects every edit, and not only those of ``BINARY_ATTRIBUTES``, such as glasses. An edit can be
    corrected where ganvas has the scorer that labelled, and it reads all of the edit's attributes, none of which is a count.
    """
    if refine is not None:
        return refine
    if editor is None or len(edits) != 1 or edits[0].amount != 1:
        return 0
    names = {*edits[0].set, *edits[0].shift}
    if not (refine_all or names & BINARY_ATTRIBUTES):
        return 0
    scorer = find_scorer(editor.scorer)
    if scorer is None or not names <= set(scorer.attributes):
        return 0
    return 0 if any(scorer.kinds[scorer.column(name)] == "count" for name in names) else DEFAULT_CORRECTIONS


def format_refined(found: RefinedChanges, name: str, editor: Editor) -> str:
    """Format what was asked for and what is read: in the attribute's unit, if it has one, else as changes in σ."""
    asked, measured, unit = found.asked[name], found.measured[name], editor.units.get(name)
    if unit is None:
        text = f"{name} {asked:+.2f} σ asked, {measured:+.2f} σ read"
        return f"{text} (p = {_read_probability(editor, name, found):.2f})" if name in BINARY_ATTRIBUTES else text
    values = [convert_to_unit(editor, name, found.before[name] + change) for change in (asked, measured)]
    return f"{name} {values[0]:.3g} {unit} asked, {values[1]:.3g} {unit} read"


def _read_probability(editor: Editor, name: str, found: RefinedChanges) -> float:
    """Return the probability of an attribute after the edit."""
    scale = editor.gaussianize.select([editor.attributes.index(name)])
    return float(scale.inverse(torch.tensor([[found.before[name] + found.measured[name]]])).sigmoid())


def refine_recipe(recipe: Recipe, tools: Tools, scorer: Scorer, corrections: int) -> tuple[Recipe, RefinedChanges]:
    """Refine the only edit of a recipe, by early pictures, within its regions.

    Returns the recipe with the changes that were found, and what the scorer read. Raises GanvasError for a recipe without
    an edit or with several, and as ``refine_changes``.
    """
    early = None if recipe.photo else min(EARLY_SIDE, tools.generator.resolution)
    step, found = refine_step(
        recipe.edits,
        tools,
        lambda ws: draw_code(ws, recipe, tools, early),
        scorer,
        compute_unedited_code(recipe, tools),
        corrections,
    )
    return replace(recipe, edits=(step,)), found


def refine_step(
    edits: Sequence[EditStep],
    tools: Tools,
    draw: Callable[[WPlus], Images],
    scorer: Scorer,
    ws: WPlus,
    corrections: int,
) -> tuple[EditStep, RefinedChanges]:
    """Refine the only one of ``edits`` for one code; the other arguments are those of ``refine_changes``.

    Raises GanvasError for no edit, for several and for a share of one, and as ``refine_changes``.
    """
    if len(edits) != 1 or edits[0].amount != 1:
        raise GanvasError(f"One whole edit can be refined, and there are {len(edits)}: give --set or --shift.")
    step = edits[0]
    editor = prepare_editor(step, tools)
    found = refine_changes(editor, draw, scorer, ws, step.shift, step.set, corrections)
    return replace(step, refined={name: round(change, DECIMALS) for name, change in found.changes.items()}), found
