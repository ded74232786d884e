"""Training the celeba40 scorer: what makes its scores independent, and that a stopped run ends like one left alone."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from ganvas.errors import GanvasError
from ganvas.scorers.celeba40 import ATTRIBUTES, SIZE, AttributeNetwork, Celeba40, frame_celeba, match_softness, read
from ganvas.training import rounds, scorer
from ganvas.training.faces import FaceSet, read_faces, tenth
from ganvas.training.scorer import Options, balance, calibrate, leakage

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
    weights = balance(labels)[:, HAT]
    rates = [float((weights * hat)[male == m].sum() / weights[male == m].sum()) for m in (0, 1)]
    assert abs(rates[0] - rates[1]) < 0.02
    assert weights.mean() == pytest.approx(1, abs=1e-4)


def test_leakage_finds_a_logit_that_reads_another_label() -> None:
    labels = labels_with({}, 2000)
    noise = torch.randn(labels.shape, generator=torch.Generator().manual_seed(3))
    clean = 4 * labels + noise
    leaking = clean.clone()
    leaking[:, HAT] += 4 * labels[:, MALE]
    assert leakage(clean, labels) < 0.01
    assert leakage(leaking, labels) > 0.01


def test_separation_takes_shared_errors_apart_and_keeps_attributes() -> None:
    labels = labels_with({}, 4000)
    random = torch.Generator().manual_seed(4)
    shared = torch.randn(4000, 1, generator=random)
    logits = 2 * labels + torch.randn(labels.shape, generator=random) + shared
    matrix = rounds.separation(logits, labels, 1.0)
    errors = (logits - 2 * labels) @ matrix.T
    off = torch.corrcoef(errors.T) - torch.eye(len(ATTRIBUTES))
    assert off.abs().mean() < 0.1 < (torch.corrcoef((logits - 2 * labels).T) - torch.eye(len(ATTRIBUTES))).abs().mean()
    mixed = logits @ matrix.T
    own = torch.stack([torch.corrcoef(torch.stack((mixed[:, k], logits[:, k])))[0, 1] for k in range(len(ATTRIBUTES))])
    assert own.min() > 0.6
    assert torch.allclose(rounds.separation(logits, labels, 0.0), torch.eye(len(ATTRIBUTES)), atol=1e-4)


def test_a_stopped_training_ends_like_one_left_alone(tmp_path) -> None:
    options = Options(epochs=2, batch=16)

    def network() -> AttributeNetwork:
        torch.manual_seed(0)
        return AttributeNetwork()

    alone = scorer.train(faces(), network(), options, report=lambda line: None)

    class Stop(Exception):
        pass

    def stop(line: str) -> None:
        # The report of the second epoch comes before that epoch is kept.
        if line.startswith("epoch 2"):
            raise Stop

    checkpoint = tmp_path / "run.pt"
    with pytest.raises(Stop):
        scorer.train(faces(), network(), options, checkpoint=checkpoint, report=stop)
    resumed = scorer.train(faces(), network(), options, checkpoint=checkpoint, report=lambda line: None)
    for key, value in alone.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[key]), key


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
    scale, offset = calibrate(Planted(), held_out)
    assert scale.median() == pytest.approx(10 / 3, rel=0.1)
    assert (offset + scale).abs().median() < 0.2


def test_a_scorer_is_saved_and_read(tmp_path) -> None:
    torch.manual_seed(0)
    network = AttributeNetwork().eval()
    path = tmp_path / "s.safetensors"
    rounds.save_scorer(network, torch.ones(40), torch.zeros(40), path)
    found = read(path)
    assert isinstance(found, Celeba40) and found.attributes == ATTRIBUTES
    pictures = torch.rand(2, 3, 256, 256) * 2 - 1
    assert torch.equal(found(pictures), read(path)(pictures))
    assert found(pictures).shape == (2, 40)
    assert torch.allclose(found(pictures), found(pictures.flip(3)), atol=1e-4)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(GanvasError, match="isn't a whole safetensors"):
        read(path)


def test_faces_are_read_from_both_layouts(tmp_path) -> None:
    random = np.random.default_rng(0)
    names = [f"{i:06d}.jpg" for i in range(1, 6)]
    labels = random.random((5, 40)) < 0.5
    jpegs = []
    for _ in names:
        buffer = io.BytesIO()
        Image.fromarray(random.integers(0, 255, (218, 178, 3), dtype=np.uint8)).save(buffer, "JPEG")
        jpegs.append(buffer.getvalue())
    columns = {"file": names, "jpeg": jpegs} | {name: labels[:, k] for k, name in enumerate(ATTRIBUTES)}
    parquet.write_table(pa.table(columns), tmp_path / "faces.parquet")
    folder = tmp_path / "celeba"
    (folder / "img_align_celeba").mkdir(parents=True)
    for name, jpeg in zip(names, jpegs, strict=True):
        (folder / "img_align_celeba" / name).write_bytes(jpeg)
    rows = [f"{name} " + " ".join("1" if v else "-1" for v in row) for name, row in zip(names, labels, strict=True)]
    (folder / "list_attr_celeba.txt").write_text("\n".join(["5", " ".join(ATTRIBUTES), *rows]) + "\n")
    one, other = read_faces(tmp_path / "faces.parquet", SIZE), read_faces(folder, SIZE)
    assert torch.equal(one.pixels, other.pixels) and torch.equal(one.labels, other.labels)
    assert one.tenths.tolist() == [tenth(name) for name in names]
    with pytest.raises(GanvasError, match="list_attr_celeba"):
        read_faces(tmp_path, SIZE)
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    with pytest.raises(GanvasError, match="neither"):
        read_faces(tmp_path / "broken.parquet", SIZE)


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
