"""Taking a picture along: a link's token, the command line and the Python lines that make the same picture."""

from __future__ import annotations

import base64
import binascii
import json
import shlex
import zlib
from pathlib import Path

from ganvas.app.scene import Scene
from ganvas.errors import GanvasError
from ganvas.io.files import parse_json
from ganvas.recipe.json_format import from_json, to_json
from ganvas.recipe.model import EditStep, FromCodes, FromConditions, FromSeed, Recipe
from ganvas.recipe.sheet import Sheet

QUERY = "recipe"
"""The name of the token in a link."""
MAX_TOKEN_LENGTH = 4096
"""Characters: browsers and servers take no longer links."""
MAX_TEXT_BYTES = 1 << 16
"""Bytes that a token may unpack to."""


def token_of(recipe: Recipe) -> str:
    """A recipe as a link carries it. Raises GanvasError where a link can't: a photograph's code is too long for one."""
    if any(isinstance(start, FromCodes) for start in recipe.starts):
        raise GanvasError("A photograph's code is too long for a link: its PNG carries it.")
    text = json.dumps(to_json(recipe), separators=(",", ":"), allow_nan=False)
    token = base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")
    if len(token) > MAX_TOKEN_LENGTH:
        raise GanvasError("This recipe is too long for a link: take its file along.")
    return token


def recipe_of_token(token: str) -> Recipe:
    """The inverse of ``token_of``. Raises GanvasError for a token that isn't one, or is damaged."""
    damaged = GanvasError("The link is damaged: a part of it is missing or changed.")
    if len(token) > MAX_TOKEN_LENGTH:
        raise damaged
    try:
        unpacker = zlib.decompressobj()
        packed = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        text = unpacker.decompress(packed, MAX_TEXT_BYTES).decode()
    except (ValueError, binascii.Error, zlib.error, UnicodeDecodeError):
        raise damaged from None
    if not unpacker.eof:
        raise damaged
    return picture_of(from_json(parse_json(text, "in the link"), "in the link"))


def picture_of(recipe: Recipe | Sheet) -> Recipe:
    """The recipe of one picture. Raises GanvasError for a sheet of several."""
    if isinstance(recipe, Sheet):
        raise GanvasError(f"This is the recipe of a whole {recipe.kind}: load that of one picture.")
    return recipe


def file_name(scene: Scene) -> str:
    """What the picture is called when it's taken along."""
    if isinstance(scene.start, FromCodes):
        return "photo"
    kind = "asked" if isinstance(scene.start, FromConditions) else "seed"
    return f"{kind}{scene.start.seed:04d}"


def command_of(recipe: Recipe, editor: str, name: str) -> str:
    """The command line that draws the picture; from the recipe's file where options can't say it."""
    start, step = recipe.start, recipe.edits[0] if recipe.edits else EditStep()
    said = isinstance(start, FromSeed) and recipe.mix is None and len(recipe.edits) <= 1 and step.amount == 1
    owner = ["--editor", editor] if recipe.editor is not None else []
    if not isinstance(start, FromSeed) or not said:
        file = f"{name}.png" if isinstance(start, FromCodes) else f"{name}.json"
        return shlex.join(
            ["ganvas", "render", file, *(owner if Path(editor).suffix else []), "--out", f"{name}-again.png"]
        )
    parts = ["ganvas", "edit", recipe.generator.name, "--seed", str(start.seed), "--psi", repr(start.psi), *owner]
    for option, values in (("--set", step.set), ("--shift", step.shift)):
        for key, value in values.items():
            parts += [option, f"{key}={value!r}"]
    return shlex.join([*parts, "--dtype", recipe.dtype, "--out", f"{name}.png"])


def python_of(recipe: Recipe, editor: str, name: str) -> str:
    """Python lines that make ``image``, the same picture."""
    if any(isinstance(start, FromCodes) for start in recipe.starts):
        return _python_of_file(f"{name}.png", editor)
    if (simple := _in_words(recipe, editor)) is not None:
        return simple
    text = json.dumps(to_json(recipe), allow_nan=False)
    lines = [
        "import json",
        "",
        "from ganvas.recipe import from_json, load_tools, render",
        "",
        f"recipe = from_json(json.loads({text!r}), 'mine')",
    ]
    owner = f", editor={editor!r}" if recipe.editor is not None else ""
    lines += [
        f"tools = load_tools({recipe.generator.name!r}, {recipe.dtype!r}{owner})",
        "image = render(recipe, tools)  # (1, 3, height, width): black -1 to white 1, not clipped",
    ]
    return "\n".join(lines) + "\n"


def _python_of_file(file: str, editor: str) -> str:
    named = f", editor={editor!r}" if Path(editor).suffix else ""
    return (
        "from ganvas.recipe import load_recipe, load_recipe_tools, render\n\n"
        f"recipe, codes = load_recipe({file!r})\n"
        f"image = render(recipe, load_recipe_tools(recipe{named}, carried=codes))\n"
    )


def _in_words(recipe: Recipe, editor: str) -> str | None:
    """The same in the library's own words, for a seed with one edit; None for what takes more words."""
    start, step = recipe.start, recipe.edits[0] if recipe.edits else EditStep()
    if not isinstance(start, FromSeed) or recipe.mix is not None or len(recipe.edits) > 1 or step.amount != 1:
        return None
    lines = ["import torch", "", "import ganvas", "from ganvas.control.target_values import solve_changes", ""]
    lines.append(f"generator = ganvas.load_generator({recipe.generator.name!r}, dtype=torch.{recipe.dtype})")
    lines.append(f"ws = ganvas.sample(generator, 1, psi={start.psi!r}, seed={start.seed})")
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
