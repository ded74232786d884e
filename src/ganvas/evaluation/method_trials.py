"""One method on one attribute: the paper's protocol, equal changes of the target, and the curves between them.

The paper's protocol (Lesné et al., section 4.3) climbs until p > 0.9, within the Mahalanobis bound. At matched change every
method is brought to the same change of the target's normal score, wherever that takes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.evaluation.context import EvaluationContext
from ganvas.evaluation.drift import mean_drift
from ganvas.evaluation.strength_search import ResponseLine, SearchResult, StrengthSearch
from ganvas.evaluation.success import TARGET
from ganvas.evaluation.trials import EditGoal
from ganvas.metrics import Trial, identity_cosine
from ganvas.types import WPlus

CHUNK = 32
"""Faces that are searched side by side."""
TRIED, HELPS = 8, 0.1
"""Faces that a search gives up are climbed wholly until so many were, and on as long as this share of them arrives by it."""
LOOKAHEAD = 8
"""Faces that go first, alone: what they took tells where to look for the others."""


@dataclass(frozen=True)
class MethodTrials:
    """What a method did to an attribute. ``matched`` and its trials are by change of the target, in standard deviations.

    ``curves``: by what is measured ("identity" or a judge's name) one value a face and change of ``Plan.curve``, nan where the
    face wasn't brought there.
    """

    goal: EditGoal
    paper: Trial | None
    matched: dict[float, Trial]
    curves: dict[str, Tensor]
    renders: int


@torch.no_grad()
def run_method(
    stage: EvaluationContext,
    editor: Editor,
    goal: EditGoal,
    scope: str,
    faces: tuple[int, int],
    targets: Sequence[float] = (),
) -> MethodTrials:
    """``faces``: how many climb, and how many of the first are brought to ``control.target_values``.

    Raises GanvasError where the editor doesn't have the attribute, or too few faces can be tried on.
    """
    if goal.attribute not in editor.attributes:
        raise GanvasError(f"It has no attribute {goal.attribute!r}.")
    index, gap = stage.faces(goal, max(faces))
    if gap:
        raise GanvasError(gap)
    view, plan, normal = stage.view(scope, goal.attribute), stage.plan, stage.normal(goal.attribute)
    paper: list[Trial] = []
    matched: dict[float, list[Trial]] = {change: [] for change in targets}
    curves: dict[str, list[Tensor]] = {}
    given_up, late = 0, 0
    renders, start, lines = 0, 0, dict.fromkeys((0.0, *targets), ResponseLine())
    for chunk in index.split([min(LOOKAHEAD, len(index)), *_sizes(len(index) - LOOKAHEAD)]):
        track = StrengthSearch(view, editor, goal, *stage.codes(chunk), normal, plan.search)
        if start < faces[0]:
            part = track.part(faces[0] - start)
            score = torch.tensor(goal.target(TARGET)).logit().item()
            found = part.climb(score, stage.within, lines[0.0], wholly=given_up < TRIED or late >= HELPS * given_up)
            given_up, late = given_up + _count(found.given_up), late + _count(found.late)
            paper.append(search_trial(stage, part, found))
            target = part.goal_of(score)
            lines[0.0] = lines[0.0].more(part.said(target), part.took(target))
        if start < faces[1]:
            part = track.part(faces[1] - start)
            for change in targets:
                matched[change].append(search_trial(stage, part, part.settle(change, lines[change])))
                target = part.values[:, 0] + change
                lines[change] = lines[change].more(part.said(target), part.took(target))
            for name, values in measure_curve(stage, part, plan.curve).items():
                curves.setdefault(name, []).append(values)
        renders, start = renders + int(track.renders.sum()), start + len(chunk)
    return MethodTrials(
        goal,
        join_trials(paper) if paper else None,
        {change: join_trials(parts) for change, parts in matched.items() if parts},
        {name: torch.cat(values) for name, values in curves.items()},
        renders,
    )


def _count(faces: Tensor | None) -> int:
    """How many of a mask there are."""
    return 0 if faces is None else int(faces.sum())


def _sizes(n: int) -> list[int]:
    """Chunks of ``n`` faces."""
    return [min(CHUNK, n - start) for start in range(0, n, CHUNK)]


def search_trial(stage: EvaluationContext, track: StrengthSearch, found: SearchResult) -> Trial:
    """Where a search ended, as a trial of all scorers' columns."""
    everything = torch.arange(len(track.ws))
    after = track.edit(everything, found.rung)
    return trial_of(
        stage, track.goal.attribute, (track.ws, after), (track.rows[:, 0], track.at(found.rung)), found, track
    )


def trial_of(
    stage: EvaluationContext,
    attribute: str,
    codes: tuple[WPlus, WPlus],
    rows: tuple[Tensor, Tensor],
    found: SearchResult | None = None,
    track: StrengthSearch | None = None,
) -> Trial:
    """A trial of codes before and after and of what the panel saw of them; without ``found`` all have arrived."""
    panel, n = stage.panel, len(codes[0])
    names = len(panel.attributes) - panel.width
    return Trial(
        attribute=attribute,
        attributes=panel.attributes[:names],
        kinds=panel.kinds[:names],
        before=codes[0].cpu(),
        after=codes[1].cpu(),
        scores_before=panel.scores(rows[0]),
        scores_after=panel.scores(rows[1]),
        arrived=found.arrived if found else torch.ones(n, dtype=torch.bool),
        strengths=track.strength(found.rung).float() if found and track else torch.zeros(n),
        stopped=found.stopped if found else None,
        renders=track.renders.clone() if track else None,
        faces_before=panel.faces(rows[0]),
        faces_after=panel.faces(rows[1]),
    )


def measure_curve(stage: EvaluationContext, track: StrengthSearch, changes: Sequence[float]) -> dict[str, Tensor]:
    """Drift by every judge, and identity, where the target has changed by each of ``changes``: (n, changes) each.

    Between the two pictures around each change, linearly; nan where none lies beyond it.
    """
    found: dict[str, list[Tensor]] = {}
    for change in changes:
        target = track.values[:, 0] + change
        low, high = track.around(target)
        everything = torch.arange(len(low))
        at_low, at_high = track.values[everything, low], track.values[everything, high]
        share = ((target - at_low) / (at_high - at_low)).float().clamp(0, 1)
        share = torch.where(high > 0, share, torch.nan)
        for name, ends in _measured(stage, track, low, high).items():
            found.setdefault(name, []).append(torch.lerp(ends[0], ends[1], share))
    return {name: torch.stack(values, 1) for name, values in found.items()}


def _measured(stage: EvaluationContext, track: StrengthSearch, *rungs: Tensor) -> dict[str, list[Tensor]]:
    """Drift by judge, and identity, at some rungs."""
    before, found = track.rows[:, 0], {}
    for rung in rungs:
        after = track.at(rung)
        for ruler in stage.rulers:
            found.setdefault(ruler.name, []).append(mean_drift(ruler, before, after, (track.goal.attribute,)).float())
        if stage.panel.face is not None:
            seen = trial_of(stage, track.goal.attribute, (track.ws, track.ws), (before, after))
            found.setdefault("identity", []).append(identity_cosine(seen).float())
    return found


def join_trials(trials: Sequence[Trial]) -> Trial:
    """Trials of the same attribute, one after the other; of codes with equal rows one is kept, or memory wouldn't do."""
    first = trials[0]
    optional = ("stopped", "renders", "faces_before", "faces_after")
    required = ("scores_before", "scores_after", "arrived", "strengths")
    parts = {name: torch.cat([getattr(t, name) for t in trials]) for name in required}
    codes = {name: torch.cat([getattr(t, name) for t in trials]) for name in ("before", "after")}
    parts |= codes if any(map(_unequal, codes.values())) else {name: ws[:, :1].clone() for name, ws in codes.items()}
    parts |= {
        name: torch.cat([getattr(t, name) for t in trials]) for name in optional if getattr(first, name) is not None
    }
    return Trial(first.attribute, first.attributes, first.kinds, **parts)


def _unequal(ws: WPlus) -> bool:
    """Whether some code's rows differ."""
    return not torch.equal(ws, ws[:, :1].expand_as(ws))
