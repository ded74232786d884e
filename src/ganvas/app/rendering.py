"""Previews, full pictures, edits' effects and faces to choose from, as the page's components show them.

What takes ``resources`` runs in the generator's thread, except ``add_identity``. Pictures are JPEG in the message itself: Gradio
would write a file for each.
"""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from gradio.data_classes import FileData, ImageData
from PIL import Image

from ganvas.app.attribute_words import format_attribute, get_sign
from ganvas.app.photographs import FacePhoto, list_samples
from ganvas.app.resources import AppResources, Reach, find_early_side
from ganvas.app.scene import Scene
from ganvas.app.slider_scale import SLIDER_LIMIT_SIGMA
from ganvas.app.storage import AppStorage
from ganvas.control.conditions import MAX_DEVIATIONS
from ganvas.data.codes import load_codes, save_codes
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError, unknown
from ganvas.identity import SAME_PERSON_DISTANCE
from ganvas.io.images import downscale, read_picture, to_bytes
from ganvas.recipe.model import FromCodes, FromConditions, FromSeed, Mix
from ganvas.types import Images, WPlus

PREVIEW_SIDE, THUMBNAIL_SIDE = 512, 160
"""Sides in pixels of the picture while a slider moves, at most, and of a face in a gallery."""
STRIP_AMOUNTS = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Amounts of the edit in the strip."""
STRIP_SIGMA = 2.0
"""The change of an unnamed component in the small pictures beside the face."""
ALL_ROWS, SAVED_ROWS = "all", "saved"
"""What sliders change, beside MIXED_PARTS: all rows, and those of an opened recipe."""
MIXED_PARTS = {"Pose and shape": (4, 8), "Features": (16, 32), "Colours": (64, 4096)}
"""What a mix takes from another face: the lowest and highest resolution at which rows of the code act."""
SIMILAR_SHARE = 0.35
"""The amount of another face in a similar one."""
SAMPLE_MARGIN_SIGMA = 0.3
"""How far sampled faces may lie from the sliders' values, in σ."""
SAMPLE_PSI = 0.85
"""The truncation of sampled faces."""
JPEG_QUALITY = 90
MAX_BAR_SIGMA = 3.0
"""σ at the ends of a chart's bars."""


# Values of components.


def encode_picture(image: Images) -> bytes:
    """Encode one picture, (1, 3, height, width) in [-1, 1], as JPEG for a screen: fast, and whole in a message."""
    return encode_image(Image.fromarray(to_bytes(image)[0].contiguous().numpy()))


def encode_image(image: Image.Image) -> bytes:
    """Encode an image of Pillow as ``encode_picture`` does."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def to_url(data: bytes) -> str:
    """Return the URL of an encoded picture, which holds all of it."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def to_image_value(data: bytes) -> dict[str, Any]:
    """Return the value of a ``gr.Image`` for an encoded picture; two of them in a list are a ``gr.ImageSlider``'s."""
    return ImageData(url=to_url(data), mime_type="image/jpeg").model_dump()


def to_gallery_value(shown: Iterable[tuple[bytes, str]]) -> list[dict[str, Any]]:
    """Return the value of a ``gr.Gallery`` for encoded pictures and their captions."""
    return [{"image": to_image_value(data), "caption": caption} for data, caption in shown]


def draw_choices(shown: Iterable[tuple[bytes, str]]) -> str:
    """Draw encoded pictures and their captions as buttons to choose from, as HTML."""
    return "".join(
        f"<button type='button' data-index='{i}'><img src='{to_url(data)}' alt=''><span>{escape(caption)}</span></button>"
        for i, (data, caption) in enumerate(shown)
    )


@cache
def draw_samples() -> str:
    """Draw the photographs to try as buttons, as HTML."""
    shown = []
    for title, path in list_samples():
        picture = read_picture(path)
        side = min(picture.shape[2:])
        shown.append((encode_picture(downscale(picture[..., :side, :side], THUMBNAIL_SIDE)), title))
    return draw_choices(shown)


def draw_faces(photos: Sequence[FacePhoto]) -> str:
    """Draw a photograph with its faces outlined, and each face below it, as buttons to choose from, as HTML."""
    outlines = ""
    for i, photo in enumerate(photos):
        x, y, side, angle = photo.find_place()
        outlines += (
            f"<button type='button' data-index='{i}' tabindex='-1' aria-hidden='true' style='left:{x:.2%};top:{y:.2%};"
            f"width:{side:.2%};rotate:{angle:.3f}rad'>{i + 1}</button>"
        )
    height, width = photos[0].pixels.shape[:2]
    url = to_url(encode_picture(photos[0].shown))
    crops = [encode_picture(photo.cut_shown(photo.shown, THUMBNAIL_SIDE)) for photo in photos]
    return (
        f"<div class='gv-people' style='--ratio:{width / height:.4f}'><img src='{url}' alt='Your photograph'>{outlines}</div>"
        + draw_choices((crop, f"Face {i + 1}") for i, crop in enumerate(crops))
    )


def to_file_value(path: Path) -> dict[str, Any]:
    """Return the value of a ``gr.DownloadButton`` for a file."""
    return FileData(path=str(path), orig_name=path.name).model_dump()


# Pictures.


@dataclass(frozen=True)
class RenderedView:
    """A picture in full, with the values that are shown beside it."""

    picture: bytes
    readings: Mapping[str, float]
    """The editor's reading of each attribute, in σ."""
    start_readings: Mapping[str, float]
    """The same before all edits."""
    reach: Reach
    """How far each attribute of the unedited face reaches down and up, in σ."""
    distance: float
    bound: float
    counts: Mapping[str, float]
    """The scorer's counts."""
    start_counts: Mapping[str, float]
    """The counts before the sliders' and buttons' changes."""


@torch.no_grad()
def render_preview(resources: AppResources, scene: Scene, resting: Scene) -> bytes:
    """Render the picture while a slider moves.

    What changed since the ``resting`` scene is drawn early, and added to that scene's picture, which was shown last: so the
    picture doesn't jump when a slider begins to move.
    """
    early = resources.render_preview(scene)
    same_face = replace(resting.unedited, editor=scene.editor) == scene.unedited
    if not same_face or not resources.is_shown_cached(resting):
        return encode_picture(early)
    rest = resources.render_shown(resting)
    share = min(1.0, PREVIEW_SIDE / max(rest.shape[2:]))
    sides = [round(side * share) for side in rest.shape[2:]]
    change = (early - resources.render_preview(resting)).float()
    small = F.interpolate(rest.float(), sides, mode="bilinear", antialias=True, align_corners=False)
    return encode_picture(small + F.interpolate(change, sides, mode="bilinear", align_corners=False))


def render_thumbnail(resources: AppResources, scene: Scene) -> bytes:
    """Render the picture at ``THUMBNAIL_SIDE`` pixels, encoded; the last ones are cached."""
    return resources.cache_thumbnail(scene, lambda: encode_picture(resources.render_small(scene, THUMBNAIL_SIDE)))


@torch.no_grad()
def render_component(resources: AppResources, scene: Scene, components: Editor, name: str) -> list[bytes]:
    """Render the unedited face with less of a component, as it is, and with more, at ``THUMBNAIL_SIDE`` pixels, encoded."""
    network, start = resources.load(scene).generator, resources.compute_start(scene)
    early = find_early_side(network, THUMBNAIL_SIDE)
    less, more = (
        network.synthesis(components.edit_quietly(start, {name: by}), resolution=early)
        for by in (-STRIP_SIGMA, STRIP_SIGMA)
    )
    side = min(THUMBNAIL_SIDE, early)
    ends = [encode_picture(downscale(each, side)) for each in (less, more)]
    return [ends[0], render_thumbnail(resources, scene.unedited), ends[1]]


@torch.no_grad()
def render_full(resources: AppResources, scene: Scene) -> RenderedView:
    """Render the picture at all its pixels, and read the attributes, the counts and the distance off it."""
    rendering, distribution = resources.render(scene), resources.load(scene).distribution
    readings: dict[str, float] = {}
    starts: dict[str, float] = {}
    reach: Reach = {}
    counts: dict[str, float] = {}
    start_counts: dict[str, float] = {}
    if scene.editor:
        choice = resources.require_choice(scene.editor)
        start = resources.compute_start(scene)
        readings, starts = (
            dict(zip(choice.editor.attributes, choice.editor.read(ws)[0].tolist(), strict=True))
            for ws in (rendering.ws, start)
        )
        reach = resources.cache_reach(
            scene.unedited, lambda: find_reach(choice.editor, start, starts, choice.shown_sliders)
        )
        if choice.counts:
            scorer = resources.load(scene).scorer
            columns = {name: scorer.column(name) for name in choice.counts if name in scorer.attributes}
            before = scene.without_changes(*scene.changed_attributes)
            counts, start_counts = (
                {name: scores[column] for name, column in columns.items()}
                for scores in (resources.score(each)[0].tolist() for each in (scene, before))
            )
    distance = float(distribution.mahalanobis(rendering.ws)[0])
    picture = encode_picture(resources.render_shown(scene))
    return RenderedView(picture, readings, starts, reach, distance, distribution.bound, counts, start_counts)


def find_reach(editor: Editor, start: WPlus, readings: Mapping[str, float], names: Sequence[str]) -> Reach:
    """Return how far single changes of a code, (1, num_ws, w_dim), reach down and up, in σ, within the sliders."""
    if not editor.may_fall_short or not names:
        return {}
    ends = torch.tensor([[-SLIDER_LIMIT_SIGMA - readings[name], SLIDER_LIMIT_SIGMA - readings[name]] for name in names])
    # One code for each end of each slider, and one change each.
    changes = torch.diag(ends.flatten()).view(-1, len(names), 2).sum(2)
    shares = editor.compute_reach(
        start.expand(2 * len(names), -1, -1), dict(zip(names, changes.to(start).T, strict=True))
    )
    columns = [editor.attributes.index(name) for name in names for _ in range(2)]
    reached = shares[range(2 * len(names)), columns].view(-1, 2).cpu() * ends
    return {
        name: (max(readings[name] + low, -SLIDER_LIMIT_SIGMA), min(readings[name] + high, SLIDER_LIMIT_SIGMA))
        for name, (low, high) in zip(names, reached.tolist(), strict=True)
    }


def render_pair(resources: AppResources, scene: Scene) -> tuple[bytes, bytes]:
    """Render the unedited and the edited picture in full, encoded."""
    return encode_picture(resources.render_shown(scene.unedited)), encode_picture(resources.render_shown(scene))


@dataclass(frozen=True)
class EditEffect:
    """What an edit changed, as the scorer reads the pictures."""

    values: Mapping[str, tuple[float, float]]
    """Attribute -> value before and after, in σ."""
    targets: tuple[str, ...]
    """The attributes that were edited."""
    cosine: float | None
    """Cosine similarity of the two faces' embeddings; None without dlib or without faces."""
    distance: float | None

    @property
    def drift(self) -> float | None:
        """The mean absolute change of the attributes that weren't edited, in σ."""
        others = [abs(after - before) for name, (before, after) in self.values.items() if name not in self.targets]
        return sum(others) / len(others) if others else None

    @property
    def same_person(self) -> bool | None:
        """Whether dlib takes both faces for one person; None without dlib or without faces."""
        return None if self.distance is None else self.distance < SAME_PERSON_DISTANCE


@torch.no_grad()
def measure_effect(resources: AppResources, scene: Scene) -> EditEffect:
    """Compare the scores of the picture and of the unedited face; identities are left to ``add_identity``.

    Raises GanvasError without an editor, whose σ is the unit.
    """
    if not scene.editor:
        raise GanvasError("An edit's effect is measured with an editor: pick one.")
    editor, scorer = resources.require_choice(scene.editor).editor, resources.load(scene).scorer
    names = [name for name in editor.attributes if name in scorer.attributes]
    columns = [scorer.column(name) for name in names]
    normal = editor.gaussianize.select([editor.attributes.index(name) for name in names])
    before, after = (normal(resources.score(which)[:, columns])[0].tolist() for which in (scene.unedited, scene))
    values = dict(zip(names, zip(before, after, strict=True), strict=True))
    targets = tuple({name for step in scene.edits for name in (*step.set, *step.shift)})
    return EditEffect(values, targets, None, None)


def add_identity(resources: AppResources, effect: EditEffect, before: Images, after: Images) -> EditEffect:
    """Return the effect with the distance of both faces, where dlib is installed and finds them. Slow; needs no generator."""
    first, second = resources.embed_face(before), resources.embed_face(after)
    if first is None or second is None or (first + second).isnan().any():
        return effect
    cosine = float(torch.cosine_similarity(first, second)[0])
    return replace(effect, cosine=cosine, distance=float((first - second).norm(dim=1)[0]))


def draw_chart(effect: EditEffect) -> str:
    """Draw a table of all attributes before and after an edit, as HTML: its targets first, then what changed most."""
    order = sorted(
        effect.values, key=lambda n: (n not in effect.targets, -abs(effect.values[n][1] - effect.values[n][0]))
    )
    rows = "".join(_draw_row(name, *effect.values[name], name in effect.targets) for name in order)
    head = "<tr><th scope='col'>Attribute</th><th scope='col'>Before</th><th scope='col'>After</th>"
    key = "<span class='gv-key gv-before'></span> before <span class='gv-key gv-after'></span> after"
    return (
        f"<div class='gv-moved'>{_summarize(effect)}<p class='gv-legend'>{key}. 0 is an average face, and most lie"
        f" between −2 and 2; the bars go from −{MAX_BAR_SIGMA:g} to {MAX_BAR_SIGMA:g}.</p>"
        f"<table>{head}<th scope='col'><span class='gv-hidden'>Bars</span></th></tr>{rows}</table></div>"
    )


def _draw_row(name: str, before: float, after: float, is_target: bool) -> str:
    kind = " class='gv-target'" if is_target else ""
    before, after = (value * get_sign(name) + 0.0 for value in (before, after))
    bars = f"<div class='gv-bars' aria-hidden='true'>{_draw_bar(before, 'before')}{_draw_bar(after, 'after')}</div>"
    return (
        f"<tr{kind}><th scope='row'>{escape(format_attribute(name))}</th><td>{before:+.1f}</td><td>{after:+.1f}</td>"
        f"<td>{bars}</td></tr>"
    )


def _draw_bar(value: float, kind: str) -> str:
    share = 50 * max(-1.0, min(1.0, value / MAX_BAR_SIGMA))
    left, width = (50.0, share) if share >= 0 else (50 + share, -share)
    return f"<i class='gv-{kind}' style='left:{left:.1f}%;width:{max(width, 0.6):.1f}%'></i>"


def _summarize(effect: EditEffect) -> str:
    lines = []
    if not effect.targets:
        lines.append("Nothing is changed yet.")
    if effect.drift is not None:
        lines.append(f"<b>Everything else</b> changed by {effect.drift:.2f} on average.")
    if effect.cosine is not None and effect.distance is not None:
        identity = "the same person" if effect.same_person else "another person"
        lines.append(
            f"<b>Face recognition</b> (dlib) takes them for {identity}: distance {effect.distance:.2f}, where less than"
            f" {SAME_PERSON_DISTANCE:g} is the same person; similarity {effect.cosine:.2f}, where 1 is the same face."
        )
    return "".join(f"<p>{text}</p>" for text in lines)


# Faces to choose from, as scenes.


def make_seed_scenes(scene: Scene, first: int, psi: float, n: int) -> list[Scene]:
    """Return the faces of ``n`` seeds from ``first`` on."""
    return [scene.with_start(FromSeed(seed, psi)) for seed in range(first, min(first + n, 2**32))]


def make_similar_scenes(resources: AppResources, scene: Scene, first: int, n: int, storage: AppStorage) -> list[Scene]:
    """Return the face mixed with each of ``n`` others. A face that is such a mixture itself is first stored as a code."""
    rows = tuple(range(resources.load(scene).generator.num_ws))
    face = scene.unedited if scene.mix is None else freeze_code(resources, scene.unedited, storage)
    face = replace(face, photo=None)
    return [replace(face, mix=Mix(FromSeed(first + i, 1.0), rows, SIMILAR_SHARE)) for i in range(n)]


def find_rows(resources: AppResources, scene: Scene, part: str) -> list[int]:
    """Return the rows that draw a part of a face, one of MIXED_PARTS. Raises GanvasError for another part."""
    if part not in MIXED_PARTS:
        raise unknown("part of a face", part, MIXED_PARTS)
    low, high = MIXED_PARTS[part]
    return [row for row, resolution in enumerate(resources.get_row_resolutions(scene)) if low <= resolution <= high]


def make_mixed_scene(
    resources: AppResources, scene: Scene, seed: int, parts: Sequence[str], storage: AppStorage
) -> Scene:
    """Return the face with some parts of another one: the rows of its code that act at their resolutions.

    The parts replace those of an earlier mix; a face that is mixed otherwise is first stored as a code. Raises GanvasError for
    no parts, unknown ones, and where the generator has no such rows.
    """
    rows = [row for part in parts for row in find_rows(resources, scene, part)]
    if not rows:
        raise GanvasError("Choose what comes from the other face: this generator has nothing of that.")
    if scene.mix is not None and scene.mix.amount != 1:
        scene = replace(freeze_code(resources, scene.unedited, storage), edits=scene.edits, rows=scene.rows)
    psi = scene.start.psi if isinstance(scene.start, FromSeed) else 0.7
    return replace(scene.without_refinement(), photo=None, mix=Mix(FromSeed(seed, psi), tuple(sorted(rows))))


def freeze_code(resources: AppResources, scene: Scene, storage: AppStorage) -> Scene:
    """Return the unedited scene of the code that the picture has."""
    return make_code_scene(resources, scene, resources.render(scene).ws, storage)


def make_code_scene(
    resources: AppResources, scene: Scene, ws: WPlus, storage: AppStorage, photo: FacePhoto | None = None
) -> Scene:
    """Return the scene of one code, (1, num_ws, w_dim), which the scene carries as a codes file does, and store the code."""
    network = resources.load(scene).generator
    with tempfile.TemporaryDirectory(dir=storage.folder) as own:
        path = Path(own, "code.safetensors")
        save_codes(path, ws, network)
        codes = load_codes(path, network)
    storage.save_code(codes, 0, photo)
    return replace(scene.with_start(FromCodes(codes.sha256, 0)), codes=codes, photo=photo)


def make_slider_scenes(scene: Scene, first: int, n: int) -> list[Scene]:
    """Return ``n`` new faces sampled near the sliders' values. Raises GanvasError where no slider was moved."""
    target_values = scene.slider_edit.set
    if not target_values:
        raise GanvasError("Move sliders first: faces are sampled near their values.")
    where = {
        name: (max(value - SAMPLE_MARGIN_SIGMA, -MAX_DEVIATIONS), min(value + SAMPLE_MARGIN_SIGMA, MAX_DEVIATIONS))
        for name, value in target_values.items()
    }
    return [scene.with_start(FromConditions(where, first + i, SAMPLE_PSI)) for i in range(n)]
