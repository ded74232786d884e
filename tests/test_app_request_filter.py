"""What the web editor's server lets through: only what its page needs, and no files but its own."""

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
from app_servers import serve_app, write_editor

from ganvas.errors import GanvasError


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The address of a server, and its own folder."""
    with serve_app(write_editor(tmp_path_factory.mktemp("app") / "mean.safetensors")) as (address, process):
        (folder,) = Path(tempfile.gettempdir()).glob(f"ganvas-app-{process.pid}-*")
        yield address, folder


@pytest.fixture
def visitor(site):
    """A client that has opened the page."""
    client = AppClient(site[0])
    client.open()
    yield client
    client.close()


def test_no_event_takes_a_file_from_elsewhere(visitor, site, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    before = set(site[1].rglob("*"))
    for dependency in visitor.config["dependencies"]:
        for path in (str(secret), f"{site[1]}/../{secret.name}", "https://example.org/a.png", 7):
            value = {"path": path, "meta": {"_type": "gradio.FileData"}}
            event = {"fn_index": dependency["id"], "session_hash": visitor.session, "data": [value]}
            answer = visitor.http.post(f"{site[0]}/gradio_api/queue/join", json=event)
            assert answer.status_code == 400
            selection = event | {"data": [], "event_data": {"value": [value]}}
            assert visitor.http.post(f"{site[0]}/gradio_api/queue/join", json=selection).status_code == 400
    assert set(site[1].rglob("*")) == before


def test_gradio_itself_checks_paths_too(visitor, site, tmp_path):
    # An upload that is named right, then replaced by a link: what is read is looked at where it really lies.
    secret = tmp_path / "secret.json"
    secret.write_text("secret")
    (site[1] / "link.json").symlink_to(secret)
    value = {"path": str(site[1] / "link.json"), "meta": {"_type": "gradio.FileData"}}
    with pytest.raises(GanvasError, match="not uploaded"):
        visitor.send("load", "upload", value)
    assert visitor.http.get(f"{site[0]}/gradio_api/file={site[1] / 'link.json'}").status_code == 404
    (site[1] / "link.json").unlink()


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
def test_pages_that_nobody_needs_are_not_there(path, site):
    assert httpx.get(site[0] + path, trust_env=False).status_code == 404


@pytest.mark.parametrize(
    "path", ["run/x", "api/x", "call/x", "process_recording", "component_server", "vibe-edit", "login"]
)
def test_nothing_else_is_taken_in(path, site):
    assert httpx.post(f"{site[0]}/gradio_api/{path}", json={}, trust_env=False).status_code == 404


def test_other_sites_cannot_ask_under_their_own_name(site):
    assert httpx.get(site[0], headers={"host": "example.org"}, trust_env=False).status_code == 421
    assert httpx.get(site[0], headers={"host": "[x"}, trust_env=False).status_code in (400, 421)
    assert httpx.get(site[0], headers={"host": "localhost:99"}, trust_env=False).status_code == 200


def test_an_upload_of_another_kind_is_deleted(visitor, site):
    for button in ("load", "photo"):
        answer = visitor.http.post(f"{site[0]}/gradio_api/upload", files={"files": ("face.txt", b"a photo")})
        (path,) = answer.json()
        with pytest.raises(GanvasError, match="another kind of file"):
            visitor.send(button, "upload", {"path": path, "meta": {"_type": "gradio.FileData"}})
        assert not Path(path).exists()
        assert not list(site[1].glob("claim-*"))


def test_a_full_folder_takes_in_no_more(visitor, site):
    from ganvas.app.request_filter import MAX_FOLDER_BYTES

    full = site[1] / "session-full"
    with full.open("wb") as file:
        file.truncate(MAX_FOLDER_BYTES)
    try:
        answer = visitor.http.post(f"{site[0]}/gradio_api/upload", files={"files": ("face.png", b"a photo")})
        assert answer.status_code == 503
        assert "try again" in json.dumps(answer.json())
    finally:
        full.unlink()


def test_a_session_outlives_gradios_own_state(visitor):
    # Gradio's own state of the session is gone: nothing of it is needed.
    visitor.send("slider-Big", "input", 1.0)
    visitor.send_followup("slider-Big", "input")
    assert not [part for part in visitor.config["components"] if part["type"] == "state"]
    assert visitor.send("undo", "click")["changed"] == []
    stranger = AppClient(visitor.address)
    stranger.config = visitor.config
    with pytest.raises(GanvasError, match="reload"):
        stranger.send("undo", "click")
    stranger.close()


@pytest.mark.skipif(os.name != "posix", reason="other systems have other signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_server_that_is_ended_while_it_starts_leaves_nothing(number):
    command = [sys.executable, "-m", "ganvas", "app", "toy"]
    # Tests that are run under nohup pass on that it ignores the signal.
    with Popen(
        command, stdout=DEVNULL, stderr=DEVNULL, preexec_fn=lambda: signal.signal(number, signal.SIG_DFL)
    ) as process:
        try:
            until = time.monotonic() + 60
            while not (found := list(Path(tempfile.gettempdir()).glob(f"ganvas-app-{process.pid}-*"))):
                assert time.monotonic() < until
                time.sleep(0.01)
            process.send_signal(number)
            process.wait(60)
        finally:
            process.kill()
    assert not any(folder.exists() for folder in found)
