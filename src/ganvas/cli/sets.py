"""Commands about sets of pictures: make-multimnist, balance."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Option

from ganvas.cli import options
from ganvas.cli.fitting import ScorerName
from ganvas.cli.options import Device, Dtype, EditorName, GeneratorName, Label, Psi, Seed
from ganvas.errors import GanvasError
from ganvas.progress import show_count

if TYPE_CHECKING:
    from ganvas.balance.sets import BalanceRequest
    from ganvas.recipe.rendering import Tools
    from ganvas.scorers.base import Scorer

PANEL = "Sets of pictures"


def make_multimnist(
    mnist: Annotated[Path, Option(metavar="PATH", help="MNIST: a folder of its four idx files, or an npz.")],
    out: Annotated[Path, Option(help="The folder: train.parquet, test.parquet and about.json.")],
    size: Annotated[int, Option(help="The side of each picture in pixels.")] = 128,
    n: Annotated[int, Option("-n", "--n", help="How many pictures to train on.")] = 40_000,
    test: Annotated[int | None, Option(help="How many to test on; by default a tenth of -n.")] = None,
    counts: Annotated[str, Option(help="The least and the greatest number of digits, all equally frequent.")] = "1-4",
    seed: Seed = 0,
) -> None:
    """Make pictures with a few of MNIST's digits each, which don't overlap; digits, boxes and counts are kept."""
    from ganvas.data import multimnist

    layout = multimnist.MultiMnistLayout(size, options.parse_range(counts))
    with show_count("Drawing") as progress:
        multimnist.make_multimnist(mnist, out, layout=layout, n=n, test=test, seed=seed, progress=progress)
    options.print_line(f"{n} pictures in {out}")


def balance(
    generator: GeneratorName,
    where: Annotated[list[str], Option(metavar="CONDITION", help="count=4, p(sure)>0.9, Smiling>1. Repeatable.")],
    out: Annotated[Path, Option(help="The folder: pictures, labels.parquet, balance.json. A stopped run goes on.")],
    n: Annotated[int, Option("-n", help="How many pictures.")] = 500,
    editor: EditorName = None,
    scorer: ScorerName = None,
    way: Annotated[Literal["conditions", "edit", "draw"] | None, Option(help="By default the best.")] = None,
    real: Annotated[
        Path | None,
        Option(
            "--from",
            metavar="DIR",
            help="Edit real pictures: squares framed as the generator's, or a MultiMNIST folder or parquet.",
        ),
    ] = None,
    encoder: Annotated[Path | None, Option(metavar="FILE", help="Invert --from with this encoder.")] = None,
    method: Annotated[
        Literal["encoder", "optimize", "both", "objects"] | None,
        Option(help="How --from is inverted: objects is the default for multimnist/composed, encoder where one ships."),
    ] = None,
    seed: Seed = 0,
    psi: Psi = 1.0,
    label: Label = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Fill a folder with pictures that have the values asked for, with labels and recipes."""
    from ganvas import generators
    from ganvas.balance import BalanceRequest
    from ganvas.balance import balance as balance_generated
    from ganvas.balance.sets import format_report_lines
    from ganvas.cli import loading, recipe_options

    conditions = tuple(recipe_options.parse_conditions(where, generator, editor))
    if real is None and (encoder or method):
        raise GanvasError("--encoder and --method are for real pictures: name their folder with --from DIR.")
    if real is not None:
        editor = str(loading.choose_editor(generator, editor))
    editor_to_load = editor or (generators.find_card(generator).editor or None if way != "draw" else None)
    tools = loading.load_cli_tools(generator, dtype, device, editor=editor_to_load, attributes=(), codes=None)
    judge = loading.load_scorer_for(generator, scorer, device)
    number = recipe_options.parse_label(tools.generator, label)
    order = BalanceRequest(conditions, n, seed, psi, way, label=number)
    if real is not None:
        report = _balance_real(real, tools, judge, order, out, (method or "", encoder))
    else:
        with show_count("Drawing") as progress:
            report = balance_generated(tools, judge, order, out, progress)
    for line in format_report_lines(report):
        options.print_line(line)
    options.print_line(out)


def _balance_real(
    real: Path, tools: Tools, judge: Scorer, order: BalanceRequest, out: Path, inversion: tuple[str, Path | None]
) -> dict[str, Any]:
    """Balance a set by editing real pictures, and print what the user should know. ``inversion``: method and encoder."""
    from ganvas.balance import real as balance_real

    method, encoder = inversion
    source = balance_real.open_pictures(real, tools.generator.resolution)
    inverter = balance_real.load_inverter(tools.generator, method, encoder=encoder, editor=tools.editor)
    if not method and inverter.name.startswith("optimize"):
        options.print_line("No encoder ships for this generator: pictures are inverted by optimisation, which is slow.")
    with show_count("Editing") as progress:
        report = balance_real.balance_from(tools, judge, order, source, inverter, out, progress)
    if report["kept"] < order.n:
        options.print_line(f"All {len(source.names)} pictures of {real} were tried.")
    return report


COMMANDS = (make_multimnist, balance)
