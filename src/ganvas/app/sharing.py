"""Share a picture: the token of a link, the command line and the Python lines that make the same picture."""

from __future__ import annotations

import base64
import binascii
import json
import shlex
import zlib
from dataclasses import replace
from pathlib import Path

from ganvas.app.scene import Scene
from ganvas.control.refinement import BINARY_ATTRIBUTES
from ganvas.errors import GanvasError
from ganvas.io.files import parse_json
from ganvas.recipe.model import EditStep, FromCodes, FromConditions, FromSeed, Recipe, from_json, to_json
from ganvas.recipe.rendering import limit_to_regions
from ganvas.recipe.sheet import Sheet

QUERY_PARAMETER = "recipe"
"""The query parameter of a link that holds the token."""
MAX_TOKEN_LENGTH = 4096
"""Characters: browsers and servers accept no longer links."""
MAX_RECIPE_BYTES = 1 << 16
"""Bytes that a token may unpack to."""


def encode_token(recipe: Recipe) -> str:
    """Encode a recipe for a link. Raises GanvasError for one that is too long, as with a photograph's code."""
    if any(isinstance(start, FromCodes) for start in recipe.starts):
        raise GanvasError("A photograph's code is too long for a link: download the PNG, which carries it.")
    text = json.dumps(to_json(recipe), separators=(",", ":"), allow_nan=False)
    token = base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")
    if len(token) > MAX_TOKEN_LENGTH:
        raise GanvasError("This recipe is too long for a link: download its file.")
    return token


def decode_token(token: str) -> Recipe:
    """Decode the recipe of a link; the inverse of ``encode_token``. Raises GanvasError for a damaged token."""
    damaged = GanvasError("The link is damaged: a part of it is missing or changed. Copy it again.")
    if len(token) > MAX_TOKEN_LENGTH:
        raise damaged
    try:
        unpacker = zlib.decompressobj()
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        text = unpacker.decompress(packed, MAX_RECIPE_BYTES).decode()
    except (ValueError, binascii.Error, zlib.error, UnicodeDecodeError):
        raise damaged from None
    if not unpacker.eof:
        raise damaged
    return require_single_picture(from_json(parse_json(text, "in the link"), "in the link"))


def require_single_picture(recipe: Recipe | Sheet) -> Recipe:
    """Return the recipe of one picture. Raises GanvasError for a sheet of several."""
    if isinstance(recipe, Sheet):
        raise GanvasError(f"This is the recipe of a whole {recipe.kind}: load that of one picture.")
    return recipe


def make_file_name(scene: Scene) -> str:
    """Return the name, without suffix, of the picture's files."""
    if isinstance(scene.start, FromCodes):
        return "photo"
    kind = "sampled" if isinstance(scene.start, FromConditions) else "seed"
    return f"{kind}{scene.start.seed:04d}"


def format_command(recipe: Recipe, editor: str, name: str) -> str:
    """Format the command line that draws the picture; from the recipe's file where options don't suffice."""
    start, step = recipe.start, recipe.edits[0] if recipe.edits else EditStep()
    simple = recipe.mix is None and len(recipe.edits) <= 1 and step.amount == 1
    simple = simple and step.rows is None and step.refined is None and step.search_steps is None
    regional = recipe in (limit_to_regions(recipe), replace(recipe, regions=None, mask=None))
    options_suffice = simple and regional and isinstance(start, FromSeed)
    editor_args = ["--editor", editor] if recipe.editor is not None else []
    if not isinstance(start, FromSeed) or not options_suffice:
        file = f"{name}.png" if isinstance(start, FromCodes) else f"{name}.json"
        return shlex.join(
            [
                *("ganvas", "render", file, *(editor_args if Path(editor).suffix else [])),
                *(("--region", "mask.png") if recipe.mask else ()),
                *("--out", f"{name}-again.png"),
            ]
        )
    seed = ["--seed", str(start.seed), "--psi", repr(start.psi)]
    parts = ["ganvas", "edit", recipe.generator.name, *seed, *editor_args]
    for option, values in (("--set", step.set), ("--shift", step.shift)):
        for key, value in values.items():
            parts += [option, f"{key}={value!r}"]
    if BINARY_ATTRIBUTES & {*step.set, *step.shift}:  # which the command refines by itself
        parts += ["--refine", "0"]
    if limit_to_regions(recipe) != recipe:  # the command's default
        parts += ["--region", "off"]
    return shlex.join([*parts, "--dtype", recipe.dtype, "--out", f"{name}.png"])


def format_python(recipe: Recipe, editor: str, name: str) -> str:
    """Format Python lines that make ``image``, the same picture."""
    if any(isinstance(start, FromCodes) for start in recipe.starts):
        return _format_python_from_file(f"{name}.png", editor)
    if (steps := _format_python_steps(recipe, editor)) is not None:
        return steps
    text = json.dumps(to_json(recipe), allow_nan=False)
    lines = [
        "import json",
        "",
        "from ganvas.recipe import from_json, load_tools, render",
        "",
        f"recipe = from_json(json.loads({text!r}), 'recipe')",
    ]
    editor_args = f", editor={editor!r}" if recipe.editor is not None else ""
    lines += [
        f"tools = load_tools({recipe.generator.name!r}, {recipe.dtype!r}{editor_args})",
        "image = render(recipe, tools)  # (1, 3, height, width): black -1 to white 1, not clipped",
    ]
    return "\n".join(lines) + "\n"


def _format_python_from_file(file: str, editor: str) -> str:
    named = f", editor={editor!r}" if Path(editor).suffix else ""
    return (
        "from ganvas.recipe import load_recipe, load_recipe_tools, render\n\n"
        f"recipe, codes = load_recipe({file!r})\n"
        f"image = render(recipe, load_recipe_tools(recipe{named}, carried=codes))\n"
    )


def _format_python_steps(recipe: Recipe, editor: str) -> str | None:
    """Format the library's calls for a seed with at most one edit; None for other recipes."""
    start, step = recipe.start, recipe.edits[0] if recipe.edits else EditStep()
    if (
        not isinstance(start, FromSeed)
        or recipe.mix is not None
        or len(recipe.edits) > 1
        or step.amount != 1
        or step.rows
        or step.search_steps is not None
        or recipe.regions
        or recipe.mask
    ):
        return None
    lines = ["import torch", "", "import ganvas", "from ganvas.control.target_values import solve_changes", ""]
    lines.append(f"generator = ganvas.load_generator({recipe.generator.name!r}, dtype=torch.{recipe.dtype})")
    lines.append(f"ws = ganvas.sample(generator, 1, psi={start.psi!r}, seed={start.seed})")
    step = step.apply_refinement()
    if step.set or step.shift:
        lines.append(f"editor = ganvas.load_editor({editor!r}, generator)")
        lines.append(f"changes = {dict(step.shift)!r}")
        if step.set:
            lines.append(
                f"changes |= solve_changes(editor, ws, {dict(step.set)!r}, changes)  # in σ: where they shall stand"
            )
        lines.append("ws = editor.edit(ws, changes)")
    lines.append("image = generator.synthesis(ws)  # (1, 3, height, width): black -1 to white 1, not clipped")
    if not step.set:
        lines.remove("from ganvas.control.target_values import solve_changes")
    return "\n".join(lines) + "\n"
