"""The web editor in a real browser: Debian's chromium, driven by Playwright. Skips, and says so, where either is missing.

GANVAS_REQUIRE_CHROMIUM=1 makes that a failure.
"""

import base64
import io
import json
import os
import re
import shutil
from pathlib import Path

import pytest

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)


def _skip(reason):
    if os.environ.get("GANVAS_REQUIRE_CHROMIUM"):
        raise RuntimeError(reason)
    pytest.skip(reason, allow_module_level=True)


if BROWSER is None:
    _skip("no chromium here: apt-get install chromium")
try:
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    _skip("no Playwright here: pip install playwright")
pytest.importorskip("gradio", reason="the web editor needs gradio: pip install 'ganvas[app]'")


import numpy as np  # noqa: E402
import torch  # noqa: E402
from app_photos import HEIGHT, PLACES, WIDTH, write_photo  # noqa: E402
from PIL import Image  # noqa: E402
from test_app import editor, resources  # noqa: E402, F401

from ganvas.app import server  # noqa: E402
from ganvas.cli import main  # noqa: E402
from ganvas.io.images import encode_png, read_picture  # noqa: E402

# ruff: noqa: F811

TIMEOUT_MS = 120_000
"""Long: the machine may do other work."""
expect.set_options(timeout=TIMEOUT_MS)


pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def address(app_site):
    """A server."""
    return app_site.address


@pytest.fixture(scope="module")
def chromium():
    """One browser for all tests here."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(chromium):
    """A visitor's own cookies and downloads."""
    browser_context = chromium.new_context(viewport={"width": 1280, "height": 900}, accept_downloads=True)
    browser_context.set_default_timeout(TIMEOUT_MS)
    yield browser_context
    browser_context.close()


@pytest.fixture
def page(context, address):
    """The page, open."""
    return open_page(context.new_page(), address)


def open_page(page, address, face=0):
    """Open the page, choose a face, and wait for its picture and sliders."""
    page.goto(address)
    page.locator("#gallery button").nth(face).click()
    page.wait_for_selector("#picture img[src^='data:']")
    expect(page.locator("#status")).to_contain_text("seed")
    page.locator("#panel .gv-slider").first.wait_for()
    return page


def drop_photo(page, path):
    """Give the start a photograph."""
    page.locator("#drop input[type=file]").set_input_files(path)


def picture_source(page):
    """Return the source of the picture that the page shows."""
    return page.locator("#picture img").get_attribute("src")


def wait_for_change(page, before):
    """Wait for another picture."""
    page.wait_for_function("old => document.querySelector('#picture img').src !== old", arg=before)


def move(page, name, steps=10):
    """Move a slider with the keyboard; waits for the full picture."""
    slider = page.get_by_role("slider", name=name, exact=True)
    slider.focus()
    for _ in range(abs(steps)):
        page.keyboard.press("ArrowRight" if steps > 0 else "ArrowLeft")
    expect(page.locator("#status")).to_contain_text(f"{name} at {float(slider.input_value()):+.2f}")


def click_to_end(page, name):
    """Undo or redo to the end."""
    button = page.get_by_role("button", name=name)
    expect(button).to_be_enabled()
    while button.is_enabled():
        before = picture_source(page)
        button.click()
        wait_for_change(page, before)
        page.wait_for_timeout(500)


def open_tab(page, name):
    """Open a tab."""
    page.get_by_role("tab", name=name).click()


def open_drawer(page):
    """Open the drawer for experts."""
    page.locator("#drawer .toggle-button").click()


def test_a_slider_changes_the_picture_undo_and_redo_bring_it_back(page):
    first = picture_source(page)
    slider = page.get_by_role("slider", name="Big", exact=True)
    start = float(slider.input_value())
    move(page, "Big", -20)
    second = picture_source(page)
    assert second != first
    assert float(slider.input_value()) == pytest.approx(start - 1, abs=0.01)
    # On a slow machine the keys come so far apart that the slider rested in between: several steps.
    click_to_end(page, "Undo")
    assert picture_source(page) == first
    expect(slider).to_have_value(re.compile(rf"^{start:g}"))
    click_to_end(page, "Redo")
    assert picture_source(page) == second


def test_dragging_with_the_mouse_previews(page):
    first = picture_source(page)
    box = page.get_by_role("slider", name="Bright", exact=True).bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] / 2)
    page.mouse.down()
    for share in (0.4, 0.3, 0.2):
        page.mouse.move(box["x"] + box["width"] * share, box["y"] + box["height"] / 2, steps=3)
    wait_for_change(page, first)
    page.mouse.up()
    expect(page.locator("#status")).to_contain_text("Bright at -")


def test_sliders_are_found_and_reset_one_by_one(page):
    search = page.get_by_label("Find a slider")
    search.fill("stri")
    expect(page.get_by_role("slider", name="Big", exact=True)).to_be_hidden()
    expect(page.get_by_role("slider", name="Striped", exact=True)).to_be_visible()
    search.fill("nothing like it")
    expect(page.get_by_text("No slider is called like that")).to_be_visible()
    search.fill("")
    expect(page.get_by_role("slider", name="Big", exact=True)).to_be_visible()
    first = picture_source(page)
    start = page.get_by_role("slider", name="Big", exact=True).input_value()
    move(page, "Big")
    move(page, "Red")
    page.get_by_role("slider", name="Big", exact=True).dblclick()
    expect(page.locator("#status")).not_to_contain_text("Big at")
    expect(page.get_by_role("slider", name="Big", exact=True)).to_have_value(start)
    page.get_by_role("button", name="Red back to the start").click()
    expect(page.locator("#status")).not_to_contain_text("Red at")
    assert picture_source(page) == first


def test_a_slider_shows_where_it_started_and_what_its_ends_mean(page):
    slider = page.get_by_role("slider", name="Big", exact=True)
    start = float(slider.input_value())
    move(page, "Big", 20)
    row = page.locator("#slider-Big")
    expect(row).to_have_class(re.compile("gv-changed"))
    places = {
        key: float(row.evaluate(f"row => row.style.getPropertyValue('--{key}')")) for key in ("start", "from", "to")
    }
    # Filled from the start to the value, in shares of the track from -4 to 4.
    assert places["from"] == places["start"] == pytest.approx((start + 4) / 8, abs=1e-3)
    assert places["to"] == pytest.approx((start + 5) / 8, abs=1e-3)
    expect(row.locator(".gv-ends")).to_have_text("lessmore")
    assert slider.get_attribute("aria-valuetext") == f"{start + 1:.2f}".rstrip("0").rstrip(".") + ", more"
    box = page.locator("#panel").evaluate(
        "() => { const s = getComputedStyle(document.querySelector('#slider-Big input'),"
        " '::-webkit-slider-thumb'); return s.width }"
    )
    assert float(box.removesuffix("px")) >= 24


@pytest.mark.parametrize("size", [(1366, 768), (1920, 1080), (390, 844)])
def test_nothing_moves_under_the_hand_and_the_picture_is_whole_in_view(chromium, address, size):
    context = chromium.new_context(viewport={"width": size[0], "height": size[1]})
    context.set_default_timeout(TIMEOUT_MS)
    page = open_page(context.new_page(), address)
    # Presets come a little later than the picture; their place is there from the start. A slider that gets the focus is
    # scrolled into view, so places in the column of controls are those in all that it holds.
    measure = """names => Object.fromEntries(names.map((name) => {
      const place = document.querySelector(name).getBoundingClientRect(), column = document.querySelector("#controls");
      const scrolled = column.contains(document.querySelector(name)) ? column.scrollTop : 0;
      return [name, [place.left, place.top + scrolled, place.right, place.bottom + scrolled]];
    }))"""
    fixed = ["#picture", "#undo", "#redo", "#reset", "#surprise", "#save"]
    before = page.evaluate(measure, ["#slider-Red", *fixed])
    page.locator("#presets img").first.wait_for()
    for name in ("Big", "Red", "Bright", "Right", "Striped"):
        move(page, name, 3)
    assert page.evaluate(measure, ["#slider-Red", *fixed]) == before
    for name in fixed:
        left, top, right, bottom = before[name]
        assert left >= 0 and top >= 0 and right <= size[0] and bottom <= size[1], name
    image = page.locator("#picture img").bounding_box()
    assert image["y"] >= 0 and image["y"] + image["height"] <= size[1]
    assert page.evaluate("document.documentElement.scrollHeight") <= size[1]
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    context.close()


def test_a_preset_takes_one_tap(page):
    first = picture_source(page)
    page.locator("#presets button").filter(has_text="Big +").click()
    expect(page.locator("#status")).to_contain_text("Big at")
    assert picture_source(page) != first
    page.locator("#presets button").filter(has_text="Big +").click()
    expect(page.locator("#status")).not_to_contain_text("Big at")
    assert picture_source(page) == first


def test_a_look_is_saved_and_put_on_another_face(page):
    move(page, "Big", -10)
    move(page, "Red", 10)
    page.get_by_role("button", name="Save this look").click()
    page.get_by_label("Its name").fill("Small and red")
    page.get_by_role("button", name="Save the look").click()
    mine = page.locator("#presets button").filter(has_text="Small and red")
    expect(mine).to_be_visible()
    page.reload()
    expect(mine).to_be_visible()
    open_tab(page, "Gallery")
    page.locator("#gallery button").nth(3).click()
    expect(page.locator("#status")).to_contain_text("seed 3")
    open_tab(page, "Edit")
    mine.click()
    expect(page.locator("#status")).to_contain_text(re.compile("Big at .* Red at|Red at .* Big at"))
    page.get_by_role("button", name="Save this look").click()
    page.get_by_label("Its name").fill("Small and red")
    page.get_by_role("button", name="Delete the look").click()
    expect(mine).to_have_count(0)


def test_a_reload_loses_nothing(page):
    move(page, "Big", -20)
    edited = picture_source(page)
    page.reload()
    page.wait_for_selector("#picture img[src^='data:']")
    expect(page.locator("#status")).to_contain_text("Big at")
    assert picture_source(page) == edited
    expect(page.get_by_role("button", name="Undo")).to_be_enabled()
    page.get_by_role("button", name="New", exact=True).click()
    expect(page.locator("#drop")).to_be_visible()


def test_the_picture_is_held_to_see_the_original(page):
    first = picture_source(page)
    move(page, "Big", -20)
    expect(page.locator("#original img")).to_be_hidden()
    page.locator("#picture img").hover()
    page.mouse.down()
    expect(page.locator("#original img")).to_be_visible()
    assert page.locator("#original img").get_attribute("src") == first
    page.mouse.up()
    expect(page.locator("#original img")).to_be_hidden()
    page.keyboard.down("o")
    expect(page.locator("#original img")).to_be_visible()
    page.keyboard.up("o")
    expect(page.locator("#original img")).to_be_hidden()


@pytest.mark.parametrize(
    "how", ["#faces-in-photo .gv-people button", "#faces-in-photo button[data-index]:not([tabindex])"]
)
def test_a_group_is_chosen_from_and_edited_in_the_whole_photograph(context, address, tmp_path, how):
    page = context.new_page()
    page.goto(address)
    page.locator("#gallery button").first.wait_for()
    drop_photo(page, write_photo(tmp_path / "group.png"))
    expect(page.get_by_text("Whose face?")).to_be_visible()
    box = page.locator(".gv-people img").bounding_box()
    outline = page.locator(".gv-people button").nth(1).bounding_box()
    for axis, side, place, size in (("x", "width", PLACES[1][0], WIDTH), ("y", "height", PLACES[1][1], HEIGHT)):
        middle = (outline[axis] + outline[side] / 2 - box[axis]) / box[side]
        assert middle == pytest.approx(place / size, abs=0.1)
    page.locator(how).nth(1).click()
    expect(page.locator("#status")).to_contain_text("your photo")
    expect(page.locator(".gv-progress")).to_have_count(0)
    expect(page.locator("#stop")).to_be_hidden()
    page.locator("#panel .gv-slider").first.wait_for()
    natural = page.locator("#picture img").evaluate("image => [image.naturalWidth, image.naturalHeight]")
    assert natural == [WIDTH, HEIGHT]
    move(page, "Bright", 20)
    page.locator("#original img").wait_for(state="attached")
    before_photo = page.locator("#original img").get_attribute("src")
    assert before_photo != picture_source(page)
    page.get_by_role("button", name="Save …").click()
    with page.expect_download() as download:
        page.locator("#photo-file").click()
    download.value.save_as(tmp_path / "edited.png")
    photo, edited = (read_picture(tmp_path / name) for name in ("group.png", "edited.png"))
    assert edited.shape == photo.shape
    changed = (edited != photo).any(1)[0]
    # The other face and the wall are as they were.
    assert changed[:, WIDTH // 2 + 20 :].any()
    assert not changed[:, : WIDTH // 2 - 40].any()
    edited_source = picture_source(page)
    page.reload()
    page.wait_for_selector("#picture img[src^='data:']")
    expect(page.locator("#status")).to_contain_text("Bright at")
    assert picture_source(page) == edited_source


def test_a_photograph_to_try_is_opened(context, address):
    page = context.new_page()
    page.goto(address)
    page.locator("#samples button").filter(has_text="Grace Hopper").click()
    expect(page.locator("#status")).to_contain_text("your photo")
    # The picture comes after the words.
    page.wait_for_function("""() => {
        const image = document.querySelector("#picture img");
        return image.naturalWidth === 512 && image.naturalHeight === 600;
    }""")


def test_a_photographs_error_leaves_no_progress(context, address, tmp_path):
    page = context.new_page()
    page.goto(address)
    page.locator("#gallery button").first.wait_for()
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    drop_photo(page, bad)
    expect(page.get_by_text("isn't a whole picture")).to_be_visible()
    expect(page.locator(".gv-progress")).to_have_count(0)
    (tmp_path / "wall.png").write_bytes(encode_png(torch.full((96, 96, 3), 200, dtype=torch.uint8)))
    drop_photo(page, tmp_path / "wall.png")
    expect(page.get_by_text("No face was found")).to_be_visible()
    expect(page.locator(".gv-progress")).to_have_count(0)
    expect(page.locator("#drop")).to_be_visible()


def test_steps_and_pins_are_kept(page):
    first = picture_source(page)
    move(page, "Big", 30)
    page.get_by_role("button", name="Pin", exact=True).click()
    page.wait_for_function("document.querySelectorAll('#pinned img').length == 1")
    page.locator("#steps button").first.click()
    expect(page.locator("#status")).not_to_contain_text("Big at")
    page.wait_for_function("old => document.querySelector('#picture img').src === old", arg=first)


def test_take_along_and_load_again(page, tmp_path):
    move(page, "Big")
    edited = picture_source(page)
    page.get_by_role("button", name="Save …").click()
    expect(page.locator("#link textarea")).to_have_value(re.compile("recipe="))
    with page.expect_download() as download:
        page.locator("#png").click()
    png = tmp_path / download.value.suggested_filename
    download.value.save_as(png)
    assert png.suffix == ".png"
    with page.expect_download() as download:
        page.locator("#json").click()
    recipe = tmp_path / download.value.suggested_filename
    download.value.save_as(recipe)
    assert json.loads(recipe.read_text())["edits"][0]["set"]
    link = page.locator("#link textarea").input_value()
    for file in (png, recipe):
        page.get_by_role("button", name="Reset", exact=True).click()
        wait_for_change(page, edited)
        plain = picture_source(page)
        with page.expect_file_chooser() as chooser:
            page.get_by_role("button", name="Open a recipe").click()
        chooser.value.set_files(file)
        wait_for_change(page, plain)
        expect(page.locator("#status")).to_contain_text("Big at")
        assert picture_source(page) == edited
    other = page.context.new_page()
    other.goto(link)
    expect(other.locator("#status")).to_contain_text("Big at")
    assert picture_source(other) == edited


def test_a_bad_file_is_one_clear_message(page, tmp_path):
    before = picture_source(page)
    bad = tmp_path / "bad.json"
    bad.write_text("{")
    open_tab(page, "Save and share")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Open a recipe").click()
    chooser.value.set_files(bad)
    expect(page.get_by_text("bad.json isn't JSON")).to_be_visible()
    assert picture_source(page) == before


def test_a_face_of_the_gallery_and_back(page):
    first = picture_source(page)
    open_tab(page, "Gallery")
    page.locator("#gallery").get_by_role("button").nth(4).click()
    expect(page.locator("#status")).to_contain_text("seed 4")
    assert picture_source(page) != first
    open_tab(page, "Gallery")
    page.locator("#visited").get_by_role("button").nth(1).wait_for()
    page.locator("#visited").get_by_role("button").nth(1).click()
    expect(page.locator("#status")).to_contain_text("seed 0")
    assert picture_source(page) == first
    before = picture_source(page)
    page.get_by_role("button", name="Surprise me").click()
    wait_for_change(page, before)
    open_tab(page, "Gallery")
    page.get_by_role("button", name="More like this").click()
    page.locator("#gallery").get_by_text("like seed").first.wait_for()


def test_a_face_is_mixed_with_another(page):
    first = picture_source(page)
    open_tab(page, "Gallery")
    page.get_by_role("button", name="Mix with another picture").click()
    page.get_by_label("The other picture").fill("5")
    page.get_by_label("Pose and shape").check()
    page.get_by_role("button", name="Mix", exact=True).click()
    expect(page.locator("#status")).to_contain_text("seed 0 mixed with seed 5")
    assert picture_source(page) != first


def test_before_and_after_strip_and_what_moved(page):
    move(page, "Big")
    open_tab(page, "Before / after")
    page.wait_for_function("document.querySelectorAll('#wipe img').length == 2")
    sources = [image.get_attribute("src") for image in page.locator("#wipe img").all()]
    assert len(set(sources)) == 2
    open_tab(page, "Strip")
    page.wait_for_function("document.querySelectorAll('#strip img').length >= 5")
    open_drawer(page)
    open_tab(page, "What moved")
    expect(page.locator("#chart")).to_contain_text("Everything else changed by")
    expect(page.locator("#chart tbody tr, #chart table tr")).to_have_count(6)


def test_keys_undo_and_redo(page):
    first = picture_source(page)
    move(page, "Big", -20)
    second = picture_source(page)
    expect(page.locator("#undo")).to_be_enabled()
    for _ in range(30):
        if picture_source(page) == first:
            break
        before = picture_source(page)
        page.keyboard.press("Control+z")
        wait_for_change(page, before)
        page.wait_for_timeout(500)
    assert picture_source(page) == first
    while page.locator("#redo").is_enabled():
        before = picture_source(page)
        page.keyboard.press("Control+Shift+Z")
        wait_for_change(page, before)
        page.wait_for_timeout(500)
    assert picture_source(page) == second
    # Where text is typed, the keys are the text's.
    page.get_by_label("Find a slider").fill("b")
    page.keyboard.press("Control+z")
    page.wait_for_timeout(1000)
    assert picture_source(page) == second


def test_a_number_that_is_no_value_is_put_back(page):
    field = page.get_by_label("Big as a number")
    expect(field).to_have_count(1)
    field.fill("1.5")
    expect(page.locator("#status")).to_contain_text("Big at +1.50")
    field.fill("")
    field.press("Enter")
    expect(page.locator(".gv-notice")).to_have_text("Big goes from -4 to 4: the empty field was put back to 1.5.")
    expect(field).to_have_value("1.5")
    field.fill("99")
    page.wait_for_timeout(1000)
    expect(page.locator("#status")).to_contain_text("Big at +1.50")
    field.blur()
    expect(page.locator(".gv-notice")).to_have_text("Big goes from -4 to 4: 99 was put back to 4.")
    expect(field).to_have_value("4")
    expect(page.locator("#status")).to_contain_text("Big at +4.00")
    expect(page.locator(".gv-notice")).to_have_count(0)


def test_a_page_below_a_path_and_with_a_password(chromium, resources, tmp_path):
    config = server.ServerConfig(root_path="/ganvas", password="geheim", storage=tmp_path)
    with server.serve(resources, "toy", config=config) as address:
        context = chromium.new_context(http_credentials={"username": "anybody", "password": "geheim"})
        context.set_default_timeout(TIMEOUT_MS)
        page, paths = context.new_page(), []
        page.on("request", lambda request: paths.append(request.url.removeprefix(address)))
        open_page(page, f"{address}/ganvas/")
        move(page, "Big", -5)
        page.get_by_role("button", name="Save …").click()
        expect(page.locator("#link textarea")).to_have_value(re.compile("/ganvas/.recipe="))
        assert [path for path in paths if not path.startswith(("/ganvas/", "data:", "blob:"))] == []
        context.close()


def test_count_plus_one(page):
    expect(page.locator("#plus")).to_be_hidden()
    open_drawer(page)
    page.get_by_label("Generator").click()
    page.get_by_role("option", name=re.compile("squares")).click()
    expect(page.locator("#count")).to_contain_text("seen")
    page.locator("#drawer .toggle-button").click()
    before = int(re.search(r"(\d+) seen", page.locator("#count").inner_text())[1])
    step = 1 if before < 4 else -1
    page.locator("#plus" if step > 0 else "#minus").click()
    expect(page.locator("#count")).to_contain_text("changed by")
    after = int(re.search(r"(\d+) seen", page.locator("#count").inner_text())[1])
    assert after == before + step


def test_methods_are_compared(page):
    open_drawer(page)
    open_tab(page, "Compare")
    page.locator("#compare").click()
    page.locator("#compared").get_by_text("others moved").wait_for()


def test_no_request_leaves_the_machine(context, address):
    page, hosts, refused = context.new_page(), set(), []
    page.on("response", lambda answer: refused.append(answer.url) if answer.status >= 400 else None)
    page.on("request", lambda request: hosts.add(re.sub(r"^(\w+://[^/:]+).*|^(data|blob):.*", r"\1\2", request.url)))
    open_page(page, address)
    for name in ("Gallery", "History", "Save and share"):
        open_tab(page, name)
    expect(page.locator("#link textarea")).to_have_value(re.compile("recipe="))
    open_drawer(page)
    open_tab(page, "What moved")
    open_tab(page, "Compare")
    assert hosts <= {"http://127.0.0.1", "data", "blob"}
    # What the page asks for is let through.
    assert refused == []


def test_a_screen_reader_hears_labels(page):
    for name in ("Bright", "Red", "Big", "Right", "Striped"):
        expect(page.get_by_role("slider", name=name, exact=True)).to_have_count(1)
    for name in ("Undo", "Redo", "Reset", "Surprise me"):
        expect(page.get_by_role("button", name=name)).to_have_count(1)
    assert "seed 0" in page.locator("#picture img").get_attribute("alt")
    move(page, "Big", -10)
    assert "Big at" in page.locator("#picture img").get_attribute("alt")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button, input, textarea')].filter(e => e.offsetParent && !e.innerText.trim()"
        " && !e.getAttribute('aria-label') && !e.title && !(e.labels && e.labels.length)"
        " && !e.querySelector('img[alt], [aria-label]') && !e.placeholder).map(e => e.outerHTML.slice(0, 200))"
    )
    assert unnamed == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_in_light_and_dark(chromium, address, scheme):
    context = chromium.new_context(
        viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True, is_mobile=True
    )
    context.set_default_timeout(TIMEOUT_MS)
    page = open_page(context.new_page(), address)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(float, re.findall(r"[\d.]+", colour)[:3]))
    assert brightness > 600 if scheme == "light" else brightness < 200
    before = picture_source(page)
    move(page, "Striped", -10)
    assert picture_source(page) != before
    # The slider and the picture that it moves are seen at once.
    for what in ("#picture img", "#slider-Striped"):
        box = page.locator(what).bounding_box()
        assert box and box["y"] >= 0 and box["y"] + box["height"] <= 844
    context.close()


def test_a_slider_is_learned_from_marked_faces(page, tmp_path):
    page.get_by_role("button", name="A slider of your own").click()
    faces = page.locator("#examples [data-row]")
    expect(faces).to_have_count(24)
    page.locator(".gv-own-make").click()
    expect(page.get_by_text("Give the slider a name")).to_be_visible()
    page.get_by_label("What some faces have").fill("Nice, and round")
    # What the marked faces have is what the toy's "Big" is.
    order = sort_by_size([face.get_attribute("src") for face in page.locator("#examples img").all()])
    for row in order[:6]:
        faces.nth(row).click()
        faces.nth(row).click()
    for row in order[-6:]:
        faces.nth(row).click()
    expect(page.locator(".gv-own-count")).to_have_text("6 have it, 6 lack it.")
    before = picture_source(page)
    page.locator(".gv-own-make").click()
    expect(page.locator("#learned")).to_contain_text("Of 12 marked faces")
    move(page, "Nice and round", 20)
    move(page, "Red")
    assert picture_source(page) != before
    page.get_by_role("button", name="Save …").click()
    names = {}
    for name in ("editor-file", "json", "png"):
        with page.expect_download() as download:
            page.locator(f"#{name}").click()
        names[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(names[name])
    # The files draw the same by the command line.
    out = tmp_path / "again.png"
    with pytest.raises(SystemExit) as ended:
        main(["render", str(names["json"]), "--editor", str(names["editor-file"]), "--out", str(out)])
    assert ended.value.code == 0
    assert torch.equal(read_picture(out), read_picture(names["png"]))
    edited = picture_source(page)
    page.reload()
    expect(page.locator("#status")).to_contain_text("Nice and round at")
    assert picture_source(page) == edited


def test_explore_moves_the_picture_and_a_named_slider_joins_the_others(page, tmp_path):
    page.get_by_role("button", name="Explore").click()
    rows = page.locator("#components .gv-slider")
    expect(rows).to_have_count(6)
    expect(rows.first.locator(".gv-strip img").last).to_have_attribute("src", re.compile("^data:"))
    before = picture_source(page)
    rows.nth(2).get_by_role("button", name="Sefa 2: more").click()
    expect(page.locator("#status")).to_contain_text("Sefa 2 at")
    assert picture_source(page) != before
    # It is among the sliders, without a name.
    expect(page.locator("#panel").get_by_role("slider", name="Sefa 2")).to_have_count(1)
    slider = rows.nth(2).get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#status")).to_contain_text(f"Sefa 2 at {float(slider.input_value()):+.2f}")
    rows.nth(2).get_by_label("A name for Sefa 2").fill("Turned away")
    rows.nth(2).get_by_role("button", name="Save").click()
    expect(page.get_by_text("Turned away is a slider now")).to_be_visible()
    expect(page.locator("#status")).to_contain_text("Turned away at")
    move(page, "Turned away", -5)
    move(page, "Red", 5)
    page.get_by_role("button", name="Next six").click()
    expect(rows.first).to_have_attribute("data-name", "sefa_6")
    page.get_by_label("GANSpace").check()
    expect(rows.first).to_have_attribute("data-name", "ganspace_0")
    page.get_by_role("button", name="Save …").click()
    names = {}
    for name in ("editor-file", "json", "png"):
        with page.expect_download() as download:
            page.locator(f"#{name}").click()
        names[name] = tmp_path / download.value.suggested_filename
        download.value.save_as(names[name])
    out = tmp_path / "again.png"
    with pytest.raises(SystemExit) as ended:
        main(["render", str(names["json"]), "--editor", str(names["editor-file"]), "--out", str(out)])
    assert ended.value.code == 0
    assert torch.equal(read_picture(out), read_picture(names["png"]))
    # Giving it a name was a step, too, which changed no pixel.
    undo = page.get_by_role("button", name="Undo")
    while undo.is_enabled():
        undo.click()
        page.wait_for_timeout(1000)
    assert picture_source(page) == before


def sort_by_size(urls):
    """Return the numbers of the toy's pictures, in data URLs, in the order of how much of them is saturated."""
    shares = []
    for url in urls:
        with Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))) as picture:
            shares.append(np.array(picture.convert("HSV"))[:, :, 1].mean())
    return np.argsort(shares).tolist()


AXE_FINDINGS = """async () => (await axe.run(document, { resultTypes: ["violations"] })).violations.flatMap((rule) =>
  rule.nodes.filter((node) => ["serious", "critical"].includes(node.impact)).map((node) => {
    const owner = document.querySelector(node.target[0])?.closest(".html-container") ? "ours" : "Gradio's";
    return [owner, rule.id, node.html.slice(0, 120), node.failureSummary];
  }))"""
"""Gradio puts what we draw into containers of one class; all else on the page is its own."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_our_own_markup(chromium, address, scheme):
    axe = pytest.importorskip("axe_playwright_python", reason="no axe-core here: pip install axe-playwright-python")
    context = chromium.new_context(viewport={"width": 1366, "height": 768}, color_scheme=scheme)
    context.set_default_timeout(TIMEOUT_MS)
    page = open_page(context.new_page(), address)
    page.add_script_tag(content=(Path(axe.__file__).with_name("axe.min.js")).read_text(encoding="utf-8"))
    found = []

    def check():
        page.wait_for_timeout(1000)
        found.extend(page.evaluate(AXE_FINDINGS))

    page.get_by_role("button", name="A slider of your own").click()
    page.locator("#examples [data-row]").nth(3).wait_for()
    page.locator("#examples [data-row]").first.click()
    page.get_by_role("button", name="Explore").click()
    page.locator("#components .gv-slider").first.wait_for()
    move(page, "Big", 3)
    check()
    for name in ("Gallery", "History"):
        open_tab(page, name)
        check()
    open_drawer(page)
    open_tab(page, "What moved")
    page.locator("#chart table").wait_for()
    check()
    page.locator("#drawer .toggle-button").click()
    page.get_by_role("button", name="New", exact=True).click()
    check()
    print(sorted({(rule, html) for owner, rule, html, _ in found if owner != "ours"}))
    assert [finding for finding in found if finding[0] == "ours"] == []
    context.close()
