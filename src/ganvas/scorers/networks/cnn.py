"""A small residual network without pretraining, for a judge that shares only its training faces with the default scorer.

He, Zhang, Ren and Sun, *Deep Residual Learning for Image Recognition*, 2016, https://arxiv.org/abs/1512.03385: four
blocks of two convolutions after one wide one. No ImageNet, no attention, another picture size.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTHS = (32, 32, 64, 88, 112)
"""Channels after the first convolution and after each block."""
BLUR = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
"""The first filter, along each axis: the training faces are soft and generated ones sharp, and a blur removes that difference."""


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside a shortcut (He et al., 2016); ``stride`` 2 halves the picture."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: type[nn.SiLU | nn.ReLU] = nn.SiLU) -> None:
        super().__init__()
        self.activation = activation(inplace=True)
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            activation(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (n, inputs, h, w) to (n, outputs, h / stride, w / stride)."""
        return self.activation(self.layers(x) + self.shortcut(x))


class CnnNetwork(nn.Module):
    """Features on a 4×4 grid, and one linear reading of the whole grid for each attribute."""

    arch, size = "cnn", 64

    def __init__(self, attributes: int = 40) -> None:
        super().__init__()
        blocks = [ResidualBlock(*widths, 1 if i == 0 else 2) for i, widths in enumerate(pairwise(WIDTHS))]
        first = [nn.Conv2d(3, WIDTHS[0], 5, 2, 2, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.SiLU(inplace=True)]
        self.features = nn.Sequential(*first, *blocks)
        self.dropout = nn.Dropout(0.4)
        self.reading = nn.Linear(WIDTHS[-1] * 16, attributes)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits (n, attributes) of pictures (n, 3, size, size) in [-1, 1]."""
        kernel = torch.tensor(BLUR, dtype=images.dtype, device=images.device).expand(3, 1, 5)
        x = F.conv2d(F.pad(images, (2,) * 4, mode="reflect"), kernel[..., None], groups=3)
        x = F.conv2d(x, kernel[:, :, None], groups=3).contiguous(memory_format=torch.channels_last)
        return self.reading(self.dropout(self.features(x).flatten(1)))
