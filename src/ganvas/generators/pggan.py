"""Progressive GAN: convolutions that double a picture of 4×4 pixels again and again, each followed by pixel normalization.

Karras et al., *Progressive Growing of GANs for Improved Quality, Stability, and Variation*, 2018, https://arxiv.org/abs/1710.10196.
W is z, in one row of W+; there are no styles. The network normalizes z itself, so truncation changes nothing in a picture.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from math import ceil
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, check_resolution, copy_contiguous, shrink
from ganvas.io.fingerprints import hash_weights
from ganvas.types import Images, Labels, W, WPlus, Z
from ganvas.validation import Flag, NonNegative, Share, validated

KIND, FAMILY, VERSION = "generator", "pggan", 1
FIRST_SIDE = 4
"""The side of the first block's features, in pixels."""
MAX_WIDTH = 8192
"""The most channels, and the most numbers of z."""
MAX_BLOCKS = 9
"""The most blocks, which draw pictures of 1024 × 1024."""
PIXEL_EPSILON = 1e-8
Width = Annotated[int, Field(strict=True, ge=1, le=MAX_WIDTH)]


@validated
class PgganArchitecture:
    """The sizes of a network: ``widths[i]`` channels leave the block at resolution 4·2ⁱ.

    ``lod``, the level of detail, says how far the network has grown: at 0 the last block draws the picture, at 1 the one
    before, and between the two pictures are mixed. ``tanh``: whether it ends in one; ``slope``: that of leaky ReLU.
    """

    z_dim: Width
    widths: Annotated[tuple[Width, ...], Field(min_length=2, max_length=MAX_BLOCKS)]
    colours: Literal[1, 3] = 3
    lod: NonNegative = 0.0
    slope: Share = 0.2
    tanh: Flag = False

    def __post_init__(self) -> None:
        if not 0 <= self.lod <= len(self.widths) - 1:
            raise GanvasError(f"The level of detail is {self.lod:g}: 0 to {len(self.widths) - 1} is possible.")

    @property
    def resolution(self) -> int:
        """The side of a picture in pixels."""
        return FIRST_SIDE << (len(self.widths) - 1)

    def list_weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """List the weights by name, with their shapes."""
        first = self.widths[0] * FIRST_SIDE**2
        sizes: dict[str, tuple[int, ...]] = {"dense.weight": (first, self.z_dim), "dense.bias": (first,)}
        for i, width in enumerate(self.widths):
            inputs = {"conv0": self.widths[i - 1], "conv1": width} if i else {"conv1": width}
            for name, channels in inputs.items():
                sizes |= {f"b{i}.{name}.weight": (width, channels, 3, 3), f"b{i}.{name}.bias": (width,)}
            sizes |= {f"b{i}.output.weight": (self.colours, width, 1, 1), f"b{i}.output.bias": (self.colours,)}
        return sizes


class Pggan(Generator):
    """The frozen network of ``shape``; grey pictures repeat their channel.

    Weights have the factors of the equalized learning rate in them. Rows of ``dense.weight`` are ordered by channel, then pixel.
    """

    has_stylegan2_rows = False

    def __init__(
        self,
        state: Mapping[str, Tensor],
        shape: PgganArchitecture,
        name: str = FAMILY,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Raise GanvasError where ``state`` lacks weights of ``shape``, or has them in other shapes."""
        super().__init__()
        self.name, self.shape, self.dtype = name, shape, dtype
        self.z_dim = self.w_dim = shape.z_dim
        self.resolution, self.row_resolutions = shape.resolution, (FIRST_SIDE,)
        own = {}
        for key, size in shape.list_weight_shapes().items():
            if key not in state or tuple(state[key].shape) != size:
                actual = f"of shape {tuple(state[key].shape)}" if key in state else "missing"
                raise GanvasError(f"These are not Progressive GAN's weights: {key} is {actual}, {size} is expected.")
            own[key] = state[key].float()
        self.fingerprint = hash_weights({**own, json.dumps(asdict(shape), sort_keys=True): torch.zeros(0)}.items())
        self.weights = nn.ParameterDict({k.replace(".", "/"): nn.Parameter(v.to(dtype)) for k, v in own.items()})
        self.w_avg = nn.Buffer(torch.zeros(self.w_dim))
        self.requires_grad_(False)

    def mapping(self, z: Z, labels: Labels | None = None) -> W:
        """Return z itself."""
        if labels is not None:
            raise GanvasError(f"Generator {self.name!r} is unconditional: it takes no labels.")
        return z

    def style_weights(self) -> list[Tensor]:
        """Return []: there are no styles."""
        return []

    def synthesis(self, ws: WPlus, resolution: int | None = None) -> Images:
        """Draw pictures (n, 3, resolution, resolution), float32."""
        if ws.shape[1:] != (1, self.w_dim):
            raise GanvasError(f"Codes for {self.name!r} have shape (n, 1, {self.w_dim}), not {tuple(ws.shape)}.")
        size = check_resolution(self, resolution)
        x = normalize_pixels(copy_contiguous(ws)[:, 0]).to(self.dtype)
        x = F.linear(x, self._weight("dense.weight"), self._weight("dense.bias"))
        x = images = self._activate(x.reshape(x.shape[0], self.shape.widths[0], FIRST_SIDE, FIRST_SIDE))
        last, missing = len(self.shape.widths) - 1, int(self.shape.lod)  # blocks that it hasn't grown yet
        first = last - ceil(self.shape.lod)
        for i in range(last + 1 - missing):
            for name in ("conv0", "conv1") if i else ("conv1",):
                x = self._activate(self._convolve(_double(x) if name == "conv0" else x, f"b{i}.{name}"))
            if i == first:
                images = self._convolve(x, f"b{i}.output").float()
            elif i > first:
                images = torch.lerp(
                    self._convolve(x, f"b{i}.output").float(), _double(images), self.shape.lod - missing
                )
        for _ in range(missing):
            images = _double(images)
        images = torch.tanh(images) if self.shape.tanh else images
        return shrink(images.expand(-1, 3, -1, -1), size)

    def _convolve(self, x: Tensor, name: str) -> Tensor:
        kernel = self._weight(f"{name}.weight")
        return F.conv2d(x, kernel, self._weight(f"{name}.bias"), padding=kernel.shape[-1] // 2)

    def _activate(self, x: Tensor) -> Tensor:
        return normalize_pixels(F.leaky_relu(x, self.shape.slope))

    def _weight(self, key: str) -> Tensor:
        return self.weights[key.replace(".", "/")]


def normalize_pixels(x: Tensor) -> Tensor:
    """Scale each pixel's vector of channels, axis 1, to a mean square of one."""
    return x * (x.square().mean(1, keepdim=True) + PIXEL_EPSILON).rsqrt()


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
