"""Find faces in photographs, and cut them out as FFHQ's are.

The procedure is the one published with FFHQ: Karras, Laine and Aila, *A Style-Based Generator Architecture for GANs*,
2019, appendix A, https://arxiv.org/abs/1812.04948, after Karras et al., *Progressive Growing of GANs*, 2018, appendix C,
https://arxiv.org/abs/1710.10196: a square turned with the eyes, sized by the distances between eyes and mouth; where it
extends beyond the photograph, its margin is reflected and blurred.

Landmarks are dlib's 68 (http://dlib.net/face_landmark_detection.py.html). Their model was trained on iBUG 300-W, whose
licence excludes commercial use; so the model is excluded from it, too.
"""

from __future__ import annotations

import math
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
from ganvas.scorers.networks.dlib_weights import find_landmark_weights
from ganvas.types import Images

DETECTION_SIDE = 1600
"""The longer side, in pixels, of the picture that dlib searches: it finds faces of at least 80 pixels."""
MIN_CONFIDENCE = 0.2
"""The least score of dlib's detector for a face: real faces have 0.4 to 3."""
POSE_POINTS = {
    30: (0, 0, 0),
    8: (0, 330, -65),
    36: (-225, -170, -135),
    45: (225, -170, -135),
    48: (-150, 150, -125),
} | {54: (150, 150, -125)}
"""Landmarks of a typical head, x to the right, y down and z towards the camera: nose, chin, eyes' outer and mouth's corners."""
LEFT_EYE, RIGHT_EYE, MOUTH = slice(36, 42), slice(42, 48), (48, 54)
MAX_SIDE = 4096
SUPERSAMPLING = 2
"""Samples along each side of a pixel of the square, which are averaged."""


@dataclass(frozen=True)
class Face:
    """A face in a photograph, cut out as FFHQ's are."""

    picture: Images
    """(1, 3, size, size)."""
    landmarks: Float[Tensor, "68 2"]
    """x and y in pixels of the photograph."""
    quad: Float[Tensor, "4 2"]
    """The corners of the square: top left, bottom left, bottom right, top right; x and y as above."""


def align(photo: Images, size: int = 1024, max_faces: int | None = None) -> list[Face]:
    """Find and align the faces of one photograph (1, 3, height, width), the largest first, at most ``max_faces``.

    Raises GanvasError where there is none, for an impossible size or number, and where dlib isn't installed.
    """
    if not 1 <= size <= MAX_SIDE:
        raise GanvasError(f"The side of an aligned face is 1 to {MAX_SIDE} pixels, not {size}.")
    if max_faces is not None and max_faces < 1:
        raise GanvasError(f"The number of faces must be at least 1, not {max_faces}.")
    faces = find_faces(photo)
    if not faces:
        height, width = photo.shape[2:]
        raise GanvasError(
            f"No face was found in this photograph of {width}×{height} pixels: it may be in profile, tilted, covered, dark or"
            " small. Use one where a face looks at the camera."
        )
    quads = [find_square(landmarks) for landmarks in faces]
    order = sorted(range(len(quads)), key=lambda i: -_side_length(quads[i]))[:max_faces]
    return [Face(cut_face(photo, quads[i], size), faces[i], quads[i]) for i in order]


def find_faces(photo: Images) -> list[Float[Tensor, "68 2"]]:
    """Find the landmarks of each face in a photograph, x and y in its pixels."""
    detector, predictor = _dlib()
    height, width = photo.shape[2:]
    scale = DETECTION_SIDE / max(height, width)
    sides = [max(1, round(side * scale)) for side in (height, width)]
    small = F.interpolate(photo, sides, mode="bilinear", antialias=True, align_corners=False)
    pixels = to_bytes(small)[0].contiguous().numpy()
    ratio = torch.tensor([width / sides[1], height / sides[0]])
    faces = []
    for box in detector.run(pixels, 0, MIN_CONFIDENCE)[0]:
        points = [(point.x, point.y) for point in predictor(pixels, box).parts()]
        # From a pixel's number to its centre and back.
        faces.append((torch.tensor(points, dtype=torch.float32) + 0.5) * ratio - 0.5)
    return faces


@cache
def _dlib() -> tuple[Any, Any]:
    try:
        import dlib
    except ImportError:
        raise GanvasError("Finding faces needs dlib, which isn't installed: pip install 'ganvas[faces]'.") from None
    library: Any = dlib  # its stubs don't name what is written in C++
    return library.get_frontal_face_detector(), library.shape_predictor(str(find_landmark_weights()))


def estimate_yaw(landmarks: Float[Tensor, "68 2"]) -> float:
    """Estimate how far a face is turned to the side from 68 landmarks, in degrees, 0 towards the camera."""
    head = torch.tensor(list(POSE_POINTS.values()), dtype=torch.float64)
    places = landmarks[list(POSE_POINTS)].double()
    # A weak perspective: the picture's axes in the head's coordinates, whose cross product is the direction to the camera.
    axes = torch.linalg.lstsq(head - head.mean(0), places - places.mean(0)).solution.T
    towards = torch.linalg.cross(axes[0], axes[1])
    return math.degrees(math.atan2(abs(float(towards[0])), float(towards[2])))


def measure_face_width(landmarks: Float[Tensor, "68 2"]) -> float:
    """Measure how wide a face is, from jaw to jaw, in pixels; of one that is tilted, the longer side of its box."""
    return float((landmarks.max(0).values - landmarks.min(0).values).max())


def find_square(landmarks: Float[Tensor, "68 2"]) -> Float[Tensor, "4 2"]:
    """Compute FFHQ's square for 68 landmarks: its corners, top left, bottom left, bottom right, top right."""
    points = landmarks.double()
    left, right = points[LEFT_EYE].mean(0), points[RIGHT_EYE].mean(0)
    eyes, mouth = (left + right) / 2, points[list(MOUTH)].mean(0)
    across, down = right - left, mouth - eyes
    # The face's horizontal: the mean of the line between the eyes and the normal of the line from eyes to mouth.
    x = across + torch.stack((down[1], -down[0]))
    x = x / x.norm() * torch.maximum(2.0 * across.norm(), 1.8 * down.norm())
    y = torch.stack((-x[1], x[0]))
    centre = eyes + 0.1 * down
    return torch.stack((centre - x - y, centre - x + y, centre + x + y, centre + x - y)).float()


def cut_face(photo: Images, quad: Float[Tensor, "4 2"], size: int) -> Tensor:
    """Cut the square ``quad`` out of a photograph, (1, 3, size, size); beyond its border it is reflected and blurred."""
    shrunk = max(1.0, _side_length(quad) / size / 2)
    if shrunk > 1:
        sides = [max(1, round(side / shrunk)) for side in photo.shape[2:]]
        ratio = torch.tensor([sides[1] / photo.shape[3], sides[0] / photo.shape[2]])
        photo = F.interpolate(photo, sides, mode="bilinear", antialias=True, align_corners=False)
        quad = (quad + 0.5) * ratio - 0.5
    photo, corner = _pad_photo(photo, quad)
    return _sample_square(photo, quad - corner, size)


def _side_length(quad: Tensor) -> float:
    return float((quad[3] - quad[0]).norm())


def _pad_photo(photo: Tensor, quad: Tensor) -> tuple[Tensor, Tensor]:
    """Return the part of the photograph around ``quad``, reflected beyond its border, and the part's top left corner."""
    height, width = photo.shape[2:]
    side = _side_length(quad)
    border = max(round(0.1 * side), 3)
    low = (quad.min(0).values.floor() - border).long().tolist()
    high = (quad.max(0).values.ceil() + border).long().tolist()
    # Left, top, right and bottom of the photograph's own pixels, and the most that are missing on a side.
    own = (max(low[0], 0), max(low[1], 0), min(high[0], width), min(high[1], height))
    most_missing = max(-low[0], -low[1], high[0] - width, high[1] - height, 0)
    part = photo[:, :, own[1] : own[3], own[0] : own[2]]
    if most_missing <= border - 4:
        return part, torch.tensor([own[0], own[1]])
    pads = [max(round(0.3 * side), missing) for missing in (-low[0], -low[1], high[0] - width, high[1] - height)]
    rows = _reflect_indices(-pads[1], part.shape[2] + pads[3], part.shape[2])
    columns = _reflect_indices(-pads[0], part.shape[3] + pads[2], part.shape[3])
    padded = part[:, :, rows][:, :, :, columns]
    return _blur_margins(padded, pads, 0.02 * side), torch.tensor([own[0] - pads[0], own[1] - pads[1]])


def _reflect_indices(start: int, end: int, length: int) -> Tensor:
    """Return the indices of pixels ``start … end`` of a line of ``length``, reflected at its ends as often as needed."""
    period = max(2 * (length - 1), 1)
    places = torch.arange(start, end).remainder(period)
    return torch.minimum(places, period - places)


def _blur_margins(padded: Tensor, pads: list[int], sigma: float) -> Tensor:
    """Blur the margins and fade them to the median colour, more so further outside."""
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


def _sample_square(photo: Tensor, quad: Tensor, size: int) -> Tensor:
    fine = SUPERSAMPLING * size
    along = (torch.arange(fine, dtype=torch.float32) + 0.5) / fine
    across, down = quad[3] - quad[0], quad[1] - quad[0]
    # The corners of pixels are half a pixel before their centres.
    places = quad[0] + 0.5 + along[None, :, None] * across + along[:, None, None] * down
    sides = torch.tensor([photo.shape[3], photo.shape[2]], dtype=torch.float32)
    grid = places / sides * 2 - 1
    samples = F.grid_sample(photo, grid[None], mode="bilinear", padding_mode="border", align_corners=False)
    return F.avg_pool2d(samples, SUPERSAMPLING)
