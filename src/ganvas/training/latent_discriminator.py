"""The latent discriminator of e4e, which classifies rows of codes as mapped or encoded.

Tov et al., https://arxiv.org/abs/2102.02766, section 4.2, after Nitzan et al., https://arxiv.org/abs/2005.07728: the
non-saturating loss of Goodfellow et al., with R1 (Mescheder et al., https://arxiv.org/abs/1801.04406), here in every step,
which is cheap for so small a network.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HIDDEN_WIDTHS = (256, 256, 256)
R1_WEIGHT = 1.0
ROWS_PER_STEP = 4
"""How many rows of a code one step uses: they are much alike."""


class LatentDiscriminator(nn.Module):
    """A perceptron from rows (n, w_dim), in standard deviations from the mean of W, to logits (n,): above 0 for mapped rows."""

    def __init__(self, w_dim: int) -> None:
        super().__init__()
        layers = [layer for a, b in pairwise((w_dim, *HIDDEN_WIDTHS)) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
        self.layers = nn.Sequential(*layers, nn.Linear(HIDDEN_WIDTHS[-1], 1))

    def forward(self, rows: Tensor) -> Tensor:
        """Compute logits (n,)."""
        return self.layers(rows)[:, 0]

    def encoder_loss(self, rows: Tensor) -> Tensor:
        """Compute the adversarial loss of the encoder that gave these rows."""
        return F.softplus(-self(rows)).mean()

    def discriminator_loss(self, mapped: Tensor, encoded: Tensor) -> Tensor:
        """Compute the discriminator's own loss, with R1, on mapped and on encoded rows."""
        real = mapped.detach().requires_grad_(True)
        logits = self(real)
        (gradient,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        loss = F.softplus(-logits).mean() + F.softplus(self(encoded.detach())).mean()
        return loss + R1_WEIGHT / 2 * gradient.square().sum(1).mean()


def select_rows(codes: Tensor, random: torch.Generator) -> Tensor:
    """Select random rows of codes (n, rows, w_dim), as (m, w_dim)."""
    rows = codes.shape[1]
    indices = torch.randperm(rows, generator=random)[: min(ROWS_PER_STEP, rows)]
    return codes[:, indices.to(codes.device)].flatten(0, 1)
