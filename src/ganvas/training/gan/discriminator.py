"""StyleGAN2's discriminator (residual, with the minibatch's deviation), as functions of weights.

Karras et al., https://arxiv.org/abs/1912.04958; names are those of NVIDIA's stylegan2-ada-pytorch. Of a conditional one
the last features are projected on an embedding of the label (Miyato and Koyama, https://arxiv.org/abs/1802.05637).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.generators.stylegan2.resampling import fold_down, split_phases

GROUP_SIZE = 4
"""Pictures a group of the minibatch's deviation."""
LEAKY_SLOPE, LEAKY_GAIN = 0.2, 2**0.5


@dataclass(frozen=True)
class DiscriminatorArchitecture:
    """A discriminator without its weights. ``widths[i]``: channels at resolution 4·2ⁱ."""

    resolution: int
    widths: tuple[int, ...]
    colours: int
    num_labels: int = 0
    shuffled: bool = False
    """Pack blocks of four pixels into channels, as a shuffled generator does: widths then begin at half of the resolution."""

    def list_weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor."""
        blocks, top = self._blocks(), self.widths[-1]
        shapes = {"fromrgb.weight": (top, self.colours * (4 if self.shuffled else 1), 1, 1), "fromrgb.bias": (top,)}
        for r, wide, narrow in blocks:
            shapes |= {f"b{r}.conv0.weight": (wide, wide, 3, 3), f"b{r}.conv0.bias": (wide,)}
            shapes |= {f"b{r}.conv1.weight": (narrow, wide, 3, 3), f"b{r}.conv1.bias": (narrow,)}
            shapes[f"b{r}.skip.weight"] = (narrow, wide, 1, 1)
        last = self.widths[0]
        shapes |= {"b4.conv.weight": (last, last + 1, 3, 3), "b4.conv.bias": (last,)}
        shapes |= {"b4.fc.weight": (last, last * 16), "b4.fc.bias": (last,)}
        out = last if self.num_labels else 1
        shapes |= {"b4.out.weight": (out, last), "b4.out.bias": (out,)}
        if self.num_labels:
            shapes["embed.weight"] = (out, self.num_labels)
        return shapes

    def initialize(self, random: torch.Generator) -> dict[str, Tensor]:
        """Draw weights before training: kernels are standard normal, biases 0."""
        return {
            name: torch.zeros(size) if name.endswith("bias") else torch.randn(size, generator=random)
            for name, size in self.list_weight_shapes().items()
        }

    def fold_weights(self, weights: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
        """Apply gains and fold filters into the kernels, in ``dtype`` but for the last layers; differentiable."""
        top = 0.5**0.5
        # A residual branch is scaled by √½, and a leaky ReLU followed by √2: kernels carry both.
        folded = _layer(weights, "fromrgb", LEAKY_GAIN, dtype)
        for r, _, _ in self._blocks():
            folded |= _layer(weights, f"b{r}.conv0", LEAKY_GAIN, dtype)
            folded |= _layer(weights, f"b{r}.conv1", LEAKY_GAIN * top, dtype, downsample=True)
            folded |= _layer(weights, f"b{r}.skip", top, dtype, downsample=True)
        folded |= _layer(weights, "b4.conv", LEAKY_GAIN, dtype) | _layer(weights, "b4.fc", LEAKY_GAIN, torch.float32)
        folded |= _layer(weights, "b4.out", 1.0, torch.float32)
        if self.num_labels:
            folded["embed.weight"] = weights["embed.weight"]
        return folded

    def compute_logits(self, folded: Mapping[str, Tensor], images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Compute logits (n,) of pictures (n, colours, resolution, resolution): above 0 for real ones."""
        dtype = folded["fromrgb.weight"].dtype
        x = F.pixel_unshuffle(images, 2) if self.shuffled else images
        x = x.to(dtype).contiguous(memory_format=torch.channels_last)
        x = F.leaky_relu_(F.conv2d(x, folded["fromrgb.weight"], folded["fromrgb.bias"]), LEAKY_SLOPE)
        for r, _, _ in self._blocks():
            skip = F.conv2d(split_phases(x), folded[f"b{r}.skip.weight"], padding=1)
            x = F.leaky_relu_(
                F.conv2d(x, folded[f"b{r}.conv0.weight"], folded[f"b{r}.conv0.bias"], padding=1), LEAKY_SLOPE
            )
            x = F.conv2d(split_phases(x), folded[f"b{r}.conv1.weight"], folded[f"b{r}.conv1.bias"], padding=1)
            x = F.leaky_relu_(x, LEAKY_SLOPE) + skip
        x = torch.cat((x, compute_minibatch_deviation(x)), 1).contiguous(memory_format=torch.channels_last)
        x = F.leaky_relu(F.conv2d(x, folded["b4.conv.weight"], folded["b4.conv.bias"], padding=1), LEAKY_SLOPE)
        x = F.leaky_relu(F.linear(x.float().flatten(1), folded["b4.fc.weight"], folded["b4.fc.bias"]), LEAKY_SLOPE)
        x = F.linear(x, folded["b4.out.weight"], folded["b4.out.bias"])
        if labels is None:
            return x[:, 0]
        embedded = F.linear(labels, folded["embed.weight"])
        embedded = embedded * torch.rsqrt(embedded.square().mean(1, keepdim=True) + 1e-8)
        return (x * embedded).sum(1) / x.shape[1] ** 0.5

    def _blocks(self) -> list[tuple[int, int, int]]:
        """Return (resolution, channels there, channels at half of it), fine to coarse, without the last block."""
        return [(4 << i, self.widths[i], self.widths[i - 1]) for i in range(len(self.widths) - 1, 0, -1)]


def compute_minibatch_deviation(x: Tensor) -> Tensor:
    """Compute how much the pictures of a group differ, as one more channel (n, 1, h, w): the mean over channels and pixels of
    the standard deviation over the group (Karras et al., https://arxiv.org/abs/1710.10196)."""
    n, _, h, w = x.shape
    group = max(g for g in range(1, min(GROUP_SIZE, n) + 1) if n % g == 0)
    y = x.float().reshape(group, n // group, -1)
    deviation = (y.var(0, correction=0) + 1e-8).sqrt().mean(1)
    return deviation.repeat(group)[:, None, None, None].expand(n, 1, h, w).to(x.dtype)


def _layer(
    weights: Mapping[str, Tensor], name: str, gain: float, dtype: torch.dtype, downsample: bool = False
) -> dict[str, Tensor]:
    weight = weights[f"{name}.weight"]
    weight = weight * (gain / weight[0].numel() ** 0.5)
    if downsample:
        weight = fold_down(weight)
    weight = weight.to(dtype)
    if weight.ndim == 4:
        weight = weight.contiguous(memory_format=torch.channels_last)
    folded = {f"{name}.weight": weight}
    if f"{name}.bias" in weights:
        folded[f"{name}.bias"] = (weights[f"{name}.bias"] * gain).to(dtype)
    return folded
