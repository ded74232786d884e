"""The page served: on this machine unless told otherwise, with nothing asked of others and nothing left behind."""

from __future__ import annotations

import os
import socket
import threading
import time
import webbrowser
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ganvas.app.request_filter import MAX_UPLOAD_BYTES, RequestFilter
from ganvas.app.server_folder import create_folder, delete_uploads
from ganvas.errors import GanvasError

if TYPE_CHECKING:
    from ganvas.app.photo_handlers import PhotoHandlers
    from ganvas.app.resources import AppResources
    from ganvas.app.scene import Scene
    from ganvas.app.session_store import SessionStore
    from ganvas.app.work_queue import WorkQueue

LOCAL_HOST = "127.0.0.1"
PORTS = range(7860, 7960)
BACKLOG = 128
MAX_QUEUED = 1000
"""Events that Gradio holds: those that wait for ``work_queue`` are among them."""
SWEEP_SECONDS = 10.0
"""Seconds after which the folder is swept again."""
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

    host: str = LOCAL_HOST
    port: int | None = None
    browser: bool = False


@contextmanager
def serve(shop: AppResources, generator: str, editor: str | None = None, site: Site = Site()) -> Iterator[str]:
    """Serve the page while the block runs; yields its address. What it wrote is deleted at the end.

    Raises GanvasError for a generator or editor that isn't there, a port that is taken, and where gradio isn't installed.
    """
    shop.check(generator, editor or "")
    with (
        closing(_listen(site)) as door,
        create_folder() as folder,
        _environment(folder),
        _working(shop, folder, generator, editor) as demo,
        _answering(demo, door, folder, site),
    ):
        port = door.getsockname()[1]
        address = f"http://{_shown(site.host)}:{port}"
        if site.browser:
            webbrowser.open(address)
        yield address


@contextmanager
def _working(shop: AppResources, folder: Path, generator: str, editor: str | None) -> Iterator[Any]:
    """The page, and who works for it."""
    from ganvas.app import rendering
    from ganvas.app.scene import Scene
    from ganvas.app.session_store import SessionStore
    from ganvas.app.work_queue import WorkQueue
    from ganvas.recipe.model import FromSeed

    desks = SessionStore(folder)
    first = Scene(generator, editor or shop.default_editor(generator), FromSeed(0), dtype=shop.place.dtype)
    # The one that draws is closed first: others may be waiting for its pictures.
    with (
        closing(WorkQueue()) as lessons,
        closing(WorkQueue()) as beside,
        closing(WorkQueue()) as turns,
        _swept(folder, desks),
    ):
        # Before anybody opens the page: the generator loaded, its first face drawn.
        turns.ask("the server", lambda: rendering.render_full(shop, first)).result()
        demo, photos = _page(shop, (turns, beside, lessons), desks, first)
        with closing(photos):
            yield demo


@contextmanager
def _swept(folder: Path, desks: SessionStore) -> Iterator[None]:
    """Delete what was left lying, every now and then while the block runs."""
    ended = threading.Event()

    def serve() -> None:
        while not ended.wait(SWEEP_SECONDS):
            delete_uploads(folder)
            desks.clear()

    thread = threading.Thread(target=serve, name="ganvas-app-sweeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _answering(demo: Any, door: socket.socket, folder: Path, site: Site) -> Iterator[None]:
    """Serve a page on a socket. Not by ``launch``: that fails where a proxy is set, and on a machine that is busy."""
    import fastapi
    import gradio as gr
    import uvicorn
    from starlette.middleware import Middleware

    from ganvas.app import theme

    ended = threading.Event()
    guard = Middleware(RequestFilter, folder=folder, names=names_of(site.host), ended=ended)
    app = gr.mount_gradio_app(
        fastapi.FastAPI(middleware=[guard], openapi_url=None),
        demo,
        path="",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=MAX_UPLOAD_BYTES,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=theme.theme(),
        css=theme.CSS,
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]}, name="ganvas-app-server", daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        if not server.started:
            raise GanvasError("The web editor's server did not start: its log above says why.")
        yield
    finally:
        ended.set()
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


def names_of(host: str) -> set[str] | None:
    """What a server at ``host`` may be asked as. None: anything, where others reach it by names that aren't known here.

    Another site's page can have a browser ask this machine under that site's own name (DNS rebinding): not where the name
    is looked at.
    """
    return {host, LOCAL_HOST, "::1", "localhost"} if is_local(host) else None


def _page(
    shop: AppResources, workers: tuple[WorkQueue, WorkQueue, WorkQueue], desks: SessionStore, first: Scene
) -> tuple[Any, PhotoHandlers]:
    """The page, wired, and its photographs. ``workers`` draw, write files and learn methods."""
    import gradio as gr

    from ganvas.app.attribute_groups import group_attributes
    from ganvas.app.compare import MethodEditors
    from ganvas.app.edit_handlers import EditHandlers
    from ganvas.app.event_wiring import EventWiring
    from ganvas.app.layout import TITLE, build_page
    from ganvas.app.navigation_handlers import NavigationHandlers
    from ganvas.app.photo_handlers import PhotoHandlers
    from ganvas.app.session_store import MAX_SESSIONS
    from ganvas.app.tab_handlers import TabHandlers

    turns, beside, lessons = workers
    names = [name for group in group_attributes(shop.attributes()).values() for name in group]
    hands = EditHandlers(shop, turns, beside, desks, names)
    generators = [(f"{name}: {about}", name) for name, about in shop.place.abouts.items()]
    photos = PhotoHandlers(hands)
    with gr.Blocks(title=TITLE, analytics_enabled=False) as demo:
        page = build_page(generators, names)
        EventWiring(
            page, hands, NavigationHandlers(hands, first), TabHandlers(hands, MethodEditors(shop), lessons), photos
        ).wire(demo)
    # Events that wait for a worker hold a job each, but no thread: as many as may be queued.
    demo.max_threads = MAX_QUEUED
    demo.queue(default_concurrency_limit=None, max_size=MAX_QUEUED)
    demo.state_session_capacity = MAX_SESSIONS
    # Only then does Gradio check which files a request may name; ``launch`` would say so.
    demo.has_launched = True
    return demo, photos


@contextmanager
def _environment(folder: Path) -> Iterator[None]:
    """Gradio told to keep its files in the folder and to ask nobody anything; all put back at the end."""
    wanted = {**SETTINGS, "GRADIO_TEMP_DIR": str(folder)}
    old = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        _check_gradio()
        yield
    finally:
        for name, value in old.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _check_gradio() -> None:
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise GanvasError("The web editor needs gradio: pip install 'ganvas[app]'.") from None
