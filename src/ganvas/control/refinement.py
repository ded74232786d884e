"""Refine changes by pictures: draw the edit, read what changed, and correct, until a scorer reads what was asked for.

An editor's change of 1 is one standard deviation on average; on a single face it is less or more, and brings other attributes
along. Broyden's method (C. G. Broyden, *A Class of Methods for Solving Nonlinear Simultaneous Equations*, Mathematics of
Computation 1965) solves for the changes at which pictures read as asked: each picture corrects the response that is assumed of
each reading to each change. Attributes that the editor protects and that weren't asked for are held at what they were.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.control.conditions import find_attribute
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError, unknown
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.scorers.base import Scorer
from ganvas.types import Images, WPlus

MAX_REFINEMENTS = 20
"""The most corrections of an edit: each is one picture."""
HELD_WEIGHT = 0.5
"""The weight of an attribute that is held, in the error; what was asked for weighs 1."""
DAMPING = 0.05
"""Keeps corrections small along changes that hardly move a reading."""
MAX_CORRECTION = 1.0
"""The largest correction of a change at once, in standard deviations."""
MAX_CHANGE, MAX_HELD_CHANGE = 4.0, 2.0
"""The largest changes, in standard deviations: of what was asked for, and of what is held."""
RESPONSE_BOUNDS = (0.3, 3.0)
"""What a change of 1 is taken to move its own reading by after the first picture, at least and at most."""


@dataclass(frozen=True)
class RefinedChanges:
    """``changes`` to edit with; what the scorer ``read`` of the changes that were ``asked`` for, all in σ by attribute."""

    changes: dict[str, float]
    asked: dict[str, float]
    read: dict[str, float]


@torch.no_grad()
def refine_changes(
    editor: Editor,
    draw: Callable[[WPlus], Images],
    scorer: Scorer,
    ws: WPlus,
    shifts: Mapping[str, float],
    values: Mapping[str, float] | None = None,
    steps: int = 3,
) -> RefinedChanges:
    """Refine the changes of one code until its picture reads as asked.

    Args:
        editor: The editor; attributes in its option ``protected`` are held, unless they are asked for or entailed.
        draw: Draws the picture of an edited code.
        scorer: Reads pictures: the scorer whose labels the editor learned from, so that both have one scale.
        ws: The code (1, num_ws, w_dim).
        shifts: Attribute -> the change that is to be read, in σ.
        values: Attribute -> the value that is to be read, in σ.
        steps: The number of corrections, from 0 to MAX_REFINEMENTS; the best changes of all count.

    Returns:
        The changes, with those of attributes that are held, and what was read.

    Raises:
        GanvasError: There is nothing to change, more than one code, another number of steps, or an attribute is
            unknown to the editor or the scorer.
    """
    values = values or {}
    if not 0 <= steps <= MAX_REFINEMENTS:
        raise GanvasError(f"The number of corrections is 0 to {MAX_REFINEMENTS}, not {steps}.")
    if len(ws) != 1 or not (shifts or values):
        raise GanvasError(
            f"One code and at least one change can be refined, not {len(ws)} and {len(shifts) + len(values)}."
        )
    asked = [*shifts, *values]
    for name in asked:
        find_attribute(editor, name)
        if name not in scorer.attributes:
            raise unknown("attribute", name, scorer.attributes)
    names = asked + find_held(editor, scorer, asked)
    columns = [scorer.column(name) for name in names]
    scale = editor.gaussianize.select([editor.attributes.index(name) for name in names])

    def read(codes: WPlus) -> Tensor:
        picture = draw(codes)
        return scale(scorer(downscale(picture, min(LABEL_SIDE, picture.shape[-1])))[:, columns])[0].double().cpu()

    before = read(ws)
    targets = torch.zeros(len(names), dtype=torch.float64)
    for k, name in enumerate(asked):
        targets[k] = shifts[name] if name in shifts else values[name] - before[k]
    limits = torch.tensor([MAX_CHANGE if name in asked else MAX_HELD_CHANGE for name in names], dtype=torch.float64)
    weights = torch.tensor([1.0 if name in asked else HELD_WEIGHT for name in names], dtype=torch.float64)

    def measure(changes: Tensor) -> Tensor:
        edit = {name: change for name, change in zip(names, changes.tolist(), strict=True) if change}
        return read(editor.edit_quietly(ws, edit)) - before

    changes, reached = solve_by_broyden(measure, targets, weights, limits, steps)
    pairs = [dict(zip(names, each.tolist(), strict=True)) for each in (changes, targets, reached)]
    return RefinedChanges(
        {name: change for name, change in pairs[0].items() if change},
        *({name: each[name] for name in asked} for each in pairs[1:]),
    )


def find_held(editor: Editor, scorer: Scorer, asked: list[str]) -> list[str]:
    """Find the attributes that an edit of ``asked`` holds: protected ones that aren't entailed and that the scorer reads."""
    entailed = {other for name in asked for other in editor.options.get("entailed", {}).get(name, ())}
    protected = editor.options.get("protected", ())
    readable = set(editor.attributes) & set(scorer.attributes)
    return [name for name in protected if name in readable and name not in entailed and name not in asked]


def solve_by_broyden(
    measure: Callable[[Tensor], Tensor], targets: Tensor, weights: Tensor, limits: Tensor, steps: int
) -> tuple[Tensor, Tensor]:
    """Solve for the changes (k,) at which ``measure`` returns ``targets``, and return the best ones with what was measured.

    ``weights``: of the errors; ``limits``: the largest changes. The first changes are the targets themselves.
    """

    def measure_error(readings: Tensor) -> float:
        return float((weights * (readings - targets)).square().sum())

    changes = targets.clamp(-limits, limits)
    reached = measure(changes)
    own = torch.where(changes != 0, reached / changes, 1.0).clamp(*RESPONSE_BOUNDS)
    response = _explain_step(own.diag(), changes, reached)
    best = changes, reached
    for _ in range(steps):
        weighted = weights[:, None] * response
        gram = weighted.T @ weighted + DAMPING * torch.eye(len(targets)).to(targets)
        correction = torch.linalg.solve(gram, weighted.T @ (weights * (targets - reached)))
        moved = (changes + correction.clamp(-MAX_CORRECTION, MAX_CORRECTION)).clamp(-limits, limits)
        read = measure(moved)
        response = _explain_step(response, moved - changes, read - reached)
        changes, reached = moved, read
        if measure_error(reached) < measure_error(best[1]):
            best = changes, reached
    return best


def _explain_step(response: Tensor, step: Tensor, effect: Tensor) -> Tensor:
    """Return the response nearest to ``response`` that turns ``step`` into ``effect``: Broyden's update."""
    size = step.square().sum()
    return response if size < 1e-12 else response + torch.outer(effect - response @ step, step) / size
