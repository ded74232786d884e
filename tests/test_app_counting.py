"""Counts in the page: what came and went is outlined, and many pictures come as one file with what is counted."""

import asyncio
import base64
import csv
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("gradio", reason="the web editor needs gradio: pip install 'ganvas[app]'")

import gradio as gr
from PIL import Image, ImageColor
from test_app import FACE, background_queue, edit_handlers, editor, queue, resources  # noqa: F401

from ganvas.app import counting
from ganvas.app.counting import CAME, MAX_BATCH, ChangedBox, CountHandlers, draw_changes, find_changes
from ganvas.app.scene import Scene
from ganvas.app.session import Session
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import FromConditions, FromSeed

# ruff: noqa: F811
SQUARES = Scene("squares", "squares/counts", FromSeed(0))


def draw_boxes(*boxes):
    """Draw light boxes on dark ground, (1, 3, 64, 64)."""
    picture = torch.full((1, 3, 64, 64), -1.0)
    for left, top, right, bottom in boxes:
        picture[..., top:bottom, left:right] = 1.0
    return picture


def test_what_came_and_went_is_found_and_the_rest_is_not():
    before = draw_boxes((4, 4, 14, 14), (40, 8, 50, 20))
    after = draw_boxes((4, 4, 14, 14), (20, 40, 30, 52)) + 0.1
    changes = find_changes(before, after)
    assert [change.came for change in changes] == [True, False]
    for change, (left, top, right, bottom) in zip(changes, ((20, 40, 30, 52), (40, 8, 50, 20)), strict=True):
        assert left - 2 <= change.left <= left and right <= change.right <= right + 2
        assert top - 2 <= change.top <= top and bottom <= change.bottom <= bottom + 2
    assert find_changes(before, before) == []


def test_parts_of_one_thing_are_one_and_specks_are_none():
    parts = draw_boxes((10, 10, 20, 14), (10, 15, 20, 19))
    assert len(find_changes(draw_boxes(), parts)) == 1
    assert find_changes(draw_boxes(), draw_boxes((30, 30, 32, 32))) == []


def test_outlines_are_green_and_red_on_a_picture_that_is_large_enough():
    picture = draw_boxes((20, 40, 30, 52))
    encoded = draw_changes(picture, [ChangedBox(20, 40, 30, 52, True), ChangedBox(40, 8, 50, 20, False)])
    image = Image.open(io.BytesIO(encoded))
    assert image.size == (512, 512)
    green, red = image.getpixel((20 * 8 + 40, 40 * 8 + 1)), image.getpixel((40 * 8 + 40, 8 * 8 + 1))
    assert green[1] > 120 > green[0] and red[0] > 180 > red[1]


def test_a_step_shows_outlines_and_the_next_view_does_not(edit_handlers, monkeypatch):
    monkeypatch.setattr(counting, "find_changes", lambda before, after: [ChangedBox(2, 2, 12, 12, came=True)])
    session = Session(SQUARES)

    async def play():
        edit_handlers.make_picker_updates(session)
        await edit_handlers.show_scene(session, session.start_request())
        stepped = await CountHandlers(edit_handlers).make_count_handler(1)(session)
        return stepped, await edit_handlers.show_scene(session, session.start_request())

    stepped, plain = asyncio.run(play())
    assert stepped[2]["alt_text"] == plain[2]["alt_text"]
    pictures = [
        np.asarray(Image.open(io.BytesIO(base64.b64decode(shown[2]["value"]["url"].partition(",")[2]))))
        for shown in (stepped, plain)
    ]
    outlined, plain = (
        (np.abs(picture.astype(int) - ImageColor.getrgb(CAME)).max(2) < 60).sum() for picture in pictures
    )
    assert outlined > 100 > plain


def test_a_batch_is_one_file_with_recipes_and_counts(edit_handlers, tmp_path):
    attribute, *_ = edit_handlers.resources.require_choice(SQUARES.editor).editor.attributes
    session = Session(SQUARES.with_shift(attribute, 1.0))

    async def make(n):
        return [update async for update in CountHandlers(edit_handlers).make_batch(n, session)]

    *progress, done = asyncio.run(make(3))
    assert [update["label"] for update in progress] == ["1 of 3 …", "2 of 3 …", "3 of 3 …"]
    with zipfile.ZipFile(done["value"]["path"]) as archive:
        archive.extractall(tmp_path)
    rows = list(csv.DictReader((tmp_path / "labels.csv").open()))
    assert [row["seed"] for row in rows] == ["0", "1", "2"]
    assert len(rows[0]) > 2
    for row in rows:
        recipe, _ = load_recipe(tmp_path / row["file"])
        assert recipe.start.seed == int(row["seed"]) and recipe.edits == session.scene.edits
        seen = edit_handlers.resources.score(replace(session.scene, start=recipe.start))[0]
        scorer = edit_handlers.resources.load(session.scene).scorer
        for name in list(row)[2:]:
            assert int(row[name]) == round(float(seen[scorer.column(name)]))
    again = asyncio.run(make(2))[-1]
    assert again["value"]["path"] != done["value"]["path"]  # browsers cache what they fetched
    with zipfile.ZipFile(again["value"]["path"]) as archive:
        assert len(archive.namelist()) == 3
    folder = edit_handlers.get_session_folder(session)
    assert [path.name for path in folder.iterdir()] == [Path(again["value"]["path"]).name]


def make_one(edit_handlers, session, number=1):
    """Return the updates of a batch."""

    async def make():
        return [update async for update in CountHandlers(edit_handlers).make_batch(number, session)]

    return asyncio.run(make())


@pytest.mark.parametrize(
    ("scene", "number", "message"),
    [
        (SQUARES, MAX_BATCH + 1, "How many"),
        (SQUARES.with_start(FromSeed(2**32 - 1)), 2, "Seeds end"),
        (SQUARES.with_start(FromConditions({"squares": (1.0, 2.0)}, 3)), 1, "no seed"),
    ],
)
def test_a_batch_that_cannot_be_made_is_one_line(edit_handlers, scene, number, message):
    with pytest.raises(gr.Error, match=message):
        make_one(edit_handlers, Session(scene), number)


def test_a_batch_that_fails_or_whose_visitor_left_leaves_nothing(edit_handlers, monkeypatch):
    session, ended = Session(SQUARES), Session(SQUARES)
    ended.is_ended = True
    updates = make_one(edit_handlers, ended)
    assert updates[-1] == {"visible": False, "__type__": "update"}
    monkeypatch.setattr(CountHandlers, "_draw_labelled", lambda *args: 1 / 0)
    with pytest.raises(gr.Error, match="Something went wrong"):
        make_one(edit_handlers, session)
    for each in (session, ended):
        assert not list(edit_handlers.get_session_folder(each).iterdir())
