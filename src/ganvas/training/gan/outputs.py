"""What a GAN's training writes and measures: sheets of samples, the finished generator, distances, a TensorBoard log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.fid import collect_features, compute_frechet_distance, load_inception
from ganvas.generators.base import draw_z, map_seeds
from ganvas.generators.stylegan2 import StyleGAN2, read_generator, save_generator
from ganvas.io.files import atomic_write, load_tensors
from ganvas.io.images import encode_png, from_bytes, to_bytes
from ganvas.seeds import DISTANCE_SEED, MEAN_CODES_SEED, SAMPLE_SHEET_SEED
from ganvas.training.gan.images import TrainingImages
from ganvas.types import Images, Labels

SHEET_SIDE = 8
"""Rows and columns of a sheet of samples."""
BATCH_SIZE = 64
DistanceFunction = Callable[[StyleGAN2], Mapping[str, float]]
"""Measures a generator while it is trained: name of the distance -> value."""
MEAN_CODES = 20_000
"""Codes that the mean of W is taken over."""


@torch.no_grad()
def draw_sample_sheet(generator: StyleGAN2, side: int = SHEET_SIDE) -> torch.Tensor:
    """Draw a sheet (height, width, 3) uint8 of side × side untruncated samples.

    Where the generator has labels, each column has one of them: the first ``side``, from 0 on again where there are fewer.
    """
    z = torch.randn(side * side, generator.z_dim, generator=torch.Generator().manual_seed(SAMPLE_SHEET_SEED))
    w = generator.mapping(z, make_column_labels(generator.num_labels, side))
    images = torch.cat([to_bytes(generator.synthesis(generator.expand(part))) for part in w.split(side)])
    rows = images.unflatten(0, (side, side)).permute(0, 2, 1, 3, 4)
    return rows.reshape(side * images.shape[1], side * images.shape[2], 3)


def make_column_labels(num_labels: int, side: int) -> Labels | None:
    """Return one-hot labels (side², num_labels) for a sheet, one for each column; None without labels."""
    if not num_labels:
        return None
    index = torch.arange(side) % num_labels
    return torch.nn.functional.one_hot(index, num_labels).float().repeat(side, 1)


@torch.no_grad()
def export_generator(weights: str | Path, out: str | Path) -> StyleGAN2:
    """Write the generator in ``weights`` to ``out`` in float16, with the mean of W of its averaged weights, and a sheet of
    samples beside it (.png).

    During training the mean of W follows the generator's current weights, not their average: it is computed anew.
    Raises GanvasError for a file that holds no such generator, and for weights that float16 can't hold.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise GanvasError(f"Can't write a generator to {out.name!r}: give a name that ends in .safetensors.")
    generator = read_generator(weights)
    state, metadata = load_tensors(weights)  # again: the generator has its weights in other forms
    # The mean is that of the weights as they are read back.
    rounded_state = _round_to_half(state, weights)
    rounded = StyleGAN2(rounded_state, generator.shape)
    w = map_seeds(rounded, range(MEAN_CODES_SEED, MEAN_CODES_SEED + MEAN_CODES))
    rounded_state |= _round_to_half({"mapping.w_avg": w.double().mean(0).float()}, weights)
    save_generator(out, rounded_state, generator.shape, torch.float16, metadata.get("training"))
    exported = read_generator(out)
    with atomic_write(out.with_suffix(".png")) as path:
        path.write_bytes(encode_png(draw_sample_sheet(exported)))
    return exported


def _round_to_half(state: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Round weights to what float16 holds, as float32. Raises GanvasError where one isn't finite then."""
    rounded = {name: value.half().float() for name, value in state.items()}
    for name, value in rounded.items():
        if not torch.isfinite(value).all():
            limit = torch.finfo(torch.float16).max
            raise GanvasError(
                f"{path} can't be written in float16: {name} has weights beyond ±{limit:,.0f}, or not finite."
            )
    return rounded


def create_distance(
    pictures: TrainingImages, inception_weights: Path | None, use_digit_counter: bool, sample_count: int
) -> DistanceFunction | None:
    """Create the function that measures how far a generator's samples are from the training pictures.

    Args:
        pictures: The training pictures; as many of them as samples are compared, evenly spread, or all.
        inception_weights: The file of Inception's weights, for FID, or None.
        use_digit_counter: Whether to measure the Fréchet distance in the digit counter's features instead.
        sample_count: The number of samples, at most that of the pictures.

    Returns:
        The function, or None where neither distance is asked for.

    Raises:
        GanvasError: Both are asked for, there are fewer than 2 pictures or samples, or a network can't be loaded.
    """
    if inception_weights is not None and use_digit_counter:
        raise GanvasError("A training measures FID or the digit distance, not both: leave out --fid or --digits.")
    if inception_weights is None and not use_digit_counter:
        return None
    n = min(sample_count, len(pictures.pixels))
    if n < 2:
        raise GanvasError(f"A Fréchet distance needs at least 2 pictures and 2 samples, not {n}.")
    if inception_weights is not None:
        return create_frechet_distance("fid", load_inception(inception_weights), pictures, n)
    from ganvas.scorers import count

    return create_frechet_distance("digit_distance", count.load("count").compute_features, pictures, n)


def create_frechet_distance(
    name: str, network: Callable[[Images], Tensor], pictures: TrainingImages, n: int
) -> DistanceFunction:
    """Create a function that measures the Fréchet distance, called ``name``, of pictures and untruncated samples.

    It is that of the features of ``network``, for ``n`` of each, or as many as there are pictures.
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
