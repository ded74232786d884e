"""The cardinality editor's training: the classifiers of counts, then H, then gains."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from ganvas.data.dataset import LatentDataset
from ganvas.data.pca import fit_pca
from ganvas.editors._cardinality_config import TRAINING_SHARE, CardinalityConfig, integer_scores, is_sum, parse_groups
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
from ganvas.editors._networks import fit_network
from ganvas.editors.base import GAIN_BOUNDS, response_gains
from ganvas.generators.base import Generator
from ganvas.progress import Progress

TRIED_GAINS = tuple(round(0.5 + 0.1 * i, 1) for i in range(16))
"""The gains that are tried."""
LARGE_DIMENSION = 2048
"""The length of vectors above which leading components come from random projections: an exact decomposition takes minutes."""
MAX_JUDGED_CODES = 2000
"""The most held-out codes on which gains and the report are measured."""


@dataclass(frozen=True)
class CountTrainingCodes:
    """Codes as vectors, their counts of the moved attributes, and those of the parts that are to stay."""

    codes: Vectors
    counts: Counts
    part_counts: Int[Tensor, "n parts"]


@dataclass(frozen=True)
class CountTraining:
    """Everything that H is trained with, or codes are optimised with. ``keeper`` is the classifier of the parts."""

    options: CardinalityConfig
    places: CodeVectors
    classifiers: list[CountClassifier]
    keeper: CountClassifier | None
    preservation: Preservation
    training_set: CountTrainingCodes
    held_out: CountTrainingCodes
    parts: tuple[str, ...]
    """The attributes that the keeper reads."""
    scale: float
    """The root mean square distance of codes from their mean."""

    @property
    def ranges(self) -> CountRanges:
        """The range of each count."""
        return self.classifiers[0].ranges

    def classify_counts(self, codes: Vectors) -> Counts:
        """Return the counts that the classifiers vote for."""
        return torch.cat([vote_counts(self.classifiers, part) for part in codes.split(4096)])

    def measure_accuracy(self, data: CountTrainingCodes) -> Tensor:
        """Return the first classifier's accuracy, (attributes,)."""
        return count_accuracy(self.classifiers[0], data.codes, data.counts)

    @property
    def costs(self) -> MoveCosts:
        """The weights of what moves cost."""
        return MoveCosts(self.options.weight, self.options.density, self.options.preserve, self.scale)

    @property
    def optimizer(self) -> CodeOptimizer:
        """The optimiser of codes under these classifiers."""
        options = self.options
        return CodeOptimizer(
            self.places, self.classifiers, self.keeper, self.preservation, self.costs, options.climb, options.rate
        )

    @torch.no_grad()
    def measure_moves(
        self, moves: CountDirections | None, data: CountTrainingCodes, k: int, sign: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Measure unit moves of the codes that can be moved by ``sign``.

        Returns the share that gets the next count, the mean length, and the median change of the reading in that direction
        (readings near the ends of the range can't move); nan where there are no such codes.
        """
        codes = data.codes[:MAX_JUDGED_CODES]
        before = self.classify_counts(codes)
        possible = _in_range(self.ranges, before, k, sign)
        codes, before = codes[possible], before[possible]
        if moves is None:
            moved = self.optimizer.move_once(codes, k, torch.full((len(codes),), sign).to(codes))
        else:
            amounts = torch.zeros(len(codes), len(self.ranges.lows)).to(codes)
            amounts[:, k] = sign
            moved = self.places.unproject(moves.move_once(self.places.project(codes), amounts))
        right = self.classify_counts(codes + moved)[:, k] == before[:, k] + sign
        change = expected_counts(self.classifiers, codes + moved) - expected_counts(self.classifiers, codes)
        return right.float().mean(), moved.norm(dim=1).mean() / self.scale, (change[:, k] * sign).nanmedian()


def prepare_training(
    data: LatentDataset, generator: Generator, attributes: tuple[str, ...], options: CardinalityConfig
) -> CountTraining:
    """Train the classifiers and fit the space that H works in. Raises GanvasError for scores that aren't whole numbers."""
    counts = integer_scores(data, attributes)
    parts = options.parts or tuple(
        name for name, kind in zip(data.attributes, data.kinds, strict=True) if kind == "count"
    )
    parts = parts if options.preserve else ()
    # An attribute that is the sum of all others isn't a part.
    whole_names = {name for name in parts if is_sum(data, name, tuple(p for p in parts if p != name))}
    parts = tuple(name for name in parts if name not in whole_names)
    part_counts = integer_scores(data, parts) if parts else counts[:, :0]
    training_rows, held_rows = data.split(TRAINING_SHARE, options.seed)
    groups, device = parse_groups(options, generator), generator.device
    codes = flatten(data.ws(slice(None), generator.num_ws), groups).to(device)
    training_set, held_out = (
        CountTrainingCodes(codes[i], counts[i].to(device), part_counts[i].to(device))
        for i in (training_rows, held_rows)
    )
    places = _build_vectors(training_set.codes, groups, options)
    ranges, config = find_ranges(training_set.counts, attributes), _classifier_config(options)
    classifiers = [
        fit_count_classifier(training_set.codes, training_set.counts, ranges, config, options.seed + 1000 * i)
        for i in range(options.classifiers)
    ]
    keeper = None
    if parts:
        keeper = fit_count_classifier(
            training_set.codes,
            training_set.part_counts,
            find_ranges(training_set.part_counts, parts),
            config,
            options.seed + 1,
        )
    scale = float((training_set.codes - training_set.codes.mean(0)).square().sum(1).mean().sqrt())
    sums = tuple(bool(parts) and is_sum(data, name, parts) for name in attributes)
    own = tuple(parts.index(name) if name in parts else -1 for name in attributes)
    return CountTraining(
        options, places, classifiers, keeper, Preservation(sums, own), training_set, held_out, parts, scale
    )


def train_directions(training: CountTraining, progress: Progress) -> CountDirections:
    """Train H of all attributes at once; they share no weights, so each is trained independently."""
    options, codes = training.options, training.training_set.codes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        attributes, coordinates = len(training.ranges.lows), len(training.places.deviations)
        moves = CountDirections(attributes, coordinates, options.signs, options.width, options.pieces).to(codes.device)
    before, random = training.classify_counts(codes), torch.Generator().manual_seed(options.seed)
    # Codes that can be moved, by attribute and sign.
    possible = {
        (k, s): _in_range(training.ranges, before, k, s).nonzero()[:, 0].cpu()
        for k in range(attributes)
        for s in (1, -1)
    }
    possible = {key: rows for key, rows in possible.items() if len(rows)}
    each = max(options.batch // 2, 1)
    keys = torch.tensor(list(possible)).repeat_interleave(each, 0).to(codes.device)

    def loss(step: int) -> Tensor:
        drawn = [rows[torch.randint(len(rows), (each,), generator=random)] for rows in possible.values()]
        rows = torch.cat(drawn).to(codes.device)
        return (
            _compute_loss(training, moves, _MoveBatch(codes[rows], before[rows], keys[:, 0], keys[:, 1])) * attributes
        )

    fit_network([p for p in moves.parameters() if p.requires_grad], loss, options.steps, options.rate, 0.0, progress)
    moves.requires_grad_(False)
    if options.gain:
        _set_gains(training, moves)
    return moves


@dataclass(frozen=True)
class _MoveBatch:
    """Codes with their counts, and for each the attribute that is moved, and α, 1 or -1."""

    codes: Vectors
    before: Counts
    attribute: Int[Tensor, " n"]
    sign: Int[Tensor, " n"]


def _compute_loss(training: CountTraining, moves: CountDirections, batch: _MoveBatch) -> Tensor:
    """Compute L under the classifiers, averaged over the batch."""
    x = training.places.project(batch.codes)
    step, moved, alpha = _apply_moves(training, moves, batch, x)
    after, target = batch.codes + moved, batch.before + alpha
    attribute = batch.attribute[:, None]
    count = torch.stack([c.losses(after, target).gather(1, attribute)[:, 0] for c in training.classifiers]).mean(0)
    loss = count + training.costs.compute_cost(x, step, moved)
    if training.keeper is not None:
        with torch.no_grad():
            counts_before = training.keeper.estimate_counts(batch.codes)
        loss = loss + training.options.preserve * training.preservation.sum_unwanted_changes(
            training.keeper.estimate_counts(after) - counts_before, batch.attribute, batch.sign
        )
    return loss.mean()


def _apply_moves(
    training: CountTraining, moves: CountDirections, batch: _MoveBatch, x: Coordinates
) -> tuple[Coordinates, Vectors, Tensor]:
    """Return what coordinates ``x`` and vectors move by, and α of each attribute."""
    alpha = torch.zeros(batch.before.shape, dtype=torch.long, device=x.device)
    alpha = alpha.scatter(1, batch.attribute[:, None], batch.sign[:, None])
    # The batch is sorted by attribute: each H gets its own codes only.
    sizes = batch.attribute.unique_consecutive(return_counts=True)[1].tolist()
    parts = zip(x.split(sizes), alpha.to(x).split(sizes), strict=True)
    step = torch.cat([moves.move_once(part, amounts) for part, amounts in parts])
    return step, training.places.unproject(step), alpha


@torch.no_grad()
def _set_gains(training: CountTraining, moves: CountDirections) -> None:
    """Set the gain of each H.

    "right": the one with which most moves of held-out codes are right (of equals the nearest to 1); "reading": the one
    with which the reading moves by 1.
    """
    for place in range(len(moves.gains)):
        k, signs = place // moves.signs, (1, -1) if moves.signs == 1 else ((1, -1)[place % 2],)
        if training.options.gain == "reading":
            for _ in range(3):  # the response isn't linear
                change = torch.stack(
                    [training.measure_moves(moves, training.held_out, k, sign)[2] for sign in signs]
                ).nanmean()
                moves.gains[place] = float(
                    (moves.gains[place] * response_gains(change.nan_to_num(1.0))).clamp(*GAIN_BOUNDS)
                )
            continue
        candidates = []
        for gain in TRIED_GAINS:
            moves.gains[place] = gain
            rates = [training.measure_moves(moves, training.held_out, k, sign)[0] for sign in signs]
            candidates.append((float(torch.stack(rates).nan_to_num(0).mean()), -abs(gain - 1), gain))
        moves.gains[place] = max(candidates)[2]


def _in_range(ranges: CountRanges, counts: Counts, k: int, sign: int | Tensor) -> Tensor:
    """Return whether each count of attribute ``k`` plus ``sign`` is in its range, (n,) bool."""
    goal = counts[:, k] + sign
    return (goal >= ranges.lows[k]) & (goal <= ranges.highs[k])


def _classifier_config(options: CardinalityConfig) -> CountClassifierConfig:
    names = ("loss", "hidden", "decay", "dropout", "noise")
    return CountClassifierConfig(steps=options.knowledge, **{name: getattr(options, name) for name in names})


def _build_vectors(codes: Vectors, groups: Groups, options: CardinalityConfig) -> CodeVectors:
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
