"""Keep a page's stream of answers open as long as the page is.

Gradio ends the stream after what is the last answer at that moment. A page that sends its next event just then, and hears that it
was accepted before it hears of the end, believes the stream to be open, and would never get that event's answer. So the end
isn't forwarded, and Gradio is asked for the stream again as soon as there is another event.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from urllib.parse import parse_qs

POLL_SECONDS = 0.2
"""Seconds between two checks whether the server is ending; it waits a second for its streams."""
CLOSE_MESSAGE = b'"msg":"close_stream"'
"""Part of Gradio's last message of a stream, and of no other: quotes in texts are escaped."""


class EventStreams:
    """ASGI middleware for the stream of server-sent events of ``app``, one message a chunk. ``ended``: the server is ending."""

    def __init__(self, app: Any, ended: threading.Event) -> None:
        self.app, self.ended = app, ended
        self.waiting: dict[str, asyncio.Event] = {}
        """By session hash: set where the stream has more to answer."""

    def notify(self, session_hash: object) -> None:
        """Note that the session's next event was accepted, so that its stream is asked for again."""
        if isinstance(session_hash, str) and session_hash in self.waiting:
            self.waiting[session_hash].set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request for a stream, until its page disconnects."""
        session_hash = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
        has_more, disconnected, started = asyncio.Event(), asyncio.Event(), False
        self.waiting[session_hash] = has_more

        async def receive_message() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":
                disconnected.set()
            return message

        async def forward(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                if started:
                    return
                started = True
                if message["status"] != 200:
                    disconnected.set()
            elif message["type"] == "http.response.body":
                body = message.get("body", b"")
                message = {**message, "body": b"" if CLOSE_MESSAGE in body else body, "more_body": True}
            await send(message)

        try:
            while not disconnected.is_set() and not self.ended.is_set():
                has_more.clear()
                await _wait_for_first(self.app(dict(scope), receive_message, forward), self._wait_for_end())
                if not disconnected.is_set():
                    await _wait_for_first(
                        has_more.wait(), _receive_until(disconnected, receive_message), self._wait_for_end()
                    )
        finally:
            if self.waiting.get(session_hash) is has_more:
                del self.waiting[session_hash]
        await send({"type": "http.response.body", "body": b""})

    async def _wait_for_end(self) -> None:
        while not self.ended.is_set():
            await asyncio.sleep(POLL_SECONDS)


async def _receive_until(disconnected: asyncio.Event, receive_message: Any) -> None:
    while not disconnected.is_set():
        await receive_message()


async def _wait_for_first(*waits: Any) -> None:
    """Wait until one of the awaitables ends or fails, and cancel the others."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        over, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in over:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
