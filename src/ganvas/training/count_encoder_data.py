"""What an encoder of pictures with objects learns from (``count_encoder``): options, real pictures, drawn ones."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ganvas.data.multimnist_files import MultiMnist
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.inversion.encoder import DIGIT_SIZES, EncoderNetwork, EncoderSizes
from ganvas.inversion.object_loss import FeatureExtractor
from ganvas.io.images import downscale, from_bytes, to_bytes
from ganvas.training.latent_discriminator import LatentDiscriminator
from ganvas.types import DTYPES

SPACES = ("w", "w+")
LABELLED_SHARE = 4096
"""Codes whose mean and standard deviation are W's."""
SLOPES, BLOCK = 1024, 4
"""How many slopes tell what is seen of a code, and the side of the blocks of pixels that they are taken of."""


@dataclass(frozen=True)
class CountEncoderConfig:
    """How to train; the weights are of shares of the variance that is missed, of pixels, features and drawn codes.

    ``first``: steps on ``drawn`` pictures each; then ``steps`` on ``batch`` real ones and half as many drawn ones.
    The defaults take four minutes on one core at 64×64.
    ``judged``, ``offset`` and ``keep_count`` weigh the latent discriminator, the squared offsets (in variances of W) and
    the count. The first offset is freed after the first of the shares ``freed`` of the steps, the last after the second.
    ``dtype``: of convolutions.
    """

    space: str = "w+"
    first: int = 450
    steps: int = 250
    drawn: int = 64
    batch: int = 32
    rate: float = 2e-3
    pixels: float = 1.0
    features: float = 1.0
    code: float = 2.0
    judged: float = 0.05
    offset: float = 1.0
    keep_count: float = 0.0
    freed: tuple[float, float] = (0.1, 0.6)
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("space", SPACES), ("dtype", DTYPES)):
            if getattr(self, name) not in known:
                raise unknown(name, getattr(self, name), known)
        for name in ("steps", "drawn", "batch"):
            if getattr(self, name) < 1:
                raise GanvasError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("first", "rate", "pixels", "features", "code", "judged", "offset", "keep_count"):
            if not 0 <= getattr(self, name) < math.inf:
                raise GanvasError(f"{name} must be a number from 0 on, not {getattr(self, name)}.")
        if not 0 <= self.freed[0] <= self.freed[1] <= 1:
            raise GanvasError(f"Offsets are freed between two shares of the steps, not {self.freed}.")

    def open(self, step: int, num_ws: int) -> Tensor:
        """Which offsets are free at a step: 1 or 0 for each row's, (num_ws, 1)."""
        if self.space == "w":
            return torch.zeros(num_ws, 1)
        start, end = (share * self.steps for share in self.freed)
        times = torch.linspace(start, end, num_ws)
        return (times <= step).float()[:, None]


@dataclass(frozen=True)
class CountImages:
    """Real ``pixels`` (n, side, side, 3), uint8, at the generator's size, and how many objects they have, (n,)."""

    pixels: Tensor
    counts: Tensor

    def images(self, rows: Tensor | slice) -> Tensor:
        """Pictures (n, 3, side, side) in [-1, 1]."""
        return from_bytes(self.pixels[rows])


@dataclass(frozen=True)
class CountEncoderData:
    """What an encoder learns from: a generator, what sees its pictures, and real pictures."""

    generator: Generator
    eye: FeatureExtractor
    material: CountImages
    sizes: EncoderSizes = DIGIT_SIZES


def read_count_images(data: MultiMnist, generator: Generator) -> CountImages:
    """A part of a set, at the generator's size."""
    parts = []
    for pixels in data.pixels.split(512):
        images = from_bytes(pixels[..., None].expand(-1, -1, -1, 3))
        parts.append(to_bytes(downscale(images, generator.resolution)))
    return CountImages(torch.cat(parts), data.counts)


class CountEncoderTraining:
    """What both parts share. Codes are in standard deviations (one number for all of W) from the mean of W."""

    def __init__(self, lesson: CountEncoderData, options: CountEncoderConfig) -> None:
        self.lesson, self.options, self.generator = lesson, options, lesson.generator
        z = torch.randn(LABELLED_SHARE, self.generator.z_dim, generator=torch.Generator().manual_seed(options.seed))
        w = self.mapping(z)
        self.mean, self.deviation = w.mean(0), w.std(0).square().mean().sqrt()
        self.shows = visible_error(self.generator, (w - self.mean) / self.deviation, self.synthesis, options.seed)

    @torch.no_grad()
    def mapping(self, z: Tensor) -> Tensor:
        """Codes of W."""
        return self.generator.mapping(z.to(self.generator.device))

    def network(self) -> EncoderNetwork:
        """A new encoder; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed)
            network = EncoderNetwork(self.generator.w_dim, self.generator.num_ws, self.lesson.sizes)
        nn.init.normal_(network.base.weight, std=1e-3, generator=torch.Generator().manual_seed(self.options.seed))
        return network.to(self.generator.device, memory_format=torch.channels_last).train()  # pyright: ignore

    def judge(self) -> LatentDiscriminator:
        """A new latent discriminator."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed)
            return LatentDiscriminator(self.generator.w_dim).to(self.generator.device)

    def draw(self, n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """New codes and their pictures."""
        w = self.mapping(torch.randn(n, self.generator.z_dim, generator=random))
        with torch.no_grad():
            images = self.generator.synthesis(self.generator.expand(w))
        return (w - self.mean) / self.deviation, images

    def missed(self, found: Tensor, codes: Tensor) -> Tensor:
        """The share of what codes (n, w_dim) show that is missed, on average."""
        return ((found - codes) @ self.shows).square().sum(1).mean()

    def synthesis(self, codes: Tensor) -> Tensor:
        """Pictures of codes in standard deviations; differentiable."""
        return self.generator.synthesis(self.mean + self.deviation * codes)

    def encode(self, network: EncoderNetwork, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the network says."""
        seen = downscale(images, network.sizes.side).contiguous(memory_format=torch.channels_last)
        with torch.autocast(seen.device.type, torch.bfloat16, enabled=self.options.dtype == "bfloat16"):
            features = network.features(seen)
        return network.read(features.float())


def visible_error(generator: Generator, codes: Tensor, synthesis: Callable[[Tensor], Tensor], seed: int) -> Tensor:
    """What turns an error of a code into what is seen of it, (w_dim, w_dim); all of ``data.codes`` (n, w_dim) have variance 1.

    Of hundreds of numbers of W, a small generator shows a few dozen: an encoder that has to know all of them learns none. So
    errors count by how much pictures change, in blocks of pixels, along random slopes of the picture by the code. Each
    slope counts alike: of a generator that isn't smooth, a few would outweigh all others.
    """
    random, slopes = torch.Generator().manual_seed(seed), []
    for part in codes[:SLOPES].split(64):
        w = part.detach().requires_grad_(True)
        images = downscale(synthesis(generator.expand(w)), max(generator.resolution // BLOCK, 1))
        way = torch.randn(images.shape, generator=random).to(images)
        (slope,) = torch.autograd.grad((images * way).sum(), w)
        slopes.append(slope / slope.norm(dim=1, keepdim=True).clamp(min=1e-12))
    values, vectors = torch.linalg.eigh(torch.cat(slopes).T @ torch.cat(slopes))
    shows = vectors * values.clamp(min=0).sqrt()
    return shows / (codes @ shows).var(0).sum().sqrt().clamp(min=1e-12)
