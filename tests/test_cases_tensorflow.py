"""Files of StyleGAN and StyleGAN2 in the layouts that people publish, and what the original codes compute from them.

``GANVAS_CASES`` names the folder of these files; without it, nothing here is tried.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ganvas import checkpoints
from ganvas.checkpoints.load import load_generator
from ganvas.generators.base import truncate
from ganvas.generators.stylegan1 import StyleGAN1

CASES = Path(os.environ["GANVAS_CASES"]) if "GANVAS_CASES" in os.environ else None
pytestmark = pytest.mark.skipif(CASES is None, reason="GANVAS_CASES names no folder of published layouts")
TOLERANCE = 1e-4
"""The largest error of a pixel, in standard deviations of the expected picture."""
FILES = (
    "tensorflow/stylegan2.pkl",
    "tensorflow/stylegan2-protocol4.pkl",
    "tensorflow/stylegan2-conditional.pkl",
    "tensorflow/stylegan1.pkl",
    "tensorflow/stylegan1-conditional.pkl",
    "tensorflow/stylegan1-128.pkl",
    "stylegan1-pytorch/genforce-stylegan1.pth",
    "stylegan1-pytorch/rosinality-stylegan1.model",
    "stylegan1-pytorch/rosinality-stylegan1-train.model",
)


def locate(name: str) -> Path:
    assert CASES is not None
    return CASES / name


def read_expected(name: str) -> dict[str, Tensor]:
    path = locate(name).with_suffix(".expected.npz")
    return {key: torch.from_numpy(np.asarray(value)) for key, value in np.load(path).items()}


def measure_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.std())


@pytest.mark.parametrize("name", FILES)
def test_pictures_are_those_of_the_original_code(name: str) -> None:
    generator, expected = load_generator(locate(name)), read_expected(name)
    w = generator.mapping(expected["z"], expected.get("c"))
    assert generator.resolution == int(expected.get("size", expected["image"].shape[-1]))
    assert measure_error(generator.expand(w), expected["ws"]) < TOLERANCE
    assert measure_error(generator.synthesis(expected["ws"]), expected["image"]) < TOLERANCE
    assert measure_error(generator.synthesis(generator.expand(w)), expected["image"]) < TOLERANCE
    if "image_psi07" in expected:
        # Some files store no mean of W: what is expected then names its own.
        ws = generator.expand(truncate(w, expected.get("w_avg", generator.w_avg), 0.7))
        assert measure_error(ws, expected.get("ws_psi07", ws)) < TOLERANCE
        assert measure_error(generator.synthesis(ws), expected["image_psi07"]) < TOLERANCE


@pytest.mark.parametrize("name", FILES)
def test_a_copy_draws_the_same(name: str, tmp_path: Path) -> None:
    generator = load_generator(locate(name))
    checkpoints.read(locate(name)).save(tmp_path / "copy.safetensors")
    again = load_generator(tmp_path / "copy.safetensors")
    assert again.fingerprint == generator.fingerprint
    ws = read_expected(name)["ws"]
    assert torch.equal(again.synthesis(ws), generator.synthesis(ws))


def test_equal_networks_of_two_protocols_have_one_fingerprint() -> None:
    first, second = (load_generator(locate(f"tensorflow/stylegan2{end}.pkl")) for end in ("", "-protocol4"))
    assert first.fingerprint == second.fingerprint
    name = "tensorflow/stylegan2.pkl"
    assert any("Gs is read" in note for note in checkpoints.read(locate(name)).notes)


def test_noise_weights_of_a_file_without_noise_are_kept() -> None:
    name = "stylegan1-pytorch/rosinality-stylegan1.model"
    checkpoint, expected = checkpoints.read(locate(name)), read_expected(name)
    noise = {
        f"synthesis.layer{i}.noise_const": expected[f"noise{i // 2}"][0, 0] for i in range(expected["ws"].shape[1])
    }
    generator = StyleGAN1({**checkpoint.state, **noise}, checkpoint.metadata["shape"])
    assert measure_error(generator.synthesis(expected["ws"]), expected["image_noise"]) < TOLERANCE


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tensorflow/stylegan1-128.pkl", ("stylegan1", "128×128", "12 rows", "Gs is read")),
        ("tensorflow/stylegan2-conditional.pkl", ("stylegan2", "32×32", "3 labels", "skip")),
        ("stylegan1-pytorch/rosinality-stylegan1.model", ("32×32", "trained up to 32 of 1024 pixels", "mean of W")),
    ],
)
def test_what_a_file_is_is_described(name: str, words: tuple[str, ...]) -> None:
    lines = "\n".join(checkpoints.describe_file(locate(name)))
    assert [word for word in words if word not in lines] == []
