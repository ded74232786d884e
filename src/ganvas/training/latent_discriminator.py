"""The latent discriminator of e4e: tells an encoder's rows from mapped codes, so that those become like these.

Tov et al., https://arxiv.org/abs/2102.02766, section 4.2, after Nitzan et al., https://arxiv.org/abs/2005.07728: the
non-saturating loss of Goodfellow et al., with R1 (Mescheder et al., https://arxiv.org/abs/1801.04406), here in every step:
so small a network is differentiated twice for nothing.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (256, 256, 256)
GAMMA = 1.0
"""R1's weight."""
MIN_DIFFERENCE = 4
"""Rows of a code that one step looks at: they are much alike."""


class LatentDiscriminator(nn.Module):
    """Rows (n, w_dim), in standard deviations from the mean of W, to logits (n,): above 0, they look mapped."""

    def __init__(self, w_dim: int) -> None:
        super().__init__()
        layers = [layer for a, b in pairwise((w_dim, *WIDTHS)) for layer in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
        self.layers = nn.Sequential(*layers, nn.Linear(WIDTHS[-1], 1))

    def forward(self, rows: Tensor) -> Tensor:
        """(n,)."""
        return self.layers(rows)[:, 0]

    def deceived(self, rows: Tensor) -> Tensor:
        """The loss of the encoder that gave these rows."""
        return F.softplus(-self(rows)).mean()

    def loss(self, mapped: Tensor, encoded: Tensor) -> Tensor:
        """Its own loss, for rows that are mapped and rows that aren't."""
        real = mapped.detach().requires_grad_(True)
        judged = self(real)
        (slope,) = torch.autograd.grad(judged.sum(), real, create_graph=True)
        told = F.softplus(-judged).mean() + F.softplus(self(encoded.detach())).mean()
        return told + GAMMA / 2 * slope.square().sum(1).mean()


def select_rows(codes: Tensor, random: torch.Generator) -> Tensor:
    """Some rows of codes (n, rows, w_dim), as (m, w_dim)."""
    rows = codes.shape[1]
    chosen = torch.randperm(rows, generator=random)[: min(MIN_DIFFERENCE, rows)]
    return codes[:, chosen.to(codes.device)].flatten(0, 1)
