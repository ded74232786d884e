"""The desks of all visitors, by session: a connection that drops, or an hour without a word, costs nobody their place."""

from __future__ import annotations

import functools
import inspect
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, get_type_hints

import gradio as gr

from ganvas.app.server_folder import DESK
from ganvas.app.session import Session

MAX_SESSIONS = 200
"""Visitors whose desks are kept; those who were away longest leave first."""
IDLE_SECONDS = 12 * 3600.0
"""Seconds without a request after which a visitor has left."""


class SessionStore:
    """``server_folder`` is the server's own: a desk that is cleared takes its files along."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._kept: OrderedDict[str, tuple[Session, float]] = OrderedDict()
        self._lock = threading.Lock()

    def sit(self, session: str | None, desk: Session) -> None:
        """A visitor's desk."""
        if session is not None:
            self._use(session, desk)
        self.clear()

    def of(self, session: str | None) -> Session | None:
        """The desk of a session; None where it has none."""
        found = self._kept.get(session or "")
        if found is None:
            return None
        self._use(session or "", found[0])
        return found[0]

    def files_of(self, desk: Session) -> Path:
        """The desk's own folder."""
        folder = self.folder / f"{DESK}{desk.name}"
        folder.mkdir(exist_ok=True)
        return folder

    def clear(self) -> None:
        """Clear the desks of those who left."""
        late = time.monotonic() - IDLE_SECONDS
        with self._lock:
            gone = [session for session, (_, used) in self._kept.items() if used < late]
            gone += [session for session in self._kept if session not in gone][
                : max(0, len(self._kept) - len(gone) - MAX_SESSIONS)
            ]
            desks = [self._kept.pop(session)[0] for session in gone]
        for desk in desks:
            shutil.rmtree(self.folder / f"{DESK}{desk.name}", ignore_errors=True)

    def _use(self, session: str, desk: Session) -> None:
        with self._lock:
            self._kept[session] = (desk, time.monotonic())
            self._kept.move_to_end(session)

    def seated(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """A handler as Gradio calls it: its parameter ``session`` is that of the session that asks."""
        signature = inspect.signature(handler)
        if "desk" not in signature.parameters:
            return handler
        place = list(signature.parameters).index("desk")

        def put(given: tuple[Any, ...]) -> list[Any]:
            return [*given[:place], self.of(given[place].session_hash), *given[place + 1 :]]

        if inspect.isasyncgenfunction(handler):

            async def shown(*given: Any) -> AsyncIterator[Any]:
                async with aclosing(handler(*put(given))) as results:
                    async for value in results:
                        yield value

            seat: Any = functools.wraps(handler)(shown)
        else:

            async def done(*given: Any) -> Any:
                return await handler(*put(given))

            seat = functools.wraps(handler)(done)
        # Gradio reads these: a parameter that is a request gets the one that is answered.
        seat.__signature__ = signature
        seat.__annotations__ = get_type_hints(handler) | {"desk": gr.Request}
        return seat
