"""What a GAN's training writes and measures: sheets of samples, the finished generator, distances, a TensorBoard log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.fid import collect_features, compute_frechet_distance, load_inception
from ganvas.generators.base import draw_z
from ganvas.generators.stylegan2 import StyleGAN2, read_generator, save_generator
from ganvas.io.files import atomic_write, load_tensors
from ganvas.io.images import encode_png, from_bytes, to_bytes
from ganvas.training.gan.images import TrainingImages
from ganvas.types import Images, Labels

SHEET_SIDE = 8
"""Rows and columns of a sheet of samples."""
SHEET_SEED = 77
BATCH_SIZE = 64
DistanceFunction = Callable[[StyleGAN2], Mapping[str, float]]
"""Measures a generator while it is trained: name of the distance -> value."""
DISTANCE_SEED = 3_000_000
"""The first seed of measured samples, after those of reports."""
MEAN_CODES = 20_000
"""Codes that the mean of W is taken over."""
MEAN_CODES_SEED = 4_000_000
"""The first of their seeds, after those of measured samples."""


@torch.no_grad()
def draw_sample_sheet(generator: StyleGAN2, side: int = SHEET_SIDE) -> torch.Tensor:
    """Draw a sheet (height, width, 3) uint8 of side × side untruncated samples, with a label a column where it has labels."""
    z = torch.randn(side * side, generator.z_dim, generator=torch.Generator().manual_seed(SHEET_SEED))
    w = generator.mapping(z, make_column_labels(generator.num_labels, side))
    images = torch.cat([to_bytes(generator.synthesis(generator.expand(part))) for part in w.split(side)])
    rows = images.unflatten(0, (side, side)).permute(0, 2, 1, 3, 4)
    return rows.reshape(side * images.shape[1], side * images.shape[2], 3)


def make_column_labels(num_labels: int, side: int) -> Labels | None:
    """Return one-hot labels for a sheet, repeated along each row; None without labels."""
    if not num_labels:
        return None
    index = torch.arange(side) % num_labels
    return torch.nn.functional.one_hot(index, num_labels).float().repeat(side, 1)


@torch.no_grad()
def export_generator(weights: str | Path, out: str | Path) -> StyleGAN2:
    """Write the generator in ``weights`` to ``out`` in float16, with the mean of W of its averaged weights, and a sheet of
    samples beside it (.png).

    During training the mean of W follows the generator's current weights, not their average: it is computed anew.
    Raises GanvasError for a file that holds no such generator.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise GanvasError(f"Can't write a generator to {out.name!r}: give a name that ends in .safetensors.")
    generator = read_generator(weights)
    state, metadata = load_tensors(weights)
    labels = None
    if n := generator.num_labels:
        labels = torch.eye(n).repeat(MEAN_CODES // n + 1, 1)[:MEAN_CODES]
    codes = draw_z(generator, range(MEAN_CODES_SEED, MEAN_CODES_SEED + MEAN_CODES))
    # From the weights as they are read back.
    halved = {name: value.half().float() for name, value in state.items()}
    w = StyleGAN2(halved, generator.shape).mapping(codes, labels)
    halved["mapping.w_avg"] = w.double().mean(0).float()
    save_generator(out, halved, generator.shape, torch.float16, metadata.get("training"))
    exported = read_generator(out)
    with atomic_write(out.with_suffix(".png")) as path:
        path.write_bytes(encode_png(draw_sample_sheet(exported)))
    return exported


def create_distance(pictures: TrainingImages, weights: Path | None, digits: bool, n: int) -> DistanceFunction | None:
    """Return FID with Inception's weights, or the distance in the digit counter's features, to ``n`` of the pictures, or None.

    Raises GanvasError for both at once, for fewer than 2 pictures, and where a network can't be loaded.
    """
    if weights is not None and digits:
        raise GanvasError("A training measures FID or the digit distance, not both: leave out --fid or --digits.")
    if n < 2:
        raise GanvasError(f"A Fréchet distance needs at least 2 pictures and 2 samples, not {n}.")
    if weights is not None:
        return create_frechet_distance("fid", load_inception(weights), pictures, n)
    if digits:
        from ganvas.scorers import count

        return create_frechet_distance("digit_distance", count.load("count").compute_features, pictures, n)
    return None


def create_frechet_distance(
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
        return {
            name: compute_frechet_distance(real[0], collect_features(draw_samples(generator, pictures, index), network))
        }

    return measure


def _iterate_real(pictures: TrainingImages, index: Tensor) -> Iterator[Images]:
    for part in index.split(BATCH_SIZE):
        yield from_bytes(pictures.pixels[part].expand(-1, 3, -1, -1).permute(0, 2, 3, 1))


def draw_samples(generator: StyleGAN2, pictures: TrainingImages, index: Tensor) -> Iterator[Images]:
    """Draw as many samples as ``index`` has pictures, in batches, with the pictures' labels where there are some."""
    for start in range(0, len(index), BATCH_SIZE):
        part = index[start : start + BATCH_SIZE]
        z = draw_z(generator, range(DISTANCE_SEED + start, DISTANCE_SEED + start + len(part)))
        labels = None if pictures.labels is None else pictures.labels[part]
        yield generator.synthesis(generator.expand(generator.mapping(z, labels)))


class TensorBoardLog:
    """Losses, rates, distances and sheets of samples by pictures seen; nothing unless ``enabled``."""

    def __init__(self, folder: Path, enabled: bool) -> None:
        """Open the log. Raises GanvasError where it is ``enabled`` and TensorBoard isn't installed."""
        self._writer: Any = None
        if not enabled:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise GanvasError("A TensorBoard log needs a package: pip install 'ganvas[gan]'.") from None
        self._writer = SummaryWriter(str(folder / "tensorboard"))

    def add_scalars(self, values: Mapping[str, float], images_seen: int) -> None:
        """Add one point to each curve."""
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, images_seen)
            self._writer.flush()

    def add_image(self, pixels: Tensor, images_seen: int) -> None:
        """Add a sheet of samples (height, width, 3) uint8."""
        if self._writer is not None:
            self._writer.add_image("samples", pixels, images_seen, dataformats="HWC")

    def close(self) -> None:
        """Write what is buffered, and close the log."""
        if self._writer is not None:
            self._writer.close()
