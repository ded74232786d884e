"""StyleGAN2's layers as functions of weights: one core for training (weights that learn) and for use (weights folded once).

Karras et al., *Analyzing and Improving the Image Quality of StyleGAN*, 2020, https://arxiv.org/abs/1912.04958. Names and
meaning of the weights are those of NVIDIA's stylegan2-ada-pytorch, https://github.com/NVlabs/stylegan2-ada-pytorch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.errors import GanvasError, unknown
from ganvas.generators._fir import double, fold_up, join_phases, smooth

ARCHITECTURES = ("skip", "resnet", "orig")
RESOLUTIONS = tuple(2**i for i in range(3, 11))
MOST = 4096
"""Channels, dimensions and labels that a generator may have, at most."""
GAIN = 2**0.5
"""What follows every leaky ReLU, so that it keeps the variance."""
Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Shape:
    """What a StyleGAN2 generator is before it has weights. ``widths[i]``: channels at resolution 4·2ⁱ."""

    resolution: int
    widths: tuple[int, ...]
    z_dim: int = 512
    w_dim: int = 512
    num_labels: int = 0
    colours: int = 3
    """1 for a grey generator."""
    mapping_layers: int = 8
    learning_rate_multiplier: float = 0.01
    """Of the mapping network: its weights are stored divided by it."""
    architecture: str = "skip"
    clamp: float | None = None
    """The largest activation, where the network was trained with one."""
    bounded: bool = False
    """Whether the picture goes through tanh, as no published StyleGAN2's does: for pictures that are mostly black or white,
    exact ends of the range which a sum of filters meets nowhere."""

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            raise unknown("resolution", self.resolution, map(str, RESOLUTIONS))
        if self.architecture not in ARCHITECTURES:
            raise unknown("architecture", self.architecture, ARCHITECTURES)
        if self.colours not in (1, 3):
            raise GanvasError(f"A picture has 1 or 3 colours, not {self.colours}.")
        if len(self.widths) != len(self.blocks):
            raise GanvasError(
                f"A generator of {self.resolution}×{self.resolution} needs {len(self.blocks)} widths (for "
                f"{', '.join(map(str, self.blocks))}), not {len(self.widths)}."
            )
        for name in ("z_dim", "w_dim", "mapping_layers"):
            if getattr(self, name) < 1:
                raise GanvasError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if min(self.widths) < 1 or self.num_labels < 0:
            raise GanvasError(f"Widths must be at least 1 and labels 0, not {min(self.widths)} and {self.num_labels}.")

    @property
    def blocks(self) -> tuple[int, ...]:
        """The resolutions of the blocks: 4, 8, … up to the picture's."""
        return tuple(2**i for i in range(2, self.resolution.bit_length()))

    @property
    def row_resolutions(self) -> tuple[int, ...]:
        """The resolution that each row of W+ acts at: 4, then two rows a block, then the output layer."""
        return (4, *(r for r in self.blocks[1:] for _ in range(2)), self.resolution)

    def layers(self) -> Iterator[Layer]:
        """The modulated 3×3 convolutions, coarse to fine: one row of W+ each."""
        row = 0
        for i, r in enumerate(self.blocks):
            if r > 4:
                yield Layer(f"synthesis.b{r}.conv0", row, self.widths[i - 1], self.widths[i], r, True)
                row += 1
            yield Layer(f"synthesis.b{r}.conv1", row, self.widths[i], self.widths[i], r, False)
            row += 1

    def outputs(self) -> Iterator[Layer]:
        """The output layers (1×1, no demodulation): one a block with skips, else the last; a row is shared with the
        layer that follows."""
        for i, r in enumerate(self.blocks):
            if self.architecture == "skip" or r == self.resolution:
                yield Layer(f"synthesis.b{r}.torgb", 2 * i + 1, self.widths[i], self.colours, r, False)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """The name and shape of every tensor."""
        shapes: dict[str, tuple[int, ...]] = {"mapping.w_avg": (self.w_dim,)}
        wide = self.z_dim + (self.w_dim if self.num_labels else 0)
        if self.num_labels:
            shapes |= {"mapping.embed.weight": (self.w_dim, self.num_labels), "mapping.embed.bias": (self.w_dim,)}
        for i in range(self.mapping_layers):
            shapes[f"mapping.fc{i}.weight"] = (self.w_dim, self.w_dim if i else wide)
            shapes[f"mapping.fc{i}.bias"] = (self.w_dim,)
        shapes["synthesis.b4.const"] = (self.widths[0], 4, 4)
        for layer in self.layers():
            shapes[f"{layer.name}.weight"] = (layer.outgoing, layer.incoming, 3, 3)
            shapes |= layer.other_shapes(self.w_dim)
            shapes[f"{layer.name}.noise_const"] = (layer.resolution, layer.resolution)
            shapes[f"{layer.name}.noise_strength"] = ()
            if layer.up and self.architecture == "resnet":
                shapes[f"synthesis.b{layer.resolution}.skip.weight"] = (layer.outgoing, layer.incoming, 1, 1)
        for layer in self.outputs():
            shapes[f"{layer.name}.weight"] = (layer.outgoing, layer.incoming, 1, 1)
            shapes |= layer.other_shapes(self.w_dim)
        return shapes


@dataclass(frozen=True)
class Layer:
    """A modulated convolution: the row of W+ that styles it, its channels, and where it works."""

    name: str
    row: int
    incoming: int
    outgoing: int
    resolution: int
    up: bool

    def other_shapes(self, w_dim: int) -> dict[str, tuple[int, ...]]:
        """Its tensors beside the kernel."""
        return {
            f"{self.name}.bias": (self.outgoing,),
            f"{self.name}.affine.weight": (self.incoming, w_dim),
            f"{self.name}.affine.bias": (self.incoming,),
        }


def initial(shape: Shape, random: torch.Generator) -> dict[str, Tensor]:
    """Weights before training: standard normal, the gains that scale them being applied in use (equalised learning rates)."""
    weights = {}
    for name, size in shape.weight_shapes().items():
        if name.endswith("affine.bias"):
            weights[name] = torch.ones(size)
        elif name.endswith(("bias", "noise_strength", "w_avg")):
            weights[name] = torch.zeros(size)
        else:
            weights[name] = torch.randn(size, generator=random)
            if name.startswith("mapping.fc"):
                weights[name] /= shape.learning_rate_multiplier
    return weights


def fold(weights: Weights, shape: Shape, dtype: torch.dtype) -> dict[str, Tensor]:
    """Everything that depends on the weights alone: gains applied, filters folded in, in ``dtype`` where it is used so.

    Differentiable, so that training runs what is later used. Codes, styles and demodulation stay in float32.
    """
    folded = _fold_mapping(weights, shape)
    folded["synthesis.b4.const"] = _place(weights["synthesis.b4.const"][None], dtype)
    for layer in shape.layers():
        name = layer.name
        kernel = weights[f"{name}.weight"] / (9 * layer.incoming) ** 0.5
        folded |= _affine(weights, layer, shape.w_dim)
        folded[f"{name}.power"] = kernel.square().sum((2, 3))
        if layer.up and dtype == torch.float32 and not kernel.requires_grad:
            # Four times the products cost more than the filter by itself, but for bfloat16, where products are cheap.
            folded[f"{name}.doubling"] = _place(kernel.transpose(0, 1), dtype)
        else:
            folded[f"{name}.weight"] = _place(fold_up(kernel) if layer.up else kernel, dtype)
        strength = weights[f"{name}.noise_strength"].expand(layer.outgoing)
        folded[f"{name}.added"] = (GAIN * torch.stack((weights[f"{name}.bias"], strength))).to(dtype)
        folded[f"{name}.noise"] = weights[f"{name}.noise_const"][None].to(dtype)
        skip = f"synthesis.b{layer.resolution}.skip.weight"
        if layer.up and shape.architecture == "resnet":
            kernel = weights[skip] * (0.5 / layer.incoming) ** 0.5
            folded[skip] = _place(fold_up(kernel), dtype)
    for layer in shape.outputs():
        folded |= _affine(weights, layer, shape.w_dim)
        folded[f"{layer.name}.weight"] = (weights[f"{layer.name}.weight"] / layer.incoming**0.5).flatten(1)
        folded[f"{layer.name}.bias"] = weights[f"{layer.name}.bias"][:, None, None]
    return folded


def _fold_mapping(weights: Weights, shape: Shape) -> dict[str, Tensor]:
    folded = {}
    for i in range(shape.mapping_layers):
        weight = weights[f"mapping.fc{i}.weight"]
        folded[f"mapping.fc{i}.weight"] = weight * (GAIN * shape.learning_rate_multiplier / weight.shape[1] ** 0.5)
        folded[f"mapping.fc{i}.bias"] = weights[f"mapping.fc{i}.bias"] * (GAIN * shape.learning_rate_multiplier)
    if shape.num_labels:
        folded["mapping.embed.weight"] = weights["mapping.embed.weight"] / shape.num_labels**0.5
        folded["mapping.embed.bias"] = weights["mapping.embed.bias"]
    return folded


def _affine(weights: Weights, layer: Layer, w_dim: int) -> dict[str, Tensor]:
    name = f"{layer.name}.affine"
    return {f"{name}.weight": weights[f"{name}.weight"] / w_dim**0.5, f"{name}.bias": weights[f"{name}.bias"]}


def _place(kernel: Tensor, dtype: torch.dtype) -> Tensor:
    return kernel.to(dtype).contiguous(memory_format=torch.channels_last)


def mapping(folded: Weights, shape: Shape, z: Tensor, labels: Tensor | None) -> Tensor:
    """z (n, z_dim), and labels (n, num_labels) of a conditional network, to w (n, w_dim)."""
    x = _normalise(z)
    if labels is not None:
        embedded = F.linear(labels, folded["mapping.embed.weight"], folded["mapping.embed.bias"])
        x = torch.cat((x, _normalise(embedded)), 1)
    for i in range(shape.mapping_layers):
        # The gain after the leaky ReLU is in the weights: a leaky ReLU lets positive factors through.
        x = F.leaky_relu(F.linear(x, folded[f"mapping.fc{i}.weight"], folded[f"mapping.fc{i}.bias"]), 0.2)
    return x


def _normalise(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def synthesis(
    folded: Weights, shape: Shape, ws: Tensor, dtype: torch.dtype, random: torch.Generator | None = None
) -> Tensor:
    """Codes (n, num_ws, w_dim) to pictures (n, colours, resolution, resolution), float32.

    Noise is constant, or drawn anew for each picture where ``random`` is given (as in training).
    """
    outputs = {layer.resolution: layer for layer in shape.outputs()}
    x, image, skip = folded["synthesis.b4.const"].expand(len(ws), -1, -1, -1), None, None
    for layer in shape.layers():
        if layer.up and shape.architecture == "resnet":
            skip = join_phases(F.conv2d(x, folded[f"synthesis.b{layer.resolution}.skip.weight"], padding=1))
        last = not layer.up
        half = last and skip is not None
        x = _convolve(folded, layer, x, ws[:, layer.row], _clamp(shape, half), half, _noise(folded, layer, ws, random))
        if last and skip is not None:
            x, skip = x + skip, None
        if last and layer.resolution in outputs:
            drawn = _draw(folded, outputs[layer.resolution], x, ws, shape.clamp)
            image = drawn if image is None else double(image) + drawn
    drawn = image if image is not None else x
    return drawn.tanh() if shape.bounded else drawn


def _clamp(shape: Shape, half: bool) -> float | None:
    """The clamp of a layer; a residual block scales its branches by √½, and their clamps with them."""
    return None if shape.clamp is None else shape.clamp * (0.5**0.5 if half else 1.0)


def _noise(folded: Weights, layer: Layer, ws: Tensor, random: torch.Generator | None) -> Tensor:
    """(1 or n, height, width)."""
    noise = folded[f"{layer.name}.noise"]
    if random is None:
        return noise
    drawn = torch.randn(len(ws), *noise.shape[1:], generator=random, device=ws.device)
    return drawn.to(noise.dtype)


def _convolve(
    folded: Weights, layer: Layer, x: Tensor, w: Tensor, clamp: float | None, half: bool, noise: Tensor
) -> Tensor:
    """A modulated, demodulated convolution with noise, bias and leaky ReLU (equations 1 and 3 of the paper).

    The style scales what goes into the convolution and the demodulation what comes out of it, which equals scaling the
    kernel for each picture and needs no grouped convolution.
    """
    name, gain = layer.name, 0.5**0.5 if half else 1.0
    style = F.linear(w, folded[f"{name}.affine.weight"], folded[f"{name}.affine.bias"])
    scale = GAIN * gain * torch.rsqrt(style.square() @ folded[f"{name}.power"].T + 1e-8)
    learning = x.requires_grad or style.requires_grad
    # In place where nothing is learned: fresh memory costs more than what is done with it. The first input is a weight.
    x = _times(x, style, learning or layer.row == 0)
    if f"{name}.doubling" in folded:
        x = smooth(F.conv_transpose2d(x, folded[f"{name}.doubling"], stride=2))
    else:
        x = F.conv2d(x, folded[f"{name}.weight"], padding=1)
        x = join_phases(x) if layer.up else x
    x, added = _times(x, scale, learning), folded[f"{name}.added"] * gain
    if learning:
        x = _add(x, added, noise)
    else:
        x = x.add_(added[0][:, None, None]).addcmul_(noise[:, None], added[1][:, None, None])
    x = F.leaky_relu_(x, 0.2)
    if clamp is None:
        return x
    return x.clamp(-clamp, clamp) if learning else x.clamp_(-clamp, clamp)


def _times(x: Tensor, factors: Tensor, anew: bool) -> Tensor:
    """x (n, channels, h, w) by a factor a channel, (n, channels)."""
    factors = factors.to(x.dtype)[:, :, None, None]
    return x * factors if anew else x.mul_(factors)


def _add(x: Tensor, added: Tensor, noise: Tensor) -> Tensor:
    """Bias and strength of the noise, ``added`` (2, channels), on x (n, channels, h, w); noise (1 or n, h, w).

    As a product of matrices: with few channels, adding a value a pixel or a value a channel is slow on a CPU.
    """
    n, c, h, w = x.shape
    values = torch.stack((torch.ones_like(noise), noise), 3).reshape(-1, h * w, 2).expand(n, -1, -1)
    pixels = torch.baddbmm(x.permute(0, 2, 3, 1).reshape(n, h * w, c), values, added.expand(n, 2, c))
    return pixels.view(n, h, w, c).permute(0, 3, 1, 2)


def _draw(folded: Weights, layer: Layer, x: Tensor, ws: Tensor, clamp: float | None) -> Tensor:
    """The output layer: a modulated 1×1 convolution, in float32 from its result on."""
    name = layer.name
    style = F.linear(ws[:, layer.row], folded[f"{name}.affine.weight"], folded[f"{name}.affine.bias"])
    kernel = (folded[f"{name}.weight"] * style[:, None]).to(x.dtype)
    n, c, h, w = x.shape
    pixels = torch.bmm(x.permute(0, 2, 3, 1).reshape(n, h * w, c), kernel.transpose(1, 2))
    image = (
        pixels.to(folded[f"{name}.bias"].dtype).transpose(1, 2).reshape(n, layer.outgoing, h, w)
        + folded[f"{name}.bias"]
    )
    return image if clamp is None else image.clamp(-clamp, clamp)
