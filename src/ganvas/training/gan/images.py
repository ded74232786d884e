"""The pictures that a GAN is trained on: a MultiMNIST folder, or any folder of pictures."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.io.images import PICTURE_SUFFIXES, downscale, read_picture, to_bytes


@dataclass(frozen=True)
class TrainingImages:
    """Training pictures: ``pixels`` (n, colours, side, side) uint8; ``labels`` (n, num_labels) one-hot, or None."""

    pixels: Tensor
    labels: Tensor | None = None
    values: tuple[int, ...] = ()
    """The count that each label stands for."""

    @property
    def colours(self) -> int:
        """The number of colours: 1 for grey pictures, else 3."""
        return self.pixels.shape[1]

    @property
    def num_labels(self) -> int:
        """The number of labels, 0 without."""
        return 0 if self.labels is None else self.labels.shape[1]

    @property
    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each colour, (colours,), with pixels in [-1, 1]."""
        levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
        counts = torch.stack([self.pixels[:, c].flatten().bincount(minlength=256) for c in range(self.colours)])
        shares = counts.double() / counts.sum(1, keepdim=True)
        mean = shares @ levels
        return mean.float(), (shares @ levels.square() - mean.square()).clamp(min=1e-4).sqrt().float()

    @property
    def sha256(self) -> dict[str, str]:
        """The hashes of the pictures and their labels ("" without): a run is only continued on the same ones."""
        tensors = {"pictures": self.pixels, "labels": self.labels}
        return {
            name: "" if value is None else hashlib.sha256(value.numpy().tobytes()).hexdigest()
            for name, value in tensors.items()
        }

    def draw_rows(self, start: int, n: int, seed: int) -> Tensor:
        """Return the rows of the ``start``-th to ``start + n - 1``-th picture of a training; each epoch has its own order."""
        size = len(self.pixels)
        positions = range(start, start + n)
        return torch.tensor([int(_shuffle(size, seed, position // size)[position % size]) for position in positions])


@lru_cache(2)
def _shuffle(size: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size)


def read_training_images(folder: str | Path, size: int, condition: str) -> TrainingImages:
    """Read the training pictures of a MultiMNIST folder (grey), or all picture files below a folder.

    ``condition`` "count": with the count as label, the smallest first. Raises GanvasError for a folder without pictures,
    pictures of another size (MultiMNIST) or that aren't square, and a condition for pictures without counts.
    """
    folder = Path(folder)
    if (folder / "train.parquet").exists():
        return _read_multimnist(folder, size, condition)
    if condition:
        raise GanvasError(f"{folder} holds no train.parquet with counts: --condition {condition} needs one.")
    if not folder.is_dir():
        raise GanvasError(f"There is no folder {folder}.")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not paths:
        raise GanvasError(f"{folder} holds neither train.parquet nor pictures ({', '.join(PICTURE_SUFFIXES)}).")
    pictures = []
    for path in paths:
        picture = read_picture(path)
        if picture.shape[2] != picture.shape[3]:
            raise GanvasError(f"{path} has {picture.shape[3]}×{picture.shape[2]} pixels: pictures must be square.")
        pictures.append(to_bytes(downscale(picture, size))[0].permute(2, 0, 1))
    pixels = torch.stack(pictures)
    grey = bool((pixels == pixels[:, :1]).all())
    return TrainingImages(pixels[:, :1].clone() if grey else pixels)


def _read_multimnist(folder: Path, size: int, condition: str) -> TrainingImages:
    from ganvas.data.multimnist_files import read_multimnist

    data = read_multimnist(folder, "train")
    if data.pixels.shape[-1] != size:
        raise GanvasError(
            f"{folder} has pictures of {data.pixels.shape[-1]} pixels, not {size}: choose another --preset."
        )
    pixels = data.pixels[:, None].contiguous()
    if not condition:
        return TrainingImages(pixels)
    values, index = data.counts.unique(return_inverse=True)
    labels = torch.nn.functional.one_hot(index, len(values)).float()
    return TrainingImages(pixels, labels, tuple(values.tolist()))
