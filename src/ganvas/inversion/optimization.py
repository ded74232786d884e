"""Codes found by optimisation: Adam on what tells the generator's picture from the photograph.

Abdal, Qin and Wonka, *Image2StyleGAN*, 2019, https://arxiv.org/abs/1904.03189 (W+), and Karras et al., *Analyzing and
Improving the Image Quality of StyleGAN*, 2020, https://arxiv.org/abs/1912.04958, appendix D (from w_avg, rates that
rise and fall; noise stays as it is here). Codes are searched in whitened coordinates, where every step is as likely as
any other and the distance from W is a norm: Zhu et al., *Improved StyleGAN Embedding: Where are the Good Latents?*,
2020, https://arxiv.org/abs/2012.09036. In W+ each row has an offset from a common w, penalised as in e4e.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.data.distribution import Distribution
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.inversion.perceptual_loss import PerceptualLoss
from ganvas.types import WPlus

StepCallback = Callable[[int], None]
WARMUP_SHARE = 0.05
"""The share of the steps in which the rate rises."""


@dataclass(frozen=True)
class OptimizationConfig:
    """How to search. ``steps`` at most: it ends sooner where ``patience`` steps made the loss no smaller than by the share
    ``tolerance``."""

    steps: int = 100
    learning_rate: float = 0.1
    tolerance: float = 0.01
    patience: int = 30
    prior: float = 0.02
    """Weighs the squared distance of the common w from the mean of W, in units of what drawn codes have."""
    offset: float = 0.2
    """Weighs the squared offsets of rows from the common w, in the same units."""
    refine: int = 3
    """How often the encoder looks at its own picture and corrects its code."""
    pixels: float = 1.0
    features: float = 1.0
    seen: float = 0.3
    """Weighs what the encoder sees, where there is one."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.patience < 1 or self.refine < 0:
            raise GanvasError(f"Steps and patience are at least 1, not {self.steps} and {self.patience}.")
        if not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise GanvasError(f"The learning rate is above 0, not {self.learning_rate}.")


@dataclass(frozen=True)
class WhitenedCoordinates:
    """Whitened coordinates of W, one standard deviation each, and back."""

    mean: Tensor
    whiten: Tensor
    unwhiten: Tensor

    @staticmethod
    def of(distribution: Distribution, device: torch.device) -> WhitenedCoordinates:
        """Those of a fitted distribution: its whitening is of orthogonal columns."""
        whiten = distribution.whitening.to(device)
        unwhiten = (whiten / whiten.square().sum(0)).T
        return WhitenedCoordinates(distribution.mean.to(device), whiten, unwhiten)

    def to(self, codes: Tensor) -> Tensor:
        """Coordinates of codes (…, w_dim)."""
        return (codes - self.mean) @ self.whiten

    def back(self, coordinates: Tensor) -> Tensor:
        """Codes (…, w_dim)."""
        return self.mean + coordinates @ self.unwhiten


def optimize(
    perception: PerceptualLoss,
    generator: Generator,
    start: WPlus,
    space: str,
    coordinates: WhitenedCoordinates,
    options: OptimizationConfig,
    tick: StepCallback = lambda step: None,
) -> tuple[WPlus, int]:
    """The best code found for one picture from ``start`` (1, num_ws, w_dim), and after how many steps it ended."""
    base = coordinates.to(start.mean(1)).detach().clone().requires_grad_(True)
    offsets = coordinates.to(start) - base.detach()[:, None]
    offsets = (offsets if space == "w+" else torch.zeros_like(offsets)).clone().requires_grad_(space == "w+")
    optimizer = torch.optim.Adam([base, offsets] if space == "w+" else [base], options.learning_rate, (0.9, 0.95))
    best, found, history = math.inf, start, []
    for step in range(options.steps):
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * _rate(step, options.steps)
        ws = coordinates.back(base[:, None] + offsets)
        loss = perception.distance(generator.synthesis(ws))
        loss = loss + options.prior * base.square().mean() + options.offset * offsets.square().mean()
        optimizer.zero_grad()
        loss.backward()
        if (value := loss.item()) < best:
            best, found = value, ws.detach()
        history.append(best)
        tick(step + 1)
        if step >= options.patience and best > (1 - options.tolerance) * history[-1 - options.patience]:
            return found, step + 1
        optimizer.step()
    return found, options.steps


def _rate(step: int, steps: int) -> float:
    """Up in a twentieth of the steps, then down along a cosine."""
    up = min(1.0, (step + 1) / max(1, WARMUP_SHARE * steps))
    return up * 0.5 * (1 + math.cos(math.pi * step / steps))


@torch.no_grad()
def refine(
    target: Tensor, generator: Generator, encode: Callable[[Tensor], Tensor], ws: WPlus, times: int
) -> tuple[WPlus, Tensor]:
    """A code corrected by what the encoder reads of its picture, and the picture (1, 3, side, side); the target may have another.

    An encoder's errors are alike for a picture and its own picture of it, so their difference corrects the code:
    ``ws + encode(target) - encode(picture)``. A correction that leaves the picture less like the target is dropped.
    """
    wanted, picture = encode(target), generator.synthesis(ws)
    now = encode(picture)
    for _ in range(times):
        trial = ws + (wanted - now)
        shown = generator.synthesis(trial)
        seen = encode(shown)
        if (seen - wanted).norm() >= (now - wanted).norm():
            break
        ws, picture, now = trial, shown, seen
    return ws, picture
