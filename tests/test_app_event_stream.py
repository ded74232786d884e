"""A page's stream of answers stays open although Gradio ends it."""

import asyncio
import json
import threading

import pytest

from ganvas.app.event_stream import EventStreams

SCOPE = {"type": "http", "method": "GET", "path": "/gradio_api/queue/data", "query_string": b"session_hash=me"}


def encode_message(**parts) -> bytes:
    return b"data: " + json.dumps(parts, separators=(",", ":")).encode() + b"\n\n"


class FakeGradio:
    """As Gradio: each call sends one answer, then says that the stream is closed."""

    def __init__(self, status: int = 200) -> None:
        self.status, self.calls = status, 0

    async def __call__(self, scope, receive, send) -> None:
        self.calls += 1
        scope["touched"] = True
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        for body in (
            encode_message(msg="process_completed", event_id=self.calls, name="close_stream"),
            encode_message(msg="close_stream"),
        ):
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def visit(app: FakeGradio, joins: int) -> list[dict]:
    """Return what a page receives that sends ``joins`` more events, and leaves."""
    sent: list[dict] = []
    leaving = asyncio.Event()

    async def receive() -> dict:
        await leaving.wait()
        return {"type": "http.disconnect"}

    async def send(event) -> None:
        sent.append(event)

    streams, scope = EventStreams(app, threading.Event()), dict(SCOPE)
    stream = asyncio.ensure_future(streams(scope, receive, send))
    for calls in range(1, joins + 2):
        while app.calls < calls or (app.status == 200 and not streams.waiting):
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        streams.notify("somebody else")
        streams.notify(None)
        if calls <= joins:
            streams.notify("me")
    leaving.set()
    await asyncio.wait_for(stream, 5)
    assert not streams.waiting and "touched" not in scope
    return sent


def test_all_answers_come_in_one_stream_until_the_page_leaves():
    app = FakeGradio()
    sent = asyncio.run(visit(app, 3))
    assert app.calls == 4
    assert [event["type"] for event in sent].count("http.response.start") == 1
    bodies = b"".join(event.get("body", b"") for event in sent)
    assert bodies == b"".join(
        encode_message(msg="process_completed", event_id=i, name="close_stream") for i in (1, 2, 3, 4)
    )
    assert all(event.get("more_body", True) for event in sent[:-1]) and not sent[-1].get("more_body", False)


@pytest.mark.parametrize("status", [404, 503])
def test_a_refusal_ends_at_once(status):
    app = FakeGradio(status)
    sent = asyncio.run(visit(app, 0))
    assert app.calls == 1 and sent[0]["status"] == status


@pytest.mark.parametrize("answers", [0, 1])
def test_a_server_that_ends_ends_its_streams(answers):
    """Those that wait for an event, and those that wait for an answer."""
    ended = threading.Event()

    class Slow(FakeGradio):
        async def __call__(self, scope, receive, send) -> None:
            if self.calls < answers:
                return await super().__call__(scope, receive, send)
            self.calls += 1
            await asyncio.sleep(100)

    async def run() -> None:
        streams = EventStreams(app := Slow(), ended)
        stream = asyncio.ensure_future(streams(dict(SCOPE), asyncio.Event().wait, lambda event: asyncio.sleep(0)))
        while not app.calls:
            await asyncio.sleep(0.01)
        ended.set()
        await asyncio.wait_for(stream, 5)

    asyncio.run(run())
