"""Several celeba40 networks joined into one: their mean, calibrated on faces that none was trained on."""

from __future__ import annotations

import pytest
import torch
from test_scorer_training import write_celeba

from ganvas import GanvasError
from ganvas.scorers.celeba40 import Celeba40, Together, build, read
from ganvas.training import rounds

PICTURES = torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1


def single(path, seed):
    """A scorer of one small network from chance, with a calibration of its own."""
    torch.manual_seed(seed)
    rounds.save_scorer(build("cnn").eval(), torch.full((40,), 1.0 + seed), torch.full((40,), 0.5 * seed), path)
    return path


def test_the_mean_of_calibrated_logits_is_calibrated_anew(tmp_path):
    write_celeba(tmp_path / "celeba", 24)
    files = [single(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2, 3)]
    rounds.join_celeba40(tmp_path / "celeba", files, tmp_path / "all.safetensors")
    joined = read(tmp_path / "all.safetensors")
    assert joined.network.arch == "cnn+cnn+cnn"
    small = torch.nn.functional.interpolate(PICTURES, (128, 128), mode="bilinear", antialias=True, align_corners=False)
    logits = torch.stack([read(file)(small) for file in files])
    torch.testing.assert_close(joined(PICTURES), logits.mean(0) * joined.scale + joined.offset, atol=2e-3, rtol=1e-3)
    rounds.join_celeba40(tmp_path / "celeba", files, tmp_path / "all.safetensors", [2.0, 1.0, 1.0])
    joined, mean = read(tmp_path / "all.safetensors"), (logits.sum(0) + logits[0]) / 4
    torch.testing.assert_close(joined(PICTURES), mean * joined.scale + joined.offset, atol=2e-3, rtol=1e-3)


def test_what_cannot_be_joined(tmp_path):
    write_celeba(tmp_path / "celeba", 24)
    files = [single(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]
    rounds.join_celeba40(tmp_path / "celeba", files, tmp_path / "all.safetensors")
    for wrong in (files[:1], [*files, tmp_path / "all.safetensors"], files * 5):
        with pytest.raises(GanvasError, match="From 2 to 8 scorers"):
            rounds.join_celeba40(tmp_path / "celeba", wrong, tmp_path / "more.safetensors")
    for weights in ([1.0], [1.0, -1.0], [1.0, float("nan")]):
        with pytest.raises(GanvasError, match="one positive number"):
            rounds.join_celeba40(tmp_path / "celeba", files, tmp_path / "more.safetensors", weights)
    assert not (tmp_path / "more.safetensors").exists()
    with pytest.raises(GanvasError, match="trained one by one"):
        rounds.train_celeba40(tmp_path / "celeba", tmp_path / "x.safetensors", arch="cnn+cnn")
    with pytest.raises(GanvasError, match="architecture 'vgg'"):
        build("cnn+vgg")


def test_one_network_alone_stays_alone():
    assert not isinstance(build("cnn"), Together)
    torch.manual_seed(0)
    network = build("cnn+cnn")
    assert isinstance(Celeba40(network, torch.ones(40), torch.zeros(40)).network, Together)
