"""Train a linear layer on frozen features by ridge regression, without augmentation: features are computed once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.scorers.networks.dlib_features import FrozenNetwork
from ganvas.training.celeba import CALIBRATION_TENTH, TEST_TENTH, FaceSet
from ganvas.training.scorer import fit_platt

PENALTY = 2.0
"""The weight of the squared coefficients, for standardised features divided by the root of their number."""
STEEPNESS = 8.0
"""Logits for each 1 of the regression's prediction, before they are calibrated."""
MIN_FACES = 100
"""The fewest faces that a linear layer is trained on."""


def extract_features(network: FrozenNetwork, pixels: Tensor, report: Callable[[str], None], batch: int = 64) -> Tensor:
    """Compute the features (n, WIDTH), float16, of uint8 pictures (n, 3, size, size)."""
    features = []
    with torch.no_grad():
        for part in pixels.split(batch):
            features.append(network.describe(part.float() / 127.5 - 1).half())
            if len(features) % 20 == 0:
                report(f"computed the features of {sum(map(len, features))} faces")
    return torch.cat(features)


def train(faces: FaceSet, network: FrozenNetwork, report: Callable[[str], None] = print) -> tuple[Tensor, Tensor]:
    """Fit ``network.reading`` on the faces outside the test and calibration tenths; return scale and offset as ``fit_platt``.

    Raises GanvasError for too few faces.
    """
    return fit_reading(extract_features(network, faces.pixels, report), faces, network)


@torch.no_grad()
def fit_reading(features: Tensor, faces: FaceSet, network: FrozenNetwork) -> tuple[Tensor, Tensor]:
    """Fit as ``train`` does, on features that are computed already."""
    trained, held_out = (
        (faces.tenths != TEST_TENTH) & (faces.tenths != CALIBRATION_TENTH),
        faces.tenths == CALIBRATION_TENTH,
    )
    if int(trained.sum()) < MIN_FACES:
        raise GanvasError(
            f"Training takes at least {MIN_FACES} faces outside the held-out tenths, not {int(trained.sum())}."
        )
    x, labels = features[trained].float(), faces.labels[trained]
    # The 0.05 keeps a feature that hardly varies small.
    mean, spread = x.mean(0), (x.std(0) + 0.05) * x.shape[1] ** 0.5
    x, y = (x - mean) / spread, labels - labels.mean(0)
    # With more features than faces the dual system is the smaller one.
    factor = torch.linalg.cholesky(x @ x.T + PENALTY * torch.eye(len(x)))
    weight = (x.T @ torch.cholesky_solve(y, factor)).T / spread
    # Ridge regression predicts about a probability, from 0 to 1: logits are steeper.
    network.reading.weight.copy_(STEEPNESS * weight)
    network.reading.bias.copy_(STEEPNESS * (labels.mean(0) - 0.5 - weight @ mean))
    return fit_platt(network.reading(features[held_out].float()), faces.labels[held_out])
