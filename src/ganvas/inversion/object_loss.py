"""A loss between pictures of objects: pixels at several sizes, and the features of a counter.

It is for digits what ``perceptual_loss`` is for faces, and takes many pictures at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ganvas.generators import has_bfloat16_instructions
from ganvas.io.images import downscale
from ganvas.scorers.count import Counter, to_network_input
from ganvas.types import Images

HALVINGS = 4
"""Sizes at which pixels are compared: the coarse ones give gradients to strokes that lie elsewhere."""
MIN_VARIANCE = 1e-4
"""Smaller variances are raised to this."""


class CounterFeatures(NamedTuple):
    """A counter's outputs: ``features`` (n, …), compared place by place, and ``counts`` (n, m): logits of 0 … m - 1 objects."""

    features: Tensor
    counts: Tensor


class LossTargets(NamedTuple):
    """Target pictures at all sizes, and their features."""

    pixels: list[Tensor]
    features: Tensor


FeatureExtractor = Callable[[Images], CounterFeatures]


def extract_counter_features(counter: Counter) -> FeatureExtractor:
    """Make a differentiable function from pictures to a counter's features at each place and its count logits."""
    network = counter.network

    def extract_features(images: Images) -> CounterFeatures:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=has_bfloat16_instructions(images.device)):
            places = network.map_positions(to_network_input(images))
            return CounterFeatures(places.float(), network.count(network.sum_positions(places)).float())

    return extract_features


@dataclass(frozen=True)
class ObjectLoss:
    """Squared errors relative to the variances ``scales`` of the pixels at each size, then of the features."""

    extractor: FeatureExtractor
    scales: tuple[float, ...]
    pixels: float = 1.0
    features: float = 1.0

    @staticmethod
    @torch.no_grad()
    def fit_scales(
        extractor: FeatureExtractor, images: Images, pixels: float = 1.0, features: float = 1.0
    ) -> ObjectLoss:
        """Make a loss with the variances of these pictures as scales, and with these weights."""
        parts = [*build_pyramid(images), extractor(images).features]
        scales = tuple(max(float(x.var(0, correction=0).mean()), MIN_VARIANCE) for x in parts)
        return ObjectLoss(extractor, scales, pixels, features)

    @torch.no_grad()
    def prepare_targets(self, images: Images) -> LossTargets:
        """Prepare the targets that pictures are compared with."""
        return LossTargets(build_pyramid(images), self.extractor(images).features)

    def compute_loss(self, images: Images, targets: LossTargets) -> tuple[Tensor, Tensor]:
        """Compute each picture's loss, (n,), 0 for equal pictures and about 1 or 2 for any two, and the logits of its count."""
        levels = [
            compute_mean_squared_error(x, y) / scale
            for x, y, scale in zip(build_pyramid(images), targets.pixels, self.scales, strict=False)
        ]
        outputs = self.extractor(images)
        loss = self.pixels * torch.stack(levels).mean(0)
        return loss + self.features * compute_mean_squared_error(outputs.features, targets.features) / self.scales[
            -1
        ], outputs.counts


def build_pyramid(images: Images) -> list[Tensor]:
    """Return pictures at their size, half of it, and so on."""
    side = images.shape[-1]
    return [downscale(images, side >> k) for k in range(HALVINGS) if side >> k]


def compute_mean_squared_error(x: Tensor, y: Tensor) -> Tensor:
    """Compute the mean squared error of each picture, (n,)."""
    return (x - y).square().flatten(1).mean(1)
