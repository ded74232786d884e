"""Export a run's generator in float16, with the mean of W of its averaged weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ganvas.errors import GanvasError
from ganvas.generators.base import draw_z
from ganvas.generators.stylegan2 import StyleGAN2, read_generator, save_generator
from ganvas.io.files import atomic_write, load_tensors
from ganvas.io.images import encode_png

MEAN_CODES = 20_000
"""Codes that the mean of W is taken over."""
MEAN_CODES_SEED = 4_000_000
"""The first of their seeds, after those of measured samples."""


@torch.no_grad()
def export_generator(
    weights: str | Path, out: str | Path, draw_sheet: Callable[[StyleGAN2], torch.Tensor]
) -> StyleGAN2:
    """Write the generator in ``weights`` to ``out`` in float16, and beside it (.png) the sheet (height, width, 3) uint8 that
    ``draw_sheet`` returns.

    During training the mean of W follows the generator's current weights, not their average: it is computed anew.
    Raises GanvasError for a file that holds no such generator.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise GanvasError(f"Can't write a generator to {out.name!r}: give a name that ends in .safetensors.")
    generator = read_generator(weights)
    state, metadata = load_tensors(weights)
    labels = None
    if n := generator.num_labels:
        labels = torch.eye(n).repeat(MEAN_CODES // n + 1, 1)[:MEAN_CODES]
    codes = draw_z(generator, range(MEAN_CODES_SEED, MEAN_CODES_SEED + MEAN_CODES))
    # From the weights as they are read back.
    halved = {name: value.half().float() for name, value in state.items()}
    w = StyleGAN2(halved, generator.shape).mapping(codes, labels)
    halved["mapping.w_avg"] = w.double().mean(0).float()
    save_generator(out, halved, generator.shape, torch.float16, metadata.get("training"))
    exported = read_generator(out)
    with atomic_write(out.with_suffix(".png")) as path:
        path.write_bytes(encode_png(draw_sheet(exported)))
    return exported
