"""Protocols: how edits are tried on fresh codes, each ending in tidy rows.

- paper: Lesné et al., section 4.3: edited with growing strength until p > 0.9, within the Mahalanobis bound.
- matched: the picture nearest to an equal change of the target's normal score, for the scorer that made the labels.
- equal: exactly an equal change of the target by each judge itself, between the two pictures around it.
- random: moves in random directions as far as an editor's matched ones.
- joint: several attributes in one edit.
- codes: edits by 1 without pictures, read by the labels' probe.
- order: whether the order of edits matters, and whether they can be undone, on codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from ganvas.control.search import SearchResult, StrengthSearch, find_crossing
from ganvas.data.dataset import LatentDataset, make_dataset
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.evaluation.context import EvaluationContext
from ganvas.evaluation.faces import TARGET_PROBABILITY, EditGoal, make_goal
from ganvas.evaluation.judges import JudgeScale
from ganvas.evaluation.rows import RowBlocks
from ganvas.generators.base import sample
from ganvas.metrics import Trial
from ganvas.seeds import LATENT_SEED
from ganvas.types import Scores, WPlus

CHUNK_FACES = 32
"""Faces that are searched side by side."""
FIRST_CHUNK_FACES = 8
"""Faces that are searched first, alone: the strengths that they took guide the search for the others."""
EXHAUSTIVE_TRIALS = 8
"""Faces that a search gives up and that are climbed exhaustively before it is decided whether that is worth it."""
EXHAUSTIVE_SHARE = 0.1
"""The share of these that has to arrive for further ones to be climbed exhaustively."""
DIRECTION_SEED = 7
JOINT_CHANGE = 1.0
"""The change of each attribute of a joint edit, in the editor's own units."""


PRIOR_FACES = 4.0
"""Weight of the line of slope 1, as a number of faces of spread 1, against the faces measured."""


@dataclass(frozen=True)
class ResponseLine:
    """A regression line from the strength that scorer and probe predict to the one that was needed, learned from earlier faces.

    ``pairs``: (n, 2) predicted and measured strengths.
    """

    pairs: Tensor = torch.zeros(0, 2, dtype=torch.float64)  # noqa: RUF009 (never written to)

    def __call__(self, predicted: Tensor) -> Tensor:
        """Correct predicted strengths; without ``PRIOR_FACES`` pairs they are returned as they are."""
        if len(self.pairs) < PRIOR_FACES:
            return predicted
        middle = self.pairs.mean(0)
        x, y = (self.pairs - middle).T
        slope = (x @ y + PRIOR_FACES) / (x @ x + PRIOR_FACES)
        return middle[1] + slope * (predicted - middle[0])

    def extend(self, predicted: Tensor, measured: Tensor) -> ResponseLine:
        """Return the line with further faces; nan for those that never reached the target."""
        more = torch.stack((predicted, measured), 1)
        return ResponseLine(torch.cat((self.pairs, more[~more.isnan().any(1)])))


@torch.no_grad()
def run_pictures(
    context: EvaluationContext,
    editor: Editor,
    goal: EditGoal,
    scope: str,
    faces: tuple[int, int],
    targets: Sequence[float],
    curve: Sequence[float],
    blocks: RowBlocks,
) -> None:
    """Try an editor on one attribute's faces by the protocols paper, matched and equal.

    Args:
        context: The faces, judges and scales.
        editor: The editor.
        goal: The attribute, and the direction in which it is tried.
        scope: The folder of the scores of its pictures.
        faces: How many climb by the paper's protocol, and how many of the first are brought to each of ``targets``.
        targets: Equal changes of the target, in σ.
        curve: Further changes at which "equal" has rows, without further pictures.
        blocks: Where rows are added.

    Raises:
        GanvasError: Where the editor doesn't have the attribute, or too few faces can be tried on.
    """
    if goal.attribute not in editor.attributes:
        raise GanvasError(f"The editor has no attribute {goal.attribute!r}.")
    index = context.select_faces(goal, max(faces))
    grid = context.config.search
    code_scorer, cache = context.make_code_scorer(scope, goal.attribute)
    gaussianize = context.select_gaussianize(goal.attribute)
    score = torch.tensor(goal.get_target(TARGET_PROBABILITY)).logit().item()
    given_up = recovered = start = 0
    lines = dict.fromkeys((0.0, *targets), ResponseLine())
    searches: list[tuple[StrengthSearch, Tensor]] = []
    for chunk in index.split(split_chunks(len(index))):
        ws, rows = context.make_codes(chunk)
        sign = torch.full((len(chunk),), goal.sign)
        search = StrengthSearch(code_scorer, editor, goal.attribute, sign, ws, rows, gaussianize, grid.ladder)
        if start < faces[0]:
            subset = search.take_first(faces[0] - start)
            target = subset.to_target(torch.full((len(subset.ws),), score))
            predicted = subset.predict_strength(target)
            found = subset.find_first(
                target,
                lines[0.0](predicted),
                context.typical_set,
                stride=grid.stride,
                patience=grid.patience,
                exhaustive=given_up < EXHAUSTIVE_TRIALS or recovered >= EXHAUSTIVE_SHARE * given_up,
            )
            given_up, recovered = given_up + int(found.given_up.sum()), recovered + int(found.recovered.sum())
            trial = _make_search_trial(context, subset, found)
            _add_trial(context, blocks, "paper", trial, [goal], chunk[: len(trial)])
            lines[0.0] = lines[0.0].extend(predicted, subset.measure_strength(target))
        if start < faces[1]:
            subset = search.take_first(faces[1] - start)
            for change in targets:
                target = subset.values[:, 0] + change
                predicted = subset.predict_strength(target)
                found = subset.find_nearest(target, lines[change](predicted), grid.tolerance, grid.max_pictures)
                trial = _make_search_trial(context, subset, found)
                _add_trial(context, blocks, "matched", trial, [goal], chunk[: len(trial)], change=change)
                lines[change] = lines[change].extend(predicted, subset.measure_strength(target))
            searches.append((subset, chunk[: len(subset.ws)]))
        start += len(chunk)
    # When all is rendered: other judges' targets may lie at pictures of any change.
    for subset, codes in searches:
        for change in sorted({*targets, *curve}):
            _add_equal(context, blocks, subset, goal, codes, change)
    blocks.pictures += len(cache.requested)


def split_chunks(n: int) -> list[int]:
    """Split ``n`` faces into chunks, a small one first."""
    first = min(FIRST_CHUNK_FACES, n)
    return [first, *(min(CHUNK_FACES, n - start) for start in range(first, n, CHUNK_FACES))]


def _make_search_trial(context: EvaluationContext, search: StrengthSearch, result: SearchResult) -> Trial:
    """Make the trial of all scorers' columns from where a search ended."""
    after = search.edit(torch.arange(len(search.ws)), result.rung)
    return make_trial(
        context,
        search.attribute,
        (search.ws, after),
        (search.rows[:, 0], search.get_rows(result.rung)),
        arrived=result.arrived,
        strengths=search.to_strength(result.rung).float(),
        stopped=result.stopped,
        renders=search.renders.clone(),
    )


def make_trial(
    context: EvaluationContext,
    attribute: str,
    codes: tuple[WPlus, WPlus],
    rows: tuple[Scores, Scores],
    arrived: Tensor | None = None,
    strengths: Tensor | None = None,
    stopped: Tensor | None = None,
    renders: Tensor | None = None,
) -> Trial:
    """Make a trial of all scorers' columns from codes before and after and the panel's rows of them."""
    panel, n = context.panel, len(codes[0])
    width = len(panel.attributes) - panel.width
    return Trial(
        attribute=attribute,
        attributes=panel.attributes[:width],
        kinds=panel.kinds[:width],
        before=codes[0].cpu(),
        after=codes[1].cpu(),
        scores_before=panel.split_scores(rows[0]),
        scores_after=panel.split_scores(rows[1]),
        arrived=torch.ones(n, dtype=torch.bool) if arrived is None else arrived,
        strengths=torch.zeros(n) if strengths is None else strengths,
        stopped=stopped,
        renders=renders,
        faces_before=panel.split_faces(rows[0]),
        faces_after=panel.split_faces(rows[1]),
        typical_set=context.typical_set,
    )


def _add_trial(
    context: EvaluationContext,
    blocks: RowBlocks,
    protocol: str,
    trial: Trial,
    goals: Sequence[EditGoal],
    codes: Tensor,
    change: float = float("nan"),
    attribute: str = "",
) -> None:
    """Add the rows of a trial: what is measured once, and what each judge says."""
    blocks.add_trial(protocol, codes, [trial], change=change, attribute=attribute)
    for name, seen in context.view_by_judges(trial, goals):
        blocks.add_trial(protocol, codes, [seen], judge=name, change=change, attribute=attribute)


def _add_equal(
    context: EvaluationContext, blocks: RowBlocks, search: StrengthSearch, goal: EditGoal, codes: Tensor, change: float
) -> None:
    """Add the rows at exactly ``change`` by each judge that has the attribute; what isn't judged is by the label scorer's change.

    Linear between the two rendered pictures around the first place where the target has changed by so much.
    """
    everyone = torch.arange(len(codes))
    for judge, scale in enumerate(context.scales):
        readings = _read_target(scale, search, goal)
        if readings is None:
            continue
        low, high = find_crossing(readings, torch.full((len(codes),), change, dtype=readings.dtype))
        at_low, at_high = readings[everyone, low], readings[everyone, high]
        share = torch.where(high > 0, ((change - at_low) / (at_high - at_low)).float().clamp(0, 1), torch.nan)
        ends_at = [search.to_strength(rung).float() for rung in (low, high)]
        strengths = torch.lerp(ends_at[0], ends_at[1], share)
        ends = [
            make_trial(
                context,
                goal.attribute,
                (search.ws, search.edit(everyone, rung)),
                (search.rows[:, 0], search.get_rows(rung)),
                arrived=high > 0,
                strengths=strengths,
            )
            for rung in (low, high)
        ]
        if judge == 0:
            blocks.add_trial("equal", codes, ends, share=share, change=change)
        seen = [
            next(trial for name, trial in context.view_by_judges(end, [goal]) if name == scale.name) for end in ends
        ]
        blocks.add_trial("equal", codes, seen, judge=scale.name, share=share, change=change)


def _read_target(scale: JudgeScale, search: StrengthSearch, goal: EditGoal) -> Tensor | None:
    """Return the target's change towards the goal for a judge at each rung, (n, rungs + 1), nan where nothing was rendered.

    None for a judge without the attribute.
    """
    match = scale.find_attribute(goal.attribute)
    if match is None:
        return None
    rendered = ~search.values.isnan()
    before = search.rows[:, :1].expand_as(search.rows)[rendered]
    change = scale.measure_change(before, search.rows[rendered])[:, match[0]] * match[1] * goal.sign
    readings = torch.full_like(search.values, torch.nan)
    readings[rendered] = change.to(readings)
    return readings


@torch.no_grad()
def edit_pool(
    context: EvaluationContext, editor: Editor, attribute: str, codes: np.ndarray, strengths: np.ndarray
) -> tuple[WPlus, WPlus, Scores]:
    """Return some faces' codes, the same edited again by these strengths, and the panel's rows before."""
    ws, rows = context.make_codes(torch.from_numpy(codes.astype(np.int64)))
    return ws, editor.edit_quietly(ws, {attribute: torch.from_numpy(strengths.copy()).to(ws)}), rows


@torch.no_grad()
def run_random(
    context: EvaluationContext,
    editor: Editor,
    goal: EditGoal,
    change: float,
    codes: np.ndarray,
    strengths: np.ndarray,
    blocks: RowBlocks,
) -> None:
    """Move codes as far in W as ``editor`` did by these strengths, in random directions, as a baseline."""
    ws, edited, rows = edit_pool(context, editor, goal.attribute, codes, strengths)
    length = (edited - ws).norm(dim=-1).mean(-1)
    random = torch.Generator().manual_seed(DIRECTION_SEED)
    # One direction a face of the pool, so that a larger share of the report goes on with the same.
    directions = torch.randn(int(codes.max()) + 1, ws.shape[2], generator=random)[
        torch.from_numpy(codes.astype(np.int64))
    ]
    moved = ws + (directions / directions.norm(dim=1, keepdim=True)).to(ws)[:, None] * length[:, None, None]
    code_scorer, cache = context.make_code_scorer("random", f"{goal.attribute}-{change:g}")
    trial = make_trial(context, goal.attribute, (ws, moved), (rows, code_scorer(moved).cpu()))
    _add_trial(context, blocks, "random", trial, [goal], torch.from_numpy(codes.copy()), change=change)
    blocks.pictures += len(cache.requested)


def _make_changes(names: Sequence[str], change: float = JOINT_CHANGE) -> dict[str, float]:
    """Return the changes of several attributes, each in the direction in which it is tried."""
    return {name: change * make_goal(name).sign for name in names}


def _list_pairable(editor: Editor, attributes: Sequence[str]) -> list[str]:
    """Return the attributes that the editor has. Raises GanvasError for fewer than two."""
    names = [name for name in attributes if name in editor.attributes]
    if len(names) < 2:
        raise GanvasError(f"The editor has {len(names)} of the attributes {', '.join(attributes)}: two are needed.")
    return names


@torch.no_grad()
def run_joint(
    context: EvaluationContext, editor: Editor, attributes: Sequence[str], scope: str, n: int, blocks: RowBlocks
) -> None:
    """Edit every two and every three of ``attributes`` at once by ``JOINT_CHANGE``, on the first ``n`` faces of the pool.

    Raises GanvasError where the editor has fewer than two of them.
    """
    names, codes = _list_pairable(editor, attributes), torch.arange(min(n, len(context.pool.scores)))
    ws, rows = context.make_codes(codes)
    code_scorer, cache = context.make_code_scorer(scope, "together")
    for edited in (*combinations(names, 2), *combinations(names, 3)):
        moved = editor.edit_quietly(ws, _make_changes(edited))
        trial = make_trial(context, edited[0], (ws, moved), (rows, code_scorer(moved).cpu()))
        goals, title = [make_goal(name) for name in edited], " + ".join(edited)
        _add_trial(context, blocks, "joint", trial, goals, codes, change=JOINT_CHANGE, attribute=title)
    blocks.pictures += len(cache.requested)


def sample_latent_codes(context: EvaluationContext) -> WPlus:
    """Sample the codes for protocols without pictures."""
    return sample(context.generator, context.config.latent, context.config.psi, LATENT_SEED)


@torch.no_grad()
def run_codes(
    context: EvaluationContext, editor: Editor, attribute: str, ws: WPlus, blocks: RowBlocks, labels: int = 0
) -> None:
    """Edit codes by a change of 1, and read them by the labels' probe, as a judge of codes.

    ``labels``: the number of labels that the editor learned from, where these weren't all.
    """
    if attribute not in editor.attributes:
        raise GanvasError(f"The editor has no attribute {attribute!r}.")
    data, goal, n = context.data, make_goal(attribute), len(ws)
    moved = editor.edit_quietly(ws, {attribute: goal.sign})
    readings = [data.probe(codes.mean(1)).cpu() for codes in (ws, moved)]
    towards = torch.zeros(len(data.attributes))
    towards[data.attributes.index(attribute)] = goal.sign
    trial = Trial(
        attribute,
        data.attributes,
        data.kinds,
        before=ws.cpu(),
        after=moved.cpu(),
        scores_before=readings[0],
        scores_after=readings[1],
        arrived=torch.ones(n, dtype=torch.bool),
        strengths=torch.full((n,), goal.sign),
        changes=readings[1] - readings[0],
        towards=towards,
        others=towards == 0,
        typical_set=context.typical_set,
    )
    for judge in ("", "probe"):
        blocks.add_trial("codes", torch.arange(n), [trial], judge=judge, change=1.0, labels=labels, attribute=attribute)


@torch.no_grad()
def run_order(editor: Editor, attributes: Sequence[str], ws: WPlus, blocks: RowBlocks) -> None:
    """Measure how much edits depend on their order, on codes alone, as shares of the whole move's length: 0 is best.

    "order": between a then b and b then a, over all pairs; "together": between a then b and both in one edit; "undo": what is
    left after an edit by +2 and one by -2; "undo_all": the same for all attributes in one edit.
    Raises GanvasError where the editor has fewer than two of the attributes.
    """
    names, codes = _list_pairable(editor, attributes), torch.arange(len(ws))

    def measure(a: WPlus, b: WPlus, end: WPlus, start: WPlus) -> Tensor:
        return _measure_distance(a, b) / _measure_distance(end, start).clamp(min=1e-9)

    def add(metric: str, edited: Sequence[str], values: Tensor) -> None:
        blocks.add("order", metric, codes, values, attribute=" + ".join(edited))

    for a, b in combinations(names, 2):
        first = editor.edit_quietly(editor.edit_quietly(ws, _make_changes([a])), _make_changes([b]))
        second = editor.edit_quietly(editor.edit_quietly(ws, _make_changes([b])), _make_changes([a]))
        both = editor.edit_quietly(ws, _make_changes((a, b)))
        add("order", (a, b), measure(first, second, first, ws))
        add("together", (a, b), measure(first, both, both, ws))
    for edited in (*([name] for name in names), names):
        there = editor.edit_quietly(ws, _make_changes(edited, 2 * JOINT_CHANGE))
        back = editor.edit_quietly(there, _make_changes(edited, -2 * JOINT_CHANGE))
        add("undo" if len(edited) == 1 else "undo_all", edited, measure(back, ws, there, ws))


def _measure_distance(a: WPlus, b: WPlus) -> Tensor:
    return (a - b).norm(dim=-1).mean(-1)


def take_first_labels(data: LatentDataset, n: int, attributes: Sequence[str]) -> LatentDataset:
    """Return the first ``n`` labels as if there were no others: normal scores and probe are fitted on them alone.

    Attributes with one score everywhere among so few are left out, unless they are among ``attributes``.
    Raises GanvasError where those are, or where there aren't so many labels.
    """
    if n > len(data):
        raise GanvasError(f"There are {len(data):,} labels, not {n:,}.")
    scores = data.scores[:n]
    usable = [a for k, a in enumerate(data.attributes) if a in attributes or scores[:, k].unique().numel() > 1]
    columns = [data.attributes.index(a) for a in usable]
    kinds = tuple(data.kinds[k] for k in columns)
    source = data.subset(torch.arange(n)).source
    return make_dataset(data.codes[:n], scores[:, columns], tuple(usable), kinds, source, data.generator, data.scorer)
