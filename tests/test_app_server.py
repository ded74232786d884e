"""The web editor over HTTP: what it answers and refuses, which files it writes and deletes, and that it contacts nobody."""

import json
import os
import tempfile
import threading
import time
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="the web editor needs gradio: pip install 'ganvas[app]'")

import httpx
from app_client import AppClient
from test_app import editor, resources  # noqa: F401

from ganvas.app import server
from ganvas.app.request_checks import FILE_SECONDS
from ganvas.errors import GanvasError

# ruff: noqa: F811


@pytest.fixture(scope="module")
def visitor(app_site):
    """A client that has opened the page, for all tests here."""
    client = AppClient(app_site.address)
    client.open()
    yield client
    client.close()


@pytest.fixture
def newcomer(app_site):
    """A client that has just opened the page."""
    client = AppClient(app_site.address)
    client.open()
    yield client
    client.close()


def url(shown):
    """Return the picture's URL in a raw answer."""
    value = shown["picture"]
    return value["value"]["url"] if "value" in value else value["url"]


def move(visitor, value, name="Big"):
    """Move a slider; returns its preview."""
    return visitor.send("panel", "input", {"name": name, "value": value})


def rest(visitor):
    """Return what is shown once the slider rests."""
    return visitor.send_followup("panel", "input")


def read_sliders(shown):
    """Return the sliders by name in a raw answer."""
    return {slider["name"]: slider for group in json.loads(shown["panel"]["groups"]) for slider in group["sliders"]}


def list_changed(shown):
    """Return the names of the sliders that were moved."""
    return [name for name, slider in read_sliders(shown).items() if slider["changed"]]


def test_a_slider_is_previewed_then_shown_in_full(newcomer):
    preview = move(newcomer, 2.0)
    assert url(preview).startswith("data:image/jpeg;base64,")
    full = rest(newcomer)
    assert list_changed(full) == ["Big"]
    assert "Big at +2.00" in full["status"]
    assert isinstance(read_sliders(full)["Red"]["value"], float)
    assert full["undo"]["interactive"] is True
    assert list_changed(newcomer.send("undo", "click")) == []


def test_a_link_opens_the_page_in_its_state(newcomer, app_site):
    move(newcomer, 2.0)
    wanted = rest(newcomer)
    query = _open_downloads(newcomer)["link"].partition("?")[2]
    other = AppClient(app_site.address)
    opened = other.open(f"?{query}")
    assert url(opened) == url(wanted)
    assert read_sliders(opened)["Big"]["value"] == 2.0
    bad = AppClient(app_site.address)
    shown = bad.open("?recipe=nonsense")
    assert list_changed(shown) == []
    for one in (other, bad):
        one.close()


def test_files_stay_while_the_next_ones_are_written(newcomer):
    """A download may be under way when the picture changes."""
    made = []
    for value in (1.0, 2.0, 3.0):
        move(newcomer, value)
        rest(newcomer)
        made.append(Path(_open_downloads(newcomer)["png"]["path"]))
    assert [path.exists() for path in made] == [False, True, True]


def _open_downloads(visitor):
    """Return what the tab "Save and share" shows."""
    number = next(p["id"] for p in visitor.config["components"] if p["props"].get("label") == "Save and share")
    wired = next(d for d in visitor.config["dependencies"] if [number, "select"] in [list(t) for t in d["targets"]])
    return visitor.call(wired["id"], [None] * len(wired["inputs"]), wired["outputs"])


def test_what_is_taken_along_is_the_same_picture(newcomer, app_site, tmp_path, monkeypatch):
    import shlex

    import torch

    from ganvas import cli
    from ganvas.io.images import read_picture

    monkeypatch.chdir(tmp_path)
    move(newcomer, 1.5)
    rest(newcomer)
    downloads = _open_downloads(newcomer)
    png = newcomer.http.get(
        downloads["png"]["url"]
        if downloads["png"]["url"].startswith("http")
        else app_site.address + downloads["png"]["url"]
    )
    Path("page.png").write_bytes(png.raise_for_status().content)
    with pytest.raises(SystemExit) as end:
        cli.main(shlex.split(downloads["command"])[1:])
    assert end.value.code == 0
    assert Path(downloads["command"].rpartition("--out ")[2]).read_bytes() == png.content
    known = {}
    exec(downloads["python"], known)
    from ganvas.io.images import from_bytes, to_bytes

    assert torch.equal(from_bytes(to_bytes(known["image"])), read_picture("page.png"))


@pytest.mark.parametrize("value", [1e9, -1e9, "x", True, [], {"a": 1}])
def test_an_edited_request_is_refused_and_the_server_stays(value, visitor):
    with pytest.raises(GanvasError):
        move(visitor, value)
    move(visitor, 1.0)


def post_event(visitor, app_site, text):
    """Post a body as an event; return the page's message, or the status."""
    answer = visitor.http.post(
        f"{app_site.address}/gradio_api/queue/join", content=text, headers={"content-type": "application/json"}
    )
    if answer.status_code != 200:
        return answer.status_code
    return visitor._wait_for(answer.json()["event_id"])["output"]["error"]


@pytest.mark.parametrize(
    ("name", "event", "data", "message"),
    [
        ("panel", "input", '[{"name": "Big", "value": NaN}, null]', "finite number"),
        ("panel", "input", "[[], null]", "name and value"),
        ("panel", "input", '[{"name": [], "value": 1}, null]', "A slider takes a text"),
        ("panel", "input", '[{"name": "Big", "value": 1, "number": -1}, null]', "A slider's number takes"),
        ("region", "input", '["nowhere", null]', "Unknown region"),
        ("seed", "submit", "[NaN, 0.7, null]", "The first seed takes a finite number"),
        ("seed", "submit", "[1e300, 0.7, null]", "The first seed takes"),
        ("psi", "release", '[0, "x", null]', "The variety takes a finite number"),
        ("psi", "release", "[0, Infinity, null]", "The variety takes a finite number"),
        ("more", "click", "[[1], null]", "The first seed takes"),
        ("compare", "click", '["Big", null, ["mean.safetensors"], null]', "The change takes"),
        ("compare", "click", '[{"a": 1}, 1, ["mean.safetensors"], null]', "Attribute takes a text"),
        ("compare", "click", '["Big", 1, [[]], null]', "Methods takes a text"),
        ("components", "input", '[{"name": "sefa_0", "value": "x"}, null]', "takes a finite number"),
        ("components", "submit", '[{"name": "Big", "label": "Small"}, null]', "without a name"),
        ("method", "input", '["magic", null]', "Unknown method"),
        ("load", "upload", "[7, null]", "upload it again"),
        ("drop", "input", '[{"path": null}, null]', "upload it again"),
    ],
)
def test_every_edited_request_is_one_message(name, event, data, message, visitor, app_site):
    number = visitor.find_event(name, event)["id"]
    answer = post_event(
        visitor, app_site, f'{{"data": {data}, "fn_index": {number}, "session_hash": "{visitor.session}"}}'
    )
    assert message in str(answer)
    assert "\n" not in str(answer)


def test_broken_requests_are_refused(visitor, app_site):
    for body in ('{"data": [1, null', "[]", "null", "[" * 100_000, "\xff", ""):
        assert post_event(visitor, app_site, body) == 400
    assert post_event(visitor, app_site, json.dumps({"data": ["x" * 10_000_000]})) == 413
    for number in (-1, 10**6, "x"):
        answer = visitor.http.post(
            f"{app_site.address}/gradio_api/queue/join",
            json={"data": [], "fn_index": number, "session_hash": visitor.session},
        )
        assert answer.status_code != 200 or "event_id" in answer.json()
    move(visitor, 1.0)


@pytest.mark.parametrize("index", [-1, 99, "x", None, 1e9])
def test_a_picture_that_isnt_there_is_one_message(index, visitor):
    for name in ("gallery", "presets", "samples", "faces-in-photo"):
        with pytest.raises(GanvasError, match="isn't on the page any more"):
            visitor.send(name, "select", event_data={"index": index})


def test_unknown_names_are_one_message(visitor):
    with pytest.raises(GanvasError, match="Unknown attribute"):
        move(visitor, 1.0, "Wings")
    move(visitor, 1.0)


PATHS = (
    "/etc/passwd",
    "../../../../etc/passwd",
    "..%2f..%2fetc/passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "~/.bashrc",
    "pyproject.toml",
)


@pytest.mark.parametrize("path", PATHS)
def test_files_of_the_machine_are_not_served(path, app_site):
    for prefix in ("/gradio_api/file=", "/file=", "/file/", "/static/", "/assets/"):
        answer = httpx.get(app_site.address + prefix + path, trust_env=False, follow_redirects=True)
        assert b"root:" not in answer.content
        assert b"[project]" not in answer.content


def test_an_upload_that_points_elsewhere_is_refused(visitor):
    for path in ("/etc/passwd", "../../etc/passwd", __file__):
        value = {"path": path, "orig_name": "x.png", "meta": {"_type": "gradio.FileData"}}
        with pytest.raises(GanvasError):
            visitor.send("load", "upload", value)
        assert Path("/etc/passwd").exists()
        assert Path(__file__).exists()


def upload(visitor, app_site, name, content):
    """Upload a file and return the response."""
    return visitor.http.post(f"{app_site.address}/gradio_api/upload", files={"files": (name, content)})


@pytest.mark.parametrize("name", ["face.png", "../../../face.png", "a/b\\c.png", "x" * 300 + ".png", "face.json"])
def test_bad_files_are_one_message_and_deleted(name, visitor, app_site):
    answer = upload(visitor, app_site, name, b"no picture at all")
    if answer.status_code != 200:
        return
    (path,) = answer.json()
    value = {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}
    for part, event in (("load", "upload"), ("drop", "input")):
        with pytest.raises(GanvasError):
            visitor.send(part, event, value)
        assert not Path(path).exists()
    move(visitor, 1.0)


def test_a_huge_file_is_refused(visitor, app_site):
    assert upload(visitor, app_site, "huge.png", b"\0" * (21 << 20)).status_code == 413
    move(visitor, 1.0)


def test_a_recipe_is_loaded_from_its_png(newcomer, app_site, tmp_path):
    move(newcomer, 1.5)
    wanted = rest(newcomer)
    downloads = _open_downloads(newcomer)
    address = downloads["png"]["url"]
    data = newcomer.http.get(address if address.startswith("http") else app_site.address + address).content
    newcomer.send("reset", "click")
    (path,) = upload(newcomer, app_site, "mine.png", data).json()
    value = {"path": path, "orig_name": "mine.png", "meta": {"_type": "gradio.FileData"}}
    loaded = newcomer.send("load", "upload", value)
    assert url(loaded) == url(wanted)
    assert not Path(path).exists()


def test_counting_is_there_where_an_editor_counts(newcomer):
    generators = next(p for p in newcomer.config["components"] if p["props"].get("label") == "Generator")
    wired = next(
        d for d in newcomer.config["dependencies"] if [generators["id"], "input"] in [list(t) for t in d["targets"]]
    )
    shown = newcomer.call(wired["id"], ["squares", None], wired["outputs"])
    assert "seen (Count)" in shown["count"]
    before = shown["count"]
    step = "plus" if "<b>4</b>" not in before else "minus"
    after = newcomer.send(step, "click")["count"]
    assert after != before
    assert "changed by" in after


def test_ten_people_at_once(app_site):
    failed, waits = [], {}

    def visit(number):
        one = AppClient(app_site.address)
        try:
            one.open()
            times = []
            for i in range(4):
                move(one, i / 2 + number / 10)
                times.append(one.seconds)
            waits[number] = sum(times)
            if f"Big at {1.5 + number / 10:+.2f}" not in rest(one)["status"]:
                failed.append((number, "another's value"))
        except Exception as error:
            failed.append((number, repr(error)))
        finally:
            one.close()

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(waits) == 10
    assert max(waits.values()) < 6 * min(waits.values())


def test_browsers_are_told_to_load_nothing_from_elsewhere(app_site):
    answer = httpx.get(app_site.address, trust_env=False)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http:" not in policy
    assert "https:" not in policy
    assert answer.headers["referrer-policy"] == "same-origin"


def test_it_listens_on_this_machine_alone(app_site):
    assert app_site.address.startswith("http://127.0.0.1:")


def test_the_server_contacts_nobody_and_writes_in_its_own_folders(app_site, visitor):
    visitor.send("surprise", "click")
    _open_downloads(visitor)
    lines = set(app_site.log.read_text().splitlines())
    # Not even itself, as it starts.
    assert not {line for line in lines if line.split()[0] in ("connect", "look")}
    written = {line.removeprefix("write ") for line in lines if line.startswith("write ")}
    stored = str(app_site.editor.with_name("storage"))
    elsewhere = {path for path in written if "/ganvas-app-" not in path and not path.startswith(("/dev/", stored))}
    # Python's own cache, and matplotlib's list of fonts, which it makes once a machine.
    caches = ("__pycache__", "/matplotlib/fontlist-")
    assert {path for path in elsewhere if not any(cache in path for cache in caches)} == set()


def test_files_are_deleted_in_time_and_all_at_the_end_though_a_page_is_open(resources, capfd, monkeypatch, tmp_path):
    from gradio.route_utils import delete_files_created_by_app

    own, pages, build = f"ganvas-app-{os.getpid()}-*", [], server.build_app
    monkeypatch.setattr(server, "build_app", lambda *args: pages.append(build(*args)) or pages[0])
    with server.serve(resources, "toy", config=server.ServerConfig(storage=tmp_path)) as address:
        visitor = AppClient(address)
        visitor.open()
        (folder,) = Path(tempfile.gettempdir()).glob(own)
        _open_downloads(visitor)
        (path,) = visitor.http.post(f"{address}/gradio_api/upload", files={"files": ("face.png", b"a photo")}).json()
        assert {p.suffix for p in folder.glob("session-*/*/*")} == {".png", ".json", ".zip"}
        assert Path(path).exists()
        delete_files_created_by_app(pages[0], server.CLEANUP_SECONDS)
        assert Path(path).exists()
        delete_files_created_by_app(pages[0], -1)
        assert not [p for p in folder.rglob("*") if p.is_file()]
        assert pages[0].delete_cache == (server.CLEANUP_SECONDS, FILE_SECONDS)
        began = time.monotonic()
    assert time.monotonic() - began < 30
    assert not list(Path(tempfile.gettempdir()).glob(own))
    assert "ERROR" not in capfd.readouterr().err
    visitor.close()


def test_answers_are_json_of_finite_numbers(visitor):
    shown = visitor.send("surprise", "click")
    json.dumps(shown, allow_nan=False)
