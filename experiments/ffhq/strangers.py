"""How far strangers are apart: the distances of 256 random pairs of generated faces, by each judge of identity.

    python -m experiments.ffhq.strangers [--out FILE]

Seeds from 2,000,000 on, psi 1. The file ships as src/ganvas/assets/judges/strangers.safetensors; about three minutes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import ganvas
from ganvas.identity import JUDGES, STRANGERS, DescriptorEmbedder, FaceEmbedder, compute_distance, embed_faces
from ganvas.io.files import save_tensors
from ganvas.seeds import EVALUATION_SEED

PAIRS = 256
SIDE = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=STRANGERS)
    out = parser.parse_args().out
    generator = ganvas.load_generator("ffhq", dtype=torch.bfloat16)
    # Some more than needed: a detector misses a few faces.
    codes = ganvas.sample(generator, 2 * PAIRS + 64, psi=1, seed=EVALUATION_SEED)
    with torch.no_grad():
        faces = [generator.synthesis(ws[None], resolution=SIDE) for ws in codes]
    tensors = {}
    for name, embedder in zip(JUDGES, (FaceEmbedder(), DescriptorEmbedder()), strict=True):
        rows = embed_faces(faces, embedder)
        rows = rows[~rows.isnan().any(1)][: 2 * PAIRS]
        distances = compute_distance(rows[0::2], rows[1::2]).sort().values
        tensors[name] = distances
        low, middle, high = (float(distances[round(share * (PAIRS - 1))]) for share in (0.01, 0.5, 0.99))
        print(f"{name}: {len(distances)} pairs, median {middle:.3f} (1 % to 99 %: {low:.3f} to {high:.3f})", flush=True)
    save_tensors(out, tensors, {"kind": "strangers"})


if __name__ == "__main__":
    main()
