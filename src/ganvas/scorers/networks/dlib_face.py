"""dlib's face embedding as a torch network: the same numbers as dlib's own within rounding, ten times as fast on a core.

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
from ganvas.scorers.networks.dlib_weights import embedding_weights

CHIP = 150
"""The side in pixels of a cut face that the network was trained on."""
LEVELS = ((32, 3), (64, 4), (128, 3), (256, 3), (256, 1))
"""Filters and residual blocks of each level; all but the first level halve the picture in their first block."""
MEANS = (122.782, 117.001, 104.298)
"""Of red, green and blue, as the file's first layer has them."""
VERSION = 2


class FaceNetwork(nn.Module):
    """Chips (n, 3, 150, 150), 0 … 255, to embeddings (n, 128)."""

    def __init__(self, convolutions: Sequence[tuple[Tensor, Tensor]], reading: Tensor) -> None:
        """``convolutions``: weights and biases from the first on, with the scaling behind each; ``reading`` (128, 256)."""
        super().__init__()
        self.weights = nn.ParameterList(
            weight.contiguous(memory_format=torch.channels_last) for weight, _ in convolutions
        )
        self.biases = nn.ParameterList(bias for _, bias in convolutions)
        self.reading = nn.Parameter(reading)
        self.requires_grad_(False)

    def forward(self, chips: Float[Tensor, "n 3 150 150"]) -> Float[Tensor, "n 128"]:
        """The embeddings; what dlib calls one person lies within 0.6."""
        x = chips - torch.tensor(MEANS, device=chips.device)[:, None, None]
        return F.linear(self.levels(x)[-1].mean((2, 3)), self.reading)

    def levels(self, x: Float[Tensor, "n 3 150 150"]) -> list[Tensor]:
        """What each level sees of chips with MEANS taken off: (n, filters, side, side), sides 35, 17, 8, 4 and 2."""
        x = self._convolution((x / 256).contiguous(memory_format=torch.channels_last), 0, 2).relu()
        x, at, seen = F.max_pool2d(x, 3, 2), 1, []
        for level, (_, blocks) in enumerate(LEVELS):
            for block in range(blocks):
                halves = level > 0 and block == 0
                y = self._convolution(x, at, 2 if halves else 1).relu()
                y = self._convolution(y, at + 1, 1)
                x, at = _sum(F.avg_pool2d(x, 2) if halves else x, y).relu(), at + 2
            seen.append(x)
        return seen

    def _convolution(self, x: Tensor, place: int, stride: int) -> Tensor:
        # dlib pads what keeps its size, and nothing else.
        return F.conv2d(x, self.weights[place], self.biases[place], stride, 1 if stride == 1 else 0)


def _sum(a: Tensor, b: Tensor) -> Tensor:
    """What differs in shape is added as if the smaller ended in zeros."""
    shape = [max(sizes) for sizes in zip(a.shape[1:], b.shape[1:], strict=True)]
    a, b = (F.pad(x, [n for k in (2, 1, 0) for n in (0, shape[k] - x.shape[k + 1])]) for x in (a, b))
    return a + b


def read_network(data: bytes) -> FaceNetwork:
    """The network in dlib's file. Raises GanvasError for another."""
    try:
        return FaceNetwork(_convolutions(data), _tensor(data, _after(data, b"fc_2")[0], skip=2).reshape(256, 128).T)
    except (IndexError, ValueError, RuntimeError) as error:
        raise GanvasError(f"This isn't dlib's network of faces: {error}.") from None


def _convolutions(data: bytes) -> list[tuple[Tensor, Tensor]]:
    scales = [_tensor(data, place) for place in _after(data, b"affine_")]
    found, inputs = [], 3
    places = _after(data, b"con_4")
    if len(places) != len(scales) or len(places) != 1 + 2 * sum(blocks for _, blocks in LEVELS):
        raise ValueError(f"it has {len(places)} convolutions and {len(scales)} scalings")
    for k, (place, scaling) in enumerate(zip(places, scales, strict=True)):
        scale, offset = scaling.chunk(2)
        side, outputs = 3 if k else 7, len(scale)
        weight, bias = _tensor(data, place).split((outputs * inputs * side**2, outputs))
        weight = weight.reshape(outputs, inputs, side, side)
        found.append((weight * scale[:, None, None, None], bias * scale + offset))
        inputs = outputs
    return found


def _after(data: bytes, name: bytes) -> list[int]:
    """Where the names of such layers end: a name stands behind its length."""
    return [match.end() for match in re.finditer(re.escape(bytes((1, len(name))) + name), data)]


def _tensor(data: bytes, at: int, skip: int = 0) -> Tensor:
    """The numbers of the tensor at ``at``, behind ``skip`` whole numbers."""
    for _ in range(skip):
        _, at = _whole(data, at)
    version, at = _whole(data, at)
    if version != VERSION:
        raise ValueError(f"a tensor of version {version}")
    count = 1
    for _ in range(4):
        size, at = _whole(data, at)
        count *= size
    return torch.from_numpy(np.frombuffer(data, "<f4", count, at).copy())


def _whole(data: bytes, at: int) -> tuple[int, int]:
    """The whole number at ``at``, none of which is negative here, and where it ends."""
    count = data[at]
    return int.from_bytes(data[at + 1 : at + 1 + count], "little"), at + 1 + count


def face_network() -> FaceNetwork:
    """The network that embeds faces. Raises GanvasError where its weights aren't installed, or aren't the known ones."""
    return read_network(embedding_weights("dlib_face_recognition_resnet_model_v1.dat").read_bytes())
