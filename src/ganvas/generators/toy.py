"""A generator with planted directions, so that tests can check whether an editor finds them.

Weights are integers and simple fractions, so they and the fingerprint are the same on every machine.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, check_resolution, copy_contiguous, shrink
from ganvas.io.fingerprints import hash_weights
from ganvas.io.hub import Card
from ganvas.precision import accept_any_float
from ganvas.types import Images, Labels, W, WPlus, Z

DIM = 64
ROWS = (4, 8, 16, 32)
SIDE = ROWS[-1]
NUISANCES = 3
"""Styles per row that change the picture's texture and no attribute."""

GREY, RED, PINK = (1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (0.5, -1.0, 0.5)
"""Three colours, orthogonal to one another: what is drawn in one is invisible in the others."""
BRIGHT, STRIPES, REDNESS, TEXTURE = 0.3, 0.15, 0.15, 0.02
"""The most that a style moves the pixels; all of them together stay within [-1, 1]."""
BLOB, WIDTH, WIDTH_SPAN, PLACE_SPAN = 0.4, 2.4, 0.8, 4.0
"""The blob's height, its mean standard deviation in pixels, and the ranges of that and of its place in pixels."""


class PlantedAttribute(NamedTuple):
    """An attribute: the row of W+ that draws it, and how the distribution of W entangles it with another."""

    row: int
    other: str = ""
    correlation: float = 0.0


PLANTED = {
    "Bright": PlantedAttribute(0),
    "Red": PlantedAttribute(1, "Bright", 0.6),
    "Big": PlantedAttribute(2),
    "Right": PlantedAttribute(2),
    "Striped": PlantedAttribute(3, "Big", -0.6),
}
"""Bright: the upper half. Red: rather than blue. Big: the blob. Right: the blob's place. Striped: the lower half."""

LEAKY_MEAN, LEAKY_STD = 0.319154, 0.646637
"""Mean and standard deviation of leaky ReLU(0.2) of a standard normal variable: 0.8/√(2π), √(0.52 - mean²)."""


def load(card: Card, device: torch.device, dtype: torch.dtype) -> Toy:
    """Load the toy generator."""
    return Toy(card.name, dtype).to(device)


class Toy(Generator):
    """A small generator whose attributes have known directions in W.

    Adding ``planted[a]`` (a unit vector) to every row of a code moves attribute ``a`` by one standard deviation of its
    distribution, and no other attribute; ``coordinates`` returns the attributes of codes.

    In W, Red goes with Bright (correlation 0.6) and Striped against Big (-0.6), so the difference between the means of
    codes with much and with little of one attribute is not its direction.
    """

    def __init__(self, name: str = "toy", dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.name, self.dtype = name, dtype
        self.z_dim = self.w_dim = DIM
        self.resolution, self.row_resolutions = SIDE, ROWS
        rng = np.random.RandomState(20_210_721)
        first, second, basis = (_orthogonal(rng) for _ in range(3))
        w_avg = rng.randint(-8, 9, DIM) / 16
        state = {"mapping.0": first, "mapping.1": second, "mix": _mix(basis), "w_avg": w_avg}
        for i, side in enumerate(ROWS):
            directions = [basis[:, k] for k, a in enumerate(PLANTED) if PLANTED[a].row == i]
            start = len(PLANTED) + NUISANCES * i
            affine = np.stack(directions + [basis[:, start + j] / 2 for j in range(NUISANCES)])
            state[f"affine.{i}.weight"], state[f"affine.{i}.bias"] = affine, -(affine @ w_avg)
            state[f"texture.{i}"] = np.stack([_texture(rng, side) for _ in range(NUISANCES)])
        for key, value in state.items():
            self.register_buffer(key.replace(".", "_"), torch.from_numpy(value).float())
        for key in [f"texture.{i}" for i in range(len(ROWS))]:
            self.register_buffer(key.replace(".", "_"), self.get_buffer(key.replace(".", "_")).to(dtype))
        self.planted = {a: torch.from_numpy(basis[:, k]).float() for k, a in enumerate(PLANTED)}
        self.fingerprint = hash_weights(
            (key, torch.from_numpy(value)) for key, value in state.items() if key != "w_avg"
        )

    def mapping(self, z: Z, labels: Labels | None = None) -> W:
        """Apply two rotations, each with a leaky ReLU after it (so every w has one z), then the planted mixture."""
        if labels is not None:
            raise GanvasError(f"Generator {self.name!r} is unconditional: it takes no labels.")
        for i in (0, 1):
            z = (F.leaky_relu(F.linear(z, self.get_buffer(f"mapping_{i}")), 0.2) - LEAKY_MEAN) / LEAKY_STD
        return F.linear(z, self.get_buffer("mix")) + self.w_avg

    @accept_any_float(torch.float32)
    def compute_coordinates(self, ws: WPlus) -> Tensor:
        """Return the attributes of codes, (n, attributes) in the order of ``PLANTED``, in standard deviations."""
        columns = [(ws[:, PLANTED[a].row] - self.w_avg) @ self.planted[a].to(ws) for a in PLANTED]
        return torch.stack(columns, 1)

    def style_weights(self) -> list[Tensor]:
        """Return the affine layer of each row: its attributes' directions, then half as strong those of the texture."""
        return [self.get_buffer(f"affine_{i}_weight") for i in range(len(ROWS))]

    def synthesis(self, ws: WPlus, resolution: int | None = None) -> Images:
        """Draw pictures (n, 3, 32, 32), or smaller ones: each style goes through tanh, then into its colour and place."""
        if ws.shape[1:] != (self.num_ws, self.w_dim):
            raise GanvasError(
                f"Codes for {self.name!r} have shape (n, {self.num_ws}, {self.w_dim}), not {tuple(ws.shape)}."
            )
        styles, grey = {}, 0
        for i, row in enumerate(copy_contiguous(ws).unbind(1)):
            # Not by F.linear: a product's last digits could change with the batch.
            style = (row[:, None] * self.get_buffer(f"affine_{i}_weight")).sum(2) + self.get_buffer(f"affine_{i}_bias")
            style = torch.tanh(style / 2)[..., None, None]
            here = [a for a in PLANTED if PLANTED[a].row == i]
            styles |= {a: style[:, k] for k, a in enumerate(here)}
            grey = grey + (style[:, len(here) :].to(self.dtype) * self.get_buffer(f"texture_{i}")).sum(1)
        y, x = build_pixel_grid(ws.device)
        upper, stripes = (y < SIDE / 2).float(), build_stripe_pattern(ws.device)
        width = WIDTH + WIDTH_SPAN * styles["Big"]
        square = (x - SIDE / 2 - PLACE_SPAN * styles["Right"]).square() + (y - SIDE / 2).square()
        blob = BLOB * torch.exp(-square / (2 * width.square()))
        grey = TEXTURE * grey + BRIGHT * upper * styles["Bright"] + STRIPES * stripes * styles["Striped"]
        red = (REDNESS * styles["Red"]).expand_as(blob)
        colours = torch.tensor([GREY, RED, PINK], device=ws.device)[..., None, None]
        layers = torch.stack((grey.float(), red, blob), 1)[:, :, None] * colours
        return shrink(layers.to(self.dtype).sum(1).float(), check_resolution(self, resolution))


def build_pixel_grid(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the pixels' centres from above (32, 1) and from the left (32,), in pixels."""
    along = torch.arange(SIDE, device=device) + 0.5
    return along[:, None], along


def build_stripe_pattern(device: torch.device) -> Tensor:
    """Return the lower half in four bands of +1 and -1, 0 above, shape (32, 1)."""
    y, _ = build_pixel_grid(device)
    return torch.where(y < SIDE / 2, 0.0, 1.0 - 2.0 * ((y / 4).floor() % 2))


def _orthogonal(rng: np.random.RandomState) -> np.ndarray:
    """Draw a Hadamard matrix with rows and columns shuffled and signs flipped: orthogonal, and ±1/8 exactly."""
    matrix = np.ones((1, 1))
    while len(matrix) < DIM:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    signs = 1.0 - 2 * rng.randint(0, 2, (2, DIM))
    return (signs[0][:, None] * matrix * signs[1])[rng.permutation(DIM)][:, rng.permutation(DIM)] / 8


def _mix(basis: np.ndarray) -> np.ndarray:
    """Build the map from independent sources to W: attributes with variance 1 and planted correlations, the rest ever weaker."""
    names = list(PLANTED)
    mix = basis / (1 + np.maximum(np.arange(DIM) - len(names), 0) / 8)
    for k, name in enumerate(names):
        _, other, correlation = PLANTED[name]
        if other:
            mix[:, names.index(other)] += correlation * basis[:, k]
            mix[:, k] = 0.8 * basis[:, k]  # √(1 - 0.6²)
    return mix


def _texture(rng: np.random.RandomState, side: int) -> np.ndarray:
    """Draw ±1 in blocks of 32/side pixels; each row sums to 0, so that brightness and stripes are orthogonal to it."""
    signs = np.stack([rng.permutation([-1.0, 1.0] * (side // 2)) for _ in range(side)])
    return np.kron(signs, np.ones((SIDE // side, SIDE // side)))
