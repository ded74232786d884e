"""The architecture of a StyleGAN2 generator: its layers, and the name and shape of every tensor.

Karras et al., *Analyzing and Improving the Image Quality of StyleGAN*, 2020, https://arxiv.org/abs/1912.04958. Names are
those of NVIDIA's stylegan2-ada-pytorch, https://github.com/NVlabs/stylegan2-ada-pytorch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from ganvas.errors import GanvasError, unknown
from ganvas.validation import Flag, PositiveReal, validated

RESOLUTIONS = tuple(2**i for i in range(3, 11))
MAX_WIDTH = 4096
"""The most channels, dimensions and labels that a generator may have."""
Size = Annotated[int, Field(strict=True, ge=1, le=MAX_WIDTH)]


@validated
class StyleGAN2Architecture:
    """The architecture of a StyleGAN2 generator. ``widths[i]``: channels at resolution 4·2ⁱ."""

    resolution: Size
    widths: tuple[Size, ...]
    z_dim: Size = 512
    w_dim: Size = 512
    num_labels: Annotated[int, Field(strict=True, ge=0, le=MAX_WIDTH)] = 0
    colours: Size = 3
    """1 for a grey generator."""
    mapping_layers: Size = 8
    learning_rate_multiplier: PositiveReal = 0.01
    """The factor on the mapping network's learning rate: its weights are stored divided by it."""
    architecture: Literal["skip", "resnet", "orig"] = "skip"
    clamp: PositiveReal | None = None
    """The largest activation, where the network was trained with one."""
    shuffled: Flag = False
    """Whether the last layers work at half of the picture's resolution and give four pixels for each of theirs (pixel shuffle,
    Shi et al., https://arxiv.org/abs/1609.05158), which is faster on a CPU. No published StyleGAN2 does so."""
    bounded: Flag = False
    """Whether the picture goes through tanh: for pictures that are mostly black or white, as a sum of filters doesn't
    reach the ends of the range exactly. No published StyleGAN2 does so."""
    embed_features: Size | None = None
    """The number of dimensions that labels are embedded in; None: as many as w has."""
    joint_labels: Flag = False
    """Whether z and the embedded labels are normalized together, as in NVIDIA's first code, not each by itself."""
    WRITTEN_IF_SET: ClassVar = ("embed_features", "joint_labels")

    def __post_init__(self) -> None:
        if self.resolution not in RESOLUTIONS:
            raise unknown("resolution", self.resolution, map(str, RESOLUTIONS))
        if self.colours not in (1, 3):
            raise GanvasError(f"A picture has 1 or 3 colours, not {self.colours}.")
        if len(self.widths) != len(self.blocks):
            raise GanvasError(
                f"A generator of {self.resolution}×{self.resolution} needs {len(self.blocks)} widths (for "
                f"{', '.join(map(str, self.blocks))}), not {len(self.widths)}."
            )
        if self.embed_features is not None and not self.num_labels:
            raise GanvasError(f"Labels can't be embedded as {self.embed_features} numbers: there are no labels.")

    @property
    def unusual_settings(self) -> list[str]:
        """The settings that weights don't show and that differ from the published networks', such as ["bounded=True"]."""
        names = ("learning_rate_multiplier", "clamp", "shuffled", "bounded", "joint_labels")
        return [
            f"{name}={getattr(self, name)}"
            for name in names
            if getattr(self, name) != getattr(StyleGAN2Architecture, name)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the values that a file stores; those of ``WRITTEN_IF_SET`` only where set: older files lack them."""
        return {key: value for key, value in asdict(self).items() if value or key not in self.WRITTEN_IF_SET}

    @property
    def blocks(self) -> tuple[int, ...]:
        """The resolutions of the blocks: 4, 8, … up to the picture's, or half of it where pixels are shuffled."""
        return tuple(2**i for i in range(2, self.resolution.bit_length() - self.shuffled))

    @property
    def row_resolutions(self) -> tuple[int, ...]:
        """The resolution that each row of W+ acts at: 4, then two rows for each block, then the output layer."""
        return (4, *(r for r in self.blocks[1:] for _ in range(2)), self.blocks[-1])

    def iterate_layers(self) -> Iterator[StyledLayer]:
        """Yield the modulated 3×3 convolutions, coarse to fine: one row of W+ each."""
        row = 0
        for i, r in enumerate(self.blocks):
            if r > 4:
                yield StyledLayer(f"synthesis.b{r}.conv0", row, self.widths[i - 1], self.widths[i], r, True)
                row += 1
            yield StyledLayer(f"synthesis.b{r}.conv1", row, self.widths[i], self.widths[i], r, False)
            row += 1

    def iterate_outputs(self) -> Iterator[StyledLayer]:
        """Yield the output layers (1×1, no demodulation): one for each block with skips, else the last.

        Each shares its row of W+ with the layer that follows.
        """
        for i, r in enumerate(self.blocks):
            if self.architecture == "skip" or r == self.blocks[-1]:
                channels = self.colours * (4 if self.shuffled else 1)
                yield StyledLayer(f"synthesis.b{r}.torgb", 2 * i + 1, self.widths[i], channels, r, False)

    def list_weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the name and shape of every tensor."""
        shapes: dict[str, tuple[int, ...]] = {"mapping.w_avg": (self.w_dim,)}
        wide = self.z_dim
        if self.num_labels:
            embedded = self.embed_features or self.w_dim
            shapes |= {"mapping.embed.weight": (embedded, self.num_labels), "mapping.embed.bias": (embedded,)}
            wide += embedded
        for i in range(self.mapping_layers):
            shapes[f"mapping.fc{i}.weight"] = (self.w_dim, self.w_dim if i else wide)
            shapes[f"mapping.fc{i}.bias"] = (self.w_dim,)
        shapes["synthesis.b4.const"] = (self.widths[0], 4, 4)
        for layer in self.iterate_layers():
            shapes[f"{layer.name}.weight"] = (layer.outgoing, layer.incoming, 3, 3)
            shapes |= layer.list_other_shapes(self.w_dim)
            shapes[f"{layer.name}.noise_const"] = (layer.resolution, layer.resolution)
            shapes[f"{layer.name}.noise_strength"] = ()
            if layer.up and self.architecture == "resnet":
                shapes[f"synthesis.b{layer.resolution}.skip.weight"] = (layer.outgoing, layer.incoming, 1, 1)
        for layer in self.iterate_outputs():
            shapes[f"{layer.name}.weight"] = (layer.outgoing, layer.incoming, 1, 1)
            shapes |= layer.list_other_shapes(self.w_dim)
        return shapes


@dataclass(frozen=True)
class StyledLayer:
    """A modulated convolution: the row of W+ that styles it, its channels and its resolution."""

    name: str
    row: int
    incoming: int
    outgoing: int
    resolution: int
    up: bool

    def list_other_shapes(self, w_dim: int) -> dict[str, tuple[int, ...]]:
        """Return the names and shapes of its tensors other than the kernel."""
        return {
            f"{self.name}.bias": (self.outgoing,),
            f"{self.name}.affine.weight": (self.incoming, w_dim),
            f"{self.name}.affine.bias": (self.incoming,),
        }
