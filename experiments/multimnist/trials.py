"""Trials of moves: fresh codes are moved, rendered again, and counted by the scorer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.multimnist.context import CountContext
from ganvas.control.search import CodeScorer
from ganvas.data.distribution import Distribution, fit_distribution
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.evaluation.pages import format_estimate
from ganvas.generators.base import Generator, sample
from ganvas.seeds import DISTRIBUTION_SEED
from ganvas.stats import Estimate, bootstrap_mean, estimate_proportion
from ganvas.types import Scores, WPlus

MIN_COUNT, MAX_COUNT = 1, 4
"""The counts that moves stay within."""
SURE_PROBABILITY = 0.9
"""The counter is sure from this probability of being right on."""
MAX_SCREENED_PER_CODE = 8
"""The largest ratio of screened codes to codes that are asked for."""
BATCH_SIZE = 64
"""Pictures rendered at a time."""
Move = Callable[[WPlus, Tensor], WPlus]
"""Codes (n, num_ws, w_dim) and the change of each one's count (n,), to codes."""


@dataclass(frozen=True)
class TrialCodes:
    """Fresh codes whose count the counter is sure of. ``screened``: the scores of all codes that were looked through."""

    ws: WPlus
    scores: Scores
    screened: Float[Tensor, "screened attributes"]


@dataclass(frozen=True)
class MoveTrial:
    """Codes whose ``attribute`` was to change by ``alpha`` (n,), with scores before and after."""

    attribute: str
    attributes: tuple[str, ...]
    alpha: Tensor
    ws: WPlus
    moved: WPlus
    before: Scores
    after: Scores

    def column(self, when: Scores, attribute: str = "") -> Tensor:
        """Return one column of scores, (n,)."""
        return when[:, self.attributes.index(attribute or self.attribute)]

    @property
    def start(self) -> Tensor:
        """The count before, (n,)."""
        return self.column(self.before)

    @property
    def right(self) -> Tensor:
        """1 where the count is as asked for, else 0; (n,)."""
        return (self.column(self.after) == self.start + self.alpha).float()

    @property
    def changed(self) -> Tensor:
        """The change of the count, (n,)."""
        return self.column(self.after) - self.start

    def measure_preservation(self, classes: Sequence[str]) -> Tensor:
        """Return the share of the objects that could stay that did, by their classes, (n,); nan where none could.

        All of them can where objects were added, all but those to remove elsewhere; of a class, all of the others.
        """
        names = [name for name in classes if name != self.attribute]
        if not names:
            return torch.full_like(self.start, torch.nan)
        before, after = (
            torch.stack([self.column(when, name) for name in names], 1) for when in (self.before, self.after)
        )
        there = before.sum(1)
        can = there if self.attribute in classes else there + self.alpha.clamp(max=0)
        stayed = torch.minimum(before, after).sum(1)
        return torch.where(can > 0, (stayed / can).clamp(max=1), torch.nan)

    def select(self, index: Tensor) -> MoveTrial:
        """Return the codes of a boolean mask."""
        rest = (value[index] for value in (self.alpha, self.ws, self.moved, self.before, self.after))
        return MoveTrial(self.attribute, self.attributes, *rest)


def score_codes(context: CountContext, ws: WPlus) -> Scores:
    """Return the counter's scores of codes' pictures."""
    return CodeScorer(context.generator, context.counter, BATCH_SIZE)(ws).cpu()


def find_sure(context: CountContext, scores: Scores) -> Tensor:
    """Return which counts the counter is sure of, (n,) bool; all, of a counter that doesn't say."""
    if "sure" not in context.counter.attributes:
        return torch.ones(len(scores), dtype=torch.bool)
    return torch.sigmoid(scores[:, context.counter.column("sure")]) >= SURE_PROBABILITY


def sample_sure_codes(context: CountContext, n: int) -> TrialCodes:
    """Return the first ``n`` codes from the context's seed on with a sure count from ``MIN_COUNT`` to ``MAX_COUNT``.

    Fewer where ``MAX_SCREENED_PER_CODE`` times as many don't have them. Raises GanvasError where there is none at all.
    """
    codes, sure, screened = [], [], []
    seed, have = context.seed, 0
    while have < n and seed - context.seed < MAX_SCREENED_PER_CODE * n:
        ws = sample(context.generator, 2 * BATCH_SIZE, 1.0, seed)
        scores = score_codes(context, ws)
        counts = scores[:, context.counter.column("count")]
        index = find_sure(context, scores) & (counts >= MIN_COUNT) & (counts <= MAX_COUNT)
        codes.append(ws[index])
        sure.append(scores[index])
        screened.append(scores)
        seed, have = seed + len(ws), have + int(index.sum())
    if not have:
        raise GanvasError(f"The counter is sure of no count among {seed - context.seed} codes: nothing can be moved.")
    return TrialCodes(torch.cat(codes)[:n], torch.cat(sure)[:n], torch.cat(screened))


def run_move(context: CountContext, cases: TrialCodes, move: Move, alpha: int, attribute: str = "count") -> MoveTrial:
    """Move all codes that can get ``alpha`` more, and score what comes out.

    A count can stay within its range; a class can have one more where the count can, and one less where there is one.
    """
    counts = cases.scores[:, context.counter.column("count")]
    able = (counts + alpha >= MIN_COUNT) & (counts + alpha <= MAX_COUNT)
    able &= cases.scores[:, context.counter.column(attribute)] + alpha >= 0
    ws, before = cases.ws[able], cases.scores[able]
    changes = torch.full((len(ws),), alpha)
    with torch.no_grad():
        moved = move(ws, changes) if len(ws) else ws
    return MoveTrial(attribute, context.counter.attributes, changes, ws, moved, before, score_codes(context, moved))


def join_trials(trials: Sequence[MoveTrial]) -> MoveTrial:
    """Return several trials as one."""
    names = ("alpha", "ws", "moved", "before", "after")
    return MoveTrial(
        trials[0].attribute, trials[0].attributes, *(torch.cat([getattr(t, name) for t in trials]) for name in names)
    )


def make_editor_move(editor: Editor, attribute: str = "count") -> Move:
    """Return the moves of an editor."""
    return lambda ws, alpha: editor.edit(ws, {attribute: alpha.to(ws)})


def make_random_move(context: CountContext, like: Move, seed: int = 0) -> Move:
    """Return a baseline: moves as long as another's, each along the difference of two sampled codes."""

    def move(ws: WPlus, alpha: Tensor) -> WPlus:
        length = (like(ws, alpha) - ws).square().sum((1, 2), keepdim=True).sqrt()
        random = torch.Generator().manual_seed(context.seed + seed)
        pairs = torch.randint(len(context.labels), (2, len(ws)), generator=random)
        one, other = (context.labels.ws(rows, context.generator.num_ws).to(ws) for rows in pairs)
        way = one - other
        return ws + way * length / way.square().sum((1, 2), keepdim=True).sqrt().clamp(min=1e-6)

    return move


def estimate_rate(values: Float[Tensor, " n"], ws: WPlus | None = None) -> Estimate:
    """Return a mean with its interval: Wilson's for 0 and 1; ``ws`` are the codes of the values, where one may have several."""
    codes = None if ws is None else ws.flatten(1).unique(dim=0, return_inverse=True)[1]
    is_share = bool(((values == 0) | (values == 1) | values.isnan()).all())
    return (estimate_proportion if is_share else bootstrap_mean)(values.float(), codes)


def summarise_trials(
    context: CountContext, name: str, more: Sequence[MoveTrial], less: Sequence[MoveTrial]
) -> dict[str, Any]:
    """Return estimates over trials that asked for more objects, and as many that asked for less."""

    def estimate(trials: Sequence[MoveTrial], measure: Callable[[MoveTrial], Tensor]) -> Estimate:
        # What was asked for more and for less is the same codes.
        return estimate_rate(torch.cat([measure(trial) for trial in trials]), torch.cat([trial.ws for trial in trials]))

    both = [*more, *less]
    return {
        "name": name,
        "both": estimate(both, lambda t: t.right),
        "more": estimate(more, lambda t: t.right),
        "less": estimate(less, lambda t: t.right),
        "kept": estimate(both, lambda t: t.measure_preservation(context.classes)),
        "sure": estimate(both, lambda t: find_sure(context, t.after).float()),
        "beyond": estimate(both, lambda t: find_left_w(context, t)),
        "length": estimate(both, lambda t: (t.moved - t.ws).square().sum(2).mean(1).sqrt()),
    }


def format_rate(value: Estimate | None, digits: int = 3) -> str:
    """Format an estimate as a table's cell; "-" where there is none."""
    return "-" if value is None or value.n == 0 else format_estimate(vars(value), digits)


@lru_cache(maxsize=2)
def fit_code_distribution(generator: Generator, n: int) -> Distribution:
    """Fit the distribution of sampled codes on at least ``2 * w_dim`` of them."""
    return fit_distribution(generator, max(n, 2 * generator.w_dim), DISTRIBUTION_SEED)


def find_left_w(context: CountContext, trial: MoveTrial) -> Float[Tensor, " n"]:
    """Return 1 where a code has left the distribution of sampled codes (one row beyond the 99.9th percentile), else 0."""
    return (~fit_code_distribution(context.generator, context.config.labels).contains(trial.moved)).float()


def measure_row_spread(context: CountContext, trial: MoveTrial) -> Float[Tensor, " n"]:
    """Return the distance of a code's rows from their mean, over the root mean square distance of codes from theirs; 0 in W."""
    w = context.labels.w
    scale = (w - w.mean(0)).square().sum(1).mean().sqrt()
    return (trial.moved - trial.moved.mean(1, keepdim=True)).square().sum(2).mean(1).sqrt() / scale
