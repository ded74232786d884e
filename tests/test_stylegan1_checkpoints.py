"""StyleGAN (1) in PyTorch's layouts: what is read equals what was written, and what the original codes compute from it."""

import zipfile

import pytest
import torch
import torch.nn.functional as F
from tensorflow_pickles import draw_stylegan1, list_scopes
from test_hostile_checkpoints import EXPLOITS, nothing_is_run, refused, zipped  # noqa: F401 (a fixture)
from test_stylegan1 import SHAPES, TINY, convert, draw_pictures, relative_error

from ganvas import checkpoints, load_generator
from ganvas.errors import GanvasError
from ganvas.generators.stylegan1 import StyleGAN1, StyleGAN1Architecture

BLUR = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16


def write_genforce(variables, shape):
    """TensorFlow's variables as genforce's state dict."""
    made = {"synthesis.lod": torch.zeros(()), "truncation.w_avg": variables["dlatent_avg"]}
    if shape.num_labels:
        made["mapping.label_weight"] = variables["mapping/LabelConcat/weight"].T
    for i in range(shape.mapping_layers):
        for part in ("weight", "bias"):
            made[f"mapping.dense{i}.{part}"] = variables[f"mapping/Dense{i}/{part}"]
    for i, name in enumerate(list_scopes(shape)):
        layer = f"synthesis.layer{i}"
        made[f"{layer}.weight" if i else f"{layer}.const"] = variables[f"{name}/weight" if i else f"{name}/const"]
        made |= {
            f"{layer}.bias": variables[f"{name}/bias"],
            f"{layer}.apply_noise.noise": variables[f"synthesis/noise{i}"],
        }
        made[f"{layer}.apply_noise.weight"] = variables[f"{name}/Noise/weight"]
        made |= {f"{layer}.style.{part}": variables[f"{name}/StyleMod/{part}"] for part in ("weight", "bias")}
        if i and i % 2 == 0:
            made[f"{layer}.blur.kernel"] = BLUR.repeat(shape.widths[i // 2], 1, 1, 1)
    for i in range(len(shape.widths)):
        lod = f"synthesis/ToRGB_lod{len(shape.widths) - 1 - i}"
        made |= {f"synthesis.output{i}.{part}": variables[f"{lod}/{part}"] for part in ("weight", "bias")}
    return made


def write_interfacegan(variables, shape):
    """The same in InterFaceGAN's names."""
    made = {"truncation.truncation": torch.ones(1, len(shape.row_resolutions), 1)}
    for name, value in write_genforce(variables, shape).items():
        layer, _, part = name.rpartition(".")
        if ".dense" in name:
            name = f"{layer}.linear.weight" if part == "weight" else f"{layer}.wscale.bias"
        elif ".style." in name:
            layer = layer.removesuffix(".style")
            name = f"{layer}.epilogue.style_mod.dense.{'linear.weight' if part == 'weight' else 'wscale.bias'}"
        elif ".apply_noise." in name:
            name = name.replace(".apply_noise", ".epilogue.apply_noise")
        elif ".layer" in name and part == "bias":
            name = f"{layer}.epilogue.bias"
        elif part == "const":
            name = f"{layer}.first_layer"
        elif part == "weight":
            name = f"{layer}.conv.weight"
        made[name] = value
    return made


def write_lernapparat(variables, shape):
    """The same in lernapparat's names, which have neither noise nor a mean of W."""
    made = {}
    for name, value in variables.items():
        scope, _, part = name.removeprefix("synthesis/").removeprefix("mapping/").partition("/")
        if name.startswith("mapping/"):
            made[f"g_mapping.{scope.lower()}.{part}"] = value
        elif "ToRGB_lod0" in name:
            made[f"g_synthesis.torgb.{part}"] = value
        elif scope.partition("x")[0].isdigit():
            layer, _, part = part.partition("/")
            k = 1 if layer in ("Const", "Conv0_up") else 2
            block = f"g_synthesis.blocks.{scope}"
            if part == "Noise/weight":
                made[f"{block}.epi{k}.top_epi.noise.weight"] = value
            elif part.startswith("StyleMod/"):
                made[f"{block}.epi{k}.style_mod.lin.{part.removeprefix('StyleMod/')}"] = value
            elif layer == "Const":
                made[f"{block}.{part}"] = value
            else:
                made[f"{block}.{layer.lower()}.{part}"] = value
        if "Conv0_up/weight" in name:
            made[f"g_synthesis.blocks.{scope}.conv0_up.intermediate.kernel"] = BLUR[None, None]
    return made


def save(path, value, **options):
    torch.save(value, path, **options)
    return path


@pytest.mark.parametrize("kind", SHAPES)
def test_genforces_layout_is_that_of_tensorflow(kind, tmp_path):
    shape, variables = SHAPES[kind], draw_stylegan1(SHAPES[kind])
    state = write_genforce(variables, shape)
    expected = StyleGAN1(convert(variables)[1], shape).fingerprint
    other = {name: value + 1 for name, value in state.items()}
    for value in (
        {"generator": other, "generator_smooth": state, "discriminator": {"x": torch.zeros(2)}},
        {"generator": state},
        state,
        {"generator_smooth": {f"module.{name}": value for name, value in state.items()}},
    ):
        generator = load_generator(save(tmp_path / "g.pth", value))
        assert (generator.shape, generator.fingerprint) == (shape, expected)
    assert "genforce's checkpoint" in "\n".join(checkpoints.describe_file(tmp_path / "g.pth"))


def test_interfacegans_layout_is_that_of_tensorflow(tmp_path):
    variables = draw_stylegan1(TINY)
    generator = load_generator(save(tmp_path / "g.pth", write_interfacegan(variables, TINY)))
    assert generator.shape == TINY
    assert generator.fingerprint == StyleGAN1(convert(variables)[1], TINY).fingerprint


def test_interfacegans_kernels_of_large_layers_lie_as_tensorflows_do(tmp_path):
    shape = StyleGAN1Architecture(128, (4, 4, 4, 4, 4, 3), 4, 4, mapping_layers=1, mapping_width=4)
    variables = draw_stylegan1(shape)
    state = write_interfacegan(variables, shape)
    kernel = state.pop("synthesis.layer10.conv.weight")
    state["synthesis.layer10.weight"] = kernel.permute(2, 3, 1, 0)
    generator = load_generator(save(tmp_path / "g.pth", state))
    ws = torch.randn(1, 12, 4, generator=torch.Generator().manual_seed(3))
    assert relative_error(generator.synthesis(ws), draw_pictures(variables, shape, ws)) < 2e-5


def test_lernapparats_layout_is_that_of_tensorflow_without_noise_and_mean(tmp_path):
    variables = draw_stylegan1(TINY)
    path = save(tmp_path / "g.pt", write_lernapparat(variables, TINY))
    generator, notes = load_generator(path), checkpoints.read(path).notes
    assert "has no constant noise: none is added" in notes and any("mean of W" in note for note in notes)
    silent = {key: value * 0 if "synthesis/noise" in key else value for key, value in variables.items()}
    ws = torch.randn(2, 8, 9, generator=torch.Generator().manual_seed(3))
    assert relative_error(generator.synthesis(ws), draw_pictures(silent, TINY, ws, epsilon=1e-5)) < 2e-5
    w = generator.mapping(torch.randn(2000, 10, generator=torch.Generator().manual_seed(3)))
    assert ((w.mean(0) - generator.w_avg).abs() < 6 * w.std(0) / 2000**0.5).all()


# rosinality's.


def draw_rosinality(widths=(6, 6, 5, 5, 4), trained=3, fused=3, w_dim=7, depth=2):
    """A state dict as it is while the resolutions from ``trained`` on are as they began; from ``fused`` on, layers are fused."""
    random = torch.Generator().manual_seed(0)

    def draw(*size):
        return torch.randn(size, generator=random)

    made = {}
    for i, width in enumerate(widths):
        block, incoming, share = f"generator.progression.{i}", widths[max(i - 1, 0)], float(i < trained)
        if i == 0:
            made[f"{block}.conv1.input"] = draw(1, width, 4, 4)
        elif i < fused:
            made[f"{block}.conv1.1.conv.weight_orig"] = draw(width, incoming, 3, 3)
            made[f"{block}.conv1.1.conv.bias"] = share * draw(width)
            made[f"{block}.conv1.2.weight"] = BLUR.repeat(width, 1, 1, 1)
        else:
            made |= {
                f"{block}.conv1.0.weight": draw(incoming, width, 3, 3),
                f"{block}.conv1.0.bias": share * draw(width),
            }
            made[f"{block}.conv1.1.weight"] = BLUR.repeat(width, 1, 1, 1)
        made |= {
            f"{block}.conv2.conv.weight_orig": draw(width, width, 3, 3),
            f"{block}.conv2.conv.bias": share * draw(width),
        }
        for k in (1, 2):
            made[f"{block}.noise{k}.weight_orig"] = share * draw(1, width, 1, 1)
            made[f"{block}.adain{k}.style.linear.weight_orig"] = draw(2 * width, w_dim)
            made[f"{block}.adain{k}.style.linear.bias"] = torch.arange(2 * width) // width * -1.0 + 1
        made |= {
            f"generator.to_rgb.{i}.conv.weight_orig": draw(3, width, 1, 1),
            f"generator.to_rgb.{i}.conv.bias": draw(3),
        }
    for i in range(depth):
        made |= {
            f"style.{2 * i + 1}.linear.weight_orig": draw(w_dim, w_dim),
            f"style.{2 * i + 1}.linear.bias": draw(w_dim),
        }
    return made


def draw_rosinality_pictures(state, ws, blocks):
    """What rosinality's code computes at the resolution of block ``blocks - 1``, without noise."""

    def gain(weight):
        return weight * (2 / weight[0].numel()) ** 0.5

    x = state["generator.progression.0.conv1.input"].expand(len(ws), -1, -1, -1)
    for i in range(blocks):
        block = f"generator.progression.{i}"
        for k in (1, 2):
            if k == 2:
                kernel, bias = state[f"{block}.conv2.conv.weight_orig"], state[f"{block}.conv2.conv.bias"]
                x = F.conv2d(x, gain(kernel), bias, padding=1)
            elif i:
                if f"{block}.conv1.0.weight" in state:
                    kernel = state[f"{block}.conv1.0.weight"]
                    wide = F.pad(kernel * (2 / (9 * len(kernel))) ** 0.5, (1, 1, 1, 1))
                    wide = wide[..., 1:, 1:] + wide[..., :-1, 1:] + wide[..., 1:, :-1] + wide[..., :-1, :-1]
                    x = F.conv_transpose2d(x, wide / 4, state[f"{block}.conv1.0.bias"], stride=2, padding=1)
                else:
                    kernel, bias = (state[f"{block}.conv1.1.conv.{part}"] for part in ("weight_orig", "bias"))
                    x = F.conv2d(F.interpolate(x, scale_factor=2), gain(kernel), bias, padding=1)
                x = F.conv2d(x, BLUR.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])
            style = F.linear(
                ws[:, 2 * i + k - 1],
                gain(state[f"{block}.adain{k}.style.linear.weight_orig"]),
                state[f"{block}.adain{k}.style.linear.bias"],
            )
            scale, shift = style[:, :, None, None].chunk(2, 1)
            x = scale * F.instance_norm(F.leaky_relu(x, 0.2)) + shift
    last = f"generator.to_rgb.{blocks - 1}.conv"
    return F.conv2d(x, gain(state[f"{last}.weight_orig"]), state[f"{last}.bias"])


@pytest.mark.parametrize("trained", [2, 4, 5])
def test_rosinalitys_generator_is_read_at_the_resolution_that_it_was_trained_to(trained, tmp_path):
    state = draw_rosinality(trained=trained)
    other = draw_rosinality(trained=5)
    value = {"generator": other, "g_running": state, "g_optimizer": {"state": {0: {"step": 3}}}}
    path = save(tmp_path / "train.model", value)
    generator, notes = load_generator(path), checkpoints.read(path).notes
    assert generator.resolution == 2 << trained
    assert any(f"trained up to {2 << trained} of 64 pixels" in note for note in notes) == (trained < 5)
    ws = torch.randn(2, generator.num_ws, 7, generator=torch.Generator().manual_seed(3))
    assert relative_error(generator.synthesis(ws), draw_rosinality_pictures(state, ws, trained)) < 2e-5
    z = torch.randn(2, 7, generator=torch.Generator().manual_seed(3))
    w = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in (1, 3):
        w = F.leaky_relu(
            w @ state[f"style.{i}.linear.weight_orig"].T * (2 / 7) ** 0.5 + state[f"style.{i}.linear.bias"], 0.2
        )
    assert relative_error(generator.mapping(z), w) < 1e-5
    flat = load_generator(save(tmp_path / "flat.model", state, _use_new_zipfile_serialization=False))
    assert flat.fingerprint == generator.fingerprint
    checkpoints.read(path).save(tmp_path / "copy.safetensors")
    assert load_generator(tmp_path / "copy.safetensors").fingerprint == generator.fingerprint


def test_damaged_state_dicts_are_refused_in_one_line(tmp_path):
    first, second = write_genforce(draw_stylegan1(TINY), TINY), draw_rosinality()

    def without(state, name):
        return {key: value for key, value in state.items() if key != name}

    for state, words in (
        (first | {"synthesis.more": torch.zeros(2)}, "'synthesis.more', which no StyleGAN has"),
        (without(first, "synthesis.layer3.bias"), "lacks the weights synthesis.layer3.bias"),
        (without(first, "synthesis.output3.weight"), "lacks the weights synthesis.output3.weight"),
        (first | {"synthesis.layer3.weight": torch.zeros(7, 3)}, r"of shape \(7, 3\): 4 axes"),
        (first | {"synthesis.layer2.weight": torch.zeros(3)}, r"of shape \(3,\), where"),
        (first | {"synthesis.lod": torch.tensor(0.5)}, "level of detail 0.5"),
        (first | {"synthesis.lod": torch.tensor(3.0)}, "level of detail 3"),
        (first | {"mapping.dense0.weight": torch.zeros(0, 4)}, "axes without zeros"),
        (draw_rosinality(trained=0), "wasn't trained: all its noise weights are 0"),
        (draw_rosinality(trained=1), "a StyleGAN of 4 pixels"),
        (second | {"generator.progression.1.conv1.2.weight": torch.ones(6, 1, 3, 3)}, "another filter than 1-2-1"),
        (
            without(second, "generator.progression.1.adain1.style.linear.bias"),
            "lacks the weights generator.progression.1",
        ),
        (without(second, "generator.to_rgb.2.conv.weight_orig"), "lacks the weights generator.to_rgb.2"),
        (
            second | {"generator.progression.1.conv2.conv.bias": torch.zeros(3)},
            r"of shape \(3,\), where \(6,\) belongs",
        ),
        (second | {"style.1.linear.bias": torch.full((7,), torch.inf)}, "aren't finite, in style.1.linear.bias"),
    ):
        with pytest.raises(GanvasError, match=words) as caught:
            load_generator(save(tmp_path / "g.pth", state))
        assert "\n" not in str(caught.value)


def test_an_exploit_in_such_a_file_is_refused(tmp_path):
    path = tmp_path / "g.pth"
    save(path, {"generator_smooth": write_genforce(draw_stylegan1(TINY), TINY)})
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    hostile = [(name, EXPLOITS[0] if name.endswith("data.pkl") else content) for name, content in entries]
    refused(path, zipped(hostile), "refers to (posix|nt).system")
