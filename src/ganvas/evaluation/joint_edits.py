"""Edits of several attributes at once: their effects, whether their order matters, and whether they can be undone."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.evaluation.context import EvaluationContext
from ganvas.evaluation.drift import mean_drift, target_change
from ganvas.evaluation.method_trials import build_trial
from ganvas.evaluation.success import make_goal
from ganvas.evaluation.summaries import find_lost_faces
from ganvas.metrics import identity_cosine
from ganvas.stats import Estimate, bootstrap_mean
from ganvas.types import WPlus

JOINT_CHANGE = 1.0
"""The change of each attribute, in the editor's own units."""


def make_joint_changes(names: Sequence[str], change: float = JOINT_CHANGE) -> dict[str, float]:
    """Return the changes of several attributes, each in the direction in which it is tried."""
    return {name: change if make_goal(name).up else -change for name in names}


@torch.no_grad()
def measure_joint_edits(
    context: EvaluationContext, editor: Editor, attributes: Sequence[str], scope: str, n: int
) -> dict[str, dict[str, Any]]:
    """Edit every two and every three of ``attributes`` at once, on the first ``n`` faces of the pool, and judge the pictures.

    "achieved": the mean change of the edited attributes by the own scorer, where ``JOINT_CHANGE`` was asked of each;
    "least": of the one that changed least; drift of all others by every judge; identity.
    Raises GanvasError where the editor has fewer than two of them.
    """
    names = [name for name in attributes if name in editor.attributes]
    if len(names) < 2:
        raise GanvasError(f"The editor has {len(names)} of the attributes {', '.join(attributes)}: two are needed.")
    ws, rows = context.make_codes(torch.arange(min(n, len(context.pool.scores))))
    view, results = context.make_view(scope, "together"), {}
    for size in (2, 3):
        for edited in combinations(names, size):
            moved = editor.edit(ws, make_joint_changes(edited))
            after = view(moved).cpu()
            results[" + ".join(edited)] = _judge_edit(context, edited, (ws, moved), (rows, after))
    return results


def _judge_edit(
    context: EvaluationContext, edited: Sequence[str], codes: tuple[WPlus, WPlus], rows: tuple[Tensor, Tensor]
) -> dict[str, Any]:
    before, after = rows
    signs = [1.0 if make_goal(name).up else -1.0 for name in edited]
    own = context.scales[0]
    changes = torch.stack([target_change(own, before, after, a) * s for a, s in zip(edited, signs, strict=True)], 1)
    trial = build_trial(context, edited[0], codes, rows)
    return {
        "achieved": bootstrap_mean(changes.mean(1)),
        "least": bootstrap_mean(changes.amin(1)),
        "drift": {scale.name: bootstrap_mean(mean_drift(scale, before, after, edited)) for scale in context.scales},
        "identity": bootstrap_mean(identity_cosine(trial)) if context.panel.face is not None else None,
        "no_face": int(find_lost_faces(trial).sum()) if context.panel.face is not None else None,
    }


@torch.no_grad()
def measure_order_and_undo(editor: Editor, ws: WPlus, attributes: Sequence[str]) -> dict[str, Estimate]:
    """Measure how much edits depend on their order, on codes alone; each a share of the whole move's length, so that 0 is none.

    "order": between a then b and b then a, over all pairs; "together": between a then b and both in one edit;
    "undo": what is left after an edit by +2 and one by -2; "undo_all": the same for all attributes in one edit.
    Raises GanvasError where the editor has fewer than two of the attributes.
    """
    names = [name for name in attributes if name in editor.attributes]
    if len(names) < 2:
        raise GanvasError(f"The editor has {len(names)} of the attributes {', '.join(attributes)}: two are needed.")
    order, at_once, undo = [], [], []
    for a, b in combinations(names, 2):
        first, second = (
            editor.edit(editor.edit(ws, make_joint_changes(x)), make_joint_changes(y))
            for x, y in (((a,), (b,)), ((b,), (a,)))
        )
        both = editor.edit(ws, make_joint_changes((a, b)))
        order.append(_measure_distance(first, second) / _measure_distance(first, ws).clamp(min=1e-9))
        at_once.append(_measure_distance(first, both) / _measure_distance(both, ws).clamp(min=1e-9))
    for name in names:
        undo.append(_measure_undone(editor, ws, (name,)))
    parts = {"order": order, "together": at_once, "undo": undo, "undo_all": [_measure_undone(editor, ws, names)]}
    # One value a code: codes are what the bootstrap draws.
    return {what: bootstrap_mean(torch.stack(values).mean(0)) for what, values in parts.items()}


def _measure_undone(editor: Editor, ws: WPlus, names: Sequence[str]) -> Tensor:
    there = editor.edit(ws, make_joint_changes(names, 2 * JOINT_CHANGE))
    back = editor.edit(there, make_joint_changes(names, -2 * JOINT_CHANGE))
    return _measure_distance(back, ws) / _measure_distance(there, ws).clamp(min=1e-9)


def _measure_distance(a: WPlus, b: WPlus) -> Tensor:
    return (a - b).norm(dim=-1).mean(-1)
