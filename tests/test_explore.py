"""Explore: components of methods without labels as unnamed sliders, which join the others once they are named."""

import asyncio
import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("gradio", reason="the web editor needs gradio: pip install 'ganvas[app]'")

import gradio as gr
from fitted_editors import labels
from planted_truth import TOY
from test_app import FACE, background_queue, edit_handlers, editor, queue, resources  # noqa: F401

from ganvas import editors
from ganvas.app import compare, rendering, slider_panel
from ganvas.app import resources as app_resources
from ganvas.app.components import split_unnamed
from ganvas.app.scene_handlers import SceneHandlers
from ganvas.app.session import Session
from ganvas.app.tab_handlers import TAB_OUTPUTS, TabHandlers
from ganvas.data.examples import label_by_examples
from ganvas.recipe.model import FromSeed
from ganvas.recipe.rendering import Tools, render

# ruff: noqa: F811


@pytest.fixture
def tab_handlers(edit_handlers, resources):
    """Handlers of the tabs, among them those of Explore."""
    return TabHandlers(edit_handlers, compare.MethodEditors(resources))


def refresh(tab_handlers, session):
    """Return the sliders that the page shows."""
    shown = asyncio.run(tab_handlers.refresh_tabs(session, SimpleNamespace(headers={})))
    return json.loads(shown[TAB_OUTPUTS.index("components")]["groups"])[0]["sliders"]


def open_explore(tab_handlers, scene=FACE):
    """Return a session with Explore open, and its sliders."""
    session = Session(scene)
    for tab in ("edit", "explore"):
        session.open_tab(tab)
    return session, refresh(tab_handlers, session)


def move(tab_handlers, session, name, value):
    """Move an unnamed slider to a value, and wait for the full picture."""

    async def play():
        await tab_handlers.explore.move_slider({"name": name, "value": value, "number": 1}, session)
        await tab_handlers.edit_handlers.render_at_rest(session)

    asyncio.run(play())


def test_six_components_are_shown_with_strips_and_then_the_next(tab_handlers):
    session, sliders = open_explore(tab_handlers)
    assert [slider["name"] for slider in sliders] == [f"sefa_{k}" for k in range(6)]
    for slider in sliders:
        less, same, more = slider["strip"]
        assert len({less, same, more}) == 3 and same == sliders[0]["strip"][1]
        assert slider["value"] == slider["start"] and not slider["changed"]
    # Of the same face they are on the page already; of another one they are drawn.
    assert all("strip" not in slider for slider in refresh(tab_handlers, session))
    session.set_scene(FACE.with_start(FromSeed(4)))
    assert all("strip" in slider for slider in refresh(tab_handlers, session))
    seen = []
    for _ in range(8):
        value, _ = asyncio.run(tab_handlers.explore.show_next(session))
        seen.append(json.loads(value["groups"])[0]["sliders"][0]["name"])
    assert seen[0] == "sefa_6" and "sefa_0" in seen
    value, _ = asyncio.run(tab_handlers.explore.choose_method("ganspace", session))
    assert json.loads(value["groups"])[0]["sliders"][0]["name"] == "ganspace_0"
    with pytest.raises(gr.Error, match="Unknown method"):
        asyncio.run(tab_handlers.explore.choose_method("magic", session))


def test_an_unnamed_slider_moves_the_picture_beside_the_editors_own(tab_handlers, resources):
    session, _ = open_explore(tab_handlers, FACE.with_value("Big", 1.0))
    move(tab_handlers, session, "sefa_1", 2.5)
    move(tab_handlers, session, "ganspace_0", -1.0)
    move(tab_handlers, session, "sefa_1", None)
    scene = session.scene
    assert scene.slider_edit.set == {"Big": 1.0, "ganspace_0": -1.0}
    reading = resources.fit_components(scene, "ganspace").read(resources.render(scene).ws)[0, 0]
    assert float(reading) == pytest.approx(-1.0, abs=0.05)
    assert [slider["value"] for slider in refresh(tab_handlers, session)][1] != 2.5
    # The page's other components are there already.
    move(tab_handlers, session, "sefa_2", 1.0)
    assert session.scene.editor == scene.editor
    move(tab_handlers, session, "sefa_7", 1.0)
    assert session.scene.slider_edit.set == {"Big": 1.0, "ganspace_0": -1.0, "sefa_2": 1.0, "sefa_7": 1.0}
    extended = resources.choices[session.scene.editor].editor
    components = [*(f"sefa_{k}" for k in range(12)), *(f"ganspace_{k}" for k in range(6))]
    base, names = split_unnamed(extended)
    assert names == components == list(extended.attributes[5:])
    assert editors.fingerprint(base) == editors.fingerprint(resources.choices["mean.safetensors"].editor)
    # All of them are one face.
    assert session.visited_faces == [FACE.unedited]
    session.undo()
    session.undo()
    assert session.scene == scene
    for wrong in ({"name": "sefa_99", "value": 1.0}, {"name": "sefa_1", "value": 9}, {"name": 7, "value": 1}, "x"):
        with pytest.raises(gr.Error):
            asyncio.run(tab_handlers.explore.move_slider(wrong, session))


def test_a_named_slider_joins_the_others_and_its_editor_is_saved(tab_handlers, resources, edit_handlers):
    session, _ = open_explore(tab_handlers, FACE.with_value("Big", 1.0))
    move(tab_handlers, session, "sefa_3", 2.0)
    move(tab_handlers, session, "sefa_4", 1.0)
    before = resources.render(session.scene).image
    asyncio.run(tab_handlers.explore.save_slider({"name": "sefa_3", "label": "Tilt!"}, session))
    scene = session.scene
    assert dict(scene.slider_edit.set) == {"Big": 1.0, "Tilt": 2.0, "sefa_4": 1.0}
    assert torch.allclose(resources.render(scene).image, before, atol=1e-4)
    choice = resources.choices[scene.editor]
    assert choice.editor.attributes[5:] == ("Tilt", "sefa_4")
    path = edit_handlers.storage.find_editor(choice.tool.fingerprint)
    recipe, loaded = resources.make_recipe(scene), editors.load_editor(path, TOY)
    drawn = render(recipe, Tools(TOY, "float32", editor=loaded, editor_name=recipe.editor))
    assert torch.equal(drawn, resources.render(scene).image)
    # As after a restart.
    del resources.choices[scene.editor]
    resources.own_paths.clear()
    assert SceneHandlers(edit_handlers, FACE).make_scene(recipe).slider_edit == scene.slider_edit
    for named, message in (
        ({"name": "sefa_0", "label": " "}, "Give the slider a name"),
        ({"name": "sefa_0", "label": "Tilt"}, "already"),
        ({"name": "Big", "label": "Small"}, "without a name"),
        ({"name": "sefa_99", "label": "Far"}, "Unknown component"),
        (None, "without a name"),
    ):
        with pytest.raises(gr.Error, match=message):
            asyncio.run(tab_handlers.explore.save_slider(named, session))


def test_a_slider_that_never_moved_is_reset_to_what_it_was(tab_handlers, resources):
    session, _ = open_explore(tab_handlers)
    reset = tab_handlers.explore.move_slider({"name": "sefa_3", "value": None, "number": 7}, session)
    assert asyncio.run(reset) == gr.skip()
    assert session.scene == FACE and session.num_moves == 7
    assert not resources.own_paths


def test_a_page_of_components_is_one_editor_that_isnt_picked(tab_handlers, resources, edit_handlers):
    session, _ = open_explore(tab_handlers)
    for k in range(6):
        move(tab_handlers, session, f"sefa_{k}", 0.5)
    (extended,) = resources.own_paths
    assert session.scene.editor == extended
    assert len(list(edit_handlers.storage.folder.glob("editors/*"))) == 1
    # Another visitor's is the same one.
    other, _ = open_explore(tab_handlers, replace(FACE, start=FromSeed(5)))
    move(tab_handlers, other, "sefa_4", 1.0)
    assert other.scene.editor == extended
    _, picker, _, _, _, compared, *_ = edit_handlers.make_picker_updates(session)
    assert picker["value"] == "mean.safetensors"
    assert [name for _, name in picker["choices"]] == ["mean.safetensors"]
    assert "sefa_0" not in [name for _, name in compared["choices"]]
    # The panel has those that moved, and presets say nothing of the others.
    move(tab_handlers, session, "sefa_1", None)
    shown = rendering.render_full(resources, session.scene)
    (group,) = slider_panel.list_slider_groups(resources, session.scene, shown)
    assert [slider["name"] for slider in group["sliders"]][5:] == [f"sefa_{k}" for k in (0, 2, 3, 4, 5)]


def test_the_editor_with_a_named_slider_is_picked_without_what_has_no_name(tab_handlers, resources, edit_handlers):
    session, _ = open_explore(tab_handlers)
    for name in ("sefa_3", "sefa_4"):
        move(tab_handlers, session, name, 1.0)
    asyncio.run(tab_handlers.explore.save_slider({"name": "sefa_3", "label": "Tilt"}, session))
    assert resources.choices[session.scene.editor].editor.attributes[5:] == ("Tilt", "sefa_4")
    picker = edit_handlers.make_picker_updates(session)[1]
    assert resources.choices[picker["value"]].editor.attributes[5:] == ("Tilt",)
    assert [name for _, name in picker["choices"]] == ["mean.safetensors", picker["value"]]
    # One that got a slider of its own after them is picked with all that it has.
    explored = resources.choices[session.scene.editor]
    own = editors.fit("interfacegan", label_by_examples(labels(), "Round", [0, 1, 2, 3, 4], [5, 6, 7, 8, 9])[0], TOY)
    named = replace(explored, editor=editors.extend_editor(explored.editor, own))
    assert explored.has_unnamed and not named.has_unnamed


def test_undo_brings_back_an_editor_that_left_memory(tab_handlers, resources, edit_handlers, monkeypatch):
    monkeypatch.setattr(app_resources, "MAX_OWN_EDITORS", 1)
    session, _ = open_explore(tab_handlers)
    move(tab_handlers, session, "sefa_0", 2.0)
    first, before = session.scene, resources.render(session.scene).image
    move(tab_handlers, session, "sefa_6", 1.0)
    assert first.editor not in resources.choices
    asyncio.run(edit_handlers.undo(session))
    assert session.scene == first and first.editor in resources.choices
    resources._rendered.clear()
    assert torch.equal(resources.render(first).image, before)
    # Without its file, an error says what to do.
    asyncio.run(edit_handlers.redo(session))
    resources.own_paths[first.editor].unlink()
    with pytest.raises(gr.Error, match="isn't stored here any more.*pick another editor"):
        asyncio.run(edit_handlers.undo(session))


def test_a_name_for_a_slider_overwrites_nothing_that_came_meanwhile(tab_handlers, monkeypatch):
    session, _ = open_explore(tab_handlers)
    move(tab_handlers, session, "sefa_0", 1.0)
    other, add = replace(FACE, start=FromSeed(99)), tab_handlers.own_slider.add_editor

    async def open_other(*arguments):
        session.set_scene(other)
        return await add(*arguments)

    monkeypatch.setattr(tab_handlers.own_slider, "add_editor", open_other)
    with pytest.raises(gr.Error, match="changed while the slider was saved: save it again"):
        asyncio.run(tab_handlers.explore.save_slider({"name": "sefa_0", "label": "Tilt"}, session))
    assert session.scene == other


def test_a_generator_without_an_editor_gets_one(tab_handlers, resources):
    session, _ = open_explore(tab_handlers, replace(FACE, editor=""))
    move(tab_handlers, session, "sefa_0", 2.0)
    components = tuple(f"sefa_{k}" for k in range(6))
    assert resources.choices[session.scene.editor].editor.attributes == components
    asyncio.run(tab_handlers.explore.save_slider({"name": "sefa_0", "label": "Tilt"}, session))
    move(tab_handlers, session, "sefa_1", 1.0)
    assert resources.choices[session.scene.editor].editor.attributes == ("Tilt", *components)
    assert session.scene.slider_edit.set == {"Tilt": 2.0, "sefa_1": 1.0}


def test_a_generator_without_styles_shows_components_of_its_codes(tab_handlers, monkeypatch):
    infos = []
    monkeypatch.setattr("gradio.Info", lambda text, **options: infos.append(text))
    squares = replace(FACE, generator="squares", editor="squares/counts")
    monkeypatch.setattr(type(tab_handlers.resources.load(squares).generator), "style_weights", lambda self: [])
    session, _ = open_explore(tab_handlers)
    session.explored_first = 600
    session.set_scene(squares)
    sliders = refresh(tab_handlers, session)
    assert sliders[0]["name"] == "ganspace_0"
    assert "style weights" in infos[0]
    refresh(tab_handlers, session)
    assert len(infos) == 1


def test_components_are_fitted_once_in_any_dtype(resources, monkeypatch):
    made = {dtype: resources.fit_components(replace(FACE, dtype=dtype), "sefa") for dtype in ("bfloat16", "float32")}
    assert made["bfloat16"].attributes == made["float32"].attributes
    monkeypatch.setattr(editors, "fit_unlabelled", None)
    assert resources.fit_components(FACE, "sefa") is made["float32"]
