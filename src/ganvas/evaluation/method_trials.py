"""Trials of one method on one attribute: the paper's protocol, equal changes of the target, and the curves between them.

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
from ganvas.evaluation.success import TARGET_PROBABILITY
from ganvas.evaluation.trials import EditGoal
from ganvas.metrics import Trial, identity_cosine
from ganvas.types import WPlus

CHUNK_FACES = 32
"""Faces that are searched side by side."""
EXHAUSTIVE_TRIALS = 8
"""Faces that a search gives up and that are climbed exhaustively before it is decided whether that is worth it."""
EXHAUSTIVE_SHARE = 0.1
"""The share of these that has to arrive for further ones to be climbed exhaustively."""
FIRST_CHUNK_FACES = 8
"""Faces that are searched first, alone: the strengths that they took guide the search for the others."""


@dataclass(frozen=True)
class MethodTrials:
    """The trials of a method on an attribute. ``matched`` is by change of the target, in standard deviations.

    ``curves``: by measure ("identity" or a judge's name) one value a face and change of ``EvaluationConfig.curve``, nan where
    the face wasn't brought there.
    """

    goal: EditGoal
    paper: Trial | None
    matched: dict[float, Trial]
    curves: dict[str, Tensor]
    renders: int


@torch.no_grad()
def run_method(
    context: EvaluationContext,
    editor: Editor,
    goal: EditGoal,
    scope: str,
    faces: tuple[int, int],
    targets: Sequence[float] = (),
) -> MethodTrials:
    """Run an editor on one attribute's faces.

    ``faces``: how many climb by the paper's protocol, and how many of the first are brought to each change in ``targets``.
    Raises GanvasError where the editor doesn't have the attribute, or too few faces can be tried on.
    """
    if goal.attribute not in editor.attributes:
        raise GanvasError(f"The editor has no attribute {goal.attribute!r}.")
    index, gap = context.select_faces(goal, max(faces))
    if gap:
        raise GanvasError(gap)
    view, config = context.make_view(scope, goal.attribute), context.config
    gaussianize = context.select_gaussianize(goal.attribute)
    paper: list[Trial] = []
    matched: dict[float, list[Trial]] = {change: [] for change in targets}
    curves: dict[str, list[Tensor]] = {}
    given_up, recovered = 0, 0
    renders, start, lines = 0, 0, dict.fromkeys((0.0, *targets), ResponseLine())
    for chunk in index.split([min(FIRST_CHUNK_FACES, len(index)), *_chunk_sizes(len(index) - FIRST_CHUNK_FACES)]):
        search = StrengthSearch(view, editor, goal, *context.make_codes(chunk), gaussianize, config.search)
        if start < faces[0]:
            subset = search.take_first(faces[0] - start)
            score = torch.tensor(goal.get_target(TARGET_PROBABILITY)).logit().item()
            result = subset.climb(
                score,
                context.typical_set,
                lines[0.0],
                exhaustive=given_up < EXHAUSTIVE_TRIALS or recovered >= EXHAUSTIVE_SHARE * given_up,
            )
            given_up, recovered = given_up + _count_true(result.given_up), recovered + _count_true(result.recovered)
            paper.append(build_search_trial(context, subset, result))
            target = subset.to_target(score)
            lines[0.0] = lines[0.0].extend(subset.predict_strength(target), subset.measure_strength(target))
        if start < faces[1]:
            subset = search.take_first(faces[1] - start)
            for change in targets:
                matched[change].append(build_search_trial(context, subset, subset.match_change(change, lines[change])))
                target = subset.values[:, 0] + change
                lines[change] = lines[change].extend(subset.predict_strength(target), subset.measure_strength(target))
            for name, values in measure_curve(context, subset, config.curve).items():
                curves.setdefault(name, []).append(values)
        renders, start = renders + int(search.renders.sum()), start + len(chunk)
    return MethodTrials(
        goal,
        join_trials(paper) if paper else None,
        {change: join_trials(parts) for change, parts in matched.items() if parts},
        {name: torch.cat(values) for name, values in curves.items()},
        renders,
    )


def _count_true(faces: Tensor | None) -> int:
    """Count the faces of a mask."""
    return 0 if faces is None else int(faces.sum())


def _chunk_sizes(n: int) -> list[int]:
    """Split ``n`` faces into chunks."""
    return [min(CHUNK_FACES, n - start) for start in range(0, n, CHUNK_FACES)]


def build_search_trial(context: EvaluationContext, search: StrengthSearch, result: SearchResult) -> Trial:
    """Build the trial of all scorers' columns from where a search ended."""
    everything = torch.arange(len(search.ws))
    after = search.edit(everything, result.rung)
    return build_trial(
        context,
        search.goal.attribute,
        (search.ws, after),
        (search.rows[:, 0], search.get_rows(result.rung)),
        result,
        search,
    )


def build_trial(
    context: EvaluationContext,
    attribute: str,
    codes: tuple[WPlus, WPlus],
    rows: tuple[Tensor, Tensor],
    result: SearchResult | None = None,
    search: StrengthSearch | None = None,
) -> Trial:
    """Build a trial from codes before and after and the panel's rows of them; without ``result`` all have arrived."""
    panel, n = context.panel, len(codes[0])
    names = len(panel.attributes) - panel.width
    return Trial(
        attribute=attribute,
        attributes=panel.attributes[:names],
        kinds=panel.kinds[:names],
        before=codes[0].cpu(),
        after=codes[1].cpu(),
        scores_before=panel.split_scores(rows[0]),
        scores_after=panel.split_scores(rows[1]),
        arrived=result.arrived if result else torch.ones(n, dtype=torch.bool),
        strengths=search.to_strength(result.rung).float() if result and search else torch.zeros(n),
        stopped=result.stopped if result else None,
        renders=search.renders.clone() if search else None,
        faces_before=panel.split_faces(rows[0]),
        faces_after=panel.split_faces(rows[1]),
    )


def measure_curve(context: EvaluationContext, search: StrengthSearch, changes: Sequence[float]) -> dict[str, Tensor]:
    """Measure drift by every judge, and identity, where the target has changed by each of ``changes``: (n, changes) each.

    Linear between the two pictures around each change; nan where none lies beyond it.
    """
    measures: dict[str, list[Tensor]] = {}
    for change in changes:
        target = search.values[:, 0] + change
        low, high = search.bracket(target)
        everything = torch.arange(len(low))
        at_low, at_high = search.values[everything, low], search.values[everything, high]
        share = ((target - at_low) / (at_high - at_low)).float().clamp(0, 1)
        share = torch.where(high > 0, share, torch.nan)
        for name, ends in _measure_at(context, search, low, high).items():
            measures.setdefault(name, []).append(torch.lerp(ends[0], ends[1], share))
    return {name: torch.stack(values, 1) for name, values in measures.items()}


def _measure_at(context: EvaluationContext, search: StrengthSearch, *rungs: Tensor) -> dict[str, list[Tensor]]:
    """Measure drift by judge, and identity, at some rungs."""
    before, measures = search.rows[:, 0], {}
    for rung in rungs:
        after = search.get_rows(rung)
        for scale in context.scales:
            measures.setdefault(scale.name, []).append(
                mean_drift(scale, before, after, (search.goal.attribute,)).float()
            )
        if context.panel.face is not None:
            trial = build_trial(context, search.goal.attribute, (search.ws, search.ws), (before, after))
            measures.setdefault("identity", []).append(identity_cosine(trial).float())
    return measures


def join_trials(trials: Sequence[Trial]) -> Trial:
    """Concatenate trials of the same attribute; of codes with equal rows one row is kept, to save memory."""
    first = trials[0]
    optional = ("stopped", "renders", "faces_before", "faces_after")
    required = ("scores_before", "scores_after", "arrived", "strengths")
    parts = {name: torch.cat([getattr(t, name) for t in trials]) for name in required}
    codes = {name: torch.cat([getattr(t, name) for t in trials]) for name in ("before", "after")}
    parts |= (
        codes
        if any(map(_has_unequal_rows, codes.values()))
        else {name: ws[:, :1].clone() for name, ws in codes.items()}
    )
    parts |= {
        name: torch.cat([getattr(t, name) for t in trials]) for name in optional if getattr(first, name) is not None
    }
    return Trial(first.attribute, first.attributes, first.kinds, **parts)


def _has_unequal_rows(ws: WPlus) -> bool:
    """Return whether some code's rows differ."""
    return not torch.equal(ws, ws[:, :1].expand_as(ws))
