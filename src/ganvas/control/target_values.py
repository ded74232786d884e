"""Bringing several readings to chosen values at once, where the move of one attribute also moves the others."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ganvas.data.dataset import find_columns
from ganvas.editors.base import Editor
from ganvas.types import WPlus

MAX_ROUNDS = 6
"""Corrections at most."""
TOLERANCE = 0.01
"""Standard deviations from their target at which readings count as there: no eye sees them."""
RIDGE = 0.01
"""What keeps changes small where two attributes hardly move apart."""


@torch.no_grad()
def solve_changes(
    editor: Editor, ws: WPlus, targets: Mapping[str, float], shifts: Mapping[str, float] | None = None
) -> dict[str, Tensor]:
    """The changes, one number a code each, whose edit together with ``shifts`` brings readings to ``control.target_values``.

    A change alone is what is lacking, as the editor is calibrated. Several start from there and are corrected by what is
    then still lacking, through how far each moves each reading: at most ``MAX_ROUNDS`` times, each code by itself,
    keeping the nearest changes and halving corrections that don't help.
    Raises GanvasError for an unknown attribute, or no targets.
    """
    names, shifts = tuple(targets), dict(shifts or {})
    columns = find_columns(names, editor.attributes)
    goal, here = torch.tensor(list(targets.values())).to(ws), editor.read(ws)[:, columns]
    best = goal - here
    if len(names) + len(shifts) == 1:
        return dict(zip(names, best.T, strict=True))

    def lacking(changes: Tensor) -> Tensor:
        moved = editor.edit(ws, {**shifts, **dict(zip(names, changes.T, strict=True))})
        return goal - editor.read(moved)[:, columns]

    responses = torch.stack([editor.read(editor.edit(ws, {name: 1.0}))[:, columns] - here for name in names], 1)
    correction = _inverse(responses)
    left, share = lacking(best), torch.ones_like(best[:, :1])
    for _ in range(MAX_ROUNDS):
        far = left.abs().amax(1, keepdim=True)
        if (far < TOLERANCE).all():
            break
        tried = best + share * (far >= TOLERANCE) * torch.einsum("ni,nij->nj", left, correction)
        rest = lacking(tried)
        nearer = rest.abs().amax(1, keepdim=True) < far
        best, left = torch.where(nearer, tried, best), torch.where(nearer, rest, left)
        share = torch.where(nearer, share, share / 2)
    return dict(zip(names, best.T, strict=True))


def _inverse(responses: Tensor) -> Tensor:
    """From readings (n, k) to the changes that give them, (n, k, k); singular responses give small changes."""
    r = responses.double()
    ridge = RIDGE * torch.eye(r.shape[1]).to(r)
    return (r.mT @ torch.linalg.inv(r @ r.mT + ridge)).to(responses)
