"""A client of the web editor without a browser, for tests and benchmarks: it speaks the protocol of Gradio's queue.

https://github.com/gradio-app/gradio/blob/main/client/js/src/utils/submit.ts: an event is joined to the queue (POST), its
messages come as server-sent events (GET) in one stream, which is opened with the first event.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx

from ganvas.errors import GanvasError

TIMEOUT_SECONDS = 600.0


class AppClient:
    """One browser tab at ``address``. Call ``open`` first."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.session = secrets.token_hex(5)
        # No connection is kept: the server may close one just as the next request is sent.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False, limits=limits)
        self.config: dict[str, Any] = {}
        self.seconds = 0.0
        """Duration of the last event, from its request to its last message."""
        self._stream = ExitStack()
        self._lines: Iterator[str] | None = None

    def open(self, query: str = "") -> dict[str, Any]:
        """Load the page and send its first event; returns the values that it showed, by ``elem_id``."""
        self.http.get(f"{self.address}/").raise_for_status()
        self.config = self.http.get(f"{self.address}/config").raise_for_status().json()
        return self.send("", "load", query=query)

    def send(self, name: str, event: str, *values: Any, query: str = "", event_data: Any = None) -> dict[str, Any]:
        """Send the event of the component ``elem_id`` and wait for its answer; states are filled in.

        Returns the raw values by ``elem_id``. Raises GanvasError with the page's message where it failed.
        """
        dependency = self.find_event(name, event)
        remaining = iter(values)
        states = {part["id"] for part in self.config["components"] if part["type"] in ("state", "browserstate")}
        data = [None if number in states else next(remaining) for number in dependency["inputs"]]
        return self.call(dependency["id"], data, dependency["outputs"], query=query, event_data=event_data)

    def send_followup(self, name: str, event: str) -> dict[str, Any]:
        """Send what follows an event, as the page would (the full picture after a preview)."""
        first = self.find_event(name, event)["id"]
        following = next(d for d in self.config["dependencies"] if d.get("trigger_after") == first)
        return self.call(following["id"], [None] * len(following["inputs"]), following["outputs"])

    def find_event(self, name: str, event: str) -> dict[str, Any]:
        """Return Gradio's description of an event. Raises GanvasError where the page has none."""
        ids = {part["id"] for part in self.config["components"] if part["props"].get("elem_id") == name}
        for dependency in self.config["dependencies"]:
            if any(kind == event and (not name or number in ids) for number, kind in dependency["targets"]):
                return dependency
        raise GanvasError(f"The page has no event {event!r} of {name!r}.")

    def call(
        self, index: int, data: list[Any], outputs: list[int], query: str = "", event_data: Any = None
    ) -> dict[str, Any]:
        """Send an event by its number and wait for its answer."""
        began = time.perf_counter()
        request = {
            "data": data,
            "fn_index": index,
            "session_hash": self.session,
            "event_data": event_data,
            "trigger_id": None,
        }
        joined = self.http.post(f"{self.address}/gradio_api/queue/join{query}", json=request)
        if joined.status_code != 200:
            raise GanvasError(f"The server refused: {joined.status_code} {joined.text[:200]}")
        done = self._wait_for(joined.json()["event_id"])
        self.seconds = time.perf_counter() - began
        if not done["success"]:
            raise GanvasError(str(done["output"].get("error")))
        names = {
            part["id"]: part["props"].get("elem_id") or f"{part['type']}-{part['id']}"
            for part in self.config["components"]
        }
        return {names[number]: value for number, value in zip(outputs, done["output"]["data"], strict=True)}

    def _wait_for(self, event_id: str) -> dict[str, Any]:
        if self._lines is None:
            address, query = f"{self.address}/gradio_api/queue/data", {"session_hash": self.session}
            self._lines = self._stream.enter_context(self.http.stream("GET", address, params=query)).iter_lines()
        for line in self._lines:
            if not line.startswith("data:"):
                continue
            message = json.loads(line.removeprefix("data:"))
            if message.get("event_id") == event_id and message["msg"] == "process_completed":
                return message
            if message["msg"] in ("unexpected_error", "server_stopped"):
                raise GanvasError(str(message.get("message")))
        raise GanvasError("The server closed the stream before the event's answer.")

    def close(self) -> None:
        """Close the connections."""
        self._stream.close()
        self.http.close()
