"""Several celeba40 networks joined into one: their mean, calibrated on faces that none was trained on."""

from __future__ import annotations

import pytest
import torch
from test_scorer_training import write_celeba

from ganvas import GanvasError
from ganvas.cli import main
from ganvas.io.files import load_tensors, save_tensors
from ganvas.scorers.celeba40 import Celeba40, NetworkEnsemble, build_network, read
from ganvas.training import celeba40
from ganvas.training.scorer import ScorerConfig

PICTURES = torch.rand(3, 3, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1


def single(path, seed):
    """A scorer of one small network from chance, with a calibration of its own."""
    torch.manual_seed(seed)
    celeba40.save_scorer(
        build_network("cnn").eval(), torch.full((40,), 1.0 + seed), torch.full((40,), 0.5 * seed), path
    )
    return path


def rounds_of(folder, arch):
    """A scorer of one network of this architecture from chance."""
    path = folder / f"{arch}.safetensors"
    celeba40.save_scorer(build_network(arch).eval(), torch.full((40,), 1.5), torch.full((40,), -0.5), path)
    return path


def shrunk(pictures):
    return torch.nn.functional.interpolate(pictures, (128, 128), mode="bilinear", antialias=True, align_corners=False)


def run(arguments):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert not stop.value.code


def test_the_mean_of_calibrated_logits_is_calibrated_anew(tmp_path):
    write_celeba(tmp_path / "celeba", 24)
    files = [single(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2, 3)]
    celeba40.join_celeba40(tmp_path / "celeba", files, tmp_path / "all.safetensors")
    joined = read(tmp_path / "all.safetensors")
    assert joined.network.arch == "cnn+cnn+cnn"
    small = shrunk(PICTURES)
    logits = torch.stack([read(file)(small) for file in files])
    torch.testing.assert_close(joined(PICTURES), logits.mean(0) * joined.scale + joined.offset, atol=2e-3, rtol=1e-3)
    celeba40.join_celeba40(tmp_path / "celeba", files, tmp_path / "all.safetensors", [2.0, 1.0, 1.0])
    joined, mean = read(tmp_path / "all.safetensors"), (logits.sum(0) + logits[0]) / 4
    torch.testing.assert_close(joined(PICTURES), mean * joined.scale + joined.offset, atol=2e-3, rtol=1e-3)


def test_what_cannot_be_joined(tmp_path):
    write_celeba(tmp_path / "celeba", 24)
    files = [single(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]
    celeba40.join_celeba40(tmp_path / "celeba", files, tmp_path / "all.safetensors")
    for wrong in (files[:1], [*files, tmp_path / "all.safetensors"], files * 5):
        with pytest.raises(GanvasError, match="2 to 8 scorers"):
            celeba40.join_celeba40(tmp_path / "celeba", wrong, tmp_path / "more.safetensors")
    for weights in ([1.0], [1.0, -1.0], [1.0, float("nan")]):
        with pytest.raises(GanvasError, match="one positive number"):
            celeba40.join_celeba40(tmp_path / "celeba", files, tmp_path / "more.safetensors", weights)
    assert not (tmp_path / "more.safetensors").exists()
    with pytest.raises(GanvasError, match="train each network by itself"):
        celeba40.train_celeba40(tmp_path / "celeba", tmp_path / "x.safetensors", arch="cnn+cnn")
    with pytest.raises(GanvasError, match="architecture 'vgg'"):
        build_network("cnn+vgg")


def test_networks_of_two_makes_read_together(tmp_path):
    torch.manual_seed(0)
    write_celeba(tmp_path / "celeba", 24)
    one, other = rounds_of(tmp_path, "efficientnet_lite0"), rounds_of(tmp_path, "cnn")
    arguments = ["join-scorers", str(tmp_path / "celeba"), str(one), str(other), "--weight", "3", "--weight", "1"]
    run([*arguments, "--out", str(tmp_path / "both.safetensors")])
    joined = read(tmp_path / "both.safetensors")
    assert joined.network.arch == "efficientnet_lite0+cnn"
    found = [read(file)(shrunk(PICTURES)) for file in (one, other)]
    mean = (3 * found[0] + found[1]) / 4
    torch.testing.assert_close(joined(PICTURES), mean * joined.scale + joined.offset, atol=5e-3, rtol=5e-3)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"arch": "cnn+"}, "no celeba40 scorer"),
        ({"arch": "+".join(["cnn"] * 9)}, "no celeba40 scorer"),
        ({"scale": torch.ones(39)}, "40 finite numbers"),
        ({"offset": torch.full((40,), float("nan"))}, "40 finite numbers"),
        ({"scales": torch.ones(2, 39)}, "isn't a whole"),
        ({"features.0.reading.bias": torch.full((40,), torch.nan)}, "weights that aren't finite"),
        ({"features.0.reading.bias": torch.full((40,), 1e300, dtype=torch.float64)}, "weights that aren't finite"),
    ],
)
def test_damaged_files_are_refused(tmp_path, damage, words):
    write_celeba(tmp_path / "celeba", 24)
    files = [single(tmp_path / f"{seed}.safetensors", seed) for seed in (1, 2)]
    celeba40.join_celeba40(tmp_path / "celeba", files, tmp_path / "all.safetensors")
    tensors, about = load_tensors(tmp_path / "all.safetensors")
    for key, value in damage.items():
        if isinstance(value, str):
            about[key] = value
        else:
            tensors[key] = value
    save_tensors(tmp_path / "bad.safetensors", tensors, about)
    with pytest.raises(GanvasError, match=words):
        read(tmp_path / "bad.safetensors")


def test_one_network_alone_stays_alone():
    assert not isinstance(build_network("cnn"), NetworkEnsemble)
    torch.manual_seed(0)
    network = build_network("cnn+cnn")
    assert isinstance(Celeba40(network, torch.ones(40), torch.zeros(40)).network, NetworkEnsemble)


@pytest.mark.slow
def test_the_papers_network_learns_and_is_read_again(tmp_path, monkeypatch):
    write_celeba(tmp_path / "celeba", 24)
    monkeypatch.setattr(celeba40, "FIRST_ROUND", ScorerConfig(epochs=1, batch=8))
    lines: list[str] = []
    celeba40.train_celeba40(
        tmp_path / "celeba", tmp_path / "b3.safetensors", arch="efficientnet_b3", report=lines.append
    )
    scorer = read(tmp_path / "b3.safetensors")
    assert scorer.network.arch == "efficientnet_b3"
    assert torch.isfinite(scorer(PICTURES)).all()
