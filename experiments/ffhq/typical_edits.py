"""How often large edits leave no face, straight ones and those that keep codes typical in P.

    python -m experiments.ffhq.typical_edits ffhq/compact-2 -n 32

Each of EDITS is made once, twice and three times as large, of faces of psi 1, everywhere in the picture. A face is found where
dlib's detector, which nothing here was trained with, finds one. Distances in P are medians of `PSpace.measure_distance`; "left W"
is the share beyond the 99.9th percentile of the Mahalanobis distance in W.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
import typer

from ganvas import load_editor, load_generator, sample
from ganvas.data.distribution import fit_distribution
from ganvas.editors.base import Editor, collect_metadata
from ganvas.editors.compact import CompactEditor, from_tensors
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.identity import FaceEmbedder, is_face_missing
from ganvas.progress import show_count
from ganvas.types import WPlus

SEED, SIDE = 2_160_000, 256
EDITS = ({"Male": 1.5}, {"Male": -1.5}, {"Age": 1.5}, {"Wearing_Lipstick": -1.5}, {"Eyeglasses": 1.5}, {"Smiling": 1.5})
SIZES = (1, 2, 3)


def make_straight(editor: CompactEditor) -> CompactEditor:
    """Return a copy whose edits aren't kept typical."""
    metadata = collect_metadata(editor)
    tensors = {
        name: tensor for name, tensor in editor.state_dict().items() if not name.startswith(("p_", "probe", "gauss"))
    }
    return from_tensors(tensors, replace(metadata, options={**metadata.options, "keep_typical": False}))


def count_faces(generator: Generator, embedder: FaceEmbedder, ws: WPlus) -> int:
    """Count the pictures in which a face is found."""
    return sum(not is_face_missing(embedder(generator.synthesis(code, resolution=SIDE)))[0] for code in ws.split(1))


def main(
    editor: Annotated[str, typer.Argument(help="A compact editor that keeps codes typical.")] = "ffhq/compact-2",
    n: Annotated[int, typer.Option("-n", help="How many faces.")] = 32,
) -> None:
    """Print a table."""
    generator = load_generator("ffhq", dtype="auto")
    kept = load_editor(editor, generator)
    if not isinstance(kept, CompactEditor) or kept.p_space is None:
        raise GanvasError(f"Editor {editor!r} doesn't keep codes typical.")
    space, distribution = kept.p_space, fit_distribution(generator)
    ways: dict[str, Editor] = {"straight": make_straight(kept), "typical": kept}
    ws, embedder = sample(generator, n, 1.0, SEED), FaceEmbedder()
    rows = []
    with torch.no_grad(), show_count("Edits") as progress:
        print(f"Of {n} faces before, {count_faces(generator, embedder, ws)} are found.\n")
        for k, edit in enumerate(EDITS):
            for size in SIZES:
                changes = {name: size * value for name, value in edit.items()}
                cells = [" ".join(f"{name} {value:+g}" for name, value in changes.items())]
                for way in ways.values():
                    edited = way.edit_quietly(ws, changes)
                    left = (~distribution.contains(edited)).float().mean()
                    distance = float(space.measure_distance(edited).amax(1).median())
                    cells.append(
                        f"{count_faces(generator, embedder, edited) / n:.2f} / {distance:.2f} / {float(left):.2f}"
                    )
                rows.append(f"| {' | '.join(cells)} |")
                progress(k * len(SIZES) + size, len(EDITS) * len(SIZES))
    print("| edit | straight: face found / distance in P / left W | kept typical |\n|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    typer.run(main)
