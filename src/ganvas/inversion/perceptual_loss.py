"""A perceptual distance between faces: pixels at several sizes, and the features of networks that ship.

Features as in Zhang et al., *The Unreasonable Effectiveness of Deep Features as a Perceptual Metric*, 2018,
https://arxiv.org/abs/1801.03924: normalised over the channels at each place, then compared. LPIPS's own weights don't
ship; the features are those of celeba40, an EfficientNet-Lite0 trained on ImageNet, then on attributes of faces.
faceres' descriptor stands for identity. Of the judges (``ganvas.identity``) fr_feature is read by no loss, stop rule or choice;
dlib's embedding was in the loss of the encoder that ships, whose features this loss reads.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.inversion.encoder import Encoder
from ganvas.io.images import downscale
from ganvas.scorers import load_scorer
from ganvas.scorers.celeba40 import AttributeNetwork, Celeba40, NetworkEnsemble
from ganvas.scorers.face_attributes import load_faceres
from ganvas.types import Images

SIDES = (256, 64, 32)
"""The sides of the pictures whose pixels are compared."""
FEATURE_SIDE = 160
"""The side of the pictures that features are taken of: the network was trained on 80, its first layers on 224."""
TAPS = (0, 2, 4, 7, 10)
"""The blocks of EfficientNet-Lite0 whose features count: at a half, a quarter, an eighth and twice a sixteenth."""
MIN_SIDE = 128
"""Smaller pictures are compared by pixels alone."""


class PerceptualLoss:
    """The perceptual distance of pictures to one target (1, 3, side, side)."""

    def __init__(
        self, target: Images, encoder: Encoder | None = None, weights: tuple[float, ...] = (1, 1, 0.3, 0)
    ) -> None:
        """``weights``: of pixels, features, the encoder's features, and faceres' descriptor of FFHQ-aligned faces."""
        self.weights, self.encoder = weights, encoder
        self.network = _load_network() if target.shape[-1] >= MIN_SIDE else None
        self.faceres = load_faceres(str(target.device)) if weights[3] and target.shape[-1] >= MIN_SIDE else None
        self.sides = [side for side in SIDES if side <= target.shape[-1]] or [target.shape[-1]]
        with torch.no_grad():
            self.target = [downscale(target, side) for side in self.sides]
            self.features, self.encoder_features = self._extract_features(target), self._encode_features(target)
            self.descriptor = self._describe_face(target)

    def compute_distance(self, picture: Images) -> Tensor:
        """Compute the distance of a picture (1, 3, side, side), differentiable; 0 for equal pictures."""
        pixel_weight, feature_weight, encoder_weight, identity_weight = self.weights
        # Absolute and squared errors: the first keeps edges, the second follows large areas.
        total = picture.new_zeros(())
        for side, target in zip(self.sides, self.target, strict=True):
            error = downscale(picture, side) - target
            total = total + pixel_weight / len(self.sides) * (error.abs().mean() + 2 * error.square().mean())
        for mine, target in zip(self._extract_features(picture), self.features, strict=True):
            total = total + feature_weight / len(TAPS) * (mine - target).square().sum(1).mean()
        encoded = self._encode_features(picture) if encoder_weight else None
        if encoded is not None and self.encoder_features is not None:
            total = total + encoder_weight * (1 - F.cosine_similarity(encoded, self.encoder_features).mean())
        described = self._describe_face(picture)
        if described is not None and self.descriptor is not None:
            total = total + identity_weight * (1 - F.cosine_similarity(described, self.descriptor).mean())
        return total

    def _extract_features(self, picture: Images) -> list[Tensor]:
        if self.network is None or not self.weights[1]:
            return []
        network = self.network.features
        x = network.stem(downscale(picture, FEATURE_SIDE).contiguous(memory_format=torch.channels_last))
        outputs = []
        for i, block in enumerate(network.blocks):
            x = block(x)
            if i in TAPS:
                outputs.append(x * torch.rsqrt(x.square().sum(1, keepdim=True) + 1e-6))
        return outputs

    def _encode_features(self, picture: Images) -> Tensor | None:
        if self.encoder is None:
            return None
        return self.encoder.network.compute_features(self.encoder.prepare_images(picture)).float()

    def _describe_face(self, picture: Images) -> Tensor | None:
        if self.faceres is None or picture.shape[-1] < MIN_SIDE:
            return None
        return self.faceres.describe(picture)


def _load_network() -> AttributeNetwork | None:
    scorer = load_scorer("celeba40")
    if not isinstance(scorer, Celeba40):
        return None
    networks = scorer.network.networks if isinstance(scorer.network, NetworkEnsemble) else [scorer.network]
    return next((network for network in networks if isinstance(network, AttributeNetwork)), None)
