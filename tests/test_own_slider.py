"""Sliders of one's own: labels from a few examples, and editors that visitors made."""

import asyncio

import pytest
import torch
from fitted_editors import TOY, labels
from test_app import FACE, background_queue, edit_handlers, editor, queue, resources  # noqa: F401

from ganvas import GanvasError, editors
from ganvas.app import resources as app_resources
from ganvas.app.scene_handlers import SceneHandlers
from ganvas.data.examples import label_by_examples

# ruff: noqa: F811


def test_a_few_examples_label_all_codes():
    data = labels()
    column = data.attributes.index("Big")
    order = data.scores[:100, column].argsort().tolist()
    others = data.select(tuple(name for name in data.attributes if name != "Big"))
    known, accuracy = label_by_examples(data, "Round", order[-8:], order[:8])
    assert known.attributes == ("Round",) and len(known) == len(data)
    assert accuracy == 1.0
    correlation = torch.corrcoef(torch.stack((known.scores[:, 0], data.scores[:, column])))[0, 1]
    assert correlation > 0.8
    # What no score says anything of isn't learned, and the accuracy says so.
    assert label_by_examples(others, "Round", order[-8:], order[:8])[1] < 1.0
    with pytest.raises(GanvasError, match="4 pictures have 'Round': at least 5"):
        label_by_examples(data, "Round", [1, 2, 3, 4], order[:8])
    for rows in ([0, 1, 2, 3, 3], [-1, 0, 1, 2, 3], [0, 1, 2, 3, len(data)], order[:5]):
        with pytest.raises(GanvasError, match="example once"):
            label_by_examples(data, "Round", rows, order[:8])


@pytest.fixture
def own_editor(resources):
    """An editor with an attribute more."""
    data = labels()
    order = data.scores[:100, 0].argsort().tolist()
    added = editors.fit("interfacegan", label_by_examples(data, "Round", order[-8:], order[:8])[0], TOY)
    return editors.extend_editor(resources.choices["mean.safetensors"].editor, added)


def test_own_editors_are_found_again_and_others_dont_pick_them(resources, edit_handlers, own_editor, monkeypatch):
    storage = edit_handlers.storage
    name = resources.add_own_editor(storage.save_editor(own_editor), "round.safetensors")
    assert name not in resources.find_editors("toy")
    assert name in resources.find_editors("toy", {name})
    scene = FACE.with_editor(name, own_editor.attributes).with_value("Round", 1.0)
    recipe = resources.make_recipe(scene)
    picture = resources.render(scene).image
    # As after a restart.
    del resources.choices[name], resources.own_paths[name]
    with pytest.raises(GanvasError, match="Unknown editor"):
        resources.make_recipe(scene)
    opened = SceneHandlers(edit_handlers, FACE).make_scene(recipe)
    assert opened.editor == name
    assert torch.equal(resources.render(opened).image, picture)
    monkeypatch.setattr(app_resources, "MAX_OWN_EDITORS", 2)
    path = storage.find_editor(editors.fingerprint(own_editor))
    for number in range(4):
        resources.add_own_editor(path, f"{number}.safetensors")
    assert [each for each, choice in resources.choices.items() if choice.is_own] == ["2.safetensors", "3.safetensors"]


def test_a_recipe_replaces_nobodys_editor(resources, edit_handlers, own_editor):
    path, shipped = edit_handlers.storage.save_editor(own_editor), resources.choices["mean.safetensors"]
    for name in ("mean.safetensors", "../mean.safetensors", "a/b"):
        assert resources.add_own_editor(path, name) == f"{editors.fingerprint(own_editor)[:12]}.safetensors"
    assert resources.choices["mean.safetensors"] is shipped


def test_editors_can_be_added_while_others_list_them(resources, edit_handlers, own_editor):
    listed = iter(resources.choices.items())
    next(listed)
    resources.add_own_editor(edit_handlers.storage.save_editor(own_editor), "round.safetensors")
    assert "round.safetensors" not in dict(listed)
    assert "round.safetensors" in resources.choices


def test_a_slider_needs_a_name_and_faces_that_are_shown(resources, edit_handlers):
    import gradio as gr

    from ganvas.app.compare import MethodEditors
    from ganvas.app.own_slider import OwnSliderHandlers
    from ganvas.app.session import Session

    own, session = OwnSliderHandlers(edit_handlers, MethodEditors(resources)), Session(FACE)
    with pytest.raises(gr.Error, match="another generator's"):
        asyncio.run(own.make_slider({"name": "Round", "positive": [0], "negative": [1]}, session))
    session.example_generator = FACE.generator
    for marked, message in (
        (None, "from a name and faces"),
        ({"name": "SeFa 3", "positive": [], "negative": []}, "what Explore calls a slider"),
        ({"name": " ", "positive": [], "negative": []}, "Give the slider a name"),
        ({"name": "Round", "positive": [0], "negative": []}, "A face takes"),
        ({"name": "Round", "positive": "x", "negative": []}, "faces that are shown"),
    ):
        with pytest.raises(gr.Error, match=message):
            asyncio.run(own.make_slider(marked, session))


def test_only_faces_that_were_shown_can_be_marked(resources, edit_handlers, monkeypatch):
    from ganvas.app import own_slider, rendering
    from ganvas.app.compare import MethodEditors
    from ganvas.app.session import Session

    monkeypatch.setattr(own_slider, "FACES_PER_PAGE", 6)
    own, session, drawn = own_slider.OwnSliderHandlers(edit_handlers, MethodEditors(resources)), Session(FACE), []

    def draw(*_):
        drawn.append(1)
        if len(drawn) == 9:
            raise GanvasError("It is full.")
        return b"picture"

    monkeypatch.setattr(rendering, "render_thumbnail", draw)

    async def show():
        return [len(shown["faces"]) async for shown in own.show_faces(session)]

    assert asyncio.run(show()) == [4, 6] and session.num_examples == 6
    with pytest.raises(Exception, match="It is full"):
        asyncio.run(show())
    assert session.num_examples == 8  # the two that were drawn before


def test_an_editor_that_was_chosen_meanwhile_stays(resources, edit_handlers, own_editor, monkeypatch):
    import gradio as gr

    from ganvas.app.compare import MethodEditors
    from ganvas.app.own_slider import OwnSliderHandlers
    from ganvas.app.session import Session

    own, session = OwnSliderHandlers(edit_handlers, MethodEditors(resources)), Session(FACE)
    session.example_generator, session.num_examples = FACE.generator, 4
    other = resources.add_own_editor(edit_handlers.storage.save_editor(own_editor), "round.safetensors")
    chosen = FACE.with_editor(other, own_editor.attributes)

    def learn(*_):
        session.set_scene(chosen)  # while the slider is learned
        return own_editor, 1.0

    monkeypatch.setattr(own.methods, "learn_attribute", learn)
    with pytest.raises(gr.Error, match="Another editor was chosen"):
        asyncio.run(own.make_slider({"name": "Big one", "positive": [0], "negative": [1]}, session))
    assert session.scene == chosen
