"""Commands that draw several pictures into one: grid, animate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ganvas.cli import options
from ganvas.cli.options import (
    CodesFile,
    Device,
    Dtype,
    EditorName,
    GeneratorName,
    Psi,
    Row,
    SaveCodes,
    Seed,
    SetValues,
    ShiftValues,
    Size,
)
from ganvas.errors import GanvasError
from ganvas.progress import track

if TYPE_CHECKING:
    from ganvas.recipe.rendering import Tools
    from ganvas.recipe.sheet import Sheet

PANEL = "Pictures"
ANIMATION_SUFFIXES = (".gif", ".mp4")


def grid(
    generator: GeneratorName,
    attributes: Annotated[str, typer.Option(help="Attributes to change, one row each: Eyeglasses,Male.")],
    out: Annotated[Path, typer.Option(help="The picture, a PNG that carries its recipe.")] = Path("grid.png"),
    seeds: Annotated[
        str | None, typer.Option(help="The faces: 0-3, or 1,5,10-12; without it the one of --seed.")
    ] = None,
    strengths: Annotated[str, typer.Option(help="The columns, in standard deviations.")] = "-2.5,-1.25,0,1.25,2.5",
    editor: EditorName = None,
    seed: Seed = 0,
    psi: Psi = 0.7,
    codes: CodesFile = None,
    save_codes: SaveCodes = None,
    size: Size = 256,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Draw faces × strengths: what each attribute does to each face. With --codes, the faces of that file."""
    from ganvas.cli import loading
    from ganvas.recipe import files, sheet

    names, columns = options.parse_names(attributes), options.parse_numbers(strengths)
    numbers = [seed] if seeds is None else options.parse_seeds(seeds)
    files.check_outputs([out], save_codes)
    tools = loading.load_cli_tools(generator, dtype, device, editor=editor, attributes=names, codes=codes)
    starts = loading.create_starts(tools, numbers, psi, [])
    faces = {loading.format_title(start): loading.make_recipe(tools, start) for start in starts}
    draw_sheet(sheet.make_strength_grid(faces, names, columns, size), tools, out, save_codes)


def animate(
    generator: GeneratorName,
    out: Annotated[Path, typer.Option(help="A .gif, or a .mp4 (needs ffmpeg).")] = Path("animation.gif"),
    set_values: SetValues = None,
    shift_values: ShiftValues = None,
    to: Annotated[
        str | None, typer.Option(metavar="FACE", help="Turn into this face: a seed, or row:N of --codes.")
    ] = None,
    frames: Annotated[int, typer.Option(help="Pictures from one end to the other.")] = 24,
    rate: Annotated[float, typer.Option(help="Pictures a second.")] = 12.0,
    back: Annotated[bool, typer.Option(help="Go back the same way, so that it can repeat.")] = True,
    editor: EditorName = None,
    seed: Seed = 0,
    psi: Psi = 0.7,
    codes: CodesFile = None,
    row: Row = 0,
    save_codes: SaveCodes = None,
    size: Size = 512,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Animate an edit that grows (--set, --shift), or one face that turns into another (--to)."""
    from ganvas.cli import loading
    from ganvas.recipe import files, sheet

    step = loading.parse_step(set_values, shift_values)
    if not step and to is None:
        raise GanvasError("There is nothing to animate: give --set, --shift or --to.")
    files.check_outputs([out], save_codes, ANIMATION_SUFFIXES)
    _check_video(out)
    attributes = loading.collect_attributes(step)
    tools = loading.load_cli_tools(generator, dtype, device, editor=editor, attributes=attributes, codes=codes)
    pictures = [loading.make_recipe(tools, loading.create_start(tools, seed, psi, row), step)]
    other = None if to is None else loading.parse_other_face(tools, to, psi)
    pictures = sheet.interpolate_frames(pictures[0], other, tools.generator.num_ws, frames)
    draw_sheet(sheet.make_animation(pictures, size, rate, back), tools, out, save_codes)


def draw_sheet(sheet: Sheet, tools: Tools, out: Path, save_codes: Path | None) -> None:
    """Render a sheet to a file, with its recipe beside it."""
    from ganvas.recipe import files

    _check_video(out)
    files.draw_sheet(sheet, out, tools, save_codes, lambda pictures: track(pictures, "Drawing"))
    options.print_line(out)


COMMANDS = (grid, animate)


def _check_video(out: Path) -> None:
    from ganvas.io import figures

    if out.suffix.lower() == ".mp4":
        figures.find_ffmpeg()
