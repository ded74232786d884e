"""The web editor without a browser: scenes, work queues, sessions, links and renderings."""

import asyncio
import json
import threading
from dataclasses import replace

import planted_counts
import pytest
import torch

pytest.importorskip("gradio", reason="the web editor needs gradio: pip install 'ganvas[app]'")

import gradio as gr
from app_servers import make_counting_editor, write_editor
from planted_truth import SCORER, TOY, disentangled

from ganvas.app import attribute_groups, compare, presets, rendering, server, sharing, slider_panel
from ganvas.app.counting import CountHandlers
from ganvas.app.edit_handlers import EditHandlers, list_regions
from ganvas.app.region_handlers import RegionHandlers
from ganvas.app.resources import AppResources, EditorChoice, ToolSources
from ganvas.app.scene import Scene, check_scene, describe_scene
from ganvas.app.scene_handlers import SceneHandlers
from ganvas.app.session import MAX_WAITING, NothingFollows, Session, Superseded, WorkQueue
from ganvas.app.storage import AppStorage
from ganvas.checkpoints.load import load_generator
from ganvas.control.target_values import convert_to_sigma, find_unit_range
from ganvas.editors import load_editor
from ganvas.errors import GanvasError
from ganvas.generators import regions
from ganvas.generators.regions import Region
from ganvas.io.images import decode_jpeg, read_picture, read_png_texts, to_bytes
from ganvas.recipe.model import EditStep, FromCodes, FromConditions, FromSeed, Mix, NamedTool
from ganvas.recipe.rendering import render


@pytest.fixture(scope="module")
def editor(tmp_path_factory):
    """A toy editor's file, whose truth is planted."""
    return write_editor(tmp_path_factory.mktemp("app") / "mean.safetensors")


def toys(dtype):
    """The toy in a dtype."""
    return TOY if dtype == "float32" else load_generator("toy", "cpu", torch.bfloat16)


@pytest.fixture
def resources(editor):
    """The toy with an editor's file, and squares that are counted."""
    descriptions = {"toy": "planted directions", "squares": "planted counts"}
    sources = ToolSources(
        descriptions,
        lambda name, dtype: {"toy": toys(dtype), "squares": planted_counts.SQUARES}[name],
        {"toy": SCORER, "squares": planted_counts.JUDGE}.get,
    )
    return AppResources(sources, [str(editor)], [make_counting_editor()])


@pytest.fixture
def queue():
    """A work queue."""
    work_queue = WorkQueue()
    yield work_queue
    work_queue.close()


@pytest.fixture
def background_queue():
    """The work queue of what needs no generator."""
    work_queue = WorkQueue()
    yield work_queue
    work_queue.close()


@pytest.fixture
def edit_handlers(resources, queue, background_queue, tmp_path):
    """Handlers of edits."""
    folder = tmp_path / "served"
    folder.mkdir()
    return EditHandlers(resources, queue, background_queue, folder, AppStorage(tmp_path / "storage"))


FACE = Scene("toy", "mean.safetensors", FromSeed(3))


# Groups.


@pytest.mark.parametrize("name", ["ffhq/compact", "ffhq/compact-2"])
def test_every_attribute_has_one_group(name):
    names = load_editor(name).attributes
    found = attribute_groups.group_attributes(names)
    assert sorted(name for members in found.values() for name in members) == sorted(names)
    assert found[attribute_groups.OTHER_GROUP] == ["Blurry"]
    assert list(attribute_groups.group_attributes(["Big", "Smiling"])) == ["Expression", attribute_groups.OTHER_GROUP]


def test_the_panel_describes_each_slider(resources):
    """Its words, its start, and what a search finds it by: the page's script searches."""
    scene = FACE.with_value("Big", 1.5)
    shown = rendering.render_full(resources, scene)
    (group,) = slider_panel.list_slider_groups(resources, scene, shown)
    sliders = {slider["name"]: slider for slider in group["sliders"]}
    assert list(sliders) == ["Bright", "Red", "Big", "Right", "Striped"]
    big = sliders["Big"]
    assert (big["value"], big["changed"], big["low"], big["high"]) == (1.5, True, -4, 4)
    assert big["start"] == pytest.approx(shown.start_readings["Big"], abs=0.026)
    assert not sliders["Red"]["changed"]
    assert big["search"].split() == ["big", "big", "other"]


def test_how_far_a_face_reaches_is_marked():
    editor, scene = load_editor("ffhq/compact-2"), Scene("ffhq", "ffhq/compact-2", FromSeed(0))
    ws = torch.zeros(1, 23, 512)
    names = ("Smiling", "Age")
    readings = dict(zip(editor.attributes, editor.read(ws)[0].tolist(), strict=True))
    reach = rendering.find_reach(editor, ws, readings, names)
    for name in names:
        low, high = reach[name]
        assert -4 <= low <= readings[name] <= high <= 4
        # As if each end were asked for alone.
        share = editor.compute_reach(ws, {name: 4 - readings[name]})[0, editor.attributes.index(name)]
        assert high == pytest.approx(readings[name] + float(share) * (4 - readings[name]), abs=1e-3)
    assert scene.region == "auto"


def test_a_preset_is_put_on_and_taken_off(resources):
    scale = resources.get_slider_scale("mean.safetensors", "Big")
    preset = presets.Preset("Bigger", {"Big": 1.5})
    worn = presets.toggle_preset(FACE, preset, {"Big": 0.26}, lambda name: scale)
    assert worn.slider_edit.set == {"Big": 1.75}
    assert presets.toggle_preset(worn, preset, {"Big": 0.26}, lambda name: scale) == FACE
    assert presets.toggle_preset(FACE, preset, {"Big": 3.0}, lambda name: scale).slider_edit.set == {"Big": 4.0}
    faces = presets.list_presets(load_editor("ffhq/compact-2").attributes)
    assert len(faces) == len({each.name for each in faces}) == presets.MAX_PRESETS
    assert [each.name for each in presets.list_presets(("Big",))] == ["Big +", "Big −"]


def test_a_saved_preset_means_the_same_on_other_faces(resources):
    scene = FACE.with_value("Big", 1.25).with_value("Red", -0.5)
    made = presets.make_preset(" My look ", scene, {"Big": 0.25, "Red": 0.5})
    assert made == presets.Preset("My look", {"Big": 1.0, "Red": -1.0})
    assert presets.parse_presets(json.loads(json.dumps([made._asdict()]))) == [made]
    worn = presets.toggle_preset(
        FACE, made, {"Big": -1.0, "Red": 0.0}, lambda name: resources.get_slider_scale("mean.safetensors", name)
    )
    assert worn.slider_edit.set == {"Big": 0.0, "Red": -1.0}
    with pytest.raises(GanvasError, match="Give the look a name"):
        presets.make_preset(" ", scene, {})
    with pytest.raises(GanvasError, match="Move sliders first"):
        presets.make_preset("My look", FACE, {})
    with pytest.raises(GanvasError, match="undo those of"):
        presets.make_preset("My look", FACE.with_value("Big", 1.0).with_shift("Red", 1.0), {"Big": 0.0})
    again = [made._asdict(), {"name": "My look", "changes": {"Big": 2.0}}]
    assert presets.parse_presets(again) == [made]
    for broken in (
        None,
        {},
        [1],
        [{"name": "x"}],
        [{"name": " ", "changes": {"Big": 1.0}}],
        [{"name": "x", "changes": {}}],
        [{"name": 1, "changes": {}}],
        [{"name": "x", "changes": {"Big": 1e9}}],
    ):
        assert presets.parse_presets(broken) == []


# The work queue.


def block(queue):
    """Block the queue; it goes on once the event that is returned is set."""
    go, started = threading.Event(), threading.Event()
    queue.submit(lambda: (started.set(), go.wait()))
    started.wait()
    return go


def run_in_turns(queue, submitted):
    """Run (session, work, is_stale) of a list, all submitted while the queue is blocked; returns results and errors."""

    async def run():
        go = block(queue)
        tasks = [asyncio.create_task(queue.run(*each)) for each in submitted]
        await asyncio.sleep(0.05)
        go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    return asyncio.run(asyncio.wait_for(run(), 10))


def test_sessions_take_turns_whatever_they_submit(queue):
    order, sessions = [], {name: Session(FACE) for name in "abc"}
    names = ["a0", "a1", "a2", "b0", "c0"]
    run_in_turns(queue, [(sessions[name[0]], lambda name=name: order.append(name)) for name in names])
    assert order == ["a0", "b0", "c0", "a1", "a2"]


def test_stale_work_is_not_done(queue):
    done, session = [], Session(FACE)
    old, new = run_in_turns(
        queue, [(session, lambda: done.append("old"), lambda: True), (session, lambda: done.append("new"))]
    )
    assert done == ["new"]
    assert isinstance(old, Superseded)
    assert new is None


def test_an_error_is_raised_where_it_is_awaited_and_the_queue_goes_on(queue):
    def fail():
        raise GanvasError("no")

    session = Session(FACE)
    error, result = run_in_turns(queue, [(session, fail), (session, lambda: 7)])
    assert str(error) == "no"
    assert result == 7


def test_what_one_session_may_have_waiting_is_bounded(queue):
    session = Session(FACE)
    *mine, other = run_in_turns(queue, [*[(session, lambda: 0)] * (MAX_WAITING + 1), (Session(FACE), lambda: 1)])
    assert mine[:-1] == [0] * MAX_WAITING
    assert "waiting already" in str(mine[-1])
    assert other == 1
    assert session.num_waiting == 0


def test_a_closed_queue_drops_what_waits():
    queue = WorkQueue()
    go = block(queue)
    waits = queue.submit(lambda: 1)
    threading.Timer(0.1, go.set).start()
    queue.close()
    assert waits.cancelled()
    with pytest.raises(Superseded):
        queue.submit(lambda: 1)


# Scenes.


def test_sliders_make_one_step():
    scene = FACE.with_value("Big", 1.0).with_value("Red", -0.5).with_value("Big", 2.0)
    assert scene.edits == (EditStep({"Big": 2.0, "Red": -0.5}),)
    assert scene.changed_attributes == ("Big", "Red")
    assert scene.without_changes("Big").edits == (EditStep({"Red": -0.5}),)
    assert scene.without_changes("Big", "Red") == scene.unedited == FACE
    assert scene.with_amount(0.5).edits == (EditStep({"Big": 2.0, "Red": -0.5}, amount=0.5),)
    assert "Big at +2" in describe_scene(scene, {})


def test_counts_are_changed_not_set():
    scene = FACE.with_shift("count", 1).with_shift("count", 1)
    assert scene.slider_edit.shift == {"count": 2.0}
    assert scene.with_shift("count", -2) == FACE
    assert scene.with_value("count", 1.0).slider_edit == EditStep({"count": 1.0})


def test_earlier_edits_are_left_alone():
    first = EditStep(shift={"Big": 1.0}, amount=0.5)
    scene = replace(FACE, edits=(first,)).with_value("Red", 1.0)
    assert scene.edits == (first, EditStep({"Red": 1.0}))
    assert scene.without_changes("Red").edits == (first,)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e9, -7.0])
def test_values_without_faces_are_refused(value):
    with pytest.raises(GanvasError, match="goes from -6 to 6"):
        FACE.with_value("Big", value)
    with pytest.raises(GanvasError):
        check_scene(replace(FACE, edits=(EditStep(shift={"Big": 7.0}),)))


def test_bounds_of_recipes():
    for wrong in (
        replace(FACE, start=FromSeed(0, 1e9)),
        replace(FACE, edits=(EditStep({"Big": 1.0}, amount=1e9),)),
        replace(FACE, mix=Mix(FromSeed(1), (0,), 99.0)),
        replace(FACE, edits=(EditStep({"Big": 1.0}),) * 99),
        replace(FACE, start=FromSeed(0, 0.7, (1.0,))),
    ):
        with pytest.raises(GanvasError):
            check_scene(wrong)


def test_another_editor_keeps_what_it_knows():
    scene = FACE.with_value("Big", 1.0).with_value("Red", 1.0)
    assert scene.with_editor("other", ("Red",)).changed_attributes == ("Red",)
    earlier = replace(scene, edits=(EditStep({"Big": 1.0}), *scene.edits))
    assert earlier.with_editor("other", ("Red",)).edits == ()


# Sessions.


def test_undo_and_redo():
    session = Session(FACE)
    one, two = FACE.with_value("Big", 1.0), FACE.with_value("Big", 2.0)
    session.set_scene(one)
    session.commit()
    session.set_scene(two)
    session.commit()
    session.undo()
    assert session.scene == one
    session.undo()
    assert (session.scene, session.can_undo, session.can_redo) == (FACE, False, True)
    with pytest.raises(GanvasError, match="nothing to undo"):
        session.undo()
    session.redo()
    assert session.scene == one
    session.set_scene(FACE.with_value("Red", 1.0))
    session.commit()
    with pytest.raises(GanvasError, match="nothing to redo"):
        session.redo()


def test_a_slider_on_its_way_is_one_step():
    session = Session(FACE)
    for value in (0.1, 0.5, 1.0):
        session.set_scene(FACE.with_value("Big", value))
    session.commit()
    session.undo()
    assert session.scene == FACE


def test_newer_requests_make_older_ones_stale():
    session = Session(FACE)
    old = session.set_scene(FACE.with_value("Big", 1.0))
    assert not old()
    new = session.start_request()
    assert old()
    assert not new()


def test_visited_faces_are_kept_once_and_bounded():
    session = Session(FACE)
    for seed in (*range(40), 39):
        session.set_scene(replace(FACE, start=FromSeed(seed)))
        session.commit()
        session.set_scene(session.scene.with_value("Big", 1.0))
        session.commit()
    assert len(session.visited_faces) == 24
    assert session.visited_faces[0].start == FromSeed(39)


# The same pixels everywhere.


def scenes():
    return {
        "seed": FACE,
        "edited": FACE.with_value("Big", 1.5).with_value("Red", -1.0),
        "shifted": FACE.with_value("Big", 1.5).with_shift("Red", 1.0),
        "bfloat16": replace(FACE, dtype="bfloat16").with_value("Big", 1.5),
        "mixed": replace(FACE, mix=Mix(FromSeed(8), (0, 1), 0.35)).with_value("Big", 1.0),
        "steps": replace(FACE, edits=(EditStep({"Big": 1.0}, amount=0.5), EditStep(shift={"Red": 1.0}))),
    }


def test_small_pictures_are_drawn_early_unless_the_whole_one_is_there(resources, monkeypatch):
    scene, sizes = scenes()["edited"] if "edited" in scenes() else next(iter(scenes().values())), []
    generator = resources.load(scene).generator
    draw = type(generator).synthesis

    def record(self, ws, resolution=None):
        sizes.append(resolution)
        return draw(self, ws, resolution)

    monkeypatch.setattr(type(generator), "synthesis", record)
    resources._rendered.clear()
    early = resources.render_small(scene, generator.resolution // 2)
    assert early.shape[-1] == generator.resolution // 2 and sizes == [generator.resolution // 2]
    whole = resources.render(scene)
    assert torch.equal(
        resources.render_small(scene, generator.resolution // 2), whole.resize(generator.resolution // 2)
    )
    assert sizes == [generator.resolution // 2, None]
    assert resources.render_small(scene, 4 * generator.resolution).shape == whole.image.shape


@pytest.mark.parametrize("kind", scenes())
def test_command_python_link_and_page_make_the_same_pixels(kind, resources, editor, tmp_path, monkeypatch):
    from ganvas import cli
    from ganvas.recipe.files import save_picture

    monkeypatch.chdir(tmp_path)
    scene = scenes()[kind]
    recipe = resources.make_recipe(scene)
    page = to_bytes(resources.render(scene).image)[0]
    name = sharing.make_file_name(scene)
    save_picture(f"{name}.png", page, recipe)
    assert sharing.decode_token(sharing.encode_token(recipe)) == recipe
    command = sharing.format_command(recipe, str(editor), name)
    with pytest.raises(SystemExit) as end:
        cli.main(__import__("shlex").split(command)[1:])
    assert end.value.code == 0
    drawn = command.rpartition("--out ")[2]
    assert torch.equal(to_bytes(read_picture(drawn))[0], page)
    known = {}
    exec(sharing.format_python(recipe, str(editor), name), known)
    assert torch.equal(to_bytes(known["image"])[0], page)


def test_the_command_refines_nothing_that_the_page_did_not(resources, editor, monkeypatch):
    monkeypatch.setattr(sharing, "BINARY_ATTRIBUTES", frozenset({"Red"}))
    for scene, is_said in ((FACE.with_value("Red", 1.0), True), (FACE.with_value("Big", 1.0), False)):
        command = sharing.format_command(resources.make_recipe(scene), str(editor), "face")
        assert ("--refine 0" in command) == is_said


def test_a_photographs_code_goes_with_its_png(resources, editor, tmp_path, monkeypatch):
    from ganvas.recipe.files import save_picture

    monkeypatch.chdir(tmp_path)
    storage = AppStorage(tmp_path / "storage")
    scene = rendering.freeze_code(resources, replace(FACE, mix=Mix(FromSeed(8), (0, 1))), storage)
    scene = scene.with_value("Big", 1.0)
    assert isinstance(scene.start, FromCodes)
    recipe, page = resources.make_recipe(scene), to_bytes(resources.render(scene).image)[0]
    save_picture("photo.png", page, recipe, scene.codes)
    known = {}
    exec(sharing.format_python(recipe, str(editor), "photo"), known)
    assert torch.equal(to_bytes(known["image"])[0], page)
    assert "ganvas render photo.png" in sharing.format_command(recipe, str(editor), "photo")
    with pytest.raises(GanvasError, match="too long for a link"):
        sharing.encode_token(recipe)


@pytest.mark.parametrize(
    "change", [lambda t: t[:-6], lambda t: "x" + t, lambda t: "é" * 9, lambda t: "", lambda t: t * 40]
)
def test_a_damaged_link_is_one_message(change, resources):
    with pytest.raises(GanvasError, match="link"):
        sharing.decode_token(change(sharing.encode_token(resources.make_recipe(FACE))))


def test_a_link_that_unpacks_to_much_is_refused():
    import base64
    import zlib

    bomb = base64.urlsafe_b64encode(zlib.compress(b" " * 3_000_000)).decode()
    assert len(bomb) < sharing.MAX_TOKEN_LENGTH * 2
    with pytest.raises(GanvasError, match="damaged"):
        sharing.decode_token(bomb)


# Renderings.


def test_a_planted_editor_moves_what_is_asked_and_nothing_else(resources):
    planted = disentangled()
    planted.generator_name = "toy"
    resources.choices["planted"] = EditorChoice(planted, NamedTool("planted", "0" * 64), "the truth")
    scene = replace(FACE, editor="planted").with_value("Big", 1.5)
    effect = rendering.measure_effect(resources, scene)
    before, after = effect.values["Big"]
    assert after == pytest.approx(1.5, abs=0.4)
    assert effect.drift < 0.1 < abs(after - before)
    table = rendering.draw_chart(effect)
    assert table.index("Big") < table.index("Striped")
    assert "Everything else</b> changed by" in table
    shown = rendering.render_full(resources, scene)
    assert shown.readings["Big"] == pytest.approx(1.5, abs=0.01)
    assert shown.distance < shown.bound
    far = rendering.render_full(
        resources, replace(scene, edits=(EditStep(shift={"Big": 6.0}), EditStep(shift={"Right": 6.0, "Red": 6.0})))
    )
    assert far.distance > far.bound


def test_names_in_a_chart_are_escaped():
    table = rendering.draw_chart(rendering.EditEffect({"<script>": (0.0, 1.0)}, (), None, None))
    assert "<script>" not in table


def test_methods_are_compared_at_the_same_change(resources):
    methods = compare.MethodEditors(resources)
    assert methods.list_methods("toy") == ["mean.safetensors"]
    found = methods.load_or_fit(TOY, "mean.safetensors", "Big")
    result = compare.compare_method(resources, FACE, "mean.safetensors", found, compare.ComparisonTarget("Big", 1.0))
    assert result.picture is not None
    assert "others moved" in result.caption
    with pytest.raises(GanvasError, match="Unknown method"):
        methods.load_or_fit(TOY, "nothing", "Big")
    with pytest.raises(GanvasError, match=r"0\.25 to 3"):
        compare.check_comparison(resources, FACE, "Big", 99.0, ["mean.safetensors"])


def test_sampled_faces_are_near_the_sliders():
    faces = rendering.make_slider_scenes(FACE.with_value("Big", 1.0), 5, 3)
    assert [face.start.seed for face in faces] == [5, 6, 7]
    assert all(isinstance(face.start, FromConditions) for face in faces)
    assert faces[0].start.where == {"Big": (0.7, 1.3)}
    with pytest.raises(GanvasError, match="Move sliders first"):
        rendering.make_slider_scenes(FACE, 0, 3)


def test_one_generator_is_in_memory(resources):
    loaded = []
    sources = resources.sources
    resources.sources = ToolSources(
        sources.descriptions,
        lambda *key: (loaded.append(key[0]), sources.load_generator(*key))[1],
        sources.load_scorer,
    )
    squares = Scene("squares", "squares/counts", FromSeed(0))
    for scene in (FACE, FACE.with_value("Big", 1.0), squares, FACE):
        resources.render(scene)
    assert loaded == ["toy", "squares", "toy"]
    with pytest.raises(GanvasError, match="Unknown generator 'cats'"):
        resources.render(replace(FACE, generator="cats"))
    with pytest.raises(GanvasError, match="Unknown editor"):
        resources.render(replace(FACE, editor="squares/counts"))


def test_the_cache_of_pictures_is_bounded(resources):
    for seed in range(30):
        resources.render(replace(FACE, start=FromSeed(seed)))
    assert len(resources._rendered) == 8


# Handlers.


def test_counting_appears_with_an_editor_that_counts_and_reads_back(edit_handlers):
    from gradio import Error

    session = Session(Scene("squares", "squares/counts", FromSeed(0)))

    async def play():
        pickers = edit_handlers.make_picker_updates(session)
        start = await edit_handlers.show_scene(session, session.start_request())
        plus = await CountHandlers(edit_handlers).make_count_handler(1)(session)
        minus = await CountHandlers(edit_handlers).make_count_handler(-1)(session)
        return pickers, start, plus, minus

    pickers, start, plus, minus = asyncio.run(play())
    seen = int(planted_counts.counts(edit_handlers.resources.render(session.scene.unedited).ws)[0, 0])
    assert pickers[3]["visible"] is True
    assert f"<b>{seen}</b> seen" in start[8]
    assert f"<b>{seen + 1}</b> seen" in plus[8] or seen == planted_counts.MOST
    assert f"<b>{seen}</b> seen" in minus[8]
    assert edit_handlers.make_picker_updates(Session(FACE))[3]["visible"] is False
    with pytest.raises(Error):
        asyncio.run(CountHandlers(edit_handlers).make_count_handler(1)(Session(FACE)))


@pytest.mark.parametrize("value", [float("nan"), 1e9, "1", True, [1.0]])
def test_an_edited_request_is_one_message(value, edit_handlers):
    from gradio import Error

    session = Session(FACE)
    with pytest.raises(Error) as error:
        asyncio.run(edit_handlers.move_slider({"name": "Big", "value": value}, session))
    assert "\n" not in str(error.value)
    assert "'Big' takes a finite number from -4 to 4, not " in str(error.value)
    assert session.scene == FACE
    for wrong, message in (({"name": "Wings", "value": 1.0}, "Unknown attribute"), ([value], "name and value")):
        with pytest.raises(Error, match=message):
            asyncio.run(edit_handlers.move_slider(wrong, session))
    with pytest.raises(Error, match="reload"):
        asyncio.run(edit_handlers.move_slider({"name": "Big", "value": 1.0}, None))


def test_a_newer_position_cancels_the_older_ones_work(edit_handlers):
    session = Session(FACE)

    async def play():
        go = block(edit_handlers.generator_queue)
        moves = [{"name": "Big", "value": value} for value in (0.5, 1.0, 1.5)]
        older = [asyncio.create_task(edit_handlers.move_slider(move, session)) for move in moves]
        await asyncio.sleep(0.05)
        go.set()
        return await asyncio.gather(*older)

    results = asyncio.run(play())
    assert ["value" in r for r in results] == [False, False, True]
    assert session.scene.slider_edit.set == {"Big": 1.5}


def test_the_full_picture_comes_at_rest_and_once(edit_handlers):
    session = Session(FACE)

    async def play():
        await edit_handlers.move_slider({"name": "Big", "value": 1.0, "number": 1}, session)
        waiting = asyncio.create_task(edit_handlers.render_at_rest(session))
        await asyncio.sleep(0.01)
        await edit_handlers.move_slider({"name": "Big", "value": 1.2, "number": 2}, session)
        with pytest.raises(NothingFollows):
            await waiting
        late = await edit_handlers.render_at_rest(session)
        with pytest.raises(NothingFollows):
            await edit_handlers.render_at_rest(session)
        return late

    late = asyncio.run(play())
    assert late[2]["value"]["url"].startswith("data:image/jpeg")
    panel = late[9]
    assert panel["number"] == 2
    assert [slider["name"] for slider in json.loads(panel["groups"])[0]["sliders"] if slider["changed"]] == ["Big"]
    assert "before all edits" in late[3]
    assert session.can_undo


def test_a_slider_that_is_reset_leaves_the_others(edit_handlers):
    session = Session(FACE.with_value("Big", 1.0).with_value("Red", 1.0))
    asyncio.run(edit_handlers.move_slider({"name": "Big", "value": None}, session))
    assert session.scene.changed_attributes == ("Red",)


def test_a_preview_is_near_the_whole_picture_and_equal_to_it_at_rest(resources):
    """What changed is added to the picture that was shown last: no jump when a slider begins to move."""
    resting = FACE.with_value("Big", 1.0)
    whole = resources.render_shown(resting)
    assert rendering.render_preview(resources, resting, resting) == rendering.encode_picture(whole)
    moved = resting.with_value("Red", 1.0)
    preview = decode_jpeg(rendering.render_preview(resources, moved, resting)).float()
    shown = decode_jpeg(rendering.encode_picture(resources.render_shown(moved))).float()
    assert (preview.mean((0, 1)) - shown.mean((0, 1))).abs().max() < 3
    # Another face's picture is no base.
    other = replace(resting, start=FromSeed(9))
    assert rendering.render_preview(resources, other, resting) == rendering.encode_picture(
        resources.render_preview(other)
    )


def test_a_recipe_is_loaded_and_its_file_deleted(edit_handlers, resources):
    from gradio import Error

    from ganvas.recipe.files import save_picture

    scene = FACE.with_value("Big", 1.0)
    folder = edit_handlers.folder
    path = folder / "some.png"
    save_picture(path, to_bytes(resources.render(scene).image)[0], resources.make_recipe(scene))
    session = Session(FACE)
    asyncio.run(SceneHandlers(edit_handlers, FACE).upload_recipe(str(path), session))
    assert session.scene == scene
    assert not path.exists()
    bad = {
        "broken.json": b"{",
        "huge.json": json.dumps({"version": 1}).encode(),
        "no.png": b"\x89PNG\r\n\x1a\nnonsense",
        "words.txt": b"hello",
    }
    for name, content in bad.items():
        (folder / name).write_bytes(content)
        with pytest.raises(Error) as error:
            asyncio.run(SceneHandlers(edit_handlers, FACE).upload_recipe(str(folder / name), session))
        assert str(folder) not in str(error.value)
        assert not (folder / name).exists()
    assert session.scene == scene


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.replace('"Big": 1.0', '"Wings": 1.0'), "Unknown attribute 'Wings'"),
        (lambda t: t.replace('"Big": 1.0', '"Big": 1e9'), "goes from -6 to 6"),
        (lambda t: t.replace('"Big": 1.0', '"Big": NaN'), "numbers must be finite"),
        (lambda t: t.replace('"toy"', '"../../etc/passwd"'), "Unknown generator"),
        (lambda t: t[:-1] + ', "transform": {"angle": 5.0, "x": 0.0, "y": 0.0}}', "turns or moves the picture"),
    ],
)
def test_an_edited_recipe_is_one_message_and_changes_nothing(change, message, edit_handlers, resources):
    from gradio import Error

    from ganvas.recipe.model import to_json

    text = json.dumps(to_json(resources.make_recipe(FACE.with_value("Big", 1.0))))
    path = edit_handlers.folder / "some.json"
    path.write_text(change(text))
    session = Session(FACE)
    with pytest.raises(Error, match=message):
        asyncio.run(SceneHandlers(edit_handlers, FACE).upload_recipe(str(path), session))
    assert session.scene == FACE


def test_addresses():
    assert server.is_local("127.0.0.1")
    assert server.is_local("localhost")
    assert not server.is_local("0.0.0.0")
    with pytest.raises(GanvasError, match="no address"):
        server.is_local("here")


def test_png_carries_the_recipe_that_the_page_shows(resources, tmp_path):
    from ganvas.recipe.files import RECIPE_TEXT, load_recipe, load_recipe_tools, save_picture

    scene = FACE.with_value("Big", 1.0)
    path = tmp_path / "face.png"
    save_picture(path, to_bytes(resources.render(scene).image)[0], resources.make_recipe(scene))
    assert RECIPE_TEXT in read_png_texts(path)
    recipe, carried = load_recipe(path)
    tools = load_recipe_tools(recipe, editor=resources.editor_paths["mean.safetensors"], carried=carried)
    assert torch.equal(to_bytes(render(recipe, tools)), to_bytes(read_picture(path)))


# Units.


@pytest.fixture
def with_unit(resources):
    """The same editor once more, with a unit for Right."""
    choice = resources.choices["mean.safetensors"]
    choice.editor.units = {"Right": "px"}
    return choice.editor


def test_a_slider_in_a_unit_shows_and_takes_it_and_the_scene_holds_sigma(edit_handlers, with_unit):
    scale = edit_handlers.resources.get_slider_scale("mean.safetensors", "Right")
    low, high, step = scale.ticks
    assert scale.label == "Right (px)"
    assert (low, high, step) == find_unit_range(with_unit, "Right")
    value = round((low + high) / 2 / step) * step
    session = Session(FACE)
    preview = asyncio.run(edit_handlers.move_slider({"name": "Right", "value": value}, session))
    sigma = session.scene.slider_edit.set["Right"]
    assert sigma == pytest.approx(convert_to_sigma(with_unit, "Right", f"{value:.9f}px"))
    assert preview["alt_text"].endswith(f"with Right at {value:g} px")
    shown = asyncio.run(edit_handlers.render_at_rest(session))
    assert f"Right at {value:g} px" in shown[4]
    assert scale.convert_to_slider(sigma) == pytest.approx(value)
    assert "Big at +1.00" in edit_handlers._format_status(
        FACE.with_value("Big", 1.0), rendering.render_full(edit_handlers.resources, FACE)
    )
    with pytest.raises(gr.Error, match="'Right' takes a finite number from"):
        asyncio.run(edit_handlers.move_slider({"name": "Right", "value": high + 1}, session))


def test_sliders_follow_the_unit_of_the_editor_that_is_picked(resources, with_unit):
    low, high, step = find_unit_range(with_unit, "Right")
    (group,) = slider_panel.list_slider_groups(resources, FACE, rendering.render_full(resources, FACE))
    (right,) = [slider for slider in group["sliders"] if slider["name"] == "Right"]
    assert [right[key] for key in ("label", "unit", "low", "high", "step")] == ["Right (px)", "px", low, high, step]
    squares = replace(FACE, generator="squares", editor="squares/counts")
    assert slider_panel.list_slider_groups(resources, squares, rendering.render_full(resources, squares)) == []


def test_a_face_keeps_its_region_in_links_recipes_and_commands(monkeypatch, resources):
    monkeypatch.setattr(regions, "load_regions", lambda _: {"left": (Region((0.25, 0.5, 0.2, 0.3)), ("Red",))})
    scene = FACE.with_shift("Red", 1.0)
    kept, free = (resources.make_recipe(replace(scene, region=region)) for region in ("auto", "off"))
    assert kept.regions and not free.regions
    assert sharing.decode_token(sharing.encode_token(kept)) == kept
    assert "--region" not in sharing.format_command(kept, scene.editor, "face")
    assert "--region off" in sharing.format_command(free, scene.editor, "face")
    plain, edited = (resources.render(each).image for each in (scene.unedited, scene))
    outside = (kept.regions[0].build_mask(*plain.shape[-2:]) == 0).expand_as(plain)
    assert torch.equal(edited[outside], plain[outside])


def test_a_face_is_mixed_with_parts_of_another(resources, edit_handlers):
    edited, storage = FACE.with_value("Big", 1.0), edit_handlers.storage
    mixed = rendering.make_mixed_scene(resources, edited, 7, ["Features"], storage)
    assert mixed.edits == edited.edits
    assert mixed.mix == Mix(FromSeed(7, FACE.start.psi), (2, 3))
    own, other, both = (
        resources.compute_start(scene) for scene in (FACE, FACE.with_start(mixed.mix.start), mixed.unedited)
    )
    assert torch.equal(both, torch.cat((own[:, :2], other[:, 2:]), 1))
    # Another mix replaces it; one of all rows, as of similar faces, is kept.
    again = rendering.make_mixed_scene(resources, mixed, 8, ["Pose and shape"], storage)
    assert again.mix.rows == (0, 1) and again.start == FACE.start
    (similar,) = rendering.make_similar_scenes(resources, FACE, 3, 1, storage)
    onto = rendering.make_mixed_scene(resources, similar, 8, ["Features"], storage)
    assert torch.allclose(resources.compute_start(onto)[:, :2], resources.compute_start(similar)[:, :2])
    for parts, message in (
        ([], "Choose what comes from"),
        (["Colours"], "Choose what comes from"),
        (["Wings"], "Unknown part"),
    ):
        with pytest.raises(GanvasError, match=message):
            rendering.make_mixed_scene(resources, FACE, 7, parts, storage)


def test_a_recipe_with_regions_of_its_own_is_drawn_as_by_the_command(monkeypatch, resources, edit_handlers):
    monkeypatch.setattr(regions, "load_regions", lambda _: {"left": (Region((0.25, 0.5, 0.2, 0.3)), ("Red",))})
    before = (Region((0.3, 0.4, 0.2, 0.2)), Region((0.7, 0.6, 0.1, 0.2)))
    tools = resources.make_tools(FACE)
    recipe = replace(resources.make_recipe(FACE.with_shift("Red", 2.0)), regions=before)
    handlers = SceneHandlers(edit_handlers, FACE)
    scene = handlers.make_scene(recipe)
    assert torch.equal(resources.render(scene).image, render(recipe, tools))
    assert not torch.equal(resources.render(replace(scene, region="auto")).image, render(recipe, tools))
    assert resources.make_recipe(scene) == recipe
    assert ("As it was saved", "saved") in list_regions(scene)
    session = Session(scene)
    asyncio.run(RegionHandlers(edit_handlers).choose_region("off", session))
    asyncio.run(RegionHandlers(edit_handlers).choose_region("saved", session))
    assert resources.make_recipe(session.scene) == recipe
    assert ("As it was saved", "saved") not in list_regions(scene.with_start(FromSeed(4)))
    # One of the page's own is that, and a painted place isn't in the recipe's file.
    assert handlers.make_scene(replace(recipe, regions=(Region((0.25, 0.5, 0.2, 0.3)),))).region == "auto"
    with pytest.raises(GanvasError, match="a painted place"):
        handlers.make_scene(replace(recipe, regions=None, mask="0" * 64))
