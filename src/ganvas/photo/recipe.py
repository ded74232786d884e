"""The recipe of an edited photograph, which it carries: with the photograph before it, it is drawn again.

A PNG carries it as a text, a JPEG as its comment, which holds the code of one face and no more.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from ganvas.data.codes import CarriedCodes, load_codes, pack_codes, save_codes
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.files import parse_json
from ganvas.io.fingerprints import NamedTool
from ganvas.io.images import (
    JPEG_SUFFIXES,
    MAX_COMMENT_LENGTH,
    encode_jpeg,
    encode_png,
    read_jpeg_comment,
    read_png_texts,
    to_bytes,
)
from ganvas.recipe.files import MAX_TEXT_LENGTH, PHOTO_RECIPE_TEXT
from ganvas.recipe.model import EditStep, to_plain
from ganvas.types import Dtype, WPlus
from ganvas.validation import Flag, Number, PositiveInt, parse, validated

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
    refined: tuple[Mapping[str, Number], ...] | None = None
    """The changes of each face's edit, refined; None where they aren't."""
    version: Literal[1] = 1
    WRITTEN_IF_SET: ClassVar = ("tunings", "refined")

    def __post_init__(self) -> None:
        parts = self.codes.rows, self.tunings or self.faces, self.refined or self.faces
        if any(len(part) != len(self.faces) for part in parts):
            raise GanvasError("a photograph's recipe has as many codes, tunings and refined edits as faces.")


def hash_picture(picture: Tensor) -> str:
    """Compute the sha256 of the bytes of a picture (1, channels, height, width), and of its shape."""
    pixels = to_bytes(picture.expand(-1, 3, -1, -1)).contiguous()
    return hashlib.sha256(str(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()).hexdigest()


def pack_rows(ws: WPlus, generator: Generator) -> CarriedCodes:
    """Pack codes as the rows of a codes file that holds them."""
    with tempfile.TemporaryDirectory(prefix="ganvas-") as folder:
        save_codes(path := Path(folder) / "codes.safetensors", ws, generator)
        return CarriedCodes(**pack_codes(load_codes(path, generator), range(len(ws))))


def format_photo_recipe(recipe: PhotoRecipe) -> str:
    """Return a recipe as JSON."""
    return json.dumps(to_plain(recipe), allow_nan=False, separators=(",", ":"))


def is_recipe_too_long(recipe: PhotoRecipe, suffix: str) -> bool:
    """Return whether a recipe is too long for a PNG or JPEG to carry."""
    length = len(format_photo_recipe(recipe))
    if suffix.lower() in JPEG_SUFFIXES:
        return len(PHOTO_RECIPE_TEXT) + 1 + length > MAX_COMMENT_LENGTH
    return length > MAX_TEXT_LENGTH


def encode_photo(pixels: Tensor, exif: bytes, recipe: PhotoRecipe, suffix: str) -> bytes:
    """Encode a photograph (height, width, 3), uint8, as PNG or JPEG with its recipe, unless that is too long."""
    text = "" if is_recipe_too_long(recipe, suffix) else format_photo_recipe(recipe)
    if suffix.lower() in JPEG_SUFFIXES:
        return encode_jpeg(pixels, exif, text and f"{PHOTO_RECIPE_TEXT} {text}")
    return encode_png(pixels, {PHOTO_RECIPE_TEXT: text} if text else {}, exif)


def read_photo_recipe(path: Path) -> PhotoRecipe | None:
    """Read the recipe in an edited photograph; None for other files. Raises GanvasError for a damaged one."""
    text = None
    if path.suffix.lower() == ".png":
        text = read_png_texts(path).get(PHOTO_RECIPE_TEXT)
    elif path.suffix.lower() in JPEG_SUFFIXES:
        key, _, comment = read_jpeg_comment(path).partition(" ")
        text = comment if key == PHOTO_RECIPE_TEXT else None
    return None if text is None else parse(PhotoRecipe, parse_json(text, path), f"Recipe {path}", complete=True)
