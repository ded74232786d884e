"""BigGAN-deep: residual blocks whose normalization is conditioned on z and on the class, with self-attention in between.

Brock et al., *Large Scale GAN Training for High Fidelity Natural Image Synthesis*, 2019, https://arxiv.org/abs/1809.11096,
appendix B; Zhang et al., *Self-Attention Generative Adversarial Networks*, 2019, https://arxiv.org/abs/1805.08318.

A code of W is z and the class's embedding in a row. W+ has a row for the first layer and one for each block, all of which the
original conditions on the same vector; Härkönen et al., *GANSpace*, 2020, https://arxiv.org/abs/2004.02546, edit them by row.
Truncation to ψ multiplies z by ψ, and leaves the class. Batch normalization's statistics, which BigGAN stores for several
truncations, are those of ``BigGan.truncation``: the original's pictures at a truncation come from this value for both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from itertools import pairwise
from math import modf
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, check_resolution, copy_contiguous, shrink, truncate
from ganvas.io.fingerprints import hash_weights
from ganvas.types import Images, Labels, W, WPlus, Z
from ganvas.validation import Flag, validated

KIND, FAMILY, VERSION = "generator", "biggan", 1
FIRST_SIDE = 4
"""The side of the first layer's features, in pixels."""
REDUCTION, ATTENTION_REDUCTION = 4, (8, 8, 2)
"""Channels of a block over those inside of it, and over attention's queries, keys and values."""
MAX_CHANNELS, MAX_BLOCKS, MAX_LABELS, MAX_DOUBLINGS = 16_384, 64, 100_000, 8
Channels = Annotated[int, Field(strict=True, ge=1, le=MAX_CHANNELS)]


@validated
class BigGanBlock:
    """The channels into and out of a residual block, which doubles the resolution or doesn't."""

    inputs: Annotated[int, Field(strict=True, ge=REDUCTION, le=MAX_CHANNELS)]
    outputs: Channels
    doubles: Flag

    @property
    def widths(self) -> tuple[int, ...]:
        """The channels that each of the four normalizations works on."""
        return (self.inputs, *[self.inputs // REDUCTION] * 3)


@validated
class BigGanArchitecture:
    """The sizes of a network, the block before which attention stands, and the truncation whose statistics are used.

    ``num_statistics`` are stored, for truncations from 0 to 1 in equal steps. ``label_names`` has a name for each label, or none.
    """

    z_dim: Channels
    embedding_dim: Channels
    num_labels: Annotated[int, Field(strict=True, ge=1, le=MAX_LABELS)]
    blocks: Annotated[tuple[BigGanBlock, ...], Field(min_length=1, max_length=MAX_BLOCKS)]
    attention: Annotated[int, Field(strict=True, ge=0, lt=MAX_BLOCKS)] | None
    num_statistics: Annotated[int, Field(strict=True, ge=2, le=10_000)]
    epsilon: Annotated[float, Field(strict=True, gt=0, lt=1)]
    truncation: Annotated[float, Field(strict=True, gt=0, le=1)] = 1.0
    label_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for before, after in pairwise(self.blocks):
            if before.outputs != after.inputs:
                raise GanvasError(f"A block of {after.inputs} channels follows one that gives {before.outputs}.")
        for block in self.blocks:
            if block.outputs not in (block.inputs, block.inputs // 2):
                raise GanvasError(
                    f"A block of {block.inputs} channels gives {block.outputs}: as many or half are possible."
                )
        if sum(block.doubles for block in self.blocks) > MAX_DOUBLINGS:
            raise GanvasError(f"More than {MAX_DOUBLINGS} blocks double the resolution.")
        if self.attention is not None and self.attention >= len(self.blocks):
            raise GanvasError(f"Attention stands before block {self.attention}, of {len(self.blocks)} blocks.")
        if self.label_names and len(self.label_names) != self.num_labels:
            raise GanvasError(f"There are {len(self.label_names)} names of labels for {self.num_labels} labels.")

    @property
    def w_dim(self) -> int:
        """The numbers of z and of a class's embedding."""
        return self.z_dim + self.embedding_dim

    @property
    def resolution(self) -> int:
        """The side of a picture in pixels."""
        return FIRST_SIDE << sum(block.doubles for block in self.blocks)

    def list_weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """List the weights by name, with their shapes.

        A block's ``affine.weight`` has the scales of its four normalizations, then their offsets.
        """
        first, last = FIRST_SIDE**2 * self.blocks[0].inputs, self.blocks[-1].outputs
        sizes: dict[str, tuple[int, ...]] = {"embedding": (self.num_labels, self.embedding_dim)}
        sizes |= {"first.weight": (first, self.w_dim), "first.bias": (first,)}
        for i, block in enumerate(self.blocks):
            norms = sum(block.widths)
            sizes |= {f"b{i}.{name}": (self.num_statistics, norms) for name in ("means", "variances")}
            sizes[f"b{i}.affine.weight"] = (2 * norms, self.w_dim)
            outputs = (*block.widths[1:], block.outputs)
            for k, (inputs, width, side) in enumerate(zip(block.widths, outputs, (1, 3, 3, 1), strict=True)):
                sizes |= {f"b{i}.conv{k}.weight": (width, inputs, side, side), f"b{i}.conv{k}.bias": (width,)}
            if i == self.attention:
                theta, phi, g = (max(1, block.inputs // factor) for factor in ATTENTION_REDUCTION)
                kernels = {"theta": (theta, block.inputs), "phi": (phi, block.inputs), "g": (g, block.inputs)}
                kernels["out"] = (block.inputs, g)
                sizes |= {f"attention.{name}.weight": (*size, 1, 1) for name, size in kernels.items()}
                sizes["attention.gamma"] = (1,)
        sizes |= {f"last.{name}": (self.num_statistics, last) for name in ("means", "variances")}
        sizes |= {f"last.{name}": (last,) for name in ("weight", "bias")}
        return sizes | {"output.weight": (3, last, 3, 3), "output.bias": (3,)}


class BigGan(Generator):
    """The frozen network of ``shape``; weights have their spectral norms divided out."""

    has_stylegan2_rows = False

    def __init__(
        self,
        state: Mapping[str, Tensor],
        shape: BigGanArchitecture,
        name: str = FAMILY,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Raise GanvasError where ``state`` lacks weights of ``shape``, or has them in other shapes."""
        super().__init__()
        self.name, self.dtype = name, dtype
        self.z_dim, self.w_dim, self.num_labels = shape.z_dim, shape.w_dim, shape.num_labels
        self.label_names, self.resolution = shape.label_names, shape.resolution
        sides = [FIRST_SIDE]
        for block in shape.blocks:
            sides.append(sides[-1] << block.doubles)
        self.row_resolutions = (FIRST_SIDE, *sides[1:])
        own = {}
        for key, size in shape.list_weight_shapes().items():
            if key not in state or tuple(state[key].shape) != size:
                actual = f"of shape {tuple(state[key].shape)}" if key in state else "missing"
                raise GanvasError(f"These are not BigGAN-deep's weights: {key} is {actual}, {size} is expected.")
            own[key] = state[key].float()
        self.weights = nn.ParameterDict({k.replace(".", "/"): nn.Parameter(self._place(k, v)) for k, v in own.items()})
        self.w_avg = nn.Buffer(torch.cat((torch.zeros(self.z_dim), own["embedding"].mean(0))))
        self.requires_grad_(False)
        self._weights_hash = hash_weights(own.items())
        self.set_truncation(shape.truncation, shape)

    @property
    def truncation(self) -> float:
        """The truncation whose statistics normalize, above 0 and up to 1."""
        return self.shape.truncation

    def set_truncation(self, truncation: float, shape: BigGanArchitecture | None = None) -> None:
        """Use the statistics of another truncation: the generator then draws other pictures, and has another fingerprint.

        Raises GanvasError for a value outside 0 … 1.
        """
        self.shape = replace(shape or self.shape, truncation=float(truncation))
        text = json.dumps(asdict(replace(self.shape, label_names=())), sort_keys=True)
        self.fingerprint = hash_weights([(f"{self._weights_hash} {text}", torch.zeros(0))])

    def mapping(self, z: Z, labels: Labels | None = None) -> W:
        """Join z and the embedding of the class, or a mixture of embeddings."""
        if labels is None or labels.shape != (z.shape[0], self.num_labels):
            actual = "none were given" if labels is None else f"not {tuple(labels.shape)}"
            raise GanvasError(
                f"Generator {self.name!r} is conditional: it needs labels of shape ({z.shape[0]}, {self.num_labels}): {actual}."
            )
        return torch.cat((z, labels.to(z) @ self._weight("embedding").to(z)), 1)

    def truncate(self, w: W, psi: float) -> W:
        """Multiply z by ψ; the class stays as it is."""
        z, embedding = w.split((self.z_dim, w.shape[-1] - self.z_dim), -1)
        return torch.cat((truncate(z, self.w_avg[: self.z_dim], psi), embedding), -1)

    def style_weights(self) -> list[Tensor]:
        """Return the matrices of the first layer, and of each block's normalizations."""
        return [self._weight("first.weight"), *(self._weight(f"b{i}.affine.weight") for i in range(self.num_ws - 1))]

    def synthesis(self, ws: WPlus, resolution: int | None = None) -> Images:
        """Draw pictures (n, 3, resolution, resolution), float32."""
        if ws.shape[1:] != (self.num_ws, self.w_dim):
            raise GanvasError(
                f"Codes for {self.name!r} have shape (n, {self.num_ws}, {self.w_dim}), not {tuple(ws.shape)}."
            )
        size = check_resolution(self, resolution)
        first, *rows = copy_contiguous(ws).unbind(1)
        x = F.linear(first, self._weight("first.weight"), self._weight("first.bias"))
        x = x.reshape(x.shape[0], FIRST_SIDE, FIRST_SIDE, self.shape.blocks[0].inputs).permute(0, 3, 1, 2)
        x = x.contiguous().to(self.dtype)
        for i, (block, row) in enumerate(zip(self.shape.blocks, rows, strict=True)):
            x = self._attend(x) if i == self.shape.attention else x
            x = self._run_block(x, row, i, block)
        mean, deviation = self._read_statistics("last")
        scale = self._weight("last.weight") / deviation
        x = _normalize(x, scale[None], (self._weight("last.bias") - mean * scale)[None])
        images = torch.tanh(self._convolve(x, "output").float())
        return shrink(images, size)

    def _run_block(self, x: Tensor, row: Tensor, i: int, block: BigGanBlock) -> Tensor:
        scales, offsets = F.linear(row, self._weight(f"b{i}.affine.weight")).chunk(2, 1)
        mean, deviation = self._read_statistics(f"b{i}")
        scales = (1 + scales) / deviation
        offsets = offsets - mean * scales
        inner = x
        for k, (scale, offset) in enumerate(
            zip(scales.split(block.widths, 1), offsets.split(block.widths, 1), strict=True)
        ):
            inner = _normalize(inner, scale, offset)
            inner = _double(inner) if block.doubles and k == 1 else inner
            inner = self._convolve(inner, f"b{i}.conv{k}")
        x = x[:, : block.outputs]
        return inner + (_double(x) if block.doubles else x)

    def _attend(self, x: Tensor) -> Tensor:
        theta = F.conv2d(x, self._weight("attention.theta.weight")).flatten(2)
        phi, g = (F.max_pool2d(F.conv2d(x, self._weight(f"attention.{n}.weight")), 2).flatten(2) for n in ("phi", "g"))
        shares = torch.softmax(theta.mT @ phi, -1)
        attended = (g @ shares.mT).reshape(x.shape[0], -1, *x.shape[2:])
        return x + self._weight("attention.gamma") * F.conv2d(attended, self._weight("attention.out.weight"))

    def _convolve(self, x: Tensor, name: str) -> Tensor:
        kernel = self._weight(f"{name}.weight")
        return F.conv2d(x, kernel, self._weight(f"{name}.bias"), padding=kernel.shape[-1] // 2)

    def _read_statistics(self, name: str) -> tuple[Tensor, Tensor]:
        """Return the means and the standard deviations at ``truncation``.

        Between two that are stored, huggingface's code takes the share that belongs to the upper one for the lower: so do we.
        """
        stored = self._weight(f"{name}.means"), self._weight(f"{name}.variances")
        step = 1.0 / (self.shape.num_statistics - 1)
        share, lower = modf(self.truncation / step)
        start = min(int(lower), self.shape.num_statistics - 1)
        after = min(start + 1, self.shape.num_statistics - 1)
        mean, variance = (each[start] * share + each[after] * (1 - share) if share else each[start] for each in stored)
        return mean, torch.sqrt(variance + self.shape.epsilon)

    def _place(self, key: str, value: Tensor) -> Tensor:
        # Styles and codes stay in float32: that is cheap, and rounding them would change small edits.
        rounded = ".conv" in key or key.startswith(("attention", "output"))
        return value.to(self.dtype) if rounded else value

    def _weight(self, key: str) -> Tensor:
        return self.weights[key.replace(".", "/")]


def _normalize(x: Tensor, scale: Tensor, offset: Tensor) -> Tensor:
    """Scale and shift the channels of features, then apply ReLU."""
    return torch.relu(x * scale[..., None, None].to(x) + offset[..., None, None].to(x))


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
