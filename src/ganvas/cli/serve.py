"""The command that serves the web editor."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from ganvas.cli import options

PANEL = "Pictures"


def app(
    generator: Annotated[
        str, typer.Argument(metavar="GENERATOR", help="The one to start with; all can be picked on the page.")
    ] = "ffhq",
    editor: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="An editor's file, to be picked beside those that ship. Repeatable."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="The address to listen on; with another than 127.0.0.1, others reach the page, too.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="The port; by default the first free one from 7860 on.")] = None,
    browser: Annotated[bool, typer.Option(help="Open the page in this machine's browser.")] = False,
    device: options.Device = "cpu",
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Precision of the synthesis; bfloat16 is faster.")
    ] = "bfloat16",
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
    resources = AppResources(discover_tools(dtype, device), editor or [])
    with server.serve(resources, generator, config=server.ServerConfig(host, port, browser)) as address:
        options.print_line(f"The editor is open at {address} (Ctrl-C ends it).")
        if not local:
            options.print_line(f"It listens on {host}: whoever reaches this machine can use it, without a password.")
        threading.Event().wait()


COMMANDS = (app,)
