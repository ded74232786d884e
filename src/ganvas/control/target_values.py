"""Solve for the changes that bring several readings to target values, where a change of one attribute also moves others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ganvas.data.dataset import find_columns
from ganvas.editors.base import Editor
from ganvas.types import WPlus

MAX_ROUNDS = 6
"""The most corrections."""
TOLERANCE = 0.01
"""The distance from their targets, in standard deviations, at which readings are near enough: it is invisible."""
RIDGE = 0.01
"""Keeps changes small where two attributes hardly move independently."""


@torch.no_grad()
def solve_changes(
    editor: Editor, ws: WPlus, targets: Mapping[str, float], shifts: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """Solve for the changes, one number a code each, whose edit together with ``shifts`` brings readings to ``targets``.

    A single change equals the gap, as the editor is calibrated. Several start from their gaps and are corrected by the
    remaining gap times the inverse of the responses of readings to changes: at most ``MAX_ROUNDS`` times, each code by itself,
    keeping the best changes and halving corrections that don't help.
    Raises GanvasError for an unknown attribute, or no targets.
    """
    names, shifts = tuple(targets), dict(shifts or {})
    columns = find_columns(names, editor.attributes)
    target, readings = torch.tensor(list(targets.values())).to(ws), editor.read(ws)[:, columns]
    best = target - readings
    if len(names) + len(shifts) == 1:
        return dict(zip(names, best.T, strict=True))

    def compute_gap(changes: Tensor) -> Tensor:
        moved = editor.edit(ws, {**shifts, **dict(zip(names, changes.T, strict=True))})
        return target - editor.read(moved)[:, columns]

    responses = torch.stack([editor.read(editor.edit(ws, {name: 1.0}))[:, columns] - readings for name in names], 1)
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
