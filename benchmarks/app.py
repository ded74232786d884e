"""Measure the web editor alone and with ten people: previews, full pictures, and memory over 500 edits.

    python benchmarks/app.py [--generator ffhq] [--people 10] [--edits 500]
    python benchmarks/app.py --minutes 20 --every 4     each of ten people edits every 4 s and waits for the full picture

The server runs in this process and gets requests over HTTP as browsers send them. Each duration stands beside the share of it
that was synthesis; processor time stands beside wall-clock time, since only the latter grows with other work on the machine.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from app_client import AppClient

from ganvas.app import server
from ganvas.app.edit_handlers import REST_SECONDS
from ganvas.app.resources import AppResources, discover_tools
from ganvas.app.scene import Scene
from ganvas.recipe.model import FromSeed

SLIDERS = ("Smiling", "Age", "Male", "Eyeglasses")


class TimedCall:
    """A function whose calls are timed, on the clock and of the processor."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self.run, self.clock, self.processor = run, [], []

    def __call__(self, *args: Any, **named: Any) -> Any:
        began, busy = time.perf_counter(), time.process_time()
        result = self.run(*args, **named)
        self.clock.append(time.perf_counter() - began)
        self.processor.append(time.process_time() - busy)
        return result


def time_drawing(network: Any) -> TimedCall:
    """Time all that a generator draws from now on, with parts of faces or without."""
    timed, with_parts = TimedCall(network.synthesis), TimedCall(network.draw_with_parts)
    with_parts.clock, with_parts.processor = timed.clock, timed.processor
    network.synthesis, network.draw_with_parts = timed, with_parts
    return timed


def read_memory_mib() -> float:
    """Return this process's resident memory in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def format_times(values: list[float]) -> str:
    """Format the median and the 95th percentile of durations, in ms."""
    if not values:
        return "none"
    ordered = sorted(values)
    return f"median {1000 * statistics.median(ordered):6.0f} ms, 95 % {1000 * ordered[int(0.95 * (len(ordered) - 1))]:6.0f} ms"


def make_move(slider: str, share: float) -> dict[str, Any]:
    """Return a slider's move to a share of the middle half of its track; ages are in years."""
    return {"name": slider, "value": round(25 + 30 * share) if slider == "Age" else round(-2 + 4 * share, 2)}


def measure_one_visitor(address: str, sliders: list[str], edits: int, synthesis: TimedCall) -> None:
    """Measure one visitor who moves sliders and rests."""
    visitor = AppClient(address)
    began = time.perf_counter()
    visitor.open()
    print(f"first picture            {1000 * (time.perf_counter() - began):.0f} ms after the page was asked for")
    previews, fulls, busy, first_call = [], [], [], len(synthesis.clock)
    for i in range(edits):
        slider = sliders[i % len(sliders)]
        start = time.process_time()
        visitor.send("panel", "input", make_move(slider, ((i * 7) % edits) / edits))
        busy.append(time.process_time() - start)
        previews.append(visitor.seconds)
        visitor.send_followup("panel", "input")
        fulls.append(previews[-1] + visitor.seconds)
    clock, processor = synthesis.clock[first_call:], synthesis.processor[first_call:]
    print(f"preview                  {format_times(previews)}; synthesis {sum(clock) / sum(previews):.2f} of it")
    # Its picture is the preview's: synthesised once.
    print(
        f"full picture, at rest    {format_times(fulls)}; synthesis {sum(clock) / sum(fulls):.2f} of it ({REST_SECONDS:g}"
        f" s are the pause)"
    )
    print(f"processor, a preview     {format_times(busy)}; synthesis {format_times(processor)}")
    visitor.close()


def measure_many_visitors(
    address: str, sliders: list[str], people: int, edits: int, every: float = 0.0, seconds: float = math.inf
) -> None:
    """Measure many visitors at once, until ``edits`` are made or ``seconds`` are over; memory is read every fifth of the way.

    Each edits as soon as the last one is answered, and waits for every fifth full picture; where ``every`` isn't 0, once in
    so many seconds (or when the last one is answered, if that is later), and waits for every full picture.
    """
    previews: list[list[float]] = [[] for _ in range(people)]
    fulls: list[float] = []
    failed: list[str] = []
    marks = [read_memory_mib()]
    began = time.perf_counter()

    def visit(number: int) -> None:
        visitor = AppClient(address)
        try:
            visitor.open()
            # Visitors come one after the other, not all at once.
            start = time.perf_counter() + every * number / people
            for i in range(edits // people):
                due = start + every * i
                time.sleep(max(0.0, due - time.perf_counter()))
                if time.perf_counter() > began + seconds:
                    return
                slider = sliders[(i + number) % len(sliders)]
                visitor.send("panel", "input", make_move(slider, ((i + number) % 10) / 10))
                previews[number].append(visitor.seconds)
                if every or i % 5 == 4:
                    visitor.send_followup("panel", "input")
                    fulls.append(previews[number][-1] + visitor.seconds)
        except Exception as error:  # each is counted
            failed.append(repr(error))
        finally:
            visitor.close()

    threads = [threading.Thread(target=visit, args=(number,)) for number in range(people)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(0.5)
        passed = max((time.perf_counter() - began) / seconds, sum(map(len, previews)) / edits)
        if len(marks) <= 5 * passed:
            marks.append(read_memory_mib())
    for error in failed[:3]:
        print("  ", error)
    medians = [statistics.median(w) for w in previews if w]
    if not medians:
        raise SystemExit(f"None of {people} visitors made an edit.")
    answers = [w for one in previews for w in one]
    minutes = (time.perf_counter() - began) / 60
    print(
        f"{people} people, {len(answers)} edits in {minutes:.1f} minutes: previews {format_times(answers)}, {len(failed)} of them"
        " gave up after an error"
    )
    print(f"  full pictures          {format_times(fulls)}")
    print(f"  medians of the people  {1000 * min(medians):.0f} to {1000 * max(medians):.0f} ms")
    print(f"  memory                 {' '.join(f'{mark:.0f}' for mark in marks)} MiB")


def main() -> None:
    """Run all measurements and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--generator", default="ffhq")
    parser.add_argument("--editor", action="append", default=[], help="an editor's file")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--people", type=int, default=10)
    parser.add_argument("--edits", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=math.inf, help="how long; then --edits is ignored")
    parser.add_argument("--every", type=float, default=0.0, help="seconds between two edits of one visitor")
    parser.add_argument("--alone", type=int, default=40, help="edits of one visitor alone")
    options = parser.parse_args()
    resources = AppResources(discover_tools(options.dtype), options.editor)
    network = resources.load(Scene(options.generator, "", FromSeed(0), dtype=resources.sources.dtype)).generator
    synthesis = time_drawing(network)
    attributes = resources.choices[resources.get_default_editor(options.generator)].sliders
    sliders = [name for name in SLIDERS if name in attributes] or list(attributes)
    with server.serve(resources, options.generator) as address:
        measure_one_visitor(address, sliders, options.alone, synthesis)
        edits = options.edits if math.isinf(options.minutes) else sys.maxsize
        measure_many_visitors(address, sliders, options.people, edits, options.every, 60 * options.minutes)


if __name__ == "__main__":
    main()
