"""dlib's distances between different generated faces: the quantiles that the web app's words for likeness rest on.

    python -m experiments.ffhq.stranger_distances [-n 200]

Faces of the seeds from 2,000,000 on, not truncated, drawn at 256 pixels; every pair of them is one of strangers.
"""

from __future__ import annotations

import argparse

import torch

import ganvas
from ganvas.app.likeness import STRANGER_SHARES
from ganvas.identity import FaceEmbedder, is_face_missing
from ganvas.seeds import EVALUATION_SEED


def main() -> None:
    """Print the quantiles."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=200)
    n = parser.parse_args().n
    generator, embedder = ganvas.load_generator("ffhq", dtype=torch.bfloat16), FaceEmbedder()
    rows = []
    with torch.no_grad():
        for ws in ganvas.sample(generator, n, psi=1.0, seed=EVALUATION_SEED).split(1):
            rows.append(embedder(generator.synthesis(ws, resolution=256)))
    embeddings = torch.cat(rows)
    faces = embeddings[~is_face_missing(embeddings)]
    distances = torch.cdist(faces, faces, compute_mode="donot_use_mm_for_euclid_dist")
    pairs = distances[torch.ones_like(distances, dtype=torch.bool).triu(1)]
    print(f"{len(faces)} faces, {len(pairs)} pairs")
    for share in STRANGER_SHARES:
        print(f"{share:6.1%} of the pairs are nearer than {float(pairs.quantile(share)):.3f}")


if __name__ == "__main__":
    main()
