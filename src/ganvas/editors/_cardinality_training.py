"""The cardinality editor's options, what its moves are trained for, and their training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from jaxtyping import Int
from pydantic import Field
from torch import Tensor

from ganvas.data.dataset import LatentDataset
from ganvas.data.pca import fit_pca
from ganvas.editors._cardinality_networks import (
    HIDDEN,
    CodeVectors,
    Coordinates,
    CountClassifier,
    CountClassifierConfig,
    CountDirections,
    CountRanges,
    Counts,
    Groups,
    Vectors,
    compute_expected_counts,
    find_ranges,
    fit_count_classifier,
    flatten_groups,
    vote_counts,
)
from ganvas.editors._fit import update_options
from ganvas.editors._networks import fit_network
from ganvas.editors.base import GAIN_BOUNDS, compute_response_gains
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.progress import Progress
from ganvas.training_loop import seed_random_state
from ganvas.validation import Flag, Natural, NonNegative, Positive, PositiveInt, validated

TRAINING_SHARE = 0.8
"""The share of the codes that is trained on; the others are held out."""
MIN_CODES = 50
"""The least number of codes to fit on."""
TRIED_GAINS = tuple(round(0.5 + 0.1 * i, 1) for i in range(16))
"""The gains that are tried."""
LARGE_DIMENSION = 2048
"""The length of vectors above which leading components come from random projections: an exact decomposition takes minutes."""
MAX_JUDGED_CODES = 2000
"""The most held-out codes on which gains and the report are measured."""


@validated
class CardinalityConfig(CountClassifierConfig):
    """Options of ``cardinality.fit``. The defaults are the paper's, where it states them."""

    space: Literal["", "w", "w+"] = ""
    """The space of the moves; "": that of the data."""
    rows: Literal["free", "resolution"] = "free"
    """Whether rows of W+ move freely, or those of one resolution together."""
    weight: NonNegative = 0.5
    """λ, the weight of a move's length."""
    preserve: NonNegative = 0.0
    """The weight of changes of the parts that are to stay."""
    parts: tuple[str, ...] = ()
    """The counted attributes that are to stay; (): all counts."""
    density: NonNegative = 0.0
    """The weight of how much farther from the mean codes get."""
    pca: Natural = 0
    """The number of leading principal components that codes move along; 0: the whole space, along its own axes."""
    signs: Literal[1, 2] = 1
    """1: one H adds and removes, as in the paper; 2: one adds and another removes."""
    width: Natural = 0
    """The width of a hidden layer that H has beside its linear map; 0: none."""
    pieces: Annotated[int, Field(strict=True, ge=1, le=100)] = 1
    """The number of successive small steps in a move by one object."""
    classifiers: Annotated[int, Field(strict=True, ge=1, le=100)] = 1
    """The number of classifiers whose losses are averaged."""
    gain: Literal["", "right", "reading"] = ""
    """The factor of H: none, the one with which most moves are "right", or the one with which the "reading" moves by 1."""
    optimization_steps: Annotated[int, Field(strict=True, ge=0, le=1000)] = 0
    """The steps in which each code is optimised by itself, instead of H; 0 for H."""
    classifier_steps: PositiveInt = 1500
    """The training steps of each classifier."""
    steps: PositiveInt = 1500
    """The training steps of H."""
    batch: PositiveInt = 128
    """The codes of each attribute in a step of H, half of them for each sign."""
    rate: Positive = 2e-3
    """The learning rate of H, or of the codes' optimisation."""
    seed: Natural = 0
    """The seed of the split of codes, of initial weights and of batches."""

    def __post_init__(self) -> None:
        if self.optimization_steps and self.gain:
            raise GanvasError(
                "gain doesn't go with optimization_steps, which has no H to scale: leave one of them out."
            )


@validated
class StoredCardinality(CardinalityConfig):
    """What an editor's file stores: the config, and what was computed from the labels.

    What follows ``one_sided`` is stored with ``optimization_steps`` only.
    """

    groups: tuple[tuple[Natural, ...], ...] = ()
    coordinates: PositiveInt = 1
    lows: tuple[int, ...] = ()
    highs: tuple[int, ...] = ()
    one_sided: tuple[Flag, ...] = ()
    part_columns: tuple[int, ...] = ()
    scale: Positive = 1.0
    kept_lows: tuple[int, ...] = ()
    kept_highs: tuple[int, ...] = ()


def parse_options(options: Mapping[str, Any]) -> CardinalityConfig:
    """Build a ``CardinalityConfig`` from options, or from all that an editor stores, without its derived values."""
    options, fields = update_options(options), CardinalityConfig.__dataclass_fields__
    stored = StoredCardinality.__dataclass_fields__.keys() if "groups" in options else ()
    return CardinalityConfig(**{name: value for name, value in options.items() if name in fields or name not in stored})


def complete_config(options: CardinalityConfig, data: LatentDataset, generator: Generator) -> CardinalityConfig:
    """Fill in the options that depend on the data. Raises GanvasError for too few codes and unknown parts."""
    if len(data) < MIN_CODES:
        raise GanvasError(f"{len(data)} codes are too few: at least {MIN_CODES} are needed.")
    space = options.space or data.space
    groups = parse_groups(replace(options, space=space), generator)
    # Codes with equal rows vary in w_dim directions only.
    rank = min(generator.w_dim * (1 if data.space == "w" else len(groups)), round(TRAINING_SHARE * len(data)) - 1)
    for name in options.parts:
        if name not in data.attributes:
            raise unknown("attribute", name, data.attributes)
    return replace(options, space=space, hidden=options.hidden or HIDDEN[space], pca=min(options.pca, rank))


def parse_groups(options: CardinalityConfig, generator: Generator) -> Groups:
    """Return the groups of rows that move together."""
    rows, resolutions = range(generator.num_ws), generator.row_resolutions
    if options.space == "w":
        return (tuple(rows),)
    if options.rows == "free":
        return tuple((row,) for row in rows)
    return tuple(tuple(row for row in rows if resolutions[row] == r) for r in dict.fromkeys(resolutions))


def _read_counts(data: LatentDataset, attributes: tuple[str, ...]) -> Counts:
    """Return scores as integers, (n, attributes). Raises GanvasError where they aren't whole numbers."""
    scores = data.select(attributes).scores
    for name, column in zip(attributes, scores.T, strict=True):
        if not torch.equal(column, column.round()):
            raise GanvasError(f"Attribute {name!r} isn't a count: its scores aren't whole numbers. Leave it out.")
    return scores.round().long()


def _is_sum(data: LatentDataset, name: str, parts: tuple[str, ...]) -> bool:
    """Return whether an attribute is the sum of ``parts``, for most codes."""
    if name in parts or len(parts) < 2:
        return False
    total, each = (data.scores[:, [data.attributes.index(p) for p in names]].sum(1) for names in ((name,), parts))
    return bool((total == each).float().mean() > 0.5)


@dataclass(frozen=True)
class Preservation:
    """Which parts must stay when an attribute moves.

    ``one_sided[k]``: attribute k is the sum of the parts, so that none may fall where k grows, and none rise where k falls.
    ``part_columns[k]``: the column of attribute k among the parts, -1 where it isn't one.
    """

    one_sided: tuple[bool, ...]
    part_columns: tuple[int, ...]

    def sum_unwanted_changes(self, change: Tensor, attribute: Tensor, sign: Tensor) -> Tensor:
        """Sum the unwanted changes of the parts, (n,).

        ``change`` (n, parts): of the parts, where attribute ``attribute`` (n,) was moved by ``sign`` (n,). For a sum of the
        parts, changes against ``sign`` are unwanted; for others, all changes of other parts.
        """
        others = change.new_ones(len(self.part_columns), change.shape[1])
        for k, column in enumerate(self.part_columns):
            if column >= 0:
                others[k, column] = 0
        one_sided = torch.tensor(self.one_sided, device=change.device)[attribute, None]
        lost = torch.where(one_sided, (-change * sign[:, None]).clamp(min=0), change.abs())
        return (lost * others[attribute]).sum(1)


@dataclass(frozen=True)
class CountObjective:
    """What a move of codes is trained or optimised for: the next count, as ``classifiers`` read it, at little cost.

    ``weight`` (λ): of the move's length; ``density``: of leaving the distribution; ``preserve``: of lost parts, as
    ``part_classifier`` reads them. ``scale``: the root mean square distance of codes from their mean, the unit of length.
    """

    code_vectors: CodeVectors
    classifiers: list[CountClassifier]
    part_classifier: CountClassifier | None
    preservation: Preservation
    weight: float
    density: float
    preserve: float
    scale: float

    @property
    def ranges(self) -> CountRanges:
        """The range of each count."""
        return self.classifiers[0].ranges

    def compute_loss(
        self, codes: Vectors, step: Coordinates, target: Counts, attribute: Tensor, sign: Tensor
    ) -> Tensor:
        """Compute the loss (n,) of moving ``codes`` by ``step``, for the ``target`` of each code's ``attribute`` (n,).

        ``sign`` (n,): whether an object is added (1) or removed (-1).
        """
        displacement, column = self.code_vectors.unproject_move(step), attribute[:, None]
        losses = [
            network.compute_losses(codes + displacement, target).gather(1, column)[:, 0] for network in self.classifiers
        ]
        # The root's slope is infinite at 0, where every move begins.
        cost = self.weight * (displacement.square().sum(1) + 1e-12).sqrt() / self.scale
        if self.density:
            x = self.code_vectors.project(codes)
            cost = cost + self.density * ((x + step).square().mean(1) - x.square().mean(1)).clamp(min=0)
        loss = torch.stack(losses).mean(0) + cost
        if self.part_classifier is not None:
            with torch.no_grad():
                before = self.part_classifier.estimate_counts(codes)
            change = self.part_classifier.estimate_counts(codes + displacement) - before
            loss = loss + self.preserve * self.preservation.sum_unwanted_changes(change, attribute, sign)
        return loss


@dataclass(frozen=True)
class CodeOptimizer:
    """Moves without H: each code is optimised by itself by ``steps`` of Adam with ``rate``, in coordinates."""

    objective: CountObjective
    steps: int
    rate: float

    def move(self, codes: Vectors, changes: Tensor) -> Vectors:
        """Return what vectors move by for changes (n, attributes): successive unit moves, the last one in part.

        Several attributes move one after the other, in their order.
        """
        start, left = codes, changes
        while left.ne(0).any():
            amounts = left.clamp(-1, 1)
            for k in amounts.ne(0).any(0).nonzero()[:, 0].tolist():
                rows = amounts[:, k].ne(0).nonzero()[:, 0]
                displacement = self.move_once(codes[rows], k, amounts[rows, k].sign())
                codes = codes.index_add(0, rows, displacement * amounts[rows, k].abs()[:, None])
            left = left - amounts
        return codes - start

    def move_once(self, codes: Vectors, k: int, sign: Tensor) -> Vectors:
        """Return what vectors move by for one object more or less (``sign``, (n,)) of attribute ``k``.

        Codes whose count would leave the range don't move.
        """
        classifiers, code_vectors = self.objective.classifiers, self.objective.code_vectors
        ranges, codes = self.objective.ranges, codes.detach()
        target = vote_counts(classifiers, codes)
        target[:, k] += sign.long()
        possible = ranges.contains(target)[:, k]
        target, attribute = ranges.clamp(target), torch.full_like(target[:, 0], k)
        with torch.enable_grad():
            step = torch.zeros_like(code_vectors.project(codes)).requires_grad_()
            optimizer = torch.optim.Adam([step], self.rate)
            for _ in range(self.steps):
                # Each code's gradient of a sum is its own: the result doesn't depend on the batch.
                loss = self.objective.compute_loss(codes, step, target, attribute, sign).sum()
                (step.grad,) = torch.autograd.grad(loss, step)
                optimizer.step()
        return code_vectors.unproject_move(step.detach()) * possible[:, None]


@dataclass(frozen=True)
class CountTrainingCodes:
    """Codes as vectors, their counts of the moved attributes, and those of the parts that are to stay."""

    codes: Vectors
    counts: Counts
    part_counts: Int[Tensor, "n parts"]


@dataclass(frozen=True)
class CountTraining:
    """Everything that H is trained with, or codes are optimised with."""

    config: CardinalityConfig
    objective: CountObjective
    training_set: CountTrainingCodes
    held_out: CountTrainingCodes

    def classify_counts(self, codes: Vectors) -> Counts:
        """Return the counts that the classifiers vote for."""
        return torch.cat([vote_counts(self.objective.classifiers, part) for part in codes.split(4096)])

    @torch.no_grad()
    def measure_moves(
        self, moves: CountDirections | None, data: CountTrainingCodes, k: int, sign: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Measure unit moves of the codes that can be moved by ``sign``.

        Returns the share that gets the next count, the mean length, and the median change of the reading in that direction
        (readings near the ends of the range can't move); nan where there are no such codes.
        """
        codes, code_vectors = data.codes[:MAX_JUDGED_CODES], self.objective.code_vectors
        before = self.classify_counts(codes)
        possible = _in_range(self.objective.ranges, before, k, sign)
        codes, before = codes[possible], before[possible]
        if moves is None:
            optimizer = CodeOptimizer(self.objective, self.config.optimization_steps, self.config.rate)
            moved = optimizer.move_once(codes, k, torch.full((len(codes),), sign).to(codes))
        else:
            amounts = torch.zeros(len(codes), before.shape[1]).to(codes)
            amounts[:, k] = sign
            moved = code_vectors.unproject_move(moves.move_once(code_vectors.project(codes), amounts))
        right = self.classify_counts(codes + moved)[:, k] == before[:, k] + sign
        after, now = (compute_expected_counts(self.objective.classifiers, each) for each in (codes + moved, codes))
        change = (after - now)[:, k] * sign
        return right.float().mean(), moved.norm(dim=1).mean() / self.objective.scale, change.nanmedian()


def prepare_training(
    data: LatentDataset, generator: Generator, attributes: tuple[str, ...], options: CardinalityConfig
) -> CountTraining:
    """Train the classifiers and fit the space that H works in. Raises GanvasError for scores that aren't whole numbers."""
    counts = _read_counts(data, attributes)
    parts = options.parts or tuple(
        name for name, kind in zip(data.attributes, data.kinds, strict=True) if kind == "count"
    )
    parts = parts if options.preserve else ()
    # An attribute that is the sum of all others isn't a part.
    whole_names = {name for name in parts if _is_sum(data, name, tuple(p for p in parts if p != name))}
    parts = tuple(name for name in parts if name not in whole_names)
    part_counts = _read_counts(data, parts) if parts else counts[:, :0]
    training_rows, held_rows = data.split(TRAINING_SHARE, options.seed)
    groups, device = parse_groups(options, generator), generator.device
    codes = flatten_groups(data.ws(slice(None), generator.num_ws), groups).to(device)
    training_set, held_out = (
        CountTrainingCodes(codes[i], counts[i].to(device), part_counts[i].to(device))
        for i in (training_rows, held_rows)
    )
    codes = training_set.codes
    names = ("loss", "hidden", "decay", "dropout", "noise")
    config = CountClassifierConfig(steps=options.classifier_steps, **{name: getattr(options, name) for name in names})

    def fit_classifier(counts: Counts, names: tuple[str, ...], seed: int) -> CountClassifier:
        return fit_count_classifier(codes, counts, find_ranges(counts, names), config, options.seed + seed)

    objective = CountObjective(
        _build_vectors(codes, groups, options),
        [fit_classifier(training_set.counts, attributes, 1000 * i) for i in range(options.classifiers)],
        fit_classifier(training_set.part_counts, parts, 1) if parts else None,
        Preservation(
            tuple(bool(parts) and _is_sum(data, name, parts) for name in attributes),
            tuple(parts.index(name) if name in parts else -1 for name in attributes),
        ),
        options.weight,
        options.density,
        options.preserve,
        float((codes - codes.mean(0)).square().sum(1).mean().sqrt()),
    )
    return CountTraining(options, objective, training_set, held_out)


def train_directions(training: CountTraining, progress: Progress) -> CountDirections:
    """Train H of all attributes at once; they share no weights, so each is trained independently."""
    config, objective, codes = training.config, training.objective, training.training_set.codes
    k, code_vectors = len(objective.ranges.lows), objective.code_vectors
    with seed_random_state(config.seed):
        moves = CountDirections(k, len(code_vectors.deviations), config.signs, config.width, config.pieces).to(
            codes.device
        )
    before, random = training.classify_counts(codes), torch.Generator().manual_seed(config.seed)
    # Codes that can be moved, by attribute and sign.
    possible = {
        (i, sign): _in_range(objective.ranges, before, i, sign).nonzero()[:, 0].cpu()
        for i in range(k)
        for sign in (1, -1)
    }
    possible = {key: rows for key, rows in possible.items() if len(rows)}
    each = max(config.batch // 2, 1)
    attribute, sign = torch.tensor(list(possible)).repeat_interleave(each, 0).to(codes.device).T
    alpha = torch.zeros(len(sign), k, dtype=torch.long, device=codes.device).scatter(
        1, attribute[:, None], sign[:, None]
    )
    # A batch is sorted by attribute: each H gets its own codes only.
    sizes = attribute.unique_consecutive(return_counts=True)[1].tolist()

    def loss(step: int) -> Tensor:
        drawn = [rows[torch.randint(len(rows), (each,), generator=random)] for rows in possible.values()]
        rows = torch.cat(drawn).to(codes.device)
        x = code_vectors.project(codes[rows])
        parts = zip(x.split(sizes), alpha.to(x).split(sizes), strict=True)
        step_of_codes = torch.cat([moves.move_once(part, amounts) for part, amounts in parts])
        return k * objective.compute_loss(codes[rows], step_of_codes, before[rows] + alpha, attribute, sign).mean()

    trained = [p for p in moves.parameters() if p.requires_grad]
    fit_network(trained, loss, config.steps, config.rate, 0.0, progress)
    moves.requires_grad_(False)
    if config.gain:
        _set_gains(training, moves)
    return moves


@torch.no_grad()
def _set_gains(training: CountTraining, moves: CountDirections) -> None:
    """Set the gain of each H.

    "right": the one with which most moves of held-out codes are right (of equals the nearest to 1); "reading": the one
    with which the reading moves by 1.
    """
    for place in range(len(moves.gains)):
        k, signs = place // moves.signs, (1, -1) if moves.signs == 1 else ((1, -1)[place % 2],)
        if training.config.gain == "reading":
            for _ in range(3):  # the response isn't linear
                change = torch.stack(
                    [training.measure_moves(moves, training.held_out, k, sign)[2] for sign in signs]
                ).nanmean()
                moves.gains[place] = float(
                    (moves.gains[place] * compute_response_gains(change.nan_to_num(1.0))).clamp(*GAIN_BOUNDS)
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


def _build_vectors(codes: Vectors, groups: Groups, options: CardinalityConfig) -> CodeVectors:
    if not options.pca:
        return CodeVectors(groups, codes.mean(0), codes.std(0).clamp(min=1e-6), None)
    if codes.shape[1] <= LARGE_DIMENSION:
        pca = fit_pca(codes, options.pca)
        return CodeVectors(groups, pca.mean, pca.variances[: options.pca].sqrt(), pca.components)
    mean = codes.mean(0)
    with seed_random_state(options.seed):
        *_, deviations, axes = torch.svd_lowrank(codes - mean, min(options.pca + 20, *codes.shape), niter=4)
    deviations = (deviations[: options.pca] / len(codes) ** 0.5).clamp(min=1e-6)
    return CodeVectors(groups, mean, deviations, axes[:, : options.pca].T.contiguous())
