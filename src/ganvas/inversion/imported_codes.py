"""Import W+ codes of another StyleGAN2, with rows mapped by the resolution that they act at.

MobileStyleGAN keeps StyleGAN2's mapping network, so a row means the same in both, but its blocks have three rows where
StyleGAN2's have two (and a third for the picture's colours, which shares its row with the next block's first).
It was distilled on codes with equal rows, though: rows that differ as much as those of most inversions give no face.
``shrink_to_w`` moves such codes to where the generator can draw them.
"""

from __future__ import annotations

from math import log2
from pathlib import Path

import torch
from torch import Tensor

from ganvas.data.distribution import Distribution
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.generators.stylegan2.rows import MAX_ROWS, MIN_ROWS, is_stylegan2, list_row_resolutions
from ganvas.inversion.optimization import WhitenedCoordinates
from ganvas.inversion.quality import fit_w_distribution
from ganvas.io.files import load_tensors, read_npy
from ganvas.types import WPlus

MAX_CODES = 100_000
SPREAD, REACH = 0.15, 15.0
"""Defaults of ``shrink_to_w``, chosen by eye on the 68 codes that StyleCLIP publishes, in ``ffhq``."""


def load_imported_codes(path: str | Path, generator: Generator) -> WPlus:
    """Load codes (n, rows, w_dim) from a .npy or .safetensors file (one tensor) as codes for ``generator``.

    Their rows must be a StyleGAN2's: one at 4, then two a resolution, and one for the colours at the end: 18 rows are 1024.
    Raises GanvasError for a file that is missing, damaged, pickled, or of other shapes.
    """
    codes = _read_codes(Path(path))
    codes = codes[None] if codes.ndim == 2 else codes
    if codes.ndim != 3 or codes.shape[2] != generator.w_dim or not is_stylegan2(codes.shape[1]):
        wanted = f"(n, an even number of rows from {MIN_ROWS} to {MAX_ROWS}, {generator.w_dim})"
        raise GanvasError(f"{path} holds {tuple(codes.shape)}: W+ codes of a StyleGAN2 are {wanted}.")
    if not 0 < len(codes) <= MAX_CODES or not torch.isfinite(codes).all():
        raise GanvasError(f"{path} must hold 1 to {MAX_CODES:,} codes of finite numbers.")
    return map_rows(codes.float().to(generator.device), list_row_resolutions(codes.shape[1]), generator.row_resolutions)


def shrink_to_w(
    ws: WPlus,
    generator: Generator,
    spread: float = SPREAD,
    reach: float = REACH,
    distribution: Distribution | None = None,
) -> WPlus:
    """Shrink codes towards W: scale the differences between their rows by ``spread``, and bring their mean row to at most
    ``reach`` standard deviations (Mahalanobis) from the mean of W.

    Raises GanvasError for a spread outside 0 … 1, or a reach that isn't above 0.
    """
    if not 0 <= spread <= 1 or not reach > 0:
        raise GanvasError(f"The spread must be from 0 to 1 and the reach above 0, not {spread} and {reach}.")
    coordinates = WhitenedCoordinates.from_distribution(distribution or fit_w_distribution(generator), ws.device)
    mean = ws.mean(1, keepdim=True)
    whitened = coordinates.whiten(mean)
    nearer = coordinates.unwhiten(whitened * (reach / whitened.norm(dim=-1, keepdim=True)).clamp(max=1))
    return nearer + spread * (ws - mean)


def map_rows(ws: Tensor, source: tuple[int, ...], target: tuple[int, ...]) -> WPlus:
    """Map codes from rows at ``source`` resolutions to rows at ``target``.

    Each row takes the row at the same share of the rows of its own resolution, or of the nearest one.
    """
    places = []
    for i, resolution in enumerate(target):
        nearest = min(source, key=lambda other: abs(log2(other / resolution)))
        candidates = [k for k, other in enumerate(source) if other == nearest]
        same = [k for k, own in enumerate(target) if own == resolution]
        places.append(candidates[same.index(i) * len(candidates) // len(same)])
    return ws[:, places]


def _read_codes(path: Path) -> Tensor:
    if path.suffix == ".safetensors":
        tensors, _ = load_tensors(path)
        if len(tensors) != 1:
            raise GanvasError(f"{path} holds {len(tensors)} tensors: give a file with one, the codes.")
        return next(iter(tensors.values()))
    if path.suffix != ".npy":
        raise GanvasError(f"{path} must be a .npy or .safetensors file of codes.")
    return torch.from_numpy(read_npy(path).astype("float32"))
