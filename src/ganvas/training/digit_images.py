"""The augmentation of digit pictures for the counter, towards what generators draw.

Other sharpness, contrast and slant, noise, more digits than the set has, or none, and digits that are faint or in part
missing. The target of a digit that is faint or cut is a probability: the network learns not to be sure of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ganvas.scorers.count import CLASSES, MAX_CLASS_COUNT, MAX_COUNT, SIDE

FAINT_RANGE = (0.15, 0.5)
"""A digit whose remaining share of ink is at most the first counts as absent, from the second on as present."""


@dataclass(frozen=True)
class DigitImages:
    """Pictures ``grey`` (n, 64, 64) uint8 with ``boxes`` (n, digits, 4) in pixels and ``digits`` (n, digits), -1 where
    there is none."""

    grey: Tensor
    boxes: Tensor
    digits: Tensor

    def __len__(self) -> int:
        return len(self.grey)

    def select(self, rows: Tensor | slice) -> DigitImages:
        """Return the pictures of these rows."""
        return DigitImages(self.grey[rows], self.boxes[rows], self.digits[rows])


@dataclass(frozen=True)
class DigitTargets:
    """The number of digits, and of each class, that are present, and one more (of class ``more``) with probability ``chance``."""

    count: Int[Tensor, " n"]
    classes: Int[Tensor, "n 10"]
    more: Int[Tensor, " n"]
    chance: Float[Tensor, " n"]

    def to_probabilities(self) -> tuple[Float[Tensor, "n counts"], Float[Tensor, "n 10 alike"]]:
        """Return the probability of each count, and of each count of each class."""
        one_hot = F.one_hot(self.more, CLASSES)
        count = _interpolate_one_hot(self.count, self.count + 1, self.chance, MAX_COUNT)
        return count, _interpolate_one_hot(self.classes, self.classes + one_hot, self.chance[:, None], MAX_CLASS_COUNT)


def draw_augmented(data: DigitImages, n: int, random: torch.Generator) -> tuple[Tensor, DigitTargets]:
    """Draw ``n`` random pictures (n, 1, 64, 64), augmented, and their targets."""
    first, second = (data.select(torch.randint(len(data), (n,), generator=random)) for _ in range(2))
    x, count = first.grey / 255, (first.digits >= 0).sum(1)
    classes = F.one_hot(first.digits + 1, CLASSES + 1).sum(1)[:, 1:]
    combined = (torch.rand(n, generator=random) < 0.25) & ~_overlap(first.boxes, second.boxes)
    x = torch.where(combined[:, None, None], torch.maximum(x, second.grey / 255), x)
    added = F.one_hot(second.digits + 1, CLASSES + 1).sum(1)[:, 1:]
    count, classes = count + combined * added.sum(1), classes + combined[:, None] * added
    x, more, chance, faded = _fade_first_digits(x, first, random)
    # The faded digit is no longer among those that are surely present.
    one_hot = F.one_hot(more, CLASSES) * faded[:, None]
    targets = DigitTargets(count - faded.long(), classes - one_hot, more, chance)
    return _distort(x[:, None], random), targets


def _fade_first_digits(
    images: Tensor, first: DigitImages, random: torch.Generator
) -> tuple[Tensor, Int[Tensor, " n"], Float[Tensor, " n"], Tensor]:
    """Erase, fade or cut the first digit of some pictures; return them, its class, the probability that it is present, and
    which pictures changed (bool)."""
    n = len(images)
    faded = (torch.rand(n, generator=random) < 0.35) & (first.digits[:, 0] >= 0)
    kind = torch.randint(3, (n, 1, 1), generator=random)
    remaining = torch.rand(n, generator=random)
    y, x = (torch.arange(SIDE) + 0.5).reshape(-1, 1), (torch.arange(SIDE) + 0.5).reshape(1, -1)
    x0, y0, x1, y1 = (first.boxes[:, 0, k, None, None] for k in range(4))
    inside = (x > x0 - 1) & (x < x1 + 1) & (y > y0 - 1) & (y < y1 + 1) & faded[:, None, None]
    # Erased; faint; cut from above, below, the left or the right.
    edge = remaining[:, None, None]
    sides = torch.stack([(y - y0) / (y1 - y0) + 0 * x, (y1 - y) / (y1 - y0) + 0 * x, (x - x0) / (x1 - x0) + 0 * y])
    side = sides[torch.randint(3, (n,), generator=random), torch.arange(n)]
    kept = torch.where(kind == 0, 0.0, torch.where(kind == 1, edge, (side < edge).float()))
    changed = torch.where(inside, images * kept, images)
    before, after = (torch.where(inside, image, 0.0).sum((1, 2)) for image in (images, changed))
    chance = ((after / before.clamp(min=1e-3) - FAINT_RANGE[0]) / (FAINT_RANGE[1] - FAINT_RANGE[0])).clamp(0, 1)
    return changed, first.digits[:, 0].clamp(min=0), torch.where(faded, chance, 0.0), faded


def _distort(x: Tensor, random: torch.Generator) -> Tensor:
    """Change sharpness, contrast, size and slant at random, and add noise."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(x), 1, 1, 1, generator=random)

    zoom, shear, turn = uniform(1.05, 1.25), uniform(-0.15, 0.15), uniform(-0.1, 0.1)
    rows = [torch.cat((zoom * turn.cos(), shear - turn.sin(), 0 * zoom), 3), torch.cat((turn.sin(), zoom, 0 * zoom), 3)]
    changed = F.grid_sample(x, F.affine_grid(torch.cat(rows, 2)[:, 0], list(x.shape), False), align_corners=False)
    # Half stay as they are: bilinear sampling softens.
    x = torch.where(uniform(0, 1) < 0.5, changed, x)
    x = torch.lerp(x, F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1), uniform(-0.5, 0.8)).clamp(0, 1)
    x = x.clamp(min=1e-6) ** uniform(0.6, 1.6) * uniform(0.7, 1.0) + uniform(-0.03, 0.06)
    noise = torch.randn(x.shape, generator=random) * uniform(0, 0.08) * (uniform(0, 1) < 0.5)
    return (x + noise).clamp(0, 1)


def _overlap(first: Tensor, second: Tensor, gap: float = 1.0) -> Tensor:
    """Return whether any two boxes of the pairs (n, digits, 4) are nearer than ``gap``, (n,) bool; empty ones never are."""
    a, b = first[:, :, None], second[:, None]
    apart = (a[..., 2] + gap <= b[..., 0]) | (b[..., 2] + gap <= a[..., 0])
    apart |= (a[..., 3] + gap <= b[..., 1]) | (b[..., 3] + gap <= a[..., 1])
    real = (a[..., 2] > a[..., 0]) & (b[..., 2] > b[..., 0])
    return (real & ~apart).any(2).any(1)


def _interpolate_one_hot(low: Tensor, high: Tensor, chance: Tensor, largest: int) -> Tensor:
    low, high = (F.one_hot(value.clamp(0, largest), largest + 1).float() for value in (low, high))
    return torch.lerp(low, high, chance[..., None])
