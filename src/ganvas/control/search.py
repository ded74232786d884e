"""Search the strength of an edit: it grows until the picture's score passes a target; no strength is rendered twice."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.data.distribution import Distribution
from ganvas.data.gaussianize import Gaussianize
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.scorers.base import Scorer
from ganvas.types import Scores, WPlus

MAX_SLOW_GUESSES = 3
"""Guesses in a row that exclude less than half of the rungs before the search bisects."""


@dataclass(frozen=True)
class CodeScorer:
    """A function from codes to the scores of their pictures, which are rendered in batches and downscaled as for labels.

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
    code_scorer: CodeScorer,
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

    Unless the ladder is climbed, a rung is found by interpolation, first from scorer and probe and then between scores, then
    by bisection: a few pictures a code instead of one a rung. Where the score rises with strength this is the rung that
    climbing finds. Where it doesn't, codes that arrive would arrive by climbing, too, but some that climbing brings there
    don't: success is never overestimated.
    """
    for names in (code_scorer.scorer.attributes, editor.attributes):
        if attribute not in names:
            raise unknown("attribute", attribute, names)
    score = _convert_target(code_scorer.scorer, attribute, target, ws)
    start = code_scorer(ws) if start is None else start
    sign = torch.where(score >= start[:, code_scorer.scorer.column(attribute)].to(score), 1.0, -1.0)
    gaussianize = editor.gaussianize.select([editor.attributes.index(attribute)])
    search = StrengthSearch(code_scorer, editor, attribute, sign, ws, start, gaussianize, ladder)
    goal = search.to_target(score)
    result = search.find_first(goal, search.predict_strength(goal), within)
    return ReachResult(
        codes=search.edit(torch.arange(len(ws)), result.rung),
        scores=search.get_rows(result.rung).to(ws),
        arrived=result.arrived.to(ws.device),
        strengths=search.to_strength(result.rung).to(ws),
        stopped=result.stopped.to(ws.device),
        renders=search.renders.to(ws.device),
    )


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


@dataclass(frozen=True)
class SearchResult:
    """Where each code stopped: its rung, whether the target was reached there, and whether the distribution ended it.

    ``given_up``: the search found nothing, with rungs left; ``recovered``: of these, those for which climbing them all did.
    """

    rung: Tensor
    arrived: Tensor
    stopped: Tensor
    given_up: Tensor
    recovered: Tensor


class StrengthSearch:
    """A search along the strengths of one attribute for ``n`` codes, with all that was rendered.

    Strength number k, ``step`` times k, is rung k; rung 0 is the code itself. ``rows`` (n, rungs + 1, columns): scores, nan where
    nothing was rendered. ``values`` (n, rungs + 1): the target's normal score times ``sign`` (n,), so that it rises towards the
    goal; strengths are standard deviations of it, so that it grows evenly with them. ``gaussianize`` has the target's
    column only.
    """

    def __init__(
        self,
        code_scorer: CodeScorer,
        editor: Editor,
        attribute: str,
        sign: Tensor,
        ws: WPlus,
        rows: Scores,
        gaussianize: Gaussianize,
        ladder: StrengthLadder,
    ) -> None:
        self.code_scorer, self.editor, self.attribute, self.ws, self.ladder = code_scorer, editor, attribute, ws, ladder
        self.column, self.gaussianize, self.sign = code_scorer.scorer.column(attribute), gaussianize, sign.cpu()
        size = (len(ws), ladder.rungs + 1)
        self.rows = torch.full((*size, rows.shape[1]), torch.nan)
        self.values = torch.full(size, torch.nan, dtype=torch.float64)
        self.renders = torch.zeros(len(ws), dtype=torch.long)
        self._store(torch.arange(len(ws)), torch.zeros(len(ws), dtype=torch.long), rows)

    def take_first(self, n: int) -> StrengthSearch:
        """Return a search of the first ``n`` codes that shares its memory with this one."""
        if n >= len(self.ws):
            return self
        subset = copy(self)
        subset.ws, subset.sign = self.ws[:n], self.sign[:n]
        subset.rows, subset.values, subset.renders = self.rows[:n], self.values[:n], self.renders[:n]
        return subset

    def to_strength(self, rung: Tensor) -> Tensor:
        """Convert each code's rung to a signed change, (n,)."""
        return rung * self.ladder.step * self.sign

    def edit(self, index: Tensor, rung: Tensor) -> WPlus:
        """Edit some codes to some rungs."""
        ws = self.ws[index.to(self.ws.device)]
        strengths = rung * self.ladder.step * self.sign[index]
        return self.editor.edit_quietly(ws, {self.attribute: strengths.to(ws)})

    def get_rows(self, rung: Tensor) -> Scores:
        """Return the scores of each code at its rung, (n, columns)."""
        return self.rows[torch.arange(len(rung)), rung]

    def to_target(self, scores: Tensor) -> Tensor:
        """Convert scores, (n,), to targets on the scale of ``values``."""
        device = self.gaussianize.scores.device
        return self.gaussianize(scores.double().to(device)[:, None])[:, 0].cpu() * self.sign

    def predict_strength(self, target: Tensor) -> Tensor:
        """Predict the strength to a target, from the mean of scorer and probe: their errors are in part independent."""
        k = self.editor.attributes.index(self.attribute)
        reading = self.editor.read(self.ws)[:, k].cpu().double() * self.sign
        return target - (reading + self.values[:, 0]) / 2

    def find_first(
        self,
        target: Tensor,
        predicted: Tensor,
        within: Distribution | None = None,
        *,
        stride: int = 1,
        patience: int = 0,
        exhaustive: bool = False,
    ) -> SearchResult:
        """Find the first rung whose score passes a target, as climbing from below does where scores rise with strength.

        Rungs are rendered from where the target is predicted, upwards until one passes; then between it and the last that
        didn't, until these are neighbours.

        Args:
            target: (n,) on the scale of ``values``.
            predicted: (n,) strengths at which to begin.
            within: No rung is tried from the first on at which the code leaves this distribution.
            stride: Only every so manieth rung is tried.
            patience: With it two strides are leapt over at most, and a search is given up after so many that brought the score
                no further: a degraded picture doesn't reach the target. 0: leaps are as long as the scores suggest, and none is
                given up.
            exhaustive: Climb all other rungs for codes that were given up: a score may fall and rise again.

        Returns:
            Where each code stopped; of those that didn't arrive, where the score was best.
        """
        last = self._find_last_stride(within, stride)
        low, high, slow_guesses, flat_strides = (torch.zeros_like(last) for _ in range(4))
        guess = (predicted / self.ladder.step / stride).nan_to_num(nan=1e6)
        at = _to_places(guess.round() if patience else guess.ceil()).clamp(min=1)
        at = torch.minimum(torch.ones_like(last) if self.ladder.climb else at, last)
        best, open_ = self.values[:, 0].clone(), last > 0
        while open_.any():
            width = _count_open(low, high, last)
            self._render(open_.nonzero()[:, 0], at[open_] * stride)
            value = self._values_at(at * stride)
            passed, failed = open_ & (value > target), open_ & ~(value > target)
            high, low = torch.where(passed, at, high), torch.where(failed, at, low)
            flat_strides = torch.where(failed & (value <= best), flat_strides + 1, torch.where(failed, 0, flat_strides))
            best = torch.where(failed, torch.maximum(best, value), best)
            slow_guesses = (2 * _count_open(low, high, last) > width).long() * (slow_guesses + 1)
            going = (high == 0) & (low < last) & ((flat_strides < patience) | (patience == 0))
            open_ = open_ & torch.where(high > 0, high - low > 1, going)
            at = self._guess_next(target, low, high, last, slow_guesses, stride, cautious=patience > 0)
        tried = self._mask_strides(last, stride)
        given_up = (high == 0) & tried[:, 1:].logical_and(self.values[:, 1:].isnan()).any(1)
        high = self._climb_remaining(target, given_up, high, last, stride) if exhaustive else high
        arrived = high > 0
        highest = self.values.where(tried, -torch.inf).nan_to_num(nan=-torch.inf).argmax(1)
        stopped = ~arrived & (last < self.ladder.rungs // stride) & (low >= last)
        rung = torch.where(arrived, high * stride, highest if patience else low * stride)
        return SearchResult(rung, arrived, stopped, given_up, given_up & arrived)

    def _guess_next(
        self, target: Tensor, low: Tensor, high: Tensor, last: Tensor, slow_guesses: Tensor, stride: int, cautious: bool
    ) -> Tensor:
        """Guess the next stride: between the last that failed and the first that passed, or beyond where none did."""
        if self.ladder.climb:
            return low + 1
        passed = high > 0
        begin, end = torch.where(passed, low, 0), torch.where(passed, high, low)
        at_begin, rise = (
            self._values_at(begin * stride),
            self._values_at(end * stride) - self._values_at(begin * stride),
        )
        share = ((target - at_begin) / rise).nan_to_num(nan=0.5, posinf=1e6, neginf=1e6)
        share = share.clamp(0, 1e6) if cautious else torch.where(rise > 0, share, 1e6)
        line = begin + share * (end - begin)
        place = _to_places(line.round() if cautious else line.ceil())
        if cautious:
            beyond = torch.minimum(torch.maximum(place, low + 1), low + 2)
        else:
            # Where nothing passed yet, a flattening score would lead to ever smaller steps: grow by at least half.
            beyond = torch.where(slow_guesses >= MAX_SLOW_GUESSES, last, torch.maximum(place, low + low // 2)).clamp(
                min=low + 1
            )
            place = torch.where(slow_guesses >= MAX_SLOW_GUESSES, (low + high) // 2, place)
        between = torch.maximum(torch.minimum(place, high - 1), low + 1)
        return torch.where(passed, between, torch.minimum(beyond, last))

    def _climb_remaining(self, target: Tensor, given_up: Tensor, high: Tensor, last: Tensor, stride: int) -> Tensor:
        """Climb all strides of codes that were given up, from the lowest on; return ``high`` with the first that passes."""
        for place in range(1, int(last.max()) + 1 if len(last) else 0):
            index = (given_up & (high == 0) & (place <= last)).nonzero()[:, 0]
            rung = torch.full_like(index, place * stride)
            self._render(index, rung)
            high = high.index_fill(0, index[self.values[index, rung] > target[index]], place)
        return high

    def measure_strength(self, target: Tensor) -> Tensor:
        """Interpolate the strength at which each code reached its target, between rendered rungs; nan where it didn't."""
        low, high = find_crossing(self.values, target)
        at_low, at_high = self._values_at(low), self._values_at(high)
        place = low + (target - at_low) / (at_high - at_low) * (high - low)
        return torch.where(high > 0, place * self.ladder.step, torch.nan)

    def find_nearest(self, target: Tensor, predicted: Tensor, tolerance: float, max_pictures: int) -> SearchResult:
        """Find a rung within ``tolerance`` of a target, in at most ``max_pictures``.

        By interpolating between the rendered rungs around the target, or beyond them, and every third time by halving.
        """
        for attempt in range(max_pictures):
            rung, near = self._select_nearest(target, tolerance)
            guess = self._guess_nearest(target, predicted, tolerance, halve=attempt % 3 == 2)
            index = (~near & (guess > 0)).nonzero()[:, 0]
            if not len(index):
                break
            self._render(index, guess[index])
        rung, near = self._select_nearest(target, tolerance)
        return SearchResult(rung, near, *[torch.zeros_like(near)] * 3)

    def _select_nearest(self, target: Tensor, tolerance: float) -> tuple[Tensor, Tensor]:
        """Return each code's rendered rung nearest to the target, and whether it is within tolerance."""
        distance = (self.values - target[:, None]).abs().nan_to_num(nan=torch.inf)
        smallest, rung = distance.min(1)
        return rung, smallest <= tolerance

    def _guess_nearest(self, target: Tensor, predicted: Tensor, tolerance: float, halve: bool) -> Tensor:
        """Guess the rung to render next, 0 where there is none left."""
        low, high = find_crossing(self.values, target)
        passed, rungs = high > 0, self.ladder.rungs
        at_low, at_high = self._values_at(low), self._values_at(high)
        share = (target - at_low) / (at_high - at_low)
        between = torch.where(torch.tensor(halve), (low + high) // 2, low + (share * (high - low)).round().long())
        between = torch.maximum(torch.minimum(between, high - 1), low + 1)
        rise = (at_low - self.values[:, 0]) / low.clamp(min=1)
        needed = torch.where(low > 0, (target - at_low) / rise, predicted / self.ladder.step)
        needed = torch.where((low > 0) & ~(rise > 0), torch.inf, needed)
        # No further than twice as far in one step: where a score flattens, the line points far beyond.
        reach = torch.minimum(needed.nan_to_num(nan=1.0, posinf=1e6).clamp(1, 1e6), low.clamp(min=rungs // 3).double())
        beyond = torch.where(low < rungs, (low + reach.ceil().long()).clamp(max=rungs), 0)
        # Where a lower rung had a better score than the last one, further rungs lead away from the target.
        falling = at_low < self.values.nan_to_num(nan=-torch.inf).amax(1) - 2 * tolerance
        beyond = torch.where(falling, 0, beyond)
        return torch.where(passed, torch.where(high - low > 1, between, 0), beyond)

    def _values_at(self, rung: Tensor) -> Tensor:
        return self.values[torch.arange(len(rung)), rung]

    def _mask_strides(self, last: Tensor, stride: int) -> Tensor:
        """Return True for rungs that a search of strides tries, (n, rungs + 1)."""
        place = torch.arange(self.values.shape[1])
        return (place % stride == 0) & (place <= last[:, None] * stride)

    def _find_last_stride(self, within: Distribution | None, stride: int) -> Tensor:
        """Find the last stride of each code before one that leaves the distribution; nothing is rendered."""
        strides = self.ladder.rungs // stride
        limit, inside = torch.full((len(self.ws),), strides), torch.arange(len(self.ws))
        if within is None:
            return limit
        for place in range(1, strides + 1):
            left = ~within.contains(self.edit(inside, torch.full_like(inside, place * stride))).cpu()
            limit[inside[left]] = place - 1
            inside = inside[~left]
            if not len(inside):
                break
        return limit

    def _render(self, index: Tensor, rung: Tensor) -> None:
        """Render some codes at some rungs, unless they were rendered there."""
        unseen = self.values[index, rung].isnan()
        index, rung = index[unseen], rung[unseen]
        if len(index):
            self.renders[index] += 1
            self._store(index, rung, self.code_scorer(self.edit(index, rung)))

    def _store(self, index: Tensor, rung: Tensor, rows: Scores) -> None:
        """Store the scores of some codes at some rungs."""
        rows = rows.float().cpu()
        self.rows[index, rung] = rows
        device = self.gaussianize.scores.device
        normal = self.gaussianize(rows[:, self.column].double().to(device)[:, None])[:, 0].cpu() * self.sign[index]
        # A score that isn't finite passes nothing and improves nothing; it must not count as unseen.
        self.values[index, rung] = normal.nan_to_num(nan=-1e6, posinf=1e6, neginf=-1e6)


def find_crossing(values: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return the columns on both sides of where rows of ``values``, (n, columns), first reach ``target``, (n,).

    Columns of nan are passed over; the second is 0 where none reaches it.
    """
    rendered, place = ~values.isnan(), torch.arange(values.shape[1])
    passed = rendered & (values >= target[:, None]) & (place > 0)
    high = torch.where(passed.any(1), passed.long().argmax(1), 0)
    before = rendered & ((place < high[:, None]) | (high == 0)[:, None])
    return (before * place).amax(1), high


def _to_places(numbers: Tensor) -> Tensor:
    """Convert to integers; a flat score gives an infinite place."""
    return numbers.clamp(-1e6, 1e6).long()


def _count_open(low: Tensor, high: Tensor, last: Tensor) -> Tensor:
    """Count the places that may still be the first that passes."""
    return torch.where(high > 0, high, last + 1) - low - 1
