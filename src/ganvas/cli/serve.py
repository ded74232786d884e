"""The command that serves the web editor."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Option

from ganvas.cli import options

PANEL = "Pictures"


def app(
    generator: Annotated[str, Argument(metavar="GENERATOR", help="The one to start with; the page has all.")] = "ffhq",
    editor: Annotated[
        list[str] | None, Option(metavar="FILE", help="An editor's file, beside those that ship. Repeatable.")
    ] = None,
    host: Annotated[
        str, Option(help="The address to listen on; beyond 127.0.0.1 others reach the page, too.")
    ] = "127.0.0.1",
    port: Annotated[int | None, Option(help="The port; by default the first free one from 7860 on.")] = None,
    root_path: Annotated[
        str, Option(metavar="PATH", help="Where a proxy shows the page: a path such as /ganvas, or the whole address.")
    ] = "",
    allow_host: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="A name beside localhost that browsers may ask for, or *.example.org. Repeatable."),
    ] = None,
    password: Annotated[
        str | None,
        Option(envvar="GANVAS_APP_PASSWORD", help="What visitors have to give, with any user name."),
    ] = None,
    browser: Annotated[bool, Option(help="Open the page in this machine's browser.")] = False,
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
) -> None:
    """Edit faces in a web page on this machine."""
    import os
    import signal
    import threading

    from ganvas.app import server
    from ganvas.app.resources import AppResources, discover_tools

    # However the process ends from here on, temporary files are deleted.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Not where it was started to outlive its terminal, as by nohup.
    if os.name == "posix" and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    local = server.is_local(host)
    config = server.ServerConfig(host, port, browser, root_path, tuple(allow_host or ()), password)
    resources = AppResources(discover_tools(dtype, device), editor or [])
    with server.serve(resources, generator, config=config) as address:
        options.print_line(f"The editor is open at {address} (Ctrl-C ends it).")
        if not local:
            visitors = "has the password" if password else "reaches this machine"
            ending = "" if password else ", without a password"
            options.print_line(f"It listens on {host}: whoever {visitors} can use it{ending}.")
        threading.Event().wait()


COMMANDS = (app,)
