"""Regions: where attributes show in pictures, so that an edit leaves everything else as it was.

A region is an ellipse, and what of it lies in certain parts of the face (``parts``), which are read for each picture. The edited
picture is blended into the original one by a Laplacian pyramid (Burt and Adelson, *A Multiresolution Spline With Application to
Image Mosaics*, 1983), so that there are no seams: coarse bands blend widely, fine ones closely. Where an edit uncovers what lay
behind a face, as shorter hair does, the original background is continued there (``extend_background``).
``regions.toml`` lists the regions of generators.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.generators.parts import PARTS, Parts
from ganvas.types import Images, WPlus
from ganvas.validation import Number, Positive, Share, parse, validated

COARSEST_SIDE = 16
"""The side at which the pyramid ends."""
EDGE_SLOPE = 2.0
"""The blended change is multiplied by min(1, EDGE_SLOPE · mask): coarse bands reach beyond the region, and are cut off there."""
HOLE_SOFTNESS = 0.25
"""The share of the radius in which the edge of a hole fades."""
FACE_MARGIN = 1.5
"""A place counts as background by max(0, 1 - FACE_MARGIN · its membership in a face)."""
MASK_SIDE = 256
"""The side at which masks of parts are drawn, and the background is continued; the lengths below are in its pixels."""
EDGE_RADIUS = 1
"""Pixels by which an edit is drawn beyond the parts as they are read."""
BACKGROUND_RADIUS = 8
"""Pixels around parts that don't count as background."""
SHOULDERS = (0.75, 0.88)
"""Where shoulders, not the background, lie behind hair in aligned faces, from a share of the height on: not yet at the first,
surely at the second."""
CHEEKS = (0.45, 0.52)
"""Where cheeks begin, likewise: below, an edit may draw a face where there was none, as a smile does."""
Ellipse = tuple[Number, Number, Positive, Positive]
Mask = Float[Tensor, "1 1 mask_height mask_width"]


@validated
class Region:
    """A soft ellipse, less another one: x, y of the middle and half the width and height, as shares of the picture.

    ``softness``: the share of the radius in which the ellipse's edge fades; a hole's fades in HOLE_SOFTNESS. ``parts``: the parts
    of the face that it is limited to, before or after the edit; none: it is all of the ellipse. ``covered``: an edit may draw
    there, or with ``parts`` where these were, what is no part of a face, such as a hat. ``keeps_tone``: edits leave the face's
    median colour.
    """

    ellipse: Ellipse
    hole: Ellipse | None = None
    softness: Annotated[Share, Field(gt=0)] = 0.25
    parts: tuple[Literal["hair", "face"], ...] | None = None
    covered: Literal[True] | None = None
    keeps_tone: Literal[True] | None = None
    WRITTEN_IF_SET: ClassVar = ("hole", "parts", "covered", "keeps_tone")

    @property
    def reads_parts(self) -> bool:
        """Whether parts of the face are read for an edit in the region: to limit it to some, or for the face's tone."""
        return bool(self.parts or self.keeps_tone)

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


@dataclass(frozen=True)
class EditedParts:
    """The parts of one face before and after an edit, n = 1; masks of them are (1, 1, MASK_SIDE, MASK_SIDE)."""

    before: Parts
    after: Parts

    def build_drawn(self, names: Sequence[str], covered: bool) -> Mask:
        """Build the mask of where the edited picture replaces the original, in an edit of the parts ``names``.

        ``covered``: wherever these lie before or after, as a hat may.
        """
        before, after = (_weigh_parts(each, names) for each in (self.before, self.after))
        if covered:
            return _widen(torch.maximum(after, before), EDGE_RADIUS)
        if "hair" in names:  # it may uncover a face
            after = torch.maximum(after, before * _weigh_parts(self.after, PARTS))
        else:  # hair lies over faces, and stays; so does what borders on a forehead, such as a hat
            after = after * (1 - _weigh_parts(self.before, ("hair",)))
            after = torch.minimum(
                after, torch.maximum(_widen(before, EDGE_RADIUS), _build_row_ramp(MASK_SIDE, *CHEEKS, before.device))
            )
        return torch.maximum(
            _widen(after, EDGE_RADIUS),
            self._build_vacated(names) * _build_row_ramp(MASK_SIDE, *SHOULDERS, self.after.device),
        )

    def build_uncovered(self, names: Sequence[str]) -> Mask:
        """Build the mask of what belonged to the parts ``names``, and shows what lies behind a face after the edit."""
        return self._build_vacated(names) * (1 - _build_row_ramp(MASK_SIDE, *SHOULDERS, self.after.device))

    def build_background(self) -> Mask:
        """Build the mask of what is background before the edit, away from the face."""
        face = _widen(_weigh_parts(self.before, PARTS), BACKGROUND_RADIUS)
        # Nothing of a face may leak in: memberships are never quite 1.
        return (1 - FACE_MARGIN * face).clamp(min=0)

    def _build_vacated(self, names: Sequence[str]) -> Mask:
        """Build the mask of what belonged to the parts ``names``, and is no part of a face any more."""
        # Who moves as a whole takes the outline along; of hair or a face alone, it belongs to what stays.
        whole = PARTS if {"hair", "face"} <= set(names) else names
        before = _widen(_weigh_parts(self.before, whole), BACKGROUND_RADIUS)
        return before * (1 - _weigh_parts(self.after, PARTS))


def _build_row_ramp(height: int, start: float, end: float, device: torch.device) -> Mask:
    """Build the mask (1, 1, height, 1) that rises from 0 at ``start`` to 1 at ``end``, shares of the height."""
    down = (torch.arange(height, device=device) + 0.5) / height
    return ((down - start) / (end - start)).clamp(0, 1)[None, None, :, None]


def _widen(mask: Mask, radius: int) -> Mask:
    # The maximum of a square is that of its columns' maxima.
    columns = F.max_pool2d(mask, (2 * radius + 1, 1), 1, (radius, 0))
    return F.max_pool2d(columns, (1, 2 * radius + 1), 1, (0, radius))


def _weigh_parts(parts: Parts, names: Sequence[str]) -> Mask:
    """Return how much each place belongs to the parts ``names``; an outline, where it isn't named, as its surroundings do."""
    named = parts[:, [PARTS.index(name) for name in names]].sum(1, keepdim=True)
    if "outline" not in names:
        surrounding = F.avg_pool2d(named, 5, 1, 2, count_include_pad=False)
        named = named + parts[:, [PARTS.index("outline")]] * (2 * surrounding).clamp(max=1)
    return _resize(named, MASK_SIDE)


def _resize(masks: Tensor, side: int) -> Tensor:
    return F.interpolate(masks, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)


def draw_for_regions(
    generator: Generator, ws: WPlus, regions: Sequence[Region], resolution: int | None = None
) -> tuple[Images, Parts | None]:
    """Draw one code, (1, num_ws, w_dim), and read its parts in the same pass if a region needs them."""
    if any(region.reads_parts for region in regions):
        return generator.draw_with_parts(ws, resolution)
    return generator.synthesis(ws, resolution=resolution), None


def pair_parts(before: Parts | None, after: Parts | None) -> EditedParts | None:
    """Return the parts before and after an edit together; None where either wasn't read."""
    return None if before is None or after is None else EditedParts(before, after)


def find_edited_parts(
    generator: Generator, regions: Sequence[Region], before: WPlus, after: WPlus
) -> EditedParts | None:
    """Read the parts of one face before and after an edit, codes (1, num_ws, w_dim), if a region needs them."""
    if not any(region.reads_parts for region in regions):
        return None
    return pair_parts(generator.read_parts(before), generator.read_parts(after))


@torch.no_grad()
def draw_edit(
    generator: Generator, before: WPlus, after: Float[Tensor, "edited num_ws w_dim"], attributes: Iterable[str]
) -> Images:
    """Draw edited codes, with pictures as before the edit wherever none of the edited attributes shows.

    For generators with regions (faces of "ffhq"); else, and where one of the attributes has no region, whole pictures change.

    Args:
        generator: The generator of the codes.
        before: The codes before the edit (n, num_ws, w_dim).
        after: The same codes, edited.
        attributes: The names of what was edited, as the editor has them.

    Returns:
        RGB pictures (n, 3, resolution, resolution), about -1 to 1, not clipped.

    Raises:
        GanvasError: There aren't as many codes before as after, or none, or no attribute is named.
    """
    names = tuple(attributes)
    if isinstance(attributes, str) or not names:
        raise GanvasError(f"Name what was edited in a list, like ['Smiling'], not {attributes!r}.")
    if len(before) != len(after) or not len(before):
        raise GanvasError(f"Give each code before and after the edit, not {len(before)} before and {len(after)} after.")
    regions = find_regions(generator.name, names)
    if not regions:
        return generator.synthesis(after)
    blended = []
    for pair in zip(before.split(1), after.split(1), strict=True):
        (old, old_parts), (new, new_parts) = (draw_for_regions(generator, ws, regions) for ws in pair)
        blended.append(blend_edit(old, new, regions, pair_parts(old_parts, new_parts)))
    return torch.cat(blended)


def blend_edit(before: Images, after: Images, regions: Sequence[Region], parts: EditedParts | None = None) -> Images:
    """Blend an edited picture into the original one in regions.

    Args:
        before: The original picture (1, 3, height, width).
        after: The edited one.
        regions: The regions, at least one.
        parts: What ``find_edited_parts`` found; without it regions are all of their ellipses.

    Returns:
        The picture (1, 3, height, width): outside of ``build_edit_mask`` it equals ``before``, bit for bit.
    """
    height, width = after.shape[-2:]
    drawn, uncovered = _build_masks(regions, parts, height, width)
    of_faces = [region for region in regions if region.keeps_tone or (region.parts and "face" in region.parts)]
    if parts is not None and of_faces and all(region.keeps_tone for region in of_faces):
        after = keep_tone(before, after, parts)
    known = parts.build_background() if parts is not None and uncovered.any() else None
    if known is not None and not known.any():  # there is nothing to continue
        drawn = torch.maximum(drawn, uncovered)
    elif known is not None:
        # What is continued is smooth: small pictures have all of it.
        small = F.interpolate(before, (MASK_SIDE, MASK_SIDE), mode="bilinear", antialias=True, align_corners=False)
        background = extend_background(small, known.to(before))
        before = torch.lerp(before, _resize_like(background, before), uncovered.to(before))
    return blend_pictures(before, after, drawn)


def keep_tone(before: Images, after: Images, parts: EditedParts) -> Images:
    """Shift the colours of an edited face so that their median change is 0: skin keeps its tone, glasses and teeth their colours.

    ``before`` and ``after``: (1, 3, height, width).
    """
    # Without the outline, beyond which the background would be tinted.
    column = PARTS.index("face")
    face, old = (_resize(each[:, column : column + 1], MASK_SIDE) for each in (parts.after, parts.before))
    places = torch.minimum(face, old)[0, 0] > 0.5
    if not places.any():
        return after
    difference = F.interpolate(after - before, places.shape, mode="bilinear", antialias=True, align_corners=False)
    shift = difference[0, :, places.to(difference.device)].float().median(1).values
    return after - shift[:, None, None].to(after) * _resize_like(face.to(after), after)


def build_edit_mask(regions: Sequence[Region], parts: EditedParts | None, height: int, width: int) -> Mask:
    """Build the mask of all that ``blend_edit`` may change, (1, 1, height, width), from 0 to 1."""
    drawn, uncovered = _build_masks(regions, parts, height, width)
    return torch.maximum(drawn, uncovered)


def _build_masks(regions: Sequence[Region], parts: EditedParts | None, height: int, width: int) -> tuple[Mask, Mask]:
    """Build the masks of what an edit draws, and of what it uncovers."""
    drawn, uncovered = [], [torch.zeros(1, 1, height, width)]
    for region in regions:
        mask = region.build_mask(height, width)
        if parts is not None and region.parts:
            if not region.covered:
                uncovered.append(mask * _resize_like(parts.build_uncovered(region.parts).to(mask), mask))
            mask = mask * _resize_like(parts.build_drawn(region.parts, bool(region.covered)).to(mask), mask)
        drawn.append(mask)
    return torch.stack(drawn).amax(0), torch.stack(uncovered).amax(0)


def extend_background(images: Images, known: Mask) -> Images:
    """Extend pictures smoothly to where ``known`` is 0, from where it is 1, by a pyramid of weighted means.

    Gortler et al., *The Lumigraph*, 1996, section 3.4 (pull and push).
    """
    if min(images.shape[-2:]) < 2 or bool((known == 1).all()):
        return images
    weight = F.avg_pool2d(known, 2)
    smaller = F.avg_pool2d(images * known, 2) / weight.clamp(min=1e-6)
    # A few known pixels are enough to trust their mean.
    smaller = extend_background(smaller, (4 * weight).clamp(max=1))
    return torch.lerp(_resize_like(smaller, images), images, known)


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
        bands.append((difference - _resize_like(smaller, difference), weight))
        difference, weight = smaller, _halve(weight)
    blended = difference * weight
    for band, weight in reversed(bands):
        blended = _resize_like(blended, band) + band * weight
    return before + blended * (EDGE_SLOPE * mask).clamp(max=1)


def _halve(images: Tensor) -> Tensor:
    """Blur by a binomial filter and take every second pixel."""
    taps = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]).to(images) / 16
    channels = images.shape[1]
    kernel = (taps[:, None] * taps).expand(channels, 1, 5, 5)
    return F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, stride=2, groups=channels)


def _resize_like(images: Tensor, to: Tensor) -> Tensor:
    return F.interpolate(images, to.shape[-2:], mode="bilinear", align_corners=False)
