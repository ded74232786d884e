"""StyleGAN2's layers as functions of weights, for training (weights with gradients) and for use (weights folded once).

Karras et al., *Analyzing and Improving the Image Quality of StyleGAN*, 2020, https://arxiv.org/abs/1912.04958. Names and
meaning of the weights are those of NVIDIA's stylegan2-ada-pytorch, https://github.com/NVlabs/stylegan2-ada-pytorch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.generators.stylegan2 import winograd
from ganvas.generators.stylegan2.architecture import StyledLayer, StyleGAN2Architecture
from ganvas.generators.stylegan2.resampling import blur, fold_up, join_phases, upsample

ACTIVATION_GAIN = 2**0.5
"""The factor after every leaky ReLU, so that it keeps the variance."""
MIN_SINGLE_RESOLUTION = 128
"""The resolution from which pictures are drawn one by one without gradients: there, kernels are smaller than pictures."""
MAX_FLOAT32_RESOLUTION = 16
"""Layers up to this resolution are computed in float32 even for bfloat16, except in training."""
Weights = Mapping[str, Tensor]


@runtime_checkable
class MappingArchitecture(Protocol):
    """What the mapping network needs to know of a generator, which StyleGAN3 has as well."""

    @property
    def num_labels(self) -> int: ...
    @property
    def mapping_layers(self) -> int: ...
    @property
    def learning_rate_multiplier(self) -> float: ...
    @property
    def joint_labels(self) -> bool: ...


def initialize_weights(shape: StyleGAN2Architecture, random: torch.Generator) -> dict[str, Tensor]:
    """Draw weights before training: standard normal, as gains are applied to them in use (equalised learning rates)."""
    weights = {}
    for name, size in shape.list_weight_shapes().items():
        if name.endswith("affine.bias"):
            weights[name] = torch.ones(size)
        elif name.endswith(("bias", "noise_strength", "w_avg")):
            weights[name] = torch.zeros(size)
        else:
            weights[name] = torch.randn(size, generator=random)
            if name.startswith("mapping.fc"):
                weights[name] /= shape.learning_rate_multiplier
    return weights


def fold_weights(weights: Weights, shape: StyleGAN2Architecture, dtype: torch.dtype) -> dict[str, Tensor]:
    """Compute all that depends on the weights alone: gains applied, filters folded in, activations' weights in ``dtype``.

    Differentiable, so that training and use run the same code. Codes, styles and demodulation stay in float32.
    """
    folded = fold_mapping(weights, shape)
    const = weights["synthesis.b4.const"][None]
    folded["synthesis.b4.const"] = _place(const, const.dtype)
    for layer in shape.iterate_layers():
        folded |= _fold_convolution(weights, shape, layer, dtype)
    for layer in shape.iterate_outputs():
        folded |= _affine(weights, layer, shape.w_dim)
        folded[f"{layer.name}.weight"] = (weights[f"{layer.name}.weight"] / layer.incoming**0.5).flatten(1)
        folded[f"{layer.name}.bias"] = weights[f"{layer.name}.bias"][:, None, None]
    return folded


def _fold_convolution(
    weights: Weights, shape: StyleGAN2Architecture, layer: StyledLayer, dtype: torch.dtype
) -> dict[str, Tensor]:
    name, learned = layer.name, weights[f"{layer.name}.weight"].requires_grad
    if layer.resolution <= MAX_FLOAT32_RESOLUTION and dtype == torch.bfloat16 and not learned:
        # Rounding errors of the first layers spread to all that follow, and float32 costs little there.
        dtype = torch.float32
    kernel = weights[f"{name}.weight"] / (9 * layer.incoming) ** 0.5
    folded = _affine(weights, layer, shape.w_dim) | {f"{name}.power": kernel.square().sum((2, 3))}
    if layer.up and dtype == torch.float32 and not learned:
        # Four times the products cost more than a separate filter, except in bfloat16, where products are cheap.
        folded[f"{name}.doubling"] = _place(kernel.transpose(0, 1), dtype)
    else:
        # A kernel is rounded after the styles are multiplied into it.
        kept = torch.promote_types(dtype, torch.float32) if _is_large(layer) and not learned else dtype
        folded[f"{name}.weight"] = _place(fold_up(kernel) if layer.up else kernel, kept)
    sizes = (layer.incoming, layer.outgoing, layer.resolution)
    if not layer.up and dtype == torch.float32 and not learned and winograd.is_faster(*sizes):
        folded[f"{name}.winograd"] = winograd.fold_kernel(kernel)
    strength = weights[f"{name}.noise_strength"].expand(layer.outgoing)
    folded[f"{name}.added"] = (ACTIVATION_GAIN * torch.stack((weights[f"{name}.bias"], strength))).to(dtype)
    folded[f"{name}.noise"] = weights[f"{name}.noise_const"][None].to(dtype)
    if layer.up and shape.architecture == "resnet":
        skip = f"synthesis.b{layer.resolution}.skip.weight"
        folded[skip] = _place(fold_up(weights[skip] * (0.5 / layer.incoming) ** 0.5), dtype)
    return folded


def fold_mapping(weights: Weights, shape: MappingArchitecture) -> dict[str, Tensor]:
    """Apply the gains of the mapping network to its weights."""
    folded = {}
    for i in range(shape.mapping_layers):
        weight = weights[f"mapping.fc{i}.weight"]
        folded[f"mapping.fc{i}.weight"] = weight * (
            ACTIVATION_GAIN * shape.learning_rate_multiplier / weight.shape[1] ** 0.5
        )
        folded[f"mapping.fc{i}.bias"] = weights[f"mapping.fc{i}.bias"] * (
            ACTIVATION_GAIN * shape.learning_rate_multiplier
        )
    if shape.num_labels:
        folded["mapping.embed.weight"] = weights["mapping.embed.weight"] / shape.num_labels**0.5
        folded["mapping.embed.bias"] = weights["mapping.embed.bias"]
    return folded


def _affine(weights: Weights, layer: StyledLayer, w_dim: int) -> dict[str, Tensor]:
    name = f"{layer.name}.affine"
    return {f"{name}.weight": weights[f"{name}.weight"] / w_dim**0.5, f"{name}.bias": weights[f"{name}.bias"]}


def _place(kernel: Tensor, dtype: torch.dtype) -> Tensor:
    return kernel.to(dtype).contiguous(memory_format=torch.channels_last)


def mapping(folded: Weights, shape: MappingArchitecture, z: Tensor, labels: Tensor | None) -> Tensor:
    """Map z (n, z_dim), and labels (n, num_labels) of a conditional network, to w (n, w_dim)."""
    x = z if shape.joint_labels else _normalise(z)
    if labels is not None:
        embedded = F.linear(labels, folded["mapping.embed.weight"], folded["mapping.embed.bias"])
        x = _normalise(torch.cat((x, embedded), 1)) if shape.joint_labels else torch.cat((x, _normalise(embedded)), 1)
    for i in range(shape.mapping_layers):
        # The gain after the leaky ReLU is in the weights, since a leaky ReLU commutes with positive factors.
        x = F.leaky_relu(F.linear(x, folded[f"mapping.fc{i}.weight"], folded[f"mapping.fc{i}.bias"]), 0.2)
    return x


def _normalise(x: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)


def synthesis(
    folded: Weights,
    shape: StyleGAN2Architecture,
    ws: Tensor,
    random: torch.Generator | None = None,
    resolution: int | None = None,
) -> Tensor:
    """Draw pictures (n, colours, resolution, resolution), float32, for codes (n, num_ws, w_dim).

    A smaller ``resolution`` stops after its output layer, where an unbounded network has one; else pictures have their full size.
    Noise is constant, or drawn anew for each picture where ``random`` is given (as in training). On a CPU, large layers run one
    picture at a time: there, multiplying the styles into the kernels is cheaper than into the features.
    """
    constant = folded["synthesis.b4.const"].expand(ws.shape[0], -1, -1, -1)
    end = (resolution or shape.resolution) >> shape.shuffled
    # Before tanh, sums of early layers may be far from the picture.
    if shape.bounded or end not in {layer.resolution for layer in shape.iterate_outputs()}:
        end = shape.blocks[-1]
    convolutions = [layer for layer in shape.iterate_layers() if layer.resolution <= end]
    images = _continue_from(folded, shape, convolutions, constant, None, ws, random)
    if shape.shuffled:
        images = F.pixel_shuffle(images, 2)
    return images.tanh() if shape.bounded else images


def _continue_from(
    folded: Weights,
    shape: StyleGAN2Architecture,
    convolutions: Sequence[StyledLayer],
    x: Tensor,
    image: Tensor | None,
    ws: Tensor,
    random: torch.Generator | None,
) -> Tensor:
    """Draw pictures from the features ``x`` and the smaller pictures of the blocks before, where there are any."""
    outputs, skip = {layer.resolution: layer for layer in shape.iterate_outputs()}, None
    together = random is not None or ws.requires_grad or x.requires_grad or x.device.type != "cpu" or len(ws) <= 1
    for i, layer in enumerate(convolutions):
        if layer.resolution >= MIN_SINGLE_RESOLUTION and not together:
            images = [None] * len(ws) if image is None else image.split(1)
            each = zip(x.split(1), images, ws.split(1), strict=True)
            return torch.cat([_continue_from(folded, shape, convolutions[i:], *one, random) for one in each])
        if layer.up and shape.architecture == "resnet":
            kernel = folded[f"synthesis.b{layer.resolution}.skip.weight"]
            skip = join_phases(F.conv2d(x.to(kernel.dtype), kernel, padding=1))
        last = not layer.up
        half = last and skip is not None
        noise = _get_noise(folded, layer, ws, random)
        x = _convolve(folded, layer, x.to(noise.dtype), ws[:, layer.row], _clamp(shape, half), half, noise)
        if last and skip is not None:
            x, skip = x + skip, None
        if last and layer.resolution in outputs:
            colours = _convert_to_colours(folded, outputs[layer.resolution], x, ws, shape.clamp)
            image = colours if image is None else upsample(image) + colours
    return x if image is None else image


def _clamp(shape: StyleGAN2Architecture, half: bool) -> float | None:
    """Return the clamp of a layer; a residual block scales its branches by √½, and their clamps with them."""
    return None if shape.clamp is None else shape.clamp * (0.5**0.5 if half else 1.0)


def _get_noise(folded: Weights, layer: StyledLayer, ws: Tensor, random: torch.Generator | None) -> Tensor:
    """Return noise (1 or n, height, width)."""
    noise = folded[f"{layer.name}.noise"]
    if random is None:
        return noise
    drawn = torch.randn(len(ws), *noise.shape[1:], generator=random, device=ws.device)
    return drawn.to(noise.dtype)


def _convolve(
    folded: Weights, layer: StyledLayer, x: Tensor, w: Tensor, clamp: float | None, half: bool, noise: Tensor
) -> Tensor:
    """Apply a modulated, demodulated convolution with noise, bias and leaky ReLU (equations 1 and 3 of the paper).

    The style scales what goes into the convolution and the demodulation what comes out of it, which equals scaling the
    kernel for each picture and needs no grouped convolution.
    """
    name, gain = layer.name, 0.5**0.5 if half else 1.0
    style = F.linear(w, folded[f"{name}.affine.weight"], folded[f"{name}.affine.bias"])
    scale = ACTIVATION_GAIN * gain * torch.rsqrt(style.square() @ folded[f"{name}.power"].T + 1e-8)
    added, with_gradients = folded[f"{name}.added"] * gain, x.requires_grad or style.requires_grad
    if with_gradients:
        x = _add(_scale(_filter(folded, layer, _scale(x, style)), scale), added, noise)
    else:
        x = _convolve_fast(folded, layer, x, style, scale, added[0]).addcmul_(noise[:, None], added[1][:, None, None])
    x = F.leaky_relu_(x, 0.2)
    if clamp is None:
        return x
    return x.clamp(-clamp, clamp) if with_gradients else x.clamp_(-clamp, clamp)


def _filter(folded: Weights, layer: StyledLayer, x: Tensor) -> Tensor:
    """Apply the convolution alone, with the doubling before and the filter after it where the layer has them."""
    if f"{layer.name}.doubling" in folded:
        return blur(F.conv_transpose2d(x, folded[f"{layer.name}.doubling"], stride=2))
    x = F.conv2d(x, folded[f"{layer.name}.weight"].to(x.dtype), padding=1)
    return join_phases(x) if layer.up else x


def _convolve_fast(
    folded: Weights, layer: StyledLayer, x: Tensor, style: Tensor, scale: Tensor, bias: Tensor
) -> Tensor:
    """Apply the convolution with style, demodulation and bias in the fastest way without gradients.

    ``x`` may be overwritten, since new memory costs more than the computation, except in the first layer, where it is a weight.
    """
    if f"{layer.name}.winograd" in folded and x.device.type == "cpu" and x.dtype == torch.float32:
        return winograd.convolve(x, folded[f"{layer.name}.winograd"], style, scale, bias)
    if len(x) == 1 and _is_large(layer):
        return _convolve_one(folded, layer, x, style[0], scale[0], bias)
    style, scale = (factors.to(x.dtype)[:, :, None, None] for factors in (style, scale))
    x = _filter(folded, layer, x * style if layer.row == 0 else x.mul_(style))
    return torch.addcmul(bias[:, None, None], x, scale, out=x)


def _is_large(layer: StyledLayer) -> bool:
    """Return whether a layer's output for one picture has far more numbers than its kernel."""
    return layer.resolution >= MIN_SINGLE_RESOLUTION and 36 * layer.outgoing <= layer.resolution**2


def _convolve_one(folded: Weights, layer: StyledLayer, x: Tensor, style: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Apply the convolution and bias to a single picture: style and demodulation are multiplied into the kernel."""
    doubling = folded.get(f"{layer.name}.doubling")
    if doubling is not None:
        kernel = doubling * style[:, None, None, None] * scale[None, :, None, None]
        return blur(F.conv_transpose2d(x, kernel, stride=2), bias)
    kernel = folded[f"{layer.name}.weight"]
    phases = 4 if layer.up else 1
    kernel = kernel * style[None, :, None, None] * scale.repeat(phases)[:, None, None, None]
    x = F.conv2d(x, kernel.to(x.dtype), bias.repeat(phases), padding=1)
    return join_phases(x) if layer.up else x


def _scale(x: Tensor, factors: Tensor) -> Tensor:
    """Multiply x (n, channels, h, w) by a factor for each channel, (n, channels)."""
    return x * factors.to(x.dtype)[:, :, None, None]


def _add(x: Tensor, added: Tensor, noise: Tensor) -> Tensor:
    """Add bias and scaled noise to x (n, channels, h, w): ``added`` (2, channels) are bias and strength, noise is (1 or n, h, w).

    By a product of matrices: with few channels, broadcasting over pixels or channels is slow on a CPU.
    """
    n, c, h, w = x.shape
    values = torch.stack((torch.ones_like(noise), noise), 3).reshape(-1, h * w, 2).expand(n, -1, -1)
    pixels = torch.baddbmm(x.permute(0, 2, 3, 1).reshape(n, h * w, c), values, added.expand(n, 2, c))
    return pixels.view(n, h, w, c).permute(0, 3, 1, 2)


def _convert_to_colours(folded: Weights, layer: StyledLayer, x: Tensor, ws: Tensor, clamp: float | None) -> Tensor:
    """Apply an output layer: a modulated 1×1 convolution, with a float32 result."""
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
