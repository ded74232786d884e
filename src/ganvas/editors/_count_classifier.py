"""The latent classifier of counts: it predicts from a code how many objects its picture has.

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

from ganvas.editors._fit import draw_rows, minimize
from ganvas.errors import GanvasError
from ganvas.progress import Progress
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


@dataclass(frozen=True)
class CountRanges:
    """The least and the greatest count of each attribute."""

    lows: tuple[int, ...]
    highs: tuple[int, ...]

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

    def losses(self, codes: Vectors, counts: Counts) -> Float[Tensor, "n attributes"]:
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
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CountClassifier(codes.shape[1], ranges, config.loss, config.hidden).to(codes.device).train()
        network.dropout = config.dropout
        network.mean.copy_(codes.mean(0))
        network.deviations.copy_(codes.std(0).clamp(min=1e-6))

        def loss(step: int) -> Tensor:
            rows = draw_rows(len(codes), config.batch, random, codes.device)
            x = codes[rows]
            if config.noise:
                x = x + config.noise * network.deviations * torch.randn(x.shape, generator=random).to(x)
            return network.losses(x, counts[rows]).sum(1).mean()

        minimize(network.parameters(), loss, config.steps, config.rate, config.decay, progress)
    return network.eval().requires_grad_(False)


def expected_counts(classifiers: Sequence[CountClassifier], codes: Vectors) -> Float[Tensor, "n attributes"]:
    """Return the mean of several classifiers' expected numbers of objects."""
    return torch.stack([network.estimate_counts(codes) for network in classifiers]).mean(0)


@torch.no_grad()
def vote_counts(classifiers: Sequence[CountClassifier], codes: Vectors) -> Counts:
    """Return the counts that classifiers vote for: those of a single one, or the nearest to what several expect."""
    if len(classifiers) == 1:
        return classifiers[0].classify_counts(codes)
    return classifiers[0].ranges.clamp(expected_counts(classifiers, codes).round().long())


@torch.no_grad()
def count_accuracy(network: CountClassifier, codes: Vectors, counts: Counts) -> Float[Tensor, " attributes"]:
    """Return the share of codes whose count is right, for each attribute (table 1b)."""
    right = [network.classify_counts(x) == y for x, y in zip(codes.split(4096), counts.split(4096), strict=True)]
    return torch.cat(right).float().mean(0)
