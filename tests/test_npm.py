"""Tarballs of npm's registry: through npm where it is, else https; what goes wrong is one line."""

from __future__ import annotations

import hashlib
import io
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ganvas.errors import GanvasError
from ganvas.io import hub, npm


def tarball(**files: bytes) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        folder = tarfile.TarInfo("package/model")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return data.getvalue()


CONTENT = tarball(first=b"one", second=b"two")


def card(**changes) -> hub.PublishedWeights:
    settings = {"files": ("package/second", "package/first"), "sha256": hashlib.sha256(CONTENT).hexdigest()} | changes
    return hub.PublishedWeights(name="tiny", licence="", source="", package="npm:@tiny/net@1.0.0", **settings)


@pytest.fixture
def registry(monkeypatch):
    """A registry on this machine, and no npm."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            known = self.path == "/npm/@tiny/net/-/net-1.0.0.tgz"
            self.send_response(200 if known else 404)
            self.end_headers()
            self.wfile.write(CONTENT if known else b"")

        def log_message(self, format, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(npm.shutil, "which", lambda name: None)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", f"http://127.0.0.1:{server.server_port}/npm/")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield asked
    server.shutdown()
    server.server_close()


def test_files_come_out_in_the_order_that_is_asked_for(registry):
    assert hub.unpack_wheel(card()) == [b"two", b"one"]
    assert registry == ["/npm/@tiny/net/-/net-1.0.0.tgz"]


def test_a_tarball_at_hand(tmp_path):
    (tmp_path / "net.tgz").write_bytes(CONTENT)
    assert hub.unpack_wheel(card(), tmp_path / "net.tgz") == [b"two", b"one"]


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (CONTENT, "package/none", r"isn't a tarball with package/none"),
        (CONTENT, "package/model", r"package/model is no file"),
        (b"no tarball", "package/first", r"isn't a tarball"),
        (CONTENT[: len(CONTENT) // 2], "package/second", r"isn't a tarball"),
    ],
    ids=["none", "model", "no tarball", "half"],
)
def test_a_right_hash_of_a_wrong_tarball(tmp_path, content, name, message):
    (tmp_path / "net.tgz").write_bytes(content)
    wanted = card(files=(name,), sha256=hashlib.sha256(content).hexdigest())
    with pytest.raises(GanvasError, match=message) as error:
        hub.unpack_wheel(wanted, tmp_path / "net.tgz")
    assert "\n" not in str(error.value)
    with pytest.raises(GanvasError, match="is cut short or isn't npm:@tiny/net@1.0.0: its sha256 is"):
        hub.unpack_wheel(card(sha256="0" * 64), tmp_path / "net.tgz")


def test_what_the_registry_has_not(registry, tmp_path):
    with pytest.raises(GanvasError, match="has no such package"):
        npm.download("@tiny/net@2.0.0", tmp_path)


@pytest.mark.parametrize("spec", ["net", "net@", "../net@1", "a/b@1", "@a/b@1 --registry=x", "-x@1.0/../.."])
def test_a_spec_that_is_none(spec, tmp_path):
    with pytest.raises(GanvasError, match="isn't an npm package"):
        npm.download(spec, tmp_path)


def test_no_network(monkeypatch, tmp_path):
    monkeypatch.setattr(npm.shutil, "which", lambda name: None)
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "http://127.0.0.1:9")
    with pytest.raises(GanvasError, match=r"^Can't download npm:@tiny/net@1.0.0: there is no network"):
        hub.unpack_wheel(card())
    monkeypatch.setenv("NPM_CONFIG_REGISTRY", "file:///etc")
    with pytest.raises(GanvasError, match="is a web address"):
        npm.download("net@1.0.0", tmp_path)


COMPLAINTS = [
    ("npm error code ENOTFOUND\nnpm error network\n", "there is no network"),
    ("npm error code E404\nnpm error 404 Not Found\n", "no such package"),
    ("npm error code ETARGET\n", "no such package"),
    ("npm error code ENOSPC\n", "the disk is full"),
    ("odd.\nvery\n", "odd"),
    ("", "npm failed without a message"),
]


@pytest.mark.parametrize(("stderr", "complaint"), COMPLAINTS)
def test_npm_is_asked_first_and_its_complaints_are_one_line(monkeypatch, tmp_path, stderr, complaint):
    commands = []

    def run(command, **_):
        commands.append(command)
        return subprocess.CompletedProcess(command, 1, "", stderr)

    monkeypatch.setattr(npm.shutil, "which", lambda name: "npm")
    monkeypatch.setattr(npm.subprocess, "run", run)
    with pytest.raises(GanvasError, match=complaint) as error:
        npm.download("@tiny/net@1.0.0", tmp_path)
    assert "\n" not in str(error.value)
    assert "--ignore-scripts" in commands[0]


def test_what_npm_packs_is_taken(monkeypatch, tmp_path):
    def run(command, cwd: Path, **_):
        (cwd / "tiny-net-1.0.0.tgz").write_bytes(CONTENT)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(npm.shutil, "which", lambda name: "npm")
    monkeypatch.setattr(npm.subprocess, "run", run)
    assert npm.download("@tiny/net@1.0.0", tmp_path).read_bytes() == CONTENT
