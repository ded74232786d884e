"""Commands that train scorers and GANs: train-scorer, join-scorers, train-gan, finish-gan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from ganvas.cli import options
from ganvas.cli.fitting import PANEL as PANEL


def train_scorer(
    faces: Annotated[Path, Argument(metavar="CELEBA", help="CelebA: its folder, or a parquet.")],
    out: Annotated[Path, Option(help="The scorer (safetensors); checkpoints lie beside it while it trains.")],
    arch: Annotated[str | None, Option(help="Another network: efficientnet_b3 (the paper's), cnn, dlib.")] = None,
    generated: Annotated[Path | None, Option(metavar="DIR", help="Labels with --keep-images: a second round.")] = None,
    generator: Annotated[str | None, Option(help="The generator of --generated; by default its labels' own.")] = None,
    seed: options.Seed = 0,
) -> None:
    """Train the celeba40 scorer; a stopped run continues."""
    from ganvas.cli import loading
    from ganvas.recipe import files as recipe_files
    from ganvas.training.celeba40 import train_celeba40

    recipe_files.check_output(out, (".safetensors",))
    network = None
    if generated is not None:
        network = loading.load_generator_only(loading.choose_generator(generator, generated), "cpu")
    options_of_arch = {} if arch is None else {"arch": arch}
    train_celeba40(faces, out, generated, network, seed=seed, report=options.print_line, **options_of_arch)
    options.print_line(out)


def join_scorers(
    faces: Annotated[Path, Argument(metavar="CELEBA", help="The faces that they were trained on, to calibrate.")],
    scorers: Annotated[list[Path], Argument(metavar="SCORER...", help="What `ganvas train-scorer` wrote.")],
    out: Annotated[Path, Option(help="The scorer (safetensors).")],
    weight: Annotated[list[float] | None, Option(help="How much a scorer counts; once for each, in order.")] = None,
) -> None:
    """Join scorers into one: the mean of their logits, calibrated anew."""
    from ganvas.recipe import files as recipe_files
    from ganvas.training.celeba40 import join_celeba40

    recipe_files.check_output(out, (".safetensors",))
    join_celeba40(faces, scorers, out, weight)
    options.print_line(out)


def train_gan(
    pictures: Annotated[Path, Argument(metavar="DIR", help="From `ganvas make-multimnist`, or square pictures.")],
    out: Annotated[Path, Option(help="The folder of the run; one that was stopped goes on there, exactly.")],
    preset: Annotated[Literal["16", "32", "64", "128"], Option(help="The size in pixels.")] = "64",
    images: Annotated[int, Option(help="Pictures to train on in all.")] = 1_000_000,
    condition: Annotated[str, Option(metavar="count", help="Condition the generator on the number of objects.")] = "",
    option: Annotated[
        list[str] | None, Option(metavar="KEY=VALUE", help="A setting, like gamma=0.2 or widths=[64,32]. Repeatable.")
    ] = None,
    checkpoint: Annotated[int, Option(help="Pictures from one checkpoint to the next.")] = 50_000,
    flip: Annotated[bool, Option("--flip", help="Mirror half of the pictures.")] = False,
    fid: Annotated[Path | None, Option(metavar="WEIGHTS", help="Measure FID, with Inception's weights.")] = None,
    digits: Annotated[bool, Option("--digits", help="Measure it in the digit counter's features.")] = False,
    judged: Annotated[int, Option(help="Samples that --fid and --digits take.")] = 5000,
    tensorboard: Annotated[bool, Option("--tensorboard", help="Write curves for TensorBoard, too.")] = False,
    seed: options.Seed = 0,
) -> None:
    """Train a StyleGAN2 on pictures; under torchrun, with several processes."""
    from ganvas.training.gan import config as gan_config
    from ganvas.training.gan import images as gan_images
    from ganvas.training.gan import loop, outputs

    changes = {"condition": condition, "flip": flip, "seed": seed} | options.parse_options(option)
    config = gan_config.load_preset(preset, changes)
    data = gan_images.read_training_images(pictures, config.resolution, config.condition)
    measure = outputs.create_distance(data, fid, digits, judged)
    schedule, callbacks = (
        loop.GanSchedule(images, checkpoint),
        loop.GanCallbacks(options.print_line, measure, tensorboard),
    )
    options.print_line(loop.train_gan(data, out, config, schedule, callbacks))


def finish_gan(
    run: Annotated[Path, Argument(metavar="RUN", help="The folder of a run of train-gan.")],
    out: Annotated[Path, Option(help="The generator (.safetensors, float16); a sheet of samples goes beside it.")],
) -> None:
    """Write the generator of a run as a small file that `load_generator` reads."""
    from ganvas.training.gan.loop import GENERATOR
    from ganvas.training.gan.outputs import export_generator

    generator = export_generator(run / GENERATOR, out)
    options.print_line(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {generator.fingerprint[:12]}")


COMMANDS = (train_scorer, join_scorers, train_gan, finish_gan)
