"""What measures a generator while it is trained: a Fréchet distance to the training pictures."""

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
"""Measures a generator while it is trained: name -> value."""
DISTANCE_SEED = 3_000_000
"""Where the seeds of judged samples start: those that benchmarks use start at 2,000,000."""


def distance_function(pictures: TrainingImages, weights: Path | None, digits: bool, n: int) -> DistanceFunction | None:
    """FID with Inception's weights, or the digit counter's distance, or none; to ``n`` of the pictures.

    Raises GanvasError for both at once, for fewer than 2 pictures, and where a network can't be had.
    """
    if weights is not None and digits:
        raise GanvasError("FID and the digits' distance don't go together: ask for one of them.")
    if n < 2:
        raise GanvasError(f"A Fréchet distance needs at least 2 pictures on either side, not {n}.")
    if weights is not None:
        return frechet_distance("fid", load_inception(weights), pictures, n)
    if digits:
        from ganvas.scorers import count

        return frechet_distance("digit_distance", count.load("count").features, pictures, n)
    return None


def frechet_distance(
    name: str, network: Callable[[Images], Tensor], pictures: TrainingImages, n: int
) -> DistanceFunction:
    """Measures the distance ``name`` between ``n`` pictures and ``n`` untruncated samples in the network's features."""
    index = torch.linspace(0, len(pictures.pixels) - 1, min(n, len(pictures.pixels))).long()
    real: list[Tensor] = []

    def judge(generator: StyleGAN2) -> dict[str, float]:
        if not real:
            real.append(collect_features(_real(pictures, index), network))
        return {name: fid(real[0], collect_features(draw_samples(generator, pictures, index), network))}

    return judge


def _real(pictures: TrainingImages, index: Tensor) -> Iterator[Images]:
    for part in index.split(BATCH):
        yield from_bytes(pictures.pixels[part].expand(-1, 3, -1, -1).permute(0, 2, 3, 1))


def draw_samples(generator: StyleGAN2, pictures: TrainingImages, index: Tensor) -> Iterator[Images]:
    """As many samples as ``index`` has pictures, with their labels where there are some, in batches."""
    for start in range(0, len(index), BATCH):
        part = index[start : start + BATCH]
        z = draw_z(generator, range(DISTANCE_SEED + start, DISTANCE_SEED + start + len(part)))
        labels = None if pictures.labels is None else pictures.labels[part]
        yield generator.synthesis(generator.expand(generator.mapping(z, labels)))
