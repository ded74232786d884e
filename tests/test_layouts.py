"""StyleGAN2 networks in the layouts of others, and wrapped as others do: the same network comes back from each."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from argparse import Namespace
from collections import Counter, defaultdict
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import stylegan2_layouts as layouts
import torch
from nvidia_pickles import Network, dumps, network, save_module, snapshot
from safetensors.torch import save_file
from stylegan2_layouts import SHAPE
from test_stylegan2 import codes, state_of

from ganvas import checkpoints, load_generator
from ganvas.errors import GanvasError
from ganvas.generators.base import map_seeds
from ganvas.generators.stylegan2 import StyleGAN2
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture

STATE = state_of(SHAPE)
MEAN = STATE["mapping.w_avg"]
THEIRS = layouts.rosinality(STATE, SHAPE)


def check_same(path, shape=SHAPE, state=STATE):
    """Check that a file holds the network of ``state``, and that no note says otherwise."""
    generator, direct = load_generator(path), StyleGAN2(state, shape)
    assert generator.fingerprint == direct.fingerprint and generator.shape == shape
    ws = codes(direct, 2)
    assert torch.equal(generator.synthesis(ws), direct.synthesis(ws))


def check_refused(path, words):
    with pytest.raises(GanvasError, match=words) as caught:
        load_generator(path)
    assert str(caught.value).isprintable()


ROWS = MEAN.expand(len(SHAPE.row_resolutions), -1)
WRAPPED = {
    "e4e": {"state_dict": layouts.encoder() | layouts.prefixed("decoder.", THEIRS), "latent_avg": ROWS.clone()},
    "pSp": {"state_dict": layouts.encoder() | layouts.prefixed("decoder.", THEIRS), "latent_avg": MEAN,
            "opts": Namespace(output_size=16, device="cuda:0")},
    "ReStyle, with the mean among the weights": {
        "state_dict": layouts.encoder() | layouts.prefixed("decoder.", THEIRS) | {"latent_avg": MEAN[None]}},
    "DataParallel": {"g_ema": layouts.prefixed("module.", THEIRS), "latent_avg": MEAN[None]},
    "Lightning": {"state_dict": layouts.prefixed("generator_ema.", THEIRS)
                  | layouts.prefixed("generator.", {k: v + 1 for k, v in THEIRS.items()}) | {"discriminator.a": MEAN},
                  "mean_latent": MEAN[None], "epoch": 3, "callbacks": {None: 1, True: 2, 0.5: 3}},
    "flat": layouts.prefixed("g_ema.", THEIRS) | {"g_ema.latent_avg": MEAN},
    "all at once": {"state_dict": layouts.prefixed("module.model.generator.", THEIRS), "latent_avg": MEAN},
    "g and g_ema": {"g": {k: v + 1 for k, v in THEIRS.items()}, "g_ema": THEIRS, "d": {"x": MEAN}, "latent_avg": MEAN},
}  # fmt: skip


@pytest.mark.parametrize("modern", [True, False])
@pytest.mark.parametrize("kind", WRAPPED)
def test_rosinalitys_names_are_found_wherever_others_put_them(kind, modern, tmp_path):
    torch.save(WRAPPED[kind], tmp_path / "g.pt", _use_new_zipfile_serialization=modern)
    check_same(tmp_path / "g.pt")
    assert "mean of W" not in " ".join(checkpoints.read(tmp_path / "g.pt").notes)


def test_which_of_several_generators_is_read_is_said(tmp_path):
    torch.save(WRAPPED["Lightning"], tmp_path / "g.pt")
    first, second = checkpoints.read(tmp_path / "g.pt").notes
    assert first == "holds state_dict.generator_ema, state_dict.generator; state_dict.generator_ema is read"
    assert second == "discriminator beside the generator is left out"
    torch.save(WRAPPED["pSp"], tmp_path / "g.pt")
    assert checkpoints.read(tmp_path / "g.pt").notes == ("encoder beside the generator is left out",)


def test_a_generator_that_only_resembles_another_network_is_not_called_one(tmp_path):
    for names in (
        ("head.conv.weight", "tail.0.weight"),
        ("G.main.weight", "D.main.weight"),
        ("dense.weight", "decode.bias"),
    ):
        torch.save(dict.fromkeys(names, WEIGHT), tmp_path / "g.pt")
        check_refused(tmp_path / "g.pt", f"{names[0]}.*without a card")


def test_an_unknown_generator_beside_a_discriminator_is_no_discriminator(tmp_path):
    torch.save({"g": {"main.0.weight": WEIGHT}, "d": {"final_linear.0.weight": WEIGHT}}, tmp_path / "g.pt")
    check_refused(tmp_path / "g.pt", "main.0.weight.*without a card")
    other = {
        "G": Network("Painter", {"weight": WEIGHT}, {}),
        "D": Network("Discriminator", {"b4.out.weight": WEIGHT}, {}),
    }
    (tmp_path / "g.pkl").write_bytes(dumps(other))
    check_refused(tmp_path / "g.pkl", r"whole modules, G \(Painter\), D \(Discriminator\): none is")


def test_a_mean_that_is_expanded_to_all_rows_is_read_and_little_else(tmp_path):
    torch.save({"g_ema": THEIRS, "latent_avg": ROWS}, tmp_path / "g.pt")
    check_same(tmp_path / "g.pt")
    for more in ({"x": MEAN[:1].expand(2**15)}, {f"x{i}": MEAN[:1].expand(2**13) for i in range(9)}):
        torch.save({"g_ema": THEIRS | more}, tmp_path / "g.pt")
        check_refused(tmp_path / "g.pt", "numbers where .* stored")


def test_what_training_scripts_keep_beside_a_network_is_passed_over(tmp_path):
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))])
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    options = {
        "numbers": [np.float32(3.25), np.float64(2), np.int64(3), np.bool_(True)],
        "types": [torch.float32, list, torch.device("cuda", 0), torch.Size([1, 2])],
        "sets": [{"a", 1}, defaultdict(list, {"a": [1]}), Counter("aab")],
        "when": [datetime(2020, 1, 1), Path("runs")],
        "state": [optimizer.state_dict(), schedule.state_dict(), optimizer],
        "classes": {Counter: 1},
    }
    for modern in (True, False):
        value = {"g_ema": THEIRS, "latent_avg": MEAN, "hyper_parameters": options, "args": Namespace(**options)}
        torch.save(value, tmp_path / "g.pt", _use_new_zipfile_serialization=modern)
        check_same(tmp_path / "g.pt")


def test_a_mean_for_each_row_is_averaged_and_one_of_another_size_is_computed(tmp_path):
    path, rows = tmp_path / "g.pt", torch.randn(6, SHAPE.w_dim)
    torch.save({"g_ema": THEIRS, "latent_avg": rows}, path)
    assert any("each of 6 rows" in note for note in checkpoints.read(path).notes)
    torch.testing.assert_close(load_generator(path).w_avg, rows.mean(0))
    torch.save({"g_ema": THEIRS, "latent_avg": torch.zeros(3)}, path)
    assert any("of shape (3,), not (7,): it's taken over" in note for note in checkpoints.read(path).notes)
    generator = load_generator(path)
    torch.testing.assert_close(generator.w_avg, map_seeds(generator, range(4096)).mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:Couldn't retrieve source code")
@pytest.mark.parametrize("modern", [True, False])
def test_a_whole_module_is_read_with_what_its_layers_say(modern, tmp_path):
    path, multiplier = tmp_path / "g.pt", 0.1
    module = layouts.as_module(THEIRS, {"style.1": {"lr_mul": multiplier, "activation": "fused_lrelu"}})
    layouts.save_whole(module, path, _use_new_zipfile_serialization=modern)
    shape = replace(SHAPE, learning_rate_multiplier=multiplier)
    assert load_generator(path).shape == shape
    layouts.save_whole({"g_ema": module, "latent_avg": MEAN}, path)
    check_same(path, shape)
    layouts.save_whole(layouts.as_module(THEIRS, {"style.1": {"lr_mul": "much"}}), path)
    check_refused(path, "multiplier of much")
    layouts.save_whole(layouts.as_module({"a.weight": MEAN}), path)
    check_refused(
        path, r"holds whole modules, \(models.stylegan2.model.Generator\): none is a generator that ganvas reads"
    )


def test_rosinalitys_grey_and_other_pictures(tmp_path):
    path, shape = tmp_path / "g.pt", replace(SHAPE, colours=1)
    state = state_of(shape)
    torch.save({"g_ema": layouts.rosinality(state, shape), "latent_avg": state["mapping.w_avg"]}, path)
    check_same(path, shape, state)
    theirs = THEIRS | {"to_rgb1.conv.weight": torch.zeros(1, 4, 12, 1, 1)}
    torch.save({"g_ema": theirs}, path)
    check_refused(path, "4 channels .*transparency")
    torch.save({"g_ema": THEIRS | {"input.input": torch.zeros(1, 12, 4, 2)}}, path)
    check_refused(path, "8 wide and 16 high")
    torch.save({"g_ema": THEIRS | {"style.1.weight": torch.zeros(7, 12)}}, path)
    check_refused(path, "conditional network.*12 numbers for codes of 7")


PLAIN = {
    "skip": SHAPE,
    "grey": StyleGAN2Architecture(8, (8, 6), 6, 6, colours=1, mapping_layers=3),
    "orig": StyleGAN2Architecture(16, (12, 10, 8), 6, 7, mapping_layers=2, architecture="orig"),
    "resnet": StyleGAN2Architecture(16, (12, 10, 8), 6, 7, mapping_layers=1, architecture="resnet"),
    "labels": StyleGAN2Architecture(8, (8, 6), 6, 7, num_labels=3, mapping_layers=2),
    "embedding": StyleGAN2Architecture(8, (8, 6), 6, 7, num_labels=3, mapping_layers=2, embed_features=5),
}


@pytest.mark.parametrize("prefix", ["", "module.", "G_ema.", "generator."])
@pytest.mark.parametrize("kind", PLAIN)
def test_a_state_dict_of_nvidias_says_its_sizes(kind, prefix, tmp_path):
    shape, path = PLAIN[kind], tmp_path / "g.pt"
    state = state_of(shape)
    torch.save(layouts.prefixed(prefix, state), path)
    check_same(path, shape, state)
    assert any("learning rate multiplier" in note for note in checkpoints.read(path).notes)
    torch.save({"G_ema": layouts.prefixed(prefix, state)}, path)
    check_same(path, shape, state)


def test_a_state_dict_of_nvidias_may_lack_noise_and_mean(tmp_path):
    path, shape = tmp_path / "g.pt", PLAIN["labels"]
    state = {k: v for k, v in state_of(shape).items() if "noise" not in k and k != "mapping.w_avg"}
    torch.save(state, path)
    notes = checkpoints.read(path).notes
    assert "has no noise" in notes and any("no mean of W" in note for note in notes)
    generator = load_generator(path)
    torch.testing.assert_close(generator.w_avg, map_seeds(generator, range(4096)).mean(0), rtol=1e-4, atol=1e-5)
    assert generator.fingerprint == load_generator(path).fingerprint


def test_state_dicts_of_nvidias_that_cant_be_read_are_refused(tmp_path):
    path, state = tmp_path / "g.pt", state_of(SHAPE)
    for changes, words in (
        ({"synthesis.b4.const": torch.zeros(12, 4, 7)}, "28 wide and 16 high"),
        ({"synthesis.b16.torgb.weight": torch.zeros(4, 8, 1, 1)}, "channels"),
        ({"synthesis.b8.conv0.resample_filter": torch.ones(4, 4) / 16}, "another filter"),
        ({"mapping.fc1.weight": torch.zeros(3)}, "no matrix mapping.fc1.weight"),
        ({"mapping.fc0.weight": torch.zeros(7, 9, 2)}, "no matrix mapping.fc0.weight"),
        ({"synthesis.b8.more": torch.zeros(3)}, "isn't one of them"),
        ({"synthesis.b4.torgb.weight": torch.zeros(4, 12, 1, 1)}, "4 channels"),
        ({"synthesis.b4.conv1.weight": torch.zeros(())}, "."),
    ):
        torch.save(state | changes, path)
        check_refused(path, words)
    torch.save({k: v for k, v in state.items() if not k.startswith("synthesis.b16.torgb")}, path)
    check_refused(path, "last block")


def test_a_module_of_nvidias_that_torch_save_wrote_is_read(tmp_path):
    path, shape = tmp_path / "tuned.pt", replace(SHAPE, clamp=256.0, learning_rate_multiplier=0.1)
    for value in (network(STATE, shape), {"G_ema": network(STATE, shape)}, snapshot(STATE, shape)):
        save_module(value, path)
        check_same(path, shape)


def test_a_pickle_of_nvidias_without_a_mean_gets_one(tmp_path):
    path, state = tmp_path / "g.pkl", {k: v for k, v in STATE.items() if k != "mapping.w_avg"}
    path.write_bytes(dumps(snapshot(state, SHAPE)))
    assert any("no mean of W" in note for note in checkpoints.read(path).notes)
    generator = load_generator(path)
    torch.testing.assert_close(generator.w_avg, map_seeds(generator, range(4096)).mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["skip", "grey", "orig"])
def test_genforces_names_are_read(kind, tmp_path):
    shape, path = PLAIN[kind], tmp_path / "g.pth"
    state = state_of(shape)
    theirs = layouts.genforce(state, shape)
    torch.save({"generator": {k: v + 1 for k, v in theirs.items()}, "generator_smooth": theirs}, path)
    generator, direct = load_generator(path), StyleGAN2(state, shape)
    assert generator.shape == shape
    ws = codes(direct, 2)
    torch.testing.assert_close(generator.synthesis(ws), direct.synthesis(ws), rtol=1e-4, atol=1e-4)
    assert torch.equal(generator.w_avg, state["mapping.w_avg"])


def test_genforces_names_that_cant_be_read_are_refused(tmp_path):
    path, theirs = tmp_path / "g.pth", layouts.genforce(STATE, SHAPE)
    for changes, words in (
        ({"mapping.label_weight": torch.zeros(3, 7)}, "conditional"),
        ({"synthesis.more.weight": torch.zeros(3)}, "synthesis.more.weight"),
        ({"synthesis.output2.weight": torch.zeros(4, 8, 1, 1)}, "4 channels"),
        ({"synthesis.layer4.bias": torch.zeros(9)}, "synthesis.layer4.bias of shape"),
        ({"synthesis.early_layer.const": torch.zeros(1, 12, 4, 7)}, "only 4×4"),
        ({"synthesis.layer5.weight": torch.zeros(3)}, "isn't a whole one"),
    ):
        torch.save({"generator_smooth": theirs | changes}, path)
        check_refused(path, words)
    gap = {k: v for k, v in theirs.items() if k not in ("synthesis.layer2.weight", "synthesis.layer3.weight")}
    torch.save({"generator_smooth": gap}, path)
    check_refused(path, "isn't a whole one")


def test_a_state_dict_in_safetensors_is_recognised_as_any_other(tmp_path):
    save_file({k: v.contiguous() for k, v in (THEIRS | {"latent_avg": MEAN}).items()}, tmp_path / "g.safetensors")
    check_same(tmp_path / "g.safetensors")
    save_file({"stylegan_decoder.a": torch.zeros(2)}, tmp_path / "g.safetensors")
    check_refused(tmp_path / "g.safetensors", "GFPGAN")


# Archives.


def pack_zip(files: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def pack_tar(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def test_a_checkpoint_in_an_archive_is_read(tmp_path):
    path, stream = tmp_path / "g.zip", io.BytesIO()
    torch.save({"g_ema": THEIRS, "latent_avg": MEAN}, stream)
    beside = {"README.md": b"text", "sub/.hidden": b"x", "__MACOSX/g.pt": b"x", "LICENSE": b"x"}
    for content in (
        gzip.compress(stream.getvalue()),
        pack_zip(beside | {"sub/g.pt": stream.getvalue()}),
        pack_tar(beside | {"g.pt": stream.getvalue()}),
        gzip.compress(pack_tar({"sub/g.pt": stream.getvalue()})),
        pack_zip({"g.pt.gz": gzip.compress(stream.getvalue())}),
    ):
        path.write_bytes(content)
        check_same(path)
        assert "is packed" in checkpoints.read(path).notes[0]
    path.write_bytes(pack_zip({"a.pkl": b"x", "b.pt": b"y"}))
    check_refused(path, r"archive of 2 files \(a.pkl, b.pt\): unpack it")
    path.write_bytes(pack_tar({"a.txt": b"x"}))
    check_refused(path, "without a checkpoint: it holds a.txt")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(zipfile.ZipInfo(""), b"x")  # a name without a character
    path.write_bytes(stream.getvalue())
    with pytest.raises(GanvasError):
        checkpoints.read(path)
    path.write_bytes(pack_zip({"codes.npy": b"x"}))
    check_refused(path, "NumPy.*import-codes")
    path.write_bytes(pack_zip({"g.pt": b"<html><title>Quota</title>"}))
    check_refused(path, r"\(g.pt in it\) is a web page")


# Kinds that are named.

WEIGHT = torch.zeros(2, 2)
NAMED = {
    "StyleGAN-XL": {"G_ema": Network("SuperresGenerator", {}, {"synthesis": Network("S", {"weight": WEIGHT}, {})})},
    "projected GAN": {"G_ema": Network("Generator", {}, {"mapping": Network("M", {"weight": WEIGHT}, {}), "synthesis": Network(
        "FastganSynthesis", {}, {"feat_8": Network("Seq", {"weight": WEIGHT}, {})})})},
    "EG3D": {"G_ema": Network("TriPlaneGenerator", {}, {"backbone": Network("Generator", {"weight": WEIGHT}, {})})},
    "FastGAN": {"g": {"init.init.0.weight_orig": WEIGHT, "feat_64.1.weight": WEIGHT}},
    "lucidrains' stylegan2": {"GAN": {"S.net.0.weight": WEIGHT, "G.blocks.0.conv1.weight": WEIGHT, "SE.net.0.bias": WEIGHT}},
    "lightweight-gan": {"GAN": {"G.initial_conv.0.weight": WEIGHT, "G.layers.0.0.1.0.weight": WEIGHT}},
    "GFPGAN": {"params_ema": {"stylegan_decoder.style_mlp.1.weight": WEIGHT} | layouts.prefixed("decoder.", THEIRS)},
    "GPEN": {"ecd0.0.weight": WEIGHT} | layouts.prefixed("generator.", THEIRS),
    "BigGAN": {"module.blocks.0.0.conv1.weight": WEIGHT, "module.shared.weight": WEIGHT},
    "diffusion": {"state_dict": {"model.diffusion_model.time_embed.0.weight": WEIGHT, "first_stage_model.x": WEIGHT}},
    "discriminator": {"netD": {"module.final_linear.0.weight": WEIGHT}},
    "classifier": {"model": {"layer1.0.conv1.weight": WEIGHT, "fc.weight": WEIGHT}},
    "encoder": {"state_dict": layouts.encoder()},
    "VQGAN": {"quantize.embedding.weight": WEIGHT},
    "CycleGAN": {"model.1.weight": WEIGHT, "model.10.conv_block.1.weight": WEIGHT},
    "a discriminator": {"state_dict": {"discriminator.0.weight": WEIGHT, "discriminator.3.bias": WEIGHT}},
    "classifier .Inception": {"Mixed_5b.branch1x1.conv.weight": WEIGHT, "fc.weight": WEIGHT},
    "LoRA": {"unet.lora_A.weight": WEIGHT},
    "ESRGAN": {"params_ema": {"conv_first.weight": WEIGHT, "body.0.rdb1.conv1.weight": WEIGHT}},
    "progressive GAN": {"avgG": {"scaleLayers.0.0.module.weight": WEIGHT, "toRGBLayers.0.module.weight": WEIGHT}},
    "BasicSR": {"params_ema": {"style_mlp.1.weight": WEIGHT, "constant_input.weight": WEIGHT}},
    "MMGeneration": {"state_dict": {"generator.style_mapping.1.weight": WEIGHT, "generator.constant_input.input": WEIGHT}},
    "ArcFace": {"input_layer.0.weight": WEIGHT, "body.0.res_layer.1.weight": WEIGHT, "output_layer.3.weight": WEIGHT},
}  # fmt: skip


@pytest.mark.parametrize("kind", NAMED)
def test_other_networks_are_refused_by_name(kind, tmp_path):
    save_module(NAMED[kind], tmp_path / "g.pt")
    check_refused(tmp_path / "g.pt", f"is .*{kind}.*which can't be read: ")
    (tmp_path / "g.pkl").write_bytes(dumps(NAMED[kind]))
    check_refused(tmp_path / "g.pkl", f"is .*{kind}.*which can't be read: ")
