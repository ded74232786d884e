"""The architecture of a StyleGAN3 generator: its layers, their sizes and crops, and the name and shape of every tensor.

Karras et al., *Alias-Free Generative Adversarial Networks*, 2021, https://arxiv.org/abs/2106.12423. Names are those of NVIDIA's
stylegan3 (training/networks_stylegan3.py), https://github.com/NVlabs/stylegan3: ``synthesis.input``, then the layers
``synthesis.L0_36_512``, ``synthesis.L1_36_512``, … by their number, side and channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from ganvas.errors import GanvasError
from ganvas.validation import Flag, NonNegative, Positive, validated

MAX_WIDTH, MAX_SIDE, MAX_LAYERS, MAX_FACTOR, MAX_TAPS = 4096, 4096, 64, 16, 256
"""The most channels (dimensions, labels), pixels of a side, layers, times that a filter resamples by, and taps of a filter."""
MAX_FEATURES = 2**30
"""The most numbers that a layer may have between its filters for one picture (StyleGAN3-R at 1024 pixels has 709 million)."""
MIN_SIDE = 8
Width = Annotated[int, Field(strict=True, ge=1, le=MAX_WIDTH)]
Side = Annotated[int, Field(strict=True, ge=1, le=MAX_SIDE)]
Factor = Annotated[int, Field(strict=True, ge=1, le=MAX_FACTOR)]
Taps = Annotated[int, Field(strict=True, ge=1, le=MAX_TAPS)]


@validated
class FilteredLayerArchitecture:
    """A layer as a file stores it: what comes out of it, and how its activation is filtered.

    ``up`` and ``down`` are the factors before and after the leaky ReLU; a filter of one tap is none.
    """

    channels: Width
    side: Side
    kernel: Annotated[int, Field(strict=True, ge=1, le=7)]
    up: Factor
    down: Factor
    up_taps: Taps
    down_taps: Taps
    radial: Flag = False
    """Whether the filter after the leaky ReLU is radially symmetric, and so no product of two of one axis (StyleGAN3-R)."""

    def __post_init__(self) -> None:
        for factor, taps in ((self.up, self.up_taps), (self.down, self.down_taps)):
            if taps < factor:
                raise GanvasError(f"A filter of {taps} taps can't resample by {factor}.")


@validated
class StyleGAN3Architecture:
    """The architecture of a StyleGAN3 generator; the last of ``layers`` makes the colours, without a filter."""

    resolution: Annotated[int, Field(strict=True, ge=MIN_SIDE, le=MAX_SIDE)]
    layers: Annotated[tuple[FilteredLayerArchitecture, ...], Field(min_length=1, max_length=MAX_LAYERS)]
    input_channels: Width
    input_side: Side
    """The side of the Fourier features in pixels, margins included."""
    input_rate: Side
    """Pixels of the Fourier features in the width of a picture."""
    bandwidth: NonNegative
    """The frequency in waves per width from which Fourier features fade, up to half of ``input_rate``."""
    z_dim: Width = 512
    w_dim: Width = 512
    num_labels: Annotated[int, Field(strict=True, ge=0, le=MAX_WIDTH)] = 0
    mapping_layers: Annotated[int, Field(strict=True, ge=1, le=100)] = 2
    learning_rate_multiplier: Positive = 0.01
    """The factor on the mapping network's learning rate: its weights are stored divided by it."""
    clamp: Positive | None = 256.0
    """The largest activation."""
    output_scale: Positive = 0.25
    """What the last layer's output is multiplied by."""

    def __post_init__(self) -> None:
        last = self.layers[-1]
        if last.channels not in (1, 3):
            raise GanvasError(f"A picture has 1 or 3 colours, not {last.channels}.")
        if last.side != self.resolution or (last.kernel, last.up_taps, last.down_taps) != (1, 1, 1):
            raise GanvasError(
                f"The last layer gives {last.side} pixels by a kernel of {last.kernel} and filters of {last.up_taps} and "
                f"{last.down_taps} taps: {self.resolution} pixels by a kernel of 1 without filters are expected."
            )
        for layer in self.iterate_layers():
            if layer.rate < 1 or layer.incoming_rate * layer.up % layer.down:
                raise GanvasError(f"{layer.name} resamples {layer.incoming_rate} pixels by {layer.up}/{layer.down}.")
            if layer.inner_side**2 * layer.outgoing > MAX_FEATURES:
                raise GanvasError(f"{layer.name} has {layer.inner_side}×{layer.inner_side} pixels inside: too many.")

    @property
    def joint_labels(self) -> bool:
        """Whether z and the labels are normalised together, as only StyleGAN2's first code does."""
        return False

    @property
    def is_radial(self) -> bool:
        """Whether it is a StyleGAN3-R, with radially symmetric filters."""
        return any(layer.radial for layer in self.layers)

    @property
    def row_resolutions(self) -> tuple[int, ...]:
        """The resolution that each row of W+ acts at: the Fourier features, then the layers."""
        rates = [self.input_rate, *(layer.rate for layer in self.iterate_layers())]
        return tuple(min(rate, self.resolution) for rate in rates)

    def iterate_layers(self) -> Iterator[FilteredLayer]:
        """Yield the layers in their order, with what follows from those before them."""
        channels, side, rate = self.input_channels, self.input_side, self.input_rate
        for i, own in enumerate(self.layers):
            name = f"synthesis.L{i}_{own.side}_{own.channels}"
            layer = FilteredLayer(
                name, i + 1, channels, side, rate, own.channels, own.side, own.kernel, own.up, own.down, own.up_taps,
                own.down_taps, own.radial, i + 1 == len(self.layers),
            )  # fmt: skip
            yield layer
            channels, side, rate = own.channels, own.side, layer.rate

    def list_weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor."""
        w, wide = self.w_dim, self.z_dim
        shapes: dict[str, tuple[int, ...]] = {"mapping.w_avg": (w,)}
        if self.num_labels:
            shapes |= {"mapping.embed.weight": (w, self.num_labels), "mapping.embed.bias": (w,)}
            wide += w
        for i in range(self.mapping_layers):
            shapes |= {f"mapping.fc{i}.weight": (w, w if i else wide), f"mapping.fc{i}.bias": (w,)}
        channels = self.input_channels
        sizes = {"weight": (channels, channels), "freqs": (channels, 2), "phases": (channels,), "transform": (3, 3)}
        sizes |= {"affine.weight": (4, w), "affine.bias": (4,)}
        shapes |= {f"synthesis.input.{part}": size for part, size in sizes.items()}
        for layer in self.iterate_layers():
            sizes = {"weight": (layer.outgoing, layer.incoming, layer.kernel, layer.kernel), "bias": (layer.outgoing,)}
            sizes |= {"magnitude_ema": (), "affine.weight": (layer.incoming, w), "affine.bias": (layer.incoming,)}
            if layer.up_taps > 1:
                sizes["up_filter"] = (layer.up_taps,)
            if layer.down_taps > 1:
                sizes["down_filter"] = (layer.down_taps,) * (2 if layer.radial else 1)
            shapes |= {f"{layer.name}.{part}": size for part, size in sizes.items()}
        return shapes


@dataclass(frozen=True)
class FilteredLayer:
    """A layer between two others: a modulated convolution, then (but for the last) a leaky ReLU between two filters.

    ``rate``: pixels in the width of a picture; ``side``: pixels with the margins around it.
    """

    name: str
    row: int
    incoming: int
    incoming_side: int
    incoming_rate: int
    outgoing: int
    side: int
    kernel: int
    up: int
    down: int
    up_taps: int
    down_taps: int
    radial: bool
    is_output: bool

    @property
    def rate(self) -> int:
        """The rate of the output."""
        return self.incoming_rate * self.up // self.down

    @property
    def inner_side(self) -> int:
        """The side of what goes through the leaky ReLU."""
        return (self.side - 1) * self.down + self.down_taps

    @property
    def padding(self) -> tuple[int, int]:
        """The zeros before and after an axis, counted between pixels that zeros stand between, as NVIDIA's files store them."""
        total = self.inner_side - (self.incoming_side + self.kernel - 1) * self.up + self.up_taps - 1
        before = (total + self.up) // 2
        return before, total - before

    @property
    def skipped(self) -> tuple[int, int]:
        """Pixels of the convolution before and after an axis that the filters don't reach; below 0: zeros to add."""
        before, after = self._get_margins()
        return self._count_skipped(before), self._count_skipped(after)

    @property
    def crops(self) -> tuple[int, int]:
        """What is left out before and after an axis once the first filter has gone over all that isn't skipped."""
        margins, skipped = self._get_margins(), self.skipped
        return margins[0] - skipped[0] * self.up, margins[1] - skipped[1] * self.up

    def _get_margins(self) -> tuple[int, int]:
        before, after = self.padding
        return self.up_taps - 1 - before, self.up_taps - self.up - after

    def _count_skipped(self, margin: int) -> int:
        """Count the pixels that the first filter spreads over the outer ``margin`` pixels alone."""
        return margin // self.up if margin < 0 else max(0, (margin - self.up_taps + self.up) // self.up)
