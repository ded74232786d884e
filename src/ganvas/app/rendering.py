"""What the worker does for a page: previews, pictures in full, what moved, faces to choose from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ganvas.app.component_values import encode_webp
from ganvas.app.resources import AppResources
from ganvas.app.scene import Scene
from ganvas.control.conditions import MAX_DEVIATIONS
from ganvas.data.codes import load_codes, save_codes
from ganvas.errors import GanvasError
from ganvas.identity import SAME_PERSON
from ganvas.recipe.model import FromCodes, FromConditions, FromSeed, Mix
from ganvas.types import Images, WPlus

PREVIEW, THUMB = 384, 192
"""Sides in pixels of a picture while a slider moves, and of one to choose."""
STRIP = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Shares of an edit."""
SIMILAR_SHARE = 0.35
"""How much of another face is in one that's like this."""
CHANGE_MARGIN = 0.3
"""Faces that are asked for by example may lie so far from it, in σ."""
FREE_PSI = 0.85
"""The truncation of what such faces leave open."""


@dataclass(frozen=True)
class RenderedView:
    """A picture in full, with all that stands beside it."""

    picture: bytes
    readings: Mapping[str, float]
    """Where each attribute stands, in σ."""
    distance: float
    bound: float
    seen: Mapping[str, float]
    """What the scorer counts."""


def render_preview(shop: AppResources, scene: Scene) -> bytes:
    """The picture at ``PREVIEW`` pixels."""
    return encode_webp(shop.render(scene).at(PREVIEW))


def render_thumbnail(shop: AppResources, scene: Scene) -> bytes:
    """The picture at ``THUMB`` pixels; some hundreds are remembered."""
    return shop.thumb(scene, lambda: encode_webp(shop.render(scene).at(THUMB)))


@torch.no_grad()
def render_full(shop: AppResources, scene: Scene) -> RenderedView:
    """The picture at all its pixels, and what's read off it."""
    done, within = shop.render(scene), shop.bench(scene).within
    readings: dict[str, float] = {}
    seen: dict[str, float] = {}
    if scene.editor:
        found = shop.choices[scene.editor]
        readings = dict(zip(found.editor.attributes, found.editor.read(done.ws)[0].tolist(), strict=True))
        if found.counts:
            scorer, scores = shop.scorer(scene), shop.scores(scene)[0].tolist()
            seen = {name: scores[scorer.column(name)] for name in found.counts if name in scorer.attributes}
    distance = float(within.mahalanobis(done.ws)[0])
    return RenderedView(encode_webp(done.image), readings, distance, within.bound, seen)


def render_pair(shop: AppResources, scene: Scene) -> tuple[bytes, bytes]:
    """Before and after, in full."""
    return encode_webp(shop.render(scene.plain).image), encode_webp(shop.render(scene).image)


@dataclass(frozen=True)
class EditEffect:
    """What an edit did, as the scorer sees the pictures: attribute -> before and after, in σ."""

    bars: Mapping[str, tuple[float, float]]
    asked: tuple[str, ...]
    cosine: float | None
    """Of the two faces; None without dlib or without faces."""
    distance: float | None

    @property
    def drift(self) -> float | None:
        """The mean |change| of what wasn't asked for, in σ."""
        others = [abs(after - before) for name, (before, after) in self.bars.items() if name not in self.asked]
        return sum(others) / len(others) if others else None

    @property
    def same_person(self) -> bool | None:
        """What dlib says of the two faces."""
        return None if self.distance is None else self.distance < SAME_PERSON


@torch.no_grad()
def measure_effect(shop: AppResources, scene: Scene) -> EditEffect:
    """Compare the picture with the face before its edits, but for who is in them (``add_identity``).

    Raises GanvasError where nothing gives σ: without an editor.
    """
    if not scene.editor:
        raise GanvasError("What moved is told in an editor's σ: pick an editor.")
    editor, scorer = shop.choices[scene.editor].editor, shop.scorer(scene)
    names = [name for name in editor.attributes if name in scorer.attributes]
    columns = [scorer.column(name) for name in names]
    normal = editor.gaussianize.select([editor.attributes.index(name) for name in names])
    before, after = (normal(shop.scores(which)[:, columns])[0].tolist() for which in (scene.plain, scene))
    bars = dict(zip(names, zip(before, after, strict=True), strict=True))
    asked = tuple({name for step in scene.edits for name in (*step.set, *step.shift)})
    return EditEffect(bars, asked, None, None)


def add_identity(shop: AppResources, found: EditEffect, before: Images, after: Images) -> EditEffect:
    """With who is in the pictures, where dlib is installed and finds faces. Takes a while, and no generator."""
    first, second = shop.faces(before), shop.faces(after)
    if first is None or second is None or (first + second).isnan().any():
        return found
    cosine = float(torch.cosine_similarity(first, second)[0])
    return replace(found, cosine=cosine, distance=float((first - second).norm(dim=1)[0]))


# Faces to choose from. Each is a scene: what is chosen can be drawn again anywhere.


def render_seeds(scene: Scene, first: int, psi: float, n: int) -> list[Scene]:
    """The faces of ``n`` seeds from ``first`` on."""
    face = replace(scene.plain, mix=None, codes=None)
    return [replace(face, start=FromSeed(seed, psi)) for seed in range(first, min(first + n, 2**32))]


def mix_similar(shop: AppResources, scene: Scene, first: int, n: int, folder: Path) -> list[Scene]:
    """The face with a share of ``n`` others in it. One that is such a mixture itself is kept as a code first."""
    rows = tuple(range(shop.bench(scene).generator.num_ws))
    face = scene.plain if scene.mix is None else freeze_code(shop, scene.plain, folder)
    return [replace(face, mix=Mix(FromSeed(first + i, 1.0), rows, SIMILAR_SHARE)) for i in range(n)]


def freeze_code(shop: AppResources, scene: Scene, folder: Path) -> Scene:
    """The picture as the code that it has, which a recipe then starts from."""
    return view_code(shop, scene, shop.render(scene).ws, folder)


def view_code(shop: AppResources, scene: Scene, ws: WPlus, folder: Path) -> Scene:
    """The picture of one code (1, num_ws, w_dim), which the scene carries as a codes file would."""
    network, path = shop.bench(scene).generator, folder / "code.safetensors"
    save_codes(path, ws, network)
    codes = load_codes(path, network)
    path.unlink()
    return replace(scene.plain, start=FromCodes(codes.sha256, 0), mix=None, codes=codes)


def sample_at_sliders(scene: Scene, first: int, n: int) -> list[Scene]:
    """Faces drawn anew that stand where the sliders were moved to. Raises GanvasError where none was."""
    wanted = scene.step.set
    if not wanted:
        raise GanvasError("Move sliders first: the faces will be drawn to be as they say.")
    where = {
        name: (max(value - CHANGE_MARGIN, -MAX_DEVIATIONS), min(value + CHANGE_MARGIN, MAX_DEVIATIONS))
        for name, value in wanted.items()
    }
    face = replace(scene.plain, mix=None, codes=None)
    return [replace(face, start=FromConditions(where, first + i, FREE_PSI)) for i in range(n)]
