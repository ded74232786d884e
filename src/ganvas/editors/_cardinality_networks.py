"""The cardinality editor's networks: vectors of codes, the classifier of their counts, and H, which moves them.

The classifier predicts from a code how many objects its picture has.
Doubinsky et al., *Contrôle de la cardinalité par navigation dans l'espace latent des GANs*, RFIAP 2022,
https://cea.hal.science/cea-04852483, table 1b: fully connected, of sizes [6144, 2048, 512] on W+ and [512, 256] on W, the
first being the code's; trained as a regression (MSE) or with a class for each count (cross-entropy).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor, nn

from ganvas.editors._networks import draw_rows, fit_network
from ganvas.errors import GanvasError
from ganvas.progress import Progress
from ganvas.training_loop import seed_random_state
from ganvas.types import WPlus
from ganvas.validation import NonNegative, Positive, PositiveInt, validated

Loss = Literal["ce", "mse"]
HIDDEN = {"w": (256,), "w+": (2048, 512)}
"""The paper's hidden layers, by space."""
MASKED_LOGIT = -1e4
"""The logit of a count outside an attribute's range; finite, so that all gradients are defined."""
OUTLIER_SHARE = 0.002
"""Counts that a smaller share of codes has don't extend the range."""
MAX_CLASSES = 256

Vectors = Float[Tensor, "n numbers"]
Counts = Int[Tensor, "n attributes"]
Coordinates = Float[Tensor, "n coordinates"]
Groups = tuple[tuple[int, ...], ...]
"""Rows of W+ that move together."""


@dataclass(frozen=True)
class CountRanges:
    """The least and the greatest count of each attribute."""

    lows: tuple[int, ...]
    highs: tuple[int, ...]

    def __post_init__(self) -> None:
        if not all(low < high < low + MAX_CLASSES for low, high in zip(self.lows, self.highs, strict=True)):
            raise ValueError("ranges of counts that don't rise, or are too wide")

    @property
    def classes(self) -> int:
        """The number of counts of the attribute with the widest range."""
        return max(high - low for low, high in zip(self.lows, self.highs, strict=True)) + 1

    def clamp(self, counts: Counts) -> Counts:
        """Clamp counts to their ranges."""
        return torch.maximum(torch.minimum(counts, self._row(self.highs, counts)), self._row(self.lows, counts))

    def contains(self, counts: Counts) -> Tensor:
        """Return which counts are in their ranges, (n, attributes) bool."""
        return (counts >= self._row(self.lows, counts)) & (counts <= self._row(self.highs, counts))

    @staticmethod
    def _row(values: tuple[int, ...], like: Tensor) -> Tensor:
        return torch.tensor(values, device=like.device, dtype=like.dtype)


def find_ranges(counts: Counts, attributes: tuple[str, ...]) -> CountRanges:
    """Find the ranges of counts, without those that fewer than ``OUTLIER_SHARE`` of the codes have.

    Raises GanvasError where an attribute has a single count, or more than ``MAX_CLASSES``.
    """
    lows, highs = [], []
    for name, column in zip(attributes, counts.T, strict=True):
        values, each = column.unique(return_counts=True)
        frequent = values[each >= max(OUTLIER_SHARE * len(column), 1)]
        if len(frequent) < 2:
            raise GanvasError(
                f"Attribute {name!r} is {int(values[each.argmax()])} nearly everywhere, nothing to learn: leave it out."
            )
        lows.append(int(frequent.min()))
        highs.append(int(frequent.max()))
        if highs[-1] - lows[-1] >= MAX_CLASSES:
            raise GanvasError(f"Attribute {name!r} goes from {lows[-1]} to {highs[-1]}: {MAX_CLASSES} counts at most.")
    return CountRanges(tuple(lows), tuple(highs))


@validated
class CountClassifierConfig:
    """The architecture and training of a latent classifier; ``hidden``: widths of its layers, () for the paper's.

    ``noise``: the deviation of what is added to codes, in their own standard deviations. With ``dropout`` it keeps the
    classifier smooth for the moves that are learned from it.
    """

    loss: Loss = "ce"
    hidden: tuple[PositiveInt, ...] = ()
    steps: PositiveInt = 1500
    batch: PositiveInt = 256
    rate: Positive = 3e-3
    decay: NonNegative = 0.01
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.0
    noise: NonNegative = 0.0


class CountClassifier(nn.Module):
    """A network from vectors (n, numbers), which it standardises, to a logit for each count ("ce") or the count ("mse")."""

    def __init__(self, numbers: int, ranges: CountRanges, loss: str, hidden: tuple[int, ...]) -> None:
        super().__init__()
        self.ranges, self.loss_name, self.dropout = ranges, loss, 0.0
        outputs = len(ranges.lows) * (ranges.classes if loss == "ce" else 1)
        self.layers = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise((numbers, *hidden, outputs))])
        self.mean, self.deviations = nn.Buffer(torch.zeros(numbers)), nn.Buffer(torch.ones(numbers))

    def forward(self, codes: Vectors) -> Float[Tensor, "n attributes outputs"]:
        """Return the logits of each count from the attribute's lowest, or the count itself."""
        x = (codes - self.mean) / self.deviations
        *hidden, last = self.layers
        for layer in hidden:
            x = F.dropout(F.relu(layer(x)), self.dropout, self.training)
        x = last(x).unflatten(1, (len(self.ranges.lows), -1))
        if self.loss_name == "mse":
            return x
        existing = (
            torch.arange(x.shape[2], device=x.device) < (self._lows(x, self.ranges.highs) - self._lows(x))[:, None] + 1
        )
        return torch.where(existing, x, MASKED_LOGIT)

    def estimate_counts(self, codes: Vectors) -> Float[Tensor, "n attributes"]:
        """Return the expected number of objects, with a fraction."""
        outputs = self(codes)
        if self.loss_name == "mse":
            return outputs[..., 0]
        steps = torch.arange(outputs.shape[2], device=outputs.device, dtype=outputs.dtype)
        return self._lows(outputs) + outputs.softmax(2) @ steps

    def classify_counts(self, codes: Vectors) -> Counts:
        """Return the number of objects as a whole number: the most probable one, or the nearest."""
        outputs = self(codes)
        if self.loss_name == "mse":
            return self.ranges.clamp(outputs[..., 0].round().long())
        return outputs.argmax(2) + self._lows(outputs).long()

    def compute_losses(self, codes: Vectors, counts: Counts) -> Float[Tensor, "n attributes"]:
        """Return the loss of each code and attribute."""
        outputs = self(codes)
        if self.loss_name == "mse":
            return (outputs[..., 0] - counts).square()
        place = (counts - self._lows(outputs).long())[..., None]
        return -outputs.log_softmax(2).gather(2, place)[..., 0]

    def _lows(self, like: Tensor, values: tuple[int, ...] | None = None) -> Tensor:
        return torch.tensor(self.ranges.lows if values is None else values, device=like.device, dtype=like.dtype)


def fit_count_classifier(
    codes: Vectors,
    counts: Counts,
    ranges: CountRanges,
    config: CountClassifierConfig,
    seed: int,
    progress: Progress = lambda step, steps: None,
) -> CountClassifier:
    """Train a classifier of codes on their counts, clamped to ``ranges``.

    Equal input gives equal weights on one machine; the global random state is left as it was.
    """
    counts, random = ranges.clamp(counts), torch.Generator().manual_seed(seed)
    with seed_random_state(seed):
        network = CountClassifier(codes.shape[1], ranges, config.loss, config.hidden).to(codes.device).train()
        network.dropout = config.dropout
        network.mean.copy_(codes.mean(0))
        network.deviations.copy_(codes.std(0).clamp(min=1e-6))

        def loss(step: int) -> Tensor:
            rows = draw_rows(len(codes), config.batch, random, codes.device)
            x = codes[rows]
            if config.noise:
                x = x + config.noise * network.deviations * torch.randn(x.shape, generator=random).to(x)
            return network.compute_losses(x, counts[rows]).sum(1).mean()

        fit_network(network.parameters(), loss, config.steps, config.rate, config.decay, progress)
    return network.eval().requires_grad_(False)


def compute_expected_counts(classifiers: Sequence[CountClassifier], codes: Vectors) -> Float[Tensor, "n attributes"]:
    """Return the mean of several classifiers' expected numbers of objects."""
    return torch.stack([network.estimate_counts(codes) for network in classifiers]).mean(0)


@torch.no_grad()
def vote_counts(classifiers: Sequence[CountClassifier], codes: Vectors) -> Counts:
    """Return the counts that classifiers vote for: those of a single one, or the nearest to what several expect."""
    if len(classifiers) == 1:
        return classifiers[0].classify_counts(codes)
    return classifiers[0].ranges.clamp(compute_expected_counts(classifiers, codes).round().long())


@torch.no_grad()
def measure_count_accuracy(network: CountClassifier, codes: Vectors, counts: Counts) -> Float[Tensor, " attributes"]:
    """Return the share of codes whose count is right, for each attribute (table 1b)."""
    right = [network.classify_counts(x) == y for x, y in zip(codes.split(4096), counts.split(4096), strict=True)]
    return torch.cat(right).float().mean(0)


class CodeVectors(nn.Module):
    """The map from codes to vectors, the concatenated means of each group's rows, and to coordinates of variance 1 each.

    Coordinates are along the leading principal components or, with ``basis`` None, along the vectors' own axes.
    """

    def __init__(self, groups: Groups, mean: Tensor, deviations: Tensor, basis: Tensor | None) -> None:
        super().__init__()
        self.groups = groups
        self.mean, self.deviations = nn.Buffer(mean), nn.Buffer(deviations)
        self.basis = None if basis is None else nn.Buffer(basis)

    def flatten(self, ws: WPlus) -> Vectors:
        """Return codes as vectors, (n, groups · w_dim)."""
        return flatten_groups(ws, self.groups)

    def expand_rows(self, displacement: Vectors) -> Float[Tensor, "n rows w_dim"]:
        """Return what each row of a code moves by when its vector moves; a single row if all rows are one group."""
        rows = displacement.unflatten(1, (len(self.groups), -1))
        if len(self.groups) == 1:
            return rows
        owner = [k for _, k in sorted((row, k) for k, group in enumerate(self.groups) for row in group)]
        return rows[:, owner]

    def project(self, codes: Vectors) -> Coordinates:
        """Return the coordinates of vectors."""
        centred = codes - self.mean
        return (centred if self.basis is None else centred @ self.basis.T) / self.deviations

    def unproject_move(self, displacement: Coordinates) -> Vectors:
        """Return what vectors move by when their coordinates move by ``displacement``."""
        scaled = displacement * self.deviations
        return scaled if self.basis is None else scaled @ self.basis


def flatten_groups(ws: WPlus, groups: Groups) -> Vectors:
    """Concatenate the means of each group's rows."""
    return torch.cat([ws[:, list(group)].mean(1) for group in groups], 1)


class CountDirections(nn.Module):
    """H(z) for each attribute, in coordinates: linear, plus a network with a hidden layer of ``width``, if not 0.

    ``signs``: 1, the same H adds and removes (the paper's α·H(z)); 2, one adds and another removes. ``pieces``: the number
    of small steps in a unit move, each from where the last one ended.
    """

    def __init__(self, attributes: int, coordinates: int, signs: int, width: int, pieces: int) -> None:
        super().__init__()
        k, c = attributes * signs, coordinates
        self.signs, self.pieces = signs, pieces
        self.maps, self.biases = nn.Parameter(torch.zeros(k, c, c)), nn.Parameter(torch.zeros(k, c))
        self.first = nn.Parameter(torch.randn(k, c, width) / c**0.5) if width else None
        self.second = nn.Parameter(torch.zeros(k, width, c)) if width else None
        self.gains = nn.Buffer(torch.ones(k))

    def evaluate_direction(self, x: Coordinates, k: int) -> Coordinates:
        """Evaluate the ``k``-th H at ``x``."""
        direction = torch.addmm(self.biases[k], x, self.maps[k])
        if self.first is not None and self.second is not None:
            direction = direction + torch.relu(x @ self.first[k]) @ self.second[k]
        return direction * self.gains[k]

    def move_once(self, x: Coordinates, amounts: Float[Tensor, "n attributes"]) -> Coordinates:
        """Return what coordinates move by for ``amounts`` of -1 to 1 objects of each attribute, moved together."""
        start = x
        attributes = amounts.ne(0).any(0).nonzero()[:, 0].tolist()
        for _ in range(self.pieces):
            step = torch.zeros_like(x)
            for k in attributes:
                part = amounts[:, k : k + 1] / self.pieces
                if self.signs == 1:
                    step = step + part * self.evaluate_direction(x, k)
                else:
                    adding, removing = self.evaluate_direction(x, 2 * k), self.evaluate_direction(x, 2 * k + 1)
                    step = step + part.clamp(min=0) * adding - part.clamp(max=0) * removing
            x = x + step
        return x - start

    def move(self, x: Coordinates, changes: Float[Tensor, "n attributes"]) -> Coordinates:
        """Return what coordinates move by for any changes: successive unit moves, the last one in part."""
        start, left = x, changes
        while left.ne(0).any():
            amounts = left.clamp(-1, 1)
            x, left = x + self.move_once(x, amounts), left - amounts
        return x - start
