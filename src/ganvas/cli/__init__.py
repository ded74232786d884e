"""The command ``ganvas``. Every command calls the library; nothing is computed here.

Its modules import nothing slow at their top, so that ``ganvas --help`` answers at once.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated

import typer

from ganvas import __version__
from ganvas.cli import (
    checkpoints,
    evaluate,
    fitting,
    inventory,
    learn,
    photos,
    pictures,
    serve,
    sets,
    training,
)
from ganvas.errors import GanvasError

app = typer.Typer(
    name="ganvas",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (pictures, photos, serve, fitting, learn, training, evaluate, sets, checkpoints, inventory):
    for command in module.COMMANDS:
        name = command.__name__.strip("_").replace("_", "-")
        app.command(name, rich_help_panel=module.PANEL)(command)


def print_version(is_asked: bool | None) -> None:
    """Print the version and end, where it is asked for."""
    if is_asked:
        print(f"ganvas {__version__}")
        raise typer.Exit


@app.callback()
def _describe(
    version: Annotated[
        bool | None,
        typer.Option("--version", help="Print ganvas's version, and end.", callback=print_version, is_eager=True),
    ] = None,
) -> None:
    """Give any pretrained GAN named, independent controls."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 on success, 1 for bad input (one line), 2 for wrong usage, 130 on Ctrl-C."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _print_warning
            app(args=None if arguments is None else list(arguments))
    except GanvasError as error:
        print("Error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == 130:  # typer's for Ctrl-C
            print("Stopped.", file=sys.stderr)
        raise


def _print_warning(message: Warning | str, *_: object) -> None:
    """Print a warning as one line, without its place in the code."""
    print("Warning: " + " ".join(str(message).split()), file=sys.stderr)
