"""Progress of long work on stderr: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")
LINE_INTERVAL_SECONDS = 10.0
"""Seconds between lines where there is no terminal."""
Progress = Callable[[int, int], object]
"""The callback of long work: (how much is done, how much there is in all)."""


@contextmanager
def show_count(title: str, before: int = 0) -> Iterator[Callable[[int, int | None], None]]:
    """Yield a callback (done, total or None) that shows progress; ``before``: how much was done by an earlier run."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as ProgressBar

    last, printed = time.monotonic(), False
    first: list[float] = []

    def format_speed(done: int) -> str:
        # Measured from the first call on: what comes before, like drawing codes, has another speed.
        if not first:
            first.extend((time.monotonic(), done))
        return f"{(done - first[1]) / max(time.monotonic() - first[0], 1e-9):.3g} a second"

    def print_line(done: int, total: int | None) -> None:
        nonlocal last, printed
        # The end is told of only where the way there was: quick work says nothing.
        if printed if done == total else time.monotonic() - last >= LINE_INTERVAL_SECONDS:
            last, printed = time.monotonic(), done != total
            count = f"{done}" if total is None else f"{done} of {total}"
            print(f"{title}: {count}, {format_speed(done)}", file=sys.stderr, flush=True)
        else:
            format_speed(done)

    # Not left to rich, which also takes a coloured log for a terminal.
    if not sys.stderr.isatty():
        yield print_line
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[speed]}"), TimeRemainingColumn())
    with ProgressBar(TextColumn(title), *columns, console=Console(stderr=True)) as bars:
        bar = bars.add_task("", total=None, completed=before, speed="")
        yield lambda done, total: bars.update(bar, completed=done, total=total, speed=format_speed(done))


@contextmanager
def show_advance(title: str, total: int | None = None, before: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a callback that takes how much more is done; ``before`` of ``total`` were done by an earlier run."""
    with show_count(title, before) as progress:
        done = before

        def advance(more: int) -> None:
            nonlocal done
            done += more
            progress(done, total)

        yield advance


def track(items: Sequence[T], title: str) -> Iterator[T]:
    """Yield items and show progress, except for a single item."""
    if len(items) < 2:
        yield from items
        return
    with show_count(title) as progress:
        for i, item in enumerate(items):
            progress(i, len(items))
            yield item
        progress(len(items), len(items))
