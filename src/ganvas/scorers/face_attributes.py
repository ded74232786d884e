"""CelebA's 40 attributes, age in years, and what people see in faces: linear layers on two networks that ship.

The networks are ``celeba40``'s and faceres (``networks/faceres.py``), whose 1,024 numbers describe a face: a linear layer for
each attribute reads the logits of the one and the descriptor of the other. They come in two files, as what they learned from has
two licences: CelebA's labels and labels by eye (``face_attributes.safetensors``, for non-commercial research), and people's
ratings of the One Million Impressions set (``face_attributes_omi.safetensors``, CC BY-NC-SA 4.0; Peterson et al., *Deep models of
superficial face judgments*, 2022, https://doi.org/10.1073/pnas.2115228119).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.io.files import load_tensors
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import downscale
from ganvas.scorers.base import Scorer
from ganvas.scorers.celeba40 import ATTRIBUTES, Celeba40
from ganvas.scorers.celeba40 import load as load_celeba40
from ganvas.scorers.networks.faceres import DESCRIPTOR_WIDTH, FaceRes
from ganvas.types import Images, Scores

OWN_ATTRIBUTES = (*ATTRIBUTES, "Sunglasses", "Age")
"""The attributes of the first file; Age is faceres' own."""
OMI_ATTRIBUTES = ("Weight", "Long_Hair", "Hair_Lightness", "Skin_Lightness")
"""The attributes of the second file, in people's ratings from 0 to 100."""
RATED_ATTRIBUTES = ("Male", "Young", "Smiling")
"""Attributes of both files: the layers of the second one, which follow people's ratings, too, replace those of the first."""
VALUES = ("Age", *OMI_ATTRIBUTES)
FEATURES = len(ATTRIBUTES) + DESCRIPTOR_WIDTH
ASSETS = Path(__file__).parent.parent / "assets" / "scorers"
NETWORK_PREFIX = "faceres."


class FaceAttributes(Scorer):
    """46 attributes of faces by linear layers ``weight`` (attributes, FEATURES) and ``bias`` on the features of ``describe``."""

    reads_faces = True

    units: Mapping[str, str] = {"Age": "y"}
    meanings: Mapping[str, str] = dict.fromkeys(OMI_ATTRIBUTES, "people's rating, 0 to 100")

    networks = frozenset({"celeba40", "faceres"})

    def __init__(
        self, celeba40: Celeba40, faceres: FaceRes, weight: Tensor, bias: Tensor, name: str = "face_attributes"
    ) -> None:
        super().__init__()
        self.name, self.attributes = name, (*OWN_ATTRIBUTES, *OMI_ATTRIBUTES)
        self.kinds = tuple("value" if attribute in VALUES else "probability" for attribute in self.attributes)
        self.celeba40, self.faceres = celeba40, faceres.eval().requires_grad_(False)
        self.weight, self.bias = nn.Buffer(weight), nn.Buffer(bias)
        self.fingerprint = hash_weights(self.state_dict().items())

    def describe(self, images: Images) -> Tensor:
        """Compute the features (n, FEATURES) of FFHQ-aligned faces: 40 logits, then faceres' descriptor."""
        images = downscale(images.float())
        return torch.cat((self.celeba40(images), self.faceres.describe(images)), 1)

    def read(self, features: Tensor) -> Scores:
        """Compute scores (n, attributes) of the features of ``describe``."""
        scores = torch.addmm(self.bias, features, self.weight.T)
        age, _ = self.faceres.read_age_gender(features[:, len(ATTRIBUTES) :])
        column = self.column("Age")
        return torch.cat((scores[:, :column], age[:, None], scores[:, column + 1 :]), 1)

    def forward(self, images: Images) -> Scores:
        """Score FFHQ-aligned faces: logits, Age in years, and people's ratings from 0 to 100."""
        return self.read(self.describe(images))


def load(name: str) -> FaceAttributes:
    """Load the scorer that ships."""
    return read(ASSETS / f"{name}.safetensors", ASSETS / f"{name}_omi.safetensors", name)


@cache
def load_faceres(device: str = "cpu") -> FaceRes:
    """Load the network that ships and describes faces; losses read it, judges of identity don't."""
    return load("face_attributes").faceres.to(device)


def read(path: str | Path, omi_path: str | Path, name: str = "face_attributes") -> FaceAttributes:
    """Read the scorer in its two files. Raises GanvasError where one is damaged or holds something else."""
    own, metadata = load_tensors(path)
    omi, omi_metadata = load_tensors(omi_path)
    if metadata.get("scorer") != "face_attributes" or omi_metadata.get("scorer") != "face_attributes_omi":
        raise GanvasError(f"{path} and {omi_path} aren't the two files of a scorer of face attributes.")
    network = FaceRes()
    try:
        state = {
            key.removeprefix(NETWORK_PREFIX): value for key, value in own.items() if key.startswith(NETWORK_PREFIX)
        }
        network.load_state_dict({key: value.float() for key, value in state.items()})
        layer, rated = _join(own, len(OWN_ATTRIBUTES)), _join(omi, len(RATED_ATTRIBUTES) + len(OMI_ATTRIBUTES))
    except (KeyError, RuntimeError) as error:
        raise GanvasError(f"{path} or {omi_path} is damaged: {str(error).splitlines()[0]}.") from None
    for row, attribute in zip(rated, RATED_ATTRIBUTES, strict=False):
        layer[OWN_ATTRIBUTES.index(attribute)] = row
    layer = torch.cat((layer, rated[len(RATED_ATTRIBUTES) :]))
    if not torch.isfinite(layer).all() or not all(
        torch.isfinite(value).all() for value in network.state_dict().values()
    ):
        raise GanvasError(f"{path} or {omi_path} has weights that aren't finite.")
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return FaceAttributes(
        load_celeba40("celeba40"), network, layer[:, :-1].contiguous(), layer[:, -1].contiguous(), name
    )


def _join(tensors: Mapping[str, Tensor], rows: int) -> Tensor:
    """Return the weights and the bias of a file as one matrix (rows, FEATURES + 1). Raises KeyError where they aren't that."""
    weight, bias = tensors["weight"].float(), tensors["bias"].float()
    if weight.shape != (rows, FEATURES) or bias.shape != (rows,):
        raise KeyError(f"the layer has shape {tuple(weight.shape)}, not {(rows, FEATURES)}")
    return torch.cat((weight, bias[:, None]), 1)
