"""Pictures of the web editor's main states, in Chromium: light, dark, and on a phone.

    python -m experiments.app_screenshots [--generator ffhq] [--out docs/images]

Needs Debian's chromium and Playwright (`pip install playwright`). What is looked at are real states: nothing is staged.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import expect, sync_playwright

from ganvas.app import server
from ganvas.app.resources import AppResources, discover_tools

WAIT = 600_000
"""Milliseconds."""
DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "has_touch": True, "is_mobile": True}
MOVES = {"ffhq": (("Smiling", 1.2), ("Young", -1.0)), "toy": (("Big", 1.5), ("Red", -1.0))}
"""What is moved, by generator."""


def moved(page: Any, moves: tuple[tuple[str, float], ...]) -> None:
    """Open the page's sliders and type values."""
    for name, value in moves:
        page.get_by_label("Find a slider").fill(name)
        box = page.get_by_label(f"number input for {name}")
        expect(box).to_be_visible()
        box.fill(str(value))
        expect(page.locator("#status")).to_contain_text(f"{name} at {value:+.2f}")
    page.get_by_label("Find a slider").fill("")
    page.wait_for_timeout(3000)


def edited(page: Any) -> None:
    """The sliders, as they are."""
    page.wait_for_timeout(1000)


def wiped(page: Any) -> None:
    """Before and after."""
    page.get_by_role("tab", name="Before / after").click()
    page.wait_for_function("document.querySelectorAll('#wipe img').length == 2")
    told(page)


def told(page: Any) -> None:
    """What else moved."""
    page.get_by_role("tab", name="What moved").click()
    page.locator("#chart table").wait_for()
    page.wait_for_timeout(1500)


def chosen(page: Any) -> None:
    """The gallery, full, after a face like the one that is edited."""
    page.get_by_role("tab", name="Faces").click()
    page.wait_for_function("document.querySelectorAll('#gallery img').length >= 12")
    page.wait_for_function("document.querySelectorAll('#visited img').length >= 1")
    page.wait_for_timeout(1500)


def taken(page: Any) -> None:
    """Link, command and lines."""
    page.get_by_role("tab", name="Take along").click()
    page.wait_for_function("document.querySelector('#link textarea')?.value.includes('recipe=')")
    page.wait_for_timeout(2500)


def compared(page: Any) -> None:
    """Methods side by side."""
    page.get_by_role("tab", name="Compare").click()
    page.locator("#compare").click()
    wanted = page.locator("#methods input:checked").count() + 1
    page.wait_for_function(f"document.querySelectorAll('#compared img').length >= {wanted}")
    page.wait_for_timeout(1500)


STATES: dict[str, tuple[dict[str, Any], str, Callable[[Any], None]]] = {
    "app": (DESKTOP, "light", edited),
    "app-dark": (DESKTOP, "dark", wiped),
    "app-faces": (DESKTOP, "light", chosen),
    "app-compare": (DESKTOP, "light", compared),
    "app-take": (DESKTOP, "dark", taken),
    "app-phone": (PHONE, "light", edited),
    "app-phone-dark": (PHONE, "dark", told),
}


def main() -> None:
    """Draw them all."""
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
            context.set_default_timeout(WAIT)
            expect.set_options(timeout=WAIT)
            page = context.new_page()
            page.goto(address)
            page.wait_for_selector("#picture img[src^='data:']")
            expect(page.locator("#status")).to_contain_text("seed")
            moved(page, MOVES.get(options.generator, ()))
            state(page)
            page.screenshot(path=options.out / f"{name}.jpg", type="jpeg", quality=82)
            print(options.out / f"{name}.jpg", flush=True)
            context.close()
        browser.close()


if __name__ == "__main__":
    main()
