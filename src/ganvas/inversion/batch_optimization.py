"""Refine codes of an encoder by some steps of Adam, many pictures at a time.

For small pictures of objects; ``optimization`` is for faces, one by one. Offsets of rows are penalised, as in e4e.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ganvas.errors import unknown
from ganvas.generators.base import Generator
from ganvas.inversion.object_loss import ObjectLoss
from ganvas.types import Images, WPlus
from ganvas.validation import Natural, NonNegative, Positive, PositiveInt, validated


@validated
class BatchOptimizationConfig:
    """Settings: ``rate`` in standard deviations of W a step; ``offset`` weighs the squared offsets, in variances of W, and
    ``prior`` the squared distance of the whole code from its start."""

    steps: Natural = 40
    batch: PositiveInt = 50
    rate: Positive = 0.05
    offset: NonNegative = 0.3
    prior: NonNegative = 0.1


def optimize_batch(
    images: Images,
    ws: WPlus,
    generator: Generator,
    object_loss: ObjectLoss,
    space: str = "w+",
    config: BatchOptimizationConfig = BatchOptimizationConfig(),
) -> WPlus:
    """Optimise codes ``ws`` (n, num_ws, w_dim) so that their pictures resemble ``images``; no picture's loss gets larger.

    ``space`` "w": all rows move together. Raises GanvasError for another space.
    """
    if space not in ("w", "w+"):
        raise unknown("space", space, ("w", "w+"))
    deviation = compute_w_deviation(generator)
    parts = zip(images.split(config.batch), ws.split(config.batch), strict=True)
    return torch.cat([_optimize_part(x, codes, generator, object_loss, space, config, deviation) for x, codes in parts])


def compute_w_deviation(generator: Generator, n: int = 2048) -> float:
    """Estimate the root mean variance of W, the unit of steps and penalties."""
    z = torch.randn(n, generator.z_dim, generator=torch.Generator().manual_seed(0)).to(generator.device)
    with torch.no_grad():
        return float(generator.mapping(z).var(0).mean().sqrt())


def _optimize_part(
    images: Tensor,
    ws: Tensor,
    generator: Generator,
    object_loss: ObjectLoss,
    space: str,
    config: BatchOptimizationConfig,
    deviation: float,
) -> Tensor:
    start = ws.detach().mean(1, keepdim=True)
    base = torch.zeros_like(start).requires_grad_(True)
    offsets = ((ws.detach() - start) / deviation * (space == "w+")).requires_grad_(space == "w+")
    free = [base, offsets] if space == "w+" else [base]
    optimizer = torch.optim.Adam(free, config.rate, (0.9, 0.95))
    best, best_codes = torch.full((len(ws),), math.inf, device=ws.device), ws.detach().clone()
    targets = object_loss.prepare_targets(images)
    for step in range(config.steps + 1):
        with torch.enable_grad():
            codes = start + deviation * (base + offsets).expand_as(ws)
            error, _ = object_loss.compute_loss(generator.synthesis(codes), targets)
            loss = error + config.offset * offsets.square().mean((1, 2)) + config.prior * base.square().mean((1, 2))
        improved = loss.detach() < best
        best = torch.where(improved, loss.detach(), best)
        best_codes = torch.where(improved[:, None, None], codes.detach(), best_codes)
        if step == config.steps:
            return best_codes
        optimizer.param_groups[0]["lr"] = config.rate * 0.5 * (1 + math.cos(math.pi * step / config.steps))
        for value, slope in zip(free, torch.autograd.grad(loss.sum(), free), strict=True):
            value.grad = slope
        optimizer.step()
    return best_codes
