"""The commands about sets of pictures, from their words to their files."""

import json

import numpy as np
import pytest

from experiments.multimnist import train_counter
from ganvas import editors
from ganvas.cli import main
from ganvas.data.multimnist_files import read_multimnist
from ganvas.errors import GanvasError
from ganvas.training import counter


@pytest.fixture(scope="module")
def npz(tmp_path_factory):
    path = tmp_path_factory.mktemp("mnist") / "mnist.npz"
    images, labels = np.zeros((20, 28, 28), np.uint8), np.arange(20, dtype=np.uint8) % 10
    images[:, 5:20, 8:16] = 200
    np.savez(path, x_train=images, y_train=labels, x_test=images[:10], y_test=labels[:10])
    return path


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        main([*map(str, arguments)])
    return stop.value.code


def test_make_multimnist(npz, tmp_path, capsys):
    out = tmp_path / "m"
    assert (
        run("make-multimnist", "--mnist", npz, "--out", out, "--size", 32, "-n", 12, "--counts", "2-3", "--seed", 5)
        == 0
    )
    assert "12 pictures" in capsys.readouterr().out
    assert read_multimnist(out, "train").counts.tolist() == [2, 3] * 6
    assert len(read_multimnist(out, "test")) == 1
    for wrong, words in (
        (("--counts", "a-b"), "isn't a range"),
        (("--counts", "4-1"), "Counts must be"),
        (("--size", 3), "The size"),
        (("--mnist", tmp_path / "nothing"), "no MNIST"),
    ):
        assert run("make-multimnist", "--mnist", npz, "--out", tmp_path / "no", *wrong) == 1
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    assert not (tmp_path / "no").exists()


def test_train_counter(npz, tmp_path, capsys, monkeypatch):
    run("make-multimnist", "--mnist", npz, "--out", tmp_path / "m", "--size", 32, "-n", 20, "--test", 4)
    monkeypatch.setattr(counter, "calibrate_counter", lambda network, held, seed: counter.torch.tensor([1.0, 0.0]))
    capsys.readouterr()
    train_counter.main([tmp_path / "m"], tmp_path / "c.safetensors", steps=1)
    assert "m: n 4" in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.safetensors", "m"]
    with pytest.raises(GanvasError, match=r"about\.json"):
        train_counter.main([tmp_path / "nothing"], tmp_path / "d.safetensors")


def test_balance(tmp_path, capsys):
    from fitted_editors import TOY, labels

    path = tmp_path / "mean.safetensors"
    editors.save(editors.fit("mean_difference", labels(), TOY), path)
    out = tmp_path / "set"
    assert run("balance", "toy", "--where", "p(Bright)>0.8", "--editor", path, "-n", 3, "--out", out) == 0
    assert "3 kept of" in capsys.readouterr().out
    report = json.loads((out / "balance.json").read_text())
    assert report["asked"]["way"] == "edit" and len(list(out.glob("*.png"))) == 3 == len(list(out.glob("seed*.json")))
    assert run("balance", "toy", "--where", "p(Bright)>0.8", "-n", 2, "--out", tmp_path / "drawn") == 0
    assert run("balance", "toy", "--where", "Brigth>1", "--out", out) == 1
    assert "Unknown attribute 'Brigth'" in capsys.readouterr().err


def test_balance_from_real_pictures(tmp_path, capsys, monkeypatch):
    import torch
    from fitted_editors import TOY, labels

    from ganvas import sample
    from ganvas.balance import real
    from ganvas.io.images import encode_png, to_bytes

    ws = sample(TOY, 12, 1.0, 50)
    photos = tmp_path / "photos"
    photos.mkdir()
    known = {}
    for i, picture in enumerate(to_bytes(TOY.synthesis(ws))):
        (photos / f"{i:02d}.png").write_bytes(encode_png(picture))
        known[picture.numpy().tobytes()] = ws[i]
    path, out = tmp_path / "mean.safetensors", tmp_path / "set"
    editors.save(editors.fit("mean_difference", labels(), TOY), path)
    asked = ("balance", "toy", "--where", "p(Bright)>0.8", "--from", photos, "--out", out, "--editor", path)
    assert run(*asked, "--method", "encoder") == 1
    error = capsys.readouterr().err
    assert "No encoder ships for generator 'toy'" in error and error.count("\n") == 1 and not out.exists()

    def codes(images):
        return torch.stack([known[pixels.numpy().tobytes()] for pixels in to_bytes(images)])

    monkeypatch.setattr(real, "load_inverter", lambda *_, **__: real.Inverter("optimize, planted", codes))
    assert run(*asked) == 0
    told = capsys.readouterr().out
    assert "by optimisation" in told and "All 12 pictures" in told and "met the conditions already" in told
    report = json.loads((out / "balance.json").read_text())
    assert report["kept"] > 0 and report["kept"] + report["already"] <= report["tried"] == 12
    assert run("balance", "toy", "--where", "p(Bright)>0.8", "--out", out, "--method", "both") == 1
    assert "--from DIR" in capsys.readouterr().err
    assert run("balance", "toy", "--where", "p(Bright)>0.8", "--out", out, "--from", photos) == 1
    assert "no editor of its own" in capsys.readouterr().err
