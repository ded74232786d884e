"""Commands about other people's checkpoints: info, convert, export, export-onnx."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from ganvas.cli import options

PANEL = "Checkpoints"

Checkpoint = Annotated[
    Path,
    Argument(metavar="PATH", help="NVIDIA's .pkl, a .pt, a .safetensors, an archive of one, or random-face's wheel."),
]
CardFile = Annotated[Path | None, Option(metavar="FILE", help="The card of a plain state dict; by default beside it.")]


def info(
    path: Annotated[
        Path,
        Argument(
            metavar="PATH|NAME", help="A checkpoint (NVIDIA's .pkl, .pt, .safetensors, a wheel), or what `list` names."
        ),
    ],
    card: CardFile = None,
) -> None:
    """Describe a checkpoint (family, resolution, spaces, fingerprint; nothing in it is run), or print the card of what ships."""
    from ganvas import checkpoints
    from ganvas.cli import loading

    text = "" if path.exists() else loading.find_model_card(path.as_posix())
    for line in [text] if text else checkpoints.describe_file(path, card):
        options.print_line(line)
    for line in loading.describe_attributes(path.as_posix()):
        options.print_line(line)


def convert(
    path: Checkpoint,
    out: Annotated[Path, Option(help="The generator (safetensors).")],
    card: CardFile = None,
) -> None:
    """Write the generator of a checkpoint as a safetensors file, which can't run code."""
    from ganvas import checkpoints
    from ganvas.recipe import files

    files.check_output(out, (".safetensors",), [Path(path)])
    checkpoint = checkpoints.read(path, card)
    network = checkpoint.build_generator(out.stem)
    checkpoint.save(out)
    options.print_line(
        f"{out}: {checkpoint.family} of {network.resolution}×{network.resolution}, {network.fingerprint[:12]}"
    )


def export(
    path: Checkpoint,
    out: Annotated[Path, Option(help="The state dict (.pt).")],
    layout: Annotated[
        Literal["rosinality", "nvidia"],
        Option("--format", help="Whose names: rosinality's stylegan2-pytorch, or NVIDIA's stylegan2-ada-pytorch."),
    ] = "rosinality",
    card: CardFile = None,
) -> None:
    """Write a StyleGAN2 as a state dict that other code loads: plain tensors, no pickled classes."""
    from ganvas import checkpoints
    from ganvas.checkpoints.export import export_checkpoint
    from ganvas.recipe import files

    files.check_output(out, (".pt",), [Path(path)])
    for note in export_checkpoint(checkpoints.read(path, card), out, layout):
        options.print_line(f"{out}: {note}")


def export_onnx(
    generator: options.GeneratorName,
    out: Annotated[Path, Option(metavar="FOLDER", help="Where mapping.onnx and synthesis.onnx go.")],
) -> None:
    """Write a generator's mapping and synthesis as ONNX, with the truncation as an input and constant noise.

    onnxruntime computes codes and pictures by them, which are compared with ganvas's before the files are kept.
    """
    from ganvas.checkpoints.export_onnx import export_generator
    from ganvas.cli import loading
    from ganvas.recipe import files

    for name in ("mapping.onnx", "synthesis.onnx"):
        files.check_output(out / name, (".onnx",))
    for line in export_generator(loading.load_generator_only(generator, "cpu"), out):
        options.print_line(line)


COMMANDS = (info, convert, export, export_onnx)
