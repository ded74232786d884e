"""dlib's face embedding as a torch network, equal to dlib's own within rounding and faster.

The network is ``anet_type`` of dlib's example dnn_face_recognition_ex.cpp (http://dlib.net/dnn_face_recognition_ex.cpp.html):
a ResNet of 29 convolutions (He et al., 2016, https://arxiv.org/abs/1512.03385) with half of the filters, and 128 numbers at
its end. dlib writes a layer as its name and its tensors; a tensor as a version, four sizes and float32; a whole number as
the count of its bytes, then these.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.scorers.networks.dlib_weights import find_embedding_weights
from ganvas.scorers.networks.framing import PIXEL_MEANS

FACE_SIDE = 150
"""The side in pixels of the aligned faces that the network was trained on."""
LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
"""Filters and residual blocks of each level; all but the first level halve the picture in their first block."""
VERSION = 2


class FaceNetwork(nn.Module):
    """A network that maps aligned faces (n, 3, 150, 150), 0 … 255, to embeddings (n, 128)."""

    def __init__(self, convolutions: Sequence[tuple[Tensor, Tensor]], reading: Tensor) -> None:
        """Take weights and biases of ``convolutions`` in their order, with the scaling after each, and ``reading`` (128, 256)."""
        super().__init__()
        self.weights = nn.ParameterList(
            weight.contiguous(memory_format=torch.channels_last) for weight, _ in convolutions
        )
        self.biases = nn.ParameterList(bias for _, bias in convolutions)
        self.reading = nn.Parameter(reading)
        self.requires_grad_(False)

    def forward(self, faces: Float[Tensor, "n 3 150 150"]) -> Float[Tensor, "n 128"]:
        """Compute embeddings; two of one person are at most 0.6 apart by dlib's criterion."""
        x = faces - torch.tensor(PIXEL_MEANS, device=faces.device)[:, None, None]
        return F.linear(self.compute_levels(x)[-1].mean((2, 3)), self.reading)

    def compute_levels(self, x: Float[Tensor, "n 3 150 150"]) -> list[Tensor]:
        """Compute the features of each level, of faces minus PIXEL_MEANS: (n, filters, side, side), sides 35, 17, 8, 4 and 2."""
        x = self._convolution((x / 256).contiguous(memory_format=torch.channels_last), 0, 2).relu()
        x, at, features = F.max_pool2d(x, 3, 2), 1, []
        for level, (_, blocks) in enumerate(LEVELS):
            for block in range(blocks):
                halves = level > 0 and block == 0
                y = self._convolution(x, at, 2 if halves else 1).relu()
                y = self._convolution(y, at + 1, 1)
                x, at = _add_padded(F.avg_pool2d(x, 2) if halves else x, y).relu(), at + 2
            features.append(x)
        return features

    def _convolution(self, x: Tensor, place: int, stride: int) -> Tensor:
        # dlib pads only convolutions that keep the size.
        return F.conv2d(x, self.weights[place], self.biases[place], stride, 1 if stride == 1 else 0)


def _add_padded(a: Tensor, b: Tensor) -> Tensor:
    """Add tensors of different shapes as if the smaller were padded with zeros at its end, as dlib does."""
    shape = [max(sizes) for sizes in zip(a.shape[1:], b.shape[1:], strict=True)]
    a, b = (F.pad(x, [n for k in (2, 1, 0) for n in (0, shape[k] - x.shape[k + 1])]) for x in (a, b))
    return a + b


def read_network(data: bytes) -> FaceNetwork:
    """Read the network in dlib's file. Raises GanvasError for any other file."""
    try:
        return FaceNetwork(
            _read_convolutions(data), _read_tensor(data, _find_ends(data, b"fc_2")[0], skip=2).reshape(256, 128).T
        )
    except (IndexError, ValueError, RuntimeError) as error:
        raise GanvasError(f"This isn't dlib's face embedding network: {error}.") from None


def _read_convolutions(data: bytes) -> list[tuple[Tensor, Tensor]]:
    scales = [_read_tensor(data, place) for place in _find_ends(data, b"affine_")]
    convolutions, inputs = [], 3
    places = _find_ends(data, b"con_4")
    if len(places) != len(scales) or len(places) != 1 + 2 * sum(blocks for _, blocks in LEVELS):
        raise ValueError(f"it has {len(places)} convolutions and {len(scales)} scalings")
    for k, (place, scaling) in enumerate(zip(places, scales, strict=True)):
        scale, offset = scaling.chunk(2)
        side, outputs = 3 if k else 7, len(scale)
        weight, bias = _read_tensor(data, place).split((outputs * inputs * side**2, outputs))
        weight = weight.reshape(outputs, inputs, side, side)
        convolutions.append((weight * scale[:, None, None, None], bias * scale + offset))
        inputs = outputs
    return convolutions


def _find_ends(data: bytes, name: bytes) -> list[int]:
    """Find where the names of layers of one type end; a name follows its length."""
    return [match.end() for match in re.finditer(re.escape(bytes((1, len(name))) + name), data)]


def _read_tensor(data: bytes, at: int, skip: int = 0) -> Tensor:
    """Read the numbers of the tensor at ``at``, after ``skip`` integers."""
    for _ in range(skip):
        _, at = _read_integer(data, at)
    version, at = _read_integer(data, at)
    if version != VERSION:
        raise ValueError(f"a tensor of version {version}")
    count = 1
    for _ in range(4):
        size, at = _read_integer(data, at)
        count *= size
    return torch.from_numpy(np.frombuffer(data, "<f4", count, at).copy())


def _read_integer(data: bytes, at: int) -> tuple[int, int]:
    """Read the integer at ``at``, which is never negative here, and return where it ends."""
    count = data[at]
    return int.from_bytes(data[at + 1 : at + 1 + count], "little"), at + 1 + count


def load_face_network() -> FaceNetwork:
    """Load the network that embeds faces. Raises GanvasError where its weights aren't installed or have another hash."""
    return read_network(find_embedding_weights("dlib_face_recognition_resnet_model_v1.dat").read_bytes())
