"""Checkpoints of others: what is read equals what was written, and what the original code computes from it."""

import json
import os
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import stylegan2_layouts
import torch
from nvidia_pickles import dumps, snapshot
from test_stylegan2 import codes, state_of
from torch import nn

from ganvas import checkpoints, fit, label, load_generator, load_scorer
from ganvas.data.codes import load_codes, save_codes
from ganvas.data.label_files import load_labels
from ganvas.editors import load_editor, save
from ganvas.errors import GanvasError
from ganvas.generators.base import draw_z, sample, truncate
from ganvas.generators.stylegan2 import StyleGAN2
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture
from ganvas.recipe.model import FromSeed, Recipe
from ganvas.recipe.rendering import load_tools, render

SHAPES = {
    "skip": StyleGAN2Architecture(16, (12, 10, 8), 6, 7, mapping_layers=2),
    "grey": StyleGAN2Architecture(8, (8, 6), 6, 6, colours=1, mapping_layers=2),
    "resnet": StyleGAN2Architecture(16, (12, 10, 8), 6, 7, mapping_layers=3, architecture="resnet", clamp=0.9),
    "orig": StyleGAN2Architecture(
        16, (12, 10, 8), 6, 7, mapping_layers=2, architecture="orig", learning_rate_multiplier=0.1
    ),
    "labels": StyleGAN2Architecture(8, (8, 6), 6, 7, num_labels=3, mapping_layers=2, clamp=256.0),
    "embedding": StyleGAN2Architecture(8, (8, 6), 6, 7, num_labels=3, mapping_layers=2, embed_features=5),
}
DATA = Path(os.environ.get("GANVAS_DATA", Path(__file__).parents[2] / "shared" / "data")) / "checkpoints"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="the small checkpoints aren't here: GANVAS_DATA names the folder that has checkpoints/"
)


@needs_data
@pytest.mark.parametrize("name", ["nvidia-64.pkl", "nvidia-32-conditional.pkl", "rosinality-64.pt"])
@torch.no_grad()
def test_pictures_are_those_of_the_original_code(name, tmp_path):
    check_original(DATA / name, tmp_path / "g.safetensors")


def check_original(path, copy):
    """What the original code computed from a file, and that a copy of it draws the same."""
    generator = load_generator(path)
    expected = {k: torch.from_numpy(v) for k, v in np.load(path.with_suffix(".expected.npz")).items()}
    w = generator.mapping(expected["z"], expected.get("c"))
    wanted = expected["w"] if "w" in expected else expected["ws"][:, 0]
    assert float((w - wanted).abs().max()) < 1e-4
    for psi, key in ((1, "image"), (0.7, "image_psi07")):
        images = generator.synthesis(generator.expand(truncate(w, generator.w_avg, psi)))
        assert float((images - expected[key]).abs().max()) < 1e-4
    checkpoints.read(path).save(copy)
    again = load_generator(copy)
    assert again.fingerprint == generator.fingerprint
    assert torch.equal(again.synthesis(generator.expand(w)), generator.synthesis(generator.expand(w)))


def written(path, shape, protocol=4, **changes):
    path.write_bytes(dumps(snapshot(state_of(shape), shape, **changes), protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("kind", SHAPES)
def test_every_architecture_comes_back_from_nvidias_pickle(kind, protocol, tmp_path):
    shape = SHAPES[kind]
    generator = load_generator(written(tmp_path / "g.pkl", shape, protocol))
    direct = StyleGAN2(state_of(shape), shape)
    assert (generator.shape, generator.fingerprint) == (shape, direct.fingerprint)
    ws = codes(direct, 2)
    assert torch.equal(generator.synthesis(ws), direct.synthesis(ws))


def test_what_a_file_is_is_said(tmp_path):
    lines = "\n".join(checkpoints.describe_file(written(tmp_path / "g.pkl", SHAPES["labels"])))
    generator = load_generator(tmp_path / "g.pkl")
    for words in ("NVIDIA's pickle", "stylegan2", "skip", "8×8", "3 labels", generator.fingerprint, "G_ema is read"):
        assert words in lines


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"activation": "relu"}, "activation relu"),
        ({"conv_clamp": -1}, "gain or clamp of -1"),
        ({"conv_clamp": [1]}, "gain or clamp"),
    ],
)
def test_another_kind_of_layer_is_refused(changes, words, tmp_path):
    with pytest.raises(GanvasError, match=words):
        load_generator(written(tmp_path / "g.pkl", SHAPES["skip"], **changes))


def test_another_filter_weights_of_other_shapes_and_other_networks_are_refused(tmp_path):
    shape, path = SHAPES["skip"], tmp_path / "g.pkl"

    def refused(words, value):
        path.write_bytes(dumps(value))
        with pytest.raises(GanvasError, match=words):
            load_generator(path)

    def part(value, *names):
        for name in names:
            value = value.state["_modules"][name]
        return value.state

    made = snapshot(state_of(shape), shape)
    part(made["G_ema"], "synthesis", "b8", "conv0")["_buffers"]["resample_filter"] = torch.ones(4, 4) / 16
    refused("another filter", made)
    made = snapshot(state_of(shape), shape)
    part(made["G_ema"], "mapping")["_modules"]["fc1"].state["bias_gain"] = 1.0
    refused("different learning rates", made)
    made = snapshot(state_of(shape), shape)
    part(made["G_ema"], "mapping")["_buffers"]["w_avg"] = torch.zeros(3)
    refused("w_avg", made)
    made = snapshot(state_of(shape), shape)
    part(made["G_ema"], "mapping")["_buffers"]["w_avg"] = torch.full((7,), torch.nan)
    refused("finite", made)
    made = snapshot(state_of(shape), shape)
    part(made["G_ema"], "synthesis")["_modules"] = {"L0_36_512": part(made["G_ema"], "mapping")["_modules"]["fc0"]}
    refused("StyleGAN3", made)
    refused("Discriminator", {"D": made["D"]})
    refused("no network", {"x": 1})
    refused("no network", [made["G"]])


def test_codes_labels_editors_and_recipes_of_one_file_are_refused_by_another_with_both_names(tmp_path):
    shape = StyleGAN2Architecture(32, (4, 4, 4, 4), 6, 6, mapping_layers=1)
    for name, seed in (("mine", 0), ("other", 1)):
        (tmp_path / f"{name}.pkl").write_bytes(dumps(snapshot(state_of(shape, seed), shape)))
    checkpoints.read(tmp_path / "mine.pkl").save(tmp_path / "same.safetensors")
    mine, other, same = (load_generator(tmp_path / n) for n in ("mine.pkl", "other.pkl", "same.safetensors"))
    save_codes(tmp_path / "codes.safetensors", sample(mine, 2), mine)
    data = label(mine, load_scorer("toy"), 300, out=tmp_path / "labels")
    varied = max(data.attributes, key=lambda name: len(data.select([name]).scores.unique()))
    save(fit("mean_difference", data.select([varied]), mine), tmp_path / "editor.safetensors")
    tools = load_tools(str(tmp_path / "mine.pkl"), editor=tmp_path / "editor.safetensors")
    recipe = Recipe(tools.generator_name, FromSeed(3, 0.7), "float32", None, tools.editor_name, ())
    for use in (
        lambda generator: load_codes(tmp_path / "codes.safetensors", generator),
        lambda generator: load_labels(tmp_path / "labels", generator),
        lambda generator: load_editor(tmp_path / "editor.safetensors", generator),
        lambda generator: render(recipe, replace(tools, generator=generator)),
    ):
        use(same)
        with pytest.raises(
            GanvasError, match=rf"'mine' \({mine.fingerprint[:12]}\), not for 'other' \({other.fingerprint[:12]}\)"
        ):
            use(other)


# rosinality's layout.


def theirs(shape: StyleGAN2Architecture) -> dict[str, torch.Tensor]:
    return stylegan2_layouts.rosinality(state_of(shape), shape) | {"convs.0.conv.blur.kernel": torch.ones(4, 4)}


def test_rosinalitys_checkpoints_of_any_age_are_read(tmp_path):
    shape, path = SHAPES["skip"], tmp_path / "g.pt"
    direct = StyleGAN2(state_of(shape), shape)
    average = state_of(shape)["mapping.w_avg"]
    for modern in (True, False):
        saved = {"g_ema": theirs(shape), "latent_avg": average, "args": Namespace(size=16, path="x"), "d": {}}
        saved["g_optim"] = {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.002}]}
        torch.save(saved, path, _use_new_zipfile_serialization=modern)
        generator = load_generator(path)
        assert generator.fingerprint == direct.fingerprint
        ws = codes(direct, 2)
        assert torch.equal(generator.synthesis(ws), direct.synthesis(ws))


def test_what_an_old_checkpoint_lacks_is_made_the_same_each_time(tmp_path):
    shape, path = SHAPES["skip"], tmp_path / "g.pt"
    state = {k: v for k, v in theirs(shape).items() if not k.startswith("noises")}
    torch.save({"g": state}, path)
    found = checkpoints.read(path)
    assert any("no constant noise" in note for note in found.notes) and any("mean of W" in note for note in found.notes)
    generator = load_generator(path)
    assert generator.fingerprint == load_generator(path).fingerprint
    w = generator.mapping(draw_z(generator, range(2000)))
    assert float((w.mean(0) - generator.w_avg).abs().max()) < 6 * float(w.std(0).max()) / 2000**0.5


def test_weights_too_many_too_few_or_of_other_shapes_are_refused(tmp_path):
    shape, path = SHAPES["skip"], tmp_path / "g.pt"
    for changes, words in (
        ({"more.weight": torch.zeros(1)}, "'more.weight'"),
        ({"conv1.activate.bias": torch.zeros(99)}, "conv1.activate.bias of shape"),
        ({"input.input": torch.zeros(1, 12, 8, 8)}, "are expected"),
    ):
        torch.save({"g_ema": theirs(shape) | changes}, path)
        with pytest.raises(GanvasError, match=words):
            load_generator(path)
    torch.save({"g_ema": {k: v for k, v in theirs(shape).items() if k != "conv1.activate.bias"}}, path)
    with pytest.raises(GanvasError, match="missing"):
        load_generator(path)


# Generators without W.

LAYERS = [
    {"kind": "deconvolution", "name": "main.0"},
    {"kind": "norm", "name": "main.1"},
    {"kind": "relu"},
    {"kind": "deconvolution", "name": "main.3", "stride": 2, "padding": 1},
    {"kind": "norm", "name": "main.4"},
    {"kind": "leaky_relu", "slope": 0.1},
    {"kind": "deconvolution", "name": "main.6", "stride": 2, "padding": 1},
    {"kind": "tanh"},
]


def deconvolutional(channels: int = 3) -> nn.Module:
    torch.manual_seed(0)
    network = nn.Module()
    network.main = nn.Sequential(
        nn.ConvTranspose2d(5, 8, 4, 1, 0, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 4, 2, 1, bias=False),
        nn.BatchNorm2d(6),
        nn.LeakyReLU(0.1),
        nn.ConvTranspose2d(6, channels, 4, 2, 1),
        nn.Tanh(),
    )
    for _ in range(3):  # so that the norms have seen something
        network.main(torch.randn(16, 5, 1, 1))
    return network.eval()


def card(path: Path, **changes) -> Path:
    path.write_text(json.dumps({"z_dim": 5, "layers": LAYERS} | changes))
    return path


@pytest.mark.parametrize("space", ["z", "first"])
@pytest.mark.parametrize("prefix", ["", "module."])
@torch.no_grad()
def test_a_dcgan_draws_what_it_drew_and_its_space_is_z_or_the_first_layers(space, prefix, tmp_path):
    network, path = deconvolutional(), tmp_path / "g.pt"
    torch.save({prefix + k: v for k, v in network.state_dict().items()}, path)
    card(tmp_path / "g.json", space=space)
    generator = load_generator(path)
    z = draw_z(generator, range(3))
    w = generator.mapping(z)
    assert (generator.num_ws, generator.w_dim, generator.resolution) == (1, 5 if space == "z" else 128, 16)
    assert generator.style_weights() == []
    wanted = network.main(z[..., None, None])
    torch.testing.assert_close(generator.synthesis(generator.expand(w)), wanted, rtol=1e-5, atol=1e-5)
    if space == "z":
        assert torch.equal(w, z) and not generator.w_avg.any()
    else:
        torch.testing.assert_close(w, network.main[:3](z[..., None, None]).flatten(1), rtol=1e-5, atol=1e-5)
    checkpoints.read(path).save(tmp_path / "own.safetensors")
    again = load_generator(tmp_path / "own.safetensors")
    assert again.fingerprint == generator.fingerprint
    assert torch.equal(sample(again, 2), sample(generator, 2))


def test_a_grey_dcgan_repeats_its_channel_and_the_space_is_part_of_its_identity(tmp_path):
    torch.save(deconvolutional(1).state_dict(), tmp_path / "g.pt")
    card(tmp_path / "g.json")
    generator = load_generator(tmp_path / "g.pt")
    images = generator.synthesis(sample(generator, 2))
    assert images.shape == (2, 3, 16, 16) and torch.equal(images[:, 0], images[:, 2])
    card(tmp_path / "g.json", space="first")
    assert load_generator(tmp_path / "g.pt").fingerprint != generator.fingerprint


def test_a_card_in_toml_beside_or_elsewhere(tmp_path):
    torch.save(deconvolutional().state_dict(), tmp_path / "g.pt")
    rows = ", ".join("{" + ", ".join(f"{k} = {json.dumps(v)}" for k, v in row.items()) + "}" for row in LAYERS)
    (tmp_path / "other.toml").write_text(f"z_dim = 5\nlayers = [{rows}]\n")
    found = checkpoints.read(tmp_path / "g.pt", tmp_path / "other.toml")
    (tmp_path / "other.toml").rename(tmp_path / "g.toml")
    assert load_generator(tmp_path / "g.pt").fingerprint == found.build_generator("g").fingerprint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"layers": []}, "layers must have at least 1"),
        ({"layers": 3}, "layers must be a list, not 3"),
        ({"layers": [{"kind": "attention"}]}, "Unknown kind of layer"),
        ({"layers": [{"kind": "norm"}]}, "needs name|needs a name|needs"),
        ({"layers": [*LAYERS[:-4], {"kind": "linear", "name": "main.6"}]}, "doesn't fit|channels of a square"),
        ({"layers": [*LAYERS, {"kind": "deconvolution", "name": "main.9"}]}, "lacks 'main.9.weight'"),
        (
            {"layers": [{"kind": "deconvolution", "name": "main.0", "stride": "2"}]},
            r"layers\[0\]\.stride must be a whole number, not '2'",
        ),
        ({"layers": LAYERS + [{"kind": "double"}] * 30}, "are possible"),
        ({"layers": [*LAYERS[:3], {"kind": "relu"}]}, "channels of a square"),
        ({"z_dim": 10**9}, "z_dim must be"),
        ({"z_dim": "5"}, "z_dim must be a whole number, not '5'"),
        ({"z_dim": 6}, "doesn't fit its input"),
        ({"space": "y"}, "Unknown space"),
        ({"extra": 1}, "Unknown key 'extra'"),
    ],
)
def test_cards_that_lie_are_refused(changes, words, tmp_path):
    torch.save(deconvolutional().state_dict(), tmp_path / "g.pt")
    card(tmp_path / "g.json", **changes)
    with pytest.raises(GanvasError, match=words) as caught:
        load_generator(tmp_path / "g.pt")
    assert "\n" not in str(caught.value)


def test_a_state_dict_without_a_card_says_what_it_needs(tmp_path):
    torch.save(deconvolutional().state_dict(), tmp_path / "g.pt")
    with pytest.raises(GanvasError, match=r"main.0.weight.* without a card: .*g.toml or g.json"):
        load_generator(tmp_path / "g.pt")
    torch.save({"x": 1}, tmp_path / "g.pt")
    with pytest.raises(GanvasError, match="no named tensors"):
        load_generator(tmp_path / "g.pt")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty, not a checkpoint: download"),
        (b"\0" * 100, "100 zeros"),
        (b"\x89PNG\r\n", "PNG picture"),
        (b"\xff\xd8\xff\xe0", "JPEG picture"),
        (b"RIFF\1\2\3\4WEBP", "WebP picture"),
        (b"\0\0\0\x20ftypisom", "MP4"),
        (b"7z\xbc\xaf\x27\x1c\0", "7-Zip.*unpack it"),
        (b"\x28\xb5\x2f\xfd\0", "Zstandard.*unpack it"),
        (b"\x89HDF\r\n\x1a\n\0", "HDF5"),
        (b"\x1c\0\0\0TFL3", "TensorFlow Lite"),
        (b"\x08\x07\x12\x07pytorch", "ONNX"),
        (b"\x93NUMPY\x01", "import-codes"),
        (b"MZ\x90\0", "a program"),
        (b"\n  <HTML><head><TITLE>Quota\n &amp; more</title>", r"a web page \('Quota & more'\)"),
        (b"<html>", "a web page, not a checkpoint"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", r"server's answer in XML \('NoSuchKey'\)"),
        (b'\xef\xbb\xbf{"error": "Repository not found"}', "JSON .*Repository not found"),
        (b"Invalid username or password.", "server's answer or another short text .'Invalid username"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1234\n",
            "Git LFS to the file of 1,234 bytes",
        ),
        (b"/annex/objects/SHA256E-s12--0.pkl\n", "git-annex"),
        (b"cos\nsystem\n(S'touch owned'\ntR.", "pickle in an old form"),
        (b"(dp0\nVa\np1\nI1\ns.", "pickle in an old form"),
        (b"\x01\x02\x03", "not a checkpoint that ganvas reads"),
    ],
)
def test_files_of_other_kinds_are_refused_by_name(content, words, tmp_path):
    path = tmp_path / "x.pkl"
    path.write_bytes(content)
    with pytest.raises(GanvasError, match=words) as caught:
        load_generator(path)
    assert str(caught.value).isprintable()


def test_urls_and_names_that_are_no_files_are_refused():
    with pytest.raises(GanvasError, match=r"Unknown generator .*the path of a checkpoint"):
        load_generator("none.pkl")
    address = "https://example.org/networks/ffhq.pkl"
    for read in (load_generator, checkpoints.read, checkpoints.describe_file):
        for given in (address, Path(address)):
            with pytest.raises(GanvasError, match=f"{address} is a URL: download it first"):
                read(given)
