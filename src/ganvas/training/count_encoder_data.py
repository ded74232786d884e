"""The config and the training data of ``count_encoder``: real pictures, and generated ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ganvas.data.multimnist_files import MultiMnist
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.inversion.encoder import DIGIT_SIZES, EncoderNetwork, EncoderSizes
from ganvas.inversion.object_loss import FeatureExtractor
from ganvas.io.images import downscale, from_bytes, to_bytes
from ganvas.training_loop import seed_random_state
from ganvas.types import Dtype
from ganvas.validation import Natural, NonNegative, PositiveInt, Share, validated

SPACES = ("w", "w+")
STATISTICS_CODES = 4096
"""Codes that the mean and the standard deviation of W are measured on."""
N_GRADIENTS = 1024
"""Codes whose pictures' gradients give the visibility of errors."""
BLOCK_PIXELS = 4
"""The side of the blocks of pixels that gradients are taken of."""


@validated
class CountEncoderConfig:
    """How to train; ``pixels``, ``features`` and ``code`` weigh the unexplained variance of pixels, features and codes.

    ``first``: steps on ``drawn`` generated pictures each; then ``steps`` on ``batch`` real ones and half as many generated.
    ``judged``, ``offset`` and ``keep_count`` weigh the latent discriminator, the squared offsets (in variances of W) and
    the count. Of the shares ``freed`` of the steps, the first offset is freed after the first, the last after the second.
    ``dtype``: of convolutions.
    """

    space: Literal["w", "w+"] = "w+"
    first: Natural = 450
    steps: PositiveInt = 250
    drawn: PositiveInt = 64
    batch: PositiveInt = 32
    rate: NonNegative = 2e-3
    pixels: NonNegative = 1.0
    features: NonNegative = 1.0
    code: NonNegative = 2.0
    judged: NonNegative = 0.05
    offset: NonNegative = 1.0
    keep_count: NonNegative = 0.0
    freed: tuple[Share, Share] = (0.1, 0.6)
    dtype: Dtype = "float32"
    seed: Natural = 0

    def __post_init__(self) -> None:
        if self.freed[0] > self.freed[1]:
            raise GanvasError(f"freed must be two shares of the steps from 0 to 1, in order, not {self.freed}.")

    def compute_free_offsets(self, step: int, num_ws: int) -> Tensor:
        """Return which offsets are free at a step: 1 or 0 for each row's, (num_ws, 1)."""
        if self.space == "w":
            return torch.zeros(num_ws, 1)
        start, end = (share * self.steps for share in self.freed)
        times = torch.linspace(start, end, num_ws)
        return (times <= step).float()[:, None]


@dataclass(frozen=True)
class CountImages:
    """Real ``pixels`` (n, side, side, 3), uint8, at the generator's size, and their numbers of objects ``counts`` (n,)."""

    pixels: Tensor
    counts: Tensor

    def decode(self, rows: Tensor | slice) -> Tensor:
        """Return pictures (n, 3, side, side) in [-1, 1]."""
        return from_bytes(self.pixels[rows])


@dataclass(frozen=True)
class CountEncoderData:
    """What an encoder is trained on: a generator, the features of its pictures, real pictures, and the network's sizes."""

    generator: Generator
    features: FeatureExtractor
    images: CountImages
    sizes: EncoderSizes = DIGIT_SIZES


def read_count_images(data: MultiMnist, generator: Generator) -> CountImages:
    """Resize a part of a MultiMNIST set to the generator's size."""
    parts = []
    for pixels in data.pixels.split(512):
        images = from_bytes(pixels[..., None].expand(-1, -1, -1, 3))
        parts.append(to_bytes(downscale(images, generator.resolution)))
    return CountImages(torch.cat(parts), data.counts)


class CountEncoderTraining:
    """What both parts of a training share. Codes are in standard deviations (one number for all of W) from the mean of W."""

    def __init__(self, data: CountEncoderData, config: CountEncoderConfig) -> None:
        self.data, self.config, self.generator = data, config, data.generator
        z = torch.randn(STATISTICS_CODES, self.generator.z_dim, generator=torch.Generator().manual_seed(config.seed))
        w = self.mapping(z)
        self.mean, self.deviation = w.mean(0), w.std(0).square().mean().sqrt()
        self.visibility = compute_visible_error(
            self.generator, (w - self.mean) / self.deviation, self.synthesis, config.seed
        )

    @torch.no_grad()
    def mapping(self, z: Tensor) -> Tensor:
        """Map z to codes of W, without gradients."""
        return self.generator.mapping(z.to(self.generator.device))

    def create_network(self) -> EncoderNetwork:
        """Create an encoder; the global random state is restored."""
        with seed_random_state(self.config.seed):
            network = EncoderNetwork(self.generator.w_dim, self.generator.num_ws, self.data.sizes)
        nn.init.normal_(network.base.weight, std=1e-3, generator=torch.Generator().manual_seed(self.config.seed))
        return network.to(self.generator.device, memory_format=torch.channels_last).train()  # pyright: ignore

    def draw_images(self, n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw codes (n, w_dim) and their pictures."""
        w = self.mapping(torch.randn(n, self.generator.z_dim, generator=random))
        with torch.no_grad():
            images = self.generator.synthesis(self.generator.expand(w))
        return (w - self.mean) / self.deviation, images

    def compute_code_loss(self, predicted: Tensor, codes: Tensor) -> Tensor:
        """Compute the mean visible error of predicted codes (n, w_dim), as a share of its variance over codes."""
        return ((predicted - codes) @ self.visibility).square().sum(1).mean()

    def synthesis(self, codes: Tensor) -> Tensor:
        """Draw the pictures of codes in standard deviations; differentiable."""
        return self.generator.synthesis(self.mean + self.deviation * codes)

    def encode(self, network: EncoderNetwork, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode pictures as base codes (n, w_dim) and offsets of their rows (n, num_ws, w_dim)."""
        resized = downscale(images, network.sizes.side).contiguous(memory_format=torch.channels_last)
        with torch.autocast(resized.device.type, torch.bfloat16, enabled=self.config.dtype == "bfloat16"):
            features = network.compute_features(resized)
        return network.read(features.float())


def compute_visible_error(
    generator: Generator, codes: Tensor, synthesis: Callable[[Tensor], Tensor], seed: int
) -> Tensor:
    """Compute the matrix (w_dim, w_dim) that maps an error of a code to its visible effect; over ``codes`` (n, w_dim) that has
    variance 1 in all.

    A small generator's pictures depend on a few dozen of W's hundreds of dimensions, and an encoder that has to predict all
    of them learns none. So errors are weighted by how much pictures change, in blocks of pixels, along gradients of random
    projections of the picture. Gradients are normalised: of a generator that isn't smooth, a few would outweigh all others.
    """
    random, gradients = torch.Generator().manual_seed(seed), []
    for part in codes[:N_GRADIENTS].split(64):
        w = part.detach().requires_grad_(True)
        images = downscale(synthesis(generator.expand(w)), max(generator.resolution // BLOCK_PIXELS, 1))
        direction = torch.randn(images.shape, generator=random).to(images)
        (gradient,) = torch.autograd.grad((images * direction).sum(), w)
        gradients.append(gradient / gradient.norm(dim=1, keepdim=True).clamp(min=1e-12))
    values, vectors = torch.linalg.eigh(torch.cat(gradients).T @ torch.cat(gradients))
    visibility = vectors * values.clamp(min=0).sqrt()
    return visibility / (codes @ visibility).var(0).sum().sqrt().clamp(min=1e-12)
