"""How good an inversion is: how near the picture, whose face, and how near W the code stayed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas import identity
from ganvas.data.distribution import Distribution, fit_distribution
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.images import downscale
from ganvas.scorers.celeba40 import match_softness
from ganvas.types import Images

SIDE = 256
"""Where pictures are compared, in pixels: what a generator of 1024 adds below that is texture."""
CODES = 5_000
"""Drawn to know W: twice."""
SIGMA = 1.5
"""Of SSIM's window, in pixels."""


@dataclass(frozen=True)
class InversionQuality:
    """How good one inversion is."""

    psnr: float
    """Decibels, at SIDE pixels."""
    ssim: float
    """1 for equal pictures, at SIDE pixels."""
    identity: float | None
    """dlib's distance between the two faces: below 0.6 it calls them one person. None where dlib isn't installed or finds
    no face."""
    lpips: float | None
    """0 for equal pictures. None where the package lpips and its weights aren't here."""
    mahalanobis: float
    """Of the code's farthest row from the mean of W, in standard deviations: how far edits can be trusted."""
    bound: float
    """What 99.9 % of drawn codes stay below."""


def measure_inversion(
    ws: Tensor, pictures: Tensor, targets: Tensor, generator: Generator, distribution: Distribution | None = None
) -> tuple[InversionQuality, ...]:
    """Measures of W+ codes with their ``io.images``, against the ``control.target_values`` (n, 3, side, side) that
    they should look like.

    ``data.distribution``: of W, if it's at hand; else it's fitted, which takes a second.
    Raises GanvasError where there aren't as many of each.
    """
    if not len(ws) == len(pictures) == len(targets):
        raise GanvasError(
            f"{len(ws)} codes, {len(pictures)} pictures and {len(targets)} targets: give as many of each."
        )
    known = distribution or fit_w_distribution(generator)
    side = min(SIDE, generator.resolution)
    first, second = (downscale(images.float(), side).cpu() for images in (pictures, targets))
    columns = (
        psnr(first, second).tolist(),
        ssim(first, second).tolist(),
        _identities(pictures, targets),
        _lpips(first, second),
        known.mahalanobis(ws.cpu()).tolist(),
        [known.bound] * len(ws),
    )
    return tuple(InversionQuality(*row) for row in zip(*columns, strict=True))


def fit_w_distribution(generator: Generator) -> Distribution:
    """The distribution of W, fitted on enough codes to measure by."""
    return fit_distribution(generator, max(CODES, 2 * generator.w_dim))


def psnr(first: Images, second: Images) -> Tensor:
    """Peak signal-to-noise ratio of each pair, (n,), in decibels; pictures span 2. Equal pictures have 100."""
    error = (first - second).square().mean((1, 2, 3))
    return -10 * torch.log10((error / 4).clamp(min=1e-10))


def ssim(first: Images, second: Images) -> Tensor:
    """Structural similarity of each pair, (n,), of their brightness.

    Wang et al., *Image Quality Assessment: From Error Visibility to Structural Similarity*, 2004,
    https://doi.org/10.1109/TIP.2003.819861, equation (13), with its Gaussian window and constants.
    """
    x, y = (_luma(images) for images in (first, second))
    mean_x, mean_y = _window(x), _window(y)
    var_x, var_y = _window(x * x) - mean_x.square(), _window(y * y) - mean_y.square()
    covariance = _window(x * y) - mean_x * mean_y
    low, high = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    found = (2 * mean_x * mean_y + low) * (2 * covariance + high)
    return (found / ((mean_x.square() + mean_y.square() + low) * (var_x + var_y + high))).mean((1, 2, 3))


def _luma(images: Images) -> Tensor:
    return (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def _window(x: Tensor) -> Tensor:
    return match_softness(x, SIGMA)


def _identities(pictures: Tensor, targets: Tensor) -> list[float | None]:
    embedder = _embedder()
    if embedder is None:
        return [None] * len(pictures)
    distances = identity.distance(embedder(pictures), embedder(targets))
    return [None if torch.isnan(value) else float(value) for value in distances]


@cache
def _embedder() -> identity.FaceEmbedder | None:
    try:
        return identity.FaceEmbedder()
    except GanvasError:
        return None


def _lpips(first: Images, second: Images) -> list[float | None]:
    network = _lpips_network()
    if network is None:
        return [None] * len(first)
    with torch.no_grad():
        return [float(network(x[None], y[None])) for x, y in zip(first, second, strict=True)]


@cache
def _lpips_network() -> Any:
    """LPIPS (Zhang et al., 2018, https://arxiv.org/abs/1801.03924), where the package and its weights are installed.

    Never fetched: nothing that looks at a photograph opens a connection.
    """
    try:
        import lpips
    except ImportError:
        return None
    if not any(Path(torch.hub.get_dir()).glob("checkpoints/alexnet*.pth")):
        return None
    return lpips.LPIPS(net="alex", verbose=False).eval()
