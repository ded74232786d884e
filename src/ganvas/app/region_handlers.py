"""Where edits may change the picture: a region of a list, one that is clicked in the picture, or a painted one, outlined."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import gradio as gr
import torch
from jaxtyping import Bool, Float
from PIL import Image, ImageDraw
from scipy import ndimage
from torch import Tensor

from ganvas.app import rendering, request_checks
from ganvas.app.edit_handlers import PICTURE_OUTPUT, EditHandlers, list_regions
from ganvas.app.resources import AppResources
from ganvas.app.scene import AUTOMATIC_REGION, PAINTED_REGION, Scene
from ganvas.app.session import Session, Superseded, report_errors
from ganvas.errors import GanvasError, unknown
from ganvas.generators.regions import MASK_SIDE, build_edit_mask, find_edited_parts, load_regions
from ganvas.io.images import to_bytes

CLICKED_REGIONS = ("eyes", "mouth", "hair", "face")
"""The regions that a click may choose; the smallest of those that have the point."""
OUTLINE, OUTLINE_SHARE = "#4f46e5", 0.003
"""The outline's colour, and half of its width as a share of the picture's."""

RegionMask = Bool[Tensor, "256 256"]


class RegionHandlers:
    """The handlers of regions."""

    def __init__(self, edit_handlers: EditHandlers) -> None:
        self.edit_handlers, self.resources = edit_handlers, edit_handlers.resources

    @report_errors
    async def choose_region(self, region: Any, session: Session) -> Any:
        """Keep edits to a region, to where their attributes show, or to nothing."""
        names = [name for _, name in list_regions(session.scene)]
        if region not in names:
            raise unknown("region", region, names)
        return await self._show_region(session, region)

    @report_errors
    async def paint_region(self, value: Any, session: Session) -> Any:
        """Keep edits to where the visitor painted ({"mask"}), or to the region that was clicked ({"point"})."""
        if isinstance(value, dict) and "point" in value:
            return await self._click_region(value["point"], session)
        mask = request_checks.read_mask(value.get("mask") if isinstance(value, dict) else None)
        await self.edit_handlers.run_in_background(session, lambda: self.edit_handlers.storage.save_mask(mask))
        session.commit()
        scene = replace(session.scene, region=PAINTED_REGION, mask=mask, mask_sha256=mask.sha256)
        return await self.edit_handlers.show_scene(session, session.set_scene(scene))

    async def _click_region(self, point: Any, session: Session) -> Any:
        """Choose the region that was clicked, or go back to automatic ones where it is chosen already."""
        if not isinstance(point, list) or len(point) != 2:
            raise GanvasError("A click sends how far it is from the left and from the top.")
        x, y = (request_checks.check_number("A click", value, 0, 1) for value in point)
        scene = session.scene
        if not load_regions(scene.generator):
            return gr.skip()
        found = await self.edit_handlers.run_with_generator(
            session, lambda: find_clicked_region(self.resources, scene, x, y), lambda: session.scene != scene
        )
        if found is None or session.scene != scene:
            return gr.skip()
        return await self._show_region(session, AUTOMATIC_REGION if found == scene.region else found)

    async def _show_region(self, session: Session, region: str) -> list[Any]:
        """Keep edits to a region, and show its outline."""
        session.commit()
        is_stale = session.set_scene(replace(session.scene, region=region))
        scene = session.scene
        shown = await self.edit_handlers.show_scene(session, is_stale)
        if region not in load_regions(scene.generator):
            return shown
        # The region is chosen already: without its outline where that can't be drawn.
        with suppress(GanvasError, Superseded):
            outlined = await self.edit_handlers.run_with_generator(
                session, lambda: draw_outline(self.resources, scene, region), is_stale
            )
            shown[PICTURE_OUTPUT] |= {"value": rendering.to_image_value(outlined)}
        return shown


@torch.no_grad()
def find_region_mask(resources: AppResources, scene: Scene, name: str) -> RegionMask:
    """Find where a region lies in the square of the unedited face."""
    region, _ = load_regions(scene.generator)[name]
    start = resources.compute_start(scene)
    parts = find_edited_parts(resources.load(scene).generator, [region], start, start)
    return build_edit_mask([region], parts, MASK_SIDE, MASK_SIDE)[0, 0].cpu() > 0.5


def find_clicked_region(resources: AppResources, scene: Scene, x: float, y: float) -> str | None:
    """Find the smallest region that has a point of the picture as it is shown, in shares of its sides; None: none has it."""
    height, width = resources.render_shown(scene).shape[2:]
    origin, axes = find_square(scene, (height, width))
    across, down = torch.linalg.solve(axes.T, torch.tensor([x * width, y * height]) - origin).tolist()
    if not (0 <= across < 1 and 0 <= down < 1):
        return None
    sizes = {}
    for name in CLICKED_REGIONS:
        if name in load_regions(scene.generator):
            mask = find_region_mask(resources, scene, name)
            if mask[int(down * MASK_SIDE), int(across * MASK_SIDE)]:
                sizes[name] = int(mask.sum())
    return min(sizes, key=lambda name: sizes[name]) if sizes else None


def draw_outline(resources: AppResources, scene: Scene, region: str) -> bytes:
    """Draw the outline of a region into the picture as it is shown, and return it as JPEG."""
    # Without specks and small gaps, which parts read off features have.
    smooth = ndimage.binary_closing(find_region_mask(resources, scene, region).numpy(), iterations=3)
    mask: Any = ndimage.binary_opening(smooth, iterations=3)
    inside: Any = ndimage.binary_erosion(mask)
    rows, columns = (mask & ~inside).nonzero()
    picture = resources.render_shown(scene)
    origin, axes = find_square(scene, picture.shape[2:])
    places = (torch.stack((torch.from_numpy(columns), torch.from_numpy(rows)), 1) + 0.5) / MASK_SIDE
    image = Image.fromarray(to_bytes(picture)[0].contiguous().numpy())
    pen = ImageDraw.Draw(image)
    for share, colour in ((1.6, "white"), (1.0, OUTLINE)):
        radius = share * OUTLINE_SHARE * max(image.size)
        for x, y in (origin + places.float() @ axes).tolist():
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return rendering.encode_image(image)


def find_square(scene: Scene, sides: tuple[int, ...]) -> tuple[Float[Tensor, " 2"], Float[Tensor, "2 2"]]:
    """Find the face's square in the picture as it is shown, in pixels: its first corner, and its sides across and down."""
    if scene.photo is None:
        height, width = sides
        return torch.zeros(2), torch.tensor([[float(width), 0.0], [0.0, float(height)]])
    quad = scene.photo.shown_quad.float()
    return quad[0], torch.stack((quad[3] - quad[0], quad[1] - quad[0]))
