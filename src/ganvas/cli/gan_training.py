"""The commands that train a GAN, and make a run's result ready to ship: train-gan, finish-gan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ganvas.cli import options

PANEL = "Learning and measuring"


def train_gan(
    pictures: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder of `ganvas make-multimnist`, or of square pictures.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the run; one that was stopped goes on there, exactly.")],
    preset: Annotated[Literal["16", "32", "64", "128"], typer.Option(help="The size in pixels.")] = "64",
    images: Annotated[int, typer.Option(help="Pictures to see in all.")] = 1_000_000,
    condition: Annotated[
        str,
        typer.Option(
            metavar="count", help="Tell the generator how many objects to draw; a run that began without goes on so."
        ),
    ] = "",
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="A setting, like gamma=0.2 or widths=[128,64,32]. Repeatable."),
    ] = None,
    checkpoint: Annotated[int, typer.Option(help="Pictures from one checkpoint to the next.")] = 50_000,
    flip: Annotated[bool, typer.Option("--flip", help="Show half of the pictures mirrored.")] = False,
    fid: Annotated[
        Path | None, typer.Option(metavar="WEIGHTS", help="Measure FID at checkpoints, with Inception's weights.")
    ] = None,
    digits: Annotated[
        bool, typer.Option("--digits", help="Measure the Fréchet distance in the digit counter's features instead.")
    ] = False,
    judged: Annotated[int, typer.Option(help="Samples that --fid and --digits take.")] = 5000,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write curves for TensorBoard, too.")] = False,
    seed: options.Seed = 0,
) -> None:
    """Train a StyleGAN2 on pictures; under torchrun, with several processes."""
    from ganvas.training.gan import loop

    changes = {"condition": condition, "flip": flip, "seed": seed} | options.parse_options(option)
    settings = loop.load_preset(preset, changes)
    data = loop.read_pictures(pictures, settings.resolution, settings.condition)
    judge = loop.distance_function(data, fid, digits, judged)
    schedule, watch = loop.GanSchedule(images, checkpoint), loop.GanCallbacks(options.print_line, judge, tensorboard)
    options.print_line(loop.train(data, out, settings, schedule, watch))


def finish_gan(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run of train-gan.")],
    out: Annotated[
        Path, typer.Option(help="The generator (.safetensors, float16); a sheet of samples goes beside it.")
    ],
) -> None:
    """Write what a run learned as a small file that `load_generator` reads."""
    from ganvas.training.gan import loop

    generator = loop.export_generator(run / loop.GENERATOR, out, loop.draw_sample_sheet)
    options.print_line(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {generator.fingerprint[:12]}")


COMMANDS = (train_gan, finish_gan)
