"""How unlike two pictures of objects are: pixels at several sizes, and what a counter sees in them.

For digits what ``perceptual_loss`` is for faces, of many pictures at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ganvas.io.images import downscale
from ganvas.scorers.count import Counter, to_network_input
from ganvas.types import Images

HALVINGS = 4
"""Sizes at which pixels are compared: a stroke that lies elsewhere is told where to go by the coarse ones."""
MIN_VARIANCE = 1e-4
"""Variances below count as this."""


class CounterFeatures(NamedTuple):
    """``features`` (n, …), compared place by place, and ``counts`` (n, m): logits of 0 … m - 1 objects."""

    features: Tensor
    counts: Tensor


class LossTargets(NamedTuple):
    """Pictures at all sizes, and their features."""

    pixels: list[Tensor]
    features: Tensor


FeatureExtractor = Callable[[Images], CounterFeatures]


def counter_features(counter: Counter) -> FeatureExtractor:
    """What a counter sees at each place, and how many it counts; differentiable."""
    network = counter.network

    def look(images: Images) -> CounterFeatures:
        with torch.autocast(images.device.type, torch.bfloat16):
            places = network.map_positions(to_network_input(images))
            return CounterFeatures(places.float(), network.count(network.sum_positions(places)).float())

    return look


@dataclass(frozen=True)
class ObjectLoss:
    """Squared errors as shares of what pictures vary: ``scales``, of the pixels at each size, then of the features."""

    eye: FeatureExtractor
    scales: tuple[float, ...]
    pixels: float = 1.0
    features: float = 1.0

    @staticmethod
    @torch.no_grad()
    def of(eye: FeatureExtractor, images: Images, pixels: float = 1.0, features: float = 1.0) -> ObjectLoss:
        """On the scale of these pictures' variances, with those weights."""
        parts = [*pyramid(images), eye(images).features]
        scales = tuple(max(float(x.var(0, correction=0).mean()), MIN_VARIANCE) for x in parts)
        return ObjectLoss(eye, scales, pixels, features)

    @torch.no_grad()
    def aim(self, images: Images) -> LossTargets:
        """What pictures should be like."""
        return LossTargets(pyramid(images), self.eye(images).features)

    def missed(self, images: Images, aim: LossTargets) -> tuple[Tensor, Tensor]:
        """The loss of each picture, (n,), and the logits of its count; 0 for equal pictures, about 1 or 2 for any two."""
        levels = [
            mean_squared_error(x, y) / scale
            for x, y, scale in zip(pyramid(images), aim.pixels, self.scales, strict=False)
        ]
        seen = self.eye(images)
        found = self.pixels * torch.stack(levels).mean(0)
        return found + self.features * mean_squared_error(seen.features, aim.features) / self.scales[-1], seen.counts


def pyramid(images: Images) -> list[Tensor]:
    """Pictures at their size, half of it, and so on."""
    side = images.shape[-1]
    return [downscale(images, side >> k) for k in range(HALVINGS) if side >> k]


def mean_squared_error(x: Tensor, y: Tensor) -> Tensor:
    """The mean squared error of each picture, (n,)."""
    return (x - y).square().flatten(1).mean(1)
