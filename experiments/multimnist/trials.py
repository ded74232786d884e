"""Ways to move a count, on trial: fresh codes are moved, rendered again, and judged by the counter that looks at pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from experiments.multimnist.context import CountContext
from ganvas.control.search import ScoredView
from ganvas.data.distribution import Distribution, fit_distribution
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.evaluation.tables import format_estimate
from ganvas.generators.base import Generator, sample
from ganvas.seeds import DISTRIBUTION_SEED
from ganvas.stats import Estimate, bootstrap_mean
from ganvas.types import Scores, WPlus

LOW, HIGH = 1, 4
"""The counts that moves stay within."""
SURE_PROBABILITY = 0.9
"""The probability of being right from which on the counter is sure."""
CODES_PER_CASE = 8
"""Times as many fresh codes as are wanted that are looked through for those, at most."""
BATCH = 64
"""Pictures rendered at a time."""
Move = Callable[[WPlus, Tensor], WPlus]
"""Codes, and how many objects each is to get (n,), to codes."""


@dataclass(frozen=True)
class TrialCodes:
    """Fresh codes whose count the counter is sure of. ``looked``: what it said of all that were looked through."""

    ws: WPlus
    scores: Scores
    looked: Float[Tensor, "looked attributes"]


@dataclass(frozen=True)
class MoveTrial:
    """Codes that were asked for ``alpha`` (n,) objects more of ``attribute``, as they were and as they came out."""

    attribute: str
    attributes: tuple[str, ...]
    alpha: Tensor
    ws: WPlus
    moved: WPlus
    before: Scores
    after: Scores

    def column(self, when: Scores, attribute: str = "") -> Tensor:
        """One column of scores, (n,)."""
        return when[:, self.attributes.index(attribute or self.attribute)]

    @property
    def start(self) -> Tensor:
        """(n,): how many there were."""
        return self.column(self.before)

    @property
    def right(self) -> Tensor:
        """(n,): 1 where there are as many as were asked for, else 0."""
        return (self.column(self.after) == self.start + self.alpha).float()

    @property
    def changed(self) -> Tensor:
        """(n,): how many came."""
        return self.column(self.after) - self.start

    def kept(self, classes: Sequence[str]) -> Tensor:
        """(n,): the share of the objects that could stay that did, by their classes; nan where none could.

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
        """Some of them (a mask)."""
        rest = (value[index] for value in (self.alpha, self.ws, self.moved, self.before, self.after))
        return MoveTrial(self.attribute, self.attributes, *rest)


def score_codes(stage: CountContext, ws: WPlus) -> Scores:
    """What the counter says of codes' pictures."""
    return ScoredView(stage.generator, stage.counter, BATCH)(ws).cpu()


def is_sure(stage: CountContext, scores: Scores) -> Tensor:
    """Which counts the counter is sure of, (n,) bool; all, of a counter that doesn't say."""
    if "sure" not in stage.counter.attributes:
        return torch.ones(len(scores), dtype=torch.bool)
    return torch.sigmoid(scores[:, stage.counter.column("sure")]) >= SURE_PROBABILITY


def sample_sure_codes(stage: CountContext, n: int) -> TrialCodes:
    """The first ``n`` codes from the stage's seed on whose count the counter is sure of, and from ``LOW`` to ``HIGH``.

    Fewer where ``CODES_PER_CASE`` times as many don't have them. Raises GanvasError where there is none at all.
    """
    codes, found, looked = [], [], []
    seed, have = stage.seed, 0
    while have < n and seed - stage.seed < CODES_PER_CASE * n:
        ws = sample(stage.generator, 2 * BATCH, 1.0, seed)
        scores = score_codes(stage, ws)
        counts = scores[:, stage.counter.column("count")]
        index = is_sure(stage, scores) & (counts >= LOW) & (counts <= HIGH)
        codes.append(ws[index])
        found.append(scores[index])
        looked.append(scores)
        seed, have = seed + len(ws), have + int(index.sum())
    if not have:
        raise GanvasError(f"The counter is sure of no count among {seed - stage.seed} codes: nothing can be moved.")
    return TrialCodes(torch.cat(codes)[:n], torch.cat(found)[:n], torch.cat(looked))


def run_move(stage: CountContext, cases: TrialCodes, move: Move, alpha: int, attribute: str = "count") -> MoveTrial:
    """Move all codes that can get ``alpha`` more, and look at what came out.

    A count can stay within its range; a class can have one more where the count can, and one less where there is one.
    """
    counts = cases.scores[:, stage.counter.column("count")]
    able = (counts + alpha >= LOW) & (counts + alpha <= HIGH)
    able &= cases.scores[:, stage.counter.column(attribute)] + alpha >= 0
    ws, before = cases.ws[able], cases.scores[able]
    asked = torch.full((len(ws),), alpha)
    with torch.no_grad():
        moved = move(ws, asked) if len(ws) else ws
    return MoveTrial(attribute, stage.counter.attributes, asked, ws, moved, before, score_codes(stage, moved))


def join_trials(trials: Sequence[MoveTrial]) -> MoveTrial:
    """Several trials as one."""
    names = ("alpha", "ws", "moved", "before", "after")
    return MoveTrial(
        trials[0].attribute, trials[0].attributes, *(torch.cat([getattr(t, name) for t in trials]) for name in names)
    )


def editor_move(editor: Editor, attribute: str = "count") -> Move:
    """The moves that an editor makes."""
    return lambda ws, alpha: editor.edit(ws, {attribute: alpha.to(ws)})


def random_move(stage: CountContext, like: Move, seed: int = 0) -> Move:
    """Moves as long as another's, each along the difference of two sampled codes: what a move does by itself."""

    def move(ws: WPlus, alpha: Tensor) -> WPlus:
        length = (like(ws, alpha) - ws).square().sum((1, 2), keepdim=True).sqrt()
        random = torch.Generator().manual_seed(stage.seed + seed)
        pairs = torch.randint(len(stage.labels), (2, len(ws)), generator=random)
        one, other = (stage.labels.ws(rows, stage.generator.num_ws).to(ws) for rows in pairs)
        way = one - other
        return ws + way * length / way.square().sum((1, 2), keepdim=True).sqrt().clamp(min=1e-6)

    return move


def estimate_rate(values: Float[Tensor, " n"]) -> Estimate:
    """A mean with its bootstrap interval; without codes there is none."""
    return bootstrap_mean(values.float())


def summarise_trials(
    stage: CountContext, name: str, more: Sequence[MoveTrial], less: Sequence[MoveTrial]
) -> dict[str, Any]:
    """A way's numbers, as estimates: of one or several trials that asked for more, and as many that asked for less."""

    def over(trials: Sequence[MoveTrial], what: Callable[[MoveTrial], Tensor]) -> Estimate:
        return estimate_rate(torch.cat([what(trial) for trial in trials]))

    both = [*more, *less]
    return {
        "name": name,
        "both": over(both, lambda t: t.right),
        "more": over(more, lambda t: t.right),
        "less": over(less, lambda t: t.right),
        "kept": over(both, lambda t: t.kept(stage.classes)),
        "sure": over(both, lambda t: is_sure(stage, t.after).float()),
        "beyond": over(both, lambda t: has_left_w(stage, t)),
        "length": over(both, lambda t: (t.moved - t.ws).square().sum(2).mean(1).sqrt()),
    }


def format_rate(value: Estimate | None, digits: int = 3) -> str:
    """An estimate as a table's cell; "-" where there is none."""
    return "-" if value is None or value.n == 0 else format_estimate(vars(value), digits)


@lru_cache(maxsize=2)
def fit_code_distribution(generator: Generator, n: int) -> Distribution:
    """Where sampled codes lie, fitted on at least as many codes as it needs."""
    return fit_distribution(generator, max(n, 2 * generator.w_dim), DISTRIBUTION_SEED)


def has_left_w(stage: CountContext, tried: MoveTrial) -> Float[Tensor, " n"]:
    """1 where a code has left the distribution of sampled codes (one row beyond the 99.9th percentile), else 0."""
    return (~fit_code_distribution(stage.generator, stage.size.labels).contains(tried.moved)).float()


def row_spread(stage: CountContext, tried: MoveTrial) -> Float[Tensor, " n"]:
    """How far the rows of a code stand from their mean, in root mean square distances of codes from theirs; 0 in W."""
    w = stage.labels.w
    scale = (w - w.mean(0)).square().sum(1).mean().sqrt()
    return (tried.moved - tried.moved.mean(1, keepdim=True)).square().sum(2).mean(1).sqrt() / scale
