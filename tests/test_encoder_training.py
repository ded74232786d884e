"""Training an encoder of faces: what is kept beside its file belongs to its labels and pictures, and goes when it is done."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from ganvas.data.label import label
from ganvas.errors import GanvasError
from ganvas.generators.toy import Toy
from ganvas.io.files import load_tensors, save_tensors
from ganvas.scorers.face_attributes import load_faceres
from ganvas.scorers.toy import ToyScorer
from ganvas.training import encoder as training

N, HELD_OUT = 40, 8
QUICKLY = training.EncoderConfig(epochs=1, batch=16, described_faces=16)


class Opposite(ToyScorer):
    """Another scorer of the same attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.fingerprint = "f" * 64

    def forward(self, images: Tensor) -> Tensor:
        return -super().forward(images)


class Stopped(Exception):
    pass


def make_labels(folder: Path, **options) -> Path:
    label(Toy(), options.pop("scorer", ToyScorer()), N, out=folder, keep_images=True, shard_size=16, **options)
    return folder


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few faces, and no principal components of thousands of pixels."""
    monkeypatch.setattr(training, "HELD_OUT_FACES", HELD_OUT)
    monkeypatch.setattr(training, "_principal_components", lambda pixels: pixels.float().mean((2, 3)) / 100)


@pytest.fixture(scope="module")
def labels(tmp_path_factory) -> Path:
    return make_labels(tmp_path_factory.mktemp("labels"))


def read(folder: Path, cache: Path, config: training.EncoderConfig = QUICKLY) -> training.EncoderData:
    return training.read_encoder_data(folder, Toy(), config, cache, lambda line: None)


def replace_pictures(folder: Path) -> None:
    """Turn the pictures of the first shard around; their codes and scores stay."""
    path = folder / "images-00000.safetensors"
    tensors, metadata = load_tensors(path)
    files = list(tensors["jpeg"].split(tensors["sizes"].tolist()))[::-1]
    save_tensors(path, {"jpeg": torch.cat(files), "sizes": tensors["sizes"].flip(0)}, metadata)


def rescore(folder: Path) -> None:
    make_labels(folder, scorer=Opposite())


def test_descriptors_are_kept_for_the_same_pictures_and_network_alone(labels, tmp_path, monkeypatch):
    faceres, described = load_faceres(), []
    describe = faceres.describe
    monkeypatch.setattr(faceres, "describe", lambda images: described.append(len(images)) or describe(images))
    cache = tmp_path / "e.descriptors.safetensors"
    first = read(labels, cache)
    assert sum(described) == 16
    again = read(labels, cache)
    assert sum(described) == 16 and torch.equal(again.loss_projection, first.loss_projection)
    # Other pictures, fewer or more of them, and other weights are described anew.
    other = make_labels(tmp_path / "labels", psi=0.5)
    found = read(other, cache)
    assert sum(described) == 32
    assert torch.equal(found.loss_projection, read(other, tmp_path / "fresh.safetensors").loss_projection)
    read(labels, cache, training.EncoderConfig(batch=8, described_faces=12))
    assert sum(described) == 16 * 3 + 12
    read(labels, cache)
    with torch.no_grad():
        faceres.stem.bias.add_(1)
    try:
        described.clear()
        read(labels, cache)
    finally:
        with torch.no_grad():
            faceres.stem.bias.sub_(1)
    assert sum(described) == 16


def test_a_training_leaves_the_encoder_and_the_random_state(labels, tmp_path):
    before = torch.get_rng_state()
    training.train_encoder(labels, Toy(), tmp_path / "e.safetensors", QUICKLY, lambda line: None)
    assert torch.equal(torch.get_rng_state(), before)
    assert [path.name for path in tmp_path.iterdir()] == ["e.safetensors"]


@pytest.mark.parametrize("change", [replace_pictures, rescore])
def test_a_checkpoint_belongs_to_its_labels_and_pictures(change, tmp_path):
    folder, out = make_labels(tmp_path / "labels"), tmp_path / "e.safetensors"
    config = training.EncoderConfig(epochs=2, batch=16, identity_weight=0)
    lines: list[str] = []

    def stop(line: str) -> None:
        """Stop in the second epoch, after the first one's checkpoint."""
        lines.append(line)
        if len(lines) == 2:
            raise Stopped

    with pytest.raises(Stopped):
        training.train_encoder(folder, Toy(), out, config, stop)
    assert out.with_suffix(".checkpoint").exists()
    change(folder)
    with pytest.raises(GanvasError, match="a checkpoint of another training"):
        training.train_encoder(folder, Toy(), out, config, lambda line: None)


def test_a_batch_of_more_faces_than_there_are_is_refused(labels, tmp_path):
    config = training.EncoderConfig(batch=N - HELD_OUT + 1)
    with pytest.raises(GanvasError, match="batch must be at most 32, the number of faces to train on, not 33"):
        training.train_encoder(labels, Toy(), tmp_path / "e.safetensors", config)
    data = read(labels, tmp_path / "cache.safetensors")
    with pytest.raises(GanvasError, match="batch must be at most 32"):
        training.train_encoder_network(data, Toy(), config, tmp_path / "checkpoint", print)


def test_each_picture_is_changed_by_itself_and_nothing_comes_in_from_the_other_side():
    pixels = torch.zeros(64, 3, training.SIDE, training.SIDE, dtype=torch.uint8)
    pixels[:, :, :, 0], pixels[:, :, 60] = 255, 200
    found = training.augment_faces(pixels, torch.Generator().manual_seed(0))
    assert found.shape == pixels.shape and float(found.abs().max()) <= 1
    columns = found[:, 0, 20]  # a row of each that is black but for its left edge
    assert float(columns[:, 4:].max()) < -0.7
    bright = columns[:, 1] > 0  # moved to the right, the edge is repeated
    assert 0 < int(bright.sum()) < 64
    lines = found[:, 0, 55:66, 64].argmax(1)
    assert set(lines.tolist()) >= {4, 5, 6}
    noise = found[:, 0, 100:, 64:].std((1, 2)) > 0
    assert 0.1 < float(noise.float().mean()) < 0.6, "black pictures are clamped, but for noise"
    for n in (1, 2):
        assert training.augment_faces(pixels[:n], torch.Generator().manual_seed(n)).shape[0] == n
