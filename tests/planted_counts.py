"""A generator that draws a planted number of squares, its scorer, and labels: counts that tests know the truth of.

Four places are filled one after the other as a coordinate of the code rises through its quarters; what colour each square
has is said by a coordinate of its own. So the count moves along one direction, whatever the colours.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from ganvas import editors, sample
from ganvas.data.dataset import LatentDataset, Source, make_dataset
from ganvas.editors.cardinality import CardinalityEditor
from ganvas.generators.base import Generator
from ganvas.io.fingerprints import hash_weights
from ganvas.scorers.base import Scorer

DIM, ROWS, SIDE, MOST = 16, (4, 8, 16, 32), 32, 4
NAMES, KINDS = ("count", "red", "blue", "bright"), ("count", "count", "count", "value")
QUICK: dict[str, Any] = {"steps": 250, "classifier_steps": 500, "hidden": [64], "classifiers": 1, "rate": 0.01}


class Squares(Generator):
    """``along`` (w_dim,): moving a code by it adds a square; ``colours`` (4, w_dim): of each place, red above 0."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.z_dim, self.w_dim, self.resolution, self.row_resolutions = "squares", DIM, DIM, SIDE, ROWS
        basis = torch.linalg.qr(torch.randn(DIM, DIM, generator=torch.Generator().manual_seed(5))).Q
        self.basis, self.w_avg = torch.nn.Buffer(basis), torch.nn.Buffer(torch.full((DIM,), 0.5))
        self.along, self.colours = basis[:, 0], basis[:, 1 : 1 + MOST].T
        self.fingerprint = hash_weights([("basis", basis)])

    def mapping(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        # The first coordinate is even from 0 to 4: all counts are equally frequent. The colours hang on it a little.
        first = MOST * torch.special.ndtr(z[:, :1]) - MOST / 2
        rest = z[:, 1:] + 0.2 * first
        return torch.cat((first, rest), 1) @ self.basis.T + self.w_avg

    def planted(self, ws: Tensor) -> Tensor:
        """How many squares codes (n, num_ws, w_dim) stand for, (n,); each row has a say."""
        return ((ws.mean(1) - self.w_avg) @ self.along + MOST / 2).floor().clamp(0, MOST - 1).long() + 1

    def synthesis(self, ws: Tensor, resolution: int | None = None) -> Tensor:
        images = torch.full((len(ws), 3, SIDE, SIDE), -1.0)
        count, red = self.planted(ws), (ws[:, 0] - self.w_avg) @ self.colours.T > 0
        for place in range(MOST):
            y, x = 4 + 16 * (place // 2), 4 + 16 * (place % 2)
            square = torch.where(red[:, place, None], torch.tensor([1.0, -1, -1]), torch.tensor([-1.0, -1, 1]))
            drawn = torch.where((count > place)[:, None], square, torch.tensor(-1.0))
            images[:, :, y : y + 8, x : x + 8] = drawn[..., None, None]
        return images

    def style_weights(self) -> list[Tensor]:
        return []


class SquareScorer(Scorer):
    """Counts squares, red ones and blue ones; "bright" is the mean pixel, no count."""

    def __init__(self) -> None:
        super().__init__()
        self.name, self.attributes, self.kinds, self.fingerprint = "squares", NAMES, KINDS, "5" * 64

    def forward(self, images: Tensor) -> Tensor:
        red, blue = ((images[:, k] > 0).sum((1, 2)) / 64 for k in (0, 2))
        return torch.stack((red + blue, red, blue, images.mean((1, 2, 3))), 1)


SQUARES, JUDGE = Squares(), SquareScorer()


def counts(ws: Tensor) -> Tensor:
    """What the scorer reads off codes' pictures, (n, 4)."""
    return JUDGE(SQUARES.synthesis(ws))


@cache
def labels(n: int = 2000) -> LatentDataset:
    """Label seeds, scored."""
    ws = sample(SQUARES, n, 1.0, 1_000_000)
    scorer = f"{JUDGE.name}:{JUDGE.fingerprint}"
    return make_dataset(ws[:, 0].clone(), counts(ws), NAMES, KINDS, Source(), SQUARES.fingerprint, scorer)


@cache
def counter_editor() -> CardinalityEditor:
    """It moves the count alone; learned quickly."""
    editor = editors.fit("cardinality", labels(), SQUARES, recipe="paper", attributes=["count"], **QUICK)
    assert isinstance(editor, CardinalityEditor)
    return editor
