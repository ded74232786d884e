"""The command from a checkpoint to controls: learn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Option

from ganvas.cli import options
from ganvas.cli.fitting import PANEL as PANEL
from ganvas.cli.options import Device, Dtype, GeneratorName
from ganvas.seeds import LABEL_SEED


def learn(
    generator: GeneratorName,
    scorer: Annotated[
        str,
        Option(
            metavar="NAME|FILE|DIR",
            help="A scorer; an .onnx with its card; a .csv of index,attribute,…; or a folder with positive/ and negative/.",
        ),
    ],
    out: Annotated[Path, Option(help="The folder for all of it; a run that was stopped goes on there.")],
    n: Annotated[int, Option("-n", help="How many pictures to label.")] = 20_000,
    method: Annotated[str, Option(help="A method, as `ganvas list` names them.")] = "compact",
    option: options.MethodSettings = None,
    features: Annotated[
        Literal["celeba40", "imagenet"], Option(help="What a scorer from examples reads.")
    ] = "celeba40",
    psi: options.Psi = 1.0,
    seed: options.Seed = LABEL_SEED,
    report: Annotated[bool, Option("--bench/--no-bench", help="Compare the editor with others at the end.")] = True,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Learn controls for a checkpoint: label its pictures, fit an editor, compare it with others, keep all of it."""
    from ganvas import learn as ganvas_learn
    from ganvas.cli import loading

    settings = options.parse_options(option)
    config = ganvas_learn.LearnConfig(
        generator, scorer, n, method, settings, features, psi, seed, report, device=device, dtype=dtype
    )
    editor = ganvas_learn.learn(config, out, options.print_line, loading.fit_with_progress, progress=True)
    options.print_line(f"ganvas edit {generator} --editor {editor} --shift NAME=2")


COMMANDS = (learn,)
