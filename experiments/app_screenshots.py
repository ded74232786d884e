"""Pictures of the web app's main states, in Chromium: light, dark, and on a phone.

    python -m experiments.app_screenshots --photo astronaut.png [--generator ffhq] [--out docs/images]

Needs Debian's chromium and Playwright (`pip install playwright`). The states are those of the running app.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import expect, sync_playwright

from ganvas.app import server
from ganvas.app.resources import AppResources, discover_tools

TIMEOUT_MS = 600_000
REFINE_SECONDS = 30
"""Seconds after which the refinement of the photograph is stopped."""
DESKTOP = {"viewport": {"width": 1366, "height": 768}}
LARGE = {"viewport": {"width": 1920, "height": 1080}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}


def choose_face(page: Any) -> None:
    """Choose the first face, and move two sliders."""
    page.locator("#gallery button").first.click()
    page.locator("#presets img").last.wait_for()
    for name, value in (("Smile", "1.2"), ("Age (years)", "55")):
        page.get_by_label(f"{name} as a number").fill(value)
        expect(page.locator("#status")).to_contain_text(name.partition(" (")[0])
    expect(page.locator("#likeness")).to_contain_text("strangers")
    page.wait_for_timeout(2000)


def show_start(page: Any) -> None:
    """Show where photographs are dropped."""
    page.wait_for_function("document.querySelectorAll('#gallery img').length >= 12")
    page.wait_for_timeout(1000)


def edit_photo(page: Any, photo: Path) -> None:
    """Drop a photograph, and let its face smile."""
    page.locator("#drop input[type=file]").set_input_files(photo)
    page.locator("#presets img").last.wait_for()
    page.wait_for_timeout(1000 * REFINE_SECONDS)
    if page.locator("#stop").is_visible():  # fast machines are done
        page.locator("#stop").click()
    expect(page.locator(".gv-progress")).to_have_count(0)
    page.get_by_label("Smile as a number").fill("1.8")
    expect(page.locator("#status")).to_contain_text("Smile at")
    expect(page.locator("#likeness")).to_contain_text("strangers")
    page.wait_for_timeout(2000)


def show_changes(page: Any) -> None:
    """Show what else moved."""
    choose_face(page)
    page.locator("#drawer .toggle-button").click()
    page.get_by_role("tab", name="What moved").click()
    page.locator("#chart table").wait_for()
    page.wait_for_timeout(2000)


State = tuple[dict[str, Any], Literal["light", "dark"], Callable[..., None]]
STATES: dict[str, State] = {
    "app-start": (DESKTOP, "light", show_start),
    "app": (DESKTOP, "light", edit_photo),
    "app-dark": (DESKTOP, "dark", show_changes),
    "app-large": (LARGE, "light", choose_face),
    "app-phone": (PHONE, "light", choose_face),
    "app-phone-dark": (PHONE, "dark", choose_face),
}


def main() -> None:
    """Take all screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="ffhq")
    parser.add_argument("--photo", type=Path, help="a photograph with one face")
    parser.add_argument("--states", nargs="*", choices=STATES, default=list(STATES))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    expect.set_options(timeout=TIMEOUT_MS)
    with (
        tempfile.TemporaryDirectory() as storage,
        server.serve(
            AppResources(discover_tools("auto")),
            options.generator,
            config=server.ServerConfig(storage=Path(storage)),
        ) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in options.states:
            device, scheme, state = STATES[name]
            context = browser.new_context(**device, color_scheme=scheme)
            context.set_default_timeout(TIMEOUT_MS)
            page = context.new_page()
            page.goto(address)
            page.locator("#gallery img").first.wait_for()
            state(page, options.photo) if state is edit_photo else state(page)
            page.screenshot(path=options.out / f"{name}.jpg", type="jpeg", quality=82)
            print(options.out / f"{name}.jpg", flush=True)
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
