"""Fit the judge omi_reading, and measure it out of fold.

    python -m experiments.ffhq.omi_reading OMI --out out/omi_reading.safetensors

OMI: ``omi.parquet``, faces with people's mean ratings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from experiments.ffhq.face_attributes import (
    DARKNESS,
    OMI_RATINGS,
    RATINGS,
    cross_fit,
    fit_ridge,
    measure_rank,
    read_omi,
)
from ganvas.io.files import save_tensors
from ganvas.io.images import downscale
from ganvas.scorers.networks.dlib_features import FrozenNetwork
from ganvas.scorers.omi_reading import ATTRIBUTES

PENALTY = 1.0
NAMES = {"Age": "age", "Male": RATINGS["Male"][0], "Smiling": RATINGS["Smiling"][0], **OMI_RATINGS}
"""Attribute -> rating."""


@torch.no_grad()
def main(
    omi: Annotated[Path, typer.Argument(help="omi.parquet.")],
    out: Annotated[Path, typer.Option(help="The file to write.")],
) -> None:
    """Fit the layer, print its rank correlations with ratings of other faces, and write it."""
    network = FrozenNetwork(len(ATTRIBUTES)).eval()
    pictures, ratings = read_omi(omi)
    rows = []
    for picture in pictures:
        x = downscale(downscale(picture), network.size)
        # The mean over a picture and its mirror image: the layer is linear.
        rows.append((network.describe(x) + network.describe(x.flip(3))) / 2)
    features = torch.cat(rows).double()
    spread = (features.std(0) + 0.05) * features.shape[1] ** 0.5
    layers = []
    for name in ATTRIBUTES:
        values = ratings[NAMES[name]]
        values = 100 - values if name in DARKNESS else values
        layers.append(fit_ridge(features, values, PENALTY, spread))
        print(f"{name}: {measure_rank(cross_fit(features, values, PENALTY, spread), values):.3f}")
    tensors = {
        "weight": torch.stack([x.weight for x in layers]).half(),
        "bias": torch.stack([x.bias for x in layers]).float(),
    }
    save_tensors(out, tensors, {"scorer": "omi_reading"})


if __name__ == "__main__":
    typer.run(main)
