"""From a run to a generator that ships: half the bytes, and a mean of W that belongs to the weights that are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from ganvas.errors import GanvasError
from ganvas.generators.base import draw_z
from ganvas.generators.stylegan2 import StyleGAN2, read_generator, save_generator
from ganvas.io.files import atomic_write, load_tensors
from ganvas.io.images import encode_png

CODES = 20_000
"""What the mean of W is taken over."""
CODES_SEED = 4_000_000
"""Where their seeds start: beyond those of samples that are judged."""


@torch.no_grad()
def export_generator(weights: str | Path, out: str | Path, draw: Callable[[StyleGAN2], torch.Tensor]) -> StyleGAN2:
    """Write the generator in ``weights`` to ``out`` in float16, and beside it (.png) the sheet (height, width, 3) uint8 that
    ``draw`` makes.

    While it trains, the mean of W follows the generator that learns, not the average of its weights that is kept: it is
    taken anew. Raises GanvasError for a file that holds no such generator.
    """
    out = Path(out)
    if out.suffix != ".safetensors":
        raise GanvasError(f"A generator is a .safetensors file, not {out.name!r}.")
    generator = read_generator(weights)
    state, about = load_tensors(weights)
    labels = None
    if n := generator.num_labels:
        labels = torch.eye(n).repeat(CODES // n + 1, 1)[:CODES]
    codes = draw_z(generator, range(CODES_SEED, CODES_SEED + CODES))
    # From the weights as they will be read.
    halved = {name: value.half().float() for name, value in state.items()}
    w = StyleGAN2(halved, generator.shape).mapping(codes, labels)
    halved["mapping.w_avg"] = w.double().mean(0).float()
    save_generator(out, halved, generator.shape, torch.float16, about.get("training"))
    made = read_generator(out)
    with atomic_write(out.with_suffix(".png")) as path:
        path.write_bytes(encode_png(draw(made)))
    return made
