"""What people see in faces, read linearly from dlib's face embedding network: a judge of another make than ``face_attributes``.

Fitted to people's mean ratings of the One Million Impressions set (CC BY-NC-SA 4.0; Peterson et al., *Deep models of superficial
face judgments*, 2022, https://doi.org/10.1073/pnas.2115228119). It shares these ratings with a part of ``face_attributes``, and
its features with ``celeba40_reading`` and ``identity``. It needs ``ganvas[faces]``.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.io.files import load_tensors
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import downscale
from ganvas.scorers.base import Scorer
from ganvas.scorers.networks.dlib_features import WIDTH, FrozenNetwork
from ganvas.types import Images, Scores

ATTRIBUTES = ("Age", "Male", "Smiling", "Weight", "Long_Hair", "Hair_Lightness", "Skin_Lightness")
"""People's ratings from 0 to 100, by the names that ``face_attributes`` gives to what it reads."""


class OmiReading(Scorer):
    """Seven ratings by a linear layer on frozen features."""

    reads_faces = True

    networks = frozenset({"dlib"})

    def __init__(self, weight: Tensor, bias: Tensor, name: str = "omi_reading") -> None:
        super().__init__()
        self.name, self.attributes, self.kinds = name, ATTRIBUTES, ("value",) * len(ATTRIBUTES)
        self.network = FrozenNetwork(len(ATTRIBUTES)).eval().requires_grad_(False)
        self.network.reading.weight.data, self.network.reading.bias.data = weight, bias
        self.fingerprint = hash_weights(self.state_dict().items())

    def forward(self, images: Images) -> Scores:
        """Read ratings from 0 to 100 of FFHQ-aligned faces, the mean over a picture and its mirror image."""
        x = downscale(downscale(images.float()), self.network.size)
        return (self.network(x) + self.network(x.flip(3))) / 2


def load(name: str) -> OmiReading:
    """Load the scorer that ships."""
    return read(Path(__file__).parent.parent / "assets" / "scorers" / f"{name}.safetensors", name)


def read(path: str | Path, name: str = "omi_reading") -> OmiReading:
    """Read the layer in a file. Raises GanvasError for any other file, and where dlib's weights aren't installed."""
    tensors, metadata = load_tensors(path)
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    n = len(ATTRIBUTES)
    if metadata.get("scorer") != "omi_reading" or shapes != {"weight": (n, WIDTH), "bias": (n,)}:
        raise GanvasError(f"{path} holds no reading of people's ratings.")
    if not all(torch.isfinite(value).all() for value in tensors.values()):
        raise GanvasError(f"{path} has weights that aren't finite.")
    return OmiReading(nn.Parameter(tensors["weight"].float()), nn.Parameter(tensors["bias"].float()), name)
