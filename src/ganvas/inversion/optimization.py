"""Find codes by optimisation: Adam on a distance between the generator's picture and the photograph.

Abdal, Qin and Wonka, *Image2StyleGAN*, 2019, https://arxiv.org/abs/1904.03189 (W+), and Karras et al., *Analyzing and
Improving the Image Quality of StyleGAN*, 2020, https://arxiv.org/abs/1912.04958, appendix D (from w_avg, rates that
rise and fall; the noise isn't optimised here). Codes are optimised in whitened coordinates, where all directions have
the same variance and the distance from the mean of W is a norm: Zhu et al., *Improved StyleGAN Embedding: Where are the
Good Latents?*, 2020, https://arxiv.org/abs/2012.09036. In W+ each row has an offset from a common w, penalised as in e4e.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.data.distribution import Distribution
from ganvas.generators.base import Generator
from ganvas.inversion.perceptual_loss import PerceptualLoss
from ganvas.types import Images, WPlus
from ganvas.validation import Natural, NonNegative, Positive, PositiveInt, validated

StepCallback = Callable[[int, int, Images, WPlus], object]
"""Called after each step with the steps done, the most steps, the picture, and the best code so far; True stops it there."""
WARMUP_STEPS = 4
"""The steps in which the learning rate rises; the time that they take says how many fit into a budget."""
MAX_BUDGET_STEPS = 1000
"""The most steps within a budget of time."""


@validated
class OptimizationConfig:
    """Settings. At most ``steps``; fewer where the loss fell by less than the share ``tolerance`` in ``patience`` steps."""

    steps: PositiveInt = 100
    seconds: NonNegative = 0.0
    """Instead of ``steps``: as many as are expected to end in this time; 0: ``steps``."""
    side: PositiveInt = 256
    """The side of the pictures that are compared: generators draw smaller ones early."""
    learning_rate: Positive = 0.1
    tolerance: NonNegative = 0.01
    patience: PositiveInt = 30
    prior: NonNegative = 0.02
    """Weighs the squared distance of the common w from the mean of W, in units of that of drawn codes."""
    offset: NonNegative = 0.2
    """Weighs the squared offsets of rows from the common w, in the same units."""
    refine: Natural = 3
    """How often the encoder encodes the picture of its code, to correct the code."""
    pixels: NonNegative = 1.0
    features: NonNegative = 1.0
    seen: NonNegative = 0.3
    """Weighs the distance between the encoder's features, where there is an encoder."""
    identity: NonNegative = 1.0
    """Weighs the distance between faceres' descriptors, for generators whose card says that they draw faces."""


@dataclass(frozen=True)
class WhitenedCoordinates:
    """Whitened coordinates of W: each has a standard deviation of 1."""

    mean: Tensor
    whitening: Tensor
    unwhitening: Tensor
    bound: float
    """The largest norm of the coordinates of a code within the distribution."""

    @staticmethod
    def from_distribution(distribution: Distribution, device: torch.device) -> WhitenedCoordinates:
        """Make the coordinates of a fitted distribution, whose whitening has orthogonal columns."""
        whitening = distribution.whitening.to(device)
        unwhitening = (whitening / whitening.square().sum(0)).T
        return WhitenedCoordinates(distribution.mean.to(device), whitening, unwhitening, distribution.bound)

    def whiten(self, codes: Tensor) -> Tensor:
        """Return the coordinates of codes (…, w_dim)."""
        return (codes - self.mean) @ self.whitening

    def unwhiten(self, coordinates: Tensor) -> Tensor:
        """Return the codes (…, w_dim) of coordinates."""
        return self.mean + coordinates @ self.unwhitening


def optimize_code(
    loss_function: PerceptualLoss,
    generator: Generator,
    start: WPlus,
    space: str,
    coordinates: WhitenedCoordinates,
    config: OptimizationConfig,
    on_step: StepCallback = lambda step, steps, picture, ws: None,
) -> tuple[WPlus, int, int]:
    """Optimise the code of one picture from ``start`` (1, num_ws, w_dim), its rows within the bound of W.

    Return the best code, the number of steps, and the ``steps`` that give the same code without a budget of time.
    """
    base = coordinates.whiten(start.mean(1)).detach().clone().requires_grad_(True)
    offsets = coordinates.whiten(start) - base.detach()[:, None]
    offsets = (offsets if space == "w+" else torch.zeros_like(offsets)).clone().requires_grad_(space == "w+")
    optimizer = torch.optim.Adam([base, offsets] if space == "w+" else [base], config.learning_rate, (0.9, 0.95))
    best, best_ws, history = math.inf, start, []
    _limit_norm(base, offsets, coordinates.bound)
    side, started = min(config.side, generator.resolution), time.monotonic()
    steps, step = MAX_BUDGET_STEPS if config.seconds else config.steps, 0
    while step < steps:
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * _rate_factor(step, steps)
        ws = coordinates.unwhiten(base[:, None] + offsets)
        picture = generator.synthesis(ws, resolution=side)
        loss = loss_function.compute_distance(picture)
        loss = loss + config.prior * base.square().mean() + config.offset * offsets.square().mean()
        optimizer.zero_grad()
        loss.backward()
        if (value := loss.item()) < best:
            best, best_ws = value, ws.detach()
        history.append(best)
        step += 1
        if config.seconds and step == WARMUP_STEPS:
            spent = time.monotonic() - started
            steps = min(max(WARMUP_STEPS, int(WARMUP_STEPS * config.seconds / spent)), MAX_BUDGET_STEPS)
        stopped = on_step(step, steps, picture.detach(), best_ws)
        if stopped is True or (
            step > config.patience and best > (1 - config.tolerance) * history[-1 - config.patience]
        ):
            break
        optimizer.step()
        _limit_norm(base, offsets, coordinates.bound)
    return best_ws, step, steps


def _rate_factor(step: int, steps: int) -> float:
    """Return the factor of the learning rate: it rises over WARMUP_STEPS steps, then falls along a cosine."""
    if step < WARMUP_STEPS:
        return (step + 1) / WARMUP_STEPS
    return 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (steps - WARMUP_STEPS)))


@torch.no_grad()
def _limit_norm(base: Tensor, offsets: Tensor, bound: float) -> None:
    """Scale rows whose norm is larger than ``bound`` to it, in place."""
    base.mul_((bound / base.norm(dim=-1, keepdim=True)).clamp(max=1))
    rows = base[:, None] + offsets
    rows = rows * (bound / rows.norm(dim=-1, keepdim=True)).clamp(max=1)
    # In W all rows are the base, which is within the bound.
    if offsets.requires_grad:
        offsets.copy_(rows - base[:, None])


@torch.no_grad()
def refine_code(
    target: Tensor, generator: Generator, encode: Callable[[Tensor], Tensor], ws: WPlus, rounds: int
) -> tuple[WPlus, Tensor]:
    """Correct a code by the encoder's code of its picture; return it and its picture (1, 3, side, side).

    An encoder makes similar errors for a picture and for the picture of its code, so their difference corrects the code:
    ``ws + encode(target) - encode(picture)``. A correction that moves the picture away from the target is dropped.
    The target's side may differ from the picture's.
    """
    target_code, picture = encode(target), generator.synthesis(ws)
    code = encode(picture)
    for _ in range(rounds):
        trial = ws + (target_code - code)
        trial_picture = generator.synthesis(trial)
        trial_code = encode(trial_picture)
        if (trial_code - target_code).norm() >= (code - target_code).norm():
            break
        ws, picture, code = trial, trial_picture, trial_code
    return ws, picture
