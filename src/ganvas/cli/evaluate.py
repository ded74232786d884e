"""The command that compares editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ganvas.cli import options
from ganvas.cli.fitting import PANEL as PANEL
from ganvas.cli.fitting import ScorerName
from ganvas.cli.options import Device, Dtype, GeneratorName
from ganvas.errors import GanvasError


def evaluate(
    generator: GeneratorName,
    out: Annotated[Path, typer.Option(help="The folder for the report; a run that was stopped goes on there.")],
    scorer: ScorerName = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few methods, and any that you added, on 16 pictures.")
    ] = False,
    share: Annotated[
        float,
        typer.Option(help="The share of the pictures to try; a larger share goes on with a smaller one's pictures."),
    ] = 1.0,
    methods: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Only these rows of the table; by default all.")
    ] = None,
    editor: Annotated[
        list[str] | None, typer.Option(metavar="NAME|FILE", help="Compare this editor, too. Repeatable.")
    ] = None,
    attributes: Annotated[
        str | None, typer.Option(help="The attributes to edit; by default Eyeglasses,Male,Smiling,Young.")
    ] = None,
    judges: Annotated[
        str | None, typer.Option(metavar="NAME,NAME", help="Other scorers that judge; by default all that fit.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="LABELS", help="A label folder or pack; by default the one that ships.")
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A folder with encoder4editing's smile.pt and age.pt: linear methods are compared with them.",
        ),
    ] = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Compare editing methods on pictures that none learned from."""
    from ganvas.evaluation import config, report

    if quick and share != 1:
        raise GanvasError("A quick report has no share: leave out --quick or --share.")

    def parse(text: str | None) -> list[str] | None:
        return None if text is None else options.parse_names(text)

    request = report.EvaluationRequest(
        generator,
        scorer,
        parse(methods),
        tuple(editor or ()),
        parse(attributes),
        labels,
        parse(judges),
        config.QUICK if quick else config.FULL.scale(share),
        device,
        dtype,
        published,
    )
    report.evaluate(request, out, log=options.print_line)
    options.print_line(out / "index.html")


COMMANDS = (evaluate,)
