"""Read and write pictures with their recipes: PNG files with the recipe in their text and as JSON beside them."""

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
from ganvas.io.images import JPEG_SUFFIXES, encode_png, read_jpeg_comment, read_png_texts, to_bytes
from ganvas.recipe.model import FromCodes, Recipe, Sheet, from_json, to_json
from ganvas.recipe.rendering import Tools, compute_code, draw_code, load_tools
from ganvas.recipe.sheet import render_frames

RECIPE_TEXT = "ganvas.recipe"
CODES_TEXT = "ganvas.codes"
PHOTO_RECIPE_TEXT = "ganvas.photograph"
"""The keys of texts in PNG files. Renaming one makes the pictures that exist unreadable."""
MAX_TEXT_LENGTH = 1 << 20
"""Characters. Pillow and other readers of PNG files refuse longer texts."""


def load_recipe(path: str | Path) -> tuple[Recipe | Sheet, Any]:
    """Load the recipe in a JSON file or a PNG, and the codes that the PNG carries (for ``load_recipe_tools``) or None.

    Raises GanvasError for a file that is missing, is damaged, or holds no recipe that this version can read.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        return from_json(_read_recipe_file(path), path), None
    texts = read_png_texts(path)
    if PHOTO_RECIPE_TEXT in texts:
        raise _refuse_photo(path)
    if RECIPE_TEXT not in texts:
        raise GanvasError(f"{path} carries no recipe: ganvas didn't draw it, or another program saved it again.")
    carried = texts.get(CODES_TEXT)
    recipe = from_json(parse_json(texts[RECIPE_TEXT], path), path)
    return recipe, None if carried is None else parse_json(carried, path)


def _read_recipe_file(path: Path) -> Any:
    """Read a recipe's JSON. Raises GanvasError where it isn't that."""
    try:
        return read_json(path)
    except GanvasError:
        if path.suffix.lower() not in JPEG_SUFFIXES or not path.is_file():
            raise
    if read_jpeg_comment(path).startswith(f"{PHOTO_RECIPE_TEXT} "):
        raise _refuse_photo(path)
    raise GanvasError(
        f"{path} carries no recipe: ganvas didn't edit it, another program saved it again, or it was too long for a JPEG."
    )


def _refuse_photo(path: Path) -> GanvasError:
    return GanvasError(f"{path} is an edited photograph: `ganvas render` draws it again, with --photo FILE.")


def load_recipe_tools(
    recipe: Recipe | Sheet,
    *,
    device: str = "cpu",
    editor: str | Path | None = None,
    codes: str | Path | None = None,
    carried: Any = None,
    generator: str | Path | None = None,
) -> Tools:
    """Load what a recipe names; ``generator``, ``editor`` and ``codes`` are paths, ``carried`` replaces ``codes``.

    Raises GanvasError where something is missing. Fingerprints are compared when the recipe is rendered.
    """
    picture = recipe.pictures[0] if isinstance(recipe, Sheet) else recipe
    named = picture.editor
    if editor is None and named is not None:
        editor = named.name
        if Path(editor).suffix and not Path(editor).is_file():
            sha256 = named.fingerprint[:12]
            raise GanvasError(f"The recipe needs the editor {editor!r} ({sha256}): give its path with --editor FILE.")
    owner = picture.generator
    if generator is None and owner.name not in generators.list_generators():
        sha256 = owner.fingerprint[:12]
        raise GanvasError(
            f"Unknown generator {owner.name!r} ({sha256}): if it was loaded from a file, give that with --generator FILE."
        )
    source = owner.name if generator is None else str(generator)
    tools = load_tools(
        source,
        picture.dtype,
        device,
        None if named is None else editor,
        codes,
        allow_other_generator=bool(picture.other_generator),
    )
    if codes is None and carried is not None:
        return tools.with_codes(code_files.unpack_codes(carried, "The picture", tools.generator))
    return tools


def save_picture(path: str | Path, pixels: Tensor, recipe: Recipe | Sheet, codes: Codes | None = None) -> None:
    """Write a picture (height, width, 3), uint8, as PNG with its recipe, and the recipe as JSON beside it.

    ``codes`` holds the rows that the recipe starts from. Raises GanvasError where ``path`` doesn't end in .png or can't be
    written; then neither file is.
    """
    text = json.dumps(to_json(recipe), allow_nan=False, separators=(",", ":"))
    if len(text) > MAX_TEXT_LENGTH:
        raise GanvasError(f"The recipe of {path} is too long for a PNG: draw fewer pictures at once.")
    texts = {RECIPE_TEXT: text}
    rows = list_code_rows(recipe)
    if rows and codes is not None:
        carried = json.dumps(code_files.pack_codes(codes, rows))
        if len(carried) <= MAX_TEXT_LENGTH:  # a large grid of photographs is rendered with its codes file
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
    track: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> None:
    """Render recipes to PNG files, and write their finished codes to the file ``save_codes``, if given.

    All codes are computed before the first picture is drawn, so a recipe that fails leaves no files.
    ``track`` iterates over the work and may show progress. Raises GanvasError as ``compute_code`` and ``save_picture`` do.
    """
    codes = [compute_code(recipe, tools) for recipe in recipes]
    with torch.no_grad():
        for ws, recipe, path in track(list(zip(codes, recipes, paths, strict=True))):
            save_picture(path, to_bytes(draw_code(ws, recipe, tools))[0], recipe, tools.codes)
    if save_codes is not None:
        code_files.save_codes(save_codes, torch.cat(codes), tools.generator)


def draw_sheet(
    sheet: Sheet,
    path: Path,
    tools: Tools,
    save_codes: Path | None = None,
    track: Callable[[Sequence[Any]], Iterable[Any]] = iter,
) -> None:
    """Render a grid to a PNG file, or an animation to a GIF, WebP or MP4 file (repeated pictures are rendered once)."""
    pictures, codes = render_frames(sheet, tools, track)
    if sheet.kind == "grid":
        save_grid(sheet, pictures, path, tools)
    else:
        encoders = {".gif": figures.encode_gif, ".webp": figures.encode_webp, ".mp4": figures.encode_mp4}
        encode = encoders.get(path.suffix.lower(), figures.encode_gif)
        save_with_recipe(path, tuple(encoders), encode(pictures, sheet.rate), sheet)
    if save_codes is not None:
        code_files.save_codes(save_codes, codes, tools.generator)


def save_grid(sheet: Sheet, pictures: Sequence[Tensor], path: Path, tools: Tools) -> None:
    """Write the pictures of a grid, (side, side, 3) each, to a PNG file."""
    save_picture(path, figures.draw_grid(pictures, sheet.rows, sheet.columns), sheet, tools.codes)


def check_outputs(paths: Sequence[Path], save_codes: Path | None, suffixes: Sequence[str] = (".png",)) -> None:
    """Check that pictures, their recipes and codes can be written, before networks are loaded. Raises GanvasError if not."""
    if save_codes is not None:
        check_output(save_codes, (".safetensors",))
    for path in paths:
        check_picture(path, suffixes)


def check_picture(path: str | Path, suffixes: Sequence[str]) -> Path:
    """Return ``path`` if a picture and its recipe can be written there. Raises GanvasError if not."""
    check_output(Path(path).with_suffix(".json"), (".json",))
    return check_output(path, suffixes)


def check_output(path: str | Path, suffixes: Sequence[str], inputs: Sequence[Path] = ()) -> Path:
    """Return ``path`` if a file can be written there and it isn't one of ``inputs``. Raises GanvasError if not."""
    path = Path(path)
    if any(each.exists() and path.exists() and each.samefile(path) for each in inputs):
        raise GanvasError(f"{path} is an input and would be overwritten: give another --out.")
    if path.suffix.lower() not in suffixes:
        raise GanvasError(f"Can't write {path}: its name must end with {' or '.join(suffixes)}.")
    if path.is_dir():
        raise GanvasError(f"Can't write {path}: it is a folder.")
    parent = next(folder for folder in path.absolute().parents if folder.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise GanvasError(f"Can't write {path}: {parent} isn't a writable folder.")
    return path


def list_code_rows(recipe: Recipe | Sheet) -> list[int]:
    """Return the rows of a codes file that a recipe starts from, in rising order."""
    pictures = recipe.pictures if isinstance(recipe, Sheet) else (recipe,)
    return sorted({start.row for picture in pictures for start in picture.starts if isinstance(start, FromCodes)})
