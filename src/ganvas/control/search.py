"""Search the strength of an edit: it grows until the picture's score passes a target."""

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
"""Guesses in a row that exclude less than half of the rungs before the search bisects."""


@dataclass(frozen=True)
class ScoredView:
    """Scores of codes' pictures, which are rendered in batches, downscaled as for labels, and scored.

    ``on_batch`` is called with the size of each batch. ``cache`` takes codes and the function that renders and scores them,
    and may have some scores already (``evaluation.score_cache``).
    """

    generator: Generator
    scorer: Scorer
    batch: int = 8
    on_batch: Callable[[int], object] = lambda rendered: None
    cache: Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor] = lambda ws, render: render(ws)

    def __call__(self, ws: WPlus) -> Scores:
        """Return the scores of codes, (n, attributes)."""
        return self.cache(ws, self._render)

    @torch.no_grad()
    def _render(self, ws: WPlus) -> Scores:
        size = min(LABEL_SIDE, self.generator.resolution)
        scores = [ws.new_zeros(0, len(self.scorer.attributes))]
        for codes in ws.split(self.batch):
            scores.append(self.scorer(downscale(self.generator.synthesis(codes), size)).to(ws))
            self.on_batch(len(codes))
        return torch.cat(scores)


@dataclass(frozen=True)
class StrengthLadder:
    """The strengths that are tried: ``step``, 2 ``step``, … up to ``maximum``, in the units of ``Editor.edit``.

    ``climb``: try every rung from the first one on, as the paper does. Without it the rung is searched, which costs fewer
    pictures, but misses the first that passes where the score falls again beyond it (as for faces that are distorted).
    """

    step: float = 0.25
    maximum: float = 10.0
    climb: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.step <= self.maximum < float("inf"):
            raise GanvasError(
                f"A ladder of strengths needs 0 < step <= maximum, not step {self.step} and maximum {self.maximum}."
            )

    @property
    def rungs(self) -> int:
        """The number of strengths."""
        return int(self.maximum / self.step + 1e-9)


@dataclass(frozen=True)
class ReachResult:
    """The codes on the first rung past the target, or else on the last allowed rung."""

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


def reach_target(
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
    ``ws``, if computed already.

    Unless the ladder is climbed, a rung is found by interpolation, first from the editor's probe and then between scores, then
    by bisection: a few pictures a code instead of one a rung. Where the score rises with strength this is the rung that
    climbing finds. Where it doesn't, codes that arrive would arrive by climbing, too, but some that climbing brings there
    don't: success is never overestimated.
    """
    for names in (view.scorer.attributes, editor.attributes):
        if attribute not in names:
            raise unknown("attribute", attribute, names)
    score = _convert_target(view.scorer, attribute, target, ws)
    start = view(ws) if start is None else start
    search = _StrengthSearch(editor, view, ws, attribute, score, start, ladder)
    limit = search.find_limit(within)
    rung = search.guess_first().clamp(max=limit)
    while search.try_rungs(rung, limit):
        rung = search.guess_next(limit)
    return search.make_result(limit)


def _convert_target(scorer: Scorer, attribute: str, target: float | Tensor, ws: WPlus) -> Tensor:
    """Convert the target to scores, (n,)."""
    values = torch.as_tensor(target, dtype=ws.dtype, device=ws.device).expand(len(ws))
    if scorer.kinds[scorer.column(attribute)] == "probability":
        if not ((values > 0) & (values < 1)).all():
            raise GanvasError(f"The target of {attribute!r} must be a probability between 0 and 1, not {target}.")
        return torch.logit(values)
    if not torch.isfinite(values).all():
        raise GanvasError(f"The target of {attribute!r} must be a finite number, not {target}.")
    return values


class _StrengthSearch:
    """The state of a search for each code: rung ``low`` didn't pass (0 is the code itself), ``high`` did (0: none yet)."""

    def __init__(
        self,
        editor: Editor,
        view: ScoredView,
        ws: WPlus,
        attribute: str,
        target: Tensor,
        start: Scores,
        ladder: StrengthLadder,
    ) -> None:
        self.editor, self.view, self.ws, self.attribute, self.ladder = editor, view, ws, attribute, ladder
        self.column = view.scorer.column(attribute)
        self.knots = editor.gaussianize.select([editor.attributes.index(attribute)])
        self.target, self.target_normal = target, self._to_normal(target)
        self.sign = torch.where(target >= start[:, self.column], 1.0, -1.0).to(ws)
        self.low = torch.zeros(len(ws), dtype=torch.long, device=ws.device)
        self.high = self.low.clone()
        self.renders = self.low.clone()
        self.stalled = self.low.clone()
        self.start_normal = self.low_normal = self._to_normal(start[:, self.column])
        self.high_normal = self.low_normal.clone()
        self.low_scores, self.high_scores = start.clone(), start.clone()

    def _to_normal(self, scores: Tensor) -> Tensor:
        # Strengths are standard deviations of the normal score, which therefore grows evenly with them.
        return self.knots(scores[:, None])[:, 0]

    def edit(self, rung: Tensor, index: Tensor) -> WPlus:
        strength = rung * self.ladder.step * self.sign[index]
        return self.editor.edit(self.ws[index], {self.attribute: strength})

    def find_limit(self, within: Distribution | None) -> Tensor:
        """Find the last rung of each code before one that leaves the distribution; nothing is rendered."""
        limit = torch.full_like(self.low, self.ladder.rungs)
        if within is None:
            return limit
        remaining = torch.arange(len(self.ws), device=self.ws.device)
        for rung in range(1, self.ladder.rungs + 1):
            left = ~within.contains(self.edit(torch.full_like(remaining, rung), remaining))
            limit[remaining[left]] = rung - 1
            remaining = remaining[~left]
            if not len(remaining):
                break
        return limit

    def guess_first(self) -> Tensor:
        if self.ladder.climb:
            return torch.ones_like(self.low)
        reading = self.editor.read(self.ws)[:, self.editor.attributes.index(self.attribute)]
        return self._to_rung((self.target_normal - reading) * self.sign / self.ladder.step).clamp(min=1)

    def _to_rung(self, strength: Tensor) -> Tensor:
        # Clamped before the conversion: a flat score gives an infinite rung.
        return strength.nan_to_num(self.ladder.rungs).clamp(0, self.ladder.rungs).ceil().long()

    def guess_next(self, limit: Tensor) -> Tensor:
        """Guess a rung between ``low`` and ``high`` where one passed, else above ``low``."""
        if self.ladder.climb:
            return self.low + 1
        passed = self.high > 0
        rise = torch.where(passed, self.high_normal - self.low_normal, self.low_normal - self.start_normal) * self.sign
        run = torch.where(passed, self.high - self.low, self.low)
        needed = (self.target_normal - self.low_normal) * self.sign
        line = self.low + self._to_rung(torch.where(rise > 0, needed * run / rise, torch.inf))
        # Where nothing passed yet, a flattening score would lead to ever smaller steps: grow by at least half.
        grown = torch.where(passed, line, torch.maximum(line, self.low + self.low // 2))
        half = torch.where(passed, (self.low + self.high) // 2, limit)
        last = torch.where(passed, self.high - 1, limit)
        return torch.minimum(torch.where(self.stalled >= STALLED_RUNGS, half, grown).clamp(min=self.low + 1), last)

    def try_rungs(self, rung: Tensor, limit: Tensor) -> bool:
        """Render and score the unfinished codes at their ``rung``; return False where all are finished."""
        last = torch.where(self.high > 0, self.high - 1, limit)
        index = (self.low < last).nonzero()[:, 0]
        if not len(index):
            return False
        rung = rung[index]
        scores = self.view(self.edit(rung, index))
        self.renders[index] += 1
        width = self._count_open(limit)[index]
        passed = (scores[:, self.column] - self.target[index]) * self.sign[index] > 0
        normal = self._to_normal(scores[:, self.column])
        up, down = index[passed], index[~passed]
        self.high[up], self.high_normal[up], self.high_scores[up] = rung[passed], normal[passed], scores[passed]
        self.low[down], self.low_normal[down], self.low_scores[down] = rung[~passed], normal[~passed], scores[~passed]
        self.stalled[index] = (2 * self._count_open(limit)[index] > width).long() * (self.stalled[index] + 1)
        return True

    def _count_open(self, limit: Tensor) -> Tensor:
        """Count the rungs that may still be the first that passes."""
        return torch.where(self.high > 0, self.high, limit + 1) - self.low - 1

    def make_result(self, limit: Tensor) -> ReachResult:
        arrived = self.high > 0
        rung = torch.where(arrived, self.high, self.low)
        all_codes = torch.arange(len(self.ws), device=self.ws.device)
        return ReachResult(
            codes=self.edit(rung, all_codes),
            scores=torch.where(arrived[:, None], self.high_scores, self.low_scores),
            arrived=arrived,
            strengths=rung * self.ladder.step * self.sign,
            stopped=~arrived & (limit < self.ladder.rungs),
            renders=self.renders,
        )
