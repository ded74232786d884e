"""Generators written as other code's state dicts: read back, tensor for tensor, as the layouts that are published."""

from __future__ import annotations

import os
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ganvas import GanvasError, checkpoints
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.checkpoints.export import export_checkpoint
from ganvas.cli import main
from ganvas.generators.stylegan2 import KIND, VERSION
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture

CASES = Path(os.environ.get("GANVAS_CASES", ""))
needs_cases = pytest.mark.skipif(
    not os.environ.get("GANVAS_CASES") or not CASES.is_dir(), reason="GANVAS_CASES names no folder of cases"
)
PLAIN = StyleGAN2Architecture(16, (12, 10, 8), z_dim=24, w_dim=24, mapping_layers=2)


def random_checkpoint(shape: StyleGAN2Architecture) -> Checkpoint:
    random = torch.Generator().manual_seed(0)
    state = {name: torch.randn(size, generator=random) for name, size in shape.list_weight_shapes().items()}
    return Checkpoint(
        "stylegan2", "a test", state, {"kind": KIND, "family": "stylegan2", "version": VERSION, "shape": shape}
    )


def pictures(checkpoint: Checkpoint) -> torch.Tensor:
    generator = checkpoint.build_generator("x")
    z = torch.randn(2, generator.z_dim, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return generator.synthesis(generator.expand(generator.mapping(z)))


def test_rosinality_reads_back_bit_for_bit(tmp_path: Path) -> None:
    own = random_checkpoint(PLAIN)
    for name in ("a.pt", "other name.pt"):
        export_checkpoint(own, tmp_path / name, "rosinality")
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "other name.pt").read_bytes()
    back = checkpoints.read(tmp_path / "a.pt")
    assert back.state.keys() == own.state.keys() and not back.notes
    assert all(torch.equal(value, own.state[name]) for name, value in back.state.items())
    assert torch.equal(pictures(back), pictures(own))


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("num_labels", [0, 3])
def test_nvidia_has_every_tensor_and_only_tensors(architecture, num_labels, tmp_path: Path) -> None:
    own = random_checkpoint(replace(PLAIN, architecture=architecture, num_labels=num_labels))
    export_checkpoint(own, tmp_path / "a.pt", "nvidia")
    state = torch.load(tmp_path / "a.pt", weights_only=True)
    filters = {name for name in state if name.endswith("resample_filter")}
    assert {name for name in state if name not in filters} == set(own.state)
    assert all(torch.equal(state[name], value) for name, value in own.state.items())
    assert all(float(state[name].sum()) == 1 and state[name].shape == (4, 4) for name in filters)
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        pickle = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
    assert b"ganvas" not in pickle


@pytest.mark.parametrize(
    ("change", "layout", "words"),
    [
        ({"num_labels": 3}, "rosinality", "takes labels"),
        ({"architecture": "resnet"}, "rosinality", "'resnet'"),
        ({"colours": 1}, "rosinality", "1 colour"),
        ({"z_dim": 8}, "rosinality", "z of 8"),
        ({"learning_rate_multiplier": 1.0}, "rosinality", "multiplier of 1"),
        ({"bounded": True}, "nvidia", "bounds its output"),
        ({}, "onnx", "Unknown format"),
    ],
)
def test_what_a_layout_has_no_place_for_is_refused(change, layout, words, tmp_path: Path) -> None:
    with pytest.raises(GanvasError, match=words):
        export_checkpoint(random_checkpoint(replace(PLAIN, **change)), tmp_path / "a.pt", layout)
    assert not (tmp_path / "a.pt").exists()


@needs_cases
def test_a_file_of_rosinality_comes_out_as_it_went_in(tmp_path: Path) -> None:
    file = CASES / "rosinality" / "latent-avg-2d.pt"
    with pytest.raises(SystemExit, match="^0$"):
        main(["export", str(file), "--format", "rosinality", "--out", str(tmp_path / "a.pt")])
    written, original = (torch.load(path, weights_only=True) for path in (tmp_path / "a.pt", file))
    assert written["g_ema"].keys() == original["g_ema"].keys()
    for name, value in original["g_ema"].items():
        assert torch.allclose(written["g_ema"][name], value, rtol=0, atol=1e-7 * name.endswith("kernel")), name
        assert written["g_ema"][name].shape == value.shape
    assert torch.equal(written["latent_avg"], original["latent_avg"].reshape(-1))


@needs_cases
def test_a_state_dict_of_nvidia_comes_out_as_it_went_in(tmp_path: Path) -> None:
    original = torch.load(CASES / "nvidia" / "state-dict.pt", weights_only=True)
    shape = StyleGAN2Architecture(32, (20, 20, 20, 16), z_dim=64, w_dim=64, mapping_layers=2)
    own = {name: value for name, value in original.items() if not name.endswith("resample_filter")}
    checkpoint = Checkpoint("stylegan2", "", own, {"shape": shape})
    export_checkpoint(checkpoint, tmp_path / "a.pt", "nvidia")
    written = torch.load(tmp_path / "a.pt", weights_only=True)
    assert written.keys() == original.keys()
    assert all(torch.equal(written[name], value) for name, value in original.items())


@needs_cases
def test_nvidias_network_draws_the_same_in_rosinalitys_layout(tmp_path: Path) -> None:
    export_checkpoint(checkpoints.read(CASES / "codes" / "own.pkl"), tmp_path / "a.pt", "rosinality")
    expected = np.load(CASES / "codes" / "own.expected.npz")
    generator = checkpoints.read(tmp_path / "a.pt").build_generator("x")
    with torch.no_grad():
        drawn = generator.synthesis(torch.from_numpy(expected["ws"])).numpy()
    assert np.abs(drawn - expected["image"]).max() < 1e-4 * expected["image"].std()
