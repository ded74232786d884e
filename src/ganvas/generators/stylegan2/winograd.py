"""3×3 convolutions by Winograd's minimal filtering: 36 products for 4×4 pixels of a channel pair, where a direct one has 144.

Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, 2016, https://arxiv.org/abs/1509.09308. A tile of
6×6 pixels and the kernel are transformed, multiplied place by place (there, channels are summed: 36 products of
matrices), and transformed back. PyTorch computes directly on a CPU. The transforms read and write several times what
they are given: that pays where channels are many, and most where a strip of tiles stays in the cache.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MADE, TILE = 4, 6
"""Pixels a side that a tile gives, and that it sees."""
POINTS = (0.0, 0.7, -0.7, 1.4, -1.4)
"""Where the polynomials are taken, beside infinity. Rounding errors of a layer with 512 channels are 1.5e-6; 3.3e-6 with the
usual 0, ±1, ±2, and 1.2e-6 computed directly."""
STRIP = 128
"""Tiles that are transformed together, about: with 128 to 512 channels, 2 to 9 MB."""
CHANNELS, SIDE = 128, 32
"""The fewest channels, and the smallest picture, with which it is faster: 1.4 to 3 times."""


def is_faster(incoming: int, outgoing: int, side: int) -> bool:
    """Whether it is the faster way, on a CPU in float32."""
    return min(incoming, outgoing) >= CHANNELS and side >= SIDE


@cache
def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cook and Toom's, in one dimension: of the kernel (6, 3), of a tile (6, 6), and back (4, 6).

    A product of polynomials is known by its values at as many places as it has coefficients: a convolution's transpose.
    """
    points, n = np.array(POINTS), len(POINTS)
    kernel, tile, back = np.zeros((TILE, 3)), np.zeros((TILE, TILE)), np.zeros((MADE, TILE))
    for i, point in enumerate(points):
        others = np.delete(points, i)
        kernel[i] = point ** np.arange(3) / np.prod(point - others)
        tile[i, :n] = np.polynomial.polynomial.polyfromroots(others)
        back[:, i] = point ** np.arange(MADE)
    kernel[n, 2] = back[MADE - 1, n] = 1
    tile[n] = np.polynomial.polynomial.polyfromroots(points)
    return kernel, tile, back


@cache
def _plane(which: int) -> Tensor:
    """A transform of ``_transforms`` in two dimensions, float32."""
    one = _transforms()[which]
    return torch.from_numpy(np.kron(one, one)).float()


def fold_kernel(kernel: Tensor) -> Tensor:
    """A kernel (out, in, 3, 3) as (36, in, out), for ``convolve``; float32, transformed in float64."""
    side = torch.from_numpy(_transforms()[0]).to(kernel.device)
    found = torch.einsum("ai,ocij,bj->abco", side, kernel.double(), side)
    return found.flatten(0, 1).float().contiguous()


def convolve(
    x: Tensor,
    folded: Tensor,
    incoming: Tensor | None = None,
    outgoing: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """x (n, in, h, w) float32, channels last, sides that 4 divides, by a folded kernel: (n, out, h, w), channels last.

    As ``conv2d`` with padding 1, with channels weighed on their way in, by ``incoming`` (n, in), and out, by ``outgoing``
    (n, out), then ``bias`` (out,) added: both while they are in the cache. For use only: no gradients are taken. Raises
    ValueError for other sides.
    """
    if x.shape[2] % MADE or x.shape[3] % MADE:
        raise ValueError(f"{MADE} doesn't divide the sides {x.shape[2]} and {x.shape[3]}.")
    n, channels, h, w = x.shape
    down, across, out = h // MADE, w // MADE, folded.shape[2]
    tiles = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1)).unfold(1, TILE, MADE).unfold(2, TILE, MADE)
    tiles = tiles.permute(4, 5, 0, 1, 2, 3)
    incoming = (x.new_ones(n, channels) if incoming is None else incoming)[:, None, None]
    outgoing = (x.new_ones(n, out) if outgoing is None else outgoing)[:, None, None, None, None]
    bias = x.new_zeros(out) if bias is None else bias
    found = x.new_empty(n, h, w, out)
    places = found.view(n, down, MADE, across, MADE, out)
    step = max(1, STRIP // max(1, n * across))
    for start in range(0, down, step):
        strip = tiles[:, :, :, start : start + step]
        rows = strip.shape[3]
        weighed = torch.mul(strip, incoming, out=x.new_empty(strip.shape))
        seen = (_plane(1) @ weighed.view(TILE * TILE, -1)).view(TILE * TILE, n * rows * across, channels)
        made = (_plane(2) @ torch.bmm(seen, folded).view(TILE * TILE, -1)).view(MADE, MADE, n, rows, across, out)
        torch.addcmul(bias, made.permute(2, 3, 0, 4, 1, 5), outgoing, out=places[:, start : start + step])
    return found.permute(0, 3, 1, 2)
