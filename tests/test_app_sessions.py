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
from planted_truth import TOY
from test_app import FACE, block, edit_handlers, editor, queue, resources  # noqa: F401

from ganvas.app import compare, photo_handlers, rendering, server, server_folder, validation
from ganvas.app.edit_handlers import report_errors
from ganvas.app.navigation_handlers import NavigationHandlers
from ganvas.app.photo_handlers import PhotoHandlers
from ganvas.app.session import Session
from ganvas.app.session_store import IDLE_SECONDS, MAX_SESSIONS, SessionStore
from ganvas.app.tab_handlers import TabHandlers
from ganvas.app.work_queue import Superseded, WorkQueue
from ganvas.errors import GanvasError

# ruff: noqa: F811


# Files.


def old(path, seconds=120):
    """As if it had been written so long ago."""
    os.utime(path, (time.time() - seconds,) * 2)
    return path


def test_uploads_that_lie_about_are_swept(tmp_path):
    for name in ("sha", "session-a", "claim-b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "some.png").write_bytes(b"x")
        old(tmp_path / name / "some.png")
    (tmp_path / "tmpnew").write_bytes(b"")
    old(tmp_path / "sha")
    (tmp_path / "tmpold").write_bytes(b"")
    old(tmp_path / "tmpold")
    server_folder.delete_uploads(tmp_path)
    old(tmp_path / "sha")
    server_folder.delete_uploads(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"session-a", "claim-b", "tmpnew"}
    assert (tmp_path / "session-a" / "some.png").exists()


def test_what_killed_servers_left_is_deleted(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    names = [f"ganvas-app-{os.getpid()}-x", "ganvas-app-999999999-x", "ganvas-app-99999999999999999999-x", "other-1-x"]
    for name in names:
        (tmp_path / name).mkdir()
    with server_folder.create_folder() as own:
        assert own.name.startswith(f"ganvas-app-{os.getpid()}-")
        left = {path.name for path in tmp_path.iterdir()} - {own.name}
    assert left == {names[0], names[3]}
    assert not own.exists()


def test_a_claimed_upload_is_nobody_elses_and_is_deleted(tmp_path):
    path = tmp_path / "sha" / "face.PNG"
    path.parent.mkdir()
    path.write_bytes(b"x")
    with server_folder.claim_upload({"path": str(path)}, tmp_path, (".png",)) as mine:
        assert mine.read_bytes() == b"x"
        with (
            pytest.raises(GanvasError, match="upload it again"),
            server_folder.claim_upload(str(path), tmp_path, (".png",)),
        ):
            pass
    assert not mine.exists()
    (tmp_path / "session-a").mkdir()
    (tmp_path / "session-a" / "seed.png").write_bytes(b"x")
    for other in (__file__, str(tmp_path), str(tmp_path / "session-a" / "seed.png"), None, 7):
        with pytest.raises(GanvasError), server_folder.claim_upload(other, tmp_path, (".png", ".py")):
            pass
    assert (tmp_path / "session-a" / "seed.png").exists()


# Sessions.


def test_sessions_are_kept_by_hash_and_removed_with_their_files(tmp_path, monkeypatch):
    sessions, now = SessionStore(tmp_path), [0.0]
    monkeypatch.setattr("ganvas.app.session_store.time.monotonic", lambda: now[0])
    first = Session(FACE)
    sessions.add("first", first)
    files = sessions.get_folder(first)
    for i in range(MAX_SESSIONS - 1):
        sessions.add(f"s{i}", Session(FACE))
    assert sessions.get("first") is first
    sessions.add("one more", Session(FACE))
    assert sessions.get("s0") is None
    assert sessions.get("first") is first
    assert files.exists()
    now[0] = IDLE_SECONDS + 1
    sessions.remove_expired()
    assert sessions.get("first") is None
    assert not files.exists()
    assert sessions.get(None) is None


def test_a_handler_gets_the_session_of_the_request(tmp_path):
    sessions, mine = SessionStore(tmp_path), Session(FACE)
    sessions.add("me", mine)

    @report_errors
    async def select(value, session: Session | None, event: gr.SelectData):
        return value, session, event

    @report_errors
    async def fill(value, session: Session | None):
        yield value, session

    request = SimpleNamespace(session_hash="me")
    assert asyncio.run(sessions.bind_session(select)(1, request, "event")) == (1, mine, "event")

    async def first():
        return [found async for found in sessions.bind_session(fill)(2, request)]

    assert asyncio.run(first()) == [(2, mine)]
    from gradio.helpers import special_args

    given, *_ = special_args(sessions.bind_session(fill), [2], request)
    assert given == [2, request]


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
        validation.check_number("psi", value, 0, 2)
    with pytest.raises(GanvasError):
        validation.check_integer("seed", 0.5, 0, 2)


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
        asyncio.run(edit_handlers.make_slider_handler("Big")(1.0, session))
    assert session.scene == shown
    session.gallery_faces = [replace(FACE, generator="cats")]
    tab_handlers = TabHandlers(edit_handlers, compare.MethodEditors(resources), edit_handlers.generator_queue)
    choose = tab_handlers.make_choice_handler(False)
    with pytest.raises(gr.Error):
        asyncio.run(choose(session, SimpleNamespace(index=0)))
    assert session.scene == shown


def test_a_preview_says_what_it_shows(edit_handlers):
    shown = asyncio.run(edit_handlers.make_slider_handler("Big")(1.0, Session(FACE)))
    assert "Big at +1 σ" in shown["alt_text"]


# Galleries.


def test_a_click_while_a_gallery_is_refilled_opens_the_face_that_is_seen(edit_handlers, resources):
    tab_handlers, session = (
        TabHandlers(edit_handlers, compare.MethodEditors(resources), edit_handlers.generator_queue),
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
        TabHandlers(edit_handlers, compare.MethodEditors(resources), edit_handlers.generator_queue),
        Session(FACE),
    )
    session.open_tabs = {"faces"}
    request = SimpleNamespace(headers={})

    async def play():
        await tab_handlers.refresh_tabs(session, request)
        await edit_handlers.make_step_handler(edit_handlers.choose_random_face)(session)
        await tab_handlers.make_choice_handler(True)(session, SimpleNamespace(index=0))

    asyncio.run(play())
    assert session.scene == FACE.unedited


# Work queues.


def test_a_closed_queue_has_nothing_left():
    queue = WorkQueue()
    go = block(queue)
    gone, waits = queue.submit("a", lambda: 1), queue.submit("a", lambda: 2)
    gone.cancel()
    threading.Timer(0.1, go.set).start()
    queue.close()
    with pytest.raises(Superseded):
        waits.result(5)
    for _ in range(2):
        with pytest.raises(GanvasError, match="shut down"):
            queue.submit("b", lambda: 1)
    assert not queue._waiting


def test_others_are_served_while_methods_are_compared(edit_handlers, resources):
    editor = resources.choices["mean.safetensors"].editor
    pieces = []

    def run_with_generator(run):
        pieces.append(1)
        return edit_handlers.generator_queue.submit("me", run).result()

    result = compare.compare_method(
        resources, FACE, "mean.safetensors", editor, compare.ComparisonTarget("Big", 1.0), run_with_generator
    )
    assert result.picture is not None
    assert len(pieces) > 2
    assert result == compare.compare_method(
        resources, FACE, "mean.safetensors", editor, compare.ComparisonTarget("Big", 1.0)
    )


def test_a_newer_comparison_ends_the_older_one(edit_handlers, resources):
    fitting_queue = WorkQueue()
    tab_handlers, session = TabHandlers(edit_handlers, compare.MethodEditors(resources), fitting_queue), Session(FACE)

    async def play():
        older = tab_handlers.compare_methods("Big", 1.0, ["mean.safetensors"], session)
        await anext(older)
        newer = [shown async for shown in tab_handlers.compare_methods("Big", -1.0, ["mean.safetensors"], session)]
        return [shown async for shown in older], newer

    older, newer = asyncio.run(play())
    fitting_queue.close()
    assert older == [gr.skip()]
    assert len(newer[-1]) == 2


def test_few_of_the_methods_learned_are_kept(resources, monkeypatch):
    methods = compare.MethodEditors(resources)
    monkeypatch.setattr(methods, "list_methods", lambda name: ["new"])
    one = resources.choices["mean.safetensors"].editor
    monkeypatch.setattr("ganvas.editors.fit", lambda *_, attributes: one)
    methods._labels = {"toy": None}
    for i in range(compare.MAX_FITTED_EDITORS + 9):
        assert methods.load_or_fit(TOY, "new", f"a{i}") is one
    assert len(methods._fitted) == compare.MAX_FITTED_EDITORS


# Photographs.


@pytest.fixture
def photos(edit_handlers, monkeypatch):
    """Handlers of photographs whose inversion runs until it is cancelled; ``running``: those under way."""
    handlers = PhotoHandlers(edit_handlers)
    handlers.running, handlers.most = [], 0
    monkeypatch.setattr(photo_handlers, "read_face", lambda path, generator: torch.zeros(1, 3, 8, 8))

    def invert(face, generator, distribution, progress):
        handlers.running.append(1)
        handlers.most = max(handlers.most, len(handlers.running))
        try:
            for i in range(10_000):
                time.sleep(0.01)
                progress(i, 10_000)
        finally:
            handlers.running.pop()

    monkeypatch.setattr(photo_handlers, "invert_face", invert)
    return handlers


def photograph(edit_handlers, name):
    """An uploaded one."""
    path = edit_handlers.sessions.folder / f"{name}.png"
    path.write_bytes(b"x")
    return str(path)


def test_an_inversion_ends_when_nobody_waits_and_the_next_one_starts_then(edit_handlers, photos):
    sessions = [Session(FACE), Session(FACE)]

    async def begin(session, name):
        going = photos.make_upload_handler(3)(photograph(edit_handlers, name), session)
        async for values in going:
            if "Searching" in str(values[1]):
                return going
        raise AssertionError("It never began.")

    async def play():
        first = await begin(sessions[0], "one")
        with pytest.raises(gr.Error, match="One photo at a time"):
            await anext(photos.make_upload_handler(3)(photograph(edit_handlers, "two"), sessions[0]))
        await first.aclose()
        second = await begin(sessions[1], "three")
        photos.close()
        return [values async for values in second]

    ended = asyncio.run(play())
    assert "deleted" in ended[-1][1]
    assert photos.most == 1
    assert not photos.running
    assert not sessions[0].uploading
    assert not list(edit_handlers.sessions.folder.rglob("*.png"))


# The page.


def test_a_page_holds_no_network(resources, queue, tmp_path, monkeypatch):
    sessions = SessionStore(tmp_path)
    demo, _ = server._build_app(resources, (queue, queue, queue), sessions, FACE)
    copied = []
    monkeypatch.setattr(torch.Tensor, "__deepcopy__", lambda self, memo: copied.append(self))
    from gradio.utils import safe_deepcopy

    safe_deepcopy(demo.get_config_file())
    copy.deepcopy(demo.get_config_file())
    assert not copied
    assert demo.has_launched
    assert demo._queue.max_thread_count >= 1000


def test_names_that_a_server_answers_to():
    assert "localhost" in server.list_allowed_hosts("127.0.0.1")
    assert server.list_allowed_hosts("0.0.0.0") is None


def test_who_opens_the_page_gets_a_session(edit_handlers):
    request = SimpleNamespace(query_params={}, session_hash="me", headers={})
    asyncio.run(NavigationHandlers(edit_handlers, FACE).open_page(request))
    assert edit_handlers.sessions.get("me").scene == FACE


def test_a_tab_that_is_selected_while_the_page_opens_is_no_error(edit_handlers, resources):
    """A narrow page does that: it selects its tabs before it has a session."""
    tab_handlers = TabHandlers(edit_handlers, compare.MethodEditors(resources), edit_handlers.generator_queue)
    found = asyncio.run(tab_handlers.make_open_handler("wipe")(None, SimpleNamespace(session_hash="new")))
    assert len(found) == 9
