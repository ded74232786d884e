"""Regions of the page: chosen in the list or by a click into the picture, and outlined once."""

import asyncio
import base64
import io
from math import cos, pi, sin

import numpy as np
import pytest
import torch

pytest.importorskip("gradio", reason="the web editor needs gradio: pip install 'ganvas[app]'")

import gradio as gr
from app_photos import make_face_photo
from PIL import Image
from test_app import FACE, background_queue, edit_handlers, editor, queue, resources  # noqa: F401

from ganvas.app import region_handlers, rendering
from ganvas.app.region_handlers import RegionHandlers, find_clicked_region, find_square
from ganvas.app.scene_handlers import SceneHandlers
from ganvas.app.session import Session
from ganvas.generators.regions import Region

# ruff: noqa: F811
MOUTH, FACE_REGION = Region((0.5, 0.7, 0.15, 0.1)), Region((0.5, 0.5, 0.3, 0.4))


@pytest.fixture(autouse=True)
def planted_regions(monkeypatch):
    """A mouth inside a face, and a beard, which no click chooses."""
    known = {"face": (FACE_REGION, ("Red",)), "mouth": (MOUTH, ("Big",)), "beard": (MOUTH, ())}
    for module in ("app.region_handlers", "app.scene", "app.edit_handlers"):
        monkeypatch.setattr(f"ganvas.{module}.load_regions", lambda generator: known)


def read_picture(shown):
    """Read the picture of a view, (height, width, 3)."""
    data = shown[2]["value"]["url"].partition(",")[2]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).astype(int)


@pytest.mark.parametrize(
    ("x", "y", "region"), [(0.5, 0.7, "mouth"), (0.5, 0.3, "face"), (0.02, 0.02, None), (0.45, 0.72, "mouth")]
)
def test_the_smallest_region_under_the_click_is_meant(resources, x, y, region):
    assert find_clicked_region(resources, FACE, x, y) == region


def test_in_a_photograph_the_click_is_in_the_faces_square(edit_handlers, resources):
    photo = make_face_photo(edit_handlers)
    scene = rendering.make_code_scene(resources, FACE, resources.render(FACE).ws, edit_handlers.storage, photo)
    height, width = photo.pixels.shape[:2]
    origin, axes = find_square(scene, (height, width))
    for u, v, region in ((0.5, 0.7, "mouth"), (0.5, 0.3, "face"), (-0.1, 0.5, None)):
        x, y = (origin + torch.tensor([u, v]) @ axes).tolist()
        assert find_clicked_region(resources, scene, x / width, y / height) == region


def test_a_click_chooses_and_outlines_a_region_and_another_lets_it_go(edit_handlers):
    session, handlers = Session(FACE), RegionHandlers(edit_handlers)
    plain = read_picture(asyncio.run(edit_handlers.show_scene(session, session.start_request())))
    shown = read_picture(asyncio.run(handlers.paint_region({"point": [0.5, 0.7]}, session)))
    assert session.scene.region == "mouth"
    changed = np.abs(shown - plain).max(2) > 60
    side = plain.shape[0]
    for turn in range(8):
        x, y = 0.5 + 0.14 * cos(turn * pi / 4), 0.7 + 0.09 * sin(turn * pi / 4)
        row, column = int(y * side), int(x * side)
        assert changed[max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4].any()
    assert not changed[: side // 2].any()
    asyncio.run(handlers.paint_region({"point": [0.5, 0.7]}, session))
    assert session.scene.region == "auto"
    assert asyncio.run(handlers.paint_region({"point": [0.01, 0.01]}, session)) == gr.skip()


@pytest.mark.parametrize("point", [None, [0.5], [0.5, "1"], [0.5, 1.5], [float("nan"), 0.5]])
def test_another_click_is_one_line(edit_handlers, point):
    with pytest.raises(gr.Error):
        asyncio.run(RegionHandlers(edit_handlers).paint_region({"point": point}, Session(FACE)))


def test_generators_without_regions_take_no_clicks(edit_handlers, monkeypatch):
    monkeypatch.setattr(region_handlers, "load_regions", lambda generator: {})
    session = Session(FACE)
    assert asyncio.run(RegionHandlers(edit_handlers).paint_region({"point": [0.5, 0.7]}, session)) == gr.skip()
    assert session.scene == FACE


def test_sliders_may_change_the_rows_of_one_part(edit_handlers):
    session = Session(FACE)

    def choose(part: str) -> None:
        asyncio.run(edit_handlers.choose_rows(part, session))

    choose("Features")
    rows = session.scene.rows
    assert rows
    session.set_scene(session.scene.with_value("Red", 1.0))
    assert session.scene.edits[-1].rows == rows
    assert session.scene.slider_edit is session.scene.edits[-1]
    choose("Pose and shape")
    assert [step.rows for step in session.scene.edits] == [session.scene.rows] != [rows]
    choose("all")
    assert session.scene.rows is session.scene.edits[-1].rows is None
    for part in ("Ears", "Colours", None):  # the toy has none that draw colours alone
        with pytest.raises(gr.Error):
            choose(part)


def test_an_opened_recipe_goes_on_with_its_rows(edit_handlers, resources):
    scene = FACE.with_rows((1,)).with_value("Red", 1.0)
    recipe = resources.make_recipe(scene)
    opened = SceneHandlers(edit_handlers, FACE).make_scene(recipe)
    assert opened.rows == (1,) and opened.slider_edit == scene.slider_edit
    shown = edit_handlers.make_view_updates(Session(opened), rendering.render_full(resources, opened), None, recipe)
    update = shown[11]
    assert update["value"] == "saved" and ("As it was saved", "saved") in update["choices"]


def test_the_choice_of_rows_loads_no_generator_again(edit_handlers, resources, monkeypatch):
    resources.load(FACE)

    def fail(scene):
        raise AssertionError("Another visitor's generator would be dropped.")

    monkeypatch.setattr(resources, "load", fail)
    assert ("Features", "Features") in edit_handlers._make_rows_update(FACE)["choices"]


def test_a_slider_that_moves_while_rows_are_chosen_stays(edit_handlers, monkeypatch):
    session = Session(FACE)

    async def move_meanwhile(_, work, *rest):
        session.set_scene(session.scene.with_value("Red", 1.0))
        return work()

    monkeypatch.setattr(edit_handlers, "run_with_generator", move_meanwhile)
    monkeypatch.setattr(edit_handlers, "show_scene", lambda session, is_stale: asyncio.sleep(0))
    asyncio.run(edit_handlers.choose_rows("Features", session))
    assert session.scene.rows and session.scene.edits[-1].set == {"Red": 1.0}
    assert session.scene.edits[-1].rows == session.scene.rows
