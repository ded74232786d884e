"""Target values: in σ or in the attribute's own unit, and the changes that bring several readings to them at once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from ganvas.control.conditions import convert_to_normal_score, find_attribute
from ganvas.data.dataset import find_columns
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.types import WPlus

MAX_ROUNDS = 6
"""The most corrections."""
TOLERANCE = 0.01
"""The distance from their targets, in standard deviations, at which readings are near enough: it is invisible."""
RIDGE = 0.01
"""Keeps changes small where two attributes hardly move independently."""


def convert_to_sigma(editor: Editor, attribute: str, value: float | str) -> float:
    """Convert a value in the attribute's own unit, such as "60y", to the editor's normal score; a number is one already.

    Raises GanvasError for an unknown attribute, one without a unit, another unit, and a value out of the range of the labels.
    """
    column = find_attribute(editor, attribute)
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"\s*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))\s*([^\W\d_]+)\s*", value)
    unit = editor.units.get(attribute)
    if unit is None:
        raise GanvasError(f"{attribute!r} has no unit, so {value!r} isn't a value of it: give σ, like {attribute}=1.")
    seen = f"{attribute!r} goes from {format_unit_range(editor, attribute)} in this editor's labels"
    if match is None or match[2] != unit:
        raise GanvasError(f"{value!r} isn't a value of {attribute!r} in {unit!r}: {seen}.")
    low, high = editor.gaussianize.get_range(column)
    if not low <= float(match[1]) <= high:
        raise GanvasError(f"{value!r} is out of range: {seen}.")
    return convert_to_normal_score(editor, column, float(match[1]))


def replace_units(condition: str, editor: Editor) -> str:
    """Replace the values of a condition in the attribute's own unit, such as ``Age>60y`` or ``Age=20y..30y``, by normal scores.

    Other conditions are returned as they are. Raises GanvasError as ``convert_to_sigma``.
    """
    number = r"[-+]?[0-9]*\.?[0-9]+"
    match = re.fullmatch(
        rf"\s*([^<>=()]+?)\s*([<>]=?|=)\s*({number}\s*[^\W\d_]+)(?:\.\.({number}\s*[^\W\d_]+))?\s*", condition
    )
    if match is None:
        return condition
    name, operator, *values = match.groups()
    scores = [f"{convert_to_sigma(editor, name, value):.6f}" for value in values if value is not None]
    return f"{name}{operator}{'..'.join(scores)}"


def convert_to_unit(editor: Editor, attribute: str, sigma: float) -> float:
    """Convert a normal score to the attribute's own unit: the inverse of ``convert_to_sigma``."""
    inverse = editor.gaussianize.select([find_attribute(editor, attribute)]).inverse
    return float(inverse(torch.tensor([[sigma]], dtype=torch.float64)))


def find_unit_range(editor: Editor, attribute: str) -> tuple[float, float, float]:
    """Return the lowest and the highest value of an attribute's labels in its unit, and a step for both.

    The step is a power of ten, at most a twentieth of the range, which is rounded inwards to it.
    """
    low, high = editor.gaussianize.get_range(find_attribute(editor, attribute))
    step = 10.0 ** math.floor(math.log10((high - low) / 20))
    return math.ceil(low / step) * step, math.floor(high / step) * step, step


def format_unit_range(editor: Editor, attribute: str) -> str:
    """Format the range of an attribute's labels: ``5 to 74 y``."""
    low, high, _ = find_unit_range(editor, attribute)
    return f"{low:g} to {high:g} {editor.units[attribute]}"


@torch.no_grad()
def solve_changes(
    editor: Editor, ws: WPlus, targets: Mapping[str, float | str], shifts: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """Solve for the changes, one number a code each, whose edit together with ``shifts`` brings readings to ``targets``.

    ``targets``: attribute -> value in σ, or a text in the attribute's own unit, such as "60y".
    A single change equals the gap, as the editor is calibrated. Several start from their gaps and are corrected by the
    remaining gap times the inverse of the responses of readings to changes: at most ``MAX_ROUNDS`` times, each code by itself,
    keeping the best changes and halving corrections that don't help.
    Raises GanvasError for no targets, and as ``convert_to_sigma``.
    """
    names, shifts = tuple(targets), dict(shifts or {})
    columns = find_columns(names, editor.attributes)
    values = [convert_to_sigma(editor, name, value) for name, value in targets.items()]
    target, readings = torch.tensor(values).to(ws), editor.read(ws)[:, columns]
    best = target - readings
    if len(names) + len(shifts) == 1:
        return dict(zip(names, best.T, strict=True))

    def compute_gap(changes: Tensor) -> Tensor:
        moved = editor.edit_quietly(ws, {**shifts, **dict(zip(names, changes.T, strict=True))})
        return target - readings - editor.measure_change(ws, moved)[:, columns]

    responses = torch.stack(
        [editor.measure_change(ws, editor.edit_quietly(ws, {name: 1.0}))[:, columns] for name in names], 1
    )
    correction = _invert_responses(responses)
    gap, share = compute_gap(best), torch.ones_like(best[:, :1])
    for _ in range(MAX_ROUNDS):
        distance = gap.abs().amax(1, keepdim=True)
        if (distance < TOLERANCE).all():
            break
        trial = best + share * (distance >= TOLERANCE) * torch.einsum("ni,nij->nj", gap, correction)
        trial_gap = compute_gap(trial)
        improved = trial_gap.abs().amax(1, keepdim=True) < distance
        best, gap = torch.where(improved, trial, best), torch.where(improved, trial_gap, gap)
        share = torch.where(improved, share, share / 2)
    return dict(zip(names, best.T, strict=True))


def _invert_responses(responses: Tensor) -> Tensor:
    """Invert responses (n, k, k) by a ridge: maps readings to changes, which stay small where responses are singular."""
    r = responses.double()
    ridge = RIDGE * torch.eye(r.shape[1]).to(r)
    return (r.mT @ torch.linalg.inv(r @ r.mT + ridge)).to(responses)
