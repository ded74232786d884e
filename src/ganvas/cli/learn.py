"""The command from a checkpoint to controls: learn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ganvas.cli import options
from ganvas.cli.fitting import PANEL as PANEL
from ganvas.cli.options import Device, Dtype, GeneratorName
from ganvas.seeds import LABEL_SEED


def learn(
    generator: GeneratorName,
    scorer: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE|DIR",
            help="A scorer; an .onnx with its card; a .csv of index,attribute,…; or a folder with positive/ and negative/.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder for all of it; a run that was stopped goes on there.")],
    n: Annotated[int, typer.Option("-n", help="How many pictures to label.")] = 20_000,
    method: Annotated[str, typer.Option(help="A method, as `ganvas list` names them.")] = "compact",
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="A setting of the method, like epochs=40. Repeatable.")
    ] = None,
    features: Annotated[
        Literal["celeba40", "imagenet"], typer.Option(help="What a scorer from examples reads: of faces, of anything.")
    ] = "celeba40",
    psi: options.Psi = 1.0,
    seed: options.Seed = LABEL_SEED,
    bench: Annotated[bool, typer.Option(help="Compare the editor with others at the end.")] = True,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Learn controls for a checkpoint: label its pictures, fit an editor, compare it with others, keep all of it."""
    from ganvas import learn as ganvas_learn
    from ganvas.cli import loading

    settings = options.parse_options(option)
    config = ganvas_learn.LearnConfig(
        generator, scorer, n, method, settings, features, psi, seed, bench, device=device, dtype=dtype
    )
    editor = ganvas_learn.learn(config, out, options.print_line, loading.fit_with_progress, progress=True)
    options.print_line(f"ganvas edit {generator} --editor {editor} --shift NAME=2")


COMMANDS = (learn,)
