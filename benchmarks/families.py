"""Seconds per picture of StyleGAN, Progressive GAN and BigGAN-deep, beside the papers' formulas computed as their code does.

Random weights of the published widths (BigGAN-deep: of an eighth). The rivals are the formulas that tests compare pictures with,
in float32: nothing is folded. Contenders take turns, so that a busy machine slows both; medians of processor time are printed.

    python benchmarks/families.py
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import gan_layouts
import torch
from tensorflow_pickles import draw_stylegan1
from test_stylegan1 import convert, draw_pictures
from torch import Tensor

from ganvas import load_generator
from ganvas.generators.base import assign_labels, draw_z
from ganvas.generators.stylegan1 import StyleGAN1, StyleGAN1Architecture

REPEATS = 5
BIGGAN_CONFIG = gan_layouts.CONFIG | {
    "channel_width": 16, "z_dim": 128, "class_embed_dim": 128, "num_classes": 10, "attention_layer_position": 8, "n_stats": 51,
    "layers": [[False, 16, 16], [True, 16, 16], [False, 16, 16], [True, 16, 8], [False, 8, 8], [True, 8, 4], [False, 4, 4],
               [True, 4, 2], [False, 2, 2], [True, 2, 1]], "output_dim": 128,
}  # fmt: skip


@torch.no_grad()
def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for measure in (measure_stylegan1, measure_pggan, measure_biggan):
            measure(Path(folder))


def measure_stylegan1(_: Path) -> None:
    shape = StyleGAN1Architecture(256, (512, 512, 512, 512, 256, 128, 64))
    variables = draw_stylegan1(shape)
    generator, ws = StyleGAN1(convert(variables)[1], shape), torch.randn(1, 14, 512)
    compare("StyleGAN, 256 pixels", lambda: generator.synthesis(ws), lambda: draw_pictures(variables, shape, ws))


def measure_pggan(folder: Path) -> None:
    state = gan_layouts.make_genforce_state(widths=(512, 512, 512, 512, 256, 128))
    torch.save(state, folder / "pggan.pth")
    generator = load_generator(folder / "pggan.pth")
    z = draw_z(generator, [1])
    ws = generator.expand(z)
    compare(
        "Progressive GAN, 128 pixels",
        lambda: generator.synthesis(ws),
        lambda: gan_layouts.draw_genforce(state, z, torch.float32),
    )


def measure_biggan(folder: Path) -> None:
    state = gan_layouts.make_biggan_state(BIGGAN_CONFIG)
    torch.save(state, folder / "pytorch_model.bin")
    (folder / "config.json").write_text(json.dumps(BIGGAN_CONFIG), encoding="utf-8")
    generator = load_generator(folder)
    z, labels = draw_z(generator, [1]), assign_labels(generator, [1])
    ws = generator.expand(generator.mapping(z, labels))
    compare(
        "BigGAN-deep, 128 pixels",
        lambda: generator.synthesis(ws),
        lambda: gan_layouts.draw_biggan(state, z, labels, 1.0, BIGGAN_CONFIG, torch.float32),
    )


def compare(name: str, ours: Callable[[], Tensor], theirs: Callable[[], Tensor]) -> None:
    """Print the seconds of both, and the largest difference of their pictures."""
    seconds: dict[int, list[float]] = {0: [], 1: []}
    pictures = [ours(), theirs()]
    for _ in range(REPEATS):
        for i, draw in enumerate((ours, theirs)):
            began = time.process_time()
            draw()
            seconds[i].append(time.process_time() - began)
    own, other = (statistics.median(each) for each in seconds.values())
    error = float((pictures[0] - pictures[1]).abs().max() / pictures[1].std())
    print(
        f"{name}: ganvas {own:.3f} s, the formulas {other:.3f} s, {other / own:.2f} times; they differ by {error:.1e} σ"
    )


if __name__ == "__main__":
    main()
