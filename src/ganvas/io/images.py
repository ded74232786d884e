"""Reading, writing and conversion of pictures: tensors in [-1, 1], bytes, and files."""

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
from PIL import ExifTags, Image, ImageCms, ImageOps, PngImagePlugin
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.files import atomic_write
from ganvas.types import Images

LABEL_SIDE = 256
"""Side in pixels of the pictures that a label set keeps and that scorers take."""
MAX_FILE_BYTES = 256 << 20
"""Larger picture files are refused."""
MAX_PIXELS = 64_000_000
"""Larger pictures are refused before they are decoded."""
MAX_DECODED_PIXELS = 178_956_970
"""The most pixels that Pillow opens at all."""
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF")
HEIF_SUFFIXES = (".heic", ".heif")
"""Suffixes of phones' photographs, which pillow-heif reads."""
JPEG_SUFFIXES = (".jpg", ".jpeg")
MAX_COMMENT_LENGTH = 65_533
"""Bytes of a JPEG's comment."""
RAW_SUFFIXES = (".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".sr2", ".raf", ".orf", ".rw2", ".pef", ".srw", ".x3f")
"""Suffixes of cameras' raw files. Some are TIFF inside, whose first picture is a small preview."""
MAX_LISTED_NAMES = 20
MIN_EXIF_TAG = 0x8769
"""The lowest tag that a TIFF hands on to pictures of other formats: those below also describe its own layout."""
CAMERA_FORMAT = "MPO"
"""A format that some cameras write under the name of JPEG: the photograph first, then smaller copies."""
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", *HEIF_SUFFIXES)
BACKGROUND = (255, 255, 255)
"""The colour behind transparent pixels: white."""
PILLOW_ERRORS = (
    *(OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, OverflowError, struct.error),
    *(AssertionError, AttributeError, ZeroDivisionError),
)
"""What Pillow's readers raise on damaged files of one format or another."""


def downscale(images: Images, size: int = LABEL_SIDE) -> Float[Tensor, "n 3 {size} {size}"]:
    """Resize pictures to ``size``×``size``: by block means where it divides theirs, else antialiased bilinear, up or down."""
    side = images.shape[-1]
    if side == size and images.shape[-2] == size:
        return images
    if images.shape[-2] == side and side % size == 0:
        return F.avg_pool2d(images, side // size)
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)


def to_bytes(images: Images) -> Tensor:
    """Convert pictures to uint8 (n, height, width, 3): [-1, 1] to 0 … 255, rounded to nearest, clipped."""
    return images.permute(0, 2, 3, 1).mul(127.5).add(127.5).round().clamp(0, 255).to(torch.uint8).cpu()


def from_bytes(pixels: Tensor) -> Images:
    """Convert pictures (n, height, width, 3) of 0 … 255 to [-1, 1]: the inverse of ``to_bytes``."""
    # In place: a large photograph would be in memory three times.
    return pixels.permute(0, 3, 1, 2).to(torch.float32, copy=True).div_(127.5).sub_(1)


def encode_jpeg(pixels: Tensor, exif: bytes = b"", comment: str = "") -> bytes:
    """Encode one picture (height, width, 3), uint8, as JPEG of quality 95 without chroma subsampling, with EXIF data.

    ``comment``: an ASCII text of at most MAX_COMMENT_LENGTH.
    """
    buffer = io.BytesIO()
    options = {"comment": comment.encode("ascii")} if comment else {}
    Image.fromarray(pixels.numpy()).save(buffer, "JPEG", quality=95, subsampling=0, exif=exif, **options)
    return buffer.getvalue()


def read_jpeg_comment(path: str | Path) -> str:
    """Read the comment of a JPEG, "" where it has none. Raises GanvasError where ``path`` is no JPEG."""
    with open_picture(path, ["JPEG"]) as picture:
        return bytes(picture.info.get("comment", b"")).decode("ascii", errors="replace")


def decode_jpeg(data: bytes, origin: str = "The JPEG") -> Tensor:
    """Decode one picture to (height, width, 3), uint8.

    Raises GanvasError, naming ``origin``, where ``data`` isn't a whole JPEG.
    """
    with open_picture(io.BytesIO(data), ["JPEG"], origin=origin) as picture:
        return _decode_pixels(picture, origin)


def encode_png(pixels: Tensor, texts: Mapping[str, str] | None = None, exif: bytes = b"") -> bytes:
    """Encode one picture (height, width, 3), uint8, as PNG with texts and EXIF data; equal input gives equal bytes."""
    info = PngImagePlugin.PngInfo()
    for key, text in (texts or {}).items():
        info.add_text(key, text, zip=len(text) > 1024)
    buffer = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(buffer, "PNG", pnginfo=info, exif=exif)
    return buffer.getvalue()


def save_image(image: Tensor, path: str | Path) -> Path:
    """Write one picture as a PNG file.

    Args:
        image: A picture (1, 3, height, width) or (3, height, width), RGB in [-1, 1]; numbers beyond are clipped.
        path: The file, whose name ends in .png; its folder is made where there is none.

    Returns:
        The path.

    Raises:
        GanvasError: ``image`` isn't one picture or has numbers that aren't finite, or ``path`` can't be written.
    """
    path, shape = Path(path), tuple(image.shape)
    images = image[None] if image.ndim == 3 else image
    if images.ndim != 4 or len(images) != 1 or images.shape[1] != 3 or not images.numel():
        raise GanvasError(f"One picture (1, 3, height, width) is written to {path}, not {shape}: pick one of several.")
    if not torch.isfinite(images).all():
        raise GanvasError(f"The picture for {path} has numbers that aren't finite.")
    if path.suffix.lower() != ".png":
        raise GanvasError(f"Can't write {path}: its name must end with .png.")
    with atomic_write(path) as file:
        file.write_bytes(encode_png(to_bytes(images.detach().float())[0]))
    return path


def read_png_texts(path: str | Path) -> dict[str, str]:
    """Read the texts before a PNG's pixels, which aren't decoded. Raises GanvasError where ``path`` is no PNG."""
    with open_picture(path, ["PNG"]) as picture:
        # Not picture.text: that decodes the pixels to look for more texts behind them.
        return {str(key): str(value) for key, value in picture.info.items() if isinstance(value, str)}


def read_picture(path: str | Path, max_pixels: int = MAX_PIXELS) -> Images:
    """Read one picture (1, 3, height, width), upright as its camera recorded, sRGB in [-1, 1].

    Grey, palettes, CMYK, Lab and colour profiles become sRGB, 16 bits become 8, and transparent pixels are laid over
    ``BACKGROUND``. Nothing else of the file is kept.
    Raises GanvasError for a file that is missing, too large, no picture, damaged or animated, or has more than
    ``max_pixels`` pixels (checked before they are decoded).
    """
    if not 1 <= max_pixels <= MAX_DECODED_PIXELS:
        raise GanvasError(f"The limit on pixels is 1 to {MAX_DECODED_PIXELS:,}, not {max_pixels:,}.")
    suffix = Path(path).suffix.lower()
    if suffix in RAW_SUFFIXES:
        raise GanvasError(f"{path} is a camera's raw file, which isn't read: export it as JPEG, PNG or TIFF.")
    with open_picture(path, _list_formats(path), max_pixels) as picture:
        _check_single(picture, path)
        return from_bytes(_decode_pixels(picture, path)[None])


def read_exif(path: str | Path) -> bytes:
    """Read a picture's EXIF data without orientation, which ``read_picture`` applies, and thumbnail; b"" where there are none.

    Raises GanvasError for a file that is missing or no picture.
    """
    with open_picture(path, _list_formats(path), MAX_DECODED_PIXELS) as picture:
        exif = picture.getexif()
        for tag in (
            ExifTags.Base.Orientation,
            *(tag for tag in exif if picture.format == "TIFF" and tag < MIN_EXIF_TAG),
        ):
            exif.pop(tag, None)
        for tag in (ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight):
            exif.get_ifd(ExifTags.IFD.Exif).pop(tag, None)
        try:
            return exif.tobytes() if len(exif) else b""
        except PILLOW_ERRORS:  # data that Pillow can read, and not write
            return b""


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """List the files among ``paths``, and the pictures in the folders among them, by suffix and in the order of their names.

    Raises GanvasError for a path that doesn't exist, and where there is no picture at all.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                p for p in path.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES and not p.name.startswith(".")
            )
            files.extend(p for p in inside if p.is_file())
        elif path.exists():
            files.append(path)
        else:
            raise GanvasError(f"There is no file {path}.")
    if not files:
        places = ", ".join(map(str, paths))
        raise GanvasError(f"No pictures in {places}: their names end with {', '.join(PICTURE_SUFFIXES)}.")
    return list(dict.fromkeys(files))


def list_passed_over(paths: Sequence[Path]) -> list[str]:
    """List in one line each what ``find_pictures`` passes over in the folders among ``paths``; hidden files aren't named."""
    lines = []
    for folder in (path for path in paths if path.is_dir()):
        others = sorted(
            path.name + "/" * path.is_dir()
            for path in folder.iterdir()
            if not path.name.startswith(".") and (path.is_dir() or path.suffix.lower() not in PICTURE_SUFFIXES)
        )
        if others:
            more = f" and {len(others) - MAX_LISTED_NAMES} more" if len(others) > MAX_LISTED_NAMES else ""
            lines.append(f"Passed over in {folder}, no pictures: {', '.join(others[:MAX_LISTED_NAMES])}{more}.")
    return lines


def _list_formats(path: str | Path) -> tuple[str, ...]:
    if Path(path).suffix.lower() not in HEIF_SUFFIXES:
        return FORMATS
    _register_heif(path)
    return (*FORMATS, "HEIF")


def _register_heif(path: str | Path) -> None:
    """Let Pillow read HEIC by pillow-heif. Raises GanvasError where that isn't installed."""
    try:
        from pillow_heif import register_heif_opener
    except ImportError:
        raise GanvasError(
            f"{path} is a HEIC picture: install pillow-heif (pip install 'ganvas[heic]'), or export it as JPEG."
        ) from None
    register_heif_opener()


@contextmanager
def open_picture(
    source: str | Path | io.BytesIO,
    formats: Sequence[str],
    max_pixels: int = MAX_PIXELS,
    max_bytes: int = MAX_FILE_BYTES,
    origin: str | None = None,
) -> Iterator[Image.Image]:
    """Open a picture whose size is checked before it is decoded.

    Raises GanvasError where it can't be read, also from inside the block.
    """
    path, several = origin or str(source), ", ".join(formats)
    what = f"picture ({several})" if len(formats) > 3 else f"{' or '.join(formats)} picture"
    try:
        if not isinstance(source, io.BytesIO):
            if Path(source).stat().st_size > max_bytes:
                raise GanvasError(f"{path} is too large: a picture may have {max_bytes >> 20} MiB at most.")
            # A chunk may claim to be longer than the file: an open file would set memory aside for all of it.
            source = io.BytesIO(Path(source).read_bytes())
        with warnings.catch_warnings():
            # Pillow warns above a limit of its own; ours is checked here.
            warnings.simplefilter("ignore")
            with Image.open(source, formats=list(formats)) as picture:
                if picture.width * picture.height > max_pixels:
                    raise GanvasError(f"{path} has {picture.width}×{picture.height} pixels: {max_pixels:,} at most.")
                yield picture
    except GanvasError:
        raise
    except FileNotFoundError:
        raise GanvasError(f"There is no file {path}.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise GanvasError(f"Can't read {path}: {error.strerror}.") from None
    except Image.DecompressionBombError:
        raise GanvasError(f"{path} has more than {MAX_DECODED_PIXELS:,} pixels, which is too large.") from None
    except PILLOW_ERRORS:
        raise GanvasError(f"{path} isn't a whole {what}.") from None


def _check_single(picture: Image.Image, path: str | Path) -> None:
    if picture.format == CAMERA_FORMAT:
        return
    try:
        picture.seek(1)  # not n_frames: that walks through all of them
    except EOFError:
        return
    raise GanvasError(f"{path} holds several pictures (it's animated, or has pages): give one picture.")


def _decode_pixels(picture: Image.Image, origin: str | Path) -> Tensor:
    """Decode a picture to (height, width, 3), uint8, upright and in sRGB."""
    ImageOps.exif_transpose(picture, in_place=True)
    profile, mask = picture.info.get("icc_profile"), None
    if picture.mode == "F":
        raise GanvasError(f"{origin} has floating-point pixels: save it with 8 or 16 bits.")
    if picture.mode.startswith("I"):
        picture, mask = _reduce_depth(picture, origin)
    elif picture.has_transparency_data:
        mask = picture.convert("RGBA").getchannel("A")
    if picture.mode not in ("L", "RGB", "CMYK", "LAB"):
        picture = picture.convert("L" if picture.mode in ("1", "LA", "La") else "RGB")
    picture = _convert_to_srgb(picture, profile)
    if mask is not None:
        picture = Image.composite(picture, Image.new("RGB", picture.size, BACKGROUND), mask)
    return torch.from_numpy(np.array(picture))


def _reduce_depth(picture: Image.Image, origin: str | Path) -> tuple[Image.Image, Image.Image | None]:
    """Convert grey of 16 bits (Pillow keeps some as 32) to 8 bits, and return its mask; Pillow itself would clip to white."""
    values = np.asarray(picture)
    if values.min() < 0 or values.max() > 65_535:
        raise GanvasError(f"{origin} has pixels of more than 16 bits: save it with 8 or 16.")
    clear = picture.info.get("transparency")
    mask = None if clear is None else Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
    return Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8)), mask


def _convert_to_srgb(picture: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert colours to sRGB by the profile of the file, where it has one."""
    lab, converted = picture.mode == "LAB", None
    if profile or lab:
        try:
            source = ImageCms.createProfile("LAB") if lab else ImageCms.ImageCmsProfile(io.BytesIO(profile or b""))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):  # an unreadable profile: the numbers are taken as sRGB
            pass
    return picture.convert("RGB") if converted is None else converted
