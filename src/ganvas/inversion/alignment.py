"""Faces found in photographs, and cut out as FFHQ's are.

The procedure is the one published with FFHQ: Karras, Laine and Aila, *A Style-Based Generator Architecture for GANs*,
2019, appendix A, https://arxiv.org/abs/1812.04948, after Karras et al., *Progressive Growing of GANs*, 2018, appendix C,
https://arxiv.org/abs/1710.10196: a square turned with the eyes, sized by the distances between eyes and mouth; where it
reaches beyond the photograph, that is reflected and blurred.

Landmarks are dlib's 68 (http://dlib.net/face_landmark_detection.py.html). Their file was learned from iBUG 300-W, whose
licence excludes commercial use; so is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.images import to_bytes
from ganvas.scorers.celeba40 import match_softness
from ganvas.scorers.networks.dlib_weights import find_weight_file
from ganvas.types import Images

LANDMARKS = "shape_predictor_68_face_landmarks.dat"
SHA256 = "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f"
DETECTION_SIDE = 1600
"""The longer side, in pixels, of what faces are looked for in: dlib finds them from 80 pixels on."""
MIN_CONFIDENCE = 0.2
"""What dlib's detector must say of a face, of which it says 0.4 to 3: a badge on a suit had 0.03."""
LEFT_EYE, RIGHT_EYE, MOUTH = slice(36, 42), slice(42, 48), (48, 54)
MAX_SIDE = 4096
DUPLICATE_OVERLAP = 2
"""The square is sampled so many times as fine, then averaged."""


@dataclass(frozen=True)
class Face:
    """A face found in a photograph, cut out as FFHQ's are."""

    picture: Images
    """(1, 3, size, size)."""
    landmarks: Float[Tensor, "68 2"]
    """x and y in pixels of the photograph."""
    quad: Float[Tensor, "4 2"]
    """The corners of what was cut out: top left, bottom left, bottom right, top right; x and y as above."""


def align(photo: Images, size: int = 1024, most: int | None = None) -> list[Face]:
    """The faces of one photograph (1, 3, height, width), the largest first, at most ``most``.

    Raises GanvasError where there is none, for a size or number that is impossible, and without ganvas[faces].
    """
    if not 1 <= size <= MAX_SIDE:
        raise GanvasError(f"The side of an aligned face is 1 to {MAX_SIDE} pixels, not {size}.")
    if most is not None and most < 1:
        raise GanvasError(f"At least one face is aligned, not {most}.")
    found = find_faces(photo)
    if not found:
        height, width = photo.shape[2:]
        raise GanvasError(
            f"No face is found in this photograph of {width}×{height} pixels: one must look at the camera."
        )
    quads = [oriented_square(landmarks) for landmarks in found]
    order = sorted(range(len(quads)), key=lambda i: -_side(quads[i]))[:most]
    return [Face(cut_face(photo, quads[i], size), found[i], quads[i]) for i in order]


def find_faces(photo: Images) -> list[Float[Tensor, "68 2"]]:
    """The landmarks of each face in a photograph, x and y in its pixels."""
    detector, predictor = _dlib()
    height, width = photo.shape[2:]
    scale = DETECTION_SIDE / max(height, width)
    sides = [max(1, round(side * scale)) for side in (height, width)]
    looked_at = F.interpolate(photo, sides, mode="bilinear", antialias=True, align_corners=False)
    pixels = to_bytes(looked_at)[0].contiguous().numpy()
    ratio = torch.tensor([width / sides[1], height / sides[0]])
    found = []
    for box in detector.run(pixels, 0, MIN_CONFIDENCE)[0]:
        points = [(point.x, point.y) for point in predictor(pixels, box).parts()]
        # From a pixel's number to its centre and back.
        found.append((torch.tensor(points, dtype=torch.float32) + 0.5) * ratio - 0.5)
    return found


@cache
def _dlib() -> tuple[Any, Any]:
    try:
        import dlib
    except ImportError:
        raise GanvasError("Faces are found with dlib: pip install 'ganvas[faces]'.") from None
    library: Any = dlib  # its stubs don't name what is written in C++
    return library.get_frontal_face_detector(), library.shape_predictor(str(find_weight_file(LANDMARKS, SHA256)))


def oriented_square(landmarks: Float[Tensor, "68 2"]) -> Float[Tensor, "4 2"]:
    """FFHQ's square for 68 landmarks: its corners, top left, bottom left, bottom right, top right."""
    points = landmarks.double()
    left, right = points[LEFT_EYE].mean(0), points[RIGHT_EYE].mean(0)
    eyes, mouth = (left + right) / 2, points[list(MOUTH)].mean(0)
    across, down = right - left, mouth - eyes
    # The face's own horizontal: the mean of what the eyes say, and of what is at a right angle to eyes and mouth.
    x = across + torch.stack((down[1], -down[0]))
    x = x / x.norm() * torch.maximum(2.0 * across.norm(), 1.8 * down.norm())
    y = torch.stack((-x[1], x[0]))
    centre = eyes + 0.1 * down
    return torch.stack((centre - x - y, centre - x + y, centre + x + y, centre + x - y)).float()


def cut_face(photo: Images, quad: Float[Tensor, "4 2"], size: int) -> Tensor:
    """The square ``quad`` of a photograph, (1, 3, size, size); outside of it the photograph is reflected and blurred."""
    shrunk = max(1.0, _side(quad) / size / 2)
    if shrunk > 1:
        sides = [max(1, round(side / shrunk)) for side in photo.shape[2:]]
        ratio = torch.tensor([sides[1] / photo.shape[3], sides[0] / photo.shape[2]])
        photo = F.interpolate(photo, sides, mode="bilinear", antialias=True, align_corners=False)
        quad = (quad + 0.5) * ratio - 0.5
    photo, corner = _with_margins(photo, quad)
    return _sample(photo, quad - corner, size)


def _side(quad: Tensor) -> float:
    return float((quad[3] - quad[0]).norm())


def _with_margins(photo: Tensor, quad: Tensor) -> tuple[Tensor, Tensor]:
    """The part of the photograph around ``quad``, with what is missing of it made up; and where that part begins."""
    height, width = photo.shape[2:]
    side = _side(quad)
    border = max(round(0.1 * side), 3)
    low = (quad.min(0).values.floor() - border).long().tolist()
    high = (quad.max(0).values.ceil() + border).long().tolist()
    # Left, top, right and bottom of the photograph's own pixels, and how many are missing on each side.
    own = (max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height))
    lacking = max(-low[0], -low[1], high[0] - width, high[1] - height, 0)
    part = photo[:, :, own[1] : own[3], own[0] : own[2]]
    if lacking <= border - 4:
        return part, torch.tensor([own[0], own[1]])
    pads = [max(round(0.3 * side), missing) for missing in (-low[0], -low[1], high[0] - width, high[1] - height)]
    rows = _reflected(-pads[1], part.shape[2] + pads[3], part.shape[2])
    columns = _reflected(-pads[0], part.shape[3] + pads[2], part.shape[3])
    padded = part[:, :, rows][:, :, :, columns]
    return _softened(padded, pads, 0.02 * side), torch.tensor([own[0] - pads[0], own[1] - pads[1]])


def _reflected(start: int, end: int, length: int) -> Tensor:
    """Pixels ``start … end`` of a line of ``length``, which is reflected at its ends as often as it takes."""
    period = max(2 * (length - 1), 1)
    places = torch.arange(start, end).remainder(period)
    return torch.minimum(places, period - places)


def _softened(padded: Tensor, pads: list[int], sigma: float) -> Tensor:
    """Blurred, then faded to the median colour, the more the further outside."""
    height, width = padded.shape[2:]
    y, x = torch.arange(height, dtype=torch.float32)[:, None], torch.arange(width, dtype=torch.float32)
    inside = torch.minimum(x / max(pads[0], 1), (width - 1 - x) / max(pads[2], 1))
    inside = torch.minimum(inside, torch.minimum(y / max(pads[1], 1), (height - 1 - y) / max(pads[3], 1)))
    outside = 1 - inside
    reach = min(sigma, (min(height, width) - 2) / 3.5)  # a blur no wider than the picture
    blurred = match_softness(padded, max(reach, 0.3))
    padded = torch.lerp(padded, blurred, (3 * outside + 1).clamp(0, 1))
    median = padded.flatten(2).median(2).values[..., None, None]
    return torch.lerp(padded, median.expand_as(padded), outside.clamp(0, 1))


def _sample(photo: Tensor, quad: Tensor, size: int) -> Tensor:
    fine = DUPLICATE_OVERLAP * size
    along = (torch.arange(fine, dtype=torch.float32) + 0.5) / fine
    across, down = quad[3] - quad[0], quad[1] - quad[0]
    # The corners of pixels are half a pixel before their centres.
    places = quad[0] + 0.5 + along[None, :, None] * across + along[:, None, None] * down
    sides = torch.tensor([photo.shape[3], photo.shape[2]], dtype=torch.float32)
    grid = places / sides * 2 - 1
    found = F.grid_sample(photo, grid[None], mode="bilinear", padding_mode="border", align_corners=False)
    return F.avg_pool2d(found, DUPLICATE_OVERLAP)
