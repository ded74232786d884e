"""What a generator is, and how codes are drawn for it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.precision import accept_any_floats_in
from ganvas.types import Images, Labels, W, WPlus, Z


class Generator(nn.Module, ABC):
    """A frozen pretrained GAN: ``mapping`` from z to w, ``synthesis`` from one w a layer to a picture.

    A generator without a W is one whose mapping is the identity, with ``num_ws = 1`` and no style weights.
    Both take codes of any float dtype in any autograd mode: codes come back in the dtype given, pictures are float32.
    """

    name: str
    z_dim: int
    w_dim: int
    num_labels: int = 0
    resolution: int
    dtype: torch.dtype = torch.float32
    """What synthesis computes in, whatever codes are."""
    row_resolutions: tuple[int, ...]
    """The resolution that each row of W+ acts at, coarse to fine."""
    w_avg: Tensor
    """The mean of W, shape (w_dim,): the centre of truncation."""
    fingerprint: str
    """sha256 of the float32 weights in the order of their names: the identity that editors, labels and recipes carry."""

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        accept_any_floats_in(cls, {"mapping": None, "synthesis": torch.float32})

    @property
    def input_dtype(self) -> torch.dtype:
        """What codes are converted to."""
        return self.w_avg.dtype

    @property
    def num_ws(self) -> int:
        """The number of rows of a W+ code."""
        return len(self.row_resolutions)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.w_avg.device

    @abstractmethod
    def mapping(self, z: Z, labels: Labels | None = None) -> W:
        """Codes of W for codes of Z."""

    @abstractmethod
    def synthesis(self, ws: WPlus) -> Images:
        """Pictures for codes; constant noise, so equal codes give equal pixels; differentiable in ``ws``."""

    @abstractmethod
    def style_weights(self) -> list[Tensor]:
        """The matrices (channels, w_dim) that turn each row into a style, for closed-form methods; [] without styles."""

    def expand(self, w: W) -> WPlus:
        """A W+ code with equal rows, without copying memory."""
        return w.unsqueeze(1).expand(-1, self.num_ws, -1)


def align(codes: Tensor) -> Tensor:
    """Copy codes to memory of their own: some processors add in another order where numbers lie otherwise.

    So equal codes give equal pixels, whether they were expanded, sliced or read from a file; differentiable.
    """
    return codes.clone(memory_format=torch.contiguous_format)


def draw_z(generator: Generator, seeds: Iterable[int]) -> Z:
    """One z a seed: ``RandomState(seed).randn(z_dim)``, as NVIDIA's scripts draw it, so that a seed is a face anywhere.

    Raises GanvasError for a seed outside 0 … 2³² - 1.
    """
    seeds = list(seeds)
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise GanvasError(f"A seed is a whole number from 0 to {2**32 - 1}, not {seed}.")
    rows = [np.random.RandomState(seed).randn(generator.z_dim) for seed in seeds]
    # NumPy's memory is aligned by chance, and some processors then add in another order.
    return torch.tensor(np.stack(rows), dtype=torch.float32, device=generator.device)


def truncate(w: W, w_avg: Tensor, psi: float) -> W:
    """The truncation trick: ``w_avg + psi (w - w_avg)``; psi 1 leaves w as it is, bit for bit (StyleGAN, section 3.2)."""
    return w if psi == 1 else torch.lerp(w_avg.to(w), w, psi)


def one_hot(generator: Generator, label: int) -> tuple[float, ...]:
    """A label of a conditional generator, counted from 0. Raises GanvasError for one that it doesn't have."""
    if not 0 <= label < generator.num_labels:
        known = f"its labels are 0 to {generator.num_labels - 1}" if generator.num_labels else "it takes no labels"
        raise GanvasError(f"Generator {generator.name!r} has no label {label}: {known}.")
    return tuple(float(k == label) for k in range(generator.num_labels))


def round_labels(generator: Generator, seeds: Iterable[int]) -> Labels | None:
    """The labels of a conditional generator where none are chosen: they go round with the seeds; None of any other."""
    if not generator.num_labels:
        return None
    return torch.eye(generator.num_labels, device=generator.device)[[seed % generator.num_labels for seed in seeds]]


def w_of_seeds(generator: Generator, seeds: Iterable[int], labels: Labels | None = None) -> W:
    """The w of seeds; of a conditional generator by default with ``round_labels``. Raises GanvasError as ``draw_z`` does."""
    seeds = list(seeds)
    return generator.mapping(draw_z(generator, seeds), round_labels(generator, seeds) if labels is None else labels)


@torch.no_grad()
def sample(generator: Generator, n: int, psi: float = 0.7, seed: int = 0, labels: Labels | None = None) -> WPlus:
    """The codes of seeds ``seed … seed + n - 1`` after truncation, shape (n, num_ws, w_dim); rows are equal.

    ``data.label_files`` (n, num_labels) are a conditional generator's, by default ``round_labels``. Raises
    GanvasError where ``n`` < 1 or a seed is out of range.
    """
    if n < 1:
        raise GanvasError(f"The number of codes must be at least 1, not {n}.")
    w = w_of_seeds(generator, range(seed, seed + n), labels)
    return generator.expand(truncate(w, generator.w_avg, psi))
