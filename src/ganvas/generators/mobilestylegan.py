"""MobileStyleGAN: StyleGAN2's mapping network, and a synthesis network small enough for a laptop.

Belousov, *MobileStyleGAN: A Lightweight Convolutional Neural Network for High-Fidelity Image Synthesis*, 2021,
https://arxiv.org/abs/2104.04767. Each block undoes a Haar wavelet transform to double the resolution, then runs two
depthwise-separable convolutions whose input is scaled by the style; demodulation is folded into the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, check_resolution, copy_contiguous, shrink
from ganvas.generators.early_head import EarlyHead, read_heads
from ganvas.generators.parts import PartReader, Parts, load_part_reader
from ganvas.io import hub
from ganvas.io.fingerprints import hash_weights
from ganvas.precision import leave_inference_mode
from ganvas.types import Images, Labels, W, WPlus, Z

STRIP_ROWS = 64
"""Rows computed at a time at high resolutions, so that one strip stays in the processor's cache."""
MIN_STRIP_RESOLUTION = 256
"""The resolution from which strips are faster; below it a whole layer fits in the cache."""


def load(card: hub.Card, device: torch.device, dtype: torch.dtype) -> MobileStyleGAN:
    """Load the network that ``card`` describes, on ``device``. Raises GanvasError where its weights can't be downloaded."""
    generator = MobileStyleGAN(hub.load_weights(card), card.name, dtype)
    assets = Path(__file__).parent.parent / "assets" / "generators"
    if (heads := assets / f"{card.name}-early.safetensors").is_file():
        generator.add_heads(read_heads(heads, generator.fingerprint))
    if (parts := assets / f"{card.name}-parts.safetensors").is_file():
        generator.part_reader = load_part_reader(parts, generator.fingerprint)
    return generator.to(device)


class MobileStyleGAN(Generator):
    """A frozen MobileStyleGAN; ``widths[i]`` channels leave the block at resolution 8·2ⁱ.

    The picture has twice the last block's resolution.

    W+ has one row for each modulated layer: the first convolution, then (up, first, second) a block, then the output layer.
    Weights keep the names of ``state``; the four subbands of a channel are stored band by band (LL, LH, HL, HH), not
    channel by channel, so that the inverse wavelet transform reads contiguous memory.
    """

    w_slope = 0.2

    def __init__(self, state: Mapping[str, Tensor], name: str, dtype: torch.dtype = torch.float32) -> None:
        """Raise GanvasError where ``state`` isn't the weights of such a network."""
        super().__init__()
        state = dict(state)
        self.name, self.dtype = name, dtype
        try:
            self.w_avg = nn.Buffer(state.pop("w_avg").float())
            self.widths = [state[f"blocks.{i}.1.pointwise"].shape[0] for i in range(max(1, _count(state, "blocks")))]
            self.z_dim = state["mapping.0.weight"].shape[1]
            self.w_dim = state["affine.0.weight"].shape[1]
            first = state["conv.weight"].shape[0], state["conv.weight"].shape[1]
        except KeyError as error:
            raise GanvasError(f"These are not MobileStyleGAN's weights: {error} is missing.") from None
        except IndexError:
            raise GanvasError(
                "These are not MobileStyleGAN's weights: there are no blocks, or a matrix has one axis only."
            ) from None
        self.depth = _count(state, "mapping")
        _check(state, _shapes(self.widths, first, self.z_dim, self.w_dim, self.depth), self.w_avg)
        blocks = [8 << i for i in range(len(self.widths))]
        self.row_resolutions = (4, *(r for r in blocks for _ in range(3)), blocks[-1])
        self.resolution = 2 * blocks[-1]
        self.fingerprint = hash_weights(state.items())
        self.weights = nn.ParameterDict(
            {k.replace(".", "/"): nn.Parameter(self._place(k, v)) for k, v in state.items()}
        )
        self.heads = nn.ModuleDict()
        self.part_reader: PartReader | None = None
        self.requires_grad_(False)

    def add_heads(self, heads: Mapping[int, EarlyHead]) -> None:
        """Add heads that draw early pictures, by their resolution; the fingerprint stays."""
        self.heads = nn.ModuleDict({str(size): head.convert(self.dtype) for size, head in heads.items()})

    def _place(self, key: str, value: Tensor) -> Tensor:
        # Styles and codes stay in float32: that is cheap, and rounding them would change small edits.
        if key.startswith(("mapping", "affine")):
            return value.float()
        value = value.to(self.dtype)
        return value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value

    def _weight(self, key: str) -> Tensor:
        return self.weights[key.replace(".", "/")]

    def mapping(self, z: Z, labels: Labels | None = None) -> W:
        """Scale z to unit mean square, then apply eight layers with leaky ReLU (StyleGAN2)."""
        if labels is not None:
            raise GanvasError(f"Generator {self.name!r} is unconditional: it takes no labels.")
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        for i in range(self.depth):
            x = F.linear(x, self._weight(f"mapping.{i}.weight"), self._weight(f"mapping.{i}.bias"))
            x = F.leaky_relu(x, 0.2) * 2**0.5
        return x

    def style_weights(self) -> list[Tensor]:
        """Return the affine layer of each row, (channels, w_dim)."""
        return [self._weight(f"affine.{i}.weight") for i in range(self.num_ws)]

    def synthesis(self, ws: WPlus, resolution: int | None = None) -> Images:
        """Draw pictures (n, 3, resolution, resolution), float32, one code at a time: the batch size changes no pixel.

        Smaller ones come from a head, where there is one for their resolution.
        """
        self._check_codes(ws)
        size = check_resolution(self, resolution)
        return torch.cat([self._draw(copy_contiguous(code), size)[0] for code in ws])

    @torch.no_grad()
    def read_parts(self, ws: WPlus) -> Parts | None:
        """Read the parts of faces off the features of a middle block, (n, parts, side, side)."""
        reader = self.part_reader
        if reader is None:
            return None
        blocks = (self.iterate_features(self.compute_styles(copy_contiguous(code))) for code in ws)
        return torch.cat([next(reader(x) for x, _ in block if x.shape[2] == reader.side) for block in blocks])

    def _check_codes(self, ws: Tensor) -> None:
        if ws.shape[1:] != (self.num_ws, self.w_dim):
            raise GanvasError(
                f"Codes for {self.name!r} have shape (n, {self.num_ws}, {self.w_dim}), not {tuple(ws.shape)}."
            )

    @leave_inference_mode()
    @torch.no_grad()
    def draw_with_parts(self, ws: WPlus, resolution: int | None = None) -> tuple[Images, Parts | None]:
        """Draw pictures and read their parts off the features that they are drawn from."""
        self._check_codes(ws)
        size, reader = check_resolution(self, resolution), self.part_reader
        if reader is None or size <= reader.side:  # drawn before these features are there
            return super().draw_with_parts(ws, resolution)
        drawn = [self._draw(copy_contiguous(code), size, reader) for code in ws.detach().to(self.input_dtype)]
        pictures = torch.cat([picture for picture, _ in drawn])
        return pictures, torch.cat([parts for _, parts in drawn if parts is not None])

    def _draw(self, code: Tensor, size: int, reader: PartReader | None = None) -> tuple[Tensor, Parts | None]:
        styles, parts = self.compute_styles(code), None
        for x, following in self.iterate_features(styles):
            if reader is not None and x.shape[2] == reader.side:
                parts = reader(x)
            if x.shape[2] == size // 2 and str(size) in self.heads:
                return invert_haar(self.heads[str(size)](x, torch.cat(following)[None])).float(), parts
        return shrink(x.float(), size), parts

    def compute_styles(self, code: Tensor) -> list[Tensor]:
        """Compute the style of each row of a code (num_ws, w_dim)."""
        return [
            F.linear(row, self._weight(f"affine.{i}.weight"), self._weight(f"affine.{i}.bias"))
            for i, row in enumerate(code)
        ]

    def iterate_features(self, styles: list[Tensor]) -> Iterator[tuple[Tensor, list[Tensor]]]:
        """Yield the features that leave each block, with the styles of all layers that still follow; the picture at last."""
        first = self._weight("const") * styles[0][:, None, None].to(self.dtype)
        x = F.conv2d(first, self._weight("conv.weight"), self._weight("conv.bias"), padding=1)
        x = F.leaky_relu_(x.add_(self._weight("conv.noise")), 0.2)
        for i in range(len(self.widths)):
            x = self._apply_block(x, i, styles[1 + 3 * i : 4 + 3 * i], styles[-1])
            yield x, styles[4 + 3 * i :]

    def _apply_block(self, x: Tensor, i: int, styles: list[Tensor], last: Tensor) -> Tensor:
        """Apply block ``i`` to the whole of ``x``, or strip by strip; the last block gives the picture."""
        resolution = 2 * x.shape[2]
        up = (styles[0] / 2).to(self.dtype)[:, None, None]
        # Modulating 9 weights a channel costs less than scaling the activations of that channel.
        depthwise = [
            (self._weight(f"blocks.{i}.{j}.depthwise") * styles[1 + j].to(self.dtype)[:, None, None, None])
            for j in (0, 1)
        ]
        output = None
        if i == len(self.widths) - 1:
            scaled = self._weight("to_img.weight") * (last / 2).to(self.dtype)[:, None, None]
            output = scaled.contiguous(memory_format=torch.channels_last), self._weight("to_img.bias") / 2
        # On a GPU and under autograd whole layers are faster; strips are for caches.
        strip = (
            STRIP_ROWS
            if x.device.type == "cpu" and resolution >= MIN_STRIP_RESOLUTION and not x.requires_grad
            else resolution
        )
        strips = []
        for top in range(0, resolution, strip):
            # Two 3×3 convolutions need two more rows above and below, where the picture has them.
            low, high = max(top - 2, 0), min(top + strip + 2, resolution)
            y = invert_haar(x[:, :, low // 2 : high // 2] * up)
            for j in (0, 1):
                y = F.conv2d(y, depthwise[j], padding=1, groups=y.shape[1])
                above, below = int(low > 0), int(high < resolution)
                low, high, y = low + above, high - below, y[:, :, above : y.shape[2] - below]
                y = F.conv2d(y, self._weight(f"blocks.{i}.{j}.pointwise"), self._weight(f"blocks.{i}.{j}.bias"))
                y = F.leaky_relu_(y.add_(self._weight(f"blocks.{i}.{j}.noise")[:, :, low:high]), 0.2)
            strips.append(invert_haar(F.conv2d(y, *output)) if output else y)
        return torch.cat(strips, 2) if len(strips) > 1 else strips[0]


def invert_haar(bands: Tensor) -> Tensor:
    """Apply the inverse Haar transform to twice the bands: (n, 4c, h, w), band by band, to (n, c, 2h, 2w)."""
    low, vertical, horizontal, diagonal = bands.chunk(4, 1)
    top, bottom = low + vertical, low - vertical
    left, right = horizontal + diagonal, horizontal - diagonal
    n, c, h, w = low.shape
    # Written in place: stacking would lose the channels-last order that makes the next convolutions fast.
    pixels = torch.empty(
        (n, c, 2 * h, 2 * w), dtype=bands.dtype, device=bands.device, memory_format=torch.channels_last
    )
    pixels[:, :, 0::2, 0::2] = top + left
    pixels[:, :, 0::2, 1::2] = top - left
    pixels[:, :, 1::2, 0::2] = bottom + right
    pixels[:, :, 1::2, 1::2] = bottom - right
    return pixels


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key.split(".")[1] for key in state if key.startswith(prefix + ".")})


def _shapes(
    widths: list[int], first: tuple[int, ...], z_dim: int, w_dim: int, depth: int
) -> dict[str, tuple[int, ...]]:
    """List the name and shape of every weight; ``first``: the channels that leave and enter the first convolution."""
    channels, entering = first
    shapes: dict[str, tuple[int, ...]] = {"const": (1, entering, 4, 4), "conv.weight": (channels, entering, 3, 3)}
    shapes |= {"conv.bias": (channels,), "conv.noise": (1, 1, 4, 4), "w_avg": (w_dim,)}
    for i in range(depth):
        shapes |= {f"mapping.{i}.weight": (w_dim, w_dim if i else z_dim), f"mapping.{i}.bias": (w_dim,)}
    styled = [entering]
    for i, width in enumerate(widths):
        styled += [channels, channels // 4, width]
        for j, inner in enumerate((channels // 4, width)):
            name, side = f"blocks.{i}.{j}", 8 << i
            shapes |= {f"{name}.depthwise": (inner, 1, 3, 3), f"{name}.pointwise": (width, inner, 1, 1)}
            shapes |= {f"{name}.bias": (width,), f"{name}.noise": (1, 1, side, side)}
        channels = width
    for i, width in enumerate([*styled, channels]):
        shapes |= {f"affine.{i}.weight": (width, w_dim), f"affine.{i}.bias": (width,)}
    return shapes | {"to_img.weight": (12, channels, 1, 1), "to_img.bias": (12,)}


def _check(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], w_avg: Tensor) -> None:
    """Raise GanvasError where names or shapes aren't the expected ones."""
    actual = {name: tuple(value.shape) for name, value in state.items()} | {"w_avg": tuple(w_avg.shape)}
    for name in (*expected, *actual):
        if actual.get(name) != expected.get(name):
            problem = "is missing" if name not in actual else f"has shape {actual[name]}, not {expected.get(name)}"
            problem = problem if name in expected else "isn't one of them"
            raise GanvasError(f"These are not MobileStyleGAN's weights: {name[:80]!r} {problem}.")
