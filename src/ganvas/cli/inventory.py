"""Commands that show what there is: list, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Option

from ganvas.cli import options

PANEL = "What there is"


def list_() -> None:
    """List generators, scorers, methods, metrics, labels and editors, one line each, and the PyTorch in use."""
    from ganvas.cli import loading
    from ganvas.generators import describe_torch

    for title, rows in loading.list_available().items():
        options.print_line(f"{title}:")
        width = max((len(name) for name, _ in rows), default=0)
        for name, about in rows:
            options.print_line(f"  {name:{width}}  {about}".rstrip())
    options.print_line(f"Computes with {describe_torch()}.")


def demo(
    out: Annotated[Path, Option(help="The folder for the pictures and their page.")] = Path("out"),
    device: options.Device = "cpu",
    dtype: options.Dtype = "auto",
    small: Annotated[bool, Option("--small", help="Few pictures by a hardly trained editor: does it work?")] = False,
) -> None:
    """Fit the compact editor, edit faces with it, and write a page that shows them."""
    from ganvas import demo as demonstration

    config = demonstration.SMALL if small else demonstration.DemoConfig()
    options.print_line(demonstration.run_demo(out, device=device, dtype=dtype, config=config))


COMMANDS = (list_, demo)
