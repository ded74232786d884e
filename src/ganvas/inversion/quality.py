"""Measure inversions: similarity of pictures, identity of faces, and distance of codes from W."""

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
"""The side at which pictures are compared, in pixels: what larger ones add is texture."""
DISTRIBUTION_CODES = 5_000
"""Codes that the distribution of W is fitted on, and as many for its bounds."""
SSIM_SIGMA = 1.5
"""The standard deviation of SSIM's window, in pixels."""


@dataclass(frozen=True)
class InversionQuality:
    """The measures of one inversion."""

    psnr: float
    """Decibels, at SIDE pixels."""
    ssim: float
    """1 for equal pictures, at SIDE pixels."""
    identity: float | None
    """dlib's distance between the two faces: below 0.6 it takes them for one person. None where dlib isn't installed or finds
    no face."""
    lpips: float | None
    """0 for equal pictures. None where the package lpips or its weights aren't installed."""
    mahalanobis: float
    """The Mahalanobis distance of the code's farthest row from the mean of W: edits work near W."""
    bound: float
    """The 99.9th percentile of that distance for drawn codes."""
    fr_feature: float | None = None
    """The distance between the two faces by a second judge (``identity.load_judge``). None where there is no face, or its
    weights weren't fetched: what reads a photograph opens no connection."""


def measure_inversion(
    ws: Tensor, pictures: Tensor, targets: Tensor, generator: Generator, distribution: Distribution | None = None
) -> tuple[InversionQuality, ...]:
    """Measure W+ codes and their ``pictures`` against ``targets``, both (n, 3, side, side).

    ``distribution``: of W, fitted here if not given. Raises GanvasError where there aren't as many of each.
    """
    if not len(ws) == len(pictures) == len(targets):
        raise GanvasError(
            f"{len(ws)} codes, {len(pictures)} pictures and {len(targets)} targets: give the same number of each."
        )
    fitted = distribution or fit_w_distribution(generator)
    side = min(SIDE, generator.resolution)
    first, second = (downscale(images.float(), side).cpu() for images in (pictures, targets))
    columns = (
        psnr(first, second).tolist(),
        ssim(first, second).tolist(),
        _measure_identities("dlib", pictures, targets),
        _measure_lpips(first, second),
        fitted.mahalanobis(ws.cpu()).tolist(),
        [fitted.bound] * len(ws),
        _measure_identities("fr_feature", pictures, targets),
    )
    return tuple(InversionQuality(*row) for row in zip(*columns, strict=True))


def fit_w_distribution(generator: Generator) -> Distribution:
    """Fit the distribution of W on enough codes for measures and inversions."""
    return fit_distribution(generator, max(DISTRIBUTION_CODES, 2 * generator.w_dim))


def psnr(first: Images, second: Images) -> Tensor:
    """Compute the peak signal-to-noise ratio of each pair, (n,), in decibels, for pictures in [-1, 1]; 100 for equal ones."""
    error = (first - second).square().mean((1, 2, 3))
    return -10 * torch.log10((error / 4).clamp(min=1e-10))


def ssim(first: Images, second: Images) -> Tensor:
    """Compute the structural similarity of the luma of each pair, (n,).

    Wang et al., *Image Quality Assessment: From Error Visibility to Structural Similarity*, 2004,
    https://doi.org/10.1109/TIP.2003.819861, equation (13), with its Gaussian window and constants.
    """
    x, y = (_to_luma(images) for images in (first, second))
    mean_x, mean_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mean_x.square(), _blur(y * y) - mean_y.square()
    covariance = _blur(x * y) - mean_x * mean_y
    low, high = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    similarity = (2 * mean_x * mean_y + low) * (2 * covariance + high)
    return (similarity / ((mean_x.square() + mean_y.square() + low) * (var_x + var_y + high))).mean((1, 2, 3))


def _to_luma(images: Images) -> Tensor:
    return (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)


def _blur(x: Tensor) -> Tensor:
    return match_softness(x, SSIM_SIGMA)


def _measure_identities(name: str, pictures: Tensor, targets: Tensor) -> list[float | None]:
    judge = _load_judge(name)
    if judge is None:
        return [None] * len(pictures)
    return [None if torch.isnan(value) else float(value) for value in judge.measure_distance(pictures, targets)]


def _load_judge(name: str) -> identity.IdentityJudge | None:
    if name not in identity.list_fetched_judges():
        return None
    try:
        return identity.load_judge(name)
    except GanvasError:
        return None


def _measure_lpips(first: Images, second: Images) -> list[float | None]:
    network = _load_lpips()
    if network is None:
        return [None] * len(first)
    with torch.no_grad():
        return [float(network(x[None], y[None])) for x, y in zip(first, second, strict=True)]


@cache
def _load_lpips() -> Any:
    """Load LPIPS (Zhang et al., 2018, https://arxiv.org/abs/1801.03924) if the package and its weights are installed.

    Weights are never downloaded: nothing that reads a photograph opens a connection.
    """
    try:
        import lpips
    except ImportError:
        return None
    if not any(Path(torch.hub.get_dir()).glob("checkpoints/alexnet*.pth")):
        return None
    return lpips.LPIPS(net="alex", verbose=False).eval()
