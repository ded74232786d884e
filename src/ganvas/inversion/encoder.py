"""An encoder: a picture to a code in one pass, in the manner of e4e.

Tov, Alaluf, Nitzan, Patashnik and Cohen-Or, *Designing an Encoder for StyleGAN Image Manipulation*, SIGGRAPH 2021,
https://arxiv.org/abs/2102.02766: one w for the whole code, and small offsets for each resolution's rows beside it, so
that codes stay near W, where edits work. ``training.encoder`` trains it on generated faces, whose codes are known.
"""

from __future__ import annotations

from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from ganvas.codes import check_generator
from ganvas.errors import GanvasError
from ganvas.files import load_tensors, save_tensors
from ganvas.generator import Generator
from ganvas.pictures import shrink
from ganvas.scorers._cnn import Residual
from ganvas.types import Images, WPlus

KIND, VERSION = "encoder", 1
SIDE = 128
"""Of the pictures that the network sees, in pixels."""
STEM, WIDTHS, DEPTHS = 64, (64, 96, 144, 208), (1, 2, 2, 2)
"""Channels of the first convolution (a quarter of SIDE); channels and blocks of the four stages, each half as large."""
NECKS = (16, 96)
"""Channels that the code is read from: of the last stage but one, and of the last."""
RANK = 64
"""Numbers between the features and the offsets of the rows."""


class EncoderNetwork(nn.Module):
    """Pictures (n, 3, SIDE, SIDE) to a w (n, w_dim) and offsets (n, levels, w_dim), one a resolution of the generator.

    Offsets are 0 until they are trained.
    """

    def __init__(self, w_dim: int, levels: int) -> None:
        super().__init__()
        self.w_dim, self.levels = w_dim, levels
        # The picture's 2×2 blocks become channels: half the work of a convolution on every pixel.
        self.stem = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, STEM, 5, 2, 2, bias=False), nn.BatchNorm2d(STEM), nn.ReLU(inplace=True)
        )
        self.stages = nn.ModuleList()
        for i, ((before, width), depth) in enumerate(zip(pairwise((STEM, *WIDTHS)), DEPTHS, strict=True)):
            blocks = [
                Residual(before if j == 0 else width, width, 2 if i and j == 0 else 1, nn.ReLU) for j in range(depth)
            ]
            self.stages.append(nn.Sequential(*blocks))
        last = SIDE // 4 >> (len(WIDTHS) - 1)
        self.necks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, neck, 1, bias=False), nn.BatchNorm2d(neck), nn.ReLU(inplace=True))
            for width, neck in zip(WIDTHS[-2:], NECKS, strict=True)
        )
        features = NECKS[0] * (2 * last) ** 2 + NECKS[1] * last**2
        self.dropout = nn.Dropout(0.1)
        self.base = nn.Linear(features, w_dim)
        rows = nn.Linear(RANK, levels * w_dim)
        nn.init.zeros_(rows.weight)
        nn.init.zeros_(rows.bias)
        self.offsets = nn.Sequential(nn.Linear(features, RANK), nn.ReLU(), rows)

    def features(self, images: Tensor) -> Tensor:
        """What codes are read from, (n, features)."""
        x, seen = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            seen.append(x)
        necks = [neck(x).flatten(1) for neck, x in zip(self.necks, seen[-2:], strict=True)]
        return self.dropout(torch.cat(necks, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(n, w_dim) and (n, levels, w_dim)."""
        features = self.features(images).float()
        return self.base(features), self.offsets(features).unflatten(1, (self.levels, self.w_dim))


class Encoder(nn.Module):
    """Pictures of any side to codes of the generator with this fingerprint."""

    def __init__(self, network: EncoderNetwork, rows: tuple[int, ...], fingerprint: str, name: str) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore
        levels = sorted(set(rows))
        self.places = [levels.index(row) for row in rows]
        self.generator, self.generator_name = fingerprint, name

    @torch.no_grad()
    def forward(self, images: Images, space: str = "w+") -> WPlus:
        """Codes (n, num_ws, w_dim); in the space "w" without the offsets, so that rows are equal."""
        seen = shrink(images.float(), SIDE).contiguous(memory_format=torch.channels_last)
        w, offsets = self.network(seen)
        ws = w[:, None].expand(-1, len(self.places), -1)
        return ws if space == "w" else ws + offsets[:, self.places]


def encoder_for(generator: Generator, network: EncoderNetwork | None = None) -> Encoder:
    """An encoder with the shapes of ``generator``."""
    network = network or EncoderNetwork(generator.w_dim, len(set(generator.row_resolutions)))
    return Encoder(network, generator.row_resolutions, generator.fingerprint, generator.name).to(generator.device)


def save_encoder(encoder: Encoder, path: str | Path) -> None:
    """Write an encoder as one safetensors file in float16; equal encoders give equal bytes."""
    state = {
        key: value.half() if value.ndim > 1 else value.float()
        for key, value in encoder.network.state_dict().items()
        if "num_batches" not in key
    }
    owner = {"name": encoder.generator_name, "fingerprint": encoder.generator}
    save_tensors(path, state, {"kind": KIND, "version": VERSION, "generator": owner})


def read_encoder(path: str | Path, generator: Generator) -> Encoder:
    """The encoder in a file. Raises GanvasError for another file, or another generator's (both are named)."""
    tensors, about = load_tensors(path)
    if about.get("kind") != KIND or about.get("version") != VERSION:
        raise GanvasError(f"{path} holds no encoder that this ganvas reads: `ganvas train-encoder` writes one.")
    owner = about.get("generator")
    owner = owner if isinstance(owner, dict) else {}
    check_generator(path, owner.get("name"), owner.get("fingerprint"), generator)
    encoder = encoder_for(generator)
    try:
        found = encoder.network.load_state_dict({k: v.float() for k, v in tensors.items()}, strict=False)
    except RuntimeError as error:
        raise GanvasError(f"{path} isn't a whole encoder: {str(error).splitlines()[0]}") from None
    if missing := [key for key in found.missing_keys if "num_batches" not in key]:
        raise GanvasError(f"{path} isn't a whole encoder: it lacks {', '.join(missing[:3])}.")
    return encoder


def shipped_encoder(generator: Generator) -> Path:
    """Where the encoder that ships for a generator lies, if there is one."""
    return Path(str(files("ganvas").joinpath("assets", "encoders", f"{generator.name}.safetensors")))
