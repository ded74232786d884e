"""The second celeba40: how its faces are changed, and that it is trained by the same command."""

from __future__ import annotations

import pytest
import torch
from test_scorer_training import write_celeba

from ganvas.scorers.celeba40 import NETWORKS, read
from ganvas.scorers.networks.cnn import CnnNetwork
from ganvas.training import celeba40, scorer
from ganvas.training.scorer import ScorerConfig, augment_with_cutout


def changed(pixels: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return augment_with_cutout(pixels, torch.Generator().manual_seed(seed))


def test_a_seed_changes_faces_in_one_way():
    pixels = torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    found = changed(pixels)
    assert torch.equal(found, changed(pixels)) and not torch.equal(found, changed(pixels, 2))
    assert found.shape == (8, 3, 64, 64) and found.abs().max() <= 1


def test_half_of_the_faces_have_a_hole():
    # A grey face stays of one colour wherever it is moved; a hole has another.
    found = changed(torch.full((200, 3, 64, 64), 128, dtype=torch.uint8))
    usual = found[:, 0].flatten(1).median(1).values[:, None, None]
    share = ((found[:, 0] - usual).abs() > 1e-3).float().mean((1, 2))
    assert 0.4 < (share > 0).float().mean() < 0.6
    assert share.max() <= 0.45**2


def test_faces_are_mirrored_and_never_turned():
    pixels = torch.zeros(100, 3, 64, 64, dtype=torch.uint8)
    pixels[:, :, :, :20] = 255
    found = changed(pixels).mean(1)
    plain = found[(found.std(1).amax(1) < 1e-4)]  # without a hole, every row is the same row
    assert len(plain) > 30
    left = plain[:, 0, :16].mean(1) > plain[:, 0, -16:].mean(1)
    assert 0.3 < left.float().mean() < 0.7


def test_its_network_is_small_and_sees_sharp_and_soft_faces_alike():
    network = CnnNetwork().eval()
    assert NETWORKS["cnn"] is CnnNetwork and network.size == 64
    assert sum(p.numel() for p in network.parameters()) < 500_000
    board = (torch.arange(64)[:, None] + torch.arange(64)).remainder(2) * 2.0 - 1
    noise = board.expand(2, 3, 64, 64)  # the finest detail there is
    assert torch.allclose(network(noise), network(torch.zeros(2, 3, 64, 64)), atol=1e-4)


@pytest.mark.parametrize("arch", ["cnn"])
def test_it_is_trained_from_a_folder_of_faces(arch, tmp_path, monkeypatch):
    write_celeba(tmp_path / "celeba", 24)
    used = []
    monkeypatch.setitem(celeba40.FIRST_ROUNDS, arch, ScorerConfig(epochs=1, batch=8))
    monkeypatch.setitem(scorer.AUGMENTATIONS, arch, lambda *args: used.append(1) or augment_with_cutout(*args))
    out = tmp_path / "s.safetensors"
    celeba40.train_celeba40(tmp_path / "celeba", out, arch=arch, report=lambda line: None)
    assert used and isinstance(read(out).network, CnnNetwork)
    assert read(out)(torch.rand(2, 3, 256, 256)).isfinite().all()
