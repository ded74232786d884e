"""Find the parts of faces of `ffhq` in its features: spherical k-means, and clusters that were named by eye.

    python -m experiments.ffhq.face_parts --out DIR

Writes parts.safetensors, which ships as src/ganvas/assets/generators/ffhq-parts.safetensors, clusters.png, from which clusters
are named, and parts.png, fresh faces with their parts in colours. After another seed or number of clusters NAMED must be changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import torch.nn.functional as F
import typer
from torch import Tensor

from ganvas import load_generator, sample
from ganvas.generators.mobilestylegan import MobileStyleGAN
from ganvas.generators.parts import PARTS, PartReader, save_part_reader, select_members
from ganvas.io.figures import draw_grid
from ganvas.io.images import encode_png, to_bytes

SEED, FRESH_SEED, PSI = 4_000_000, 4_010_000, 0.9
CLUSTERS, SAMPLES, ROUNDS = 16, 40_000, 25
LAYER_SIDE, SHOWN_SIDE, SHOWN_FACES = 64, 256, 12
NAMED = {"hair": (1, 5, 6, 14), "face": (0, 2, 8, 9, 12, 13), "outline": (4,)}
"""The clusters of each part; the others are background and clothes."""
COLOURS = {"hair": (1.0, 0.0, 0.0), "face": (0.0, 1.0, 0.0), "outline": (1.0, 1.0, 0.0)}


def compute_features(generator: MobileStyleGAN, code: Tensor) -> Tensor:
    """Compute the features (1, channels, LAYER_SIDE, LAYER_SIDE) of a code (num_ws, w_dim)."""
    blocks = generator.iterate_features(generator.compute_styles(code))
    return next(x for x, _ in blocks if x.shape[2] == LAYER_SIDE).float()


def fit_clusters(features: Tensor) -> PartReader:
    """Fit spherical k-means to features (n, channels, height, width)."""
    places = features.permute(0, 2, 3, 1).flatten(0, 2)
    channels, random = places.shape[1], torch.Generator().manual_seed(0)
    members = select_members(NAMED, CLUSTERS)
    reader = PartReader(
        places.mean(0), places.std(0) + 1e-6, torch.zeros(CLUSTERS, channels), members, features.shape[2]
    )
    drawn = places[torch.randperm(len(places), generator=random)[:SAMPLES]]
    drawn = reader.normalize(drawn[:, :, None, None])[:, :, 0, 0]
    clusters = drawn[torch.randperm(len(drawn), generator=random)[:CLUSTERS]].clone()
    for _ in range(ROUNDS):
        nearest = (drawn @ clusters.T).argmax(1)
        for k in range(CLUSTERS):
            if (nearest == k).any():
                clusters[k] = F.normalize(drawn[nearest == k].mean(0), dim=0)
    reader.clusters.copy_(clusters)
    return reader


def paint(picture: Tensor, weights: Tensor, colours: Tensor) -> Tensor:
    """Paint weights (1, k, h, w) in ``colours`` (k, 3), from 0 to 1, over a picture (1, 3, height, width)."""
    weights = F.interpolate(weights, picture.shape[-2:], mode="bilinear", align_corners=False)
    return 0.35 * picture + 0.65 * (2 * torch.einsum("nkhw,kc->nchw", weights, colours) - 1)


@torch.no_grad()
def main(
    out: Annotated[Path, typer.Option(help="The folder.")],
    n: Annotated[int, typer.Option("-n", help="Faces whose features are clustered.")] = 96,
) -> None:
    """Write the clusters, and pictures of them."""
    generator = load_generator("ffhq", dtype=torch.bfloat16)
    if not isinstance(generator, MobileStyleGAN):
        raise TypeError("This experiment reads the features of a MobileStyleGAN.")
    out.mkdir(parents=True, exist_ok=True)
    reader = fit_clusters(torch.cat([compute_features(generator, code) for code in sample(generator, n, PSI, SEED)]))
    save_part_reader(out / "parts.safetensors", reader, generator.fingerprint)
    faces = sample(generator, SHOWN_FACES, PSI, FRESH_SEED).split(1)
    pictures = [generator.synthesis(code, resolution=SHOWN_SIDE) for code in faces]
    features = [compute_features(generator, code[0]) for code in faces]
    nearest = [
        torch.einsum("nchw,kc->nkhw", reader.normalize(each), reader.clusters).argmax(1, keepdim=True)
        for each in features
    ]
    cells = [
        paint(picture, (each == k).float(), torch.ones(1, 3))
        for k in range(CLUSTERS)
        for picture, each in zip(pictures, nearest, strict=True)
    ]
    numbers = [str(number + 1) for number in range(SHOWN_FACES)]
    write_sheet(out / "clusters.png", cells, [str(k) for k in range(CLUSTERS)], numbers)
    colours = torch.tensor([COLOURS[name] for name in PARTS])
    painted = [paint(picture, reader(each), colours) for picture, each in zip(pictures, features, strict=True)]
    write_sheet(out / "parts.png", [*pictures, *painted], ["picture", "parts"], numbers)


def write_sheet(path: Path, pictures: list[Tensor], rows: list[str], columns: list[str]) -> None:
    """Write pictures (1, 3, height, width) row by row."""
    path.write_bytes(encode_png(draw_grid(list(to_bytes(torch.cat(pictures))), rows, columns)))


if __name__ == "__main__":
    typer.run(main)
