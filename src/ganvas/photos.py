"""Reading photographs as they come: turned, grey, CMYK, 16 bits, transparent, huge, broken."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageCms, ImageOps

from ganvas.errors import GanvasError
from ganvas.pictures import CEILING, MOST_BYTES, MOST_PIXELS, from_bytes, opened
from ganvas.types import Images

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")
SEVERAL = "MPO"
"""What some cameras write under the name of JPEG: the photograph first, then its small copies."""
ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
WHITE = (255, 255, 255, 255)


def read_photo(path: str | Path, most_pixels: int = MOST_PIXELS) -> Images:
    """One photograph (1, 3, height, width), upright as its camera noted, sRGB in [-1, 1].

    Grey and CMYK become RGB, 16 bits become 8, what is transparent white. Nothing else of the file is kept.
    Raises GanvasError, in one line, for a file that is missing, no picture, damaged, animated, or of more than
    ``most_pixels`` pixels (asked before they are decoded).
    """
    if not 1 <= most_pixels <= CEILING:
        raise GanvasError(f"The limit on pixels is 1 to {CEILING:,}, not {most_pixels:,}.")
    with opened(path, FORMATS, most_pixels, 4 * MOST_BYTES) as picture:
        _check(picture, path)
        ImageOps.exif_transpose(picture, in_place=True)
        return from_bytes(torch.from_numpy(np.array(_rgb(picture, path)))[None])


def photos_in(paths: Sequence[Path]) -> list[Path]:
    """Files as they are given, and the pictures in folders, by their endings and in the order of their names.

    Raises GanvasError for a path that isn't there, and where no picture is found at all.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if p.suffix.lower() in ENDINGS and not p.name.startswith("."))
            found.extend(p for p in inside if p.is_file())
        elif path.exists():
            found.append(path)
        else:
            raise GanvasError(f"There is no file {path}.")
    if not found:
        places = ", ".join(map(str, paths))
        raise GanvasError(f"No pictures in {places}: their names end with {', '.join(ENDINGS)}.")
    return list(dict.fromkeys(found))


def _check(picture: Image.Image, path: str | Path) -> None:
    if picture.format == SEVERAL:
        return
    try:
        picture.seek(1)  # not n_frames: that walks through all of them
    except EOFError:
        return
    raise GanvasError(f"{path} holds several pictures (it's animated, or has pages): give one picture.")


def _rgb(picture: Image.Image, path: str | Path) -> Image.Image:
    if picture.mode.startswith("I"):
        return _from_deep(picture, path)
    if picture.mode == "F":
        raise GanvasError(f"{path} has floating-point pixels: save it with 8 or 16 bits.")
    profile = picture.info.get("icc_profile")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, WHITE), picture)
    picture = _in_srgb(picture, profile)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _from_deep(picture: Image.Image, path: str | Path) -> Image.Image:
    """Grey of 16 bits (Pillow keeps 32 for some): Pillow's own conversion would clip it to white."""
    values = np.asarray(picture).astype(np.int64)
    if values.min() < 0 or values.max() > 65_535:
        raise GanvasError(f"{path} has pixels of more than 16 bits: save it with 8 or 16.")
    return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")


def _in_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Colours as a screen shows them, where the file says what its numbers mean."""
    if not profile or picture.mode not in ("RGB", "CMYK"):
        return picture
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        found = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError):  # a profile that nobody can read: the numbers as they are
        return picture
    return picture if found is None else found
