"""Pictures of the web editor's main states, in Chromium: light, dark, and on a phone.

    python -m experiments.app_screenshots [--generator ffhq] [--out docs/images]

Needs Debian's chromium and Playwright (`pip install playwright`). The states are those of the running app.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import expect, sync_playwright

from ganvas.app import server
from ganvas.app.resources import AppResources, discover_tools

TIMEOUT_MS = 600_000
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
MOVES = {"ffhq": (("Smile", "1.2"), ("Age (years)", "60")), "toy": (("Big", "1.5"), ("Red", "-1"))}
"""Generator -> the labels of the sliders that are moved, with their values."""


def move_sliders(page: Any, moves: tuple[tuple[str, str], ...]) -> None:
    """Find sliders and type their values."""
    for name, value in moves:
        attribute = name.partition(" (")[0]
        page.get_by_label("Find a slider").fill(attribute)
        box = page.get_by_label(f"{name} as a number")
        expect(box).to_be_visible()
        box.fill(value)
        expect(page.locator("#status")).to_contain_text(f"{attribute} at ")
    page.get_by_label("Find a slider").fill("")
    page.wait_for_timeout(3000)


def show_sliders(page: Any) -> None:
    """Show the sliders."""
    page.wait_for_timeout(1000)


def show_before_and_after(page: Any) -> None:
    """Show the pictures before and after, and what moved."""
    page.get_by_role("tab", name="Before / after").click()
    page.wait_for_function("document.querySelectorAll('#wipe img').length == 2")
    show_changes(page)


def show_changes(page: Any) -> None:
    """Show what else moved."""
    page.get_by_role("tab", name="What moved").click()
    page.locator("#chart table").wait_for()
    page.wait_for_timeout(1500)


def show_gallery(page: Any) -> None:
    """Show the gallery, full, after a face like the one that is edited."""
    page.get_by_role("tab", name="Faces").click()
    page.wait_for_function("document.querySelectorAll('#gallery img').length >= 12")
    page.wait_for_function("document.querySelectorAll('#visited img').length >= 1")
    page.wait_for_timeout(1500)


def show_recipe(page: Any) -> None:
    """Show the recipe as a link, a command and lines of Python."""
    page.get_by_role("tab", name="Save and share").click()
    page.wait_for_function("document.querySelector('#link textarea')?.value.includes('recipe=')")
    page.wait_for_timeout(2500)


def show_methods(page: Any) -> None:
    """Show methods side by side."""
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare").click()
    pictures = page.locator("#methods input:checked").count() + 1
    page.wait_for_function(f"document.querySelectorAll('#compared img').length >= {pictures}")
    page.wait_for_timeout(1500)


STATES: dict[str, tuple[dict[str, Any], Literal["light", "dark"], Callable[[Any], None]]] = {
    "app": (DESKTOP, "light", show_sliders),
    "app-dark": (DESKTOP, "dark", show_before_and_after),
    "app-faces": (DESKTOP, "light", show_gallery),
    "app-compare": (DESKTOP, "light", show_methods),
    "app-take": (DESKTOP, "dark", show_recipe),
    "app-phone": (PHONE, "light", show_sliders),
    "app-phone-dark": (PHONE, "dark", show_changes),
}


def main() -> None:
    """Take all screenshots."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="ffhq")
    parser.add_argument("--editor", action="append", default=[], help="an editor's file")
    parser.add_argument("--states", nargs="*", choices=STATES, default=list(STATES))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    resources = AppResources(discover_tools("bfloat16"), options.editor)
    with server.serve(resources, options.generator) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name in options.states:
            device, scheme, state = STATES[name]
            context = browser.new_context(**device, color_scheme=scheme)
            context.set_default_timeout(TIMEOUT_MS)
            expect.set_options(timeout=TIMEOUT_MS)
            page = context.new_page()
            page.goto(address)
            page.wait_for_selector("#picture img[src^='data:']")
            expect(page.locator("#status")).to_contain_text("seed")
            move_sliders(page, MOVES.get(options.generator, ()))
            state(page)
            page.screenshot(path=options.out / f"{name}.jpg", type="jpeg", quality=82)
            print(options.out / f"{name}.jpg", flush=True)
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
