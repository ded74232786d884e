"""A photograph on the page: its faces, the one that is edited, and the whole photograph with the edited face in it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.generators.regions import Mask
from ganvas.inversion.alignment import Face, cut_face, find_faces, find_square, measure_face_width
from ganvas.io.images import JPEG_SUFFIXES, encode_jpeg, encode_png, from_bytes, read_exif, read_picture, to_bytes
from ganvas.photo.edit import MIN_FACE_PIXELS
from ganvas.photo.paste import paste_face
from ganvas.recipe.rendering import Photo
from ganvas.types import Images

SAMPLES = (
    ("Grace Hopper", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    ("Somebody generated, by openpeople", "ganvas", "assets/photographs/openpeople-P002.jpg"),
    ("Somebody else generated", "ganvas", "assets/photographs/openpeople-P007.jpg"),
)
"""Photographs to try: their title, and the package and file that have them."""
# By the US Navy, in the public domain, and of openpeople, MIT.
SHOWN_SIDE, SMALL_SIDE = 1280, 512
"""The longer side in pixels, at most, of a photograph as the page shows it, at rest and while a slider moves."""


@dataclass(frozen=True)
class FacePhoto:
    """A photograph's file, the photograph as it is shown, and one of its faces in the file's pixels."""

    path: Path
    pixels: Tensor
    """The photograph as it is shown, (height, width, 3), uint8."""
    scale: tuple[float, float]
    """Pixels that are shown for one of the file's, across and down."""
    face: Face

    @cached_property
    def small(self) -> FacePhoto:
        """The same photograph as it is shown while a slider moves."""
        pixels, (across, down) = _shrink(self.shown, SMALL_SIDE)
        return replace(self, pixels=pixels, scale=(self.scale[0] * across, self.scale[1] * down))

    @property
    def shown(self) -> Images:
        """The photograph as it is shown, (1, 3, height, width)."""
        return from_bytes(self.pixels[None])

    @property
    def shown_quad(self) -> Float[Tensor, "4 2"]:
        """The corners of the face's square in pixels that are shown."""
        return (self.face.quad + 0.5) * torch.tensor(self.scale) - 0.5

    @property
    def shown_side(self) -> float:
        """The side of the face's square in pixels that are shown."""
        return float((self.shown_quad[3] - self.shown_quad[0]).norm())

    def find_place(self) -> tuple[float, float, float, float]:
        """Return where the face's square lies in the photograph: its middle and its side in shares of the photograph's sides
        (the side, of its width), and its angle in radians.
        """
        height, width = self.pixels.shape[:2]
        (x, y), (dx, dy) = self.shown_quad.mean(0).tolist(), (self.shown_quad[3] - self.shown_quad[0]).tolist()
        return x / width, y / height, self.shown_side / width, math.atan2(dy, dx)

    def cut_shown(self, photo: Images, size: int) -> Tensor:
        """Cut the face's square out of the photograph as it is shown, edited or not: (1, 3, size, size)."""
        return cut_face(photo, self.shown_quad, size)

    def paste(self, inverted: Tensor, edited: Tensor, mask: Mask, limit: Tensor | None = None) -> Images:
        """Return the photograph as it is shown with the edited face in it; ``limit``: where it may change, of any size."""
        return paste_face(
            self.shown, self.shown_quad, inverted, edited, mask, limit=_fit_limit(limit, *self.pixels.shape[:2])
        )

    def encode_edited(self, inverted: Tensor, edited: Tensor, mask: Mask, limit: Tensor | None = None) -> bytes:
        """Return the file with the edited face in it: PNG or JPEG as ``suffix`` says, with the file's EXIF data."""
        photo = read_picture(self.path)
        edited_photo = paste_face(
            photo, self.face.quad, inverted, edited, mask, limit=_fit_limit(limit, *photo.shape[2:])
        )
        pixels, exif = to_bytes(edited_photo)[0].contiguous(), read_exif(self.path)
        return encode_jpeg(pixels, exif) if self.suffix != ".png" else encode_png(pixels, exif=exif)

    @property
    def suffix(self) -> str:
        """The suffix of an edited photograph's file."""
        return self.path.suffix.lower() if self.path.suffix.lower() in JPEG_SUFFIXES else ".png"


def list_samples() -> list[tuple[str, Path]]:
    """List the titles and files of the photographs to try, of packages that are installed."""
    specs = [(title, find_spec(package), file) for title, package, file in SAMPLES]
    found = [(title, Path(spec.origin).parent / file) for title, spec, file in specs if spec and spec.origin]
    return [(title, path) for title, path in found if path.is_file()]


def find_face_photos(path: Path, size: int) -> list[FacePhoto]:
    """Find the faces of a photograph from left to right, each cut out at ``size`` pixels.

    Raises GanvasError for no picture, for one without faces, and where all of them are too small.
    """
    photo = read_picture(path)
    pixels, scale = _shrink(photo)
    found = find_faces(photo)
    if not found:
        raise GanvasError(
            "No face was found in this photograph: it may be in profile, tilted, covered, dark or small. Use one where a"
            " face looks at the camera."
        )
    wide = [landmarks for landmarks in found if measure_face_width(landmarks) >= MIN_FACE_PIXELS]
    if not wide:
        width = max(map(measure_face_width, found))
        raise GanvasError(
            f"The largest face in this photograph has {width:.0f} pixels across: at least {MIN_FACE_PIXELS} are needed, so"
            " use a larger photograph."
        )
    wide.sort(key=lambda landmarks: float(landmarks[:, 0].mean()))
    return [make_face_photo(path, photo, pixels, scale, landmarks, size) for landmarks in wide]


def load_face_photo(
    path: Path, landmarks: Float[Tensor, "68 2"], size: int, quad: Float[Tensor, "4 2"] | None = None
) -> FacePhoto:
    """Load a photograph of which one face's landmarks, and its square, were stored. Raises GanvasError for no picture."""
    photo = read_picture(path)
    return make_face_photo(path, photo, *_shrink(photo), landmarks, size, quad)


def match_aligned(photos: Sequence[FacePhoto], sha256: str, generator: Generator) -> FacePhoto | None:
    """Return the face whose aligned picture has this sha256, or the whole photograph where it is that picture; else None."""
    for photo in photos:
        if Photo.from_picture(photo.face.picture, generator).sha256 == sha256:
            return photo
    path, landmarks = photos[0].path, photos[0].face.landmarks
    picture = read_picture(path)
    height, width = picture.shape[2:]
    if height != width or Photo.from_picture(picture, generator).sha256 != sha256:
        return None
    corners = torch.tensor([[0.0, 0.0], [0.0, height], [width, height], [width, 0.0]]) - 0.5
    return load_face_photo(path, landmarks, generator.resolution, corners)


def make_face_photo(
    path: Path,
    photo: Images,
    pixels: Tensor,
    scale: tuple[float, float],
    landmarks: Float[Tensor, "68 2"],
    size: int,
    quad: Float[Tensor, "4 2"] | None = None,
) -> FacePhoto:
    """Cut out one face of a photograph, by default at the square that its landmarks say."""
    quad = find_square(landmarks) if quad is None else quad
    return FacePhoto(path, pixels, scale, Face(cut_face(photo, quad, size), landmarks, quad))


def _shrink(photo: Images, side: int = SHOWN_SIDE) -> tuple[Tensor, tuple[float, float]]:
    """Return a photograph's pixels as they are shown, and their scale."""
    height, width = photo.shape[2:]
    share = min(1.0, side / max(height, width))
    sides = [max(1, round(side * share)) for side in (height, width)]
    if share < 1:
        photo = F.interpolate(photo, sides, mode="bilinear", antialias=True, align_corners=False)
    return to_bytes(photo)[0].contiguous(), (sides[1] / width, sides[0] / height)


def _fit_limit(limit: Tensor | None, height: int, width: int) -> Tensor | None:
    return limit if limit is None else F.interpolate(limit, (height, width), mode="bilinear", align_corners=False)
