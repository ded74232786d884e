"""Draw an edited photograph again from the recipe that it carries and the photograph before it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from ganvas.errors import GanvasError
from ganvas.inversion.tuning import Tuning, load_tuning
from ganvas.io.files import atomic_write
from ganvas.io.images import read_exif, read_picture, to_bytes
from ganvas.photo.edit import PhotoEdit, RebuiltFace
from ganvas.photo.recipe import TUNING_SUFFIX, PhotoRecipe, encode_photo, hash_picture
from ganvas.recipe.files import load_recipe_tools
from ganvas.recipe.model import FromCodes, Recipe
from ganvas.recipe.rendering import Tools, compute_unedited_code


def draw_photo_recipe(
    recipe: PhotoRecipe,
    photo: Path,
    out: Path,
    *,
    tunings: Path | None = None,
    region: Path | None = None,
    editor: str | Path | None = None,
    generator: str | Path | None = None,
    device: str = "cpu",
) -> None:
    """Draw the edit of ``photo`` again, to a PNG or JPEG with the same recipe.

    ``tunings``: the file whose name, without its suffix, those of the tunings begin with; the others as recipes take them.
    Raises GanvasError where the photograph, a tuning, the mask, the editor or the generator isn't the recipe's, or is missing.
    """
    picture = read_picture(photo)
    if hash_picture(picture) != recipe.photo:
        raise GanvasError(f"The recipe edits another photograph than {photo} (sha256 {recipe.photo[:12]}…).")
    drawn = [
        Recipe(recipe.generator, FromCodes(recipe.codes.sha256, row), recipe.dtype, editor=recipe.editor)
        for row in recipe.codes.rows
    ]
    tools = load_recipe_tools(drawn[0], device=device, editor=editor, carried=asdict(recipe.codes), generator=generator)
    faces = [
        RebuiltFace(
            number,
            compute_unedited_code(each, tools),
            _load_face_tuning(tunings, number, sha256, tools),
            edits=None if refined is None else tuple(replace(step, refined=refined) for step in recipe.edits),
        )
        for number, each, sha256, refined in zip(
            recipe.faces,
            drawn,
            recipe.tunings or ("",) * len(drawn),
            recipe.refined or (None,) * len(drawn),
            strict=True,
        )
    ]
    if region is None and recipe.region not in ("auto", "off"):
        raise GanvasError("The recipe keeps edits to a picture's white parts: give that picture with --region FILE.")
    kept = recipe.region if region is None else region
    edit = PhotoEdit(tools, recipe.edits, whole=recipe.whole, region=kept)
    again = edit.make_recipe(picture, faces)
    if again.region != recipe.region:
        raise GanvasError(f"The recipe keeps edits to another picture than {region}.")
    pixels = to_bytes(edit.draw_faces(picture, faces))[0].contiguous()
    with atomic_write(out) as temporary:
        temporary.write_bytes(encode_photo(pixels, read_exif(photo), again, out.suffix))


def _load_face_tuning(stem: Path | None, number: int, sha256: str, tools: Tools) -> Tuning | None:
    if not sha256:
        return None
    if stem is None:
        raise GanvasError(f"The recipe needs the tuning of face {number}, a file that ends in {TUNING_SUFFIX}.")
    path = stem.with_name(f"{stem.stem}-{number}{TUNING_SUFFIX}")
    tuning = load_tuning(path, tools.generator)
    if tuning.sha256 != sha256:
        raise GanvasError(f"{path} isn't the tuning of the recipe (sha256 {sha256[:12]}…).")
    return tuning
