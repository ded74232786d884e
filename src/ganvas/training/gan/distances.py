"""Fréchet distances between a generator's samples and the training pictures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.fid import collect_features, fid, load_inception
from ganvas.generators.base import draw_z
from ganvas.generators.stylegan2 import StyleGAN2
from ganvas.io.images import from_bytes
from ganvas.training.gan.images import TrainingImages
from ganvas.types import Images

BATCH = 64
DistanceFunction = Callable[[StyleGAN2], Mapping[str, float]]
"""Measures a generator while it is trained: name of the distance -> value."""
DISTANCE_SEED = 3_000_000
"""The first seed of measured samples, after those of reports."""


def distance_function(pictures: TrainingImages, weights: Path | None, digits: bool, n: int) -> DistanceFunction | None:
    """Return FID with Inception's weights, or the distance in the digit counter's features, to ``n`` of the pictures, or None.

    Raises GanvasError for both at once, for fewer than 2 pictures, and where a network can't be loaded.
    """
    if weights is not None and digits:
        raise GanvasError("Give only one of --fid and --digits.")
    if n < 2:
        raise GanvasError(f"A Fréchet distance needs at least 2 pictures and 2 samples, not {n}.")
    if weights is not None:
        return frechet_distance("fid", load_inception(weights), pictures, n)
    if digits:
        from ganvas.scorers import count

        return frechet_distance("digit_distance", count.load("count").features, pictures, n)
    return None


def frechet_distance(
    name: str, network: Callable[[Images], Tensor], pictures: TrainingImages, n: int
) -> DistanceFunction:
    """Return a function that measures the Fréchet distance of ``n`` pictures and ``n`` untruncated samples.

    It is in the network's features, and called ``name``.
    """
    index = torch.linspace(0, len(pictures.pixels) - 1, min(n, len(pictures.pixels))).long()
    real: list[Tensor] = []

    def measure(generator: StyleGAN2) -> dict[str, float]:
        if not real:
            real.append(collect_features(_iterate_real(pictures, index), network))
        return {name: fid(real[0], collect_features(draw_samples(generator, pictures, index), network))}

    return measure


def _iterate_real(pictures: TrainingImages, index: Tensor) -> Iterator[Images]:
    for part in index.split(BATCH):
        yield from_bytes(pictures.pixels[part].expand(-1, 3, -1, -1).permute(0, 2, 3, 1))


def draw_samples(generator: StyleGAN2, pictures: TrainingImages, index: Tensor) -> Iterator[Images]:
    """Draw as many samples as ``index`` has pictures, in batches, with the pictures' labels where there are some."""
    for start in range(0, len(index), BATCH):
        part = index[start : start + BATCH]
        z = draw_z(generator, range(DISTANCE_SEED + start, DISTANCE_SEED + start + len(part)))
        labels = None if pictures.labels is None else pictures.labels[part]
        yield generator.synthesis(generator.expand(generator.mapping(z, labels)))
