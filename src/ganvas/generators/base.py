"""The base class of generators, and drawing codes for them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.errors import GanvasError, unknown
from ganvas.generators.parts import Parts
from ganvas.precision import accept_any_floats_in
from ganvas.types import Images, Labels, W, WPlus, Z

MIN_RESOLUTION = 8
"""The smallest picture in pixels that can be asked for."""


class Generator(nn.Module, ABC):
    """A frozen pretrained GAN: ``mapping`` from z to w, ``synthesis`` from one w a layer to a picture.

    A generator without a W is one whose mapping is the identity, with ``num_ws = 1`` and no style weights.
    Both take codes of any float dtype in any autograd mode: codes come back in the dtype given, pictures are float32.

    References:
        Karras et al., *Analyzing and Improving the Image Quality of StyleGAN*, 2020, https://arxiv.org/abs/1912.04958
        (W); Abdal et al., *Image2StyleGAN*, 2019, https://arxiv.org/abs/1904.03189 (W+).
    """

    name: str
    z_dim: int
    w_dim: int
    num_labels: int = 0
    """Labels of a conditional generator; 0 for an unconditional one."""
    label_names: tuple[str, ...] = ()
    """The name of each label's class, where its file has names."""
    resolution: int
    """The side of a picture in pixels."""
    dtype: torch.dtype = torch.float32
    """The dtype that synthesis computes in, whatever that of the codes."""
    row_resolutions: tuple[int, ...]
    """The resolution that each row of W+ acts at, coarse to fine."""
    has_stylegan2_rows: bool = True
    """Whether rows of a StyleGAN2's codes and directions, of any number, mean something here, by their resolution."""
    w_avg: Tensor
    """The mean of W, shape (w_dim,): the centre of truncation."""
    w_slope: float = 1.0
    """The slope of the leaky ReLU whose output W is; 1 where W is no output of one."""
    fingerprint: str
    """sha256 of the float32 weights in the order of their names: the identity that editors, labels and recipes carry."""

    def __init_subclass__(cls, **named: Any) -> None:
        super().__init_subclass__(**named)
        accept_any_floats_in(cls, {"mapping": None, "synthesis": torch.float32})

    @property
    def input_dtype(self) -> torch.dtype:
        """The dtype that codes are converted to."""
        return self.w_avg.dtype

    @property
    def num_ws(self) -> int:
        """The number of rows of a W+ code."""
        return len(self.row_resolutions)

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.w_avg.device

    @abstractmethod
    def mapping(self, z: Z, labels: Labels | None = None) -> W:
        """Map codes of Z to codes of W.

        Args:
            z: Codes (n, z_dim), drawn from the standard normal distribution.
            labels: One-hot or soft conditions (n, num_labels), which a conditional generator needs.

        Returns:
            Codes (n, w_dim), without truncation.

        Raises:
            GanvasError: A conditional generator got no labels, or another one got some.
        """

    @abstractmethod
    def synthesis(self, ws: WPlus, resolution: int | None = None) -> Images:
        """Draw pictures for codes, with constant noise: equal codes give equal pixels.

        Args:
            ws: Codes (n, num_ws, w_dim), one row for each modulated layer.
            resolution: The side of the pictures in pixels, where it isn't the generator's own. Smaller pictures cost less where
                the generator can draw them early (from the features of a block); else the whole ones are shrunk.

        Returns:
            RGB pictures (n, 3, resolution, resolution), float32, about within [-1, 1]; differentiable in ``ws``.

        Raises:
            GanvasError: The codes have another number of rows or dimensions, or the generator's resolution can't be halved to
                the one asked for.
        """

    @abstractmethod
    def style_weights(self) -> list[Tensor]:
        """Return the matrices that turn each row of a code into a style, for methods in closed form.

        Returns:
            One matrix (channels, w_dim) for each row of W+; [] for a generator without styles.
        """

    def read_parts(self, ws: WPlus) -> Parts | None:
        """Read which parts of a face lie where in pictures.

        Args:
            ws: Codes (n, num_ws, w_dim).

        Returns:
            ``ganvas.generators.parts.Parts`` at a resolution of their own, or None where this generator's aren't known.
        """
        return None

    def draw_with_parts(self, ws: WPlus, resolution: int | None = None) -> tuple[Images, Parts | None]:
        """Draw pictures and read their parts: what ``synthesis`` and ``read_parts`` return, in one pass where that is possible.

        Args:
            ws: Codes (n, num_ws, w_dim).
            resolution: As of ``synthesis``.

        Returns:
            Pictures (n, 3, resolution, resolution) and their parts.
        """
        return self.synthesis(ws, resolution=resolution), self.read_parts(ws)

    def find_label(self, name: str) -> int:
        """Find the label of a class by its name.

        Args:
            name: One of ``label_names``.

        Returns:
            The label, from 0.

        Raises:
            GanvasError: There is no such class, or several are called so.
        """
        found = [label for label, each in enumerate(self.label_names) if each == name]
        if len(found) > 1:
            raise GanvasError(f"Generator {self.name!r} has {len(found)} classes {name!r}: labels {found}.")
        if found:
            return found[0]
        near = get_close_matches(name, self.label_names) or self.label_names[:8]
        names = f"there are {', '.join(near)}, …" if near else "its file names none"
        numbers = f"labels are 0 to {self.num_labels - 1}" if self.num_labels else "it takes no labels"
        raise GanvasError(f"Generator {self.name!r} has no class {name!r}: {names}; {numbers}.")

    def truncate(self, w: W, psi: float) -> W:
        """Truncate codes of W by ψ towards their mean, or towards another centre where the family has one.

        Args:
            w: Codes (n, w_dim).
            psi: The truncation; 1 leaves codes as they are, bit for bit.

        Returns:
            Codes (n, w_dim).
        """
        return truncate(w, self.w_avg, psi)

    def expand(self, w: W) -> WPlus:
        """Repeat codes of W for every row of W+, without copying memory.

        Args:
            w: Codes (n, w_dim).

        Returns:
            Codes (n, num_ws, w_dim) with equal rows.
        """
        return w.unsqueeze(1).expand(-1, self.num_ws, -1)


def check_resolution(generator: Generator, resolution: int | None) -> int:
    """Return the side of the pictures to draw, by default the generator's.

    Raises GanvasError where that can't be halved to ``resolution``.
    """
    sizes = [generator.resolution]
    while sizes[-1] % 2 == 0 and sizes[-1] > MIN_RESOLUTION:
        sizes.append(sizes[-1] // 2)
    if resolution is None or resolution in sizes:
        return resolution or generator.resolution
    raise unknown("resolution", resolution, map(str, sizes))


def check_labels(generator: Generator, z: Tensor, labels: Tensor | None) -> None:
    """Raise GanvasError where a conditional generator gets no labels (n, num_labels) for z (n, z_dim), or another gets some."""
    name, count = generator.name, generator.num_labels
    if labels is None and count:
        raise GanvasError(f"Generator {name!r} is conditional: give {count} labels for each picture.")
    if labels is not None and not count:
        raise GanvasError(f"Generator {name!r} is unconditional: it takes no labels.")
    if labels is not None and labels.shape != (z.shape[0], count):
        raise GanvasError(f"Labels for {name!r} have shape ({z.shape[0]}, {count}), not {tuple(labels.shape)}.")


def check_codes(generator: Generator, ws: Tensor) -> None:
    """Raise GanvasError where codes don't have the rows and dimensions of the generator."""
    if ws.shape[1:] != (generator.num_ws, generator.w_dim):
        raise GanvasError(
            f"Codes for {generator.name!r} have shape (n, {generator.num_ws}, {generator.w_dim}), not {tuple(ws.shape)}."
        )


def check_weights(state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]], kind: str) -> None:
    """Raise GanvasError where names or shapes of weights aren't those ``expected`` of a generator of this kind."""
    for name, size in expected.items():
        if name not in state:
            raise GanvasError(f"These are not the weights of such a {kind}: {name!r} is missing.")
        if tuple(state[name].shape) != size:
            raise GanvasError(
                f"These are not the weights of such a {kind}: {name!r} has shape {tuple(state[name].shape)}, not {size}."
            )
    for name in state:
        if name not in expected:
            raise GanvasError(f"These are not the weights of such a {kind}: {name!r} isn't one of them.")


def shrink(images: Tensor, size: int) -> Tensor:
    """Shrink pictures to ``size`` by block means; smaller ones stay as they are."""
    return F.avg_pool2d(images, images.shape[-1] // size) if images.shape[-1] > size else images


def copy_contiguous(codes: Tensor) -> Tensor:
    """Copy codes to contiguous memory of their own; differentiable.

    Some processors add in another order where numbers lie otherwise. With a copy, equal codes give equal pixels whether they were
    expanded, sliced or read from a file.
    """
    return codes.clone(memory_format=torch.contiguous_format)


def draw_z(generator: Generator, seeds: Iterable[int]) -> Z:
    """Draw one z for each seed: ``RandomState(seed).randn(z_dim)``, as NVIDIA's scripts do.

    So a seed is the same face on any device.

    Raises GanvasError for a seed outside 0 … 2³² - 1.
    """
    seeds = list(seeds)
    for seed in seeds:
        if not 0 <= seed < 2**32:
            raise GanvasError(f"A seed is a whole number from 0 to {2**32 - 1}, not {seed}.")
    # Seeding one state again gives what a new one would, which takes far longer to make.
    state, rows = np.random.RandomState(0), []
    for seed in seeds:
        state.seed(seed)
        rows.append(state.randn(generator.z_dim))
    # NumPy's memory is aligned by chance, and some processors then add in another order.
    return torch.tensor(np.stack(rows), dtype=torch.float32, device=generator.device)


def truncate(w: W, w_avg: Tensor, psi: float) -> W:
    """Truncate codes to ``w_avg + psi (w - w_avg)``; psi 1 leaves them as they are, bit for bit.

    Karras et al., *A Style-Based Generator Architecture for Generative Adversarial Networks*, 2019, appendix B,
    https://arxiv.org/abs/1812.04948.
    """
    return w if psi == 1 else torch.lerp(w_avg.to(w), w, psi)


def encode_label(generator: Generator, label: int) -> tuple[float, ...]:
    """Encode a label of a conditional generator, counted from 0, as a one-hot vector.

    Raises GanvasError for a label that it doesn't have.
    """
    if not 0 <= label < generator.num_labels:
        choices = f"its labels are 0 to {generator.num_labels - 1}" if generator.num_labels else "it takes no labels"
        raise GanvasError(f"Generator {generator.name!r} has no label {label}: {choices}.")
    return tuple(float(k == label) for k in range(generator.num_labels))


def assign_labels(generator: Generator, seeds: Iterable[int]) -> Labels | None:
    """Assign label ``seed % num_labels`` to each seed, one-hot (n, num_labels); None for an unconditional generator."""
    if not generator.num_labels:
        return None
    return torch.eye(generator.num_labels, device=generator.device)[[seed % generator.num_labels for seed in seeds]]


def map_seeds(generator: Generator, seeds: Iterable[int], labels: Labels | None = None) -> W:
    """Map seeds to codes of W (n, w_dim), of a conditional generator by default with the labels of ``assign_labels``.

    Raises GanvasError as ``draw_z`` does.
    """
    seeds = list(seeds)
    return generator.mapping(draw_z(generator, seeds), assign_labels(generator, seeds) if labels is None else labels)


@torch.no_grad()
def sample(generator: Generator, n: int, psi: float = 0.7, seed: int = 0, labels: Labels | None = None) -> WPlus:
    """Draw the codes of ``n`` consecutive seeds, truncated towards the mean of W.

    Args:
        generator: The generator whose codes are drawn.
        n: The number of codes, at least 1.
        psi: The truncation: 1 leaves codes as they are, smaller values give more typical pictures of less variety.
        seed: The first seed, from 0 to 2³² - 1; code ``i`` is that of ``seed + i``, the same on any device.
        labels: Conditions (n, num_labels) of a conditional generator; by default label ``seed % num_labels`` for each.

    Returns:
        Codes (n, num_ws, w_dim) with equal rows, on the generator's device.

    Raises:
        GanvasError: ``n`` is less than 1 or ``psi`` isn't finite, a seed is out of range, one of them is no number, or labels
            don't fit the generator.

    References:
        Karras et al., *A Style-Based Generator Architecture for Generative Adversarial Networks*, 2019, appendix B,
        https://arxiv.org/abs/1812.04948 (the truncation trick).
    """
    if not isinstance(n, Integral) or n < 1:
        raise GanvasError(f"The number of codes must be at least 1, a whole number, not {n}.")
    if not isinstance(seed, Integral):
        raise GanvasError(f"The seed must be a whole number, not {seed!r}.")
    if not isinstance(psi, Real) or not math.isfinite(float(psi)):
        raise GanvasError(f"psi must be a finite number, 1 or less for natural pictures, not {psi!r}.")
    w = map_seeds(generator, range(int(seed), int(seed + n)), labels)
    return generator.expand(generator.truncate(w, float(psi)))
