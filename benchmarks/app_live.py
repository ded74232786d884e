"""Measure the web app in Chromium, from a slider's input to painted pixels, beside synthesis alone in the same run.

    python benchmarks/app_live.py [--generator ffhq] [--moves 30] [--drag-seconds 5]

A move is an input event of a slider; it ends in the frame after the one with the new picture. Needs chromium and Playwright.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright

from app import format_times, time_drawing
from ganvas.app import server
from ganvas.app.resources import DRAFT_SIDE, AppResources, discover_tools
from ganvas.app.scene import Scene
from ganvas.generators.base import sample
from ganvas.recipe.model import FromSeed

SCRIPT = """
(() => {
  const image = () => document.querySelector("#picture img"), painted = [];
  new MutationObserver(async (records) => {
    if (!records.some((record) => record.target === image())) return;
    const shown = image();
    await shown.decode().catch(() => {});
    requestAnimationFrame(() => requestAnimationFrame(() => painted.push(performance.now())));
  }).observe(document.body, { subtree: true, attributes: true, attributeFilter: ["src"] });
  const sliders = [...document.querySelectorAll("#panel input[type=range]")].slice(0, 4);
  let turn = 0;
  window.moveSlider = (slider) => {
    const share = 0.3 + 0.4 * ((7 * turn++) % 29) / 29;
    slider.value = +slider.min + share * (slider.max - slider.min);
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    return performance.now();
  };
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  // The preview's and the full picture's times after one move each.
  window.measureMoves = async (moves) => {
    const times = [];
    for (let i = 0; i < moves; i++) {
      painted.length = 0;
      const began = moveSlider(sliders[i % sliders.length]);
      while (painted.length < 2 && performance.now() - began < 20000) await wait(5);
      times.push(painted.slice(0, 2).map((at) => at - began));
      await wait(300);
    }
    return times;
  };
  window.measureDrag = async (seconds) => {
    painted.length = 0;
    const began = performance.now();
    while (performance.now() - began < 1000 * seconds) { moveSlider(sliders[0]); await wait(16); }
    return painted.length / seconds;
  };
})();
"""


def measure_synthesis(network: Any, size: int | None, n: int = 10) -> list[float]:
    """Return the durations of synthesis alone, at a size."""
    ws, times = sample(network, 1), []
    for _ in range(n):
        began = time.perf_counter()
        network.synthesis(ws, resolution=size)
        times.append(time.perf_counter() - began)
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="ffhq")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--moves", type=int, default=30)
    parser.add_argument("--drag-seconds", type=float, default=5.0)
    options = parser.parse_args()
    resources = AppResources(discover_tools(options.dtype))
    network = resources.load(Scene(options.generator, "", FromSeed(0), dtype=resources.sources.dtype)).generator
    early = min(DRAFT_SIDE, network.resolution)
    for size, name in ((early if early < network.resolution else None, f"{early} px"), (None, "full")):
        print(f"synthesis alone, {name:8} {format_times(measure_synthesis(network, size))}", flush=True)
    synthesis = time_drawing(network)
    with (
        tempfile.TemporaryDirectory() as storage,
        server.serve(resources, options.generator, config=server.ServerConfig(storage=Path(storage))) as address,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1366, "height": 768})
        page.set_default_timeout(600_000)
        page.goto(address)
        page.locator("#gallery button").first.click()
        page.locator("#presets img").last.wait_for()
        page.wait_for_timeout(3000)
        page.evaluate(SCRIPT)
        times = page.evaluate("moves => measureMoves(moves)", options.moves)
        previews = [each[0] / 1000 for each in times if each]
        fulls = [each[1] / 1000 for each in times if len(each) > 1]
        print(f"input to preview         {format_times(previews)}")
        print(f"input to full picture    {format_times(fulls)}")
        print(f"synthesis in the server  {1000 * statistics.median(synthesis.clock):.0f} ms in the median of all sizes")
        print(
            f"while dragging           {page.evaluate('s => measureDrag(s)', options.drag_seconds):.1f} previews a second"
        )
        browser.close()


if __name__ == "__main__":
    main()
