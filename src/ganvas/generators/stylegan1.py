"""StyleGAN, the first one: mapping network, adaptive instance normalization, constant noise; from 8 to 1024 pixels.

Karras et al., *A Style-Based Generator Architecture for Generative Adversarial Networks*, 2019,
https://arxiv.org/abs/1812.04948. Two rows of W+ a resolution, one for each layer: the constant and every 3×3 convolution.
A layer adds scaled noise and a bias, applies a leaky ReLU, normalizes each channel to mean 0 and variance 1, and multiplies
and shifts it as an affine map of its row says. Only the last output layer draws: those of coarser resolutions are left from
progressive growing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import (
    Generator,
    check_codes,
    check_labels,
    check_resolution,
    check_weights,
    copy_contiguous,
    shrink,
)
from ganvas.io.fingerprints import hash_weights
from ganvas.types import Images, Labels, W, WPlus, Z
from ganvas.validation import Flag, PositiveReal, validated

KIND, FAMILY, VERSION = "generator", "stylegan1", 1
RESOLUTIONS = tuple(2**i for i in range(3, 11))
MAX_WIDTH = 4096
"""The most channels, dimensions and labels that a generator may have."""
NORM_EPSILON = 1e-8
"""What the paper's code adds to a variance, or to the mean square of z, before its root is taken."""
BLUR_TAPS = (1.0, 2.0, 1.0)
"""The filter after each doubling, before it is scaled to the sum 1."""
Size = Annotated[int, Field(strict=True, ge=1, le=MAX_WIDTH)]


@validated
class StyleGAN1Architecture:
    """The architecture of a StyleGAN generator. ``widths[i]``: channels at resolution 4·2ⁱ."""

    resolution: Size
    widths: tuple[Size, ...]
    z_dim: Size = 512
    w_dim: Size = 512
    num_labels: Annotated[int, Field(strict=True, ge=0, le=MAX_WIDTH)] = 0
    colours: Size = 3
    """1 for a grey generator."""
    mapping_layers: Size = 8
    mapping_width: Size = 512
    """The numbers that each layer of the mapping network but the last gives."""
    epsilon: PositiveReal = NORM_EPSILON
    """What is added to a channel's variance before it is divided by its root."""
    blurred_bias: Flag = False
    """Whether the bias of a layer that doubles is added before the filter, which then takes from it along the border."""

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            raise unknown("resolution", self.resolution, map(str, RESOLUTIONS))
        if self.colours not in (1, 3):
            raise GanvasError(f"A picture has 1 or 3 colours, not {self.colours}.")
        if len(self.widths) != self.resolution.bit_length() - 2:
            raise GanvasError(
                f"A generator of {self.resolution}×{self.resolution} needs {self.resolution.bit_length() - 2} widths, "
                f"not {len(self.widths)}."
            )

    @property
    def unusual_settings(self) -> list[str]:
        """The settings that weights don't show and that differ from the paper's code, such as ["blurred_bias=True"]."""
        names = ("epsilon", "blurred_bias")
        return [
            f"{name}={getattr(self, name)}"
            for name in names
            if getattr(self, name) != getattr(StyleGAN1Architecture, name)
        ]

    @property
    def row_resolutions(self) -> tuple[int, ...]:
        """The resolution that each layer works at, and so each row of W+: two a resolution."""
        return tuple(4 << (i // 2) for i in range(2 * len(self.widths)))

    def list_weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor; gains (of equalized learning rates) are multiplied into them."""
        shapes: dict[str, tuple[int, ...]] = {"mapping.w_avg": (self.w_dim,)}
        incoming = self.z_dim
        if self.num_labels:
            shapes["mapping.embed.weight"] = (self.z_dim, self.num_labels)
            incoming *= 2
        for i in range(self.mapping_layers):
            outgoing = self.w_dim if i == self.mapping_layers - 1 else self.mapping_width
            shapes |= {f"mapping.fc{i}.weight": (outgoing, incoming), f"mapping.fc{i}.bias": (outgoing,)}
            incoming = outgoing
        shapes["synthesis.const"] = (self.widths[0], 4, 4)
        for i, side in enumerate(self.row_resolutions):
            name, width = f"synthesis.layer{i}", self.widths[i // 2]
            if i:
                shapes[f"{name}.weight"] = (width, self.widths[(i - 1) // 2], 3, 3)
            shapes |= {
                f"{name}.bias": (width,),
                f"{name}.noise_const": (side, side),
                f"{name}.noise_strength": (width,),
                f"{name}.affine.weight": (2 * width, self.w_dim),
                f"{name}.affine.bias": (2 * width,),
            }
        shapes |= {"synthesis.torgb.weight": (self.colours, self.widths[-1]), "synthesis.torgb.bias": (self.colours,)}
        return shapes


class StyleGAN1(Generator):
    """A frozen StyleGAN.

    ``state`` holds float32 weights by the names of ``shape.list_weight_shapes()``. A layer's affine map gives its channels'
    scales, then their shifts. The kernels of the first layer of each resolution are applied to the doubled picture.
    """

    has_stylegan2_rows = False
    w_slope = 0.2

    def __init__(
        self,
        state: Mapping[str, Tensor],
        shape: StyleGAN1Architecture,
        name: str = FAMILY,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Raise GanvasError where ``state`` isn't the weights of such a network."""
        super().__init__()
        self.name, self.shape, self.dtype = name, shape, dtype
        self.z_dim, self.w_dim, self.num_labels = shape.z_dim, shape.w_dim, shape.num_labels
        self.resolution, self.row_resolutions = shape.resolution, shape.row_resolutions
        state = {key: value.float() for key, value in state.items()}
        check_weights(state, shape.list_weight_shapes(), "StyleGAN")
        # Equal weights that are used in another way are another generator.
        self.fingerprint = hash_weights([*state.items(), *((way, torch.zeros(0)) for way in shape.unusual_settings)])
        self.w_avg = nn.Buffer(state["mapping.w_avg"].clone())
        folded = _fold_weights(state, shape, dtype)
        self.weights = nn.ParameterDict({key.replace(".", "/"): nn.Parameter(value) for key, value in folded.items()})
        self.requires_grad_(False)

    def _weight(self, name: str) -> Tensor:
        return self.weights[name.replace(".", "/")]

    def mapping(self, z: Z, labels: Labels | None = None) -> W:
        """Map codes of Z to W; a conditional generator needs labels (n, num_labels), and no other takes them."""
        check_labels(self, z, labels)
        x = z if labels is None else torch.cat((z, F.linear(labels, self._weight("mapping.embed.weight"))), 1)
        x = x * torch.rsqrt(x.square().mean(1, keepdim=True) + NORM_EPSILON)
        for i in range(self.shape.mapping_layers):
            x = F.linear(x, self._weight(f"mapping.fc{i}.weight"), self._weight(f"mapping.fc{i}.bias"))
            x = F.leaky_relu(x, 0.2)
        return x

    def style_weights(self) -> list[Tensor]:
        """Return the affine map of each layer: (2 channels, w_dim), scales first."""
        return [self._weight(f"synthesis.layer{i}.affine.weight") for i in range(self.num_ws)]

    def synthesis(self, ws: WPlus, resolution: int | None = None) -> Images:
        """Draw pictures (n, 3, resolution, resolution), float32; a grey generator repeats its channel.

        Smaller pictures are whole ones shrunk: coarser output layers no longer fit the features that they would draw.
        """
        check_codes(self, ws)
        size, ws = check_resolution(self, resolution), copy_contiguous(ws)
        x = self._stylize(0, self._weight("synthesis.const"), ws)
        for i in range(1, self.num_ws):
            kernel = self._weight(f"synthesis.layer{i}.weight")
            if i % 2:
                x = F.conv2d(x.to(self.dtype), kernel, padding=1).float()
            else:
                x = F.conv_transpose2d(x.to(self.dtype), kernel, stride=2, padding=1).float()
                x = _blur(x + self._weight(f"synthesis.layer{i}.bias") if self.shape.blurred_bias else x)
            x = self._stylize(i, self._activate(i, x), ws)
        images = F.conv2d(x, self._weight("synthesis.torgb.weight"), self._weight("synthesis.torgb.bias"))
        return shrink(images, size).expand(-1, 3, -1, -1)

    def _activate(self, i: int, x: Tensor) -> Tensor:
        """Add noise and bias to what layer ``i`` has computed, in place, and apply the leaky ReLU."""
        name = f"synthesis.layer{i}"
        x.addcmul_(self._weight(f"{name}.noise_const"), self._weight(f"{name}.noise_strength"))
        if i % 2 or not self.shape.blurred_bias:
            x.add_(self._weight(f"{name}.bias"))
        return F.leaky_relu_(x, 0.2)

    def _stylize(self, i: int, x: Tensor, ws: Tensor) -> Tensor:
        """Normalize each channel of layer ``i``, and apply its row's scale and shift."""
        name = f"synthesis.layer{i}"
        style = F.linear(ws[:, i], self._weight(f"{name}.affine.weight"), self._weight(f"{name}.affine.bias"))
        scale, shift = style[:, :, None, None].chunk(2, 1)
        mean = x.mean((2, 3), keepdim=True)
        scale = scale * torch.rsqrt((x - mean).square().mean((2, 3), keepdim=True) + self.shape.epsilon)
        return torch.addcmul(shift - mean * scale, x, scale)


def _fold_weights(state: Mapping[str, Tensor], shape: StyleGAN1Architecture, dtype: torch.dtype) -> dict[str, Tensor]:
    """Compute what depends on the weights alone: kernels for ``dtype``, doubling included, and the first layer's activations."""
    folded = {key: value for key, value in state.items() if key.startswith("mapping.") and key != "mapping.w_avg"}
    folded |= {key: value for key, value in state.items() if ".affine." in key or key.endswith(".noise_const")}
    for i in range(len(shape.row_resolutions)):
        name = f"synthesis.layer{i}"
        for part in ("bias", "noise_strength"):
            folded[f"{name}.{part}"] = state[f"{name}.{part}"][:, None, None]
        if i:
            kernel = state[f"{name}.weight"] if i % 2 else _fold_doubling(state[f"{name}.weight"])
            folded[f"{name}.weight"] = kernel.to(dtype).contiguous(memory_format=torch.channels_last)
    first = state["synthesis.const"] + state["synthesis.layer0.noise_const"] * folded["synthesis.layer0.noise_strength"]
    first = F.leaky_relu(first + folded["synthesis.layer0.bias"], 0.2)[None]
    folded["synthesis.const"] = first.contiguous(memory_format=torch.channels_last)
    folded["synthesis.torgb.weight"] = state["synthesis.torgb.weight"][:, :, None, None]
    folded["synthesis.torgb.bias"] = state["synthesis.torgb.bias"]
    return folded


def _fold_doubling(kernel: Tensor) -> Tensor:
    """Fold a kernel (out, in, 3, 3) after doubling by repeated pixels into a transposed one of stride 2, (in, out, 4, 4)."""
    padded = F.pad(kernel.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
    return padded[..., 1:, 1:] + padded[..., :-1, 1:] + padded[..., 1:, :-1] + padded[..., :-1, :-1]


def _blur(x: Tensor) -> Tensor:
    """Filter each channel by 1-2-1 in both directions; outside of the picture there is 0."""
    taps = torch.tensor(BLUR_TAPS, dtype=x.dtype, device=x.device) / sum(BLUR_TAPS)
    return F.conv2d(x, (taps[:, None] * taps).expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])
