"""Edits of the page that are made exact: refined by their pictures, as one step."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest

pytest.importorskip("gradio", reason="the web editor needs gradio: pip install 'ganvas[app]'")

import gradio as gr
from app_photos import make_face_photo
from test_app import FACE, background_queue, edit_handlers, editor, queue, resources  # noqa: F401

from ganvas.app import likeness, rendering
from ganvas.app.edit_handlers import STATUS_OUTPUT
from ganvas.app.exact_edit import ExactEditHandlers
from ganvas.app.presets import Preset, toggle_preset
from ganvas.app.session import NothingFollows, Session
from ganvas.recipe.model import EditStep
from ganvas.scorers import load_scorer

# ruff: noqa: F811


@pytest.fixture
def scorer(resources):
    """The scorer that the editor learned from."""
    found = load_scorer("toy")
    resources.choices["mean.safetensors"].editor.scorer = f"toy:{found.fingerprint}"
    return found


def refine(edit_handlers, session):
    """Press the button; returns what the page shows."""
    return asyncio.run(ExactEditHandlers(edit_handlers).refine_edit(session))


def measure_gap(resources, scorer, scene, name):
    """Return how far the picture is from the slider's value, in σ."""
    gaussianize, column = resources.choices[scene.editor].editor.gaussianize, scorer.column(name)
    read = gaussianize.select([resources.choices[scene.editor].editor.attributes.index(name)])(
        scorer(resources.render(scene).image)[:, [column]]
    )
    return abs(float(read) - scene.slider_edit.set[name])


def test_an_exact_edit_reads_nearer_to_its_sliders_and_is_one_step(edit_handlers, resources, scorer):
    session, edited = Session(FACE), FACE.with_value("Red", 1.2)
    session.set_scene(edited)
    shown = refine(edit_handlers, session)
    exact = session.scene
    assert exact.slider_edit.set == {"Red": 1.2} and exact.slider_edit.refined
    gaps = [measure_gap(resources, scorer, scene, "Red") for scene in (edited, exact)]
    assert gaps[1] < min(0.1, gaps[0])
    assert "Red: +1.20 asked, +1." in shown[STATUS_OUTPUT] and " read" in shown[STATUS_OUTPUT]
    # A recipe has it, and undo takes it back alone.
    assert resources.make_recipe(exact).edits == exact.edits
    session.undo()
    assert session.scene == edited
    # A slider that moves afterwards starts from what it says.
    assert exact.with_value("Red", 1.0).slider_edit == EditStep({"Red": 1.0})


def test_what_cant_be_exact_is_said_in_a_line(edit_handlers, resources, scorer):
    red = FACE.with_value("Red", 1.0)
    for scene, message in (
        (FACE, "Move a slider first"),
        (replace(red, edits=(*red.edits, EditStep(shift={"Red": 1.0}))), "several edits"),
        (red.with_amount(0.5), "a share of one"),
        (replace(FACE, generator="squares", editor="squares/counts").with_shift("digit_1", 1.0), "isn't here"),
    ):
        with pytest.raises(gr.Error, match=message):
            refine(edit_handlers, Session(scene))
    resources.choices["mean.safetensors"].editor.scorer = "celeba40:0123"
    with pytest.raises(gr.Error, match="its scorer .celeba40. isn't here"):
        refine(edit_handlers, Session(red))


def test_what_no_scorer_reads_is_named(edit_handlers, resources, scorer, monkeypatch):
    monkeypatch.setattr(
        "ganvas.app.exact_edit.load_label_scorer", lambda editor: type("Blind", (), {"attributes": ("Big",)})()
    )
    with pytest.raises(gr.Error, match="No scorer reads Red"):
        refine(edit_handlers, Session(FACE.with_value("Red", 1.0)))


def test_a_slider_that_moves_meanwhile_wins(edit_handlers, resources, scorer, monkeypatch):
    session = Session(FACE.with_value("Red", 1.2))
    moved, draw = session.scene.with_value("Big", 1.0), resources.make_tools

    def move_meanwhile(scene):
        session.set_scene(moved)
        return draw(scene)

    monkeypatch.setattr(resources, "make_tools", move_meanwhile)
    assert refine(edit_handlers, session) == gr.skip()
    assert session.scene == moved


def test_an_edit_of_a_photograph_is_made_exact_by_the_faces_picture(edit_handlers, resources, scorer):
    photo = make_face_photo(edit_handlers)
    scene = rendering.make_code_scene(resources, FACE, resources.render(FACE).ws, edit_handlers.storage, photo)
    session = Session(scene.with_value("Red", 1.2))
    refine(edit_handlers, session)
    assert session.scene.photo is photo
    assert measure_gap(resources, scorer, session.scene, "Red") < 0.1


def test_an_edit_is_exact_for_one_face_alone(edit_handlers, resources, scorer):
    session = Session(FACE)
    session.set_scene(FACE.with_value("Red", 1.2))
    refine(edit_handlers, session)
    exact = session.scene
    assert exact.slider_edit.refined and not exact.without_refinement().slider_edit.refined
    mixed = rendering.make_mixed_scene(resources, exact, 5, ["Pose and shape"], edit_handlers.storage)
    assert mixed.slider_edit == EditStep({"Red": 1.2})


def test_no_edit_is_made_exact_while_a_photograph_comes_nearer(edit_handlers, scorer):
    session = Session(FACE)
    session.set_scene(FACE.with_value("Red", 1.2))
    session.inversion = SimpleNamespace(cancelled=False, photo=None)
    with pytest.raises(gr.Error, match="wait, or press Stop"):
        refine(edit_handlers, session)
    session.inversion = SimpleNamespace(cancelled=True, photo=None)
    refine(edit_handlers, session)
    assert session.scene.slider_edit.refined


@pytest.mark.parametrize(("distances", "share"), [([0.3], 1.0), ([0.9, 0.3], likeness.MAX_LIMITED_SHARE)])
def test_the_lock_takes_an_exact_edit_as_it_is_or_undoes_it(resources, monkeypatch, distances, share):
    """What was refined for the whole edit isn't a share of it."""
    exact = replace(FACE, edits=(EditStep({"Red": 1.2}, refined={"Red": 1.4}),))
    meter, measured = likeness.LikenessMeter(resources, exact, lambda work: work()), []
    monkeypatch.setattr(meter, "measure_distance", lambda scene: measured.append(scene) or distances[len(measured) - 1])
    assert meter.limit_share() == share
    assert measured[0] == exact and all(not scene.slider_edit.refined for scene in measured[1:])


@pytest.fixture
def binary_red(monkeypatch):
    """The attribute Red as one that a picture has or hasn't."""
    for module in ("app.exact_edit", "app.scene", "recipe.refinement", "control.refinement"):
        monkeypatch.setattr(f"ganvas.{module}.BINARY_ATTRIBUTES", frozenset({"Red"}))


def refine_unasked(edit_handlers, session):
    """Show the session's scene in full, then do what follows."""

    async def play():
        await edit_handlers.show_scene(session, session.start_request())
        return await ExactEditHandlers(edit_handlers).refine_unasked(session)

    return asyncio.run(play())


def test_what_a_picture_has_or_hasnt_is_refined_unasked_in_the_same_step(edit_handlers, resources, scorer, binary_red):
    session, edited = Session(FACE), FACE.with_value("Red", 1.2)
    session.set_scene(edited)
    refine_unasked(edit_handlers, session)
    exact = session.scene
    assert exact.slider_edit.set == {"Red": 1.2} and exact.slider_edit.refined
    with pytest.raises(NothingFollows):  # once
        refine_unasked(edit_handlers, session)
    session.undo()
    assert session.scene == FACE
    for other in (FACE, FACE.with_value("Big", 1.2)):
        with pytest.raises(NothingFollows):
            refine_unasked(edit_handlers, Session(other))
    session = Session(edited)
    session.inversion = SimpleNamespace(cancelled=False, photo=None)
    with pytest.raises(NothingFollows):
        refine_unasked(edit_handlers, session)


def test_another_slider_leaves_refined_changes_and_their_own_begins_anew(edit_handlers, resources, binary_red):
    exact = replace(FACE, edits=(EditStep({"Red": 1.2}, refined={"Red": 2.0, "Tall": -0.3}),))
    moved = exact.with_value("Big", 1.0, reading=0.25)
    assert moved.slider_edit.refined == {"Red": 2.0, "Tall": -0.3, "Big": 0.75}
    assert moved.without_changes("Big") == exact
    assert moved.with_value("Red", 0.5, reading=0.0).slider_edit.refined is None
    assert moved.without_changes("Red").slider_edit.refined is None
    assert exact.without_changes("Red") == FACE
    assert exact.with_value("Big", 1.0).slider_edit.refined is None  # nothing is known of the face
    big = toggle_preset(
        exact,
        Preset("Big", {"Big": 1.0}),
        {"Big": 0.0},
        lambda name: resources.get_slider_scale("mean.safetensors", name),
    )
    assert big.slider_edit.refined["Red"] == 2.0 and big.slider_edit.refined["Big"] == pytest.approx(1.0, abs=0.1)


def test_a_slider_that_moves_in_an_exact_edit_leaves_the_rest(edit_handlers, resources, scorer):
    session = Session(FACE)
    session.set_scene(FACE.with_value("Red", 1.2))
    refine(edit_handlers, session)
    refined = session.scene.slider_edit.refined
    asyncio.run(edit_handlers.move_slider({"name": "Big", "value": 1.0}, session))
    assert session.scene.slider_edit.refined | {"Big": 0} == {**refined, "Big": 0}


def test_another_editor_takes_no_refined_changes_of_this_one(edit_handlers):
    exact = replace(FACE, edits=(EditStep({"Red": 1.2}, refined={"Red": 2.0, "Tall": -0.3}),))
    other = exact.with_editor("other", ("Red",))
    assert other.edits == (EditStep({"Red": 1.2}),)
    assert exact.with_editor("other", ("Red", "Tall"), is_extended=True).edits == exact.edits


def test_a_slider_leaves_a_step_that_is_no_sliders_and_refined_ones_before_it(edit_handlers):
    rows, big = EditStep({"Red": 1.0}, rows=(0, 1)), EditStep({"Big": 1.0})
    assert replace(FACE, edits=(rows,)).with_value("Big", 1.0).edits == (rows, big)
    earlier = replace(FACE, edits=(replace(big, amount=0.5), EditStep({"Red": 1.0}, refined={"Red": 2.0})))
    assert earlier.with_value("Tall", 1.0, reading=0.0).slider_edit.refined is None


def test_a_locked_edit_is_not_refined_unasked(edit_handlers, scorer, binary_red):
    session = Session(FACE)
    session.set_scene(FACE.with_value("Red", 1.2))
    session.person_locked = True
    with pytest.raises(NothingFollows):
        refine_unasked(edit_handlers, session)
