"""The Fréchet distance between two sets of pictures, in the features of a network.

Heusel et al., *GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium*, 2017,
https://arxiv.org/abs/1706.08500, equation 6. In the features of Inception it is the FID; in those of another network, such
as a digit counter, it has another scale, and only values of the same network can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.images import to_bytes
from ganvas.types import Images

Features = Float[Tensor, "n features"]


def compute_frechet_distance(x_features: Float[Tensor, "n features"], y_features: Float[Tensor, "m features"]) -> float:
    """Return the squared Fréchet distance between Gaussians fitted to two sets of features.

    ``|μ₁ - μ₂|² + tr(Σ₁ + Σ₂ - 2 (Σ₁ Σ₂)^½)``, in float64. Raises GanvasError for fewer than two rows.
    """
    (mean_x, cov_x), (mean_y, cov_y) = _compute_moments(x_features), _compute_moments(y_features)
    # Σ₁ Σ₂ has the eigenvalues of the symmetric A Σ₂ A with A = Σ₁^½.
    values, vectors = torch.linalg.eigh(cov_x)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    product = torch.linalg.eigvalsh(root @ cov_y @ root).clamp(min=0).sqrt().sum()
    distance = (mean_x - mean_y).square().sum() + cov_x.trace() + cov_y.trace() - 2 * product
    return max(float(distance), 0.0)


def _compute_moments(features: Features) -> tuple[Tensor, Tensor]:
    """Return the mean, (features,), and the covariance, (features, features)."""
    if len(features) < 2:
        raise GanvasError(f"A Fréchet distance needs at least 2 pictures on either side, not {len(features)}.")
    x = features.double()
    return x.mean(0), torch.cov(x.T).reshape(x.shape[1], x.shape[1])


@torch.no_grad()
def collect_features(pictures: Iterable[Images], network: Callable[[Images], Features]) -> Features:
    """Return the features of all rows of batches of pictures."""
    return torch.cat([network(batch) for batch in pictures])


def load_inception(weights: str | Path) -> Callable[[Images], Features]:
    """Load Inception's 2048 features, as torchmetrics computes them, from the user's own weights (torch-fidelity's file).

    Raises GanvasError where the packages or the weights aren't there.
    """
    if not Path(weights).is_file():
        raise GanvasError(f"There is no file {weights}: FID needs torch-fidelity's Inception weights.")
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance

        network = FrechetInceptionDistance(2048, feature_extractor_weights_path=str(weights)).inception
    except ModuleNotFoundError:
        raise GanvasError("FID needs two packages: pip install 'ganvas[gan]'.") from None
    except (OSError, RuntimeError, ValueError, KeyError):
        raise GanvasError(f"{weights} is damaged, or isn't torch-fidelity's file of Inception weights.") from None
    return lambda images: network(to_bytes(images).permute(0, 3, 1, 2))
