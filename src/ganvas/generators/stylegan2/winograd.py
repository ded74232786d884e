"""3×3 convolutions by Winograd's minimal filtering: 36 products for 4×4 pixels of a channel pair instead of 144.

Lavin and Gray, *Fast Algorithms for Convolutional Neural Networks*, 2016, https://arxiv.org/abs/1509.09308. A tile of
6×6 pixels and the kernel are transformed, multiplied place by place (there, channels are summed: 36 products of
matrices), and transformed back. PyTorch computes directly on a CPU. The transforms read and write their input several
times: that is worth it where there are many channels, and most where a strip of tiles stays in the cache.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

OUTPUT_SIDE, TILE = 4, 6
"""Side in pixels of a tile's output and of its input."""
POINTS = (0.0, 0.7, -0.7, 1.4, -1.4)
"""Where the polynomials are evaluated, beside infinity. Rounding errors are about half of those of the usual 0, ±1, ±2."""
STRIP_TILES = 128
"""About the number of tiles that are transformed together: with 128 to 512 channels, 2 to 9 MB."""
MIN_CHANNELS, MIN_SIDE = 128, 32
"""The fewest channels and the smallest picture with which it is faster than a direct convolution."""


def is_faster(incoming: int, outgoing: int, side: int) -> bool:
    """Return whether it is faster than a direct convolution on a CPU in float32."""
    return min(incoming, outgoing) >= MIN_CHANNELS and side >= MIN_SIDE


@cache
def _transforms() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute Cook and Toom's transforms in one dimension: of the kernel (6, 3), of a tile (6, 6), and back (4, 6).

    A product of polynomials is determined by its values at as many points as it has coefficients: a convolution's transpose.
    """
    points, n = np.array(POINTS), len(POINTS)
    kernel, tile, back = np.zeros((TILE, 3)), np.zeros((TILE, TILE)), np.zeros((OUTPUT_SIDE, TILE))
    for i, point in enumerate(points):
        others = np.delete(points, i)
        kernel[i] = point ** np.arange(3) / np.prod(point - others)
        tile[i, :n] = np.polynomial.polynomial.polyfromroots(others)
        back[:, i] = point ** np.arange(OUTPUT_SIDE)
    kernel[n, 2] = back[OUTPUT_SIDE - 1, n] = 1
    tile[n] = np.polynomial.polynomial.polyfromroots(points)
    return kernel, tile, back


@cache
def _plane(which: int) -> Tensor:
    """Compute a transform of ``_transforms`` in two dimensions, float32."""
    one = _transforms()[which]
    return torch.from_numpy(np.kron(one, one)).float()


def fold_kernel(kernel: Tensor) -> Tensor:
    """Transform a kernel (out, in, 3, 3) to (36, in, out), for ``convolve``; float32, computed in float64."""
    side = torch.from_numpy(_transforms()[0]).to(kernel.device)
    folded = torch.einsum("ai,ocij,bj->abco", side, kernel.double(), side)
    return folded.flatten(0, 1).float().contiguous()


def convolve(
    x: Tensor,
    folded: Tensor,
    incoming: Tensor | None = None,
    outgoing: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Convolve x (n, in, h, w), float32, by a folded kernel: (n, out, h, w); both channels last, with sides that 4 divides.

    As ``conv2d`` with padding 1, with input channels multiplied by ``incoming`` (n, in) and output channels by ``outgoing``
    (n, out), then ``bias`` (out,) added, all while they are in the cache. Without gradients. Raises ValueError for other sides.
    """
    if x.shape[2] % OUTPUT_SIDE or x.shape[3] % OUTPUT_SIDE:
        raise ValueError(f"{OUTPUT_SIDE} doesn't divide the sides {x.shape[2]} and {x.shape[3]}.")
    n, channels, h, w = x.shape
    down, across, out = h // OUTPUT_SIDE, w // OUTPUT_SIDE, folded.shape[2]
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    tiles = padded.unfold(1, TILE, OUTPUT_SIDE).unfold(2, TILE, OUTPUT_SIDE)
    tiles = tiles.permute(4, 5, 0, 1, 2, 3)
    incoming = (x.new_ones(n, channels) if incoming is None else incoming)[:, None, None]
    outgoing = (x.new_ones(n, out) if outgoing is None else outgoing)[:, None, None, None, None]
    bias = x.new_zeros(out) if bias is None else bias
    result = x.new_empty(n, h, w, out)
    places = result.view(n, down, OUTPUT_SIDE, across, OUTPUT_SIDE, out)
    step = max(1, STRIP_TILES // max(1, n * across))
    for start in range(0, down, step):
        strip = tiles[:, :, :, start : start + step]
        rows = strip.shape[3]
        scaled = torch.mul(strip, incoming, out=x.new_empty(strip.shape))
        transformed = (_plane(1) @ scaled.view(TILE * TILE, -1)).view(TILE * TILE, n * rows * across, channels)
        products = torch.bmm(transformed, folded).view(TILE * TILE, -1)
        outputs = (_plane(2) @ products).view(OUTPUT_SIDE, OUTPUT_SIDE, n, rows, across, out)
        torch.addcmul(bias, outputs.permute(2, 3, 0, 4, 1, 5), outgoing, out=places[:, start : start + step])
    return result.permute(0, 3, 1, 2)
