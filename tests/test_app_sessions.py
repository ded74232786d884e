"""Visitors are kept from harm and from each other: sessions, files, work queues, and messages where something fails."""

import asyncio
import copy
import os
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

pytest.importorskip("gradio", reason="the web editor needs gradio: pip install 'ganvas[app]'")

import gradio as gr
from app_photos import make_face_photo
from fitted_editors import labels
from planted_truth import TOY
from test_app import FACE, background_queue, block, edit_handlers, editor, queue, resources  # noqa: F401

from ganvas.app import compare, rendering, request_checks, server
from ganvas.app.layout import SESSION_SECONDS
from ganvas.app.scene_handlers import SceneHandlers
from ganvas.app.session import Session, Superseded, report_errors
from ganvas.app.storage import STORED_SECONDS, AppStorage
from ganvas.app.tab_handlers import TAB_OUTPUTS, TabHandlers
from ganvas.errors import GanvasError
from ganvas.recipe.model import FromSeed

# ruff: noqa: F811


# Files.


def old(path, seconds=request_checks.FILE_SECONDS + 60):
    """As if it had been written so long ago."""
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_uploads_that_were_broken_off_are_deleted(tmp_path):
    for name in ("session-a/some.png", "sha/some.png", "tmpold", "tmpnew"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        if name != "tmpnew":
            old(path)
    assert request_checks._count_bytes(tmp_path) > 0
    assert {path.name for path in tmp_path.iterdir()} == {"session-a", "sha", "tmpnew"}
    assert (tmp_path / "session-a" / "some.png").exists()


def test_what_killed_servers_left_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names = [f"ganvas-app-{os.getpid()}-x", "ganvas-app-999999999-x", "ganvas-app-99999999999999999999-x", "other-1-x"]
    for name in names:
        (tmp_path / name).mkdir()
    with server.create_folder() as own:
        assert own.name.startswith(f"ganvas-app-{os.getpid()}-")
        left = {path.name for path in tmp_path.iterdir()} - {own.name}
    assert left == {names[0], names[3]}
    assert not own.exists()


def test_a_claimed_upload_is_nobody_elses_and_is_deleted(tmp_path):
    path = tmp_path / "sha" / "face.PNG"
    path.parent.mkdir()
    path.write_bytes(b"x")
    with request_checks.claim_upload({"path": str(path)}, tmp_path, (".png",)) as mine:
        assert mine.read_bytes() == b"x"
        with (
            pytest.raises(GanvasError, match="upload it again"),
            request_checks.claim_upload(str(path), tmp_path, (".png",)),
        ):
            pass
    assert not mine.exists()
    (tmp_path / "session-a").mkdir()
    (tmp_path / "session-a" / "seed.png").write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    names = ("", "session-a/seed.png", "folder.png")
    for other in (__file__, *(str(tmp_path / name) for name in names), None, 7):
        with pytest.raises(GanvasError), request_checks.claim_upload(other, tmp_path, (".png", ".py")):
            pass
    assert (tmp_path / "session-a" / "seed.png").exists()


# Sessions.


def test_gradio_keeps_sessions_apart_and_ends_them_with_their_files(resources, queue, tmp_path, monkeypatch):
    """By Gradio's own state: of so many visitors, for so long after the last picture."""
    import datetime

    from gradio import state_holder

    demo = server.build_app(resources, (queue, queue), tmp_path, AppStorage(tmp_path / "storage"), FACE)
    holder = state_holder.StateHolder()
    holder.set_blocks(demo)
    (state,) = (block for block in demo.blocks.values() if isinstance(block, gr.State))
    assert holder["stranger"][state._id] is None
    sessions = {name: Session(FACE) for name in ("one", "two")}
    folders = {name: tmp_path / f"session-{session.key}" for name, session in sessions.items()}
    for name, session in sessions.items():
        holder[name][state._id] = session
        folders[name].mkdir()
    assert holder["one"][state._id] is sessions["one"]
    holder["one"]._state_ttl[state._id] = (
        SESSION_SECONDS,
        datetime.datetime.now() - datetime.timedelta(seconds=SESSION_SECONDS + 1),
    )
    is_stale = sessions["one"].start_request()
    holder.delete_all_expired_state()
    assert holder["one"][state._id] is None
    assert is_stale()
    assert holder["two"][state._id] is sessions["two"]
    assert [folder.exists() for folder in folders.values()] == [False, True]
    for i in range(server.MAX_SESSIONS):
        assert holder[f"s{i}"][state._id] is None
    assert "two" not in holder
    assert len(holder.session_data) == server.MAX_SESSIONS


def test_a_new_picture_renews_the_session(edit_handlers):
    session = Session(FACE)
    shown = asyncio.run(edit_handlers.make_step_handler(edit_handlers.choose_random_face)(session))
    assert shown[0] is session


# What fails is one message, and traps nobody.


def test_an_error_that_nobody_foresaw_is_one_message(caplog):
    @report_errors
    async def fail():
        raise TypeError("inside")

    @report_errors
    async def fill():
        yield 1
        raise TypeError("inside")

    async def both():
        with pytest.raises(gr.Error, match="went wrong"):
            await fail()
        with pytest.raises(gr.Error, match="went wrong"):
            assert [one async for one in fill()]

    asyncio.run(both())
    assert "inside" in caplog.text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "1", None, True, [1], 5, -5, 10**400])
def test_numbers_are_read_with_care(value):
    with pytest.raises(GanvasError, match="psi takes a finite number from 0 to 2"):
        request_checks.check_number("psi", value, 0, 2)
    with pytest.raises(GanvasError):
        request_checks.check_integer("seed", 0.5, 0, 2)


def test_a_face_that_cannot_be_drawn_traps_nobody(edit_handlers, resources, monkeypatch):
    session = Session(FACE)
    with pytest.raises(gr.Error):
        asyncio.run(edit_handlers.make_step_handler(lambda mine: replace(mine.scene, generator="cats"))(session))
    assert session.scene == FACE
    asyncio.run(edit_handlers.make_step_handler(edit_handlers.choose_random_face)(session))
    shown = session.scene

    def fail(*_):
        raise GanvasError("no")

    monkeypatch.setattr(rendering, "render_preview", fail)
    with pytest.raises(gr.Error, match="no"):
        asyncio.run(edit_handlers.move_slider({"name": "Big", "value": 1.0}, session))
    assert session.scene == shown
    session.gallery_faces = [replace(FACE, generator="cats")]
    tab_handlers = TabHandlers(edit_handlers, compare.MethodEditors(resources))
    choose = tab_handlers.make_choice_handler("gallery_faces")
    with pytest.raises(gr.Error):
        asyncio.run(choose(session, SimpleNamespace(index=0)))
    assert session.scene == shown


def test_a_preview_says_what_it_shows(edit_handlers):
    shown = asyncio.run(edit_handlers.move_slider({"name": "Big", "value": 1.0}, Session(FACE)))
    assert "Big at +1" in shown["alt_text"]


# Galleries.


def test_a_click_while_a_gallery_is_refilled_opens_the_face_that_is_seen(edit_handlers, resources):
    tab_handlers, session = (
        TabHandlers(edit_handlers, compare.MethodEditors(resources)),
        Session(FACE),
    )
    fill = tab_handlers.make_gallery_handler(tab_handlers.list_seeds)

    async def play():
        first = [shown async for shown in fill(0, 0.7, session)]
        go = block(edit_handlers.generator_queue)
        again = asyncio.ensure_future(anext(fill(100, 0.7, session)))
        await asyncio.sleep(0.05)
        during = session.gallery_faces[0].start.seed
        go.set()
        await again
        return len(first), during, session.gallery_faces[0].start.seed

    pages, during, after = asyncio.run(play())
    assert pages == 3
    assert (during, after) == (0, 100)


def test_a_click_on_a_visited_face_opens_the_one_that_is_seen(edit_handlers, resources):
    tab_handlers, session = (
        TabHandlers(edit_handlers, compare.MethodEditors(resources)),
        Session(FACE),
    )
    session.open_tabs = {"faces"}
    request = SimpleNamespace(headers={})

    async def play():
        await tab_handlers.refresh_tabs(session, request)
        await edit_handlers.make_step_handler(edit_handlers.choose_random_face)(session)
        await tab_handlers.make_choice_handler("shown_visited_faces")(session, SimpleNamespace(index=0))

    asyncio.run(play())
    assert session.scene == FACE.unedited


# Comparisons.


def test_others_are_served_while_methods_are_compared(edit_handlers, resources):
    editor = resources.choices["mean.safetensors"].editor
    pieces = []

    def run_with_generator(run):
        pieces.append(1)
        return edit_handlers.generator_queue.submit(run).result()

    result = compare.compare_method(
        resources, FACE, "mean.safetensors", editor, compare.ComparisonTarget("Big", 1.0), run_with_generator
    )
    assert result.picture is not None
    assert len(pieces) > 2
    assert result == compare.compare_method(
        resources, FACE, "mean.safetensors", editor, compare.ComparisonTarget("Big", 1.0)
    )


def test_a_comparison_ends_where_its_visitor_leaves(edit_handlers, resources, monkeypatch):
    tab_handlers = TabHandlers(edit_handlers, compare.MethodEditors(resources))
    started, ended = threading.Event(), []

    def compare_slowly(resources, scene, name, editor, target, run_with_generator):
        started.set()
        try:
            while True:
                run_with_generator(lambda: time.sleep(0.01))
        except Superseded:
            ended.append(name)
            raise

    async def play():
        shown = tab_handlers.compare_methods("Big", 1.0, ["mean.safetensors"], Session(FACE))
        await anext(shown)
        task = asyncio.ensure_future(anext(shown))
        await asyncio.to_thread(started.wait)
        task.cancel()
        await asyncio.wait([task])

    monkeypatch.setattr(compare, "compare_method", compare_slowly)
    asyncio.run(play())
    assert ended == ["mean.safetensors"]


def test_few_of_the_methods_learned_are_kept(resources, monkeypatch):
    methods = compare.MethodEditors(resources)
    monkeypatch.setattr(methods, "list_methods", lambda name: ["new"])
    one = resources.choices["mean.safetensors"].editor
    monkeypatch.setattr("ganvas.editors.fit", lambda *_, attributes: one)
    methods._labels = {"toy": labels()}
    for i in range(compare.MAX_FITTED_EDITORS + 9):
        assert methods.load_or_fit(TOY, "new", f"a{i}") is one
    assert len(methods._fitted) == compare.MAX_FITTED_EDITORS


# The page.


def test_a_page_holds_no_network(resources, queue, tmp_path, monkeypatch):
    demo = server.build_app(resources, (queue, queue), tmp_path, AppStorage(tmp_path / "storage"), FACE)
    copied = []
    monkeypatch.setattr(torch.Tensor, "__deepcopy__", lambda self, memo: copied.append(self))
    from gradio.utils import safe_deepcopy

    safe_deepcopy(demo.get_config_file())
    copy.deepcopy(demo.get_config_file())
    assert not copied
    assert demo.has_launched
    assert demo._queue.max_thread_count >= 1000


def test_a_page_takes_one_connection_for_good(resources, queue, tmp_path):
    """Browsers have six to a server: with Gradio's heartbeat as well, three open pages would take them all."""
    assert not server.build_app(
        resources, (queue, queue), tmp_path, AppStorage(tmp_path / "storage"), FACE
    ).get_config_file()["connect_heartbeat"]


def test_names_that_a_server_answers_to():
    assert "localhost" in server.list_allowed_hosts("127.0.0.1")
    assert server.list_allowed_hosts("0.0.0.0") is None
    assert server.list_allowed_hosts("127.0.0.1", ["Example.org"]) >= {"localhost", "example.org"}
    assert "example.org" in server.list_allowed_hosts("0.0.0.0", ["example.org"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"root_path": "ganvas"}, "root path"),
        ({"root_path": "/a?b"}, "root path"),
        ({"allowed_hosts": ("http://example.org",)}, "allowed host"),
        ({"password": ""}, "empty"),
    ],
)
def test_options_behind_a_proxy_are_checked(options, message):
    with pytest.raises(GanvasError, match=message):
        server.ServerConfig(**options)
    for right in ("", "/ganvas", "/a/b/", "https://example.org/ganvas", "https://example.org"):
        server.ServerConfig(root_path=right, allowed_hosts=("*.example.org", "::1"), password="a b")
    assert "secret" not in repr(server.ServerConfig(password="secret"))


def test_who_opens_the_page_gets_a_session(edit_handlers):
    request = SimpleNamespace(query_params={}, headers={})
    handlers = SceneHandlers(edit_handlers, FACE)
    opened = [value for _ in range(2) for value in asyncio.run(handlers.open_page(None, request))]
    mine, other = (value for value in opened if isinstance(value, Session))
    assert mine.scene == FACE
    assert mine is not other


def test_a_tab_that_is_selected_while_the_page_opens_is_no_error(edit_handlers, resources):
    """A narrow page does that: it selects its tabs before it has a session."""
    tab_handlers = TabHandlers(edit_handlers, compare.MethodEditors(resources))
    found = asyncio.run(tab_handlers.make_open_handler("wipe")(None, SimpleNamespace(session_hash="new")))
    assert len(found) == len(TAB_OUTPUTS)


def test_a_reload_goes_on_with_all_steps_and_a_restart_with_the_picture(edit_handlers):
    request = SimpleNamespace(query_params={}, headers={})
    handlers = SceneHandlers(edit_handlers, FACE)

    def open_page(handlers, remembered):
        opened = asyncio.run(handlers.open_page(remembered, request))
        return next(value for value in opened if isinstance(value, Session))

    first = open_page(handlers, None)
    assert first.screen == "start"
    shown = []
    for value in (1.0, 2.0):
        first.set_scene(first.scene.with_value("Big", value))
        shown = asyncio.run(edit_handlers.show_scene(first, first.start_request()))
    remembered = shown[1]
    again = open_page(handlers, remembered)
    assert again is not first
    assert again.scene == first.scene
    assert again.list_steps() == first.list_steps()
    # What one of two tabs undoes stays in the other.
    again.undo()
    assert first.scene.slider_edit.set == {"Big": 2.0}
    restarted = open_page(SceneHandlers(edit_handlers, FACE), remembered)
    assert restarted.scene == first.scene
    assert not restarted.can_undo


def test_a_code_and_its_photograph_outlast_a_restart_for_a_day(edit_handlers, resources, monkeypatch):
    request, photo = SimpleNamespace(query_params={}, headers={}), make_face_photo(edit_handlers)
    ws = resources.render(replace(FACE, start=FromSeed(9))).ws
    session = Session(rendering.make_code_scene(resources, FACE, ws, edit_handlers.storage, photo))
    session.set_scene(session.scene.with_value("Big", 1.0))
    remembered = asyncio.run(edit_handlers.show_scene(session, session.start_request()))[1]

    def open_page():
        opened = asyncio.run(SceneHandlers(edit_handlers, FACE).open_page(remembered, request))
        return next(value for value in opened if isinstance(value, Session)).scene

    scene = open_page()
    assert scene == session.scene
    assert torch.equal(scene.photo.face.picture, photo.face.picture)
    assert torch.equal(resources.render_shown(scene), resources.render_shown(session.scene))
    for path in edit_handlers.storage.folder.rglob("*"):
        if path.is_file():
            old(path, STORED_SECONDS + 60)
    edit_handlers.storage.delete_old()
    assert not list(edit_handlers.storage.folder.glob("*/*"))
    warnings = []
    monkeypatch.setattr("gradio.Warning", lambda text, **options: warnings.append(text))
    assert open_page() == FACE
    assert "for a day" in warnings[0]


@pytest.mark.parametrize(
    "value", [[], {"recipe": {}}, {"key": 7, "recipe": None}, {"key": "x", "recipe": {"version": 1}}]
)
def test_a_browsers_state_that_was_changed_is_one_message(value, edit_handlers, monkeypatch):
    warnings = []
    monkeypatch.setattr("gradio.Warning", lambda text, **options: warnings.append(text))
    request = SimpleNamespace(query_params={}, headers={})
    opened = asyncio.run(SceneHandlers(edit_handlers, FACE).open_page(value, request))
    assert next(each for each in opened if isinstance(each, Session)).scene == FACE
    assert len(warnings) == isinstance(value, dict)


def test_stored_files_are_this_users_alone(tmp_path):
    storage = AppStorage(tmp_path / "storage")
    secret = storage.read_secret()
    assert AppStorage(tmp_path / "storage").read_secret() == secret
    assert {path.stat().st_mode & 0o077 for path in (storage.folder, storage.folder / "secret.txt")} == {0}
    with pytest.raises(GanvasError, match="no sha256"):
        storage.load_code("../../etc/passwd", 0, TOY)


@pytest.mark.parametrize("button", ["open_downloads", "pin_picture"])
def test_a_tab_opens_though_a_newer_request_comes(edit_handlers, resources, button):
    """That request fills it."""
    tab_handlers, session = TabHandlers(edit_handlers, compare.MethodEditors(resources)), Session(FACE)

    async def play():
        go = block(edit_handlers.generator_queue)
        opened = asyncio.create_task(getattr(tab_handlers, button)(session, None))
        await asyncio.sleep(0.05)
        session.start_request()
        go.set()
        return await opened

    selected, *tabs = asyncio.run(play())
    assert selected["selected"] in ("take", "history") and tabs == [gr.skip()] * len(TAB_OUTPUTS)
