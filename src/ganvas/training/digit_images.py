"""Pictures of digits as the counter learns from them: changed, so that it has seen what generators draw.

Other sharpness, contrast and slant, noise, more digits than the set has, or none, and digits that are faint or in part
missing. Of a digit that fades or is cut, the target fades with it: the network learns not to be sure there.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ganvas.scorers.count import CLASSES, MAX_CLASS_COUNT, MAX_COUNT, SIDE

FAINT_RANGE = (0.15, 0.5)
"""A digit of this opacity, or of which this share is left, isn't there; of that one, it surely is."""


@dataclass(frozen=True)
class DigitImages:
    """``grey`` (n, 64, 64) uint8; ``boxes`` (n, digits, 4) in its pixels and ``digit_images`` (n, digits), -1 where
    there is none."""

    grey: Tensor
    boxes: Tensor
    digits: Tensor

    def __len__(self) -> int:
        return len(self.grey)

    def part(self, rows: Tensor | slice) -> DigitImages:
        """Some of them."""
        return DigitImages(self.grey[rows], self.boxes[rows], self.digits[rows])


@dataclass(frozen=True)
class DigitTargets:
    """How many digits and how many of each class are surely there, and one more (of class ``more``) with chance ``chance``."""

    count: Int[Tensor, " n"]
    classes: Int[Tensor, "n 10"]
    more: Int[Tensor, " n"]
    chance: Float[Tensor, " n"]

    def soft(self) -> tuple[Float[Tensor, "n counts"], Float[Tensor, "n 10 alike"]]:
        """As probabilities of each count."""
        one = F.one_hot(self.more, CLASSES)
        count = _soft(self.count, self.count + 1, self.chance, MAX_COUNT)
        return count, _soft(self.classes, self.classes + one, self.chance[:, None], MAX_CLASS_COUNT)


def draw_augmented(data: DigitImages, n: int, random: torch.Generator) -> tuple[Tensor, DigitTargets]:
    """``n`` pictures (n, 1, 64, 64) by chance, changed, and what they show."""
    first, second = (data.part(torch.randint(len(data), (n,), generator=random)) for _ in range(2))
    x, count = first.grey / 255, (first.digits >= 0).sum(1)
    classes = F.one_hot(first.digits + 1, CLASSES + 1).sum(1)[:, 1:]
    both = (torch.rand(n, generator=random) < 0.25) & ~_overlap(first.boxes, second.boxes)
    x = torch.where(both[:, None, None], torch.maximum(x, second.grey / 255), x)
    other = F.one_hot(second.digits + 1, CLASSES + 1).sum(1)[:, 1:]
    count, classes = count + both * other.sum(1), classes + both[:, None] * other
    x, more, chance, faded = _fade(x, first, random)
    # The digit that fades is no longer among those that are surely there.
    one = F.one_hot(more, CLASSES) * faded[:, None]
    targets = DigitTargets(count - faded.long(), classes - one, more, chance)
    return _look(x[:, None], random), targets


def _fade(
    images: Tensor, first: DigitImages, random: torch.Generator
) -> tuple[Tensor, Int[Tensor, " n"], Float[Tensor, " n"], Tensor]:
    """Some pictures with their first digit erased, faint or cut; its class, the chance that it's there, and which (bool)."""
    n = len(images)
    faded = (torch.rand(n, generator=random) < 0.35) & (first.digits[:, 0] >= 0)
    how = torch.randint(3, (n, 1, 1), generator=random)
    left = torch.rand(n, generator=random)
    y, x = (torch.arange(SIDE) + 0.5).reshape(-1, 1), (torch.arange(SIDE) + 0.5).reshape(1, -1)
    x0, y0, x1, y1 = (first.boxes[:, 0, k, None, None] for k in range(4))
    inside = (x > x0 - 1) & (x < x1 + 1) & (y > y0 - 1) & (y < y1 + 1) & faded[:, None, None]
    # Erased; faint; cut from above, below, the left or the right.
    edge = left[:, None, None]
    sides = torch.stack([(y - y0) / (y1 - y0) + 0 * x, (y1 - y) / (y1 - y0) + 0 * x, (x - x0) / (x1 - x0) + 0 * y])
    side = sides[torch.randint(3, (n,), generator=random), torch.arange(n)]
    kept = torch.where(how == 0, 0.0, torch.where(how == 1, edge, (side < edge).float()))
    changed = torch.where(inside, images * kept, images)
    before, after = (torch.where(inside, image, 0.0).sum((1, 2)) for image in (images, changed))
    chance = ((after / before.clamp(min=1e-3) - FAINT_RANGE[0]) / (FAINT_RANGE[1] - FAINT_RANGE[0])).clamp(0, 1)
    return changed, first.digits[:, 0].clamp(min=0), torch.where(faded, chance, 0.0), faded


def _look(x: Tensor, random: torch.Generator) -> Tensor:
    """Other sharpness, contrast, size, slant and noise."""

    def even(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(x), 1, 1, 1, generator=random)

    zoom, shear, turn = even(1.05, 1.25), even(-0.15, 0.15), even(-0.1, 0.1)
    rows = [torch.cat((zoom * turn.cos(), shear - turn.sin(), 0 * zoom), 3), torch.cat((turn.sin(), zoom, 0 * zoom), 3)]
    changed = F.grid_sample(x, F.affine_grid(torch.cat(rows, 2)[:, 0], list(x.shape), False), align_corners=False)
    # Half stay as they are: bilinear sampling softens.
    x = torch.where(even(0, 1) < 0.5, changed, x)
    x = torch.lerp(x, F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1), even(-0.5, 0.8)).clamp(0, 1)
    x = x.clamp(min=1e-6) ** even(0.6, 1.6) * even(0.7, 1.0) + even(-0.03, 0.06)
    noise = torch.randn(x.shape, generator=random) * even(0, 0.08) * (even(0, 1) < 0.5)
    return (x + noise).clamp(0, 1)


def _overlap(first: Tensor, second: Tensor, gap: float = 1.0) -> Tensor:
    """(n,) bool: whether any two boxes of the pairs (n, digits, 4) come nearer than ``gap``; empty ones never do."""
    a, b = first[:, :, None], second[:, None]
    apart = (a[..., 2] + gap <= b[..., 0]) | (b[..., 2] + gap <= a[..., 0])
    apart |= (a[..., 3] + gap <= b[..., 1]) | (b[..., 3] + gap <= a[..., 1])
    real = (a[..., 2] > a[..., 0]) & (b[..., 2] > b[..., 0])
    return (real & ~apart).any(2).any(1)


def _soft(low: Tensor, high: Tensor, chance: Tensor, most: int) -> Tensor:
    low, high = (F.one_hot(value.clamp(0, most), most + 1).float() for value in (low, high))
    return torch.lerp(low, high, chance[..., None])
