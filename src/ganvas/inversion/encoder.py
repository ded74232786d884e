"""An encoder: a picture to a code in one pass, in the manner of e4e.

Tov, Alaluf, Nitzan, Patashnik and Cohen-Or, *Designing an Encoder for StyleGAN Image Manipulation*, SIGGRAPH 2021,
https://arxiv.org/abs/2102.02766: one w for the whole code, and small offsets of its rows beside it, so that codes stay
near W, where edits work. ``training.count_encoder`` trains it on real MultiMNIST pictures too; ``training.encoder`` on generated
faces, whose codes are known and have equal rows: it has no offsets. (``ffhq`` was distilled on such codes: see
``imported_codes``.)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganvas.data.codes import check_generator
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.images import downscale
from ganvas.scorers.networks.cnn import ResidualBlock
from ganvas.types import Images, WPlus

KIND, VERSION = "encoder", 1


@dataclass(frozen=True)
class EncoderSizes:
    """Of an encoder's network; the defaults are for faces."""

    side: int = 128
    """Of the pictures that the network sees, in pixels."""
    stride: int = 2
    """Of the first convolution, which sees 2×2 pixels as one."""
    stem: int = 64
    widths: tuple[int, ...] = (64, 96, 144, 208)
    """Channels of the stages, each at half the side of the one before."""
    depths: tuple[int, ...] = (1, 2, 2, 2)
    """Blocks of the stages."""
    necks: tuple[int, int] = (16, 96)
    """Channels that the code is read from: of the last stage but one, and of the last."""
    rank: int = 0
    """Numbers between the features and the offsets of the rows; 0: there are none, and all rows are w."""
    dropout: float = 0.1


FACE_SIZES = EncoderSizes()
SIDE = FACE_SIZES.side
DIGIT_SIZES = EncoderSizes(64, 2, 64, (64, 128, 192), (1, 1, 1), (32, 96), 128, 0.0)
"""For digits of 64×64. Codes are read from finer places, since they say where each of several digits lies."""
MOST, DEEPEST = 4096, 64
"""Sides and channels in a file are at most so many."""


class EncoderNetwork(nn.Module):
    """Pictures (n, 3, side, side) to a w (n, w_dim) and offsets of the rows (n, num_ws, w_dim).

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

    def features(self, images: Tensor) -> Tensor:
        """What codes are read from, (n, features)."""
        x, seen = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            seen.append(x)
        necks = [neck(x).flatten(1) for neck, x in zip(self.necks, seen[-2:], strict=True)]
        return self.dropout(torch.cat(necks, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(n, w_dim) and (n, num_ws, w_dim)."""
        return self.read(self.features(images).float())

    def read(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The same, of ``features``."""
        base = self.base(features)
        if self.offsets is None:
            return base, base.new_zeros(len(base), self.num_ws, self.w_dim)
        return base, self.offsets(features).unflatten(1, (self.num_ws, self.w_dim))


class Encoder(nn.Module):
    """Pictures of any side to codes of the generator with this fingerprint."""

    def __init__(self, network: EncoderNetwork, fingerprint: str, name: str) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore
        self.generator, self.generator_name = fingerprint, name

    @torch.no_grad()
    def forward(self, images: Images, space: str = "w+") -> WPlus:
        """Codes (n, num_ws, w_dim); in the space "w" without the offsets, so that rows are equal."""
        w, offsets = self.network(self.look(images))
        return w[:, None].expand_as(offsets) if space == "w" else w[:, None] + offsets

    def look(self, images: Images) -> Tensor:
        """Pictures as the network sees them, (n, 3, side, side)."""
        return downscale(images.float(), self.network.sizes.side).contiguous(memory_format=torch.channels_last)


def encoder_for(
    generator: Generator, network: EncoderNetwork | None = None, sizes: EncoderSizes = FACE_SIZES
) -> Encoder:
    """An encoder with the shapes of ``generators.base``: around ``network``, or a new one of those ``sizes``."""
    network = network or EncoderNetwork(generator.w_dim, generator.num_ws, sizes)
    return Encoder(network, generator.fingerprint, generator.name).to(generator.device)


def save_encoder(encoder: Encoder, path: str | Path, about: dict[str, Any] | None = None) -> None:
    """Write an encoder as one safetensors file in float16, with what is known of it (JSON); equal encoders give equal bytes."""
    state = {
        key: value.half() if value.ndim > 1 else value.float()
        for key, value in encoder.network.state_dict().items()
        if "num_batches" not in key
    }
    owner = {"name": encoder.generator_name, "fingerprint": encoder.generator}
    sizes = asdict(encoder.network.sizes)
    save_tensors(path, state, {"kind": KIND, "version": VERSION, "generator": owner, "sizes": sizes, **(about or {})})


def read_encoder(path: str | Path, generator: Generator) -> Encoder:
    """The encoder in a file. Raises GanvasError for another file, or another generator's (both are named)."""
    tensors, about = load_tensors(path)
    if about.get("kind") != KIND or about.get("version") != VERSION:
        raise GanvasError(f"{path} holds no encoder that this ganvas reads: `ganvas train-encoder` writes one.")
    owner = about.get("generator")
    owner = owner if isinstance(owner, dict) else {}
    check_generator(path, owner.get("name"), owner.get("fingerprint"), generator)
    sizes = _sizes_of(about, path)
    # Shapes first, which take no memory: what a file says of its sizes isn't trusted.
    with torch.device("meta"):
        network = EncoderNetwork(generator.w_dim, generator.num_ws, sizes)
    wanted = {key: value.shape for key, value in network.state_dict().items() if "num_batches" not in key}
    for key in sorted(wanted.keys() | tensors.keys()):
        if key not in wanted or key not in tensors or tensors[key].shape != wanted[key]:
            raise GanvasError(f"{path} isn't a whole encoder: {key!r} isn't what its sizes say.")
    encoder = encoder_for(generator, sizes=sizes)
    encoder.network.load_state_dict({key: value.float() for key, value in tensors.items()}, strict=False)
    return encoder


def _sizes_of(about: dict[str, Any], path: str | Path) -> EncoderSizes:
    """The sizes that a file tells of. Raises GanvasError where they're damaged."""
    told: Any = about.get("sizes")
    try:
        values: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in told.items()}
        sizes = EncoderSizes(**values)
        numbers = [sizes.side, sizes.stride, sizes.stem, *sizes.widths, *sizes.depths, *sizes.necks]
        fine = all(type(x) is int and 1 <= x <= MOST for x in numbers) and len(sizes.widths) == len(sizes.depths) <= 8
        fine = fine and sum(sizes.depths) <= DEEPEST and type(sizes.rank) is int and 0 <= sizes.rank <= MOST
        if fine and len(sizes.necks) == 2 <= len(sizes.widths) and 0 <= sizes.dropout < 1:
            return sizes
    except (AttributeError, TypeError):
        pass
    raise GanvasError(f"{path} isn't a whole encoder: it doesn't say how large it is.")


def shipped_encoder(generator: Generator) -> Path:
    """Where the encoder that ships for a generator lies, if there is one."""
    return Path(str(files("ganvas").joinpath("assets", "encoders", f"{generator.name}.safetensors")))
