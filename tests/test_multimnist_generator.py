"""The MultiMNIST generator that ships: small, honest about itself, drawing one to four digits; and how one is made ready."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open

import ganvas
from ganvas import cli
from ganvas.errors import GanvasError
from ganvas.generators import find_card
from ganvas.generators.base import sample
from ganvas.generators.stylegan2 import StyleGAN2, layers, read_generator, save_generator
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture
from ganvas.training.gan import outputs
from ganvas.training.gan.loop import GENERATOR

ASSET = Path(ganvas.__file__).parent / "assets" / "generators" / "multimnist.safetensors"


@pytest.fixture(scope="module")
def generator():
    return ganvas.load_generator("multimnist")


def test_it_is_small_and_half_precision(generator):
    assert ASSET.stat().st_size <= 9_000_000
    with safe_open(ASSET, "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
    assert generator.resolution == 64 and generator.shape.colours == 1


def test_its_card_knows_it(generator):
    text = ASSET.with_suffix(".md").read_text(encoding="utf-8")
    assert generator.fingerprint[:12] in text and "Licence" in text
    assert find_card("multimnist").scorer == "count"
    with Image.open(ASSET.with_suffix(".png")) as sheet:
        assert sheet.size == (512, 512)


@torch.no_grad()
def test_it_draws_one_to_four_digits_on_black(generator):
    images = generator.synthesis(sample(generator, 128, psi=1.0, seed=1000))
    assert float(images.abs().max()) <= 1
    assert 0.8 < float((images < -0.9).float().mean()) < 0.99
    counter = ganvas.load_scorer("count")
    counts = counter(images)[:, counter.column("count")]
    shares = torch.stack([(counts == k).float().mean() for k in (1, 2, 3, 4)])
    assert float(shares.min()) > 0.05 and float(shares.sum()) > 0.8


def test_a_finished_generator_is_half_the_size_and_has_its_own_mean(tmp_path):
    shape = StyleGAN2Architecture(8, (8, 6), 6, 6, colours=1, mapping_layers=2, bounded=True)
    state = layers.initialize_weights(shape, torch.Generator().manual_seed(0))
    (tmp_path / "run").mkdir()
    save_generator(tmp_path / "run" / GENERATOR, state, shape, training={"images": 3})
    out = tmp_path / "small.safetensors"
    for path, code in ((tmp_path / "small.png", 1), (out, 0)):
        with pytest.raises(SystemExit) as stop:
            cli.main(["finish-gan", str(tmp_path / "run"), "--out", str(path)])
        assert (stop.value.code or 0) == code
    found = read_generator(out)
    w = found.mapping(torch.randn(40_000, 6, generator=torch.Generator().manual_seed(1)))
    assert float(((w.mean(0) - found.w_avg) / w.std(0)).abs().max()) < 0.05
    ws = torch.randn(3, found.num_ws, 6)
    torch.testing.assert_close(found.synthesis(ws), StyleGAN2(state, shape).synthesis(ws), rtol=0, atol=0.05)
    assert out.stat().st_size < 0.7 * (tmp_path / "run" / GENERATOR).stat().st_size
    assert out.with_suffix(".png").exists()
    with pytest.raises(GanvasError):
        outputs.export_generator(tmp_path / "none.safetensors", out)


@pytest.mark.parametrize("value", [1e6, float("nan")])
def test_weights_that_half_precision_can_not_hold_are_refused(tmp_path, value):
    shape = StyleGAN2Architecture(8, (8, 6), 6, 6, colours=1, mapping_layers=2, bounded=True)
    state = layers.initialize_weights(shape, torch.Generator().manual_seed(0))
    name = sorted(state)[0]
    state[name] = torch.full_like(state[name], value)
    save_generator(tmp_path / "large.safetensors", state, shape)
    with pytest.raises(GanvasError, match=f"can't be written in float16: {name} has weights beyond ±65,504") as error:
        outputs.export_generator(tmp_path / "large.safetensors", tmp_path / "out.safetensors")
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["large.safetensors"]
