"""Any editor to a target score: strength grows until the picture's score passes the target."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.data.distribution import Distribution
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.scorers.base import Scorer
from ganvas.types import Scores, WPlus

STALLED_RUNGS = 3
"""Guesses in a row that rule out less than half of the rungs before the search halves them by itself."""


@dataclass(frozen=True)
class ScoredView:
    """Codes as a scorer sees them: rendered in batches, shrunk as labels are, scored.

    ``watch`` is called with the size of each batch. ``recall`` gets codes and what renders and scores them, and may know
    some already (``evaluation.score_cache``).
    """

    generator: Generator
    scorer: Scorer
    batch: int = 8
    watch: Callable[[int], object] = lambda rendered: None
    recall: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor] = lambda ws, render: render(ws)

    def __call__(self, ws: WPlus) -> Scores:
        """The scores of codes, (n, attributes)."""
        return self.recall(ws, self._render)

    @torch.no_grad()
    def _render(self, ws: WPlus) -> Scores:
        size = min(LABEL_SIDE, self.generator.resolution)
        scores = [ws.new_zeros(0, len(self.scorer.attributes))]
        for codes in ws.split(self.batch):
            scores.append(self.scorer(downscale(self.generator.synthesis(codes), size)).to(ws))
            self.watch(len(codes))
        return torch.cat(scores)


@dataclass(frozen=True)
class StrengthLadder:
    """The strengths that are tried: ``step``, 2 ``step``, … up to ``maximum``, in the units of ``Editor.edit``.

    ``climb``: every rung from the first one on, as the paper does. Without it a rung is searched for, which costs fewer
    pictures and misses the first that passes where the score falls again beyond it (a face that came apart has no smile).
    """

    step: float = 0.25
    maximum: float = 10.0
    climb: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.step <= self.maximum < float("inf"):
            raise GanvasError(f"A ladder needs 0 < step <= maximum, not step {self.step} and maximum {self.maximum}.")

    @property
    def rungs(self) -> int:
        """How many strengths there are."""
        return int(self.maximum / self.step + 1e-9)


@dataclass(frozen=True)
class ReachResult:
    """Where codes stopped: on the first rung past the target, or else on the last that was allowed."""

    codes: WPlus
    scores: Scores
    arrived: Tensor
    """(n,) bool."""
    strengths: Tensor
    """(n,) signed changes, in the units of ``Editor.edit``."""
    stopped: Tensor
    """(n,) bool: the distribution's bound, not the ladder's end, was the limit."""
    renders: Tensor
    """(n,) pictures rendered for each code."""


def reach(
    editor: Editor,
    view: ScoredView,
    ws: WPlus,
    attribute: str,
    target: float | Tensor,
    *,
    start: Scores | None = None,
    ladder: StrengthLadder = StrengthLadder(),
    within: Distribution | None = None,
) -> ReachResult:
    """Edit each code with the smallest strength of the ladder whose picture's score passes ``target``.

    ``target`` is a probability for attributes of that kind and a score for others; one, or one a code. Strength grows
    upwards for codes whose score is below it, downwards for the others. It stops on the last rung before the code
    leaves the distribution ``within``, for good, even where a later rung would come back. ``start`` are the scores of
    ``ws``, where they are known already.

    Unless the ladder is climbed, a rung is found by interpolating, first from the editor's probe and then between scores
    seen, then by bisection: a handful of pictures a code instead of one a rung. Where the score rises with strength this is
    the same rung that climbing would find; where it doesn't, what arrives does so by climbing too, but some codes that
    climbing brings there are missed. Success is never overstated.
    """
    for names in (view.scorer.attributes, editor.attributes):
        if attribute not in names:
            raise unknown("attribute", attribute, names)
    goal = _in_scores(view.scorer, attribute, target, ws)
    start = view(ws) if start is None else start
    search = _Search(editor, view, ws, attribute, goal, start, ladder)
    limit = search.limit(within)
    rung = search.first_guess().clamp(max=limit)
    while search.ask(rung, limit):
        rung = search.next_guess(limit)
    return search.result(limit)


def _in_scores(scorer: Scorer, attribute: str, target: float | Tensor, ws: WPlus) -> Tensor:
    """The target as scores, (n,)."""
    goal = torch.as_tensor(target, dtype=ws.dtype, device=ws.device).expand(len(ws))
    if scorer.kinds[scorer.column(attribute)] == "probability":
        if not ((goal > 0) & (goal < 1)).all():
            raise GanvasError(f"The target of {attribute!r} is a probability between 0 and 1, not {target}.")
        return torch.logit(goal)
    if not torch.isfinite(goal).all():
        raise GanvasError(f"The target of {attribute!r} must be a finite number, not {target}.")
    return goal


class _Search:
    """What is known of each code: ``low`` didn't pass (0 is the code itself), ``high`` did (0: none yet)."""

    def __init__(
        self,
        editor: Editor,
        view: ScoredView,
        ws: WPlus,
        attribute: str,
        goal: Tensor,
        start: Scores,
        ladder: StrengthLadder,
    ) -> None:
        self.editor, self.view, self.ws, self.attribute, self.ladder = editor, view, ws, attribute, ladder
        self.column = view.scorer.column(attribute)
        self.knots = editor.gaussianize.select([editor.attributes.index(attribute)])
        self.goal, self.at_goal = goal, self._normal(goal)
        self.sign = torch.where(goal >= start[:, self.column], 1.0, -1.0).to(ws)
        self.low = torch.zeros(len(ws), dtype=torch.long, device=ws.device)
        self.high = self.low.clone()
        self.renders = self.low.clone()
        self.slow = self.low.clone()
        self.at_zero = self.at_low = self._normal(start[:, self.column])
        self.at_high = self.at_low.clone()
        self.low_scores, self.high_scores = start.clone(), start.clone()

    def _normal(self, scores: Tensor) -> Tensor:
        # Strengths are counted in standard deviations of the normal score, so it is what grows evenly with them.
        return self.knots(scores[:, None])[:, 0]

    def edit(self, rung: Tensor, index: Tensor) -> WPlus:
        strength = rung * self.ladder.step * self.sign[index]
        return self.editor.edit(self.ws[index], {self.attribute: strength})

    def limit(self, within: Distribution | None) -> Tensor:
        """The last rung of each code before one that leaves the distribution; found without rendering."""
        limit = torch.full_like(self.low, self.ladder.rungs)
        if within is None:
            return limit
        inside = torch.arange(len(self.ws), device=self.ws.device)
        for rung in range(1, self.ladder.rungs + 1):
            left = ~within.contains(self.edit(torch.full_like(inside, rung), inside))
            limit[inside[left]] = rung - 1
            inside = inside[~left]
            if not len(inside):
                break
        return limit

    def first_guess(self) -> Tensor:
        if self.ladder.climb:
            return torch.ones_like(self.low)
        reading = self.editor.read(self.ws)[:, self.editor.attributes.index(self.attribute)]
        return self._rung((self.at_goal - reading) * self.sign / self.ladder.step).clamp(min=1)

    def _rung(self, strength: Tensor) -> Tensor:
        # Bounded before it becomes whole: a flat score would ask for a rung beyond any integer.
        return strength.nan_to_num(self.ladder.rungs).clamp(0, self.ladder.rungs).ceil().long()

    def next_guess(self, limit: Tensor) -> Tensor:
        """Between ``low`` and ``high`` where something passed, else beyond ``low``."""
        if self.ladder.climb:
            return self.low + 1
        passed = self.high > 0
        rise = torch.where(passed, self.at_high - self.at_low, self.at_low - self.at_zero) * self.sign
        run = torch.where(passed, self.high - self.low, self.low)
        needed = (self.at_goal - self.at_low) * self.sign
        line = self.low + self._rung(torch.where(rise > 0, needed * run / rise, torch.inf))
        # Where nothing passed yet a score that flattens would be chased in ever smaller steps: grow by half at least.
        grown = torch.where(passed, line, torch.maximum(line, self.low + self.low // 2))
        half = torch.where(passed, (self.low + self.high) // 2, limit)
        last = torch.where(passed, self.high - 1, limit)
        return torch.minimum(torch.where(self.slow >= STALLED_RUNGS, half, grown).clamp(min=self.low + 1), last)

    def ask(self, rung: Tensor, limit: Tensor) -> bool:
        """Render the codes that aren't settled at their ``rung``; False where all are settled."""
        last = torch.where(self.high > 0, self.high - 1, limit)
        index = (self.low < last).nonzero()[:, 0]
        if not len(index):
            return False
        rung = rung[index]
        scores = self.view(self.edit(rung, index))
        self.renders[index] += 1
        width = self._open(limit)[index]
        passed = (scores[:, self.column] - self.goal[index]) * self.sign[index] > 0
        normal = self._normal(scores[:, self.column])
        up, down = index[passed], index[~passed]
        self.high[up], self.at_high[up], self.high_scores[up] = rung[passed], normal[passed], scores[passed]
        self.low[down], self.at_low[down], self.low_scores[down] = rung[~passed], normal[~passed], scores[~passed]
        self.slow[index] = (2 * self._open(limit)[index] > width).long() * (self.slow[index] + 1)
        return True

    def _open(self, limit: Tensor) -> Tensor:
        """How many rungs may still be the first that passes."""
        return torch.where(self.high > 0, self.high, limit + 1) - self.low - 1

    def result(self, limit: Tensor) -> ReachResult:
        arrived = self.high > 0
        rung = torch.where(arrived, self.high, self.low)
        everything = torch.arange(len(self.ws), device=self.ws.device)
        return ReachResult(
            codes=self.edit(rung, everything),
            scores=torch.where(arrived[:, None], self.high_scores, self.low_scores),
            arrived=arrived,
            strengths=rung * self.ladder.step * self.sign,
            stopped=~arrived & (limit < self.ladder.rungs),
            renders=self.renders,
        )
