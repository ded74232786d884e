"""Counts: one object more or fewer, outlines of what came and went, and many pictures with their counts as one file."""

from __future__ import annotations

import csv
import io
import secrets
import tempfile
import zipfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy import ndimage

from ganvas.app import rendering, request_checks
from ganvas.app.edit_handlers import PICTURE_OUTPUT, EditHandlers
from ganvas.app.scene import Scene
from ganvas.app.session import Session, Superseded, report_errors
from ganvas.app.slider_panel import check_attribute
from ganvas.errors import GanvasError
from ganvas.io.images import to_bytes
from ganvas.recipe.files import save_picture
from ganvas.recipe.model import FromSeed
from ganvas.types import Images

MAX_BATCH = 200
"""Pictures of one file at most."""
BATCH_PREFIX = "batch-"
OUTLINED_SIDE = 512
"""The least side of a picture with outlines, in pixels: lines of small pictures would be coarse."""
CAME, WENT = "#22c55e", "#ef4444"
MIN_DIFFERENCE = 0.7
"""The difference of two pixels, from -1 to 1 in brightness, from which one belongs to what came or went."""
MIN_AREA_SHARE, JOINED_SHARE = 0.004, 0.02
"""The least area of what is outlined, as a share of the picture's; half of the gap between parts that are joined, as a share of
its side."""


class ChangedBox(NamedTuple):
    """What came to a picture, or went from it: its box, in pixels, from the left and from the top, the ends excluded."""

    left: int
    top: int
    right: int
    bottom: int
    came: bool


class CountHandlers:
    """The handlers of counts."""

    def __init__(self, edit_handlers: EditHandlers) -> None:
        self.edit_handlers, self.resources = edit_handlers, edit_handlers.resources

    @report_errors
    async def pick_counted(self, name: Any, session: Session) -> Any:
        """Choose the attribute that plus and minus change."""
        check_attribute(self.resources, session.scene, request_checks.check_text("What is counted", name))
        session.counted_attribute = name
        return await self.edit_handlers.show_scene(session, session.start_request())

    def make_count_handler(self, by: int) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Make the handler that changes the counted attribute by ``by``, and outlines what came and went."""

        @report_errors
        async def change(session: Session) -> Any:
            """Change the count of the session's scene, and draw it."""
            before, name = session.scene, session.counted_attribute
            check_attribute(self.resources, before, name)
            session.commit()
            is_stale = session.set_scene(before.with_shift(name, float(by)))
            after = session.scene
            shown = await self.edit_handlers.show_scene(session, is_stale)

            def draw() -> bytes:
                pictures = [self.resources.render_shown(scene).float().cpu() for scene in (before, after)]
                return draw_changes(pictures[1], find_changes(*pictures))

            # The step is shown already: without outlines where these can't be drawn.
            with suppress(GanvasError, Superseded):
                outlined = await self.edit_handlers.run_with_generator(session, draw, is_stale)
                shown[PICTURE_OUTPUT] |= {"value": rendering.to_image_value(outlined)}
            return shown

        return change

    @report_errors
    async def make_batch(self, number: Any, session: Session) -> AsyncIterator[Any]:
        """Make pictures of the seeds from the present one on, changed as this one is, and yield the button with their file.

        The ZIP file has ``labels.csv``: file, seed, and the counts that the scorer sees.
        """
        n = request_checks.check_integer("How many", number, 1, MAX_BATCH)
        scene, folder = session.scene.without_refinement(), self.edit_handlers.get_session_folder(session)
        if not isinstance(scene.start, FromSeed):
            raise GanvasError("This picture has no seed to go on from: choose one of the gallery.")
        seeds = range(scene.start.seed, scene.start.seed + n)
        if seeds[-1] >= 2**32:
            raise GanvasError(f"Seeds end at {2**32 - 1}: there are {2**32 - seeds[0]} from this one on.")
        load = self.resources.load
        scorer = await self.edit_handlers.run_with_generator(session, lambda: load(scene).scorer)
        names = [name for name, kind in zip(scorer.attributes, scorer.kinds, strict=True) if kind == "count"]
        table = io.StringIO()
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(["file", "seed", *names])
        folder.mkdir(exist_ok=True)
        # Another path each time: browsers cache what they fetched.
        archive = folder / f"{BATCH_PREFIX}{secrets.token_hex(8)}.zip"
        try:
            with zipfile.ZipFile(archive, "w") as packed, tempfile.TemporaryDirectory() as temporary:
                for i, seed in enumerate(seeds):
                    each = replace(scene, start=replace(scene.start, seed=seed), mix=None)
                    file = Path(temporary) / f"seed{seed:07d}.png"
                    draw = partial(self._draw_labelled, each, file, names)
                    counts = await self.edit_handlers.run_with_generator(session, draw, lambda: session.is_ended)
                    packed.write(file, file.name)
                    rows.writerow([file.name, seed, *counts])
                    file.unlink()
                    yield gr.update(label=f"{i + 1} of {n} …", interactive=False, visible=True)
                packed.writestr("labels.csv", table.getvalue())
        except BaseException:
            archive.unlink(missing_ok=True)
            yield gr.update(visible=False)
            raise
        for earlier in folder.glob(f"{BATCH_PREFIX}*.zip"):
            if earlier != archive:
                earlier.unlink(missing_ok=True)
        yield gr.update(value=rendering.to_file_value(archive), label=f"{n} pictures (ZIP)", interactive=True)

    def _draw_labelled(self, scene: Scene, path: Path, names: list[str]) -> list[int]:
        """Draw a scene to a file with its recipe, and return what is counted in it."""
        picture, scorer = self.resources.render(scene).image, self.resources.load(scene).scorer
        save_picture(path, to_bytes(picture)[0], self.resources.make_recipe(scene), scene.codes)
        scores = self.resources.score(scene)[0]
        return [round(float(scores[scorer.column(name)])) for name in names]


def find_changes(before: Images, after: Images) -> list[ChangedBox]:
    """Find what became brighter and what became darker between two pictures (1, 3, height, width) of light things on dark."""
    difference = (after - before).mean(1)[0].numpy()
    joined = max(1, round(JOINED_SHARE * max(difference.shape)))
    found = []
    for came, mask in ((True, difference > MIN_DIFFERENCE), (False, difference < -MIN_DIFFERENCE)):
        labelled: Any = ndimage.label(ndimage.binary_dilation(mask, iterations=joined), np.ones((3, 3)))
        labels, _ = labelled
        for number, place in enumerate(ndimage.find_objects(labels), 1):
            inside = mask & (labels == number)
            if inside.sum() >= MIN_AREA_SHARE * mask.size:
                rows, columns = place
                found.append(ChangedBox(columns.start, rows.start, columns.stop, rows.stop, came))
    return found


def draw_changes(picture: Images, changes: list[ChangedBox]) -> bytes:
    """Draw boxes around changes, green for what came and red for what went, and return the picture as JPEG."""
    height, width = picture.shape[2:]
    scale = max(1, -(-OUTLINED_SIDE // min(height, width)))
    large = torch.nn.functional.interpolate(picture, scale_factor=scale, mode="bilinear") if scale > 1 else picture
    image = Image.fromarray(to_bytes(large)[0].contiguous().numpy())
    pen = ImageDraw.Draw(image)
    for change in changes:
        corners = (change.left, change.top, change.right - 1 / scale, change.bottom - 1 / scale)
        pen.rectangle(tuple(scale * end for end in corners), outline=CAME if change.came else WENT, width=3)
    return rendering.encode_image(image)
