"""Search for the strengths that bring faces to several targets; every strength is rendered once.

``control.search.reach_target`` has one target; an evaluation has several targets for the same faces (p > 0.9, +1 σ,
+2 σ), and each picture helps with all of them. So the search is the same, by guesses and bisection, with a memory.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.control.search import ScoredView
from ganvas.data.distribution import Distribution
from ganvas.data.gaussianize import Gaussianize
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.evaluation.faces import EditGoal
from ganvas.types import Scores, WPlus


@dataclass(frozen=True)
class StrengthGrid:
    """Strengths to try: ``step``, 2 ``step``, … ``maximum``, in the units of ``Editor.edit``; number k is rung k.

    ``stride``: the paper's protocol climbs so many rungs at a time. ``patience``: it gives up after so many strides that
    brought the score no further: a face that comes apart has no smile. ``tolerance``: how near to an equal change of the
    target is near enough, in standard deviations, within ``tries`` pictures.
    """

    step: float = 0.05
    maximum: float = 6.0
    stride: int = 10
    patience: int = 2
    tolerance: float = 0.15
    tries: int = 6

    def __post_init__(self) -> None:
        if not 0 < self.step * self.stride <= self.maximum < float("inf") or self.stride < 1:
            raise GanvasError(
                f"A grid of strengths needs 0 < step · stride <= maximum, not step {self.step}, stride {self.stride} and maximum"
                f" {self.maximum}."
            )
        if self.patience < 1 or self.tries < 1 or not self.tolerance > 0:
            raise GanvasError(
                f"patience, tries and tolerance must be above 0, not {self.patience}, {self.tries} and {self.tolerance}."
            )

    @property
    def rungs(self) -> int:
        """The number of strengths."""
        return int(self.maximum / self.step + 1e-9)


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


@dataclass(frozen=True)
class SearchResult:
    """Where each face stopped: its rung, whether the target was reached there, and whether the distribution ended it.

    ``given_up``: the search found nothing, with strides left; ``recovered``: of these, those for which the other strides did.
    """

    rung: Tensor
    arrived: Tensor
    stopped: Tensor
    given_up: Tensor
    recovered: Tensor


class StrengthSearch:
    """A search along the strengths of one attribute for ``n`` faces, with all that was rendered.

    ``rows`` (n, rungs + 1, columns): scores, nan where nothing was rendered. ``values`` (n, rungs + 1): the target's normal
    score, with the sign that makes it rise towards the goal. ``gaussianize`` has the target's column only; ``column`` is its
    place among the columns of ``view``.
    """

    def __init__(
        self,
        view: ScoredView,
        editor: Editor,
        goal: EditGoal,
        ws: WPlus,
        rows: Scores,
        gaussianize: Gaussianize,
        grid: StrengthGrid,
    ) -> None:
        self.view, self.editor, self.goal, self.ws, self.grid = view, editor, goal, ws, grid
        self.column, self.gaussianize = view.scorer.column(goal.attribute), gaussianize
        self.sign = 1.0 if goal.up else -1.0
        size = (len(ws), grid.rungs + 1)
        self.rows = torch.full((*size, rows.shape[1]), torch.nan)
        self.values = torch.full(size, torch.nan, dtype=torch.float64)
        self.renders = torch.zeros(len(ws), dtype=torch.long)
        self._store(torch.arange(len(ws)), torch.zeros(len(ws), dtype=torch.long), rows)

    def take_first(self, n: int) -> StrengthSearch:
        """Return a search of the first ``n`` faces that shares its memory with this one."""
        if n >= len(self.ws):
            return self
        subset = StrengthSearch(
            self.view, self.editor, self.goal, self.ws[:n], self.rows[:n, 0], self.gaussianize, self.grid
        )
        subset.rows, subset.values, subset.renders = self.rows[:n], self.values[:n], self.renders[:n]
        return subset

    def to_strength(self, rung: Tensor) -> Tensor:
        """Convert rungs to signed changes."""
        return rung * (self.grid.step * self.sign)

    def edit(self, index: Tensor, rung: Tensor) -> WPlus:
        """Edit some faces to some rungs; rung 0 is the code itself."""
        ws = self.ws[index]
        return self.editor.edit(ws, {self.goal.attribute: self.to_strength(rung).to(ws)})

    def get_rows(self, rung: Tensor) -> Scores:
        """Return the scores of each face at its rung, (n, columns)."""
        return self.rows[torch.arange(len(rung)), rung]

    def climb(
        self,
        score: float,
        typical_set: Distribution | None,
        line: ResponseLine = ResponseLine(),
        exhaustive: bool = True,
    ) -> SearchResult:
        """Find the first stride whose score passes, as the paper's climb from below does where scores rise with strength.

        Strides are rendered from where the probe expects the target, upwards (by two where the score is far off) until
        one passes; then between it and the last that didn't, until these are neighbours. Where none does, ``exhaustive`` climbs
        all other strides, too: a score may fall and rise again.
        """
        target, stride = self.to_target(score), self.grid.stride
        last = self._find_last_stride(typical_set)
        guess = (line(self.predict_strength(target)) / self.grid.step / stride).round().clamp(-1e6, 1e6).long()
        low, high, at = torch.zeros_like(last), torch.zeros_like(last), torch.minimum(guess.clamp(min=1), last)
        best, stale = self.values[:, 0].clone(), torch.zeros_like(at)
        open_ = last > 0
        while open_.any():
            self._render(open_.nonzero()[:, 0], at[open_] * stride)
            value = self._values_at(at * stride)
            passed, failed = open_ & (value > target), open_ & ~(value > target)
            high, low = torch.where(passed, at, high), torch.where(failed, at, low)
            stale = torch.where(failed & (value <= best), stale + 1, torch.where(failed, 0, stale))
            best = torch.where(failed, torch.maximum(best, value), best)
            on = (high == 0) & (low < last) & (stale < self.grid.patience)
            open_ = open_ & torch.where(high > 0, high - low > 1, on)
            at = self._next_stride(target, low, high, last)
        given_up = (high == 0) & self._mask_strides(last)[:, 1:].logical_and(self.values[:, 1:].isnan()).any(1)
        high = self._climb_remaining(target, given_up, high, last) if exhaustive else high
        arrived = high > 0
        highest = self.values.where(self._mask_strides(last), -torch.inf).nan_to_num(nan=-torch.inf).argmax(1)
        stopped = ~arrived & (last < self.grid.rungs // stride) & (low >= last)
        return SearchResult(
            torch.where(arrived, high * stride, highest), arrived, stopped, given_up, given_up & arrived
        )

    def _climb_remaining(self, target: Tensor, given_up: Tensor, high: Tensor, last: Tensor) -> Tensor:
        """Climb all strides of faces that were given up, from the lowest on, and return ``high`` with the first that passes."""
        for place in range(1, int(last.max()) + 1 if len(last) else 0):
            index = (given_up & (high == 0) & (place <= last)).nonzero()[:, 0]
            rung = torch.full_like(index, place * self.grid.stride)
            self._render(index, rung)
            high = high.index_fill(0, index[self.values[index, rung] > target[index]], place)
        return high

    def _next_stride(self, target: Tensor, low: Tensor, high: Tensor, last: Tensor) -> Tensor:
        """Interpolate the next stride between the last that failed and the first that passed, or extrapolate beyond."""
        stride = self.grid.stride
        end = torch.where(high > 0, high, low)
        begin = torch.where(high > 0, low, 0)
        at_begin, at_end = self._values_at(begin * stride), self._values_at(end * stride)
        share = ((target - at_begin) / (at_end - at_begin)).nan_to_num(nan=0.5, posinf=1e6, neginf=1e6)
        place = (begin + share.clamp(0, 1e6) * (end - begin)).round().long()
        between = torch.maximum(torch.minimum(place, high - 1), low + 1)
        beyond = torch.minimum(torch.minimum(torch.maximum(place, low + 1), low + 2), last)
        return torch.where(high > 0, between, beyond)

    def measure_strength(self, target: Tensor) -> Tensor:
        """Interpolate the strength at which each face reached its target, between rendered rungs; nan where it didn't."""
        low, high = self.bracket(target)
        at_low, at_high = self._values_at(low), self._values_at(high)
        place = low + (target - at_low) / (at_high - at_low) * (high - low)
        return torch.where(high > 0, place * self.grid.step, torch.nan)

    def match_change(self, change: float, line: ResponseLine = ResponseLine()) -> SearchResult:
        """Find the rung, within tolerance, at which the target's normal score has risen by ``change``.

        By interpolating between the rendered rungs around the target, or beyond them, and every third time by halving.
        """
        target = self.values[:, 0] + change
        for attempt in range(self.grid.tries):
            rung, near = self._find_nearest(target)
            guess = self._guess_rung(target, line, halve=attempt % 3 == 2)
            index = (~near & (guess > 0)).nonzero()[:, 0]
            if not len(index):
                break
            self._render(index, guess[index])
        rung, near = self._find_nearest(target)
        return SearchResult(rung, near, *[torch.zeros_like(near)] * 3)

    def _find_nearest(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return each face's rendered rung nearest to the target, and whether it is within tolerance."""
        distance = (self.values - target[:, None]).abs().nan_to_num(nan=torch.inf)
        smallest, rung = distance.min(1)
        return rung, smallest <= self.grid.tolerance

    def _guess_rung(self, target: Tensor, line: ResponseLine, halve: bool) -> Tensor:
        """Guess the rung to render next, 0 where there is none left."""
        low, high = self.bracket(target)
        passed, rungs = high > 0, self.grid.rungs
        at_low, at_high = self._values_at(low), self._values_at(high)
        share = (target - at_low) / (at_high - at_low)
        between = torch.where(torch.tensor(halve), (low + high) // 2, low + (share * (high - low)).round().long())
        between = torch.maximum(torch.minimum(between, high - 1), low + 1)
        rise = (at_low - self.values[:, 0]) / low.clamp(min=1)
        needed = torch.where(low > 0, (target - at_low) / rise, line(self.predict_strength(target)) / self.grid.step)
        needed = torch.where((low > 0) & ~(rise > 0), torch.inf, needed)
        # No further than twice as far in one step: where a score flattens, the line points far beyond.
        reach = torch.minimum(needed.nan_to_num(nan=1.0, posinf=1e6).clamp(1, 1e6), low.clamp(min=rungs // 3).double())
        beyond = torch.where(low < rungs, (low + reach.ceil().long()).clamp(max=rungs), 0)
        # Where a lower rung had a better score than the last one, further rungs lead away from the target.
        falling = at_low < self.values.nan_to_num(nan=-torch.inf).amax(1) - 2 * self.grid.tolerance
        beyond = torch.where(falling, 0, beyond)
        return torch.where(passed, torch.where(high - low > 1, between, 0), beyond)

    def bracket(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Return the rendered rungs on both sides of the first crossing of ``target``; ``high`` is 0 where none passed."""
        seen, place = ~self.values.isnan(), torch.arange(self.values.shape[1])
        passed = seen & (self.values >= target[:, None]) & (place > 0)
        high = torch.where(passed.any(1), passed.long().argmax(1), 0)
        before = seen & ((place < high[:, None]) | (high == 0)[:, None])
        return (before * place).amax(1), high

    def _values_at(self, rung: Tensor) -> Tensor:
        return self.values[torch.arange(len(rung)), rung]

    def to_target(self, score: float) -> Tensor:
        """Convert a score to each face's target on the scale of ``values``, (n,)."""
        return self._to_rising(torch.tensor([score])).expand(len(self.ws))

    def predict_strength(self, target: Tensor) -> Tensor:
        """Predict the strength to a target, from the mean of scorer and probe: their errors are in part independent."""
        k = self.editor.attributes.index(self.goal.attribute)
        reading = self.editor.read(self.ws)[:, k].cpu().double() * self.sign
        return target - (reading + self.values[:, 0]) / 2

    def _to_rising(self, scores: Tensor) -> Tensor:
        """Convert scores to normal scores that rise towards the goal."""
        return self.gaussianize(scores.double()[:, None])[:, 0] * self.sign

    def _mask_strides(self, last: Tensor) -> Tensor:
        """Return True for rungs that belong to the climb, (n, rungs + 1)."""
        place = torch.arange(self.values.shape[1])
        return (place % self.grid.stride == 0) & (place <= last[:, None] * self.grid.stride)

    def _find_last_stride(self, typical_set: Distribution | None) -> Tensor:
        """Return the last stride of each face before one that leaves the distribution; nothing is rendered."""
        strides = self.grid.rungs // self.grid.stride
        limit = torch.full((len(self.ws),), strides)
        inside = torch.arange(len(self.ws))
        if typical_set is None:
            return limit
        for stride in range(1, strides + 1):
            rung = torch.full_like(inside, stride * self.grid.stride)
            left = ~typical_set.contains(self.edit(inside, rung)).cpu()
            limit[inside[left]] = stride - 1
            inside = inside[~left]
            if not len(inside):
                break
        return limit

    def _render(self, index: Tensor, rung: Tensor) -> None:
        """Render some faces at some rungs, unless they were rendered there."""
        unseen = self.values[index, rung].isnan()
        index, rung = index[unseen], rung[unseen]
        if len(index):
            self.renders[index] += 1
            self._store(index, rung, self.view(self.edit(index, rung)))

    def _store(self, index: Tensor, rung: Tensor, rows: Scores) -> None:
        """Store the scores of some faces at some rungs."""
        rows = rows.float().cpu()
        self.rows[index, rung] = rows
        # A score that isn't finite passes nothing and improves nothing; it must not count as unseen.
        self.values[index, rung] = self._to_rising(rows[:, self.column]).nan_to_num(nan=-1e6, posinf=1e6, neginf=-1e6)
