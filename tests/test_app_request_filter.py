"""What the web editor's server lets through: only what its page needs, and no files but its own."""

import itertools
import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest

pytest.importorskip("gradio", reason="the web editor needs gradio: pip install 'ganvas[app]'")

import httpx
from app_client import AppClient
from test_app import editor, resources  # noqa: F401

from ganvas.app import server
from ganvas.errors import GanvasError

# ruff: noqa: F811


@pytest.fixture(scope="module")
def visitor(app_site):
    """A client that has opened the page."""
    client = AppClient(app_site.address)
    client.open()
    yield client
    client.close()


def test_no_event_takes_a_file_from_elsewhere(visitor, app_site, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    before = set(app_site.folder.rglob("*"))
    paths = (str(secret), f"{app_site.folder}/../{secret.name}", "https://example.org/a.png", 7)
    for dependency, path in zip(visitor.config["dependencies"], itertools.cycle(paths), strict=False):
        value = {"path": path, "meta": {"_type": "gradio.FileData"}}
        event = {"fn_index": dependency["id"], "session_hash": visitor.session, "data": [value]}
        answer = visitor.http.post(f"{app_site.address}/gradio_api/queue/join", json=event)
        assert answer.status_code == 400
    selection = event | {"data": [], "event_data": {"value": [value]}}
    assert visitor.http.post(f"{app_site.address}/gradio_api/queue/join", json=selection).status_code == 400
    assert set(app_site.folder.rglob("*")) == before


def test_gradio_itself_checks_paths_too(visitor, app_site, tmp_path):
    # An upload that is named right, then replaced by a link: what is read is looked at where it really lies.
    secret = tmp_path / "secret.json"
    secret.write_text("secret")
    (app_site.folder / "link.json").symlink_to(secret)
    value = {"path": str(app_site.folder / "link.json"), "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(GanvasError, match="not uploaded"):
        visitor.send("load", "upload", value)
    assert visitor.http.get(f"{app_site.address}/gradio_api/file={app_site.folder / 'link.json'}").status_code == 404
    (app_site.folder / "link.json").unlink()


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/deep_link?session_hash=x",
        "/?deep_link=x",
        "/config?deep%5Flink=x",
        "/gradio_api/file=https://example.org/",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/proxy=https://example.org/",
        "/gradio_api/runs",
        "/gradio_api/vibe-code",
        "/gradio_api/call/x/y",
        "/monitoring",
        "/docs",
    ],
)
def test_pages_that_nobody_needs_are_not_there(path, app_site):
    assert httpx.get(app_site.address + path, trust_env=False).status_code == 404


@pytest.mark.parametrize(
    "path", ["run/x", "api/x", "call/x", "process_recording", "component_server", "vibe-edit", "login"]
)
def test_nothing_else_is_taken_in(path, app_site):
    assert httpx.post(f"{app_site.address}/gradio_api/{path}", json={}, trust_env=False).status_code == 404


def test_other_sites_cannot_ask_under_their_own_name(app_site):
    assert httpx.get(app_site.address, headers={"host": "example.org"}, trust_env=False).status_code == 421
    assert httpx.get(app_site.address, headers={"host": "[x"}, trust_env=False).status_code in (400, 421)
    assert httpx.get(app_site.address, headers={"host": "localhost:99"}, trust_env=False).status_code == 200


class _Inner:
    """A server that says which path it was asked for."""

    async def __call__(self, scope, receive, send):
        from starlette.responses import PlainTextResponse

        await PlainTextResponse(scope["path"])(scope, receive, send)


def ask(path, folder, hosts=("localhost",), host="localhost", auth=None, **options):
    """Return what a filter with these options answers."""
    import asyncio

    from ganvas.app.request_checks import RequestFilter

    async def play():
        transport = httpx.ASGITransport(RequestFilter(_Inner(), folder, hosts, **options))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
            return await client.get(path, auth=auth)

    return asyncio.run(play())


def test_a_refusal_says_on_the_console_which_option_lets_the_host_in(tmp_path, caplog):
    assert ask("/", tmp_path, host="faces.example.org").status_code == 421
    assert "`--allow-host faces.example.org` lets it in" in caplog.text
    assert ask("/", tmp_path, ("localhost", "*.example.org"), "faces.example.org").status_code == 200
    assert ask("/", tmp_path, ("localhost", "*.example.org"), "example.com").status_code == 421
    assert ask("/", tmp_path, None, "example.com").status_code == 200


def test_hints_are_printed_once_and_are_few(tmp_path, caplog):
    import asyncio

    from ganvas.app.request_checks import MAX_HINTS, RequestFilter

    async def play():
        transport = httpx.ASGITransport(RequestFilter(_Inner(), tmp_path, ("localhost",)))
        async with httpx.AsyncClient(transport=transport) as client:
            for i in (0, 0, *range(2 * MAX_HINTS)):
                await client.get(f"http://host{i}.example.org/")

    asyncio.run(play())
    assert len(caplog.records) == MAX_HINTS


def test_a_path_that_a_proxy_leaves_in_front_is_taken_off(tmp_path, caplog):
    assert ask("/ganvas/", tmp_path).status_code == 404
    assert "`--root-path /ganvas` serves the page there" in caplog.text
    for path in ("/", "/config", "/assets/a.js"):
        assert ask(path, tmp_path, prefix="/ganvas").text == path
        assert ask(f"/ganvas{path}", tmp_path, prefix="/ganvas").text == path
    assert ask("/ganvasx/", tmp_path, prefix="/ganvas").status_code == 404
    assert ask("/ganvas/docs", tmp_path, prefix="/ganvas").status_code == 404


def test_a_password_is_asked_for_and_taken_with_any_name(tmp_path):
    refused = ask("/", tmp_path, password="geheim ü")
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic")
    assert ask("/", tmp_path, password="geheim ü", auth=("anybody", "geheim ü")).status_code == 200
    for wrong in ("", "geheim", "geheim ü "):
        assert ask("/assets/a.js", tmp_path, password="geheim ü", auth=("anybody", wrong)).status_code == 401
    # Whose name isn't known is told nothing of a password.
    assert ask("/", tmp_path, host="example.org", password="geheim ü").status_code == 421


def test_a_page_below_a_path_sends_its_events_there(resources, tmp_path):
    config = server.ServerConfig(
        root_path="/ganvas", allowed_hosts=("faces.example.org",), password="geheim", storage=tmp_path
    )
    with server.serve(resources, "toy", config=config) as address:
        assert httpx.get(address, trust_env=False).status_code == 401
        headers = {"host": "faces.example.org"}
        for path in ("/config", "/ganvas/config"):
            answer = httpx.get(address + path, headers=headers, auth=("", "geheim"), trust_env=False)
            assert answer.json()["root"] == "http://faces.example.org/ganvas"


def test_an_upload_of_another_kind_is_deleted(visitor, app_site):
    for part, event in (("load", "upload"), ("drop", "input")):
        answer = visitor.http.post(f"{app_site.address}/gradio_api/upload", files={"files": ("face.txt", b"a photo")})
        (path,) = answer.json()
        with pytest.raises(GanvasError, match="another kind of file"):
            visitor.send(part, event, {"path": path, "meta": {"_type": "gradio.FileData"}})
        assert not Path(path).exists()
        assert not list(app_site.folder.glob("claim-*"))


def test_a_full_folder_takes_in_no_more(visitor, app_site):
    from ganvas.app.request_checks import MAX_FOLDER_BYTES

    full = app_site.folder / "session-full"
    with full.open("wb") as file:
        file.truncate(MAX_FOLDER_BYTES)
    try:
        answer = visitor.http.post(f"{app_site.address}/gradio_api/upload", files={"files": ("face.png", b"a photo")})
        assert answer.status_code == 503
        assert "try again" in json.dumps(answer.json())
    finally:
        full.unlink()


def test_an_upload_of_many_files_is_bounded_as_one(visitor, app_site):
    """Gradio bounds each file alone."""
    files = [("files", (f"{i}.png", b"0" * (11 << 20))) for i in range(2)]
    assert visitor.http.post(f"{app_site.address}/gradio_api/upload", files=files).status_code == 413


def test_a_body_in_chunks_is_refused_whatever_length_it_claims(visitor, app_site):
    headers = {"content-length": "10", "transfer-encoding": "chunked"}
    for path in ("upload", "queue/join"):
        answer = visitor.http.post(f"{app_site.address}/gradio_api/{path}", content=iter([b"0" * 20]), headers=headers)
        assert answer.status_code in (400, 413)


def test_a_stranger_has_no_session(visitor):
    stranger = AppClient(visitor.address)
    stranger.config = visitor.config
    with pytest.raises(GanvasError, match="reload"):
        stranger.send("undo", "click")
    stranger.close()


def test_a_later_events_answer_comes_in_the_same_stream(visitor, app_site):
    """Gradio itself ends the stream after the first answer, which a page may hear of too late."""
    client = AppClient(app_site.address)
    client.config = visitor.config
    client.open()
    for value in (1.0, 2.0):
        assert "Big at" in client.send("panel", "input", {"name": "Big", "value": value})["picture"]["alt_text"]
    client.close()


@pytest.mark.skipif(os.name != "posix", reason="other systems have other signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_server_that_is_ended_while_it_starts_leaves_nothing(number):
    command = [sys.executable, "-m", "ganvas", "app", "toy"]
    # Tests that are run under nohup pass on that it ignores the signal.
    with Popen(
        command, stdout=DEVNULL, stderr=DEVNULL, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL)
    ) as process:
        try:
            until = time.monotonic() + 300
            while not (found := list(Path(tempfile.gettempdir()).glob(f"ganvas-app-{process.pid}-*"))):
                assert time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(number)
            process.wait(60)
        finally:
            process.kill()
    assert not any(folder.exists() for folder in found)
