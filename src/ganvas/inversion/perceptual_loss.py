"""How unlike two faces look: pixels at several sizes, and the features of networks that ship.

Features as in Zhang et al., *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric*, 2018,
https://arxiv.org/abs/1801.03924: normalised over the channels at each place, then compared. LPIPS's own weights aren't
at hand; the features are those of celeba40, an EfficientNet-Lite0 of ImageNet that then learned to read faces.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.inversion.encoder import Encoder
from ganvas.io.images import downscale
from ganvas.scorers import load_scorer
from ganvas.scorers.celeba40 import AttributeNetwork, Celeba40, NetworkEnsemble
from ganvas.types import Images

SIDES = (256, 64, 32)
"""Of the pictures whose pixels are compared."""
FEATURE_SIDE = 160
"""Of the pictures that features are taken of: the network learned on 80, its first layers on 224."""
TAPS = (0, 2, 4, 7, 10)
"""The blocks of EfficientNet-Lite0 whose features count: at a half, a quarter, an eighth and twice a sixteenth."""
MIN_SIDE = 128
"""Smaller pictures show no face, and are compared by pixels alone."""


class PerceptualLoss:
    """What one picture (1, 3, side, side) looks like, and how unlike it another is: ``distance``."""

    def __init__(
        self, target: Images, encoder: Encoder | None = None, weights: tuple[float, ...] = (1, 1, 0.3)
    ) -> None:
        """``weights``: of pixels, features, and what the encoder sees."""
        self.weights, self.encoder = weights, encoder
        self.network = _network() if target.shape[-1] >= MIN_SIDE else None
        self.sides = [side for side in SIDES if side <= target.shape[-1]] or [target.shape[-1]]
        with torch.no_grad():
            self.target = [downscale(target, side) for side in self.sides]
            self.features, self.seen = self._features(target), self._seen(target)

    def distance(self, picture: Images) -> Tensor:
        """0 for equal pictures; differentiable."""
        pixels, features, seen = self.weights
        # Absolute and squared errors: the first keeps edges, the second follows large areas.
        found = picture.new_zeros(())
        for side, target in zip(self.sides, self.target, strict=True):
            error = downscale(picture, side) - target
            found = found + pixels / len(self.sides) * (error.abs().mean() + 2 * error.square().mean())
        for mine, theirs in zip(self._features(picture), self.features, strict=True):
            found = found + features / len(TAPS) * (mine - theirs).square().sum(1).mean()
        if self.encoder is not None and self.seen is not None and seen:
            found = found + seen * (1 - F.cosine_similarity(_see(self.encoder, picture), self.seen).mean())
        return found

    def _features(self, picture: Images) -> list[Tensor]:
        if self.network is None or not self.weights[1]:
            return []
        network = self.network.features
        x = network.stem(downscale(picture, FEATURE_SIDE).contiguous(memory_format=torch.channels_last))
        found = []
        for i, block in enumerate(network.blocks):
            x = block(x)
            if i in TAPS:
                found.append(x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-6))
        return found

    def _seen(self, picture: Images) -> Tensor | None:
        return None if self.encoder is None else _see(self.encoder, picture)


def _see(encoder: Encoder, picture: Images) -> Tensor:
    return encoder.network.features(encoder.look(picture)).float()


def _network() -> AttributeNetwork | None:
    scorer = load_scorer("celeba40")
    if not isinstance(scorer, Celeba40):
        return None
    found = scorer.network.networks if isinstance(scorer.network, NetworkEnsemble) else [scorer.network]
    return next((network for network in found if isinstance(network, AttributeNetwork)), None)
