"""Add the residual of an inversion to an edited picture, where the edit left the picture alone.

A generator can't draw everything that a photograph shows: an earring, a background, a scar. The idea of keeping that
residual beside the code is that of Wang et al., *High-Fidelity GAN Inversion for Image Attribute Editing*, CVPR 2022,
https://arxiv.org/abs/2109.06590; here the pixels that the edit changed say where to add it, not a network.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.images import downscale
from ganvas.scorers.celeba40 import match_softness
from ganvas.types import Images

MOTION_SCALE = 0.05
"""The change of a pixel, of the 2 from black to white, at which 1/e of its residual is added."""
SIDE = 256
"""The side at which changes of pixels are measured: changes of fine texture aren't edits."""
REACH, BLUR_SIGMA = 12, 4.0
"""In pixels at SIDE: the radius around a changed pixel that counts as changed (or islands of residual remain within an edit),
and the standard deviation of the blur after that (or there are seams)."""


def add_residual(edited: Tensor, inverted: Tensor, targets: Tensor, amount: float = 1.0) -> Tensor:
    """Add the residual of an inversion to edited pictures where the edit left them alone, (n, 3, height, width).

    ``edited`` and ``inverted``: the generator's pictures of the edited codes and of the codes before; ``targets``: the
    aligned photographs. ``amount`` (0 … 1) of the residual ``targets - inverted`` is added, times exp(-(d/MOTION_SCALE)²)
    where pixels changed by d. Without an edit the result equals the photographs, bit for bit.
    Raises GanvasError where shapes differ, or for another amount.
    """
    if not edited.shape == inverted.shape == targets.shape:
        shapes = ", ".join("×".join(map(str, images.shape)) for images in (edited, inverted, targets))
        raise GanvasError(f"Edited pictures, inversions and photographs must have one shape, not {shapes}.")
    if not 0 <= amount <= 1:
        raise GanvasError(f"The amount of the residual must be from 0 to 1, not {amount}.")
    if amount == 0:
        return edited
    change = edited - inverted
    weight = amount * torch.exp(-(_measure_motion(change) / MOTION_SCALE).square())
    # Not edited + kept * residual: that would round where nothing changed.
    return torch.lerp(edited, (targets + change).clamp(-1, 1), weight)


def _measure_motion(change: Images) -> Tensor:
    """Measure how far pixels changed around each place, (n, 1, height, width)."""
    size = change.shape[-1]
    side = min(SIDE, size)
    small = downscale(change.abs().amax(1, keepdim=True).expand(-1, 3, -1, -1), side)
    reach = REACH * side // SIDE
    widened = F.max_pool2d(small, 2 * reach + 1, 1, reach)
    moved = match_softness(widened, BLUR_SIGMA * side / SIDE)[:, :1]
    if side == size:
        return moved
    return F.interpolate(moved, (size, size), mode="bilinear", align_corners=False)
