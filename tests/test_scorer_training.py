"""Training the celeba40 scorer: what makes its scores independent, and that a stopped run ends like one left alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from ganvas.data.label import label
from ganvas.errors import GanvasError
from ganvas.generators.toy import Toy
from ganvas.io.images import downscale
from ganvas.scorers.celeba40 import ATTRIBUTES, SIZE, AttributeNetwork, Celeba40, frame_celeba, match_softness, read
from ganvas.scorers.networks.efficientnet_lite import EfficientNetLite
from ganvas.scorers.toy import ToyScorer
from ganvas.training import celeba40, scorer
from ganvas.training.celeba import FaceSet, hash_tenth, read_faces
from ganvas.training.scorer import (
    ScorerConfig,
    augment_with_blur,
    balance_weights,
    calibrate_network,
    compute_leakage_penalty,
)

MALE, YOUNG, HAT = (ATTRIBUTES.index(name) for name in ("Male", "Young", "Wearing_Hat"))


def labels_with(pairs: dict[int, torch.Tensor], n: int) -> torch.Tensor:
    labels = (torch.rand(n, len(ATTRIBUTES), generator=torch.Generator().manual_seed(0)) < 0.5).float()
    for column, values in pairs.items():
        labels[:, column] = values
    return labels


def faces(n: int = 48) -> FaceSet:
    random = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (n, 3, SIZE, SIZE), generator=random, dtype=torch.uint8)
    return FaceSet(pixels, labels_with({}, n), torch.arange(n) % 10)


def test_weights_make_attributes_independent_of_gender() -> None:
    random = torch.Generator().manual_seed(2)
    male = (torch.rand(4000, generator=random) < 0.6).float()
    hat = (torch.rand(4000, generator=random) < 0.2 + 0.5 * male).float()
    labels = labels_with({MALE: male, HAT: hat}, 4000)
    weights = balance_weights(labels)[:, HAT]
    rates = [float((weights * hat)[male == m].sum() / weights[male == m].sum()) for m in (0, 1)]
    assert abs(rates[0] - rates[1]) < 0.02
    assert weights.mean() == pytest.approx(1, abs=1e-4)


def test_augmented_pictures_are_turned_and_never_sheared(monkeypatch: pytest.MonkeyPatch) -> None:
    matrices = []
    draw = torch.nn.functional.affine_grid

    def keep(matrix: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
        matrices.append(matrix)
        return draw(matrix, *arguments, **options)

    monkeypatch.setattr(torch.nn.functional, "affine_grid", keep)
    augment_with_blur(faces().pixels, torch.Generator().manual_seed(4))
    axes = matrices[0][:, :, :2]
    scales = axes.det().abs().sqrt()
    squares = scales[:, None, None].square() * torch.eye(2)
    torch.testing.assert_close(axes.mT @ axes, squares)
    assert (axes.det() < 0).any() and (axes.det() > 0).any() and axes[:, 1, 0].abs().max() > 0.05


def test_leakage_finds_a_logit_that_reads_another_label() -> None:
    labels = labels_with({}, 2000)
    noise = torch.randn(labels.shape, generator=torch.Generator().manual_seed(3))
    clean = 4 * labels + noise
    leaking = clean.clone()
    leaking[:, HAT] += 4 * labels[:, MALE]
    assert compute_leakage_penalty(clean, labels) < 0.02
    assert compute_leakage_penalty(leaking, labels) > 2 * compute_leakage_penalty(clean, labels)


def test_separation_takes_shared_errors_apart_and_keeps_attributes() -> None:
    labels = labels_with({}, 4000)
    random = torch.Generator().manual_seed(4)
    shared = torch.randn(4000, 1, generator=random)
    logits = 2 * labels + torch.randn(labels.shape, generator=random) + shared
    matrix = celeba40.build_separation_matrix(logits, labels, 1.0)
    errors = (logits - 2 * labels) @ matrix.T
    off = torch.corrcoef(errors.T) - torch.eye(len(ATTRIBUTES))
    assert off.abs().mean() < 0.1 < (torch.corrcoef((logits - 2 * labels).T) - torch.eye(len(ATTRIBUTES))).abs().mean()
    mixed = logits @ matrix.T
    own = torch.stack([torch.corrcoef(torch.stack((mixed[:, k], logits[:, k])))[0, 1] for k in range(len(ATTRIBUTES))])
    assert own.min() > 0.6
    assert torch.allclose(celeba40.build_separation_matrix(logits, labels, 0.0), torch.eye(len(ATTRIBUTES)), atol=1e-4)


def test_a_stopped_training_ends_like_one_left_alone(tmp_path) -> None:
    options = ScorerConfig(epochs=2, batch=16)

    def network() -> AttributeNetwork:
        torch.manual_seed(0)
        return AttributeNetwork()

    alone = scorer.train_network(faces(), network(), options, report=lambda line: None)

    class Stop(Exception):
        pass

    def stop(line: str) -> None:
        # The report of the second epoch comes before that epoch is kept.
        if line.startswith("epoch 2"):
            raise Stop

    checkpoint = tmp_path / "run.safetensors"
    with pytest.raises(Stop):
        scorer.train_network(faces(), network(), options, checkpoint=checkpoint, report=stop)
    resumed = scorer.train_network(faces(), network(), options, checkpoint=checkpoint, report=lambda line: None)
    for key, value in alone.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key
    with pytest.raises(
        GanvasError, match=r"run.safetensors is damaged, or a checkpoint of another training: delete it"
    ):
        scorer.train_network(faces(40), network(), options, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(
        GanvasError, match=r"run.safetensors is damaged, or a checkpoint of another training: delete it"
    ):
        scorer.train_network(faces(), network(), options, checkpoint=checkpoint)


def test_calibration_finds_planted_scales() -> None:
    n = 4000
    random = torch.Generator().manual_seed(5)
    truth = 2 * torch.randn(n, len(ATTRIBUTES), generator=random)
    labels = (torch.rand(truth.shape, generator=random) < torch.sigmoid(truth)).float()

    class Planted(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 0, 0, : len(ATTRIBUTES)] * 3 + 1

    # Logits travel as pixels: 255 levels are fine enough.
    pixels = torch.zeros(n, 1, 1, 2 * len(ATTRIBUTES))
    pixels[..., : len(ATTRIBUTES)] = (truth[:, None, None] / 10).clamp(-1, 1)
    pixels[..., len(ATTRIBUTES) :] = pixels[..., : len(ATTRIBUTES)].flip(3)
    held_out = FaceSet(((pixels + 1) * 127.5).round().to(torch.uint8), labels, torch.ones(n, dtype=torch.long))
    scale, offset = calibrate_network(Planted(), held_out)
    assert scale.median() == pytest.approx(10 / 3, rel=0.1)
    assert (offset + scale).abs().median() < 0.2


def test_a_scorer_is_saved_and_read(tmp_path) -> None:
    torch.manual_seed(0)
    network = AttributeNetwork().eval()
    path = tmp_path / "s.safetensors"
    celeba40.save_scorer(network, torch.ones(40), torch.zeros(40), path)
    found = read(path)
    assert isinstance(found, Celeba40) and found.attributes == ATTRIBUTES
    pictures = torch.rand(2, 3, 256, 256) * 2 - 1
    assert torch.equal(found(pictures), read(path)(pictures))
    assert found(pictures).shape == (2, 40)
    assert torch.allclose(found(pictures), found(pictures.flip(3)), atol=1e-4)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(GanvasError, match="isn't a whole safetensors"):
        read(path)


def write_celeba(folder: Path, n: int) -> tuple[list[str], list[bytes], np.ndarray]:
    """A folder in CelebA's own layout: names, pictures and labels (n, 40)."""
    random = np.random.default_rng(0)
    names, labels, jpegs = [f"{i:06d}.jpg" for i in range(1, n + 1)], random.random((n, 40)) < 0.5, []
    (folder / "img_align_celeba").mkdir(parents=True)
    for name in names:
        Image.fromarray(random.integers(0, 255, (54, 44, 3), dtype=np.uint8)).save(folder / "img_align_celeba" / name)
        jpegs.append((folder / "img_align_celeba" / name).read_bytes())
    rows = [f"{name} " + " ".join("1" if v else "-1" for v in row) for name, row in zip(names, labels, strict=True)]
    (folder / "list_attr_celeba.txt").write_text("\n".join([str(n), " ".join(ATTRIBUTES), *rows]) + "\n")
    return names, jpegs, labels


def write_parquet(path: Path, names: list[str], jpegs: list[bytes], labels: np.ndarray) -> None:
    columns = {"file": names, "jpeg": jpegs} | {name: list(labels[:, k]) for k, name in enumerate(ATTRIBUTES)}
    parquet.write_table(pa.table(columns), path)


def test_faces_are_read_from_both_layouts(tmp_path) -> None:
    names, jpegs, labels = write_celeba(tmp_path / "celeba", 5)
    write_parquet(tmp_path / "faces.parquet", names, jpegs, labels)
    one, other = read_faces(tmp_path / "faces.parquet", SIZE), read_faces(tmp_path / "celeba", SIZE)
    assert torch.equal(one.pixels, other.pixels) and torch.equal(one.labels, other.labels)
    assert one.labels.tolist() == labels.astype(float).tolist()
    assert one.tenths.tolist() == [hash_tenth(name) for name in names]
    with pytest.raises(GanvasError, match="list_attr_celeba"):
        read_faces(tmp_path, SIZE)


def test_broken_listings_are_one_line(tmp_path) -> None:
    write_celeba(tmp_path, 3)
    listing = tmp_path / "list_attr_celeba.txt"
    lines = listing.read_bytes().splitlines(keepends=True)
    cases = {
        "line 2, doesn't list": [b"", b"\n \n", lines[0]],
        "line 1, announces '3' faces, and 2 follow": [b"".join(lines[:4])],
        "line 4, isn't a file's name and 40 labels": [
            b"".join([*lines[:3], middle, lines[4]])
            for middle in (b"\n", lines[3][:30] + b"\n", lines[3][:-3] + b"x\n")
        ],
        "line 4, isn't UTF-8": [b"".join([*lines[:3], b"\xff", *lines[3:]])],
    }
    for message, contents in cases.items():
        for content in contents:
            listing.write_bytes(content)
            with pytest.raises(GanvasError, match=f"list_attr_celeba.txt, {message}") as error:
                read_faces(tmp_path, 8)
            assert "\n" not in str(error.value)
    listing.write_bytes(b"".join(lines))
    picture = tmp_path / "img_align_celeba" / "000002.jpg"
    picture.write_bytes(picture.read_bytes()[:300])
    with pytest.raises(GanvasError, match="000002.jpg isn't a whole JPEG"):
        read_faces(tmp_path, 8)
    picture.unlink()
    with pytest.raises(GanvasError, match=r"Can't read .*000002.jpg .*line 4"):
        read_faces(tmp_path, 8)


def test_broken_parquets_are_one_line(tmp_path) -> None:
    names, jpegs, labels = write_celeba(tmp_path / "celeba", 5)
    path = tmp_path / "faces.parquet"
    nulls, numbers = labels.astype(object), labels.astype(int) * 2 - 1
    nulls[1, 3] = None
    for values, message in ((nulls, f"{ATTRIBUTES[3]} holds nulls"), (numbers, "other than true and false")):
        write_parquet(path, names, jpegs, values)
        with pytest.raises(GanvasError, match=message):
            read_faces(path, 8)
    write_parquet(path, names, jpegs, labels)
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    with pytest.raises(GanvasError, match="faces.parquet is neither"):
        read_faces(path, 8)
    path.write_bytes(content[:4] + bytes(200) + content[204:])
    with pytest.raises(GanvasError, match="faces.parquet isn't a whole parquet"):
        read_faces(path, 8)


def test_generated_faces_come_with_the_codes_that_the_index_tells(tmp_path) -> None:
    data = label(Toy(), ToyScorer(), 20, psi=0.5, seed=7, out=tmp_path, keep_images=True, shard_size=16)
    pixels, w = celeba40.read_generated(tmp_path, Toy(), 8, print)
    assert torch.equal(w, data.codes)
    picture = downscale(Toy().synthesis(Toy().expand(w[17:18])), 8)
    assert (pixels[17] - (picture[0] + 1) * 127.5).abs().max() < 12
    other = Toy()
    other.name, other.fingerprint = "other", "0" * 64
    with pytest.raises(GanvasError, match=r"'toy' .* not for 'other'"):
        celeba40.read_generated(tmp_path, other, 8, print)
    shard = tmp_path / "images-00001.safetensors"
    content = bytearray(shard.read_bytes())
    content[-100] ^= 1
    shard.write_bytes(content)
    with pytest.raises(GanvasError, match="images-00001.safetensors is damaged"):
        celeba40.read_generated(tmp_path, Toy(), 8, print)
    label(Toy(), ToyScorer(), 20, out=tmp_path / "bare")
    with pytest.raises(GanvasError, match="no pictures of seeds"):
        celeba40.check_generated(tmp_path / "bare", Toy())


def test_a_scorer_is_trained_from_a_folder_of_faces(tmp_path, monkeypatch) -> None:
    write_celeba(tmp_path / "celeba", 24)
    monkeypatch.setattr(EfficientNetLite, "load_imagenet", lambda self: None)
    monkeypatch.setattr(celeba40, "FIRST_ROUND", ScorerConfig(epochs=1, batch=8))
    out = tmp_path / "out" / "s.safetensors"
    lines: list[str] = []
    celeba40.train_celeba40(tmp_path / "celeba", out, report=lines.append)
    assert lines[0] == "24 real faces" and lines[1].startswith("epoch 1 of 1: loss ")
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert read(out)(torch.rand(1, 3, 64, 64)).isfinite().all()
    monkeypatch.setattr(celeba40, "FIRST_ROUND", ScorerConfig(epochs=1, batch=64))
    with pytest.raises(GanvasError, match="at least 64 faces"):
        celeba40.train_celeba40(tmp_path / "celeba", out, report=lines.append)


def test_average_lies_between_the_weights() -> None:
    first = {"weight": torch.tensor([0.0, 1.0]), "num_batches_tracked": torch.tensor(3)}
    second = {"weight": torch.tensor([1.0, 1.0]), "num_batches_tracked": torch.tensor(7)}
    found = celeba40.average_networks(first, second, 0.25)
    assert found["weight"].tolist() == [0.25, 1.0] and found["num_batches_tracked"] == 7


def test_framing_keeps_the_part_that_ffhq_shows() -> None:
    picture = torch.zeros(128, 128, 3, dtype=torch.uint8)
    picture[20:116, 6:122] = 255
    assert (frame_celeba(picture, 64) == 255).all()


def test_softness_keeps_the_mean_and_takes_detail() -> None:
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    soft = match_softness(picture, 1.2)
    assert soft.mean() == pytest.approx(float(picture.mean()), abs=0.02)
    assert soft.std() < 0.6 * picture.std()
    assert torch.equal(match_softness(picture, 0), picture)
