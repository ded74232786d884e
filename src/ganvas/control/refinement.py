"""Refine changes by pictures: draw the edit, read what changed, and correct, so that a scorer reads nearer to what was asked.

An editor's change of 1 is one standard deviation on average; on a single face it is less or more, and brings other attributes
along. Broyden's method (C. G. Broyden, *A Class of Methods for Solving Nonlinear Simultaneous Equations*, Mathematics of
Computation 1965) solves for the changes at which pictures read as asked: each picture corrects the response that is assumed of
each reading to each change. Attributes that the editor protects and that weren't asked for are held at what they were; one that
is there or isn't, such as glasses, is mostly kept from vanishing or from appearing. Where such an attribute is asked for itself,
any reading counts as reached at which the scorer is sure of it, however large the change that was asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.control.conditions import find_attribute
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError, unknown
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.scorers.base import Scorer
from ganvas.types import Images, Scores, WPlus

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
FARTHER_TOLERANCE = 1.5
"""The same for what is there, or isn't, where it is read still more, or less, so: holding it would draw half of it."""
BINARY_ATTRIBUTES = frozenset({"Eyeglasses", "Sunglasses", "Wearing_Hat"})
"""Attributes that a face has or hasn't: a picture in between shows faint ones, or none."""
MIN_BINARY_CHANGE = 0.5
"""The change of these, in standard deviations, from which they are to appear, or to vanish, altogether."""
SURE_LOGIT = math.log(0.9 / 0.1)
"""The logit beyond which a scorer is sure that a face has an attribute; below its negative, that it hasn't."""
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
    if len(ws) != 1:
        raise GanvasError(f"The changes of one code are refined at a time, not of {len(ws)}.")
    asked = list_asked(editor, scorer, shifts, values)
    reader = AttributeReader(editor, draw, scorer, asked + find_held(editor, scorer, asked))
    scores = reader.score(ws)
    before = reader.read(scores)
    start = torch.zeros_like(before)
    for k, name in enumerate(asked):
        start[k] = shifts[name] if name in shifts else values[name] - before[k]
    accepted = find_accepted_changes(reader, len(asked), limit_targets(start, before), before, scores)
    weights = torch.where(torch.arange(len(start)) < len(asked), 1.0, HELD_WEIGHT).double()

    def measure(changes: Tensor) -> Tensor:
        edit = {name: change for name, change in zip(reader.names, changes.tolist(), strict=True) if change}
        return reader.read(reader.score(editor.edit_quietly(ws, edit))) - before

    changes, reached = solve_by_broyden(measure, accepted, weights, corrections, start)
    pairs = [dict(zip(reader.names, each.tolist(), strict=True)) for each in (changes, before, start, reached)]
    return RefinedChanges(
        {name: change for name, change in pairs[0].items() if change},
        *({name: each[name] for name in asked} for each in pairs[1:]),
    )


@dataclass(frozen=True)
class AttributeReader:
    """Reads the attributes ``names`` of one code off its picture."""

    editor: Editor
    draw: Callable[[WPlus], Images]
    scorer: Scorer
    names: list[str]

    @property
    def columns(self) -> list[int]:
        """The scorer's columns of the attributes."""
        return [self.scorer.column(name) for name in self.names]

    def score(self, ws: WPlus) -> Scores:
        """Draw a code (1, num_ws, w_dim), and return the scores of its picture (1, attributes)."""
        picture = self.draw(ws)
        return self.scorer(downscale(picture, min(LABEL_SIDE, picture.shape[-1])))[:, self.columns]

    def read(self, scores: Scores) -> Tensor:
        """Convert the scores of one picture (1, attributes) to normal scores (attributes,), float64 on the CPU."""
        scale = self.editor.gaussianize.select([self.editor.attributes.index(name) for name in self.names])
        return scale(scores)[0].double().cpu()


def list_asked(editor: Editor, scorer: Scorer, shifts: Mapping[str, float], values: Mapping[str, float]) -> list[str]:
    """List the attributes that an edit asks for. Raises GanvasError where there are none, and for one that can't be refined."""
    asked = [*shifts, *values]
    if not asked:
        raise GanvasError("Nothing is to change: refining needs at least one change.")
    for name in asked:
        find_attribute(editor, name)
        if name in shifts and name in values:
            raise GanvasError(f"{name!r} has both a change and a value: give one of them.")
        if name not in scorer.attributes:
            raise unknown("attribute", name, scorer.attributes)
        if scorer.kinds[scorer.column(name)] == "count":
            raise GanvasError(f"{name!r} is a count: a change of it is whole objects, and isn't refined.")
    return asked


def find_accepted_changes(reader: AttributeReader, n: int, targets: Tensor, before: Tensor, scores: Scores) -> Tensor:
    """Return the least and the largest changes that are accepted, (2, attributes).

    ``targets``: the changes that are aimed at; of the reader's first ``n`` attributes, those that were asked for, only they are
    accepted, but for what a face has or hasn't. ``before`` and ``scores``: the unedited picture's.
    """
    accepted = torch.stack((targets, targets))
    falls, rises = find_tolerances(reader.scorer, reader.columns[n:], scores[0, n:])
    accepted[:, n:] = torch.stack((-falls, rises))
    logits = torch.tensor([-SURE_LOGIT, SURE_LOGIT]).to(scores)
    lacks, has = (reader.read(logit.expand(scores.shape)) - before for logit in logits)
    for k, name in enumerate(reader.names[:n]):
        if name in BINARY_ATTRIBUTES and reader.scorer.kinds[reader.columns[k]] == "probability":
            accepted[:, k] = find_accepted_range(float(targets[k]), torch.stack((lacks[k], has[k])))
    return accepted


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
    return torch.where(away, FARTHER_TOLERANCE, HELD_TOLERANCE).double()


def limit_targets(asked: Tensor, before: Tensor) -> Tensor:
    """Limit changes (k,) so that readings, which are ``before``, stay within MAX_READING, or go no further beyond it.

    No face is older than the oldest: what can't be read any more would be chased to where faces come apart.
    """
    after = before + asked
    limit = before.abs().clamp(min=MAX_READING)
    return torch.maximum(torch.minimum(after, limit), -limit) - before


def find_accepted_range(target: float, sure: Tensor) -> Tensor:
    """Return the least and the largest change that is accepted of an attribute that a face has or hasn't, (2,).

    ``target``: the change that was asked for; ``sure`` (2,): the changes at which the scorer is sure that the face lacks it, and
    that it has it. Only ``target`` is accepted where it is smaller than MIN_BINARY_CHANGE, or the face is so already.
    """
    lacks, has = sure.tolist()
    if target >= MIN_BINARY_CHANGE and has > 0:
        return torch.tensor([has, max(has, target) + MAX_TOTAL_CORRECTION])
    if target <= -MIN_BINARY_CHANGE and lacks < 0:
        return torch.tensor([min(lacks, target) - MAX_TOTAL_CORRECTION, lacks])
    return torch.tensor([target, target])


def solve_by_broyden(
    measure: Callable[[Tensor], Tensor],
    accepted: Tensor,
    weights: Tensor,
    corrections: int,
    start: Tensor,
) -> tuple[Tensor, Tensor]:
    """Solve for the changes (k,) at which ``measure`` returns what is accepted, and return the best ones with what was measured.

    ``accepted`` (2, k): the least and the largest reading that is no error. The first changes are ``start``. Best is the least
    sum of squared errors, times ``weights``, and of squared corrections, times PRIOR_WEIGHT.
    """

    def compute_errors(readings: Tensor) -> Tensor:
        return readings - readings.clamp(*accepted)

    def compute_cost(changes: Tensor, errors: Tensor) -> float:
        moves = PRIOR_WEIGHT * (changes - start)
        return float((weights * errors).square().sum() + moves.square().sum())

    largest = (MAX_CORRECTED_SHARE * start.abs()).clamp(min=MAX_TOTAL_CORRECTION)
    changes, readings = start, measure(start)
    errors = compute_errors(readings)
    # Readings that are accepted count as equal: a small change of what is held is the scorer's noise.
    response = estimate_response(changes, start.clamp(*accepted) + errors)
    best = changes, readings
    for _ in range(corrections):
        if (weights * errors).abs().max() < TOLERANCE:
            break
        weighted = weights[:, None] * response
        gram = weighted.T @ weighted + PRIOR_WEIGHT**2 * torch.eye(len(start)).to(start)
        descent = -weighted.T @ (weights * errors) - PRIOR_WEIGHT**2 * (changes - start)
        moved = changes + torch.linalg.solve(gram, descent).clamp(-MAX_CORRECTION, MAX_CORRECTION)
        moved = moved.clamp(start - largest, start + largest)
        readings = measure(moved)
        moved_errors = compute_errors(readings)
        response = update_response(response, moved - changes, moved_errors - errors)
        changes, errors = moved, moved_errors
        if compute_cost(changes, errors) < compute_cost(best[0], compute_errors(best[1])):
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
