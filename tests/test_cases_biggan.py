"""BigGAN-deep and Progressive GANs in the folder that GANVAS_CASES names: pictures are those of the original code."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ganvas import checkpoints, load_generator

CASES = Path(os.environ.get("GANVAS_CASES") or "/nowhere")
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="GANVAS_CASES names no folder of cases")
TOLERANCE = 1e-4
"""Of the standard deviation of the expected picture."""


def compute_error(images: torch.Tensor, expected: np.ndarray) -> float:
    truth = torch.from_numpy(expected)
    return float((images - truth).abs().max() / truth.std())


@pytest.mark.parametrize("name", ["gan-zoo-pgan", "genforce-pggan"])
@torch.no_grad()
def test_progressive_gans(name, tmp_path):
    path, expected = CASES / "pggan" / f"{name}.pth", np.load(CASES / "pggan" / f"{name}.expected.npz")
    generator = load_generator(path)
    w = generator.mapping(torch.from_numpy(expected["z"]))
    assert compute_error(generator.synthesis(generator.expand(w)), expected["image"]) < TOLERANCE
    checkpoints.read(path).save(tmp_path / "own.safetensors")
    assert load_generator(tmp_path / "own.safetensors").fingerprint == generator.fingerprint


@pytest.mark.parametrize("whole", [True, False])
@torch.no_grad()
def test_biggan_deep_at_truncations_with_and_between_stored_statistics(whole, tmp_path):
    folder = CASES / "biggan" / "biggan-deep-128"
    generator, expected = (
        load_generator(folder if whole else folder / "pytorch_model.bin"),
        np.load(folder / "expected.npz"),
    )
    z, labels = (torch.from_numpy(expected[name]) for name in ("z", "c"))
    for truncation, name in ((1.0, "image"), (0.4, "image_t04"), (0.435, "image_t0435")):
        generator.set_truncation(truncation)
        for w in (
            generator.truncate(generator.mapping(z, labels), truncation),
            generator.mapping(truncation * z, labels),
        ):
            assert compute_error(generator.synthesis(generator.expand(w)), expected[name]) < TOLERANCE
    generator.set_truncation(1)
    checkpoints.read(folder).save(tmp_path / "own.safetensors")
    assert load_generator(tmp_path / "own.safetensors").fingerprint == generator.fingerprint
