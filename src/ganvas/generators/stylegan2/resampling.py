"""StyleGAN2's resampling filters, folded into 3×3 convolutions between a picture and its four phases.

StyleGAN2 doubles a layer by zeros between pixels, a 3×3 convolution and the filter 1-3-3-1 (appendix B of Karras et al.,
https://arxiv.org/abs/1912.04958); it halves one by the filter, then a convolution of stride 2. Either is one linear map
that commutes with moves by a pixel of the small picture, and so one 3×3 convolution of the small picture from or to
2×2 phases: phase (y, x) of pixel (i, j) is pixel (2i + y, 2j + x) of the large one. No picture of zeros is ever made.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

TAPS = (1.0, 3.0, 3.0, 1.0)
"""The filter's taps, before they are scaled to the sum 1."""


@cache
def _table(kind: str, size: int) -> Tensor:
    """Tabulate what a tap of the kernel adds to a phase from each offset, in one dimension: (2 phases, 3 offsets, size taps).

    With u the picture between zeros and f the filter, in the alignment that the published networks have:
    "up", size 3: out[j] = Σ f[t] w[a] x[i] where 2i + a = j + t - 1; "up", size 1: out[j] = Σ f[t] u[j + t - 2];
    "down", size 3: out[i] = Σ f[t] w[a] x[2i + a + t - 2]; "down", size 1: out[i] = Σ f[t] x[2i + t - 1].
    """
    taps = torch.tensor(TAPS, dtype=torch.float64) / sum(TAPS)
    table = torch.zeros(2, 3, size, dtype=torch.float64)
    for phase in (0, 1):
        for offset in (-1, 0, 1):
            for a in range(size):
                if kind == "up":
                    t = 2 * offset - phase + (2 if size == 1 else a + 1)
                else:
                    t = 2 * offset + phase - a + (1 if size == 1 else 2)
                if 0 <= t < len(TAPS):
                    table[phase, offset + 1, a] = taps[t] * (2 if kind == "up" else 1)
    return table.float()


@cache
def _product(kind: str, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Compute ``_table`` in two dimensions, as a matrix (size², 4·9)."""
    table = _table(kind, size)
    return torch.einsum("pxa,qyb->abpqxy", table, table).reshape(size * size, 36).to(device, dtype)


def _fold(kind: str, weight: Tensor) -> Tensor:
    """Fold a kernel (out, in, size, size) to (out, in, 4 phases, 3, 3)."""
    size = weight.shape[-1]
    # One product of matrices: an einsum over six axes would cost as much as the convolution itself.
    flat = weight.reshape(-1, size * size) @ _product(kind, size, weight.dtype, weight.device)
    return flat.view(*weight.shape[:2], 4, 3, 3)


def fold_up(weight: Tensor) -> Tensor:
    """Fold a kernel (out, in, k, k), k 1 or 3, after doubling to (4·out, in, 3, 3), phase by phase, channels last."""
    phases = _fold("up", weight).permute(2, 0, 3, 4, 1)
    return phases.reshape(-1, 3, 3, weight.shape[1]).permute(0, 3, 1, 2)


def fold_down(weight: Tensor) -> Tensor:
    """Fold a kernel (out, in, k, k), k 1 or 3, before halving to (out, 4·in, 3, 3), phase by phase, channels last."""
    phases = _fold("down", weight).permute(0, 3, 4, 2, 1)
    return phases.reshape(weight.shape[0], 3, 3, -1).permute(0, 3, 1, 2)


def join_phases(x: Tensor) -> Tensor:
    """Join (n, 4c, h, w), phase by phase, to (n, c, 2h, 2w); in channels-last order runs of 2c numbers are copied whole."""
    n, c, h, w = x.shape[0], x.shape[1] // 4, x.shape[2], x.shape[3]
    rows = x.permute(0, 2, 3, 1).reshape(n, h, w, 2, 2 * c).transpose(2, 3)
    return rows.reshape(n, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


def blur(x: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply the filter to (n, c, 2h + 1, 2w + 1), a picture between zeros after a 3×3 convolution: (n, c, 2h, 2w).

    ``bias`` (c,) is added.
    """
    taps = torch.tensor(TAPS, dtype=x.dtype, device=x.device) / (sum(TAPS) / 2)
    kernel = (taps[:, None] * taps).expand(x.shape[1], 1, 4, 4)
    return torch.conv2d(x, kernel, bias, padding=1, groups=x.shape[1])


def split_phases(x: Tensor) -> Tensor:
    """Split (n, c, 2h, 2w) to (n, 4c, h, w): the inverse of ``join_phases``."""
    n, c, h, w = x.shape[0], x.shape[1], x.shape[2] // 2, x.shape[3] // 2
    rows = x.permute(0, 2, 3, 1).reshape(n, h, 2, w, 2 * c).transpose(2, 3)
    return rows.reshape(n, h, w, 4 * c).permute(0, 3, 1, 2)


def upsample(images: Tensor) -> Tensor:
    """Double pictures (n, c, h, w) by the filter alone, each channel by itself."""
    n, c, h, w = images.shape
    kernel = fold_up(images.new_ones(1, 1, 1, 1))
    phases = torch.conv2d(images.reshape(n * c, 1, h, w), kernel, padding=1)
    return join_phases(phases).reshape(n, c, 2 * h, 2 * w)
