"""Put edited faces back into their photographs: outside of the edit's region the photograph keeps its pixels.

What the edit changed is added to the photograph through the inverse of the alignment, blended by a Laplacian pyramid. Where
the edit draws new content, such as teeth or a frame of glasses, the photograph would shine through: there the edited face
replaces it, in the photograph's colours.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from scipy.spatial import ConvexHull
from torch import Tensor

from ganvas.generators.regions import Mask, blend_pictures
from ganvas.inversion.alignment import Face, cut_face
from ganvas.scorers.celeba40 import match_softness
from ganvas.types import Images

BORDER_SHARE = 0.06
"""The share of the square's side in which every mask fades towards its border."""
ANALYSIS_SIDE = 256
"""The side at which colours and new content are measured; the lengths below are in its pixels."""
BROWS, FOREHEAD_SHARE = slice(17, 27), 0.22
"""The landmarks of the brows, and how far the forehead reaches above them, as a share of the square's side."""
OUTLINE_SHARE = 0.025
"""How far edits inside of a face reach beyond its outline, and the width in which they fade after that."""
DETAIL_SIGMA, COLOUR_SIGMA = 6.0, 12.0
"""What is finer than the first is detail; what is coarser than the second is colour."""
CONTENT_REACH, CONTENT_SIGMA = 5, 3.0
"""The radius around new content that is replaced, too, and the blur of its edge."""
SMOOTH_WEIGHT = 0.35
"""How much a smooth change counts as new content, beside a change of detail."""
KEPT_CHANGE, REPLACED_CHANGE = 0.1, 0.25
"""Changes, of the 2 from black to white, up to which the photograph is kept under the edit, and from which it is replaced."""
AGREEING_ERROR, DISAGREEING_ERROR = 0.35, 0.7
"""Errors of the inversion, blurred, up to which edits are pasted, and from which they aren't."""


def paste_face(
    photo: Images,
    quad: Float[Tensor, "4 2"],
    inverted: Tensor,
    edited: Tensor,
    mask: Tensor,
    *,
    limit: Tensor | None = None,
    whole: bool = False,
) -> Images:
    """Put an edited face back into its photograph.

    Args:
        photo: The photograph (1, 3, height, width).
        quad: The corners of the aligned square, as ``Face`` has them.
        inverted: The generator's picture of the square before the edit (1, 3, side, side).
        edited: The one after it, of the same shape.
        mask: Where the photograph may change, (1, 1, side, side), from 0 to 1.
        limit: The same in pixels of the photograph, (1, 1, height, width), where it is limited further.
        whole: Replace the face by the edited one everywhere in the mask.

    Returns:
        The photograph; where the mask is 0 or nothing was edited, it is equal bit for bit.
    """
    size = inverted.shape[-1]
    left, top, right, bottom = _find_box(quad, *photo.shape[2:])
    change = edited - inverted
    weight = torch.ones_like(change[:, :1]) if whole else _weigh_content(change)
    residual = cut_face(photo, quad, size) - inverted
    mask = mask * _fade_border(size) * (1 if whole else _weigh_agreement(residual))
    layers = torch.cat((change, inverted + _match_colours(residual, weight), weight, mask), 1)
    part = photo[:, :, top:bottom, left:right]
    warped = _warp_back(layers, quad - torch.tensor([left, top]), *part.shape[2:])
    change, rebuilt, weight, mask = warped.split((3, 3, 1, 1), 1)
    # photo + change - (photo - rebuilt) is the edited face with the photograph's colours.
    if limit is not None:
        mask = mask * limit[:, :, top:bottom, left:right]
    after = (part + (change - weight * (part - rebuilt))).clamp(-1, 1)
    result = photo.clone()
    result[:, :, top:bottom, left:right] = blend_pictures(part, after, mask)
    return result


def draw_face(face: Face, size: int) -> Mask:
    """Draw a face's outline in its square, 1 inside and 0 outside: the convex hull of its landmarks and the forehead."""
    across, down = (corner - face.quad[0] for corner in (face.quad[3], face.quad[1]))
    points = face.landmarks + 0.5 - face.quad[0]
    places = torch.stack((points @ across, points @ down), 1) / across.square().sum()
    forehead = places[BROWS] - torch.tensor([0.0, FOREHEAD_SHARE])
    sides = torch.from_numpy(ConvexHull(torch.cat((places, forehead)).numpy()).equations).float()
    side = min(ANALYSIS_SIDE, size)
    along = (torch.arange(side) + 0.5) / side
    grid = torch.stack(torch.meshgrid(along, along, indexing="xy"), -1)
    distance = (grid @ sides[:, :2].T + sides[:, 2]).amax(-1)
    return _resize((1 - (distance - OUTLINE_SHARE) / OUTLINE_SHARE).clamp(0, 1)[None, None], size)


def _find_box(quad: Tensor, height: int, width: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the photograph's part around a square."""
    low, high = quad.min(0).values.floor().long().tolist(), quad.max(0).values.ceil().long().tolist()
    return max(low[0], 0), max(low[1], 0), min(high[0] + 1, width), min(high[1] + 1, height)


def _warp_back(layers: Tensor, quad: Tensor, height: int, width: int) -> Tensor:
    """Draw a square's pictures where its corners are, (n, c, height, width); 0 outside: the inverse of ``cut_face``."""
    across, down = quad[3] - quad[0], quad[1] - quad[0]
    # At twice the photograph's resolution a sample's two neighbours span one of its pixels.
    side = max(2, round(2 * float(across.norm())))
    if side < layers.shape[-1]:
        layers = _resize(layers, side)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack((x, y), -1).float() - quad[0]
    # Sides of a square are orthogonal: its coordinates are projections.
    square = torch.stack((places @ across / across.square().sum(), places @ down / down.square().sum()), -1)
    return F.grid_sample(layers, (2 * square - 1)[None], "bilinear", "zeros", align_corners=False)


def _fade_border(size: int) -> Tensor:
    along = (torch.arange(size) + 0.5) / size
    fade = (torch.minimum(along, 1 - along) / BORDER_SHARE).clamp(max=1)
    return fade[:, None] * fade


def _weigh_content(change: Tensor) -> Tensor:
    """Return 1 where an edit draws new content, 0 where its change is small and smooth: (1, 1, side, side)."""
    size, side = change.shape[-1], min(ANALYSIS_SIDE, change.shape[-1])
    scale = side / ANALYSIS_SIDE
    small = _resize(change, side)
    smooth = match_softness(small, DETAIL_SIGMA * scale)
    amount = (small - smooth).abs() + SMOOTH_WEIGHT * smooth.abs()
    reach = round(CONTENT_REACH * scale)
    widened = F.max_pool2d(match_softness(amount, scale).amax(1, keepdim=True), 2 * reach + 1, 1, reach)
    weight = (match_softness(widened, CONTENT_SIGMA * scale) - KEPT_CHANGE) / (REPLACED_CHANGE - KEPT_CHANGE)
    return _resize(weight.clamp(0, 1), size)


def _weigh_agreement(residual: Tensor) -> Tensor:
    """Return 0 where an inversion shows something else than the photograph, such as hair for a wall: (1, 1, side, side)."""
    size, side = residual.shape[-1], min(ANALYSIS_SIDE, residual.shape[-1])
    smooth = match_softness(_resize(residual, side), DETAIL_SIGMA * side / ANALYSIS_SIDE)
    # Another exposure of the whole picture is no disagreement.
    error = (smooth - smooth.flatten(2).median(2).values[..., None, None]).abs().mean(1, keepdim=True)
    agreement = 1 - (error - AGREEING_ERROR) / (DISAGREEING_ERROR - AGREEING_ERROR)
    return _resize(agreement.clamp(0, 1), size)


def _match_colours(residual: Tensor, weight: Tensor) -> Tensor:
    """Return what brings an inversion to the photograph's colours: the blurred residual, mostly of what isn't replaced."""
    size, side = residual.shape[-1], min(ANALYSIS_SIDE, residual.shape[-1])
    small, kept = _resize(residual, side), 1.05 - _resize(weight, side)
    sigma = COLOUR_SIGMA * side / ANALYSIS_SIDE
    colours = match_softness(small * kept, sigma) / match_softness(kept, sigma)
    return _resize(colours, size)


def _resize(layers: Tensor, side: int) -> Tensor:
    """Resize squares of any number of channels."""
    return F.interpolate(layers, (side, side), mode="bilinear", antialias=True, align_corners=False)
