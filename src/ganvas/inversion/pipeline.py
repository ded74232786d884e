"""invert(): pictures to codes, by encoder, by optimisation, or by both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ganvas.data.distribution import Distribution
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.inversion.encoder import Encoder, read_encoder, shipped_encoder
from ganvas.inversion.optimization import OptimizationConfig, WhitenedCoordinates, optimize, refine
from ganvas.inversion.perceptual_loss import SIDES, PerceptualLoss
from ganvas.inversion.quality import fit_w_distribution
from ganvas.io.images import downscale
from ganvas.types import Images, WPlus

METHODS = ("encoder", "optimize", "both")
SPACES = ("w", "w+")
Watch = Callable[[int, int], Any]


@dataclass(frozen=True)
class Inversion:
    """What ``invert`` found, one row a picture."""

    ws: WPlus
    pictures: Images
    """What the generator draws of the codes."""
    steps: tuple[int, ...]
    """Of optimisation, for each; 0 by encoder alone."""


def load_encoder(generator: Generator) -> Encoder | None:
    """The encoder that ships for a generator, None where none does."""
    path = shipped_encoder(generator)
    if not path.exists():
        return None
    # A generator of that name with other weights (a toy in a test, a user's own) has none.
    try:
        return read_encoder(path, generator)
    except GanvasError:
        return None


def invert(
    images: Images,
    generator: Generator,
    space: str = "w+",
    method: str = "both",
    options: OptimizationConfig | None = None,
    *,
    encoder: Encoder | None = None,
    distribution: Distribution | None = None,
    watch: Watch | None = None,
) -> Inversion:
    """Codes whose pictures look like ``images`` (n, 3, side, side), which are aligned as the generator's are.

    ``space``: "w" (all rows equal) or "w+". ``method``: "encoder" (under a second a picture), "optimize" (from w_avg) or
    "both" (from the encoder's code; "optimize" where the generator has no encoder).
    ``encoder``: by default the one that ships. ``data.distribution``: of W, fitted here where it isn't given and is needed.
    ``watch(done, total)`` hears of each step of all pictures. Pictures are inverted one by one: how many there are
    changes no bit of any code. Gradients flow through the generator in its own dtype; bfloat16 is twice as fast.
    Raises GanvasError for another space or method, pictures that aren't square, and a missing encoder.
    """
    options = options or OptimizationConfig()
    _check(images, space, method)
    encoder = None if method == "optimize" else encoder or load_encoder(generator)
    if method == "encoder" and encoder is None:
        raise GanvasError(f"No encoder ships for generator {generator.name!r}: invert by the method 'optimize'.")
    job = _Job(generator, space, method, options, encoder, None)
    if method != "encoder":
        known = distribution or fit_w_distribution(generator)
        job = _Job(generator, space, method, options, encoder, WhitenedCoordinates.of(known, generator.device))
    total = len(images) * (1 if method == "encoder" else options.steps)
    each = total // len(images)
    rows = []
    for i, image in enumerate(images.to(generator.device)):
        rows.append(job.invert(image[None], lambda step, i=i: watch and watch(i * each + step, total)))
        if watch:
            watch((i + 1) * each, total)
    codes, pictures, steps = zip(*rows, strict=True)
    return Inversion(torch.cat(codes), torch.cat(pictures), steps)


@dataclass(frozen=True)
class _Job:
    """What all pictures are inverted with."""

    generator: Generator
    space: str
    method: str
    options: OptimizationConfig
    encoder: Encoder | None
    coordinates: WhitenedCoordinates | None

    def invert(self, image: Tensor, tick: Callable[[int], Any]) -> tuple[WPlus, Tensor, int]:
        """The code of one picture, its own picture, and how many steps it took."""
        target = image.float() if image.shape[-1] <= SIDES[0] else downscale(image.float(), SIDES[0])
        start = self.generator.expand(self.generator.w_avg[None])
        encoder, options = self.encoder, self.options
        if encoder is not None:
            with torch.no_grad():
                start = encoder(target, self.space)
            refined, picture = refine(target, self.generator, lambda x: encoder(x, self.space), start, options.refine)
            if self.coordinates is None:
                return refined, picture, 0
            start = refined
        if self.coordinates is None:
            raise GanvasError(f"Method {self.method!r} needs the distribution of W.")
        perception = PerceptualLoss(target, encoder, (options.pixels, options.features, options.seen))
        ws, steps = optimize(perception, self.generator, start, self.space, self.coordinates, options, tick)
        with torch.no_grad():
            return ws, self.generator.synthesis(ws), steps


def _check(images: Images, space: str, method: str) -> None:
    if space not in SPACES:
        raise unknown("space", space, SPACES)
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    if not len(images) or images.shape[-1] != images.shape[-2]:
        size = f"{images.shape[-1]}×{images.shape[-2]}"
        raise GanvasError(
            f"Inversion takes at least one square picture (align makes them), not {len(images)} of {size}."
        )
