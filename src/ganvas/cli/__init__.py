"""The command ``ganvas``. Every command is a spelling of library calls; nothing is computed here.

Modules of this package import nothing heavy at their top: ``ganvas --help`` answers at once.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence

import typer

from ganvas.cli import (
    checkpoints,
    evaluate,
    fitting,
    gan_training,
    inventory,
    learn,
    photos,
    pictures,
    serve,
    sets,
    sheets,
)
from ganvas.errors import GanvasError

app = typer.Typer(
    name="ganvas",
    help="Give any pretrained GAN named, independent controls.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (pictures, sheets, photos, serve, fitting, learn, gan_training, evaluate, sets, checkpoints, inventory):
    for command in module.COMMANDS:
        name = command.__name__.strip("_").replace("_", "-")
        app.command(name, rich_help_panel=module.PANEL)(command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 when all went well, 1 for bad input (one line), 2 for wrong usage, 130 if stopped."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _warn
            app(args=None if arguments is None else list(arguments))
    except GanvasError as error:
        print("Error: " + " ".join(str(error).split()), file=sys.stderr)
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == 130:  # typer's for Ctrl-C
            print("Stopped.", file=sys.stderr)
        raise


def _warn(message: Warning | str, *_: object) -> None:
    """One line, without the place in the code."""
    print("Warning: " + " ".join(str(message).split()), file=sys.stderr)
