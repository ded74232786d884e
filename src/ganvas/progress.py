"""How far long work is: a bar on a terminal, and where nobody looks at one, a line now and then. Both go to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
LINE_EVERY = 10.0
"""Seconds between lines where there is no terminal."""
Progress = Callable[[int, int | None], None]
"""Takes how much is done, and how much there is in all, where that is known."""


@contextmanager
def show_count(doing: str, before: int = 0) -> Iterator[Progress]:
    """Yields whom to tell; ``before``: how much a run before had done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as ProgressBar

    last = time.monotonic()
    first: list[float] = []

    def speed(done: int) -> str:
        # From the first thing done on: what comes before it, like drawing codes, isn't what the rest is made of.
        if not first:
            first.extend((time.monotonic(), done))
        return f"{(done - first[1]) / max(time.monotonic() - first[0], 1e-9):.3g} a second"

    def say(done: int, total: int | None) -> None:
        nonlocal last
        if done != total and time.monotonic() - last >= LINE_EVERY:
            last = time.monotonic()
            far = f"{done}" if total is None else f"{done} of {total}"
            print(f"{doing}: {far}, {speed(done)}", file=sys.stderr, flush=True)
        else:
            speed(done)

    # Asked here: rich takes more for a terminal, like a log of tests in colour.
    if not sys.stderr.isatty():
        yield say
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    with ProgressBar(TextColumn(doing), *columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task("", total=None, completed=before, speed="")
        yield lambda done, total: bars.update(bar, completed=done, total=total, speed=speed(done))


@contextmanager
def show_advance(doing: str, total: int | None = None, before: int = 0) -> Iterator[Callable[[int], None]]:
    """Yields what to call with how much more is done; of ``total``, where that is known, ``before`` was there."""
    with show_count(doing, before) as tell:
        done = before

        def advance(more: int) -> None:
            nonlocal done
            done += more
            tell(done, total)

        yield advance


def track(items: Sequence[T], doing: str) -> Iterator[T]:
    """Pass items on, and tell how far they are; of a single one nothing is told."""
    if len(items) < 2:
        yield from items
        return
    with show_count(doing) as tell:
        for i, item in enumerate(items):
            tell(i, len(items))
            yield item
        tell(len(items), len(items))
