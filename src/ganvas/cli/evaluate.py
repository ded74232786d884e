"""The command that compares: bench."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ganvas.cli import options
from ganvas.cli.fitting import PANEL as PANEL
from ganvas.cli.fitting import ScorerName
from ganvas.cli.options import Device, Dtype, GeneratorName
from ganvas.errors import GanvasError


def bench(
    generator: GeneratorName,
    out: Annotated[Path, typer.Option(help="The folder for the report; a run that was stopped goes on there.")],
    scorer: ScorerName = None,
    quick: Annotated[bool, typer.Option("--quick", help="Four methods on 16 faces: five minutes.")] = False,
    share: Annotated[
        float, typer.Option(help="The share of the faces to try; a larger share goes on with a smaller one's pictures.")
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
    folder: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A MultiMNIST folder, for what the count report says of real images."),
    ] = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Compare editing methods on faces that none learned from, or ways to count, of a generator whose scorer counts."""
    from experiments.multimnist.report import counts_objects
    from ganvas import generators
    from ganvas.evaluation import config
    from ganvas.evaluation.report import EvaluationRequest
    from ganvas.evaluation.report import evaluate as compare
    from ganvas.scorers import load_scorer

    if quick and share != 1:
        raise GanvasError("A quick report has no share: leave out --quick or --share.")
    if counts_objects(load_scorer(scorer or generators.find_card(generator).scorer)):
        others = {"methods": methods, "editor": editor, "attributes": attributes, "judges": judges, "labels": labels}
        others |= {"published": published, "share": share != 1}
        for name in (name for name, value in others.items() if value):
            raise GanvasError(
                f"--{name} isn't for a generator whose scorer counts: its report takes --quick, --folder."
            )
        _count(generator, scorer, folder, quick, device, dtype, out)
        return
    if folder is not None:
        raise GanvasError("--folder is for generators whose scorer counts objects: this one's doesn't.")

    def named(text: str | None) -> list[str] | None:
        return None if text is None else options.parse_names(text)

    wanted = EvaluationRequest(
        generator,
        scorer,
        named(methods),
        tuple(editor or ()),
        named(attributes),
        labels,
        named(judges),
        config.QUICK if quick else config.FULL.shared(share),
        device,
        dtype,
        published,
    )
    compare(wanted, out, say=options.print_line)
    options.print_line(out / "index.html")


def _count(
    generator: str, scorer: str | None, folder: Path | None, quick: bool, device: str, dtype: str, out: Path
) -> None:
    """The report on counts."""
    from experiments.multimnist.config import FULL, QUICK
    from experiments.multimnist.report import CountReportRequest, make_report

    wanted = CountReportRequest(generator, scorer, folder, QUICK if quick else FULL, device=device, dtype=dtype)
    make_report(wanted, out, say=options.print_line)
    options.print_line(out / "index.html")


COMMANDS = (bench,)
