"""Serve the page: on this machine unless configured otherwise, without requests to others, and without files left behind."""

from __future__ import annotations

import logging
import os
import re
import shutil
import socket
import tempfile
import threading
import time
import webbrowser
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ganvas.errors import GanvasError

if TYPE_CHECKING:
    from ganvas.app.resources import AppResources
    from ganvas.app.scene import Scene
    from ganvas.app.session import WorkQueue
    from ganvas.app.storage import AppStorage

LOCAL_HOST = "127.0.0.1"
DEFAULT_PORTS = range(7860, 7960)
LISTEN_BACKLOG = 128
MAX_QUEUED_EVENTS = 1000
"""Events that Gradio holds, those that wait for a work queue among them."""
MAX_SESSIONS = 200
"""Sessions that are kept; those that were used longest ago are removed first."""
CLEANUP_SECONDS = 60
"""Seconds between two deletions of old files."""
FOLDER_PREFIX = "ganvas-app-"
# Read when gradio is imported: no telemetry, no check for a newer version, no saved runs.
GRADIO_ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SHARE": "False",
}


@dataclass(frozen=True)
class ServerConfig:
    """Where the page is served. ``port`` None: the first free one from 7860 on. ``browser``: open it in one."""

    host: str = LOCAL_HOST
    port: int | None = None
    browser: bool = False
    root_path: str = ""
    """The path, or the whole address, at which a proxy shows the page."""
    allowed_hosts: tuple[str, ...] = ()
    """Further names that requests may carry, also as ``*.example.org``."""
    password: str | None = field(default=None, repr=False)
    """What visitors have to give, with any user name."""
    storage: Path | None = None
    """The folder of what outlasts a reload and a restart; None: the user's own."""

    def __post_init__(self) -> None:
        """Raise GanvasError for a path, a name or a password that can't be one."""
        if self.root_path and not re.fullmatch(r"(https?://[^/?#\s]+)?(/[^/?#\s]+)*/?", self.root_path):
            raise GanvasError(f"The root path is a path like /ganvas or a whole address, not {self.root_path!r}.")
        for name in self.allowed_hosts:
            if not re.fullmatch(r"[\w.*-]+|[\da-fA-F:]+", name):
                raise GanvasError(f"An allowed host is a name like example.org or *.example.org, not {name!r}.")
        if self.password == "":
            raise GanvasError("The password is empty: give one, or leave the option out.")


@contextmanager
def serve(
    resources: AppResources, generator: str, editor: str | None = None, config: ServerConfig = ServerConfig()
) -> Iterator[str]:
    """Serve the page while the block runs, and yield its address. Its files are deleted at the end.

    Raises GanvasError for an unknown generator or editor, a port that is taken, and where gradio isn't installed.
    """
    resources.check_names(generator, editor or "")
    with (
        closing(_open_listener(config)) as listener,
        create_folder() as folder,
        _set_environment(folder),
        _start_app(resources, folder, config, generator, editor) as demo,
        _run_server(demo, listener, folder, config),
    ):
        address = f"http://{_format_host(config.host)}:{listener.getsockname()[1]}"
        if config.browser:
            webbrowser.open(address)
        yield address


@contextmanager
def _start_app(
    resources: AppResources, folder: Path, config: ServerConfig, generator: str, editor: str | None
) -> Iterator[Any]:
    """Start the work queues, render the first picture, and yield the page."""
    from ganvas.app.rendering import render_full
    from ganvas.app.scene import Scene
    from ganvas.app.session import WorkQueue
    from ganvas.app.storage import AppStorage, find_storage_folder
    from ganvas.recipe.model import FromSeed

    editor = editor or resources.get_default_editor(generator)
    first = Scene(generator, editor, FromSeed(0), dtype=resources.sources.dtype)
    with closing(WorkQueue()) as background_queue, closing(WorkQueue()) as generator_queue:
        # The generator is loaded and its first face drawn before anybody opens the page.
        generator_queue.submit(lambda: render_full(resources, first)).result()
        storage = AppStorage(config.storage or find_storage_folder())
        yield build_app(resources, (generator_queue, background_queue), folder, storage, first)


@contextmanager
def _run_server(demo: Any, listener: socket.socket, folder: Path, config: ServerConfig) -> Iterator[None]:
    """Serve the page on a socket. Gradio's ``launch`` isn't used: it fails where a proxy is set, and on a busy machine."""
    import fastapi
    import gradio as gr
    import uvicorn
    from starlette.middleware import Middleware

    from ganvas.app import layout
    from ganvas.app.request_checks import MAX_UPLOAD_BYTES, RequestFilter

    root_path = config.root_path.rstrip("/")
    request_filter = Middleware(
        RequestFilter,
        folder=folder,
        hosts=list_allowed_hosts(config.host, config.allowed_hosts),
        prefix=urlsplit(root_path).path,
        password=config.password,
    )
    app = gr.mount_gradio_app(
        fastapi.FastAPI(middleware=[request_filter], openapi_url=None),
        demo,
        path="",
        root_path=root_path or None,
        head=f"<script>{layout.read_static('page.js')}</script>",
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=MAX_UPLOAD_BYTES,
        ssr_mode=False,
        enable_monitoring=False,
        pwa=False,
        mcp_server=False,
        theme=layout.make_theme(),
        css=layout.read_static("page.css"),
    )
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="ganvas-app-server", daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        if not server.started:
            raise GanvasError("The web editor's server did not start: its log above says why.")
        yield
    finally:
        # Pages that are still open are cut off: no error.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        server.should_exit = True
        thread.join()


def _open_listener(config: ServerConfig) -> socket.socket:
    """Open a socket at the configured address. Raises GanvasError where none is free."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    reason = ""
    for port in DEFAULT_PORTS if config.port is None else (config.port,):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((config.host, port))
            listener.listen(LISTEN_BACKLOG)
        except (OSError, OverflowError) as error:
            listener.close()
            reason = str(error)
            continue
        return listener
    ports = f"ports {DEFAULT_PORTS[0]} to {DEFAULT_PORTS[-1]}" if config.port is None else f"port {config.port}"
    raise GanvasError(f"Can't listen on {config.host}, {ports}: {reason}. Give another host or port.")


def _format_host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def is_local(host: str) -> bool:
    """Return whether only this machine reaches ``host``. Raises GanvasError where it is no address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        raise GanvasError(
            f"{host!r} is no address to listen on: give 127.0.0.1, 0.0.0.0 or one of this machine's."
        ) from None


def list_allowed_hosts(host: str, others: Collection[str] = ()) -> set[str] | None:
    """Return the names that requests to a server at ``host`` may carry: the machine's own and ``others``.

    None is for any: where others reach the server, and no names are given.

    Another site's page can have a browser send requests to this machine under that site's own name (DNS rebinding); checking the
    name prevents it.
    """
    if not is_local(host) and not others:
        return None
    return {host, LOCAL_HOST, "::1", "localhost", *(name.lower() for name in others)}


class _PendingEvents(dict[str, set[str]]):
    """Gradio's pending events by session hash, never none while a page is open.

    Gradio ends a page's stream of answers when nothing is pending. A page that sends its next event just then, and hears that
    it was accepted before it hears of the end, believes the stream to be open, and would not get that event's answer.
    """

    def __setitem__(self, session_hash: str, events: set[str]) -> None:
        # Gradio sets a page's events when its first one comes, and again when the page has left.
        page = {"page"}
        super().__setitem__(session_hash, events - page if session_hash in self else events | page)


def build_app(
    resources: AppResources, queues: tuple[WorkQueue, WorkQueue], folder: Path, storage: AppStorage, first: Scene
) -> Any:
    """Build the page and connect its handlers. ``queues``: the generator's and the background's."""
    import gradio as gr

    from ganvas.app.compare import MethodEditors
    from ganvas.app.edit_handlers import EditHandlers
    from ganvas.app.event_wiring import EventWiring
    from ganvas.app.layout import TITLE, Page
    from ganvas.app.request_checks import FILE_SECONDS
    from ganvas.app.scene_handlers import SceneHandlers
    from ganvas.app.tab_handlers import TabHandlers

    class App(gr.Blocks):
        def get_config_file(self) -> Any:
            # A browser has six connections to a server, and a page's heartbeat would take a second one for good.
            return super().get_config_file() | {"connect_heartbeat": False}

    edit_handlers = EditHandlers(resources, *queues, folder, storage)
    generators = [(f"{name}: {text}", name) for name, text in resources.sources.descriptions.items()]
    with App(
        title=TITLE, analytics_enabled=False, fill_width=True, delete_cache=(CLEANUP_SECONDS, FILE_SECONDS)
    ) as demo:
        # A function, since Gradio copies its components' options deeply: of a method, with all that its object holds.
        page = Page(generators, storage.read_secret(), lambda session: edit_handlers.delete_session(session))
        tab_handlers = TabHandlers(edit_handlers, MethodEditors(resources))
        EventWiring(page, edit_handlers, SceneHandlers(edit_handlers, first), tab_handlers).connect_all(demo)
    # Events that wait for a work queue hold a job each, but no thread: as many as may be queued.
    demo.max_threads = MAX_QUEUED_EVENTS
    demo.queue(default_concurrency_limit=None, max_size=MAX_QUEUED_EVENTS)
    demo._queue.pending_event_ids_session = _PendingEvents()
    demo.state_session_capacity = MAX_SESSIONS
    # Only then does Gradio check which files a request may name; ``launch`` would say so.
    demo.has_launched = True
    return demo


@contextmanager
def create_folder() -> Iterator[Path]:
    """Create the server's own folder, and delete it at the end, as well as those of servers that were killed."""
    delete_leftovers()
    folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-")).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def delete_leftovers() -> None:
    """Delete the folders of this user's servers that aren't running any more."""
    if os.name != "posix":  # elsewhere signal 0 doesn't just test for a process
        return
    for path in Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*"):
        owner = re.match(rf"{FOLDER_PREFIX}(\d+)-", path.name)
        with suppress(OSError):
            if owner and not path.is_symlink() and path.stat().st_uid == os.getuid() and not _is_running(int(owner[1])):
                shutil.rmtree(path, ignore_errors=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _set_environment(folder: Path) -> Iterator[None]:
    """Have Gradio keep its files in the folder and send nothing; the environment is restored at the end."""
    environment = {**GRADIO_ENVIRONMENT, "GRADIO_TEMP_DIR": str(folder)}
    old = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
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
