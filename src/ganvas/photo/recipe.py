"""The recipe of an edited photograph, which its PNG carries: with the photograph it is drawn again.

A JPEG carries none: codes are longer than its metadata may be.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ganvas.data.codes import CarriedCodes, load_codes, pack_codes, save_codes
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.files import parse_json
from ganvas.io.fingerprints import NamedTool
from ganvas.io.images import read_png_texts, to_bytes
from ganvas.recipe.files import MAX_TEXT_LENGTH
from ganvas.recipe.model import EditStep, to_plain
from ganvas.types import Dtype, WPlus
from ganvas.validation import Flag, PositiveInt, parse, validated

PHOTO_RECIPE_TEXT = "ganvas.photograph"
"""The key of the recipe's text in PNG files. Renaming it makes the pictures that exist unreadable."""
TUNING_SUFFIX = ".tuning.safetensors"
"""The end of the name of a face's tuning, beside the photograph."""


@validated
class PhotoRecipe:
    """Faces of the photograph with the sha256 ``photo``, numbered from left to right, that are edited, and how."""

    generator: NamedTool
    photo: str
    faces: Annotated[tuple[PositiveInt, ...], Field(min_length=1)]
    codes: CarriedCodes
    """A row for each of ``faces``."""
    dtype: Dtype
    editor: NamedTool | None
    edits: tuple[EditStep, ...]
    whole: Flag
    region: str
    """"auto", "off", or the sha256 of the picture that edits are kept to."""
    tunings: tuple[str, ...] | None = None
    """The sha256 of each face's tuning, "" where there is none; None where no face has one."""
    version: Literal[1] = 1
    WRITTEN_IF_SET: ClassVar = ("tunings",)

    def __post_init__(self) -> None:
        if not len(self.faces) == len(self.codes.rows) == len(self.tunings or self.faces):
            raise GanvasError("a photograph's recipe has as many codes and tunings as faces.")


def hash_picture(picture: Tensor) -> str:
    """Compute the sha256 of the bytes of a picture (1, channels, height, width), and of its shape."""
    pixels = to_bytes(picture.expand(-1, 3, -1, -1)).contiguous()
    return hashlib.sha256(str(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()).hexdigest()


def pack_rows(ws: WPlus, generator: Generator) -> CarriedCodes:
    """Pack codes as the rows of a codes file that holds them."""
    with tempfile.TemporaryDirectory(prefix="ganvas-") as folder:
        save_codes(path := Path(folder) / "codes.safetensors", ws, generator)
        return CarriedCodes(**pack_codes(load_codes(path, generator), range(len(ws))))


def format_photo_recipe(recipe: PhotoRecipe) -> dict[str, str]:
    """Return the texts of a PNG that carry a recipe; none where it is too long."""
    text = json.dumps(to_plain(recipe), allow_nan=False, separators=(",", ":"))
    return {PHOTO_RECIPE_TEXT: text} if len(text) <= MAX_TEXT_LENGTH else {}


def read_photo_recipe(path: Path) -> PhotoRecipe | None:
    """Read the recipe of an edited photograph in a PNG; None for other files. Raises GanvasError for a damaged one."""
    if path.suffix.lower() != ".png" or PHOTO_RECIPE_TEXT not in (texts := read_png_texts(path)):
        return None
    return parse(PhotoRecipe, parse_json(texts[PHOTO_RECIPE_TEXT], path), f"Recipe {path}", complete=True)
