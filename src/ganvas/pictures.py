"""Pictures as tensors in [-1, 1], as bytes, and as files."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageOps, PngImagePlugin
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.types import Images

KEPT_SIZE = 256
"""Side in pixels of the pictures that a label set keeps and that scorers look at."""
MOST_BYTES = 64 << 20
"""Larger picture files are refused."""
MOST_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded."""
CEILING = 178_956_970
"""Pixels that Pillow opens at all."""


def shrink(images: Images, size: int = KEPT_SIZE) -> Float[Tensor, "n 3 {size} {size}"]:
    """Square pictures at ``size``: block means where the size divides, else antialiased bilinear (either way up or down)."""
    side = images.shape[-1]
    if side == size and images.shape[-2] == size:
        return images
    if images.shape[-2] == side and side % size == 0:
        return F.avg_pool2d(images, side // size)
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)


def to_bytes(images: Images) -> Tensor:
    """uint8 pictures (n, height, width, 3): [-1, 1] to 0 … 255, rounded to nearest, clipped."""
    return images.permute(0, 2, 3, 1).mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def from_bytes(pixels: Tensor) -> Images:
    """The inverse of ``to_bytes`` for pictures (n, height, width, 3) of 0 … 255."""
    # In place: a large photograph would stand in memory three times.
    return pixels.permute(0, 3, 1, 2).to(torch.float32, copy=True).div_(127.5).sub_(1)


def encode_jpeg(pixels: Tensor) -> bytes:
    """One picture (height, width, 3) as JPEG of quality 95 without chroma subsampling."""
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


def decode_jpeg(data: bytes) -> Tensor:
    """One picture (height, width, 3), uint8."""
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB")))


def encode_png(pixels: Tensor, texts: Mapping[str, str] | None = None) -> bytes:
    """One picture (height, width, 3) as PNG with compressed texts; equal input gives equal bytes (no time stamps)."""
    info = PngImagePlugin.PngInfo()
    for key, text in (texts or {}).items():
        info.add_text(key, text, zip=len(text) > 1024)
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def png_texts(path: str | Path) -> dict[str, str]:
    """The texts before a PNG's pixels, which aren't decoded. Raises GanvasError where ``path`` is no PNG."""
    with opened(path, ["PNG"]) as picture:
        # Not picture.text: that decodes the pixels to look for more texts behind them.
        return {str(key): str(value) for key, value in picture.info.items() if isinstance(value, str)}


def read_picture(path: str | Path) -> Images:
    """One picture (1, 3, height, width) from a PNG, JPEG or WebP file, turned upright as its camera noted.

    Raises GanvasError for a file that is missing, too large, damaged, or no picture.
    """
    with opened(path, ["PNG", "JPEG", "WEBP"]) as picture:
        upright = ImageOps.exif_transpose(picture).convert("RGB")
        return from_bytes(torch.from_numpy(np.array(upright))[None])


@contextmanager
def opened(
    path: str | Path, formats: Sequence[str], most_pixels: int = MOST_PIXELS, most_bytes: int = MOST_BYTES
) -> Iterator[Image.Image]:
    """A picture whose size is asked before it is decoded. Raises GanvasError where it can't be read, in the block, too."""
    several = ", ".join(formats)
    what = f"picture ({several})" if len(formats) > 3 else f"{' or '.join(formats)} picture"
    try:
        if Path(path).stat().st_size > most_bytes:
            raise GanvasError(f"{path} has more than {most_bytes >> 20} MiB: that's too large for a picture here.")
        with warnings.catch_warnings():
            # Pillow's own limit, of which it warns; ours is checked here.
            warnings.simplefilter("ignore")
            with Image.open(path, formats=list(formats)) as picture:
                if picture.width * picture.height > most_pixels:
                    raise GanvasError(f"{path} has {picture.width}×{picture.height} pixels: {most_pixels:,} at most.")
                yield picture
    except GanvasError:
        raise
    except FileNotFoundError:
        raise GanvasError(f"There is no file {path}.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise GanvasError(f"Can't read {path}: {error.strerror}.") from None
    except Image.DecompressionBombError:
        raise GanvasError(f"{path} has more than {CEILING:,} pixels: that's too large.") from None
    # What Pillow's readers raise on damaged files, by format.
    except (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError, struct.error):
        raise GanvasError(f"{path} isn't a whole {what}.") from None
