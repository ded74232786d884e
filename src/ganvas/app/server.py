"""The page served: on this machine unless told otherwise, with nothing asked of others and nothing left behind."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganvas.errors import GanvasError

if TYPE_CHECKING:
    from ganvas.app.workshop import Workshop

HERE = "127.0.0.1"
PORTS = range(7860, 7960)
BACKLOG = 128
MOST_UPLOAD = "20mb"
MOST_SESSIONS, MOST_QUEUED = 200, 1000
"""Visitors whose desks are kept (the oldest leave first), and events that wait in Gradio's own queue."""
CLEANING = (60, 3600)
"""Seconds: how often files are looked through, and how old those get that Gradio made."""
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
# Read when gradio is imported: no telemetry, no look for a newer version, no saved runs.
SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SHARE": "False",
}


@dataclass(frozen=True)
class Site:
    """Where the page is served; ``port`` None: the first free one from 7860 on."""

    host: str = HERE
    port: int | None = None
    browser: bool = False


@contextmanager
def serving(shop: Workshop, generator: str, editor: str | None = None, site: Site = Site()) -> Iterator[str]:
    """Serve the page while the block runs; yields its address. What it wrote is deleted at the end.

    Raises GanvasError for a generator or editor that isn't there, a port that is taken, and where gradio isn't installed.
    """
    shop.check(generator, editor or "")
    with closing(_listen(site)) as door, _environment() as folder:
        from ganvas.app.turns import Turns

        turns = Turns()
        try:
            with _answering(_page(shop, turns, folder, generator, editor), door):
                address = f"http://{_shown(site.host)}:{door.getsockname()[1]}"
                if site.browser:
                    webbrowser.open(address)
                yield address
        finally:
            turns.close()


@contextmanager
def _answering(demo: Any, door: socket.socket) -> Iterator[None]:
    """Serve a page on a socket. Not by ``launch``: that fails where a proxy is set, and on a machine that is busy."""
    import fastapi
    import gradio as gr
    import uvicorn
    from starlette.middleware import Middleware

    from ganvas.app import style

    app = gr.mount_gradio_app(
        fastapi.FastAPI(middleware=[Middleware(Guard)], openapi_url=None),
        demo,
        path="",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=MOST_UPLOAD,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=style.theme(),
        css=style.CSS,
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, name="ganvas-app-server", daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield
    finally:
        server.should_exit = True
        thread.join()


def _listen(site: Site) -> socket.socket:
    """A socket at the place. Raises GanvasError where there is none."""
    family = socket.AF_INET6 if ":" in site.host else socket.AF_INET
    reason = ""
    for port in PORTS if site.port is None else (site.port,):
        door = socket.socket(family, socket.SOCK_STREAM)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            door.bind((site.host, port))
            door.listen(BACKLOG)
        except (OSError, OverflowError) as error:
            door.close()
            reason = str(error)
            continue
        return door
    where = f"{site.host}, ports {PORTS[0]} to {PORTS[-1]}" if site.port is None else f"{site.host}:{site.port}"
    raise GanvasError(f"Can't listen on {where}: {reason}.")


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def is_local(host: str) -> bool:
    """Whether only this machine reaches ``host``. Raises GanvasError for what is no address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        raise GanvasError(
            f"{host!r} is no address to listen on: 127.0.0.1, 0.0.0.0, or one of this machine's."
        ) from None


def _page(shop: Workshop, turns: Any, folder: Path, generator: str, editor: str | None) -> Any:
    """The page, wired; its first face is drawn already."""
    import gradio as gr

    from ganvas.app.compare import Methods
    from ganvas.app.doors import Doors
    from ganvas.app.groups import grouped
    from ganvas.app.hands import Hands
    from ganvas.app.looks import Looks
    from ganvas.app.page import TITLE, build
    from ganvas.app.photo import Photos
    from ganvas.app.scene import Scene
    from ganvas.app.wires import Wires
    from ganvas.recipe import FromSeed

    names = [name for group in grouped(shop.attributes()).values() for name in group]
    first = Scene(generator, editor or shop.default_editor(generator), FromSeed(0), dtype=shop.place.dtype)
    hands = Hands(shop, turns, folder, names)
    # Before anybody opens the page: the generator loaded, its first face drawn.
    turns.ask("the server", lambda: shop.render(first)).result()
    generators = [(f"{name}: {about}", name) for name, about in shop.place.abouts.items()]
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=CLEANING) as demo:
        desk = gr.State(None, delete_callback=hands.leave)
        page = build(desk, generators, names)
        Wires(page, hands, Doors(hands, first), Looks(hands, Methods(shop)), Photos(hands)).wire(demo)
    demo.queue(default_concurrency_limit=None, max_size=MOST_QUEUED)
    demo.state_session_capacity = MOST_SESSIONS
    return demo


class Guard:
    """Says with each answer what browsers may load, and that nothing is told to other sites."""

    HEADERS = (
        (b"content-security-policy", POLICY.encode()),
        (b"referrer-policy", b"same-origin"),
        (b"x-content-type-options", b"nosniff"),
    )

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """One request."""

        async def guarded(event: Any) -> None:
            if event["type"] == "http.response.start":
                event = {**event, "headers": [*event["headers"], *self.HEADERS]}
            await send(event)

        await self.app(scope, receive, guarded)


@contextmanager
def _environment() -> Iterator[Path]:
    """A folder of its own for all files, and gradio told to ask nobody anything; all put back at the end."""
    folder = Path(tempfile.mkdtemp(prefix="ganvas-app-"))
    wanted = {**SETTINGS, "GRADIO_TEMP_DIR": str(folder)}
    old = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        _check_gradio()
        yield folder
    finally:
        for name, value in old.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(folder, ignore_errors=True)


def _check_gradio() -> None:
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise GanvasError("The web editor needs gradio: pip install 'ganvas[app]'.") from None
