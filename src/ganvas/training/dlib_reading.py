"""Trains a linear reading of frozen features by ridge regression: no pictures are changed, and each is described once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.scorers.networks.dlib_features import FrozenNetwork
from ganvas.training.celeba import CALIBRATION, TEST, FaceSet
from ganvas.training.scorer import fit_platt

PENALTY = 2.0
"""Of the squared weights, for standardised features that are divided by the root of their number."""
MIN_FACES = 100
"""Faces that a reading takes."""


def extract_features(network: FrozenNetwork, pixels: Tensor, report: Callable[[str], None], batch: int = 64) -> Tensor:
    """Features (n, WIDTH), float16, of uint8 pictures (n, 3, size, size)."""
    found = []
    with torch.no_grad():
        for part in pixels.split(batch):
            found.append(network.describe(part.float() / 127.5 - 1).half())
            if len(found) % 20 == 0:
                report(f"described {sum(map(len, found))} faces")
    return torch.cat(found)


def train(faces: FaceSet, network: FrozenNetwork, report: Callable[[str], None] = print) -> tuple[Tensor, Tensor]:
    """Learn ``network.reading`` on the faces outside the test and calibration tenths; (scale, offset) of ``scorers.base.platt``.

    Raises GanvasError for too few faces.
    """
    return learn(extract_features(network, faces.pixels, report), faces, network)


@torch.no_grad()
def learn(features: Tensor, faces: FaceSet, network: FrozenNetwork) -> tuple[Tensor, Tensor]:
    """``train`` on features that are known."""
    seen, held_out = (faces.tenths != TEST) & (faces.tenths != CALIBRATION), faces.tenths == CALIBRATION
    if int(seen.sum()) < MIN_FACES:
        raise GanvasError(
            f"Training takes at least {MIN_FACES} faces outside the held-out tenths, not {int(seen.sum())}."
        )
    x, labels = features[seen].float(), faces.labels[seen]
    # A feature that hardly varies stays small.
    mean, spread = x.mean(0), (x.std(0) + 0.05) * x.shape[1] ** 0.5
    x, y = (x - mean) / spread, labels - labels.mean(0)
    # With more features than faces the faces' own equations are the smaller ones.
    factor = torch.linalg.cholesky(x @ x.T + PENALTY * torch.eye(len(x)))
    weight = (x.T @ torch.cholesky_solve(y, factor)).T / spread
    # A ridge's numbers are a probability's, about: from 0 to 1. Logits are steeper.
    network.reading.weight.copy_(STEEPNESS * weight)
    network.reading.bias.copy_(STEEPNESS * (labels.mean(0) - 0.5 - weight @ mean))
    return fit_platt(network.reading(features[held_out].float()), faces.labels[held_out])


STEEPNESS = 8.0
"""Logits for each 1 of a ridge's answer, before they are calibrated."""
