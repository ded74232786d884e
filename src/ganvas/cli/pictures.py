"""Commands that make single pictures: edit, sample, mix, render."""

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
    Label,
    PhotoFile,
    Psi,
    Row,
    SaveCodes,
    Seed,
    SetValues,
    ShiftValues,
)
from ganvas.errors import GanvasError
from ganvas.progress import track

if TYPE_CHECKING:
    from ganvas.recipe.model import Recipe
    from ganvas.recipe.rendering import Tools

PANEL = "Pictures"


def edit(
    generator: GeneratorName,
    out: Annotated[Path, typer.Option(help="The picture, a PNG that carries its recipe.")] = Path("face.png"),
    set_values: SetValues = None,
    shift_values: ShiftValues = None,
    editor: EditorName = None,
    seed: Seed = 0,
    psi: Psi = 0.7,
    label: Label = None,
    codes: CodesFile = None,
    row: Row = 0,
    photo: PhotoFile = None,
    save_codes: SaveCodes = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Draw one face, with attributes set or shifted."""
    from ganvas.cli import loading, photo_helpers
    from ganvas.recipe import files

    step = loading.parse_step(set_values, shift_values)
    files.check_outputs([out], save_codes)
    attributes = loading.collect_attributes(step)
    tools = loading.load_cli_tools(generator, dtype, device, editor=editor, attributes=attributes, codes=codes)
    start = loading.create_start(tools, seed, psi, row, label)
    recipe, tools = photo_helpers.attach_photo(loading.make_recipe(tools, start, step), tools, photo)
    _draw_pictures([recipe], tools, [out], save_codes)


def sample(
    generator: GeneratorName,
    out: Annotated[Path, typer.Option(help="The folder for the pictures.")] = Path("samples"),
    n: Annotated[int, typer.Option("-n", help="How many faces.")] = 16,
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="CONDITION", help="Smiling>1, Male=-1, Young=-1..1, p(Smiling)>0.9. Repeatable."),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="The faces of these seeds: 0-99, or 1,5,10-12.")] = None,
    set_values: SetValues = None,
    shift_values: ShiftValues = None,
    editor: EditorName = None,
    seed: Seed = 0,
    psi: Psi = 0.7,
    label: Label = None,
    codes: CodesFile = None,
    save_codes: SaveCodes = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Draw many faces: of seeds, of a codes file, or such as meet conditions."""
    from ganvas.cli import loading
    from ganvas.control.conditions import parse_condition
    from ganvas.recipe import files

    if sum(given is not None for given in (where, seeds, codes)) > 1:
        raise GanvasError("Give one of --where, --seeds and --codes: each says which faces to draw.")
    if not 1 <= n <= options.MAX_SEEDS:
        raise GanvasError(f"The number of faces is 1 to {options.MAX_SEEDS:,}, not {n}.")
    step = loading.parse_step(set_values, shift_values)
    numbers = range(seed, seed + n) if seeds is None else options.parse_seeds(seeds)
    conditions = [parse_condition(text) for text in where or ()]
    files.check_outputs([out / "face.png"], save_codes)
    attributes = loading.collect_attributes(step, conditions)
    tools = loading.load_cli_tools(generator, dtype, device, editor=editor, attributes=attributes, codes=codes)
    starts = loading.create_starts(tools, numbers, psi, conditions, label)
    recipes = [loading.make_recipe(tools, start, step) for start in starts]
    _draw_pictures(recipes, tools, [out / f"{loading.format_file_stem(start)}.png" for start in starts], save_codes)


def mix(
    generator: GeneratorName,
    with_: Annotated[str, typer.Option("--with", metavar="FACE", help="The second face: a seed, or row:N of --codes.")],
    rows: Annotated[str, typer.Option(help="Rows of the code that come from the second face: 0-5 (coarse) … or 6,8.")],
    out: Annotated[Path, typer.Option(help="The picture, a PNG that carries its recipe.")] = Path("mix.png"),
    set_values: SetValues = None,
    shift_values: ShiftValues = None,
    editor: EditorName = None,
    seed: Seed = 0,
    psi: Psi = 0.7,
    codes: CodesFile = None,
    row: Row = 0,
    save_codes: SaveCodes = None,
    device: Device = "cpu",
    dtype: Dtype = "float32",
) -> None:
    """Mix the styles of two faces: some rows of the code from one, the others from the other."""
    from ganvas.cli import loading
    from ganvas.recipe import files
    from ganvas.recipe.model import Mix

    step = loading.parse_step(set_values, shift_values)
    chosen = tuple(options.parse_seeds(rows))
    files.check_outputs([out], save_codes)
    attributes = loading.collect_attributes(step)
    tools = loading.load_cli_tools(generator, dtype, device, editor=editor, attributes=attributes, codes=codes)
    mixed = Mix(loading.parse_other_face(tools, with_, psi), chosen)
    start = loading.create_start(tools, seed, psi, row)
    _draw_pictures([loading.make_recipe(tools, start, step, mixed)], tools, [out], save_codes)


def render(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe (JSON), or a PNG that carries one.")],
    out: Annotated[Path | None, typer.Option(help="The picture; by default beside the recipe.")] = None,
    generator: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where the generator lies, if it came from a file.")
    ] = None,
    editor: EditorName = None,
    codes: CodesFile = None,
    photo: PhotoFile = None,
    save_codes: SaveCodes = None,
    device: Device = "cpu",
) -> None:
    """Draw the picture of a recipe again, pixel for pixel."""
    from ganvas.cli import photo_helpers, sheets
    from ganvas.recipe import files
    from ganvas.recipe.sheet import Sheet

    loaded, carried = files.load_recipe(recipe)
    animated = isinstance(loaded, Sheet) and loaded.kind == "animation"
    if out is None:
        copy = recipe.with_name(f"{recipe.stem}-again.png")
        out = copy if recipe.suffix.lower() == ".png" else recipe.with_suffix(".gif" if animated else ".png")
    files.check_outputs([out], save_codes, sheets.ANIMATION_SUFFIXES if animated else (".png",))
    tools = files.load_recipe_tools(
        loaded, device=device, editor=editor, codes=codes, carried=carried, generator=generator
    )
    tools = photo_helpers.attach_photo_file(tools, photo)
    if isinstance(loaded, Sheet):
        sheets.draw_sheet(loaded, tools, out, save_codes)
    else:
        _draw_pictures([loaded], tools, [out], save_codes)


COMMANDS = (edit, sample, mix, render)


def _draw_pictures(recipes: list[Recipe], tools: Tools, paths: list[Path], save_codes: Path | None) -> None:
    from ganvas.recipe import files

    files.draw_recipes(recipes, paths, tools, save_codes, lambda jobs: track(jobs, "Drawing"))
    options.print_line(paths[0] if len(paths) == 1 else f"{len(paths)} pictures in {paths[0].parent}")
