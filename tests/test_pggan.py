"""Progressive GANs in the layouts of pytorch_GAN_zoo, genforce and TensorFlow, and files that lie."""

import os
import pickle

import numpy as np
import pytest
import torch
from gan_layouts import (
    GAN_ZOO_CONFIG,
    convert_to_tensorflow,
    draw_gan_zoo,
    draw_genforce,
    make_gan_zoo_state,
    make_genforce_state,
    write_gan_zoo,
)
from tensorflow_pickles import dumps, snapshot, write_variables

from ganvas import checkpoints, load_generator
from ganvas.errors import GanvasError
from ganvas.generators.base import draw_z, sample

TOLERANCE = 1e-4
"""Of the standard deviation of the expected picture."""


def compute_error(images, expected):
    return float((images - expected).abs().max() / expected.std())


def draw(generator, z):
    return generator.synthesis(generator.expand(generator.mapping(z)))


@pytest.mark.parametrize(
    "changes", [{}, {"alpha": 0.3}, {"leakyReluLeak": 0.1}, {"lossCriterion": "MSE"}, {"equalizedlR": False}]
)
@torch.no_grad()
def test_pytorch_gan_zoo(changes, tmp_path):
    config = write_gan_zoo(tmp_path / "g.pth", make_gan_zoo_state(), **changes)
    generator = load_generator(tmp_path / "g.pth")
    z = draw_z(generator, range(3))
    expected = draw_gan_zoo(make_gan_zoo_state(), z, config)
    assert (generator.z_dim, generator.num_ws, generator.resolution) == (7, 1, 16) and expected.shape == (3, 3, 16, 16)
    assert compute_error(draw(generator, z), expected) < TOLERANCE
    assert "avgG is read" in "\n".join(checkpoints.describe_file(tmp_path / "g.pth"))


@pytest.mark.parametrize("lod", [0, 0.25, 1, 1.5, 2])
@torch.no_grad()
def test_genforce_at_any_level_of_detail(lod, tmp_path):
    state = make_genforce_state(lod)
    torch.save({"generator": make_genforce_state(0, seed=9), "generator_smooth": state}, tmp_path / "g.pth")
    generator = load_generator(tmp_path / "g.pth")
    z = draw_z(generator, range(3))
    assert compute_error(draw(generator, z), draw_genforce(state, z)) < TOLERANCE
    notes = checkpoints.read(tmp_path / "g.pth").notes
    assert "generator_smooth is read" in notes[0] and any("level of detail" in note for note in notes) == (lod > 0)


def write_tensorflow(path, state, fused=True, protocol=4, settings=None, **extra):
    """A pickle of the paper's code: (G, D, Gs), networks of the class ``tfutil.Network``."""
    variables = write_variables(convert_to_tensorflow(state, fused)) | extra
    settings = settings or {"label_size": 0, "normalize_latents": True}
    path.write_bytes(dumps(snapshot(variables, 2, **settings), protocol, "tfutil"))


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize(("fused", "lod"), [(False, 0), (True, 0), (True, 0.5)])
@torch.no_grad()
def test_tensorflows_pickle(fused, lod, protocol, tmp_path):
    state = make_genforce_state(lod)
    write_tensorflow(tmp_path / "g.pkl", state, fused, protocol)
    generator = load_generator(tmp_path / "g.pkl")
    z = draw_z(generator, range(3))
    assert compute_error(draw(generator, z), draw_genforce(state, z)) < TOLERANCE
    text = "\n".join(checkpoints.describe_file(tmp_path / "g.pkl"))
    assert "holds G, D, Gs; Gs is read" in text and "Progressive GAN's pickle of TensorFlow" in text


@pytest.mark.parametrize(
    ("settings", "extra", "words"),
    [
        ({"normalize_latents": False}, {}, "normalize_latents False: only True can be read"),
        ({"use_wscale": False}, {}, "use_wscale False"),
        ({"use_pixelnorm": 1}, {}, "use_pixelnorm 1"),
        ({"use_leakyrelu": False}, {}, "use_leakyrelu False"),
        ({"pixelnorm_epsilon": 1e-4}, {}, "pixelnorm_epsilon 0.0001: only 1e-08"),
        ({"label_size": 3}, {}, "label_size 3: only 0 can be read"),
        ({}, {"16x16/more": np.zeros(3, np.float32)}, "a weight '16x16/more', which Progressive GAN doesn't have"),
        ({}, {"8x8/Conv1/bias": np.zeros(7, np.float32)}, "b1.conv1.bias is of shape"),
        ({}, {"8x8/Conv0_up/weight": np.zeros((), np.float32)}, "of shape"),
        ({}, {"lod": np.full((), 9, np.float32)}, "level of detail is 9"),
    ],
)
def test_tensorflows_settings_and_weights_that_cannot_be_read(settings, extra, words, tmp_path):
    write_tensorflow(tmp_path / "g.pkl", make_genforce_state(), settings=settings, **extra)
    check_refused(tmp_path / "g.pkl", words)


def test_one_network_has_one_fingerprint_in_each_layout(tmp_path):
    state = make_genforce_state()
    torch.save(state, tmp_path / "g.pth")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    prints = {load_generator(tmp_path / name).fingerprint for name in ("g.pth", "old.pth")}
    for fused in (False, True):
        write_tensorflow(tmp_path / "g.pkl", state, fused)
        prints.add(load_generator(tmp_path / "g.pkl").fingerprint)
    checkpoints.read(tmp_path / "g.pth").save(tmp_path / "own.safetensors")
    prints.add(load_generator(tmp_path / "own.safetensors").fingerprint)
    assert len(prints) == 1
    torch.save(make_genforce_state(lod=1), tmp_path / "g.pth")
    assert load_generator(tmp_path / "g.pth").fingerprint not in prints


@torch.no_grad()
def test_grey_pictures_smaller_ones_and_bfloat16(tmp_path):
    state = make_genforce_state()
    for i in range(3):
        state[f"output{i}.weight"], state[f"output{i}.bias"] = (
            state[f"output{i}.weight"][:1],
            state[f"output{i}.bias"][:1],
        )
    torch.save(state, tmp_path / "g.pth")
    generator = load_generator(tmp_path / "g.pth")
    images = generator.synthesis(sample(generator, 2))
    assert images.shape == (2, 3, 16, 16) and torch.equal(images[:, 0], images[:, 2])
    assert generator.synthesis(sample(generator, 2), resolution=8).shape == (2, 3, 8, 8)
    other = load_generator(tmp_path / "g.pth", dtype=torch.bfloat16)
    assert (other.synthesis(sample(generator, 2)) - images).abs().mean() < 0.1 * images.std()


@torch.no_grad()
def test_the_length_of_z_changes_nothing_and_w_is_z(tmp_path):
    torch.save(make_genforce_state(), tmp_path / "g.pth")
    generator = load_generator(tmp_path / "g.pth")
    z = draw_z(generator, range(2))
    assert torch.equal(generator.mapping(z), z) and not generator.w_avg.any() and generator.style_weights() == []
    torch.testing.assert_close(draw(generator, z), draw(generator, 0.7 * z), rtol=1e-4, atol=1e-4)
    with pytest.raises(GanvasError, match="takes no labels"):
        generator.mapping(z, torch.zeros(2, 1))
    with pytest.raises(GanvasError, match=r"shape \(n, 1, 7\)"):
        generator.synthesis(torch.zeros(2, 2, 7))


def test_gradients_reach_z(tmp_path):
    torch.save(make_genforce_state(), tmp_path / "g.pth")
    generator = load_generator(tmp_path / "g.pth")
    ws = sample(generator, 2).clone().requires_grad_()
    generator.synthesis(ws).square().mean().backward()
    assert (ws.grad.norm(dim=2) > 0).all()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alpha": 7}, "level of detail is 7: 0 to 2"),
        ({"alpha": -1}, "lod must be"),
        ({"alpha": "x"}, "lod must be a finite number"),
        ({"alpha": float("nan")}, "lod must be"),
        ({"leakyReluLeak": [1]}, "slope must be"),
        ({"leakyReluLeak": 1e300}, "slope must be"),
        ({"lossCriterion": "os.system"}, "the loss os.system: WGANGP, MSE, DCGAN can be read"),
        ({"lossCriterion": {"a": 1}}, "the loss a dict"),
        ({"perChannelNormalization": False}, "perChannelNormalization False"),
        ({"categoryVectorDim": 4}, "categoryVectorDim 4: only 0"),
        ({"equalizedlR": 3}, "equalizedlR 3"),
    ],
)
def test_settings_that_lie_or_cannot_be_read(changes, words, tmp_path):
    write_gan_zoo(tmp_path / "g.pth", make_gan_zoo_state(), **changes)
    check_refused(tmp_path / "g.pth", words)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("layer0.weight", torch.zeros(8, 7, 3, 3), "4×4 is expected"),
        ("layer0.weight", torch.zeros(8, 7), "4×4 is expected"),
        ("layer0.bias", torch.zeros(9), "dense.bias is of shape"),
        ("layer1.weight", torch.zeros(0, 8, 3, 3), "lacks the weights layer1.weight"),
        ("layer3.bias", None, "lacks the weights layer3.bias"),
        ("layer2.weight", torch.zeros(8, 6, 3, 3), "fused_scale"),
        ("layer4.weight", torch.zeros(()), "of shape"),
        ("output2.weight", torch.zeros(4, 5, 1, 1), "4 channels: 1 or 3"),
        ("output2.weight", torch.zeros(()), "of shape"),
        ("output0.bias", torch.zeros(2), "is of shape"),
        ("lod", torch.tensor(3.0), "level of detail is 3"),
        ("lod", torch.zeros(2), "level of detail of shape"),
        ("lod", torch.tensor(1), "level of detail that is no floating-point number"),
        ("lod", torch.tensor(float("nan")), "aren't finite"),
        ("more", torch.zeros(2), "a weight 'more', which Progressive GAN doesn't have"),
    ],
)
def test_weights_that_lie_are_refused_in_one_line(name, value, words, tmp_path):
    state = make_genforce_state()
    if value is None:
        del state[name]
    else:
        state[name] = value
    torch.save(state, tmp_path / "g.pth")
    check_refused(tmp_path / "g.pth", words)


@pytest.mark.parametrize(
    "missing", ["formatLayer.module.bias", "scaleLayers.0.1.module.weight", "toRGBLayers.2.module.bias"]
)
def test_gan_zoos_weights_that_are_missing(missing, tmp_path):
    state = make_gan_zoo_state()
    del state[missing]
    write_gan_zoo(tmp_path / "g.pth", state)
    check_refused(tmp_path / "g.pth", "lacks the weights|doesn't have")


class Shell:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch owned",)


def test_programs_beside_the_weights_are_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_gan_zoo(tmp_path / "g.pth", make_gan_zoo_state(), extra=Shell())
    for home, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load"), (os, "system")):
        monkeypatch.setattr(home, name, lambda *arguments, **named: pytest.fail("a file was run"))
    check_refused(tmp_path / "g.pth", r"refers to (posix|nt)\.system")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["g.pth"]


def test_a_config_that_is_no_object_is_ignored(tmp_path):
    torch.save({"config": [1], "avgG": make_gan_zoo_state()}, tmp_path / "g.pth")
    write_gan_zoo(tmp_path / "h.pth", make_gan_zoo_state())
    assert load_generator(tmp_path / "g.pth").fingerprint == load_generator(tmp_path / "h.pth").fingerprint
    assert GAN_ZOO_CONFIG["alpha"] == 0


def check_refused(path, words):
    with pytest.raises(GanvasError, match=words) as caught:
        load_generator(path)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 600 + 2 * len(str(path))
