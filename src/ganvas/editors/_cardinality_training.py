"""How the cardinality editor learns: the classifiers of counts, then H, then gains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ganvas.data.dataset import LatentDataset
from ganvas.data.pca import fit_pca
from ganvas.editors._cardinality_config import SHARE, CardinalityConfig, integer_scores, is_sum, parse_groups
from ganvas.editors._cardinality_moves import CodeVectors, Coordinates, CountDirections, Groups, Vectors, flatten
from ganvas.editors._cardinality_optimizer import CodeOptimizer, MoveCosts, Preservation
from ganvas.editors._count_classifier import (
    CountClassifier,
    CountClassifierConfig,
    CountRanges,
    Counts,
    count_accuracy,
    expected_counts,
    find_ranges,
    fit_count_classifier,
    vote_counts,
)
from ganvas.editors._fit import FitProgress, minimize
from ganvas.editors.base import GAINS as BOUNDS
from ganvas.editors.base import response_gains
from ganvas.generators.base import Generator

GAINS = tuple(round(0.5 + 0.1 * i, 1) for i in range(16))
"""Gains that are tried."""
LARGE_DIMENSION = 2048
"""Numbers of a code beyond which its leading components are found by a few random projections: all of them take minutes."""
JUDGED_CODES = 2000
"""Held-out codes that gains and the report are found on, at most."""


@dataclass(frozen=True)
class CountTrainingCodes:
    """Codes as vectors, their counts of the moved attributes, and of the parts that are to stay."""

    codes: Vectors
    counts: Counts
    kept: Int[Tensor, "n parts"]


@dataclass(frozen=True)
class CountTraining:
    """All that H is learned from, or that codes climb by. ``keeper`` reads the parts."""

    options: CardinalityConfig
    places: CodeVectors
    classifiers: list[CountClassifier]
    keeper: CountClassifier | None
    care: Preservation
    learned: CountTrainingCodes
    held: CountTrainingCodes
    parts: tuple[str, ...]
    """What the keeper reads."""
    scale: float
    """The root mean square distance of codes from their mean."""

    @property
    def heads(self) -> CountRanges:
        """The range of each count."""
        return self.classifiers[0].heads

    def decided(self, codes: Vectors) -> Counts:
        """The counts that the classifiers agree on."""
        return torch.cat([vote_counts(self.classifiers, part) for part in codes.split(4096)])

    def accuracy(self, lesson: CountTrainingCodes) -> Tensor:
        """(attributes,): the first classifier's."""
        return count_accuracy(self.classifiers[0], lesson.codes, lesson.counts)

    @property
    def costs(self) -> MoveCosts:
        """What moves cost."""
        return MoveCosts(self.options.weight, self.options.density, self.options.preserve, self.scale)

    @property
    def climber(self) -> CodeOptimizer:
        """How codes climb by these classifiers."""
        options = self.options
        return CodeOptimizer(
            self.places, self.classifiers, self.keeper, self.care, self.costs, options.climb, options.rate
        )

    @torch.no_grad()
    def judged(
        self, moves: CountDirections | None, lesson: CountTrainingCodes, k: int, sign: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Of unit moves of codes that can be moved so: the share that comes to the next count, the mean length, and how far
        the reading goes that way (the median: near its ends it can't move); nan where there are no such codes."""
        codes = lesson.codes[:JUDGED_CODES]
        before = self.decided(codes)
        inside = _in_range(self.heads, before, k, sign)
        codes, before = codes[inside], before[inside]
        if moves is None:
            moved = self.climber.unit(codes, k, torch.full((len(codes),), sign).to(codes))
        else:
            amounts = torch.zeros(len(codes), len(self.heads.lows)).to(codes)
            amounts[:, k] = sign
            moved = self.places.unproject(moves.unit(self.places.project(codes), amounts))
        right = self.decided(codes + moved)[:, k] == before[:, k] + sign
        change = (expected_counts(self.classifiers, codes + moved) - expected_counts(self.classifiers, codes))[
            :, k
        ] * sign
        return right.float().mean(), moved.norm(dim=1).mean() / self.scale, change.nanmedian()


def prepare_training(
    data: LatentDataset, generator: Generator, attributes: tuple[str, ...], options: CardinalityConfig
) -> CountTraining:
    """Classifiers learned, and the space that H works in. Raises GanvasError for scores that aren't whole numbers."""
    counts = integer_scores(data, attributes)
    parts = options.parts or tuple(
        name for name, kind in zip(data.attributes, data.kinds, strict=True) if kind == "count"
    )
    parts = parts if options.preserve else ()
    # What is the sum of all others isn't a part of itself.
    whole_names = {name for name in parts if is_sum(data, name, tuple(p for p in parts if p != name))}
    parts = tuple(name for name in parts if name not in whole_names)
    kept = integer_scores(data, parts) if parts else counts[:, :0]
    rows, held = data.split(SHARE, options.seed)
    groups, device = parse_groups(options, generator), generator.device
    codes = flatten(data.ws(slice(None), generator.num_ws), groups).to(device)
    learned, held_out = (CountTrainingCodes(codes[i], counts[i].to(device), kept[i].to(device)) for i in (rows, held))
    places = _places(learned.codes, groups, options)
    heads, how = find_ranges(learned.counts, attributes), _knowing(options)
    networks = [
        fit_count_classifier(learned.codes, learned.counts, heads, how, options.seed + 1000 * i)
        for i in range(options.classifiers)
    ]
    keeper = None
    if parts:
        keeper = fit_count_classifier(
            learned.codes, learned.kept, find_ranges(learned.kept, parts), how, options.seed + 1
        )
    scale = float((learned.codes - learned.codes.mean(0)).square().sum(1).mean().sqrt())
    sums = tuple(bool(parts) and is_sum(data, name, parts) for name in attributes)
    own = tuple(parts.index(name) if name in parts else -1 for name in attributes)
    return CountTraining(options, places, networks, keeper, Preservation(sums, own), learned, held_out, parts, scale)


def train_directions(course: CountTraining, watch: FitProgress) -> CountDirections:
    """H of every attribute at once: they share nothing, so each is trained as if alone."""
    options, codes = course.options, course.learned.codes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        attributes, coordinates = len(course.heads.lows), len(course.places.deviations)
        moves = CountDirections(attributes, coordinates, options.signs, options.width, options.pieces).to(codes.device)
    before, random = course.decided(codes), torch.Generator().manual_seed(options.seed)
    # Codes that can be moved so, by attribute and sign.
    able = {
        (k, s): _in_range(course.heads, before, k, s).nonzero()[:, 0].cpu() for k in range(attributes) for s in (1, -1)
    }
    able = {key: rows for key, rows in able.items() if len(rows)}
    each = max(options.batch // 2, 1)
    keys = torch.tensor(list(able)).repeat_interleave(each, 0).to(codes.device)

    def loss(step: int) -> Tensor:
        drawn = [rows[torch.randint(len(rows), (each,), generator=random)] for rows in able.values()]
        rows = torch.cat(drawn).to(codes.device)
        return _loss(course, moves, _Batch(codes[rows], before[rows], keys[:, 0], keys[:, 1])) * attributes

    minimize([p for p in moves.parameters() if p.requires_grad], loss, options.steps, options.rate, 0.0, watch)
    moves.requires_grad_(False)
    if options.gain:
        _set_gains(course, moves)
    return moves


@dataclass(frozen=True)
class _Batch:
    """Codes with the counts that they have, and for each the attribute that it's moved by, and α, 1 or -1."""

    codes: Vectors
    before: Counts
    attribute: Int[Tensor, " n"]
    sign: Int[Tensor, " n"]


def _loss(course: CountTraining, moves: CountDirections, batch: _Batch) -> Tensor:
    """L under the classifiers, its mean over the batch."""
    x = course.places.project(batch.codes)
    step, moved, alpha = _moved(course, moves, batch, x)
    after, target = batch.codes + moved, batch.before + alpha
    attribute = batch.attribute[:, None]
    count = torch.stack([c.losses(after, target).gather(1, attribute)[:, 0] for c in course.classifiers]).mean(0)
    loss = count + course.costs.of_way(x, step, moved)
    if course.keeper is not None:
        with torch.no_grad():
            was = course.keeper.expected(batch.codes)
        loss = loss + course.options.preserve * course.care.lost(
            course.keeper.expected(after) - was, batch.attribute, batch.sign
        )
    return loss.mean()


def _moved(
    course: CountTraining, moves: CountDirections, batch: _Batch, x: Coordinates
) -> tuple[Coordinates, Vectors, Tensor]:
    """What coordinates ``x`` and vectors move by, and α of each attribute."""
    alpha = torch.zeros(batch.before.shape, dtype=torch.long, device=x.device)
    alpha = alpha.scatter(1, batch.attribute[:, None], batch.sign[:, None])
    # Attributes come one after the other: each H sees its own codes only.
    sizes = batch.attribute.unique_consecutive(return_counts=True)[1].tolist()
    parts = zip(x.split(sizes), alpha.to(x).split(sizes), strict=True)
    step = torch.cat([moves.unit(part, amounts) for part, amounts in parts])
    return step, course.places.unproject(step), alpha


@torch.no_grad()
def _set_gains(course: CountTraining, moves: CountDirections) -> None:
    """The gain of each H: with which most held-out codes' moves are right ("right"; of equals the nearest to 1), or with
    which the reading moves by 1 ("reading")."""
    for place in range(len(moves.gains)):
        k, signs = place // moves.signs, (1, -1) if moves.signs == 1 else ((1, -1)[place % 2],)
        if course.options.gain == "reading":
            for _ in range(3):  # the way is curved
                change = torch.stack([course.judged(moves, course.held, k, sign)[2] for sign in signs]).nanmean()
                moves.gains[place] = float((moves.gains[place] * response_gains(change.nan_to_num(1.0))).clamp(*BOUNDS))
            continue
        found = []
        for gain in GAINS:
            moves.gains[place] = gain
            rates = [course.judged(moves, course.held, k, sign)[0] for sign in signs]
            found.append((float(torch.stack(rates).nan_to_num(0).mean()), -abs(gain - 1), gain))
        moves.gains[place] = max(found)[2]


def _in_range(heads: CountRanges, counts: Counts, k: int, sign: int | Tensor) -> Tensor:
    """(n,) bool: whether there is a count of attribute ``k`` that far on."""
    goal = counts[:, k] + sign
    return (goal >= heads.lows[k]) & (goal <= heads.highs[k])


def _knowing(options: CardinalityConfig) -> CountClassifierConfig:
    names = ("loss", "hidden", "decay", "dropout", "noise")
    return CountClassifierConfig(steps=options.knowledge, **{name: getattr(options, name) for name in names})


def _places(codes: Vectors, groups: Groups, options: CardinalityConfig) -> CodeVectors:
    if not options.pca:
        return CodeVectors(groups, codes.mean(0), codes.std(0).clamp(min=1e-6), None)
    if codes.shape[1] <= LARGE_DIMENSION:
        pca = fit_pca(codes, options.pca)
        return CodeVectors(groups, pca.mean, pca.variances[: options.pca].sqrt(), pca.components)
    mean = codes.mean(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        *_, deviations, axes = torch.svd_lowrank(codes - mean, min(options.pca + 20, *codes.shape), niter=4)
    deviations = (deviations[: options.pca] / len(codes) ** 0.5).clamp(min=1e-6)
    return CodeVectors(groups, mean, deviations, axes[:, : options.pca].T.contiguous())
