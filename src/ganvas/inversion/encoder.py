"""An encoder from pictures to codes in one pass, in the manner of e4e.

Tov, Alaluf, Nitzan, Patashnik and Cohen-Or, *Designing an Encoder for StyleGAN Image Manipulation*, SIGGRAPH 2021,
https://arxiv.org/abs/2102.02766: one w for the whole code, and small offsets of its rows beside it, so that codes stay
near W, where edits work. ``training.count_encoder`` trains it on real MultiMNIST pictures, too; ``training.encoder`` on
generated faces, whose codes have equal rows, so it has no offsets there (``ffhq`` was distilled on such codes, see
``imported_codes``).
"""

from __future__ import annotations

from dataclasses import asdict
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from ganvas.data.codes import check_generator
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.images import downscale
from ganvas.scorers.networks.cnn import ResidualBlock
from ganvas.types import Images, WPlus
from ganvas.validation import parse, validated

KIND, VERSION = "encoder", 1


MAX_DEPTH = 64
"""The most blocks that a network may have."""
Size = Annotated[int, Field(strict=True, ge=1, le=4096)]


@validated
class EncoderSizes:
    """Sizes of an encoder's network; the defaults are for faces."""

    side: Size = 128
    """The side of the network's input pictures, in pixels."""
    stride: Size = 2
    """The stride of the first convolution, whose input has 2×2 pixels as channels of one."""
    stem: Size = 64
    widths: Annotated[tuple[Size, ...], Field(min_length=2, max_length=8)] = (64, 96, 144, 208)
    """Channels of the stages, each at half the side of the one before."""
    depths: tuple[Size, ...] = (1, 2, 2, 2)
    """Blocks of the stages."""
    necks: tuple[Size, Size] = (16, 96)
    """Channels that the code is read from: of the last stage but one, and of the last."""
    rank: Annotated[int, Field(strict=True, ge=0, le=4096)] = 0
    """The rank of the map from features to the offsets of the rows; 0: no offsets, all rows are w."""
    dropout: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.1

    def __post_init__(self) -> None:
        if len(self.widths) != len(self.depths) or sum(self.depths) > MAX_DEPTH:
            raise GanvasError(f"an encoder has as many depths as widths, and {MAX_DEPTH} blocks at most.")


FACE_SIZES = EncoderSizes()
SIDE = FACE_SIZES.side
DIGIT_SIZES = EncoderSizes(64, 2, 64, (64, 128, 192), (1, 1, 1), (32, 96), 128, 0.0)
"""For digits of 64×64 pixels. Codes are read from a finer grid, since they hold the place of each of several digits."""


class EncoderNetwork(nn.Module):
    """A network from pictures (n, 3, side, side) to a w (n, w_dim) and offsets of the rows (n, num_ws, w_dim).

    Offsets are 0 until they are trained.
    """

    def __init__(self, w_dim: int, num_ws: int, sizes: EncoderSizes = FACE_SIZES) -> None:
        super().__init__()
        self.w_dim, self.num_ws, self.sizes = w_dim, num_ws, sizes
        stem, widths = sizes.stem, sizes.widths
        # The picture's 2×2 blocks become channels: half the work of a convolution on every pixel.
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, stem, 5, sizes.stride, 2, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
        )
        self.stages = nn.ModuleList()
        for i, ((before, width), depth) in enumerate(zip(pairwise((stem, *widths)), sizes.depths, strict=True)):
            blocks = [
                ResidualBlock(before if j == 0 else width, width, 2 if i and j == 0 else 1, nn.ReLU)
                for j in range(depth)
            ]
            self.stages.append(nn.Sequential(*blocks))
        last = sizes.side // (2 * sizes.stride) >> (len(widths) - 1)
        self.necks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, neck, 1, bias=False), nn.BatchNorm2d(neck), nn.ReLU(inplace=True))
            for width, neck in zip(widths[-2:], sizes.necks, strict=True)
        )
        features = sizes.necks[0] * (2 * last) ** 2 + sizes.necks[1] * last**2
        self.dropout = nn.Dropout(sizes.dropout)
        self.base = nn.Linear(features, w_dim)
        self.offsets: nn.Sequential | None = None
        if sizes.rank:
            rows = nn.Linear(sizes.rank, num_ws * w_dim)
            nn.init.zeros_(rows.weight)
            nn.init.zeros_(rows.bias)
            self.offsets = nn.Sequential(nn.Linear(features, sizes.rank), nn.ReLU(), rows)

    def compute_features(self, images: Tensor) -> Tensor:
        """Compute the features that codes are read from, (n, features)."""
        x, outputs = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            outputs.append(x)
        necks = [neck(x).flatten(1) for neck, x in zip(self.necks, outputs[-2:], strict=True)]
        return self.dropout(torch.cat(necks, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predict w (n, w_dim) and offsets (n, num_ws, w_dim)."""
        return self.read(self.compute_features(images).float())

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Predict w and offsets from ``features``."""
        base = self.base(features)
        if self.offsets is None:
            return base, base.new_zeros(len(base), self.num_ws, self.w_dim)
        return base, self.offsets(features).unflatten(1, (self.num_ws, self.w_dim))


class Encoder(nn.Module):
    """An encoder of pictures of any side for the generator with this fingerprint."""

    def __init__(self, network: EncoderNetwork, fingerprint: str, name: str) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore
        self.generator, self.generator_name = fingerprint, name

    @torch.no_grad()
    def forward(self, images: Images, space: str = "w+") -> WPlus:
        """Predict codes (n, num_ws, w_dim); in the space "w" without the offsets, so that rows are equal."""
        w, offsets = self.network(self.prepare_images(images))
        return w[:, None].expand_as(offsets) if space == "w" else w[:, None] + offsets

    def prepare_images(self, images: Images) -> Tensor:
        """Resize pictures to the network's input, (n, 3, side, side)."""
        return downscale(images.float(), self.network.sizes.side).contiguous(memory_format=torch.channels_last)


def make_encoder(
    generator: Generator, network: EncoderNetwork | None = None, sizes: EncoderSizes = FACE_SIZES
) -> Encoder:
    """Make an encoder for ``generator`` with ``network``, or with a new network of these ``sizes``."""
    network = network or EncoderNetwork(generator.w_dim, generator.num_ws, sizes)
    return Encoder(network, generator.fingerprint, generator.name).to(generator.device)


def save_encoder(encoder: Encoder, path: str | Path, metadata: dict[str, Any] | None = None) -> None:
    """Write an encoder as one safetensors file in float16 with ``metadata`` (JSON); equal encoders give equal bytes."""
    state = {
        key: value.half() if value.ndim > 1 else value.float()
        for key, value in encoder.network.state_dict().items()
        if "num_batches" not in key
    }
    owner = {"name": encoder.generator_name, "fingerprint": encoder.generator}
    sizes = asdict(encoder.network.sizes)
    save_tensors(
        path, state, {"kind": KIND, "version": VERSION, "generator": owner, "sizes": sizes, **(metadata or {})}
    )


def read_encoder(path: str | Path, generator: Generator) -> Encoder:
    """Read the encoder in a file. Raises GanvasError for any other file, and for another generator's encoder (both are named)."""
    tensors, metadata = load_tensors(path)
    if metadata.get("kind") != KIND or metadata.get("version") != VERSION:
        raise GanvasError(
            f"{path} holds no encoder that this version of ganvas reads: `ganvas train-encoder` writes one."
        )
    owner = metadata.get("generator")
    owner = owner if isinstance(owner, dict) else {}
    check_generator(path, owner.get("name"), owner.get("fingerprint"), generator)
    sizes = parse(EncoderSizes, metadata.get("sizes"), f"{path} isn't a whole encoder", complete=True)
    # Shapes first, which take no memory: what a file says of its sizes isn't trusted.
    with torch.device("meta"):
        network = EncoderNetwork(generator.w_dim, generator.num_ws, sizes)
    expected = {key: value.shape for key, value in network.state_dict().items() if "num_batches" not in key}
    for key in sorted(expected.keys() | tensors.keys()):
        if key not in expected or key not in tensors or tensors[key].shape != expected[key]:
            raise GanvasError(f"{path} isn't a whole encoder: the shape of {key!r} doesn't match its sizes.")
    encoder = make_encoder(generator, sizes=sizes)
    encoder.network.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=False)
    return encoder


def find_shipped_encoder(generator: Generator) -> Path:
    """Return the path of the encoder that ships for a generator; it exists only where one does."""
    return Path(str(files("ganvas").joinpath("assets", "encoders", f"{generator.name}.safetensors")))
