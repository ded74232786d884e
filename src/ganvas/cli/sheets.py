"""Commands that put several pictures into one: grid, animate."""

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
    from ganvas.recipe import Tools
    from ganvas.sheet import Sheet

PANEL = "Pictures"
ANIMATIONS = (".gif", ".mp4")


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
    from ganvas import recipe_files, sheet
    from ganvas.cli import starting

    names, columns = options.names_of(attributes), options.numbers_of(strengths)
    numbers = [seed] if seeds is None else options.seeds_of(seeds)
    recipe_files.check_outputs([out], save_codes)
    tools = starting.tools_of(generator, dtype, device, editor=editor, attributes=names, codes=codes)
    starts = starting.many_faces(tools, numbers, psi, [])
    faces = {starting.title_of(start): starting.recipe_of(tools, start) for start in starts}
    draw(sheet.strength_grid(faces, names, columns, size), tools, out, save_codes)


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
    from ganvas import recipe_files, sheet
    from ganvas.cli import starting

    step = starting.step_of(set_values, shift_values)
    if not step and to is None:
        raise GanvasError("Nothing moves: give --set, --shift or --to.")
    recipe_files.check_outputs([out], save_codes, ANIMATIONS)
    _check_film(out)
    named = starting.attributes_of(step)
    tools = starting.tools_of(generator, dtype, device, editor=editor, attributes=named, codes=codes)
    pictures = [starting.recipe_of(tools, starting.face_of(tools, seed, psi, row), step)]
    other = None if to is None else starting.other_face_of(tools, to, psi)
    pictures = sheet.frames_between(pictures[0], other, tools.generator.num_ws, frames)
    draw(sheet.animation(pictures, size, rate, back), tools, out, save_codes)


def draw(sheet: Sheet, tools: Tools, out: Path, save_codes: Path | None) -> None:
    """Render a sheet to a file, with its recipe beside it."""
    from ganvas import recipe_files

    _check_film(out)
    recipe_files.draw_sheet(sheet, out, tools, save_codes, lambda pictures: track(pictures, "Drawing"))
    options.say(out)


COMMANDS = (grid, animate)


def _check_film(out: Path) -> None:
    from ganvas import figures

    if out.suffix.lower() == ".mp4":
        figures.find_ffmpeg()
