"""MobileFaceNet: a description of a face by 512 numbers, from npm's faceplugin-face-recognition-js (MIT).

https://www.npmjs.com/package/faceplugin-face-recognition-js (0.0.1) holds it as ONNX, its batch normalisations folded. The
architecture: Chen, Liu, Gao and Han, *MobileFaceNets*, 2018, https://arxiv.org/abs/1804.07573.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.scorers._onnx import read_tensors

FACE_SIDE = 112
"""The side in pixels of the network's input."""
DESCRIPTOR_WIDTH = 512
FACE_POINTS = ((38.29459953, 51.69630051), (73.53179932, 51.50139999), (56.02519989, 71.73660278))
"""Where the eyes and the tip of the nose lie in the network's input, x and y in pixels."""
BLOCKS = (
    *((64, 128, 2), *[(64, 128, 1)] * 4),
    *((128, 256, 2), *[(128, 256, 1)] * 6),
    *((128, 512, 2), *[(128, 256, 1)] * 2),
)
"""Channels that leave each inverted bottleneck, channels inside it, and its stride; those of stride 1 are residual."""


class MobileFaceNet(nn.Module):
    """A frozen network from aligned faces (n, 3, 112, 112), -1 … 1, to descriptors (n, 512) of length 1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.ModuleList((nn.Conv2d(3, 64, 3, 2, 1), nn.PReLU(64), nn.Conv2d(64, 64, 3, 1, 1, groups=64)))
        self.stem.append(nn.PReLU(64))
        self.blocks, channels = nn.ModuleList(), 64
        for outputs, width, stride in BLOCKS:
            layers = (
                *(nn.Conv2d(channels, width, 1), nn.PReLU(width)),
                *(nn.Conv2d(width, width, 3, stride, 1, groups=width), nn.PReLU(width)),
                nn.Conv2d(width, outputs, 1),
            )
            self.blocks.append(nn.Sequential(*layers))
            channels = outputs
        self.end = nn.Sequential(
            *(nn.Conv2d(128, 512, 1), nn.PReLU(512), nn.Conv2d(512, 512, 7, groups=512), nn.Conv2d(512, 512, 1))
        )
        self.eval().requires_grad_(False)

    def forward(self, faces: Float[Tensor, "n 3 112 112"]) -> Float[Tensor, "n 512"]:
        """Describe faces that are aligned at FACE_POINTS."""
        # (byte − 127) / 128, as published.
        x = faces * (127.5 / 128) + 0.5 / 128
        for layer in self.stem:
            x = layer(x)
        for block, (_, _, stride) in zip(self.blocks, BLOCKS, strict=True):
            x = block(x) if stride == 2 else x + block(x)
        return F.normalize(self.end(x).flatten(1), dim=1)


def convert(data: bytes) -> dict[str, Tensor]:
    """Convert the published ONNX file to ``MobileFaceNet``'s weights. Raises GanvasError where it isn't that."""
    tensors = list(read_tensors(data).items())
    # Weights and biases of convolutions are numbered in their order; slopes have one axis for channels and two of 1.
    slopes = [value.flatten() for _, value in tensors if value.ndim == 3]
    convolutions = [value for _, value in sorted(tensors, key=lambda item: int(item[0])) if value.ndim in (1, 4)]
    network = MobileFaceNet()
    remaining = {nn.Conv2d: iter(convolutions), nn.PReLU: iter(slopes)}
    state = {}
    for name, value in network.state_dict().items():
        own = next(remaining[type(network.get_submodule(name.rpartition(".")[0]))], None)
        if own is None or own.shape != value.shape:
            raise GanvasError(f"This isn't the face network that is expected: the shape of {name} differs.")
        state[name] = own
    return state
