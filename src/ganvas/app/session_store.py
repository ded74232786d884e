"""The sessions of all visitors, by Gradio's session hash: they outlive dropped connections and hours without a request."""

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

from ganvas.app.server_folder import SESSION_PREFIX
from ganvas.app.session import Session

MAX_SESSIONS = 200
"""Sessions that are kept; those that were used longest ago are removed first."""
IDLE_SECONDS = 12 * 3600.0
"""Seconds without a request after which a session is removed."""


class SessionStore:
    """All sessions. ``folder`` is the server's own: a session that is removed takes its files along."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._entries: OrderedDict[str, tuple[Session, float]] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, session_hash: str | None, session: Session) -> None:
        """Store a session; one without a hash can't be found again and isn't stored."""
        if session_hash is not None:
            self._mark_used(session_hash, session)
        self.remove_expired()

    def get(self, session_hash: str | None) -> Session | None:
        """Return the session of a hash; None where there is none."""
        entry = self._entries.get(session_hash or "")
        if entry is None:
            return None
        self._mark_used(session_hash or "", entry[0])
        return entry[0]

    def get_folder(self, session: Session) -> Path:
        """Return the session's own folder, created where it is missing."""
        folder = self.folder / f"{SESSION_PREFIX}{session.key}"
        folder.mkdir(exist_ok=True)
        return folder

    def remove_expired(self) -> None:
        """Remove the sessions that are idle, or too many, with their files."""
        oldest = time.monotonic() - IDLE_SECONDS
        with self._lock:
            expired = [key for key, (_, last_used) in self._entries.items() if last_used < oldest]
            active = [key for key in self._entries if key not in expired]
            expired += active[: max(0, len(active) - MAX_SESSIONS)]
            sessions = [self._entries.pop(key)[0] for key in expired]
        for session in sessions:
            shutil.rmtree(self.folder / f"{SESSION_PREFIX}{session.key}", ignore_errors=True)

    def _mark_used(self, session_hash: str, session: Session) -> None:
        with self._lock:
            self._entries[session_hash] = (session, time.monotonic())
            self._entries.move_to_end(session_hash)

    def bind_session(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a handler for Gradio: its parameter ``session`` gets the session of the request that is answered."""
        signature = inspect.signature(handler)
        if "session" not in signature.parameters:
            return handler
        position = list(signature.parameters).index("session")

        def with_session(args: tuple[Any, ...]) -> list[Any]:
            return [*args[:position], self.get(args[position].session_hash), *args[position + 1 :]]

        if inspect.isasyncgenfunction(handler):

            async def stream(*args: Any) -> AsyncIterator[Any]:
                async with aclosing(handler(*with_session(args))) as results:
                    async for value in results:
                        yield value

            bound: Any = functools.wraps(handler)(stream)
        else:

            async def call(*args: Any) -> Any:
                return await handler(*with_session(args))

            bound = functools.wraps(handler)(call)
        # Gradio reads these: a parameter annotated as a request gets the one that is answered.
        bound.__signature__ = signature
        bound.__annotations__ = get_type_hints(handler) | {"session": gr.Request}
        return bound
