"""What keeps visitors from harm, and from each other: desks, files, workers, and what is said where something fails."""

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
from test_app import FACE, blocked, editor, hands, shop, turns  # noqa: F401

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
    for name in ("sha", "desk-a", "given-b"):
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
    assert {path.name for path in tmp_path.iterdir()} == {"desk-a", "given-b", "tmpnew"}
    assert (tmp_path / "desk-a" / "some.png").exists()


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
    (tmp_path / "desk-a").mkdir()
    (tmp_path / "desk-a" / "seed.png").write_bytes(b"x")
    for other in (__file__, str(tmp_path), str(tmp_path / "desk-a" / "seed.png"), None, 7):
        with pytest.raises(GanvasError), server_folder.claim_upload(other, tmp_path, (".png", ".py")):
            pass
    assert (tmp_path / "desk-a" / "seed.png").exists()


# Desks.


def test_desks_are_kept_by_session_and_leave_with_their_files(tmp_path, monkeypatch):
    desks, now = SessionStore(tmp_path), [0.0]
    monkeypatch.setattr("ganvas.app.session_store.time.monotonic", lambda: now[0])
    first = Session(FACE)
    desks.sit("first", first)
    files = desks.files_of(first)
    for i in range(MAX_SESSIONS - 1):
        desks.sit(f"s{i}", Session(FACE))
    assert desks.of("first") is first
    desks.sit("one more", Session(FACE))
    assert desks.of("s0") is None
    assert desks.of("first") is first
    assert files.exists()
    now[0] = IDLE_SECONDS + 1
    desks.clear()
    assert desks.of("first") is None
    assert not files.exists()
    assert desks.of(None) is None


def test_a_handler_gets_the_desk_of_the_session_that_asks(tmp_path):
    desks, mine = SessionStore(tmp_path), Session(FACE)
    desks.sit("me", mine)

    @report_errors
    async def ask(value, desk: Session | None, event: gr.SelectData):
        return value, desk, event

    @report_errors
    async def fill(value, desk: Session | None):
        yield value, desk

    request = SimpleNamespace(session_hash="me")
    assert asyncio.run(desks.seated(ask)(1, request, "event")) == (1, mine, "event")

    async def first():
        return [found async for found in desks.seated(fill)(2, request)]

    assert asyncio.run(first()) == [(2, mine)]
    from gradio.helpers import special_args

    given, *_ = special_args(desks.seated(fill), [2], request)
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


def test_a_face_that_cannot_be_drawn_traps_nobody(hands, shop, monkeypatch):
    desk = Session(FACE)
    with pytest.raises(gr.Error):
        asyncio.run(hands.step(lambda mine: replace(mine.scene, generator="cats"))(desk))
    assert desk.scene == FACE
    asyncio.run(hands.step(hands.surprise)(desk))
    shown = desk.scene

    def fail(*_):
        raise GanvasError("no")

    monkeypatch.setattr(rendering, "preview", fail)
    with pytest.raises(gr.Error, match="no"):
        asyncio.run(hands.mover("Big")(1.0, desk))
    assert desk.scene == shown
    desk.faces = [replace(FACE, generator="cats")]
    choose = TabHandlers(hands, compare.MethodEditors(shop), hands.turns).chosen(False)
    with pytest.raises(gr.Error):
        asyncio.run(choose(desk, SimpleNamespace(index=0)))
    assert desk.scene == shown


def test_a_preview_says_what_it_shows(hands):
    shown = asyncio.run(hands.mover("Big")(1.0, Session(FACE)))
    assert "Big at +1 σ" in shown["alt_text"]


# Galleries.


def test_a_click_while_a_gallery_is_refilled_opens_the_face_that_is_seen(hands, shop):
    looks, desk = TabHandlers(hands, compare.MethodEditors(shop), hands.turns), Session(FACE)
    fill = looks.gallery(looks.of_seeds)

    async def play():
        first = [shown async for shown in fill(0, 0.7, desk)]
        go = blocked(hands.turns)
        again = asyncio.ensure_future(anext(fill(100, 0.7, desk)))
        await asyncio.sleep(0.05)
        during = desk.faces[0].start.seed
        go.set()
        await again
        return len(first), during, desk.faces[0].start.seed

    pages, during, after = asyncio.run(play())
    assert pages == 3
    assert (during, after) == (0, 100)


def test_a_click_on_a_visited_face_opens_the_one_that_is_seen(hands, shop):
    looks, desk = TabHandlers(hands, compare.MethodEditors(shop), hands.turns), Session(FACE)
    desk.open = {"faces"}
    request = SimpleNamespace(headers={})

    async def play():
        await looks.look(desk, request)
        await hands.step(hands.surprise)(desk)
        await looks.chosen(True)(desk, SimpleNamespace(index=0))

    asyncio.run(play())
    assert desk.scene == FACE.plain


# Workers.


def test_a_closed_worker_has_nothing_left_to_trip_over():
    turns = WorkQueue()
    go = blocked(turns)
    gone, waits = turns.ask("a", lambda: 1), turns.ask("a", lambda: 2)
    gone.cancel()
    threading.Timer(0.1, go.set).start()
    turns.close()
    with pytest.raises(Superseded):
        waits.result(5)
    for _ in range(2):
        with pytest.raises(GanvasError, match="shut down"):
            turns.ask("b", lambda: 1)
    assert not turns._waiting


def test_others_are_served_while_methods_are_compared(hands, shop):
    with_method = shop.choices["mean.safetensors"].editor
    pieces = []

    def draw(run):
        pieces.append(1)
        return hands.turns.ask("me", run).result()

    done = compare.compare(shop, FACE, "mean.safetensors", with_method, compare.ComparisonTarget("Big", 1.0), draw)
    assert done.picture is not None
    assert len(pieces) > 2
    assert done == compare.compare(shop, FACE, "mean.safetensors", with_method, compare.ComparisonTarget("Big", 1.0))


def test_a_newer_comparison_ends_the_older_one(hands, shop):
    with_lessons = WorkQueue()
    looks, desk = TabHandlers(hands, compare.MethodEditors(shop), with_lessons), Session(FACE)

    async def play():
        older = looks.compare("Big", 1.0, ["mean.safetensors"], desk)
        await anext(older)
        newer = [shown async for shown in looks.compare("Big", -1.0, ["mean.safetensors"], desk)]
        return [shown async for shown in older], newer

    older, newer = asyncio.run(play())
    with_lessons.close()
    assert older == [gr.skip()]
    assert len(newer[-1]) == 2


def test_few_of_the_methods_learned_are_kept(shop, monkeypatch):
    methods = compare.MethodEditors(shop)
    monkeypatch.setattr(methods, "names", lambda name: ["new"])
    one = shop.choices["mean.safetensors"].editor
    monkeypatch.setattr("ganvas.editors.fit", lambda *_, attributes: one)
    methods._labels = {"toy": None}
    for i in range(compare.MAX_FITTED_EDITORS + 9):
        assert methods.learn(TOY, "new", f"a{i}") is one
    assert len(methods._learned) == compare.MAX_FITTED_EDITORS


# Photographs.


@pytest.fixture
def photos(hands, monkeypatch):
    """Their search is a loop that goes on until it is told to end; ``running`` are those that haven't."""
    made = PhotoHandlers(hands)
    made.running, made.most = [], 0
    monkeypatch.setattr(photo_handlers, "read", lambda path, generator: torch.zeros(1, 3, 8, 8))

    def invert(face, generator, within, watch):
        made.running.append(1)
        made.most = max(made.most, len(made.running))
        try:
            for i in range(10_000):
                time.sleep(0.01)
                watch(i, 10_000)
        finally:
            made.running.pop()

    monkeypatch.setattr(photo_handlers, "invert", invert)
    return made


def photograph(hands, name):
    """An uploaded one."""
    path = hands.desks.folder / f"{name}.png"
    path.write_bytes(b"x")
    return str(path)


def test_an_inversion_ends_when_nobody_waits_and_the_next_one_starts_then(hands, photos):
    desks = [Session(FACE), Session(FACE)]

    async def begin(desk, name):
        going = photos.upload(3)(photograph(hands, name), desk)
        async for values in going:
            if "Searching" in str(values[1]):
                return going
        raise AssertionError("It never began.")

    async def play():
        first = await begin(desks[0], "one")
        with pytest.raises(gr.Error, match="One photo at a time"):
            await anext(photos.upload(3)(photograph(hands, "two"), desks[0]))
        await first.aclose()
        second = await begin(desks[1], "three")
        photos.close()
        return [values async for values in second]

    ended = asyncio.run(play())
    assert "deleted" in ended[-1][1]
    assert photos.most == 1
    assert not photos.running
    assert not desks[0].uploading
    assert not list(hands.desks.folder.rglob("*.png"))


# The page.


def test_a_page_holds_no_network(shop, turns, tmp_path, monkeypatch):
    desks = SessionStore(tmp_path)
    demo, _ = server._page(shop, (turns, turns, turns), desks, FACE)
    copied = []
    monkeypatch.setattr(torch.Tensor, "__deepcopy__", lambda self, memo: copied.append(self))
    from gradio.utils import safe_deepcopy

    safe_deepcopy(demo.get_config_file())
    copy.deepcopy(demo.get_config_file())
    assert not copied
    assert demo.has_launched
    assert demo._queue.max_thread_count >= 1000


def test_names_that_a_server_answers_to():
    assert "localhost" in server.names_of("127.0.0.1")
    assert server.names_of("0.0.0.0") is None


def test_who_opens_the_page_gets_a_desk(hands):
    request = SimpleNamespace(query_params={}, session_hash="me", headers={})
    asyncio.run(NavigationHandlers(hands, FACE).open(request))
    assert hands.desks.of("me").scene == FACE


def test_a_tab_that_is_selected_while_the_page_opens_is_no_error(hands, shop):
    """A narrow page does that: it selects its tabs before it has a desk."""
    looks = TabHandlers(hands, compare.MethodEditors(shop), hands.turns)
    found = asyncio.run(looks.opened("wipe")(None, SimpleNamespace(session_hash="new")))
    assert len(found) == 9
