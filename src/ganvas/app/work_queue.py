"""A work queue with one thread that all visitors share: they take turns, and work that has become stale isn't done.

All of torch happens in one thread: one pool of OpenMP threads, one generator, no locks. Each owner has one piece of work done in
turn, however much it has submitted; an owner's work is done in order.
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
"""Pieces of work that one owner may have waiting: a gallery submits one after another."""


class Superseded(Exception):
    """The visitor has moved on, and the result isn't needed any more. No error."""


@dataclass
class _Work:
    run: Callable[[], Any]
    is_stale: Callable[[], bool]
    future: Future[Any] = field(default_factory=Future)


class WorkQueue:
    """A queue whose thread starts at once and lives until ``close``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: OrderedDict[str, deque[_Work]] = OrderedDict()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="ganvas-app", daemon=True)
        self._thread.start()

    def submit(self, owner: str, run: Callable[[], T], is_stale: Callable[[], bool] = lambda: False) -> Future[T]:
        """Submit ``run``, to be called when it is the turn of ``owner``.

        ``is_stale`` is called right before: where it returns True, the future raises Superseded.
        Raises GanvasError where the owner has too much work waiting, or the queue is closed.
        """
        work = _Work(run, is_stale)
        with self._changed:
            if self._closed:
                raise GanvasError("The editor is being shut down.")
            pending = self._waiting.setdefault(owner, deque())
            if len(pending) >= MAX_WAITING:
                raise GanvasError(f"You have {MAX_WAITING} pictures waiting already: one moment, please.")
            pending.append(work)
            self._changed.notify()
        return work.future

    def close(self) -> None:
        """Finish the work under way and drop what waits."""
        with self._changed:
            self._closed = True
            dropped = [work for pending in self._waiting.values() for work in pending]
            self._waiting.clear()
            self._changed.notify()
        for work in dropped:
            if work.future.set_running_or_notify_cancel():
                work.future.set_exception(Superseded())
        self._thread.join()

    def _take_next(self) -> _Work | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            # The first owner's work is taken, and the owner goes to the end with what else it has waiting.
            owner, pending = self._waiting.popitem(last=False)
            work = pending.popleft()
            if pending:
                self._waiting[owner] = pending
            return work

    def _run(self) -> None:
        while (work := self._take_next()) is not None:
            if not work.future.set_running_or_notify_cancel():
                continue
            if work.is_stale():
                work.future.set_exception(Superseded())
                continue
            try:
                work.future.set_result(work.run())
            except BaseException as error:  # raised where the result is awaited; the queue goes on
                work.future.set_exception(error)
