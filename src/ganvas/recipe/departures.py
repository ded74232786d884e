"""Edits that leave the codes that a generator draws, how far they can go without leaving them, and those that fall short."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from ganvas.editors.base import find_shortfall, measure_reach
from ganvas.inversion.quality import fit_w_distribution
from ganvas.recipe.model import EditStep, Recipe
from ganvas.recipe.rendering import Tools, compute_changes, compute_code, prepare_editor

MAX_UNMEASURED_CHANGE = 2.5
"""σ. Edits of as much in all are taken to stay inside: measuring where codes lie takes seconds."""
BISECTIONS = 12
"""Halvings in the search for the largest share of an edit that stays inside."""


@torch.no_grad()
def describe_departures(recipes: Sequence[Recipe], tools: Tools) -> str:
    """Describe in one line which edits leave the typical set of W, and how far the farthest can go; "" where none does.

    The typical set is bounded by the Mahalanobis distance (``ganvas.data.distribution``). Pictures whose codes lie outside
    before they are edited don't count. Raises GanvasError as ``compute_code`` does.
    """
    edited: list[Recipe] = []
    for recipe in recipes:
        if sum(map(_sum_changes, recipe.edits)) > MAX_UNMEASURED_CHANGE and recipe not in edited:
            edited.append(recipe)
    if not edited:
        return ""
    distribution = fit_w_distribution(tools.generator)

    def measure(recipe: Recipe, share: float) -> float:
        return float(distribution.mahalanobis(compute_code(_scale_edits(recipe, share), tools).float().cpu())[0])

    distances = {i: measure(recipe, 1) for i, recipe in enumerate(edited) if measure(recipe, 0) <= distribution.bound}
    outside = {i: distance for i, distance in distances.items() if not distance <= distribution.bound}
    if not outside:
        return ""
    farthest = edited[max(outside, key=lambda i: outside[i])]
    inside, beyond = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (inside + beyond) / 2
        inside, beyond = (middle, beyond) if measure(farthest, middle) <= distribution.bound else (inside, middle)
    who = "This edit leaves" if len(recipes) == 1 else f"{len(outside)} of {len(recipes)} pictures leave"
    return (
        f"{who} the codes that {tools.generator.name!r} draws (Mahalanobis distance {max(outside.values()):.1f}, where"
        f" {distribution.bound:.1f} is the limit), so expect flaws. The farthest, {_format_edits(farthest, tools, 1)}, stays"
        f" inside up to {_format_edits(farthest, tools, inside)}."
    )


@torch.no_grad()
def describe_shortfall(recipes: Sequence[Recipe], tools: Tools) -> str:
    """Describe in one line which change falls shortest of what is asked for, by the editor's reading; "" where none does.

    Raises GanvasError as ``compute_code`` does.
    """
    if tools.editor is None or not tools.editor.may_fall_short:
        return ""
    found = []
    for recipe in recipes:
        ws = compute_code(replace(recipe, edits=()), tools)
        for step in recipe.edits:
            editor = prepare_editor(step, tools)
            edited = editor.edit_quietly(ws, compute_changes(step, editor, ws))
            before = editor.read(ws)
            asked = torch.zeros_like(before)
            for name, change in step.shift.items():
                asked[:, editor.attributes.index(name)] = step.amount * change
            for name, value in step.set.items():
                column = editor.attributes.index(name)
                asked[:, column] = step.amount * (value - before[:, column])
            found.append(
                find_shortfall(editor.attributes, asked, measure_reach(editor.measure_change(ws, edited), asked))
            )
            ws = edited
    line = min((each for each in found if each), default=(1.0, ""))[1]
    return f"{line} {tools.editor.limits}".strip() if line else ""


def _sum_changes(step: EditStep) -> float:
    return abs(step.amount) * sum(map(abs, (*step.set.values(), *step.shift.values())))


def _scale_edits(recipe: Recipe, share: float) -> Recipe:
    edits = tuple(replace(step, amount=share * step.amount) for step in recipe.edits) if share else ()
    return replace(recipe, edits=edits)


def _format_edits(recipe: Recipe, tools: Tools, share: float) -> str:
    """Format a share of the edits as options of commands, rounded towards the code without them."""
    editor = tools.required_editor
    readings = editor.read(compute_code(_scale_edits(recipe, 0), tools))[0].tolist()
    texts = []
    for step in recipe.edits:
        applied = share * step.amount
        for name, change in step.shift.items():
            texts.append(f"--shift {name}={_round_towards(0.0, applied * change):+g}")
        for name, value in step.set.items():
            start = readings[editor.attributes.index(name)]
            texts.append(f"--set {name}={_round_towards(start, start + applied * (value - start)):+g}")
    return " ".join(texts)


def _round_towards(start: float, value: float) -> float:
    """Round to hundredths, towards ``start``."""
    return (math.floor if value > start else math.ceil)(round(100 * value, 6)) / 100
