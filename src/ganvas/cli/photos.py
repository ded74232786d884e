"""Commands about photographs: align, invert, import-codes, train-encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ganvas.cli import options
from ganvas.cli.options import Device, Dtype, EditorName, SetValues, ShiftValues
from ganvas.progress import show_count

PANEL = "Photographs"

Photos = Annotated[
    list[Path], typer.Argument(metavar="PHOTO...", help="Pictures, or folders of pictures: JPEG, PNG, WebP, TIFF, BMP.")
]
MaxFaces = Annotated[int | None, typer.Option("--most", metavar="N", help="The N largest faces of a photograph only.")]
MaxPixels = Annotated[int, typer.Option("--max-pixels", help="Photographs of more pixels are refused.")]
Generator = Annotated[str, typer.Option(help="A generator, as `ganvas list` names them.")]


def align(
    photos: Photos,
    out: Annotated[Path, typer.Option(help="The folder for the faces.")] = Path("aligned"),
    size: Annotated[int, typer.Option(help="The side of each face in pixels.")] = 1024,
    most: MaxFaces = None,
    max_pixels: MaxPixels = 64_000_000,
) -> None:
    """Find the faces in photographs and cut them as FFHQ's are: a PNG a face.

    The landmarks are dlib's, learned from iBUG 300-W: for non-commercial use.
    """
    from ganvas import inversion
    from ganvas.cli import photo_helpers
    from ganvas.photo import batch
    from ganvas.recipe.files import check_output

    check_output(out / "face.png", (".png",))
    config = batch.InversionConfig(most=most, most_pixels=max_pixels)
    refused = photo_helpers.RefusalLog()
    count = batch.align_files(inversion.find_pictures(photos), out, size, config, refused)
    options.print_line(f"{count} {'face' if count == 1 else 'faces'} in {out}")
    refused.exit()


def invert(
    photos: Photos,
    generator: Generator = "ffhq",
    out: Annotated[Path, typer.Option(help="The folder for codes and pictures; a stopped run goes on there.")] = Path(
        "inverted"
    ),
    space: Annotated[
        Literal["w", "w+"], typer.Option(help="One w, or a row for each layer: nearer, less editable.")
    ] = "w+",
    method: Annotated[
        Literal["encoder", "optimize", "both"], typer.Option(help="encoder: a second. optimize: from the mean face.")
    ] = "both",
    steps: Annotated[int, typer.Option(help="Of optimisation, at most.")] = 100,
    set_values: SetValues = None,
    shift_values: ShiftValues = None,
    recipe: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Edit every face as this recipe (JSON or PNG) does.")
    ] = None,
    residual: Annotated[
        bool, typer.Option(help="Put back what the inversion missed, where the edit left the picture alone.")
    ] = True,
    editor: EditorName = None,
    aligned: Annotated[bool, typer.Option("--aligned", help="The pictures are aligned already.")] = False,
    encoder: Annotated[
        Path | None, typer.Option(metavar="FILE", help="An encoder of your own, as `ganvas train-encoder` writes it.")
    ] = None,
    most: MaxFaces = None,
    max_pixels: MaxPixels = 64_000_000,
    device: Device = "cpu",
    dtype: Dtype = "bfloat16",
) -> None:
    """Find the codes of photographs: a picture and a codes file a face, with --set, --shift or --recipe edited, too.

    Nothing leaves this machine, and no metadata of a photograph is written. Faces are found by landmarks that are for
    non-commercial use.
    """
    from ganvas import inversion
    from ganvas.cli import loading, photo_helpers
    from ganvas.photo import batch
    from ganvas.recipe.files import check_output

    check_output(out / batch.SUMMARY_FILE, (".json",))
    paths = inversion.find_pictures(photos)
    edits = photo_helpers.parse_edits(set_values, shift_values, recipe)
    tools = loading.load_cli_tools(
        generator, dtype, device, editor=editor, attributes=loading.collect_attributes(edits), codes=None
    )
    own_encoder = None if encoder is None else inversion.read_encoder(encoder, tools.generator)
    config = batch.InversionConfig(space, method, inversion.OptimizationConfig(steps=steps), aligned, most, max_pixels)
    refused = photo_helpers.RefusalLog()
    with show_count("Inverting") as progress:
        done = batch.PhotoBatch(tools, out, config, edits, residual, own_encoder).run(paths, refused, progress)
    if done:
        options.print_table(
            ("", "PSNR", "SSIM", "LPIPS", "identity", "distance from W"),
            [photo_helpers.format_quality(face) for face in done],
        )
    options.print_line(f"{len(done)} {'face' if len(done) == 1 else 'faces'} in {out}")
    refused.exit()


def import_codes(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="W+ codes of a StyleGAN2: .npy or .safetensors.")],
    out: Annotated[Path, typer.Option(help="The codes file (safetensors), for --codes.")],
    generator: Generator = "ffhq",
    spread: Annotated[
        float, typer.Option(help="The share of the differences between rows that is kept; 1 keeps all.")
    ] = 0.15,
    reach: Annotated[
        float, typer.Option(help="How far from the mean of W codes may lie, in standard deviations.")
    ] = 15.0,
) -> None:
    """Take over W+ codes of photographs that others inverted: rows are mapped by the resolution that they act at."""
    from ganvas import inversion
    from ganvas.cli import loading
    from ganvas.data.codes import save_codes
    from ganvas.recipe import files

    files.check_output(out, (".safetensors",))
    network = loading.load_generator_only(generator, "cpu")
    codes = inversion.shrink_to_w(inversion.load_imported_codes(file, network), network, spread, reach)
    save_codes(out, codes, network)
    options.print_line(f"{out}: {len(codes)} codes for {network.name}")


def train_encoder(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Labels made with --keep-images, or a MultiMNIST folder.")
    ],
    out: Annotated[Path, typer.Option(help="The encoder (safetensors); a checkpoint lies beside it while it trains.")],
    generator: Generator = "ffhq",
    epochs: Annotated[int, typer.Option(help="Labels: how often each face is seen.")] = 8,
    space: Annotated[
        Literal["w", "w+"], typer.Option(help="MultiMNIST: one w, or with offsets of its rows, as e4e's.")
    ] = "w+",
    keep_count: Annotated[
        float, typer.Option(help="MultiMNIST: the weight of a loss that keeps the number of digits.")
    ] = 0.0,
    steps: Annotated[int | None, typer.Option(help="MultiMNIST: steps; about one a second on one core.")] = None,
    dtype: Dtype = "float32",
    seed: options.Seed = 0,
) -> None:
    """Train an encoder: a picture to a code in one pass. Stopped and started again, it goes on.

    From labels with pictures it learns from drawn faces; from MultiMNIST, from real and drawn digits, as e4e does.
    """
    from ganvas.cli import loading, photo_helpers
    from ganvas.recipe import files
    from ganvas.training import encoder

    files.check_output(out, (".safetensors",))
    if (folder / "train.parquet").exists():
        photo_helpers.train_count_encoder(
            folder, generator, out, space=space, keep_count=keep_count, steps=steps, dtype=dtype, seed=seed
        )
    else:
        network = loading.load_generator_only(generator, "cpu")
        encoder.train_encoder(
            folder, network, out, encoder.EncoderConfig(epochs=epochs, dtype=dtype, seed=seed), options.print_line
        )
    options.print_line(out)


COMMANDS = (align, invert, import_codes, train_encoder)
