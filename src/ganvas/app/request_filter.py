"""What reaches Gradio, and what doesn't: its server answers far more than this page asks.

Gradio checks a request's file paths, but fetches URLs for whoever asks, writes what a link to a page's state needs, and serves
pages of its own. Here only what the page itself needs gets through, from the names that the server is known by, and no request
names a file outside the server's own folder.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ganvas.app.event_stream import EventStreams

POLICY = "; ".join(
    (
        "default-src 'self' data: blob:",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "style-src 'self' 'unsafe-inline'",
        "connect-src 'self' data: blob:",
        "form-action 'self'",
        "base-uri 'self'",
    )
)
"""What browsers may load: this server's own. Gradio's pages name other hosts in places; none is asked."""
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
)
API = "/gradio_api"
UPLOAD, FILE = f"{API}/upload", f"{API}/file="
ANSWERS, EVENT = f"{API}/queue/data", f"{API}/queue/join"
READ_ROUTES = re.compile(
    rf"/|/config|/(static|assets)/.+|/favicon\.ico|/robots\.txt|/manifest\.json|({API})?/theme\.css"
    rf"|{API}/(info|startup-events|queue/data|upload_progress|heartbeat/\w+)"
)
SEND_ROUTES = re.compile(rf"{API}/(queue/join|cancel|reset)|{UPLOAD}")
"""The paths that a page asks for, and those that it sends to."""
MAX_BODY_BYTES = 1 << 18
"""Bytes of an event: one that chooses a face carries its small picture back."""
MAX_UPLOAD_BYTES = 20 << 20
"""Bytes of an uploaded file."""
FREE_DISK_BYTES = 1 << 29
"""Bytes that the server's folder may hold before no more is taken in."""


class RequestFilter:
    """Middleware. ``server_folder`` is the server's own; ``names`` what it is asked as (None: anything);
    ``ended``: it is ending."""

    def __init__(self, app: Any, folder: Path, names: Collection[str] | None, ended: threading.Event) -> None:
        self.app, self.folder, self.names = app, folder.resolve(), names
        self.streams = EventStreams(app, ended)
        self.coming = 0
        """Uploads under way."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None

        async def guarded(event: Any) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event["headers"], *HEADERS]}
            await send(event)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(scope, headers)
        if refused is not None:
            return await _answer(guarded, *refused)
        if scope["method"] != "POST":
            answering = self.streams if scope["path"] == ANSWERS and scope["method"] == "GET" else self.app
            return await answering(scope, receive, guarded)
        if scope["path"] == UPLOAD:
            return await self._upload(scope, receive, guarded)
        body = await _body(receive)
        if body is None:
            return await _answer(guarded, 413, f"A request has {MAX_BODY_BYTES} bytes at most.")
        if (wrong := self._wrong(body)) is not None:
            return await _answer(guarded, 400, wrong)
        await self.app(scope, _replayed(body, receive), guarded)
        if scope["path"] == EVENT:
            self.streams.joined(json.loads(body).get("session_hash"))

    def _refused(self, scope: Any, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Status and reason where the request goes no further."""
        path, method = scope["path"], scope["method"]
        if self.names is not None and _name(headers.get("host", "")) not in self.names:
            return 421, "This server isn't known by that name."
        if path.startswith(FILE) and method in ("GET", "HEAD") and self.has(path.removeprefix(FILE)):
            return None
        known = READ_ROUTES if method in ("GET", "HEAD") else SEND_ROUTES if method == "POST" else None
        asked = parse_qs(scope["query_string"].decode("latin-1"))
        if known is None or not known.fullmatch(path) or "deep_link" in asked:
            return 404, "There is nothing here."
        if path == UPLOAD:
            size = headers.get("content-length", "")
            if not size.isdecimal() or int(size) > MAX_UPLOAD_BYTES + MAX_BODY_BYTES:
                return 413, f"A file has {MAX_UPLOAD_BYTES >> 20} MB at most."
            if self._held() + (self.coming + 1) * MAX_UPLOAD_BYTES > FREE_DISK_BYTES:
                return 503, "Too many files are waiting here: try again in a minute."
        return None

    def has(self, path: str) -> bool:
        """Whether this is a path in the server's own folder."""
        with suppress(OSError, ValueError):
            return Path(path).is_absolute() and Path(path).resolve().is_relative_to(self.folder)
        return False

    def _held(self) -> int:
        held = 0
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # deleted meanwhile
                held += path.stat().st_size
        return held

    async def _upload(self, scope: Any, receive: Any, send: Any) -> None:
        self.coming += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.coming -= 1

    def _wrong(self, body: bytes) -> str | None:
        """Why the body goes no further: it is no JSON, or names a file that isn't in the server's folder."""
        try:
            asked = json.loads(body)
            paths = [path for path in _paths(asked) if path is not None]
        except (ValueError, RecursionError):
            return "The request is no JSON."
        if not isinstance(asked, dict):
            return "The request is no JSON object."
        if not all(isinstance(path, str) and self.has(path) for path in paths):
            return "The request names a file that was not uploaded."
        return None


def _name(host: str) -> str | None:
    """The name without the port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _paths(value: Any) -> Iterator[Any]:
    """What stands under "path" anywhere in a value."""
    if isinstance(value, dict):
        if "path" in value:
            yield value["path"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _paths(each)


async def _body(receive: Any) -> bytes | None:
    """The whole body; None where it's too long."""
    parts, size, more = [], 0, True
    while more:
        event = await receive()
        parts.append(event.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            return None
        more = event.get("more_body", False)
    return b"".join(parts)


def _replayed(body: bytes, receive: Any) -> Any:
    """What a request's body is read with, where it was read already."""
    told = False

    async def again() -> Any:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _answer(send: Any, status: int, text: str) -> None:
    body = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
