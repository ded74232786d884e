"""Check what requests send: the routes they ask for, the files they name, and the values of components.

Gradio's server answers far more than this page needs: it fetches URLs for whoever asks, writes files for links to a page's
state, and serves pages of its own. Only what the page itself needs gets through, under the host names of the server.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import logging
import re
import secrets
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs, quote, urlsplit

import numpy as np
import torch
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse

from ganvas.errors import GanvasError
from ganvas.io.images import from_bytes, open_picture
from ganvas.recipe.rendering import EditMask

T = TypeVar("T")
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
READ_ROUTES = re.compile(
    rf"/|/config|/(static|assets)/.+|/favicon\.ico|/robots\.txt|/manifest\.json|({API_PREFIX})?/theme\.css"
    rf"|{API_PREFIX}/(info|startup-events|queue/data|upload_progress)"
)
SEND_ROUTES = re.compile(rf"{API_PREFIX}/(queue/join|cancel|reset)|{UPLOAD_PATH}")
"""The paths that a page reads, and those that it sends to."""
PREFIXED_ROUTES = re.compile(r"((?:/[\w.~-]+)+?)/(?:config)?")
"""Paths of a page that a proxy puts below another path."""
MAX_EVENT_BYTES = 1 << 18
"""Bytes of an event: one that chooses a face carries its thumbnail."""
MAX_UPLOAD_BYTES = 20 << 20
"""Bytes of an uploaded file."""
MAX_FOLDER_BYTES = 1 << 29
"""Bytes in the server's folder above which uploads are refused."""
FILE_SECONDS = 3600
"""Seconds after which uploads that no handler claimed, and downloads, are deleted."""
SESSION_PREFIX, CLAIM_PREFIX = "session-", "claim-"
"""Folders of sessions, and of uploads that a handler is reading; all else comes from uploads."""
PHOTO_SUFFIXES, RECIPE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp"), (".json", ".png")
"""The kinds of files that are accepted."""
MAX_TEXT_LENGTH = 200
"""Characters of a name or a search."""
MAX_NAMES = 100
MAX_MASK_PIXELS = 1 << 18
"""Pixels of a painted region."""


MAX_HINTS = 20
"""Different hints that are printed about refused requests: whoever sends them chooses what is printed."""


# Requests.


class RequestFilter:
    """ASGI middleware.

    ``folder``: the server's own; ``hosts``: names that requests may carry, also as ``*.example.org`` (None: any);
    ``prefix``: a path that a proxy may leave in front of the page's own; ``password``: None for none.
    """

    def __init__(
        self,
        app: Any,
        folder: Path,
        hosts: Collection[str] | None,
        prefix: str = "",
        password: str | None = None,
    ) -> None:
        self.app, self.folder, self.hosts = app, folder.resolve(), hosts
        self.prefix, self.password = prefix, password
        self._hints: set[str] = set()

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

        if self.prefix and scope["path"].startswith(f"{self.prefix}/"):
            path = scope["path"].removeprefix(self.prefix)
            scope = {**scope, "path": path, "raw_path": quote(path).encode()}
        refusal = self._check_request(scope, Headers(scope=scope))
        if refusal is None and scope["method"] == "POST" and scope["path"] != UPLOAD_PATH:
            body = await Request(scope, receive).body()
            refusal = self._check_event(body)
            receive = _replay(body, receive)
        if refusal is not None:
            status, reason = refusal
            asked = {"WWW-Authenticate": 'Basic realm="ganvas", charset="UTF-8"'} if status == 401 else None
            return await JSONResponse({"detail": reason}, status, asked)(scope, receive, send_with_headers)
        await self.app(scope, receive, send_with_headers)

    def _check_request(self, scope: Any, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """Return the status and reason of a refusal; None where the request may go on."""
        path, method = scope["path"], scope["method"]
        host = _parse_host(headers.get("host", ""))
        if self.hosts is not None and not any(fnmatchcase(host or "", allowed) for allowed in self.hosts):
            if host and re.fullmatch(r"[\w.:-]+", host):
                self._print_hint(f"Refused a request for the host {host!r}: `--allow-host {host}` lets it in.")
            return 421, "This server isn't known by that name: open the address that it printed."
        if self.password is not None and not _has_password(headers.get("authorization", ""), self.password):
            return 401, "This page needs its password; any user name will do."
        if path.startswith(FILE_PREFIX) and method in ("GET", "HEAD") and self.contains(path.removeprefix(FILE_PREFIX)):
            return None
        allowed = READ_ROUTES if method in ("GET", "HEAD") else SEND_ROUTES if method == "POST" else None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if allowed is None or not allowed.fullmatch(path) or "deep_link" in query:
            if method == "GET" and (below := PREFIXED_ROUTES.fullmatch(path)):
                hint = f"`--root-path {below[1]}` serves the page there."
                self._print_hint(f"Refused a request for the path {path!r}: {hint}")
            return 404, "There is nothing here."
        if method == "POST":
            # Gradio bounds each file of a request, but neither their number nor an event.
            most = MAX_EVENT_BYTES + (MAX_UPLOAD_BYTES if path == UPLOAD_PATH else 0)
            size = headers.get("content-length", "")
            # In chunks a body may be longer than the header says.
            if "transfer-encoding" in headers or not size.isdecimal() or int(size) > most:
                return 413, f"A request has {MAX_EVENT_BYTES >> 10} kB at most, and a file {MAX_UPLOAD_BYTES >> 20} MB."
        if path == UPLOAD_PATH and _count_bytes(self.folder) + MAX_UPLOAD_BYTES > MAX_FOLDER_BYTES:
            return 503, "Too many files are waiting here: try again later."
        return None

    def _print_hint(self, hint: str) -> None:
        """Print which option lets a request in, once, on the console."""
        if hint not in self._hints and len(self._hints) < MAX_HINTS and len(hint) < 2 * MAX_TEXT_LENGTH:
            self._hints.add(hint)
            logging.getLogger(__name__).warning(hint)

    def contains(self, path: str) -> bool:
        """Return whether this is a path in the server's own folder."""
        with suppress(OSError, ValueError):
            return Path(path).is_absolute() and Path(path).resolve().is_relative_to(self.folder)
        return False

    def _check_event(self, body: bytes) -> tuple[int, str] | None:
        """Return the refusal of a body that is no JSON object, or names a file outside the server's folder."""
        try:
            event = json.loads(body)
            paths = [path for path in _find_paths(event) if path is not None]
        except (ValueError, RecursionError):
            return 400, "The request is no JSON."
        if not isinstance(event, dict):
            return 400, "The request is no JSON object."
        if not all(isinstance(path, str) and self.contains(path) for path in paths):
            return 400, "The request names a file that was not uploaded."
        return None


def _parse_host(host: str) -> str | None:
    """Return the host without its port; None where it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _has_password(authorization: str, password: str) -> bool:
    """Return whether the header of HTTP's basic authentication carries the password."""
    scheme, _, encoded = authorization.partition(" ")
    try:
        given = base64.b64decode(encoded, validate=True)
    except binascii.Error:
        return False
    return scheme.lower() == "basic" and secrets.compare_digest(given.partition(b":")[2], password.encode())


def _find_paths(value: Any) -> Iterator[Any]:
    """Yield the values of the keys "path" anywhere in a value."""
    if isinstance(value, dict):
        if "path" in value:
            yield value["path"]
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _find_paths(each)


def _replay(body: bytes, receive: Any) -> Any:
    """Return a ``receive`` that gives the body again, which was read already."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive_again() -> Any:
        return next(messages, None) or await receive()

    return receive_again


# Uploads.


def _count_bytes(folder: Path) -> int:
    """Return the bytes in the folder. Uploads that were broken off, which Gradio leaves there, are deleted when old."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # deleted meanwhile
            total += path.stat().st_size
            if path.parent == folder and path.is_file() and path.stat().st_mtime < time.time() - FILE_SECONDS:
                path.unlink()
    return total


@contextmanager
def claim_upload(upload: Any, folder: Path, suffixes: Collection[str]) -> Iterator[Path]:
    """Move an upload to a folder of its own, apart from others of the same content and name; it is deleted at the end.

    Raises GanvasError for what is no upload, and for a file of another kind than ``suffixes``, which is deleted, too.
    """
    path = upload.get("path") if isinstance(upload, dict) else upload
    if not isinstance(path, str):
        raise GanvasError("No file came with the request: upload it again.")
    path, folder = Path(path), folder.resolve()
    if path.resolve() == folder or not path.resolve().is_relative_to(folder):
        raise GanvasError(f"{path.name!r} is no file that was uploaded.")
    if path.is_dir() or path.resolve().relative_to(folder).parts[0].startswith((SESSION_PREFIX, CLAIM_PREFIX)):
        raise GanvasError(f"{path.name!r} is no file that was uploaded.")
    own = folder / f"{CLAIM_PREFIX}{secrets.token_hex(8)}"
    own.mkdir()
    try:
        if path.suffix.lower() not in suffixes:
            path.unlink(missing_ok=True)
            raise GanvasError(f"{path.name!r} is another kind of file: pick one of {', '.join(suffixes)}.")
        try:
            moved = path.rename(own / path.name)
        except OSError:
            raise GanvasError(f"{path.name!r} isn't here any more: upload it again.") from None
        yield moved
    finally:
        shutil.rmtree(own, ignore_errors=True)


# Values of components.


def check_number(what: str, value: Any, low: float, high: float) -> float:
    """Return a finite number between two. Raises GanvasError for anything else."""
    if type(value) not in (int, float) or not low <= value <= high:
        given = "an empty field" if value is None else repr(value)[:MAX_TEXT_LENGTH]
        raise GanvasError(f"{what} takes a finite number from {low:g} to {high:g}, not {given}.")
    return float(value)


def check_integer(what: str, value: Any, low: int, high: int) -> int:
    """Return a whole number between two. Raises GanvasError for anything else."""
    number = check_number(what, value, low, high)
    if number != int(number):
        raise GanvasError(f"{what} takes a whole number, not {value:g}.")
    return int(number)


def check_text(what: str, value: Any) -> str:
    """Return a line of text. Raises GanvasError for anything else."""
    if not isinstance(value, str) or len(value) > MAX_TEXT_LENGTH:
        raise GanvasError(f"{what} takes a text of {MAX_TEXT_LENGTH} characters at most.")
    return value


def get_choice(event: Any, shown: Sequence[T]) -> T:
    """Return which of the pictures that a page shows was clicked. Raises GanvasError where it isn't one of them."""
    index = getattr(event, "index", None)
    if type(index) is not int or not 0 <= index < len(shown):
        raise GanvasError("That picture isn't on the page any more: pick another.")
    return shown[index]


def read_mask(url: Any) -> EditMask:
    """Read a painted mask, the alpha channel of a PNG in a data URL. Raises GanvasError for anything else."""
    prefix = "data:image/png;base64,"
    if not isinstance(url, str) or not url.startswith(prefix):
        raise GanvasError("A painted region is sent as a PNG.")
    try:
        data = io.BytesIO(base64.b64decode(url.removeprefix(prefix), validate=True))
    except binascii.Error:
        raise GanvasError("The painted region is damaged: paint it again.") from None
    with open_picture(data, ("PNG",), MAX_MASK_PIXELS, origin="The painted region") as picture:
        alpha = torch.from_numpy(np.array(picture.convert("RGBA").getchannel("A")))
    if not alpha.any():
        raise GanvasError("Nothing is painted yet: paint where edits may change the picture.")
    return EditMask.from_picture(from_bytes(alpha[None, :, :, None].expand(-1, -1, -1, 3)))


def check_names(what: str, value: Any) -> list[str]:
    """Return names without repetitions, none for None. Raises GanvasError for anything else."""
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_NAMES:
        raise GanvasError(f"{what} takes a list of {MAX_NAMES} names at most.")
    return list(dict.fromkeys(check_text(what, name) for name in value))
