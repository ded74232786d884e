"""The augmentation of the cnn celeba40 scorer, which shares no distortion with ``scorer.augment``: errors of the two differ."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def recolour_and_erase(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Move, mirror and strongly recolour pictures (n, 3, h, w) of 0 … 255, and erase a box of half of them; in [-1, 1].

    Boxes as in DeVries and Taylor, *Improved Regularization of Convolutional Neural Networks with Cutout*, 2017,
    https://arxiv.org/abs/1708.04552. No blur and no noise.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=random)

    n, (height, width) = len(pixels), pixels.shape[2:]
    x = (pixels.float() / 255).clamp(1e-3, 1) ** uniform(0.6, 1.6, n, 1, 1, 1)
    matrix = torch.zeros(n, 2, 3)
    # Each axis has its own scale, and no picture is turned: faces are aligned.
    matrix[:, 0, 0] = uniform(0.85, 1.15, n) * uniform(-1, 1, n).sign()
    matrix[:, 1, 1] = uniform(0.85, 1.15, n)
    matrix[:, :, 2] = uniform(-0.1, 0.1, n, 2)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False) * 2 - 1
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * uniform(0, 1.6, n, 1, 1, 1)
    x = x * uniform(0.6, 1.4, n, 1, 1, 1) * uniform(0.85, 1.15, n, 3, 1, 1) + uniform(-0.2, 0.2, n, 1, 1, 1)
    side = uniform(0.15, 0.4, 2, n) * (uniform(0, 1, n) < 0.5)
    middle = uniform(0, 1, 2, n)
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    inside = (rows - middle[0, :, None, None]).abs() < side[0, :, None, None] / 2
    inside = inside & ((columns - middle[1, :, None, None]).abs() < side[1, :, None, None] / 2)
    x = torch.where(inside[:, None], uniform(-1, 1, n, 3, 1, 1), x)
    return x.clamp(-1, 1).contiguous(memory_format=torch.channels_last)
