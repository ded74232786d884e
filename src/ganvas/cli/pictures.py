"""Commands that draw pictures: edit, sample, mix, render, and several in one: grid, animate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from ganvas.cli import options
from ganvas.errors import GanvasError
from ganvas.progress import track

if TYPE_CHECKING:
    from ganvas.recipe.model import Recipe, Sheet
    from ganvas.recipe.rendering import Tools

PANEL = "Pictures"
ANIMATION_SUFFIXES = (".gif", ".webp", ".mp4")
PictureFile = Annotated[Path, Option(help="The picture, a PNG that carries its recipe.")]


def edit(
    generator: options.GeneratorName,
    out: PictureFile = Path("face.png"),
    set_values: options.SetValues = None,
    shift_values: options.ShiftValues = None,
    edit_rows: options.EditRows = None,
    search_steps: options.SearchSteps = None,
    region: options.Region = "auto",
    refine: options.Refinements = None,
    editor: options.EditorName = None,
    allow_other_generator: options.AllowOtherGenerator = False,
    seed: options.Seed = 0,
    psi: options.Psi = 0.7,
    label: options.Label = None,
    rotate: options.Rotate = 0.0,
    translate: options.Translate = None,
    codes: options.CodesFile = None,
    row: options.Row = 0,
    photo: options.PhotoFile = None,
    save_codes: options.SaveCodes = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
) -> None:
    """Draw one picture, with attributes set or shifted."""
    from ganvas.cli import loading, recipe_options
    from ganvas.recipe import files, refinement

    step = recipe_options.parse_step(set_values, shift_values, generator, editor)
    files.check_outputs([out], save_codes)
    attributes = recipe_options.collect_attributes(step)
    transform = recipe_options.parse_transform(rotate, translate)
    tools = loading.load_cli_tools(
        generator,
        dtype,
        device,
        editor=editor,
        attributes=attributes,
        codes=codes,
        allow_other_generator=allow_other_generator,
    )
    step = recipe_options.limit_search(recipe_options.limit_rows(step, edit_rows, tools), search_steps, tools)
    recipe = recipe_options.make_recipe(
        tools, recipe_options.create_start(tools, seed, psi, row, label), step, transform=transform
    )
    recipe, tools = recipe_options.attach_photo(recipe, tools, photo)
    corrections = refinement.choose_corrections(refine, step, tools.editor, options.has_units(set_values))
    _refine_and_draw([recipe], tools, [out], save_codes, region, corrections)


def sample(
    generator: options.GeneratorName,
    out: Annotated[Path, Option(help="The folder for the pictures.")] = Path("samples"),
    n: Annotated[int, Option("-n", help="How many pictures.")] = 16,
    where: Annotated[
        list[str] | None,
        Option(metavar="CONDITION", help="Smiling>1, Male=-1, Young=-1..1, Age>60y, p(Smiling)>0.9. Repeatable."),
    ] = None,
    seeds: Annotated[str | None, Option(help="The pictures of these seeds: 0-99, or 1,5,10-12.")] = None,
    set_values: options.SetValues = None,
    shift_values: options.ShiftValues = None,
    edit_rows: options.EditRows = None,
    search_steps: options.SearchSteps = None,
    region: options.Region = "auto",
    refine: options.Refinements = None,
    editor: options.EditorName = None,
    allow_other_generator: options.AllowOtherGenerator = False,
    seed: options.Seed = 0,
    psi: options.Psi = 0.7,
    label: options.Label = None,
    rotate: options.Rotate = 0.0,
    translate: options.Translate = None,
    codes: options.CodesFile = None,
    save_codes: options.SaveCodes = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
) -> None:
    """Draw many pictures: of seeds, of a codes file, or such as meet conditions."""
    from ganvas.cli import loading, recipe_options
    from ganvas.recipe import files, refinement

    if sum(given is not None for given in (where, seeds, codes)) > 1:
        raise GanvasError("Give one of --where, --seeds and --codes: each says which pictures to draw.")
    if not 1 <= n <= options.MAX_SEEDS:
        raise GanvasError(f"The number of pictures is 1 to {options.MAX_SEEDS:,}, not {n}.")
    step = recipe_options.parse_step(set_values, shift_values, generator, editor)
    numbers = range(seed, seed + n) if seeds is None else options.parse_seeds(seeds)
    conditions = recipe_options.parse_conditions(where or (), generator, editor)
    files.check_outputs([out / "face.png"], save_codes)
    attributes = recipe_options.collect_attributes(step, conditions)
    transform = recipe_options.parse_transform(rotate, translate)
    tools = loading.load_cli_tools(
        generator,
        dtype,
        device,
        editor=editor,
        attributes=attributes,
        codes=codes,
        allow_other_generator=allow_other_generator,
    )
    step = recipe_options.limit_search(recipe_options.limit_rows(step, edit_rows, tools), search_steps, tools)
    starts = recipe_options.create_starts(tools, numbers, psi, conditions, label)
    paths = [out / f"{recipe_options.format_file_stem(start)}.png" for start in starts]
    recipes = [recipe_options.make_recipe(tools, start, step, transform=transform) for start in starts]
    corrections = refinement.choose_corrections(refine, step, tools.editor, options.has_units(set_values))
    _refine_and_draw(recipes, tools, paths, save_codes, region, corrections)


def mix(
    generator: options.GeneratorName,
    with_: Annotated[str, Option("--with", metavar="SEED", help="The second picture: a seed, or row:N of --codes.")],
    rows: Annotated[str, Option(help="Rows of the code that come from the second picture: 0-5 (coarse) … or 6,8.")],
    out: PictureFile = Path("mix.png"),
    set_values: options.SetValues = None,
    shift_values: options.ShiftValues = None,
    edit_rows: options.MixEditRows = None,
    region: options.Region = "auto",
    editor: options.EditorName = None,
    allow_other_generator: options.AllowOtherGenerator = False,
    seed: options.Seed = 0,
    psi: options.Psi = 0.7,
    label: options.Label = None,
    rotate: options.Rotate = 0.0,
    translate: options.Translate = None,
    codes: options.CodesFile = None,
    row: options.Row = 0,
    save_codes: options.SaveCodes = None,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
) -> None:
    """Mix the styles of two pictures: some rows of the code from one, the others from the other."""
    from ganvas.cli import loading, recipe_options
    from ganvas.recipe import files
    from ganvas.recipe.model import Mix

    step = recipe_options.parse_step(set_values, shift_values, generator, editor)
    chosen = tuple(options.parse_seeds(rows))
    files.check_outputs([out], save_codes)
    attributes = recipe_options.collect_attributes(step)
    transform = recipe_options.parse_transform(rotate, translate)
    tools = loading.load_cli_tools(
        generator,
        dtype,
        device,
        editor=editor,
        attributes=attributes,
        codes=codes,
        allow_other_generator=allow_other_generator,
    )
    step = recipe_options.limit_rows(step, edit_rows, tools)
    mixed = Mix(recipe_options.parse_other_face(tools, with_, psi, label), chosen)
    start = recipe_options.create_start(tools, seed, psi, row, label)
    recipe = recipe_options.make_recipe(tools, start, step, mixed, transform)
    _warn_of_departures([recipe], tools)
    _draw_pictures([recipe], tools, [out], save_codes, region)


def render(
    recipe: Annotated[Path, Argument(metavar="RECIPE", help="A recipe (JSON), or a picture that carries one.")],
    out: Annotated[Path | None, Option(help="The picture; by default beside the recipe.")] = None,
    generator: Annotated[Path | None, Option(metavar="FILE", help="The generator, if it came from a file.")] = None,
    editor: options.EditorName = None,
    codes: options.CodesFile = None,
    photo: options.PhotoFile = None,
    region: options.MaskFile = None,
    save_codes: options.SaveCodes = None,
    device: options.Device = "cpu",
) -> None:
    """Draw the picture of a recipe again, pixel for pixel."""
    from ganvas.cli import recipe_options
    from ganvas.photo.edit import SUFFIXES
    from ganvas.photo.recipe import read_photo_recipe
    from ganvas.photo.redraw import draw_photo_recipe
    from ganvas.recipe import files
    from ganvas.recipe.model import Sheet

    if (edited := read_photo_recipe(recipe)) is not None:
        if photo is None:
            raise GanvasError(f"{recipe} is an edited photograph: give the photograph before it with --photo FILE.")
        out = files.check_output(
            out or recipe.with_name(f"{recipe.stem}-again{recipe.suffix}"), SUFFIXES, [recipe, photo]
        )
        draw_photo_recipe(
            edited, photo, out, tunings=recipe, region=region, editor=editor, generator=generator, device=device
        )
        options.print_line(out)
        return
    loaded, carried = files.load_recipe(recipe)
    animated = isinstance(loaded, Sheet) and loaded.kind == "animation"
    if out is None:
        copy = recipe.with_name(f"{recipe.stem}-again.png")
        out = copy if recipe.suffix.lower() == ".png" else recipe.with_suffix(".gif" if animated else ".png")
    files.check_outputs([out], save_codes, ANIMATION_SUFFIXES if animated else (".png",))
    tools = files.load_recipe_tools(
        loaded, device=device, editor=editor, codes=codes, carried=carried, generator=generator
    )
    tools = recipe_options.attach_mask_file(recipe_options.attach_photo_file(tools, photo), region)
    if isinstance(loaded, Sheet):
        _draw_sheet(loaded, tools, out, save_codes)
    else:
        _draw_pictures([loaded], tools, [out], save_codes)


def grid(
    generator: options.GeneratorName,
    attributes: Annotated[str, Option(help="Attributes to change, one row each: Eyeglasses,Male.")],
    out: PictureFile = Path("grid.png"),
    seeds: Annotated[str | None, Option(help="The seeds: 0-3, or 1,5,10-12; without it the one of --seed.")] = None,
    strengths: Annotated[str, Option(help="The columns, in standard deviations.")] = "-1.5,-0.75,0,0.75,1.5",
    edit_rows: options.EditRows = None,
    region: options.Region = "auto",
    editor: options.EditorName = None,
    allow_other_generator: options.AllowOtherGenerator = False,
    seed: options.Seed = 0,
    psi: options.Psi = 0.7,
    label: options.Label = None,
    rotate: options.Rotate = 0.0,
    translate: options.Translate = None,
    codes: options.CodesFile = None,
    photo: options.PhotoFile = None,
    save_codes: options.SaveCodes = None,
    size: options.Size = 256,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
) -> None:
    """Draw pictures × strengths: what each attribute does to each picture. With --codes, those of that file."""
    from ganvas.cli import loading, recipe_options
    from ganvas.editors.masked import parse_rows
    from ganvas.recipe import files, sheet

    names, columns = options.parse_names(attributes), options.parse_numbers(strengths)
    numbers = [seed] if seeds is None else options.parse_seeds(seeds)
    files.check_outputs([out], save_codes)
    transform = recipe_options.parse_transform(rotate, translate)
    tools = loading.load_cli_tools(
        generator,
        dtype,
        device,
        editor=editor,
        attributes=names,
        codes=codes,
        allow_other_generator=allow_other_generator,
    )
    starts = recipe_options.create_starts(tools, numbers, psi, [], label)
    faces = {}
    for start in starts:
        recipe = recipe_options.make_recipe(tools, start, transform=transform)
        faces[recipe_options.format_title(start)], tools = recipe_options.attach_photo(recipe, tools, photo)
    rows = None if edit_rows is None else parse_rows(edit_rows, tools.generator)
    drawn = sheet.make_strength_grid(faces, names, columns, size, rows)
    _warn_of_departures(drawn.pictures, tools)
    _draw_sheet(drawn, tools, out, save_codes, region)


def animate(
    generator: options.GeneratorName,
    out: Annotated[Path, Option(help="A .gif, a .webp, or a .mp4 (needs ffmpeg: the extra video).")] = Path(
        "animation.gif"
    ),
    set_values: options.SetValues = None,
    shift_values: options.ShiftValues = None,
    to: Annotated[
        str | None, Option(metavar="SEED", help="Turn into this picture: a seed, or row:N of --codes.")
    ] = None,
    frames: Annotated[int, Option(help="Pictures from one end to the other.")] = 24,
    rate: Annotated[float, Option(help="Pictures a second.")] = 12.0,
    back: Annotated[bool, Option(help="Go back the same way, so that it can repeat.")] = True,
    edit_rows: options.EditRows = None,
    region: options.Region = "auto",
    editor: options.EditorName = None,
    allow_other_generator: options.AllowOtherGenerator = False,
    seed: options.Seed = 0,
    psi: options.Psi = 0.7,
    label: options.Label = None,
    rotate: options.Rotate = 0.0,
    translate: options.Translate = None,
    codes: options.CodesFile = None,
    row: options.Row = 0,
    photo: options.PhotoFile = None,
    save_codes: options.SaveCodes = None,
    size: options.Size = 512,
    device: options.Device = "cpu",
    dtype: options.Dtype = "float32",
) -> None:
    """Animate an edit that grows (--set, --shift), or one picture that turns into another (--to)."""
    from ganvas.cli import loading, recipe_options
    from ganvas.recipe import files, sheet

    step = recipe_options.parse_step(set_values, shift_values, generator, editor)
    if not step and to is None:
        raise GanvasError("There is nothing to animate: give --set, --shift or --to.")
    files.check_outputs([out], save_codes, ANIMATION_SUFFIXES)
    _check_video(out)
    attributes = recipe_options.collect_attributes(step)
    transform = recipe_options.parse_transform(rotate, translate)
    tools = loading.load_cli_tools(
        generator,
        dtype,
        device,
        editor=editor,
        attributes=attributes,
        codes=codes,
        allow_other_generator=allow_other_generator,
    )
    step = recipe_options.limit_rows(step, edit_rows, tools)
    recipe = recipe_options.make_recipe(
        tools, recipe_options.create_start(tools, seed, psi, row, label), step, transform=transform
    )
    recipe, tools = recipe_options.attach_photo(recipe, tools, photo)
    other = None if to is None else recipe_options.parse_other_face(tools, to, psi, label)
    pictures = sheet.interpolate_frames(recipe, other, tools.generator.num_ws, frames)
    _warn_of_departures(pictures, tools)
    _draw_sheet(sheet.make_animation(pictures, size, rate, back), tools, out, save_codes, region)


COMMANDS = (edit, sample, mix, render, grid, animate)


def _warn_of_departures(recipes: Sequence[Recipe], tools: Tools) -> None:
    """Print one line where edits leave the codes that the generator draws, and one where they fall short of what is asked."""
    from ganvas.recipe.departures import describe_departures, describe_shortfall

    for line in (describe_departures(recipes, tools), describe_shortfall(recipes, tools)):
        if line:
            options.print_warning(line)


def _refine_and_draw(
    recipes: Sequence[Recipe], tools: Tools, paths: list[Path], save_codes: Path | None, region: str, corrections: int
) -> None:
    """Draw pictures whose edits are refined in their regions first, where ``corrections`` isn't 0."""
    from ganvas.cli import recipe_options
    from ganvas.recipe import refinement

    limit, tools = recipe_options.parse_region(region, tools)
    limited = [limit(recipe) for recipe in recipes]
    if corrections:
        scorer = refinement.load_label_scorer(tools.required_editor).to(tools.generator.device)
        refined = [
            refinement.refine_recipe(recipe, tools, scorer, corrections) for recipe in track(limited, "Refining")
        ]
        for path, (_, found) in zip(paths, refined, strict=True):
            for name in found.asked:
                options.print_line(f"{path.stem}: {refinement.format_refined(found, name, tools.required_editor)}")
        limited = [recipe for recipe, _ in refined]
    _warn_of_departures(limited, tools)
    _draw_pictures(limited, tools, paths, save_codes)


def _draw_pictures(
    recipes: Sequence[Recipe], tools: Tools, paths: list[Path], save_codes: Path | None, region: str = "off"
) -> None:
    from ganvas.cli import recipe_options
    from ganvas.recipe import files

    limit, tools = recipe_options.parse_region(region, tools)
    files.draw_recipes(
        [limit(recipe) for recipe in recipes], paths, tools, save_codes, lambda jobs: track(jobs, "Drawing")
    )
    options.print_line(paths[0] if len(paths) == 1 else f"{len(paths)} pictures in {paths[0].parent}")


def _draw_sheet(sheet: Sheet, tools: Tools, out: Path, save_codes: Path | None, region: str = "off") -> None:
    """Render a sheet to a file, with its recipe beside it."""
    from ganvas.cli import recipe_options
    from ganvas.recipe import files

    _check_video(out)
    limit, tools = recipe_options.parse_region(region, tools)
    sheet = replace(sheet, pictures=tuple(limit(picture) for picture in sheet.pictures))
    files.draw_sheet(sheet, out, tools, save_codes, lambda pictures: track(pictures, "Drawing"))
    options.print_line(out)


def _check_video(out: Path) -> None:
    from ganvas.io import figures

    if out.suffix.lower() == ".mp4":
        figures.find_ffmpeg()
