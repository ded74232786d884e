"""Pictures that carry their recipes: PNG with the recipe in its text and as JSON beside it, and back."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas import generators
from ganvas.data import codes as code_files
from ganvas.data.codes import Codes
from ganvas.errors import GanvasError
from ganvas.io import figures
from ganvas.io.files import atomic_write, parse_json, read_json
from ganvas.io.images import encode_png, png_texts, to_bytes
from ganvas.recipe.json_format import from_json, to_json
from ganvas.recipe.model import FromCodes, Recipe, Tools, load_tools, recipe_codes
from ganvas.recipe.model import draw_code as draw_recipe
from ganvas.recipe.sheet import Sheet, render_frames

RECIPE_TEXT = "ganvas.recipe"
CODES_TEXT = "ganvas.codes"
MAX_TEXT_BYTES = 1 << 20
"""Characters: longer texts are refused by those who read PNG files, Pillow among them."""


def load_recipe(path: str | Path) -> tuple[Recipe | Sheet, Any]:
    """The recipe in a JSON file or a PNG, and what the PNG says about its codes (for ``load_recipe_tools``) or None.

    Raises GanvasError for a file that is missing, isn't whole, or holds no recipe that this ganvas can read.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        return from_json(read_json(path), path), None
    texts = png_texts(path)
    if RECIPE_TEXT not in texts:
        raise GanvasError(f"{path} carries no recipe: ganvas didn't draw it, or another program saved it again.")
    carried = texts.get(CODES_TEXT)
    recipe = from_json(parse_json(texts[RECIPE_TEXT], path), path)
    return recipe, None if carried is None else parse_json(carried, path)


def load_recipe_tools(
    recipe: Recipe | Sheet,
    *,
    device: str = "cpu",
    editor: str | Path | None = None,
    codes: str | Path | None = None,
    carried: Any = None,
    generator: str | Path | None = None,
) -> Tools:
    """Load what a recipe names; ``generators.base``, ``editor`` and ``data.codes`` say where files lie, ``carried``
    stands in for ``data.codes``.

    Raises GanvasError where something isn't there. Whether it's the right one is checked when the recipe is rendered.
    """
    picture = recipe.pictures[0] if isinstance(recipe, Sheet) else recipe
    named = picture.editor
    if editor is None and named is not None:
        editor = named.name
        if Path(editor).suffix and not Path(editor).is_file():
            print_ = named.fingerprint[:12]
            raise GanvasError(f"The recipe needs the editor {editor!r} ({print_}): say where it is with --editor FILE.")
    drawn_by = picture.generator
    if generator is None and drawn_by.name not in generators.generator_names():
        print_ = drawn_by.fingerprint[:12]
        raise GanvasError(
            f"Unknown generator {drawn_by.name!r} ({print_}): where it came from a file, name that with --generator FILE."
        )
    place = drawn_by.name if generator is None else str(generator)
    tools = load_tools(place, picture.dtype, device, None if named is None else editor, codes)
    if codes is None and carried is not None:
        return tools.with_codes(code_files.unpack(carried, "The picture", tools.generator))
    return tools


def save_picture(path: str | Path, pixels: Tensor, recipe: Recipe | Sheet, codes: Codes | None = None) -> None:
    """Write a picture (height, width, 3), uint8, as PNG with its recipe, and the recipe as JSON beside it.

    ``data.codes`` holds the rows that the recipe starts from. Raises GanvasError where ``path`` isn't a PNG's or can't be
    written; then neither file is.
    """
    text = json.dumps(to_json(recipe), allow_nan=False, separators=(",", ":"))
    if len(text) > MAX_TEXT_BYTES:
        raise GanvasError(f"The recipe of {path} is too long for a PNG: draw fewer pictures at once.")
    texts = {RECIPE_TEXT: text}
    rows = code_rows(recipe)
    if rows and codes is not None:
        carried = json.dumps(code_files.pack(codes, rows))
        if len(carried) <= MAX_TEXT_BYTES:  # a large grid of photographs is rendered with its codes file
            texts[CODES_TEXT] = carried
    save_with_recipe(path, (".png",), encode_png(pixels, texts), recipe)


def save_with_recipe(path: str | Path, suffixes: Sequence[str], data: bytes, recipe: Recipe | Sheet) -> None:
    """Write ``data``, and its recipe as JSON beside it: both or neither."""
    path = check_picture(path, suffixes)
    with atomic_write(path) as picture, atomic_write(path.with_suffix(".json")) as beside:
        picture.write_bytes(data)
        beside.write_text(json.dumps(to_json(recipe), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def draw_recipes(
    recipes: Sequence[Recipe],
    paths: Sequence[Path],
    tools: Tools,
    save_codes: Path | None = None,
    watch: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> None:
    """Render recipes to PNG files, and write their finished codes to one file where that is wanted.

    All codes are found before the first picture is drawn, so a recipe that can't be followed leaves nothing behind.
    ``watch`` passes the work on and may show progress. Raises GanvasError as ``recipe_codes`` and ``save_picture`` do.
    """
    codes = [recipe_codes(recipe, tools) for recipe in recipes]
    with torch.no_grad():
        for ws, recipe, path in watch(list(zip(codes, recipes, paths, strict=True))):
            save_picture(path, to_bytes(draw_recipe(ws, recipe, tools))[0], recipe, tools.codes)
    if save_codes is not None:
        code_files.save_codes(save_codes, torch.cat(codes), tools.generator)


def draw_sheet(
    sheet: Sheet,
    path: Path,
    tools: Tools,
    save_codes: Path | None = None,
    watch: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> None:
    """Render a grid to a PNG file, or an animation to a GIF or MP4 file (repeated pictures are rendered once)."""
    pictures, codes = render_frames(sheet, tools, watch)
    if sheet.kind == "grid":
        save_picture(path, figures.draw_grid(pictures, sheet.rows, sheet.columns), sheet, tools.codes)
    else:
        encode = figures.encode_mp4 if path.suffix.lower() == ".mp4" else figures.encode_gif
        save_with_recipe(path, (".gif", ".mp4"), encode(pictures, sheet.rate), sheet)
    if save_codes is not None:
        code_files.save_codes(save_codes, codes, tools.generator)


def check_outputs(paths: Sequence[Path], save_codes: Path | None, suffixes: Sequence[str] = (".png",)) -> None:
    """Raises GanvasError where pictures, their recipes, or codes can't be written: asked before networks are loaded."""
    if save_codes is not None:
        check_output(save_codes, (".safetensors",))
    for path in paths:
        check_picture(path, suffixes)


def check_picture(path: str | Path, suffixes: Sequence[str]) -> Path:
    """``path``, where a picture and its recipe can be written. Raises GanvasError where they can't."""
    check_output(Path(path).with_suffix(".json"), (".json",))
    return check_output(path, suffixes)


def check_output(path: str | Path, suffixes: Sequence[str], inputs: Sequence[Path] = ()) -> Path:
    """``path``, where a file can be written, and isn't one of ``inputs``. Raises GanvasError else: asked before long work."""
    path = Path(path)
    if any(each.exists() and path.exists() and each.samefile(path) for each in inputs):
        raise GanvasError(f"{path} would be written over: it is what this is made from. Give another --out.")
    if path.suffix.lower() not in suffixes:
        raise GanvasError(f"Can't write {path}: its name must end with {' or '.join(suffixes)}.")
    if path.is_dir():
        raise GanvasError(f"Can't write {path}: it is a folder.")
    there = next(folder for folder in path.absolute().parents if folder.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise GanvasError(f"Can't write {path}: {there} isn't a folder that can be written.")
    return path


def code_rows(recipe: Recipe | Sheet) -> list[int]:
    """The rows of a codes file that a recipe starts from, in order."""
    pictures = recipe.pictures if isinstance(recipe, Sheet) else (recipe,)
    return sorted({start.row for picture in pictures for start in picture.starts if isinstance(start, FromCodes)})
