"""How well faces are inverted: 32 generated faces, whose codes are known, and photographs.

    python -m experiments.ffhq.inversion_quality [-n 32] [--steps 40] [--methods encoder,both] [--encoder FILE]
    [--photos DIR --sheet FILE]

For the generated faces (seeds from 2,000,000 on, which nothing learned from): dlib's distance to the original by encoder
alone, and by encoder and optimisation, beside the distances of random pairs; PSNR, SSIM, the Mahalanobis distance of the
code from W, and CPU seconds a face. With --photos the same figures for the largest face of each photograph in a folder,
and a sheet: photograph, inversion, three edits (what the inversion missed put back); at its left what celeba40 reads off each
(Smiling/Eyeglasses/Young).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

import ganvas
from ganvas import identity, inversion
from ganvas.editors import load_editor
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.inversion import OptimizationConfig
from ganvas.io.figures import draw_grid
from ganvas.io.images import downscale, encode_png, to_bytes
from ganvas.scorers import load_scorer
from ganvas.seeds import EVALUATION_SEED

EDITS = {"Smiling": 1.5, "Eyeglasses": 1.5, "Young": -1.5}
Rows = list[tuple[inversion.InversionQuality, float]]
"""Measures and CPU seconds of each face."""
Inverter = Callable[[torch.Tensor, str], tuple[inversion.Inversion, inversion.InversionQuality, float]]
"""A picture and a method, to its inversion, measures and CPU seconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=32)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--space", default="w+")
    parser.add_argument("--methods", default="encoder,both")
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--sheet", type=Path, default=Path("inversion.png"))
    args = parser.parse_args()
    methods = args.methods.split(",")
    generator = ganvas.load_generator("ffhq", dtype="auto")
    encoder = inversion.read_encoder(args.encoder, generator) if args.encoder else inversion.load_encoder(generator)
    distribution = inversion.fit_w_distribution(generator)

    def invert(target: torch.Tensor, method: str) -> tuple[inversion.Inversion, inversion.InversionQuality, float]:
        start = time.process_time()
        options = OptimizationConfig(steps=args.steps)
        inverted = inversion.invert(
            target, generator, args.space, method, options, encoder=encoder, distribution=distribution
        )
        seconds = time.process_time() - start
        return (
            inverted,
            inversion.measure_inversion(inverted.ws, inverted.pictures, target, generator, distribution)[0],
            seconds,
        )

    print(f"ffhq, {args.space}, {args.steps} steps at most")
    if args.n:
        measure_generated(args.n, generator, invert, methods)
    if args.photos:
        measure_photographs(args.photos, generator, invert, methods, args.sheet)


def measure_generated(n: int, generator: Generator, invert: Inverter, methods: list[str]) -> None:
    """Invert generated faces and print medians."""
    codes = ganvas.sample(generator, n, psi=1, seed=EVALUATION_SEED)
    with torch.no_grad():
        faces = [generator.synthesis(ws[None]) for ws in codes]
    embeddings = identity.embed_faces(faces)
    pairs = identity.measure_random_pairs(embeddings)
    low, high = pairs.distance_range
    print(f"random pairs of {pairs.faces} generated faces: distance {pairs.distance:.3f} ({low:.3f} to {high:.3f})")
    for method in methods:
        rows: Rows = []
        for face in faces:
            _, measures, seconds = invert(face, method)
            rows.append((measures, seconds))
        print_medians(method, rows)


def print_medians(title: str, rows: Rows) -> None:
    """Print the medians of a method's rows."""

    def median(values: list[float]) -> float:
        return float(torch.tensor(values).median()) if values else float("nan")

    qualities = [measures for measures, _ in rows]
    same = [measures.identity for measures in qualities if measures.identity is not None]
    print(
        f"{title:10} n={len(rows)}: identity {median(same):.3f} ({len(same)} with a face), "
        f"PSNR {median([m.psnr for m in qualities]):.1f}, SSIM {median([m.ssim for m in qualities]):.3f}, "
        f"from W {median([m.mahalanobis for m in qualities]):.1f} of {qualities[0].bound:.1f}, "
        f"{median([seconds for _, seconds in rows]):.1f} s of CPU",
        flush=True,
    )


def measure_photographs(folder: Path, generator: Generator, invert: Inverter, methods: list[str], sheet: Path) -> None:
    """Invert the largest face of each photograph, print measures, and draw the sheet."""
    editor, judge = load_editor("ffhq/compact", generator), load_scorer("celeba40")
    columns = [judge.attributes.index(name) for name in EDITS]
    pictures, names, targets, rows = [], [], [], {method: [] for method in methods}
    for path in inversion.find_pictures([folder]):
        try:
            target = inversion.align(inversion.read_photo(path), generator.resolution, 1)[0].picture
        except GanvasError as error:
            print(f"{path.name}: {error}")
            continue
        line = path.name
        targets.append(target)
        for method, values in rows.items():
            inverted, measures, seconds = invert(target, method)
            values.append((measures, seconds))
            same = float("nan") if measures.identity is None else measures.identity
            line += f"   {method}: identity {same:.3f}, PSNR {measures.psnr:.1f}, from W {measures.mahalanobis:.1f}"
        print(line, flush=True)
        scores = []
        with torch.no_grad():
            shown = [target, inverted.pictures]
            for name, change in EDITS.items():
                edited = generator.synthesis(editor.edit(inverted.ws, {name: change}))
                shown.append(inversion.add_residual(edited, inverted.pictures, target))
            for picture in shown:
                small = downscale(picture, 256)
                pictures.append(to_bytes(small)[0])
                scores.append("/".join(f"{p:.2f}" for p in judge(small).sigmoid()[0, columns].tolist()))
        names.append(path.stem + "\n" + "\n".join(scores))
        wide = ["photograph", "inversion", *(f"{name} {change:+g}" for name, change in EDITS.items())]
        sheet.write_bytes(encode_png(draw_grid(pictures, names, wide)))
    if len(targets) > 1:
        pairs = identity.measure_random_pairs(identity.embed_faces(targets))
        low, high = pairs.distance_range
        print(f"pairs of the {pairs.faces} photographs: distance {pairs.distance:.3f} ({low:.3f} to {high:.3f})")
    for method, values in rows.items():
        print_medians(method, values)


if __name__ == "__main__":
    main()
