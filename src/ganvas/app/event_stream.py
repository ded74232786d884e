"""A page's stream of answers stays open as long as the page does.

Gradio ends it after what is the last answer at that moment. Where the page sends its next event just then, and hears that it
was taken before it hears of the end, it believes the stream to be open: that answer would never come. So the end isn't
passed on, and Gradio is asked for more as soon as there is another event.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from urllib.parse import parse_qs

POLL_SECONDS = 0.2
"""Seconds between two looks whether the server is ending: it waits for a second."""
END = b'"msg":"close_stream"'
"""What Gradio's last message of a stream holds, and no other: quotes in texts are escaped."""


class EventStreams:
    """``app`` answers requests for a stream with server-sent events, one message a chunk. ``ended``: the server is ending."""

    def __init__(self, app: Any, ended: threading.Event) -> None:
        self.app, self.ended = app, ended
        self.waiting: dict[str, asyncio.Event] = {}
        """By session, for its stream: there is more to ask for."""

    def joined(self, session: object) -> None:
        """The session has sent an event, and it was taken."""
        if isinstance(session, str) and session in self.waiting:
            self.waiting[session].set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One stream, until its page has gone."""
        session = parse_qs(scope["query_string"].decode("latin-1")).get("session_hash", [""])[0]
        more, gone, begun = asyncio.Event(), asyncio.Event(), False
        self.waiting[session] = more

        async def heard() -> Any:
            message = await receive()
            if message["type"] == "http.disconnect":
                gone.set()
            return message

        async def passed(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                if begun:
                    return
                begun = True
                if message["status"] != 200:
                    gone.set()
            elif message["type"] == "http.response.body":
                body = message.get("body", b"")
                message = {**message, "body": b"" if END in body else body, "more_body": True}
            await send(message)

        try:
            while not gone.is_set() and not self.ended.is_set():
                more.clear()
                await _first(self.app(dict(scope), heard, passed), self._end())
                if not gone.is_set():
                    await _first(more.wait(), _until(gone, heard), self._end())
        finally:
            if self.waiting.get(session) is more:
                del self.waiting[session]
        await send({"type": "http.response.body", "body": b""})

    async def _end(self) -> None:
        while not self.ended.is_set():
            await asyncio.sleep(POLL_SECONDS)


async def _until(gone: asyncio.Event, heard: Any) -> None:
    while not gone.is_set():
        await heard()


async def _first(*waits: Any) -> None:
    """Until one of them is over, or fails; the others are left."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        over, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in over:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
