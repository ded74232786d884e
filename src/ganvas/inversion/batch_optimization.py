"""Codes that an encoder found, made better by some steps of Adam, many pictures at a time.

For small pictures of objects; ``optimization`` does it for faces, one by one. Offsets of rows pay for their length, as in e4e.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.inversion.object_loss import ObjectLoss
from ganvas.types import Images, WPlus


@dataclass(frozen=True)
class BatchOptimizationConfig:
    """How: ``rate`` in standard deviations of W a step; ``offset`` weighs the squared offsets, in variances of W, and
    ``prior`` the squared distance of the whole code from where it began."""

    steps: int = 40
    batch: int = 50
    rate: float = 0.05
    offset: float = 0.3
    prior: float = 0.1

    def __post_init__(self) -> None:
        if self.steps < 0 or self.batch < 1:
            raise GanvasError(f"Steps are 0 or more and a batch 1 or more, not {self.steps} and {self.batch}.")


def optimize_batch(
    images: Images,
    ws: WPlus,
    generator: Generator,
    likeness: ObjectLoss,
    space: str = "w+",
    options: BatchOptimizationConfig = BatchOptimizationConfig(),
) -> WPlus:
    """Codes whose pictures are more like ``images`` than those of ``ws`` (n, num_ws, w_dim); no picture gets worse by its loss.

    ``space`` "w": all rows move together. Raises GanvasError for another space.
    """
    if space not in ("w", "w+"):
        raise unknown("space", space, ("w", "w+"))
    deviation = w_deviation(generator)
    parts = zip(images.split(options.batch), ws.split(options.batch), strict=True)
    return torch.cat([_part(x, codes, generator, likeness, space, options, deviation) for x, codes in parts])


def w_deviation(generator: Generator, n: int = 2048) -> float:
    """The root mean variance of W: the unit of steps and penalties."""
    z = torch.randn(n, generator.z_dim, generator=torch.Generator().manual_seed(0)).to(generator.device)
    with torch.no_grad():
        return float(generator.mapping(z).var(0).mean().sqrt())


def _part(
    images: Tensor,
    ws: Tensor,
    generator: Generator,
    likeness: ObjectLoss,
    space: str,
    options: BatchOptimizationConfig,
    deviation: float,
) -> Tensor:
    start = ws.detach().mean(1, keepdim=True)
    base = torch.zeros_like(start).requires_grad_(True)
    offsets = ((ws.detach() - start) / deviation * (space == "w+")).requires_grad_(space == "w+")
    free = [base, offsets] if space == "w+" else [base]
    optimizer = torch.optim.Adam(free, options.rate, (0.9, 0.95))
    best, found = torch.full((len(ws),), math.inf, device=ws.device), ws.detach().clone()
    aim = likeness.aim(images)
    for step in range(options.steps + 1):
        with torch.enable_grad():
            codes = start + deviation * (base + offsets).expand_as(ws)
            missed, _ = likeness.missed(generator.synthesis(codes), aim)
            loss = missed + options.offset * offsets.square().mean((1, 2)) + options.prior * base.square().mean((1, 2))
        better = loss.detach() < best
        best = torch.where(better, loss.detach(), best)
        found = torch.where(better[:, None, None], codes.detach(), found)
        if step == options.steps:
            return found
        optimizer.param_groups[0]["lr"] = options.rate * 0.5 * (1 + math.cos(math.pi * step / options.steps))
        for value, slope in zip(free, torch.autograd.grad(loss.sum(), free), strict=True):
            value.grad = slope
        optimizer.step()
    return found
