"""StyleGAN3's layers as functions of folded weights: Fourier features, modulated convolutions, filtered leaky ReLUs.

Karras et al., *Alias-Free Generative Adversarial Networks*, 2021, https://arxiv.org/abs/2106.12423, section 3 and appendix D.

A filtered leaky ReLU doubles the rate (zeros between pixels, then a filter), applies the leaky ReLU, and halves the rate
(a filter, then every other pixel). Here no zero is stored and no pixel is computed that would be left out: the first filter is a
transposed convolution of stride 2, the second a convolution of stride 2. Each channel is filtered by itself, with the channels
last in memory, and one axis after the other where the filter is a product of two.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.generators.stylegan2.layers import ACTIVATION_GAIN, fold_mapping
from ganvas.generators.stylegan3.architecture import FilteredLayer, StyleGAN3Architecture

HALF_PRECISION_OCTAVES = 4
"""The doublings of resolution, up to the picture's, whose layers are computed in bfloat16 where that is asked for."""
MIN_SINGLE_RESOLUTION = 128
"""The resolution from which pictures are drawn one by one without gradients: the features between two filters are large."""
MAX_INNER_FEATURES, CHANNEL_GROUP = 2**22, 16
"""Numbers between two filters at a time without gradients, and the channels that vector instructions filter together."""
Weights = Mapping[str, Tensor]


def fold_weights(weights: Weights, shape: StyleGAN3Architecture, dtype: torch.dtype) -> dict[str, Tensor]:
    """Compute all that depends on the weights alone: normalised kernels, gains applied, one filter for each channel."""
    folded = fold_mapping(weights, shape) | _fold_affine(weights, "synthesis.input", shape.w_dim)
    for part in ("freqs", "phases"):
        folded[f"synthesis.input.{part}"] = weights[f"synthesis.input.{part}"]
    folded["synthesis.input.weight"] = weights["synthesis.input.weight"] / shape.input_channels**0.5
    for layer in shape.iterate_layers():
        name = layer.name
        coarse = layer.rate << HALF_PRECISION_OCTAVES <= shape.resolution
        own = torch.float32 if coarse and dtype == torch.bfloat16 else dtype
        kernel = weights[f"{name}.weight"]
        if layer.is_output:
            kernel = kernel / layer.incoming**0.5
        else:
            kernel = kernel * kernel.square().mean((1, 2, 3), keepdim=True).rsqrt()
            folded[f"{name}.power"] = kernel.square().sum((2, 3))
        kernel = kernel * weights[f"{name}.magnitude_ema"].rsqrt()
        folded[f"{name}.weight"] = kernel.to(own).contiguous(memory_format=torch.channels_last)
        # A leaky ReLU commutes with positive factors, so its gain is applied before it.
        folded[f"{name}.bias"] = (weights[f"{name}.bias"] * (1 if layer.is_output else ACTIVATION_GAIN)).to(own)
        folded |= _fold_affine(weights, name, shape.w_dim)
        if layer.up_taps > 1:
            # Zeros between the pixels of an axis divide the mean by ``up``.
            taps = weights[f"{name}.up_filter"] * layer.up
            folded[f"{name}.up_filter"] = _repeat(taps, layer.outgoing, own)
            if own == torch.bfloat16:
                phases = [_repeat(part, layer.outgoing, own) for part in _split_phases(taps, layer.up)]
                folded[f"{name}.up_filter"] = torch.stack(phases)
        if layer.down_taps > 1:
            taps = weights[f"{name}.down_filter"]
            folded[f"{name}.down_filter"] = _repeat(taps.flip(*range(taps.ndim)), layer.outgoing, own)
    return folded


def _fold_affine(weights: Weights, name: str, w_dim: int) -> dict[str, Tensor]:
    affine = f"{name}.affine"
    return {f"{affine}.weight": weights[f"{affine}.weight"] / w_dim**0.5, f"{affine}.bias": weights[f"{affine}.bias"]}


def _repeat(taps: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """Repeat a filter for each channel, (channels, 1, taps or 1, taps)."""
    return taps.to(dtype).expand(channels, 1, *(1,) * (2 - taps.ndim), *taps.shape).contiguous()


def _split_phases(taps: Tensor, up: int) -> Tensor:
    """Split a filter into those between the small picture and each phase of the large one, (up, taps of each)."""
    return F.pad(taps, (0, -len(taps) % up)).view(-1, up).flip(0).T


def synthesis(folded: Weights, shape: StyleGAN3Architecture, ws: Tensor, transform: Tensor) -> Tensor:
    """Draw pictures (n, colours, resolution, resolution) for codes (n, num_ws, w_dim), moved by ``transform`` (3, 3)."""
    single = shape.resolution >= MIN_SINGLE_RESOLUTION and ws.device.type == "cpu" and not ws.requires_grad
    if single and len(ws) > 1:
        return torch.cat([synthesis(folded, shape, one, transform) for one in ws.split(1)])
    x = draw_features(folded, shape, ws[:, 0], transform)
    for layer in shape.iterate_layers():
        x = _apply_layer(folded, layer, x.to(folded[f"{layer.name}.bias"].dtype), ws[:, layer.row], shape.clamp)
    return x.to(ws.dtype) * shape.output_scale


def draw_features(folded: Weights, shape: StyleGAN3Architecture, w: Tensor, transform: Tensor) -> Tensor:
    """Draw the Fourier features (n, channels, side, side) of a first row of codes (n, w_dim), channels last in memory.

    The code turns and moves them by its own transform, after ``transform``; frequencies above half the rate fade out.
    """
    code = F.linear(w, folded["synthesis.input.affine.weight"], folded["synthesis.input.affine.bias"])
    cosine, sine = (code[:, :2] / code[:, :2].norm(dim=1, keepdim=True)).unbind(1)
    shift = code[:, 2:] / code[:, :2].norm(dim=1, keepdim=True)
    turn = torch.stack((cosine, -sine, sine, cosine), 1).view(-1, 2, 2)
    moved = turn @ (transform[:2] - shift[:, :, None] * transform[2])
    frequencies = folded["synthesis.input.freqs"] @ moved  # waves along x and along y, and the phase: (n, channels, 3)
    phases = frequencies[..., 2] + folded["synthesis.input.phases"]
    lengths = frequencies[..., :2].norm(dim=2)
    amplitudes = (1 - (lengths - shape.bandwidth) / (shape.input_rate / 2 - shape.bandwidth)).clamp(0, 1)
    places = torch.arange(shape.input_side, dtype=w.dtype, device=w.device) + 0.5 - shape.input_side / 2
    places = places / shape.input_rate
    across = places[:, None] * frequencies[:, None, :, 0]
    down = places[:, None] * frequencies[:, None, :, 1] + phases[:, None]
    waves = torch.sin(2 * math.pi * (down[:, :, None] + across[:, None])) * amplitudes[:, None, None]
    return F.linear(waves, folded["synthesis.input.weight"]).permute(0, 3, 1, 2)


def _apply_layer(folded: Weights, layer: FilteredLayer, x: Tensor, w: Tensor, clamp: float | None) -> Tensor:
    name, with_gradients = layer.name, x.requires_grad or w.requires_grad
    style = F.linear(w, folded[f"{name}.affine.weight"], folded[f"{name}.affine.bias"])
    x = _convolve(folded, layer, x * _expand(style, x))
    bias = folded[f"{name}.bias"][:, None, None]
    if layer.is_output:
        x = x + bias
        return x if clamp is None else x.clamp(-clamp, clamp)
    # Demodulation scales what comes out, which equals scaling the kernel for each picture.
    scale = ACTIVATION_GAIN * torch.rsqrt(style.square() @ folded[f"{name}.power"].T + 1e-12)
    x = torch.addcmul(bias, x, _expand(scale, x))
    up, down = (folded.get(f"{name}.{part}_filter") for part in ("up", "down"))
    inner = x.shape[0] * layer.inner_side**2
    if with_gradients or inner * layer.outgoing <= MAX_INNER_FEATURES or x.device.type != "cpu":
        return _activate(x, layer, up, down, clamp)
    # Between the filters, features are four times as many or more: a part of the channels at a time keeps memory low.
    step = max(CHANNEL_GROUP, MAX_INNER_FEATURES // inner // CHANNEL_GROUP * CHANNEL_GROUP)
    result = x.new_empty(len(x), layer.side, layer.side, layer.outgoing).permute(0, 3, 1, 2)
    for start in range(0, layer.outgoing, step):
        part = slice(start, start + step)
        own_up, own_down = (None if taps is None else taps[..., part, :, :, :] for taps in (up, down))
        result[:, part] = _activate(x[:, part], layer, own_up, own_down, clamp)
    return result


def _activate(x: Tensor, layer: FilteredLayer, up: Tensor | None, down: Tensor | None, clamp: float | None) -> Tensor:
    """Apply a leaky ReLU between two filters; its gain has been applied before."""
    x = F.leaky_relu(_upsample(x, up, layer), 0.2, inplace=up is not None)
    if clamp is not None:
        x = x.clamp(-clamp, clamp) if x.requires_grad else x.clamp_(-clamp, clamp)
    return _downsample(x, down, layer)


def _expand(factors: Tensor, x: Tensor) -> Tensor:
    return factors.to(x.dtype)[:, :, None, None]


def _convolve(folded: Weights, layer: FilteredLayer, x: Tensor) -> Tensor:
    """Convolve to all that the kernel reaches, but for what the filters skip."""
    before, after = (layer.kernel - 1 - max(skipped, 0) for skipped in layer.skipped)
    if before == after >= 0:
        return F.conv2d(x, folded[f"{layer.name}.weight"], padding=before)
    return F.conv2d(_pad(x, before, after), folded[f"{layer.name}.weight"])


def _pad(x: Tensor, before: int, after: int) -> Tensor:
    """Add zeros around pictures, or crop them (numbers below 0), with the channels last in memory."""
    padded = F.pad(x, (before, after, before, after)) if before or after else x
    return padded.contiguous(memory_format=torch.channels_last)


def _upsample(x: Tensor, taps: Tensor | None, layer: FilteredLayer) -> Tensor:
    """Apply the first filter to zeros between the pixels."""
    before, after = (max(-skipped, 0) for skipped in layer.skipped)
    x = _pad(x, before, after)
    if taps is None:
        return x
    x = _upsample_axis(_upsample_axis(x, taps.transpose(-1, -2), 2, layer), taps, 3, layer)
    return x.contiguous(memory_format=torch.channels_last)


def _upsample_axis(x: Tensor, taps: Tensor, axis: int, layer: FilteredLayer) -> Tensor:
    """Apply the first filter along an axis: taps (channels, 1, …), or those of each phase of the large picture (up, channels, …).

    PyTorch has no fast transposed convolution in bfloat16: there, each phase is a convolution of the small picture.
    """
    up, crop, channels = layer.up, min(layer.crops), x.shape[1]
    if taps.ndim == 4:
        stride, padding = ((up, 1), (crop, 0)) if axis == 2 else ((1, up), (0, crop))
        x = F.conv_transpose2d(x, taps, stride=stride, padding=padding, groups=channels)
        return x.narrow(axis, layer.crops[0] - crop, layer.inner_side)
    crop -= crop % up
    edge = taps.shape[axis + 1] - 1 - crop // up
    padding = (edge, 0) if axis == 2 else (0, edge)
    phases = [F.conv2d(x, each, padding=padding, groups=channels).permute(0, 2, 3, 1) for each in taps]
    x = torch.stack(phases, axis).flatten(axis - 1, axis).permute(0, 3, 1, 2)
    return x.narrow(axis, layer.crops[0] - crop, layer.inner_side)


def _downsample(x: Tensor, taps: Tensor | None, layer: FilteredLayer) -> Tensor:
    """Apply the second filter where pixels remain."""
    if taps is None:
        return x[:, :, :: layer.down, :: layer.down]
    down, channels = layer.down, x.shape[1]
    if layer.radial:
        return F.conv2d(x, taps, stride=down, groups=channels)
    x = F.conv2d(x, taps.transpose(2, 3), stride=(down, 1), groups=channels)
    return F.conv2d(x, taps, stride=(1, down), groups=channels)
