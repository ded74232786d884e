"""One worker for all visitors: work waits in turn, and work that nobody waits for any more isn't done.

All of torch happens in one thread: one pool of OpenMP threads, one generator, no locks. Visitors take turns, one piece of work
each, however much each has asked for; what a visitor asked first is done first.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ganvas.errors import GanvasError

T = TypeVar("T")
MAX_WAITING = 24
"""Pieces of work that one visitor may have waiting: a gallery asks for one after another."""


class Superseded(Exception):
    """The visitor has moved on: the picture isn't wanted any more. No error."""


@dataclass
class _Work:
    run: Callable[[], Any]
    stale: Callable[[], bool]
    done: Future[Any] = field(default_factory=Future)


class WorkQueue:
    """The worker starts at once and lives until ``close``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, deque[_Work]] = OrderedDict()
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="ganvas-app", daemon=True)
        self._thread.start()

    def ask(self, who: str, run: Callable[[], T], stale: Callable[[], bool] = lambda: False) -> Future[T]:
        """Have ``run`` done when it's the turn of ``who``. ``stale`` is asked right before: where it's True by then, the future
        holds Superseded.

        Raises GanvasError where this visitor has too much waiting already, or the worker is closed.
        """
        work = _Work(run, stale)
        with self._changed:
            if self._closed:
                raise GanvasError("The editor is being shut down.")
            mine = self._waiting.setdefault(who, deque())
            if len(mine) >= MAX_WAITING:
                raise GanvasError(f"You have {MAX_WAITING} pictures waiting already: one moment, please.")
            mine.append(work)
            self._changed.notify()
        return work.done

    def close(self) -> None:
        """Finish what runs and drop what waits."""
        with self._changed:
            self._closed = True
            dropped = [work for mine in self._waiting.values() for work in mine]
            self._waiting.clear()
            self._changed.notify()
        for work in dropped:
            if work.done.set_running_or_notify_cancel():
                work.done.set_exception(Superseded())
        self._thread.join()

    def _next(self) -> _Work | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            # The first in line is served and goes to the end, with what else it has waiting.
            who, mine = self._waiting.popitem(last=False)
            work = mine.popleft()
            if mine:
                self._waiting[who] = mine
            return work

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            if not work.done.set_running_or_notify_cancel():
                continue
            if work.stale():
                work.done.set_exception(Superseded())
                continue
            try:
                work.done.set_result(work.run())
            except BaseException as error:  # whoever waits hears of it; the worker goes on
                work.done.set_exception(error)
