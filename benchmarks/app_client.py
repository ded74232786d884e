"""A visitor without a browser, for tests and measurements: speaks Gradio's queue as its pages do.

https://github.com/gradio-app/gradio/blob/main/client/js/src/utils/submit.ts: an event is joined to the queue (POST), its
messages come as server-sent events (GET).
"""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import httpx

from ganvas.errors import GanvasError

PATIENCE = 600.0
"""Seconds."""


class AppClient:
    """One browser tab at ``address``. ``open`` comes first."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.session = secrets.token_hex(5)
        # No connection is kept: the server may close one just as the next request is sent.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.http = httpx.Client(timeout=PATIENCE, trust_env=False, limits=limits)
        self.config: dict[str, Any] = {}
        self.seconds = 0.0
        """What the last event took, from its request to its last message."""

    def open(self, query: str = "") -> dict[str, Any]:
        """Load the page and send its first event; returns what that showed, by ``elem_id``."""
        self.http.get(f"{self.address}/").raise_for_status()
        self.config = self.http.get(f"{self.address}/config").raise_for_status().json()
        return self.send("", "load", query=query)

    def send(self, name: str, event: str, *values: Any, query: str = "", about: Any = None) -> dict[str, Any]:
        """Send the event of the component ``elem_id`` and wait for it; states are filled in.

        Returns the raw values by ``elem_id``. Raises GanvasError with what the page said where it failed.
        """
        wired = self.wired(name, event)
        given = iter(values)
        states = {part["id"] for part in self.config["components"] if part["type"] == "state"}
        data = [None if number in states else next(given) for number in wired["inputs"]]
        return self.call(wired["id"], data, wired["outputs"], query=query, about=about)

    def after(self, name: str, event: str) -> dict[str, Any]:
        """Send what follows an event, as its page would (the full picture after a preview)."""
        first = self.wired(name, event)["id"]
        wired = next(w for w in self.config["dependencies"] if w.get("trigger_after") == first)
        return self.call(wired["id"], [None] * len(wired["inputs"]), wired["outputs"])

    def wired(self, name: str, event: str) -> dict[str, Any]:
        """Gradio's description of an event."""
        ids = {part["id"] for part in self.config["components"] if part["props"].get("elem_id") == name}
        for found in self.config["dependencies"]:
            if any(kind == event and (not name or number in ids) for number, kind in found["targets"]):
                return found
        raise GanvasError(f"The page has no event {event!r} of {name!r}.")

    def call(
        self, index: int, data: list[Any], outputs: list[int], query: str = "", about: Any = None
    ) -> dict[str, Any]:
        """One event by its number."""
        began = time.perf_counter()
        asked = {"data": data, "fn_index": index, "session_hash": self.session, "event_data": about, "trigger_id": None}
        joined = self.http.post(f"{self.address}/gradio_api/queue/join{query}", json=asked)
        if joined.status_code != 200:
            raise GanvasError(f"The server refused: {joined.status_code} {joined.text[:200]}")
        wanted = joined.json()["event_id"]
        done = self._wait(wanted)
        self.seconds = time.perf_counter() - began
        if not done["success"]:
            raise GanvasError(str(done["output"].get("error")))
        names = {
            part["id"]: part["props"].get("elem_id") or f"{part['type']}-{part['id']}"
            for part in self.config["components"]
        }
        return {names[number]: value for number, value in zip(outputs, done["output"]["data"], strict=True)}

    def _wait(self, wanted: str) -> dict[str, Any]:
        address = f"{self.address}/gradio_api/queue/data"
        with self.http.stream("GET", address, params={"session_hash": self.session}) as stream:
            for line in stream.iter_lines():
                if not line.startswith("data:"):
                    continue
                told = json.loads(line.removeprefix("data:"))
                if told.get("event_id") == wanted and told["msg"] == "process_completed":
                    return told
                if told["msg"] in ("unexpected_error", "server_stopped"):
                    raise GanvasError(str(told.get("message")))
        raise GanvasError("The server ended the conversation.")

    def close(self) -> None:
        """Leave."""
        self.http.close()
