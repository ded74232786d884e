"""Regions: where attributes show in pictures, so that an edit leaves everything else as it was.

The edited picture is blended into the original one by a Laplacian pyramid (Burt and Adelson, *A Multiresolution Spline With
Application to Image Mosaics*, 1983), so that there are no seams: coarse bands blend widely, fine ones closely.
``regions.toml`` lists the regions of generators.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.resources import files
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.types import Images
from ganvas.validation import Number, Positive, Share, parse, validated

COARSEST_SIDE = 16
"""The side at which the pyramid ends."""
EDGE_SLOPE = 2.0
"""How much faster than the mask the bound on changes rises: coarse bands reach beyond the region, and are cut off there."""
HOLE_SOFTNESS = 0.25
"""The share of the radius in which the edge of a hole fades."""
Ellipse = tuple[Number, Number, Positive, Positive]
Mask = Float[Tensor, "1 1 mask_height mask_width"]


@validated
class Region:
    """A soft ellipse, less another one: x, y of the middle and half the width and height, as shares of the picture.

    ``softness``: the share of the radius in which the ellipse's edge fades; a hole's fades in HOLE_SOFTNESS.
    """

    ellipse: Ellipse
    hole: Ellipse | None = None
    softness: Annotated[Share, Field(gt=0)] = 0.25
    WRITTEN_IF_SET: ClassVar = ("hole",)

    def build_mask(self, height: int, width: int) -> Mask:
        """Return the mask: 0 outside, 1 inside."""
        mask = _draw_ellipse(self.ellipse, self.softness, height, width)
        return (
            mask if self.hole is None else (mask - _draw_ellipse(self.hole, HOLE_SOFTNESS, height, width)).clamp(min=0)
        )


def _draw_ellipse(ellipse: Ellipse, softness: float, height: int, width: int) -> Mask:
    x, y, half_width, half_height = ellipse
    across = ((torch.arange(width) + 0.5) / width - x) / half_width
    down = ((torch.arange(height) + 0.5) / height - y) / half_height
    radius = (down[:, None].square() + across.square()).sqrt()
    return ((1 - radius) / softness).clamp(0, 1)[None, None]


@cache
def load_regions(generator: str) -> dict[str, tuple[Region, tuple[str, ...]]]:
    """Load the regions of a generator by its name: region -> its shape and attributes; none for an unknown generator."""
    rows = tomllib.loads(files("ganvas.generators").joinpath("regions.toml").read_text(encoding="utf-8"))
    found = {}
    for name, row in rows.get(generator, {}).items():
        shape = {key: value for key, value in row.items() if key != "attributes"}
        found[name] = parse(Region, shape, f"regions.toml, {name}"), tuple(row["attributes"])
    return found


def find_regions(generator: str, attributes: Iterable[str]) -> tuple[Region, ...]:
    """Return the regions in which attributes show; none where one of them shows in the whole picture.

    Args:
        generator: The name of a generator, such as "ffhq".
        attributes: The attributes that an edit changes.

    Returns:
        The regions, each once; empty if the edit is one of the whole picture.
    """
    known, found = load_regions(generator), []
    for attribute in attributes:
        names = [name for name, (_, members) in known.items() if attribute in members]
        if not names:
            return ()
        found += names
    return tuple(known[name][0] for name in dict.fromkeys(found))


def build_mask(regions: Sequence[Region], height: int, width: int) -> Mask:
    """Build the mask of all regions together, (1, 1, height, width), from 0 to 1."""
    return torch.stack([region.build_mask(height, width) for region in regions]).amax(0)


def blend_pictures(before: Tensor, after: Tensor, mask: Mask) -> Images:
    """Blend edited pictures into the original ones where the mask is 1.

    Args:
        before: The original pictures (n, 3, height, width).
        after: The edited ones, of the same shape.
        mask: From 0 to 1, (1, 1, h, w) of any size.

    Returns:
        The pictures (n, 3, height, width). Where the mask is 0 they equal ``before``, bit for bit.

    Raises:
        GanvasError: The shapes differ.
    """
    if before.shape != after.shape:
        shapes = " and ".join("×".join(map(str, images.shape)) for images in (before, after))
        raise GanvasError(f"The pictures before and after an edit must have one shape, not {shapes}.")
    mask = F.interpolate(mask.to(after), after.shape[-2:], mode="bilinear", align_corners=False).clamp(0, 1)
    difference, weight, bands = after - before, mask, []
    while min(difference.shape[-2:]) >= 2 * COARSEST_SIDE:
        smaller = _halve(difference)
        bands.append((difference - _enlarge(smaller, difference), weight))
        difference, weight = smaller, _halve(weight)
    blended = difference * weight
    for band, weight in reversed(bands):
        blended = _enlarge(blended, band) + band * weight
    return before + blended * (EDGE_SLOPE * mask).clamp(max=1)


def _halve(images: Tensor) -> Tensor:
    """Blur by a binomial filter and take every second pixel."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]).to(images) / 16
    channels = images.shape[1]
    kernel = (taps[:, None] * taps).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=channels)


def _enlarge(images: Tensor, to: Tensor) -> Tensor:
    return F.interpolate(images, to.shape[-2:], mode="bilinear", align_corners=False)
