"""Filter requests before they reach Gradio, whose server answers far more than this page needs.

Gradio checks a request's file paths, but fetches URLs for whoever asks, writes files for links to a page's state, and serves
pages of its own. Only what the page itself needs gets through, under the host names of the server, and no request names a file
outside the server's own folder.
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

CONTENT_SECURITY_POLICY = "; ".join(
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
RESPONSE_HEADERS = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"referrer-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
)
API_PREFIX = "/gradio_api"
UPLOAD_PATH, FILE_PREFIX = f"{API_PREFIX}/upload", f"{API_PREFIX}/file="
STREAM_PATH, EVENT_PATH = f"{API_PREFIX}/queue/data", f"{API_PREFIX}/queue/join"
READ_ROUTES = re.compile(
    rf"/|/config|/(static|assets)/.+|/favicon\.ico|/robots\.txt|/manifest\.json|({API_PREFIX})?/theme\.css"
    rf"|{API_PREFIX}/(info|startup-events|queue/data|upload_progress|heartbeat/\w+)"
)
SEND_ROUTES = re.compile(rf"{API_PREFIX}/(queue/join|cancel|reset)|{UPLOAD_PATH}")
"""The paths that a page reads, and those that it sends to."""
MAX_BODY_BYTES = 1 << 18
"""Bytes of an event: one that chooses a face carries its thumbnail."""
MAX_UPLOAD_BYTES = 20 << 20
"""Bytes of an uploaded file."""
MAX_FOLDER_BYTES = 1 << 29
"""Bytes in the server's folder above which uploads are refused."""


class RequestFilter:
    """ASGI middleware. ``folder``: the server's own; ``hosts``: names that requests may carry (None: any); ``ended``: the server
    is ending.
    """

    def __init__(self, app: Any, folder: Path, hosts: Collection[str] | None, ended: threading.Event) -> None:
        self.app, self.folder, self.hosts = app, folder.resolve(), hosts
        self.streams = EventStreams(app, ended)
        self.active_uploads = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None

        async def send_with_headers(event: Any) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event["headers"], *RESPONSE_HEADERS]}
            await send(event)

        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._check_request(scope, headers)
        if refusal is not None:
            return await _send_answer(send_with_headers, *refusal)
        if scope["method"] != "POST":
            target = self.streams if scope["path"] == STREAM_PATH and scope["method"] == "GET" else self.app
            return await target(scope, receive, send_with_headers)
        if scope["path"] == UPLOAD_PATH:
            return await self._upload(scope, receive, send_with_headers)
        body = await _read_body(receive)
        if body is None:
            return await _send_answer(send_with_headers, 413, f"A request has {MAX_BODY_BYTES} bytes at most.")
        if (problem := self._check_body(body)) is not None:
            return await _send_answer(send_with_headers, 400, problem)
        await self.app(scope, _replay_body(body, receive), send_with_headers)
        if scope["path"] == EVENT_PATH:
            self.streams.notify(json.loads(body).get("session_hash"))

    def _check_request(self, scope: Any, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Return the status and reason of a refusal; None where the request may go on."""
        path, method = scope["path"], scope["method"]
        if self.hosts is not None and _parse_host(headers.get("host", "")) not in self.hosts:
            return 421, "This server isn't known by that name: open the address that it printed."
        if path.startswith(FILE_PREFIX) and method in ("GET", "HEAD") and self.contains(path.removeprefix(FILE_PREFIX)):
            return None
        allowed = READ_ROUTES if method in ("GET", "HEAD") else SEND_ROUTES if method == "POST" else None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if allowed is None or not allowed.fullmatch(path) or "deep_link" in query:
            return 404, "There is nothing here."
        if path == UPLOAD_PATH:
            size = headers.get("content-length", "")
            if not size.isdecimal() or int(size) > MAX_UPLOAD_BYTES + MAX_BODY_BYTES:
                return 413, f"A file has {MAX_UPLOAD_BYTES >> 20} MB at most."
            if self._count_bytes() + (self.active_uploads + 1) * MAX_UPLOAD_BYTES > MAX_FOLDER_BYTES:
                return 503, "Too many files are waiting here: try again in a minute."
        return None

    def contains(self, path: str) -> bool:
        """Return whether this is a path in the server's own folder."""
        with suppress(OSError, ValueError):
            return Path(path).is_absolute() and Path(path).resolve().is_relative_to(self.folder)
        return False

    def _count_bytes(self) -> int:
        total = 0
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # deleted meanwhile
                total += path.stat().st_size
        return total

    async def _upload(self, scope: Any, receive: Any, send: Any) -> None:
        self.active_uploads += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.active_uploads -= 1

    def _check_body(self, body: bytes) -> str | None:
        """Return why the body is refused: it is no JSON object, or names a file outside the server's folder."""
        try:
            event = json.loads(body)
            paths = [path for path in _find_paths(event) if path is not None]
        except (ValueError, RecursionError):
            return "The request is no JSON."
        if not isinstance(event, dict):
            return "The request is no JSON object."
        if not all(isinstance(path, str) and self.contains(path) for path in paths):
            return "The request names a file that was not uploaded."
        return None


def _parse_host(host: str) -> str | None:
    """Return the host without its port; None where it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _find_paths(value: Any) -> Iterator[Any]:
    """Yield the values of the keys "path" anywhere in a value."""
    if isinstance(value, dict):
        if "path" in value:
            yield value["path"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _find_paths(each)


async def _read_body(receive: Any) -> bytes | None:
    """Read the whole body; None where it is too long."""
    parts, size, more = [], 0, True
    while more:
        event = await receive()
        parts.append(event.get("body", b""))
        size += len(parts[-1])
        if size > MAX_BODY_BYTES:
            return None
        more = event.get("more_body", False)
    return b"".join(parts)


def _replay_body(body: bytes, receive: Any) -> Any:
    """Return a ``receive`` that gives the body again, which was read already."""
    replayed = False

    async def receive_again() -> Any:
        nonlocal replayed
        if replayed:
            return await receive()
        replayed = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


async def _send_answer(send: Any, status: int, text: str) -> None:
    body = json.dumps({"detail": text}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
