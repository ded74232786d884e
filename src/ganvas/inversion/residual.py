"""What an inversion missed, put back where an edit left the picture alone.

A generator can't draw everything that a photograph shows: an earring, a background, a scar. The idea of keeping that
residual beside the code is that of Wang et al., *High-Fidelity GAN Inversion for Image Attribute Editing*, CVPR 2022,
https://arxiv.org/abs/2109.06590; here no network says where it belongs, but the pixels that the edit moved.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.images import downscale
from ganvas.scorers.celeba40 import match_softness
from ganvas.types import Images

MOVED = 0.05
"""How far a pixel moves, of the 2 from black to white, until a third (1/e) of its residual is left."""
SIDE = 256
"""Where it is judged how far pixels moved: fine texture that shimmers isn't an edit."""
REACH, SOFT = 12, 4.0
"""In pixels at SIDE: what moved counts so far around it (islands of residual within an edit are smudges), and the standard
deviation of the blur after that (no seams)."""


def put_back(edited: Tensor, inverted: Tensor, targets: Tensor, amount: float = 1.0) -> Tensor:
    """Edited pictures with what the inversion missed, where the edit left them alone, (n, 3, height, width).

    ``edited`` and ``inverted``: the generator's pictures of the edited codes and of the codes before;
    ``control.target_values``: the
    photographs, aligned. ``amount`` (0 … 1) of the residual ``targets - inverted`` is added, times exp(-(d/MOVED)²)
    where pixels moved by d. Without an edit the photographs come out, bit for bit.
    Raises GanvasError where shapes differ, or for another amount.
    """
    if not edited.shape == inverted.shape == targets.shape:
        shapes = ", ".join("×".join(map(str, images.shape)) for images in (edited, inverted, targets))
        raise GanvasError(f"What an inversion missed is put back into pictures of one shape, not {shapes}.")
    if not 0 <= amount <= 1:
        raise GanvasError(f"The share of the residual is 0 to 1, not {amount}.")
    if amount == 0:
        return edited
    change = edited - inverted
    kept = amount * torch.exp(-(_moved(change) / MOVED).square())
    # Not edited + kept * residual: that would round where nothing changed.
    return torch.lerp(edited, (targets + change).clamp(-1, 1), kept)


def _moved(change: Images) -> Tensor:
    """How far pixels moved around each place, (n, 1, height, width)."""
    size = change.shape[-1]
    side = min(SIDE, size)
    small = downscale(change.abs().amax(1, keepdim=True).expand(-1, 3, -1, -1), side)
    reach = REACH * side // SIDE
    widened = F.max_pool2d(small, 2 * reach + 1, 1, reach)
    moved = match_softness(widened, SOFT * side / SIDE)[:, :1]
    if side == size:
        return moved
    return F.interpolate(moved, (size, size), mode="bilinear", align_corners=False)
