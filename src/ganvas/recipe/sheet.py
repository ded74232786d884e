"""Sheets: several recipes as one labelled grid, or as the frames of an animation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.images import downscale, to_bytes
from ganvas.recipe.model import EditStep, Mix, Recipe, Sheet, Start
from ganvas.recipe.rendering import Tools, compute_code, draw_code
from ganvas.types import WPlus

Frames = tuple[list[Tensor], WPlus]
"""Pictures (size, size, 3), uint8, and their codes."""


def make_strength_grid(
    faces: dict[str, Recipe],
    attributes: Sequence[str],
    strengths: Sequence[float],
    size: int = 256,
    rows: tuple[int, ...] | None = None,
) -> Sheet:
    """Make a grid like Lesné et al.'s figure 3: a row for each face and attribute, a column for each strength.

    ``faces``: recipes by the text of their rows. ``rows``: those of W+ that are moved, None for all.
    Raises GanvasError where one of the first three is empty.
    """
    if not (faces and attributes and strengths):
        raise GanvasError("A grid needs at least one face, one attribute and one strength.")
    cells = [(face, name) for face in faces for name in attributes]
    pictures = [
        replace(faces[face], edits=(*faces[face].edits, EditStep(shift={name: strength}, rows=rows)))
        for face, name in cells
        for strength in strengths
    ]
    titles = tuple(f"{face}: {name}" for face, name in cells)
    return Sheet("grid", tuple(pictures), titles, tuple(f"{strength:+g}" for strength in strengths), size)


def interpolate_frames(recipe: Recipe, to: Start | None, num_ws: int, frames: int) -> list[Recipe]:
    """Return ``frames`` recipes from a face without its edits to the face with them, and on a line to the face ``to`` if given.

    Raises GanvasError for fewer than two frames.
    """
    if frames < 2:
        raise GanvasError(f"An animation needs at least 2 frames, not {frames}.")
    return [_interpolate(recipe, to, num_ws, i / (frames - 1)) for i in range(frames)]


def _interpolate(recipe: Recipe, to: Start | None, num_ws: int, share: float) -> Recipe:
    edits = tuple(replace(step, amount=step.amount * share) for step in recipe.edits)
    mix = recipe.mix if to is None else Mix(to, tuple(range(num_ws)), share)
    return replace(recipe, edits=edits, mix=mix)


def make_animation(pictures: Sequence[Recipe], size: int, rate: float, back: bool) -> Sheet:
    """Make an animation of the frames, with ``back`` followed by the same frames in reverse order."""
    frames = (*pictures, *pictures[-2:0:-1]) if back else tuple(pictures)
    return Sheet("animation", frames, (), (), size, rate)


@torch.no_grad()
def render_frames(sheet: Sheet, tools: Tools, track: Callable[[Sequence[Any]], Iterable[Any]] = iter) -> Frames:
    """Render the pictures of a sheet, with their codes; equal recipes are rendered once.

    All codes are computed before the first picture is drawn. ``track`` iterates over the work and may show progress.
    Raises GanvasError as ``recipe.rendering.compute_code`` does.
    """
    unique: list[Recipe] = []
    for picture in sheet.pictures:
        if picture not in unique:
            unique.append(picture)
    codes = [compute_code(recipe, tools) for recipe in unique]
    size = min(sheet.size, tools.generator.resolution)
    jobs = list(zip(codes, unique, strict=True))
    drawn = [to_bytes(downscale(draw_code(ws, recipe, tools), size))[0] for ws, recipe in track(jobs)]
    order = [unique.index(picture) for picture in sheet.pictures]
    return [drawn[i] for i in order], torch.cat([codes[i] for i in order])
