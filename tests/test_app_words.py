"""The words of the web editor: names, synonyms, signs and help texts of attributes; and which sliders an editor shows."""

import asyncio
import re
from dataclasses import replace

import planted_counts
import pytest

pytest.importorskip("gradio", reason="the web editor needs gradio: pip install 'ganvas[app]'")

from planted_truth import disentangled
from test_app import FACE, background_queue, edit_handlers, editor, queue, resources  # noqa: F401

from ganvas import generators
from ganvas.app import compare, rendering
from ganvas.app.attribute_groups import GROUPS
from ganvas.app.attribute_words import WORDS, format_attribute, format_search_words, get_words
from ganvas.app.counting import CountHandlers
from ganvas.app.layout import Page
from ganvas.app.resources import EditorChoice, load_choice
from ganvas.app.scene import Scene, describe_scene
from ganvas.app.session import Session
from ganvas.app.slider_panel import list_slider_groups
from ganvas.app.slider_scale import SliderScale
from ganvas.app.tab_handlers import TabHandlers
from ganvas.recipe.model import EditStep, FromSeed, NamedTool

# ruff: noqa: F811


def find(search):
    """Return the attributes of all groups that a search finds, as the page's script does."""
    wanted = re.findall(r"[^\W_]+", search.lower())
    return {
        name
        for group, names in GROUPS.items()
        for name in names
        if all(
            any(known.startswith(word) for known in re.findall(r"\w+", format_search_words(name, group)))
            for word in wanted
        )
    }


@pytest.mark.parametrize(
    ("search", "wanted", "unwanted"),
    [
        ("smile", {"Smiling"}, set()),
        ("old", {"Age", "Young"}, {"Bald"}),
        ("female", {"Male"}, set()),
        ("sunglasses", {"Sunglasses"}, {"Eyeglasses"}),
        ("hair colour", {"Hair_Lightness", "Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"}, {"Bangs"}),
        ("hair color", {"Blond_Hair"}, {"Skin_Lightness"}),
        ("beard", {"No_Beard", "Goatee"}, {"Smiling"}),
        ("No_Beard", {"No_Beard"}, {"Goatee"}),
        ("5 o'clock", {"5_o_Clock_Shadow"}, {"Goatee"}),
        ("ear", {"Wearing_Earrings"}, {"Wearing_Hat", "No_Beard"}),
        ("nothing like it", set(), {"Smiling"}),
    ],
)
def test_sliders_are_found_by_words_that_people_use(search, wanted, unwanted):
    found = find(search)
    assert wanted <= found
    assert not unwanted & found


def test_every_attribute_has_words_of_its_own():
    from ganvas.editors import load_editor

    assert set(load_editor("ffhq/compact-2").attributes) <= set(WORDS)
    labels = [words.label for words in WORDS.values()]
    assert len(set(labels)) == len(labels)
    assert format_attribute("No_Beard") == "Beard"
    assert get_words("Age")[1:3] == ("younger", "older")
    assert format_attribute("Striped_Wall") == "Striped wall"


def test_what_is_missing_is_shown_with_the_sign_turned():
    scale = SliderScale(None, "No_Beard")
    assert scale.label == "Beard"
    assert scale.convert_to_sigma(1.5) == -1.5
    assert scale.convert_to_slider(-1.5) == 1.5
    assert scale.format_value(-1.5) == "+1.50"
    assert str(scale.convert_to_slider(0.0)) == "0.0"
    assert "Beard at +2" in describe_scene(FACE.with_value("No_Beard", -2.0), {})
    assert "Beard -1" in describe_scene(FACE.with_shift("No_Beard", 1.0), {})
    effect = rendering.EditEffect({"No_Beard": (0.5, -2.0)}, ("No_Beard",), None, None)
    assert "<td>-0.5</td><td>+2.0</td>" in rendering.draw_chart(effect)


@pytest.fixture
def bearded(resources):
    """The toy's editor with its first attribute called No_Beard."""
    truth = disentangled()
    truth.generator_name = "toy"
    truth.attributes = ("No_Beard", *truth.attributes[1:])
    resources.choices["bearded"] = EditorChoice(truth, NamedTool("bearded", "0" * 64), "the truth")
    return replace(FACE, editor="bearded")


def test_a_reversed_slider_leaves_recipes_as_they_are(edit_handlers, bearded, resources):
    session = Session(bearded)
    asyncio.run(edit_handlers.move_slider({"name": "No_Beard", "value": 1.5}, session))
    assert session.scene.slider_edit.set == {"No_Beard": -1.5}
    assert resources.make_recipe(session.scene).edits == (EditStep({"No_Beard": -1.5}),)
    shown = rendering.render_full(resources, session.scene)
    groups = list_slider_groups(resources, session.scene, shown)
    sliders = [slider for group in groups for slider in group["sliders"]]
    assert [slider["value"] for slider in sliders if slider["name"] == "No_Beard"] == [1.5]
    assert "Beard at +1.50" in edit_handlers._format_status(session.scene, shown)


def test_methods_are_compared_at_the_change_that_is_shown(edit_handlers, bearded, monkeypatch):
    targets = []

    def record(resources, scene, name, editor, target, run_with_generator):
        targets.append(target)
        return compare.MethodResult(name, None, "no")

    monkeypatch.setattr(compare, "compare_method", record)
    monkeypatch.setattr("gradio.Warning", lambda *args, **options: None)
    tabs = TabHandlers(edit_handlers, compare.MethodEditors(edit_handlers.resources))

    async def play():
        return [each async for each in tabs.compare_methods("No_Beard", 1.0, ["mean.safetensors"], Session(bearded))]

    asyncio.run(play())
    assert targets == [compare.ComparisonTarget("No_Beard", -1.0)]


def test_age_is_shown_in_place_of_young_where_an_editor_has_it(resources):
    new, old = load_choice("ffhq/compact-2"), load_choice("ffhq/compact")
    assert {"Age", "Young"} <= set(new.sliders)
    assert "Age" in new.shown_sliders
    assert "Young" not in new.shown_sliders
    assert "Young" in old.shown_sliders
    scale = SliderScale(new.editor, "Age")
    assert scale.label == "Age (years)"
    assert scale.format_value(scale.convert_to_sigma(60.0)) == "60 years"
    assert resources.get_default_editor("ffhq") == generators.find_card("ffhq").editor == "ffhq/compact-2"


# Words that depend on the generator.


def test_a_generator_of_other_things_is_not_spoken_of_as_of_faces(edit_handlers):
    squares = edit_handlers.make_picker_updates(Session(Scene("squares", "squares/counts", FromSeed(0))))
    assert [update["visible"] for update in squares[-3:]] == [False, False, False]
    toy = edit_handlers.make_picker_updates(Session(FACE))
    assert toy[-3]["value"] == "Draw 16 such pictures"
    assert toy[-2]["visible"] is False
    faces = edit_handlers.make_picker_updates(Session(Scene("ffhq", "ffhq/compact-2", FromSeed(0))))
    assert faces[-3]["value"] == "Draw 16 such faces"
    assert [update["visible"] for update in faces[-2:]] == [True, True]
    assert ("ffhq/compact-2: 46 controls", "ffhq/compact-2") in faces[1]["choices"]


def test_more_than_the_generator_draws_is_said(edit_handlers):
    session = Session(Scene("squares", "squares/counts", FromSeed(0)))
    asyncio.run(edit_handlers.show_scene(session, session.start_request()))
    edit_handlers.make_picker_updates(session)
    seen = int(planted_counts.counts(edit_handlers.resources.render(session.scene).ws)[0, 0])
    for by in range(planted_counts.MOST - seen + 1):
        shown = asyncio.run(CountHandlers(edit_handlers).make_count_handler(1)(session))
        said = f"{seen + by + 1} were asked for, but this generator draws" in shown[8]
        assert said == (seen + by + 1 > planted_counts.MOST)


def test_controls_have_a_help_text_and_plain_words():
    import gradio as gr

    with gr.Blocks() as demo:
        Page([], "secret")
    properties = [block.get_config() for block in demo.blocks.values()]
    kinds = (gr.Slider, gr.Dropdown, gr.Number, gr.Checkbox, gr.CheckboxGroup, gr.Textbox)
    controls = [block for block in demo.blocks.values() if isinstance(block, kinds)]
    assert [block.label for block in controls if not block.info] == []
    words = " ".join(str(each.get(key, "")) for each in properties for key in ("label", "info", "value", "placeholder"))
    for jargon in ("psi", "σ", "drift", "Take along", "latent"):
        assert jargon not in words
