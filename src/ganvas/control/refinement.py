"""Refine changes by pictures: draw the edit, read what changed, and correct, so that a scorer reads nearer to what was asked.

An editor's change of 1 is one standard deviation on average; on a single face it is less or more, and brings other attributes
along. Broyden's method (C. G. Broyden, *A Class of Methods for Solving Nonlinear Simultaneous Equations*, Mathematics of
Computation 1965) solves for the changes at which pictures read as asked: each picture corrects the response that is assumed of
each reading to each change. Attributes that the editor protects and that weren't asked for are held at what they were; one that
is there or isn't, such as glasses, is mostly kept from vanishing or from appearing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.control.conditions import find_attribute
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError, unknown
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.scorers.base import Scorer
from ganvas.types import Images, WPlus

DEFAULT_CORRECTIONS = 4
"""The corrections of an edit that is to be exact, where no other number is given."""
MAX_CORRECTIONS = 20
"""The most corrections of an edit: n of them draw at most n + 2 pictures, with those before and after the first edit."""
TOLERANCE = 0.05
"""Errors, in standard deviations, at which an edit isn't corrected any more."""
HELD_WEIGHT = 0.5
"""The weight of an attribute that is held, in the error; what was asked for weighs 1."""
HELD_TOLERANCE = 0.5
"""The change, in standard deviations, up to which an attribute that is held isn't corrected."""
AWAY_TOLERANCE = 1.5
"""The same for what is there, or isn't, where it is read still more, or less, so: holding it would draw half of it."""
PRIOR_WEIGHT = 0.2
"""The weight of corrections beside errors: what can't be reached isn't chased to where faces come apart."""
MAX_CORRECTION = 1.0
"""The largest correction of a change at once, in standard deviations."""
MAX_TOTAL_CORRECTION, MAX_CORRECTED_SHARE = 1.25, 0.6
"""The largest sum of all corrections of a change: in standard deviations or, if that is more, as a share of the change."""
MAX_READING = 2.0
"""The reading, in standard deviations, beyond which few faces are, and to which an edit is corrected at most."""
RESPONSE_BOUNDS = (0.3, 3.0)
"""What a change of 1 that was asked for is taken to move its own reading by after the first picture, at least and at most."""


@dataclass(frozen=True)
class RefinedChanges:
    """``changes`` to edit with; of what was asked for, the reading ``before``, the change that was ``asked`` and the one that
    was ``measured``; in σ.
    """

    changes: dict[str, float]
    before: dict[str, float]
    asked: dict[str, float]
    measured: dict[str, float]


@torch.no_grad()
def refine_changes(
    editor: Editor,
    draw: Callable[[WPlus], Images],
    scorer: Scorer,
    ws: WPlus,
    shifts: Mapping[str, float],
    values: Mapping[str, float] | None = None,
    corrections: int = 3,
) -> RefinedChanges:
    """Refine the changes of one code, so that its picture reads as asked.

    Args:
        editor: The editor; attributes in its option ``protected`` are held, unless they are asked for or entailed.
        draw: Draws the picture of an edited code.
        scorer: Reads pictures: the scorer whose labels the editor learned from, so that both have one scale.
        ws: The code (1, num_ws, w_dim).
        shifts: Attribute -> the change that is to be read, in σ.
        values: Attribute -> the value that is to be read, in σ.
        corrections: The most corrections, from 0 to MAX_CORRECTIONS; the best changes of all count.

    Returns:
        The changes, with those of attributes that are held, and what was read.

    Raises:
        GanvasError: There is nothing to change, more than one code, another number of corrections, or an attribute is a
            count, in both ``shifts`` and ``values``, or unknown to the editor or the scorer.
    """
    values = values or {}
    check_corrections(corrections)
    if len(ws) != 1 or not (shifts or values):
        raise GanvasError(
            f"One code and at least one change can be refined, not {len(ws)} and {len(shifts) + len(values)}."
        )
    asked = [*shifts, *values]
    for name in asked:
        find_attribute(editor, name)
        if name in shifts and name in values:
            raise GanvasError(f"{name!r} has both a change and a value: give one of them.")
        if name not in scorer.attributes:
            raise unknown("attribute", name, scorer.attributes)
        if scorer.kinds[scorer.column(name)] == "count":
            raise GanvasError(f"{name!r} is a count: a change of it is whole objects, and isn't refined.")
    names = asked + find_held(editor, scorer, asked)
    columns = [scorer.column(name) for name in names]
    scale = editor.gaussianize.select([editor.attributes.index(name) for name in names])

    def score(codes: WPlus) -> Tensor:
        picture = draw(codes)
        return scorer(downscale(picture, min(LABEL_SIDE, picture.shape[-1])))[:, columns]

    def read(scores: Tensor) -> Tensor:
        return scale(scores)[0].double().cpu()

    scores = score(ws)
    before = read(scores)
    tolerances = find_tolerances(scorer, columns[len(asked) :], scores[0, len(asked) :])
    start = torch.zeros(len(names), dtype=torch.float64)
    for k, name in enumerate(asked):
        start[k] = shifts[name] if name in shifts else values[name] - before[k]
    targets = limit_targets(start, before)
    weights = torch.tensor([1.0 if name in asked else HELD_WEIGHT for name in names], dtype=torch.float64)

    def measure(changes: Tensor) -> Tensor:
        edit = {name: change for name, change in zip(names, changes.tolist(), strict=True) if change}
        change = read(score(editor.edit_quietly(ws, edit))) - before
        # A small change of what is held is the scorer's noise, and its correction would be none: glasses have no halves.
        held = change[len(asked) :]
        return torch.cat((change[: len(asked)], F.relu(held - tolerances[1]) - F.relu(-held - tolerances[0])))

    changes, reached = solve_by_broyden(measure, targets, weights, corrections, start)
    pairs = [dict(zip(names, each.tolist(), strict=True)) for each in (changes, before, start, reached)]
    return RefinedChanges(
        {name: change for name, change in pairs[0].items() if change},
        *({name: each[name] for name in asked} for each in pairs[1:]),
    )


def check_corrections(corrections: int) -> None:
    """Raise GanvasError for a number of corrections that isn't possible."""
    if not 0 <= corrections <= MAX_CORRECTIONS:
        raise GanvasError(f"The number of corrections is 0 to {MAX_CORRECTIONS}, not {corrections}.")


def find_held(editor: Editor, scorer: Scorer, asked: list[str]) -> list[str]:
    """Find the attributes that an edit of ``asked`` holds: protected ones that aren't entailed and that the scorer reads."""
    entailed = {other for name in asked for other in editor.options.get("entailed", {}).get(name, ())}
    protected = editor.options.get("protected", ())
    readable = set(editor.attributes) & set(scorer.attributes)
    return [name for name in protected if name in readable and name not in entailed and name not in asked]


def find_tolerances(scorer: Scorer, columns: Sequence[int], scores: Tensor) -> Tensor:
    """Return how far readings of held attributes may fall and rise before they are corrected, (2, k).

    ``columns``: of the scorer; ``scores`` (k,): the unedited picture's.
    """
    is_sided = torch.tensor([scorer.kinds[column] == "probability" for column in columns], dtype=torch.bool)
    away = torch.stack((scores < 0, scores >= 0)).cpu() & is_sided
    return torch.where(away, max(AWAY_TOLERANCE, HELD_TOLERANCE), HELD_TOLERANCE).double()


def limit_targets(asked: Tensor, before: Tensor) -> Tensor:
    """Limit changes (k,) so that readings, which are ``before``, stay within MAX_READING, or go no further beyond it.

    No face is older than the oldest: what can't be read any more would be chased to where faces come apart.
    """
    after = before + asked
    limit = before.abs().clamp(min=MAX_READING)
    return torch.maximum(torch.minimum(after, limit), -limit) - before


def solve_by_broyden(
    measure: Callable[[Tensor], Tensor],
    targets: Tensor,
    weights: Tensor,
    corrections: int,
    start: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Solve for the changes (k,) at which ``measure`` returns ``targets``, and return the best ones with what was measured.

    The first changes are ``start``, by default the targets themselves. Best is the least sum of squared errors, times
    ``weights``, and of squared corrections, times PRIOR_WEIGHT.
    """
    start = targets if start is None else start

    def compute_cost(changes: Tensor, readings: Tensor) -> float:
        errors, moves = weights * (readings - targets), PRIOR_WEIGHT * (changes - start)
        return float(errors.square().sum() + moves.square().sum())

    largest = (MAX_CORRECTED_SHARE * start.abs()).clamp(min=MAX_TOTAL_CORRECTION)
    changes, readings = start, measure(start)
    response = estimate_response(changes, readings)
    best = changes, readings
    for _ in range(corrections):
        if (weights * (readings - targets)).abs().max() < TOLERANCE:
            break
        weighted = weights[:, None] * response
        gram = weighted.T @ weighted + PRIOR_WEIGHT**2 * torch.eye(len(targets)).to(targets)
        descent = weighted.T @ (weights * (targets - readings)) - PRIOR_WEIGHT**2 * (changes - start)
        moved = changes + torch.linalg.solve(gram, descent).clamp(-MAX_CORRECTION, MAX_CORRECTION)
        moved = moved.clamp(start - largest, start + largest)
        read = measure(moved)
        response = update_response(response, moved - changes, read - readings)
        changes, readings = moved, read
        if compute_cost(changes, readings) < compute_cost(*best):
            best = changes, readings
    return best


def estimate_response(changes: Tensor, readings: Tensor) -> Tensor:
    """Estimate how readings respond to changes (k, k), from the first picture.

    What was changed is taken to have moved its own reading alone, within RESPONSE_BOUNDS; what was not, to be moved by all that
    was, and to move its own reading by 1.
    """
    asked = changes != 0
    own_response = torch.where(asked, readings / changes, 1.0).clamp(*RESPONSE_BOUNDS).diag()
    others = update_response(torch.eye(len(changes)).to(changes), changes, readings)
    return torch.where(asked[:, None], own_response, others)


def update_response(response: Tensor, step: Tensor, effect: Tensor) -> Tensor:
    """Return the response nearest to ``response`` that turns ``step`` into ``effect``: Broyden's update."""
    size = step.square().sum()
    return response if size < 1e-12 else response + torch.outer(effect - response @ step, step) / size
