"""BigGAN-deep in huggingface's layout, the laws of its space, and folders that lie."""

import json
import os
import pickle
import zipfile

import pytest
import torch
from gan_layouts import CONFIG, draw_biggan, make_biggan_state, write_biggan
from safetensors.torch import load_file

from ganvas import checkpoints, cli, load_generator
from ganvas.errors import GanvasError
from ganvas.generators.base import assign_labels, draw_z, encode_label, sample
from ganvas.recipe.files import load_recipe

TOLERANCE = 1e-4
"""Of the standard deviation of the expected picture."""


@pytest.fixture
def generator(tmp_path):
    return load_generator(write_biggan(tmp_path / "biggan"))


def compute_error(images, expected):
    return float((images - expected).abs().max() / expected.std())


@pytest.mark.parametrize("truncation", [1.0, 0.4, 0.43, 0.2, 0.999, 0.05])
@torch.no_grad()
def test_pictures_are_those_of_the_formulas(truncation, generator):
    """Six statistics are stored: for truncations 0, 0.2, 0.4, …"""
    z, labels = draw_z(generator, range(3)), assign_labels(generator, range(3))
    generator.set_truncation(truncation)
    images = generator.synthesis(generator.expand(generator.truncate(generator.mapping(z, labels), truncation)))
    expected = draw_biggan(make_biggan_state(), truncation * z, labels, truncation)
    assert images.shape == (3, 3, 16, 16)
    assert compute_error(images, expected) < TOLERANCE


@torch.no_grad()
def test_spectral_norms_that_are_folded_in_already(tmp_path, generator):
    state = make_biggan_state()
    for name in [name.removesuffix("_orig") for name in state if name.endswith("weight_orig")]:
        full = state.pop(f"{name}_orig")
        state[name] = full / (state.pop(f"{name}_u") @ full.flatten(1) @ state.pop(f"{name}_v"))
    folded = load_generator(write_biggan(tmp_path / "folded", state))
    assert compute_error(folded.synthesis(sample(folded, 2)), generator.synthesis(sample(generator, 2))) < TOLERANCE


@torch.no_grad()
def test_without_attention(tmp_path):
    config = CONFIG | {"attention_layer_position": 9}
    generator = load_generator(write_biggan(tmp_path / "g", make_biggan_state(config), attention_layer_position=9))
    z, labels = draw_z(generator, range(2)), assign_labels(generator, range(2))
    images = generator.synthesis(generator.expand(generator.mapping(z, labels)))
    assert compute_error(images, draw_biggan(make_biggan_state(config), z, labels, config=config)) < TOLERANCE


@torch.no_grad()
def test_z_and_the_class_are_the_space_and_truncation_leaves_the_class(generator):
    assert (generator.z_dim, generator.w_dim, generator.num_ws, generator.num_labels) == (6, 12, 5, 3)
    assert generator.row_resolutions == (4, 4, 8, 8, 16)
    assert [weight.shape[1] for weight in generator.style_weights()] == [12] * 5
    half, whole = sample(generator, 3, psi=0.5), sample(generator, 3, psi=1)
    assert torch.equal(half[..., :6], whole[..., :6] / 2) and torch.equal(half[..., 6:], whole[..., 6:])
    means = generator.mapping(torch.zeros(3, 6), torch.eye(3)).mean(0)
    torch.testing.assert_close(generator.w_avg, means)
    labels = torch.tensor([encode_label(generator, 2)])
    assert torch.equal(sample(generator, 1, seed=2, labels=labels), sample(generator, 1, seed=2))


@torch.no_grad()
def test_equal_rows_are_the_original_and_a_row_of_its_own_changes_its_block_alone(generator):
    ws = sample(generator, 2).clone()
    before = generator.synthesis(ws)
    assert torch.equal(before, generator.synthesis(ws)) and torch.equal(
        before, generator.synthesis(sample(generator, 2))
    )
    for row in range(generator.num_ws):
        changed = ws.clone()
        changed[:, row] += 0.3
        assert (generator.synthesis(changed) - before).abs().max() > 1e-3
    small = generator.synthesis(ws, resolution=8)
    assert small.shape == (2, 3, 8, 8)


def test_gradients_reach_every_row(generator):
    ws = sample(generator, 2).clone().requires_grad_()
    generator.synthesis(ws).square().mean().backward()
    assert (ws.grad.norm(dim=2) > 0).all()


def test_another_truncation_is_another_generator(generator, tmp_path):
    before = generator.fingerprint
    generator.set_truncation(0.4)
    assert generator.fingerprint != before and generator.truncation == 0.4
    assert load_generator(write_biggan(tmp_path / "g", truncation=0.4)).fingerprint == generator.fingerprint
    generator.set_truncation(1)
    assert generator.fingerprint == before
    for wrong in (0, -1, 1.2, float("nan")):
        with pytest.raises(GanvasError, match="truncation"):
            generator.set_truncation(wrong)
    assert generator.truncation == 1


@torch.no_grad()
def test_it_is_written_and_read_back(generator, tmp_path):
    checkpoint = checkpoints.read(
        write_biggan(tmp_path / "g", truncation=0.43, id2label={"0": "cat", "1": "dog", "2": "owl"})
    )
    checkpoint.save(tmp_path / "own.safetensors")
    again = load_generator(tmp_path / "own.safetensors")
    other = checkpoint.build_generator("g")
    assert again.fingerprint == other.fingerprint and again.truncation == 0.43 and again.find_label("dog") == 1
    assert torch.equal(again.synthesis(sample(again, 2)), other.synthesis(sample(other, 2)))
    assert all(value.dtype == torch.float32 for value in load_file(tmp_path / "own.safetensors").values())
    lines = "\n".join(checkpoints.describe_file(tmp_path / "g"))
    assert "huggingface's BigGAN-deep" in lines and "truncation 0.43, of 6 stored" in lines and "3 labels" in lines


def test_classes_by_name(generator, tmp_path):
    named = load_generator(write_biggan(tmp_path / "g", id2label={"0": "tabby cat", "1": "dog", "2": "owl"}))
    assert named.find_label("owl") == 2 and named.fingerprint == generator.fingerprint
    with pytest.raises(GanvasError, match="no class 'tabby': there are tabby cat.*labels are 0 to 2"):
        named.find_label("tabby")
    with pytest.raises(GanvasError, match="its file names none; labels are 0 to 2"):
        generator.find_label("dog")


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main([*map(str, arguments)])
    return stop.value.code or 0


def test_commands_take_classes_by_name(tmp_path, capsys):
    names = {"0": "tabby cat", "1": "owl", "2": "1"}
    checkpoints.read(write_biggan(tmp_path / "g", id2label=names)).save(tmp_path / "g.safetensors")
    weights, out = tmp_path / "g.safetensors", tmp_path / "out.png"
    for label in (("--class", "owl"), ("--label", 0), ("--class", "tabby cat")):
        assert run("edit", weights, "--seed", 5, *label, "--out", out) == 0
        start = load_recipe(out)[0].start
        assert start.labels == ((0.0, 1.0, 0.0) if label[1] == "owl" else (1.0, 0.0, 0.0))
    assert run("sample", tmp_path / "g", "-n", 2, "--class", "owl", "--out", tmp_path / "owls") == 0
    assert load_recipe(tmp_path / "owls" / "seed0001.png")[0].start.labels == (0.0, 1.0, 0.0)
    capsys.readouterr()
    assert run("mix", weights, "--with", 3, "--rows", 0, "--class", "owls", "--out", out) == 1
    assert "no class 'owls': there are owl" in capsys.readouterr().err
    assert run("edit", weights, "--label", 1, "--out", out) == 1
    assert "'1' is a label and the name of label 2" in capsys.readouterr().err
    assert run("edit", "toy", "--class", "owl", "--out", out) == 1
    assert "takes no labels" in capsys.readouterr().err
    assert run("info", weights) == 0
    assert "--class takes tabby cat, owl, 1" in capsys.readouterr().out
    twice = load_generator(write_biggan(tmp_path / "g", id2label={"0": "crane", "1": "owl", "2": "crane"}))
    with pytest.raises(GanvasError, match=r"2 classes 'crane': labels \[0, 2\]"):
        twice.find_label("crane")


def test_labels_are_needed(generator):
    for labels in (None, torch.zeros(2, 4)):
        with pytest.raises(GanvasError, match=r"needs labels of shape \(2, 3\)"):
            generator.mapping(torch.zeros(2, 6), labels)
    with pytest.raises(GanvasError, match=r"shape \(n, 5, 12\), not \(2, 1, 12\)"):
        generator.synthesis(torch.zeros(2, 1, 12))


@torch.no_grad()
def test_bfloat16(tmp_path, generator):
    other = load_generator(tmp_path / "biggan", dtype=torch.bfloat16)
    ws = sample(generator, 2)
    assert torch.equal(sample(other, 2), ws) and other.fingerprint == generator.fingerprint
    assert (other.synthesis(ws) - generator.synthesis(ws)).abs().mean() < 0.1


LIES = [
    ({"z_dim": 7}, "z_dim|doesn't fit"),
    ({"z_dim": 10**9}, "z_dim"),
    ({"z_dim": "6"}, "z_dim must be"),
    ({"channel_width": 8}, "doesn't fit its config.json"),
    ({"channel_width": 10**9}, "must be a whole number of at most"),
    ({"channel_width": -4}, "must be a whole number of at least"),
    ({"channel_width": "/etc/passwd"}, "whole channel_width"),
    ({"num_classes": 4}, r"embedding is of shape \(3, 6\), \(4, 6\) is expected"),
    ({"num_classes": 10**12}, "num_labels"),
    ({"n_stats": 51}, "doesn't fit"),
    ({"n_stats": 1}, "num_statistics"),
    ({"eps": 0}, "epsilon"),
    ({"eps": "nan"}, "epsilon"),
    ({"truncation": 2.0}, "truncation"),
    ({"output_dim": 512}, "output_dim 512, and layers for 16"),
    ({"layers": []}, "layers"),
    ({"layers": "../../layers"}, "layers"),
    ({"layers": [[False, 4, 4]] * 1000}, "layers"),
    ({"layers": [[True, 4, 4]] * 20}, "More than 8 blocks"),
    ({"layers": [[False, 4]]}, "layers like"),
    ({"layers": [[False, 4, 10**30]]}, "outputs must be"),
    ({"layers": [[1, 4, 4]]}, "doubles must be true or false"),
    ({"layers": [[False, 4, 3]]}, "as many or half"),
    ({"layers": [[False, 4, 4], [False, 2, 2]]}, "follows one that gives"),
    ({"layers": CONFIG["layers"][:-1], "output_dim": 8}, "which its config.json doesn't list|doesn't fit"),
    ({"attention_layer_position": 2}, "lacks the weights|doesn't fit"),
    ({"attention_layer_position": "1"}, "attention"),
    ({"id2label": {"0": "cat"}}, "1 names of labels for 3 labels"),
    ({"id2label": ["cat"]}, "id2label"),
    ({"id2label": {"0": "a\nb", "1": "c", "2": "d"}}, "id2label"),
    ({"channel_width": None}, "whole channel_width"),
    ({"z_dim": None}, "z_dim"),
]


@pytest.mark.parametrize(("changes", "words"), LIES)
def test_configs_that_lie_are_refused_in_one_line(changes, words, tmp_path):
    folder = write_biggan(tmp_path / "g", **changes)
    check_refused(folder, words)


@pytest.mark.parametrize("content", ["[]", "{", "3", '{"a": NaN}', "[" * 100_000, '"/etc/passwd"'])
def test_configs_that_are_none(content, tmp_path):
    folder = write_biggan(tmp_path / "g")
    (folder / "config.json").write_text(content)
    check_refused(folder, "config.json")


def test_paths_and_programs_in_a_config_are_not_followed(tmp_path, generator):
    traps = {"_name_or_path": "/etc/passwd", "auto_map": {"AutoModel": "evil.Model"}, "weights": "../../secret.bin"}
    folder = write_biggan(tmp_path / "g", **traps)
    (folder / "evil.py").write_text("raise SystemExit")
    assert load_generator(folder).fingerprint == generator.fingerprint
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "evil.py", "pytorch_model.bin"]


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("embeddings.weight", lambda x: x[0], "embedding_dim|embedding"),
        ("generator.gen_z.weight_u", lambda x: x[:3], "weight_orig, _u and _v of shapes"),
        ("generator.gen_z.weight_orig", lambda x: x * 0, "spectral norm of 0"),
        ("generator.gen_z.weight_orig", lambda x: x * float("nan"), "aren't finite"),
        ("generator.gen_z.weight_orig", lambda x: x[:, 0], "weight_orig, _u and _v of shapes"),
        ("generator.layers.0.bn_0.running_vars", lambda x: -x, "variances below 0"),
        ("generator.layers.0.bn_0.running_vars", lambda x: x[0], "normalizations of shape"),
        ("generator.layers.0.bn_1.running_means", lambda x: x[:3], "normalizations of shape"),
        ("generator.layers.0.conv_1.bias", lambda x: x[:1], "doesn't fit"),
        ("generator.layers.0.conv_1.bias", None, "lacks the weights"),
        ("generator.bn.weight", None, "lacks the weights"),
        ("generator.more.weight", lambda x: torch.zeros(2), "which its config.json doesn't list"),
    ],
)
def test_weights_that_lie_are_refused_in_one_line(name, change, words, tmp_path):
    state = make_biggan_state()
    if change is None:
        del state[name]
    else:
        state[name] = change(state.get(name, torch.zeros(1)))
    check_refused(write_biggan(tmp_path / "g", state), words)


class Shell:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch owned",)


@pytest.mark.parametrize("zipped", [True, False])
def test_programs_in_the_weights_are_not_run(zipped, tmp_path, monkeypatch):
    folder = write_biggan(tmp_path / "g")
    torch.save(
        make_biggan_state() | {"x": Shell()}, folder / "pytorch_model.bin", _use_new_zipfile_serialization=zipped
    )
    monkeypatch.chdir(tmp_path)
    for home, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load"), (os, "system")):
        monkeypatch.setattr(home, name, lambda *arguments, **named: pytest.fail("a file was run"))
    monkeypatch.setattr(zipfile.ZipFile, "extract", lambda *arguments: pytest.fail("a file was written"))
    check_refused(folder, r"refers to (posix|nt)\.system")
    assert not (tmp_path / "owned").exists()


def test_files_that_are_missing(tmp_path):
    folder = write_biggan(tmp_path / "g")
    (folder / "config.json").unlink()
    check_refused(folder, "needs huggingface's config.json beside it")
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(GanvasError):
        load_generator(folder)


def check_refused(path, words):
    with pytest.raises(GanvasError, match=words) as caught:
        load_generator(path)
    message = str(caught.value)
    assert message.isprintable() and len(message) < 600 + 2 * len(str(path))


def test_the_writer_writes_what_huggingface_does(tmp_path):
    folder = write_biggan(tmp_path / "g")
    assert json.loads((folder / "config.json").read_text())["layers"][1] == [True, 4, 2]
