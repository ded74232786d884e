"""Networks of TensorFlow: what is read equals what was written, and hostile pickles are refused in one line, with no effect."""

import os
import pickle
import struct
from dataclasses import replace

import numpy as np
import pytest
import torch
from nvidia_pickles import called, octets, text, whole
from tensorflow_pickles import (
    Network,
    draw_stylegan1,
    dumps,
    snapshot,
    turn,
    write_stylegan2,
    write_variables,
)
from test_checkpoints import SHAPES
from test_hostile_checkpoints import big, doubled, nothing_is_run, refused  # noqa: F401 (a fixture)
from test_stylegan1 import SHAPES as STYLEGAN1_SHAPES
from test_stylegan1 import TINY, convert, draw_pictures, map_z, relative_error
from test_stylegan2 import codes, state_of

from ganvas import checkpoints, load_generator
from ganvas.checkpoints import _torch
from ganvas.errors import GanvasError
from ganvas.generators.stylegan1 import StyleGAN1
from ganvas.generators.stylegan2 import StyleGAN2


def written(path, value, protocol=4):
    path.write_bytes(dumps(value, protocol))
    return path


def settings_of(shape):
    return {"conv_clamp": shape.clamp, "mapping_lrmul": shape.learning_rate_multiplier}


# StyleGAN2.


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("kind", SHAPES)
def test_stylegan2_comes_back(kind, protocol, tmp_path):
    shape = SHAPES[kind]
    variables = write_stylegan2(state_of(shape), shape)
    generator = load_generator(written(tmp_path / "g.pkl", snapshot(variables, **settings_of(shape)), protocol))
    direct = StyleGAN2(state_of(shape), shape)
    assert generator.shape == shape
    # A style's bias is stored without its 1, which costs the last bit.
    for name, weight in direct.weights.items():
        assert torch.allclose(generator.weights[name], weight, atol=1e-6)
    ws = codes(direct, 2)
    assert torch.allclose(generator.synthesis(ws), direct.synthesis(ws), atol=1e-4)


def test_versions_protocols_and_numbers_of_networks_have_one_fingerprint(tmp_path):
    shape = SHAPES["skip"]
    variables = write_stylegan2(state_of(shape), shape)
    lone = Network("Gs", variables, {}, 5)
    values = [snapshot(variables), snapshot(variables, 5), lone, [lone], {"Gs": lone, "G": snapshot(variables)[0]}]
    values.append({key: value.astype(np.float64) for key, value in variables.items()})
    values[-1] = Network("Gs", values[-1], {}, 4)
    values.append(Network("Gs", {key: np.asfortranarray(value) for key, value in variables.items()}, {}, 4))
    values.append(snapshot(variables, names=("Gs", "D", "Gs")))  # as those who train on write them
    values.append(snapshot(variables, names=("Gs", "D", "net")))
    found = {
        load_generator(written(tmp_path / f"{i}.pkl", value, 3 + i % 3)).fingerprint for i, value in enumerate(values)
    }
    assert len(found) == 1
    assert any("holds G, D, Gs; Gs is read" in note for note in checkpoints.read(tmp_path / "0.pkl").notes)
    checkpoints.read(tmp_path / "0.pkl").save(tmp_path / "copy.safetensors")
    assert {load_generator(tmp_path / "copy.safetensors").fingerprint} == found


def test_labels_that_are_normalized_with_z_are_read(tmp_path):
    """NVIDIA's first code: a matrix, and one norm for z and its product with the labels."""
    shape = replace(SHAPES["labels"], joint_labels=True, embed_features=None)
    shape = replace(shape, embed_features=None if shape.z_dim == shape.w_dim else shape.z_dim)
    state = state_of(shape)
    variables = write_stylegan2(state, shape)
    matrix = variables.pop("mapping/LabelEmbed/weight")
    del variables["mapping/LabelEmbed/bias"]
    path = written(
        tmp_path / "g.pkl", Network("Gs", variables | {"mapping/LabelConcat/weight": matrix}, settings_of(shape))
    )
    generator = load_generator(path)
    z, labels = torch.randn(3, shape.z_dim), torch.eye(shape.num_labels)[[0, 1, 0]]
    x = torch.cat((z, labels @ torch.from_numpy(matrix)), 1)
    x = x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()
    for i in range(shape.mapping_layers):
        weight, bias = (torch.from_numpy(variables[f"mapping/Dense{i}/{part}"]) for part in ("weight", "bias"))
        rate = shape.learning_rate_multiplier
        x = torch.nn.functional.leaky_relu(x @ weight * rate / len(weight) ** 0.5 + bias * rate, 0.2) * 2**0.5
    assert relative_error(generator.mapping(z, labels), x) < 1e-5
    checkpoints.read(path).save(tmp_path / "copy.safetensors")
    again = load_generator(tmp_path / "copy.safetensors")
    assert (again.shape, again.fingerprint) == (generator.shape, generator.fingerprint)
    assert torch.equal(again.mapping(z, labels), generator.mapping(z, labels))


def test_a_generator_that_grew_in_steps_is_read_where_it_is_grown(tmp_path):
    """The paper's configurations B to D: an output layer for each step, of which the last is used."""
    shape = replace(SHAPES["skip"], architecture="orig", clamp=None)
    variables = write_stylegan2(state_of(shape), shape)
    steps = {key.replace("16x16/ToRGB", "ToRGB_lod0"): value for key, value in variables.items()}
    steps |= {key.replace("lod0", "lod1"): value + 1 for key, value in steps.items() if "ToRGB_lod0" in key}
    plain = load_generator(written(tmp_path / "a.pkl", Network("Gs", variables, {})))
    grown = load_generator(written(tmp_path / "b.pkl", Network("Gs", steps, {})))
    assert (grown.shape, grown.fingerprint) == (plain.shape, plain.fingerprint)
    with pytest.raises(GanvasError, match="before it grew to its 16 pixels"):
        load_generator(written(tmp_path / "c.pkl", Network("Gs", steps | {"lod": np.float32(0.5) + np.zeros(())}, {})))


def test_networks_without_noise_draw_without_noise(tmp_path):
    shape = SHAPES["skip"]
    variables = {k: v for k, v in write_stylegan2(state_of(shape), shape).items() if "noise" not in k}
    checkpoint = checkpoints.read(written(tmp_path / "a.pkl", Network("Gs", variables, {})))
    assert "has no noise" in checkpoint.notes
    assert not any(value.any() for name, value in checkpoint.state.items() if "noise" in name)
    variables = write_variables({k: v for k, v in draw_stylegan1(TINY).items() if "oise" not in k})
    checkpoint = checkpoints.read(written(tmp_path / "b.pkl", Network("Gs", variables, {}, 3)))
    assert "has no constant noise: none is added" in checkpoint.notes


# StyleGAN.


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("kind", STYLEGAN1_SHAPES)
def test_stylegan1_comes_back(kind, protocol, tmp_path):
    shape = STYLEGAN1_SHAPES[kind]
    variables = draw_stylegan1(shape)
    path = written(tmp_path / "g.pkl", snapshot(write_variables(variables), 3), protocol)
    generator = load_generator(path)
    assert generator.shape == shape
    assert generator.fingerprint == StyleGAN1(convert(variables)[1], shape).fingerprint
    checkpoints.read(path).save(tmp_path / "copy.safetensors")
    assert load_generator(tmp_path / "copy.safetensors").fingerprint == generator.fingerprint


def test_settings_of_stylegan1_that_change_pictures_are_used(tmp_path):
    variables = draw_stylegan1(TINY)
    stored = write_variables(variables)
    ws, z = torch.randn(2, 8, 9), torch.randn(2, 10)
    for settings, fused, rate in (
        ({"fused_scale": True}, 0, 0.01),
        ({"fused_scale": False}, 64, 0.01),
        ({"fused_scale": "auto", "mapping_lrmul": 0.02, "blur_filter": [1, 2, 1]}, 128, 0.02),
    ):
        generator = load_generator(written(tmp_path / "g.pkl", Network("Gs", stored, settings, 3)))
        assert relative_error(generator.synthesis(ws), draw_pictures(variables, TINY, ws, fused)) < 2e-5
        assert relative_error(generator.mapping(z), map_z(variables, z, rate=rate)) < 1e-5


def test_resolutions_that_were_not_trained_are_left_out(tmp_path):
    stored = write_variables(draw_stylegan1(TINY)) | {"lod": np.ones((), np.float32)}
    stored["synthesis/lod"] = np.zeros((), np.float32)  # set from the other one before each picture
    checkpoint = checkpoints.read(written(tmp_path / "g.pkl", Network("Gs", stored, {}, 3)))
    assert "was trained up to 16 of 32 pixels" in checkpoint.notes
    generator, shape = checkpoint.build_generator("x"), replace(TINY, resolution=16, widths=TINY.widths[:3])
    assert generator.shape == shape
    variables = draw_stylegan1(TINY)
    for part in ("weight", "bias"):
        variables[f"synthesis/ToRGB_lod0/{part}"] = variables[f"synthesis/ToRGB_lod1/{part}"]
    ws = torch.randn(2, 6, 9)
    assert relative_error(generator.synthesis(ws), draw_pictures(variables, shape, ws)) < 2e-5
    with pytest.raises(GanvasError, match="while it grew to a finer resolution"):
        load_generator(
            written(tmp_path / "g.pkl", Network("Gs", stored | {"lod": np.full((), 0.5, np.float32)}, {}, 3))
        )


# What isn't read.


def test_other_settings_and_weights_are_refused(tmp_path):
    first, shape = write_variables(draw_stylegan1(TINY)), SHAPES["skip"]
    second = write_stylegan2(state_of(shape), shape)
    refusals = [
        (first, {"nonlinearity": "relu"}, "nonlinearity relu: only lrelu can be read"),
        (first, {"use_pixel_norm": True}, "use_pixel_norm True: only False can be read"),
        (first, {"blur_filter": [1, 3, 3, 1]}, r"blur_filter \[1, 3, 3, 1\]: only \[1, 2, 1\] can be read"),
        (first, {"blur_filter": None}, "blur_filter None"),
        (first, {"fused_scale": "often"}, "fused_scale often"),
        (first, {"mapping_lrmul": -1}, "mapping_lrmul -1: a positive number"),
        (first | {"synthesis/more": np.zeros(3)}, {}, "'synthesis/more', which no StyleGAN has"),
        (first | {"synthesis/noise3": np.zeros((1, 1, 3, 3), np.float32)}, {}, r"noise of shape \(1, 1, 3, 3\), where"),
        ({k: v for k, v in first.items() if "8x8/Conv1/bias" not in k}, {}, "lacks the weights synthesis.layer3.bias"),
        (second, {"resample_kernel": [1, 2, 1]}, r"resample_kernel \[1, 2, 1\]"),
        (second, {"conv_clamp": "x"}, "conv_clamp x: a positive number"),
        (second | {"synthesis/more": np.zeros(3)}, {}, "'synthesis/more', which no StyleGAN2 has"),
        (second | {"dlatent_avg": np.zeros(3)}, {}, r"dlatent_avg of shape \(3,\), where \(7,\) belongs"),
        (second | {"dlatent_avg": np.full(7, np.nan)}, {}, "aren't finite, in dlatent_avg"),
        ({k: v for k, v in second.items() if "Dense0" not in k}, {}, "lacks the weights mapping/Dense0/weight"),
        ({k: v for k, v in second.items() if "ToRGB" not in k}, {}, "lacks the weights synthesis/16x16/ToRGB/weight"),
    ]
    for variables, settings, words in refusals:
        with pytest.raises(GanvasError, match=words) as caught:
            load_generator(written(tmp_path / "g.pkl", Network("Gs", variables, settings)))
        assert "\n" not in str(caught.value)


def test_networks_that_are_no_style_generators_are_named(tmp_path):
    judge = {"4x4/Dense0/weight": np.zeros((3, 2), np.float32)}
    for value, words in (
        ((Network("D", judge, {}),), "with D: a generator of StyleGAN, StyleGAN2 or Progressive GAN is needed"),
        ({"a": 1, "b": [Network("D", judge, {})]}, "no network"),
    ):
        refused(tmp_path / "g.pkl", dumps(value), words)


NETWORK = ("dnnlib.tflib.network", "Network")
MULTIARRAY = "numpy.core.multiarray"
HEAD = text(NETWORK[0])
"""What such a pickle names in its head."""
TOUCH = text("touch owned")


def dtype(code: bytes = text("f4"), order: bytes = text("<")) -> bytes:
    return (
        called("numpy", "dtype", code, b"\x89", b"\x88")
        + b"(K\x03"
        + order
        + b"NNN"
        + b"J\xff\xff\xff\xff" * 2
        + b"K\x00tb"
    )


def array(
    shape: bytes = b"K\x04\x85", data: bytes = octets(b"\0" * 16), kind: bytes = dtype(), fortran: bytes = b"\x89"
) -> bytes:
    made = called(MULTIARRAY, "_reconstruct", text("numpy") + text("ndarray") + b"\x93", b"K\x00\x85", octets(b"b"))
    return made + b"(K\x01" + shape + kind + fortran + data + b"tb"


def buffer(size: int) -> bytes:
    return b"\x96" + struct.pack("<Q", size) + b"\0" * size


def doubled_text() -> bytes:
    return text("C") + doubled(b"%s\x86")


def network(variables: bytes = b"]", components: bytes = b"}", settings: bytes = b"}") -> bytes:
    state = text("name") + text("Gs") + text("static_kwargs") + settings
    state += text("components") + components + text("variables") + variables
    return text(NETWORK[0]) + text(NETWORK[1]) + b"\x93)\x81}(" + state + b"ub"


def variable(value: bytes, name: str = "lod") -> bytes:
    return b"](" + text(name) + value + b"\x86e"


FOUND = "is a pickle of TensorFlow with Gs: a generator"
HOSTILE = {
    "a whole one, for the writer's sake": (network(variable(array())), FOUND),
    "os.system": (network() + called("posix", "system", TOUCH), "refers to posix.system"),
    "os.system in a variable": (network(variable(called("os", "system", TOUCH))), "refers to os.system"),
    "exec of the source text": (network() + called("builtins", "exec", TOUCH), "refers to builtins.exec"),
    "a function beside a listed one": (network() + called("dnnlib.tflib.network", "import_module"), "import_module"),
    "dnnlib's own call by name": (network() + called("dnnlib.util", "call_func_by_name"), "call_func_by_name"),
    "a dotted name": (called(NETWORK[0], "Network.__init__.__globals__"), "__globals__"),
    "NumPy's file reader": (network(variable(called("numpy", "load", TOUCH))), "refers to numpy.load"),
    "NumPy's memory map": (network(variable(called("numpy", "memmap", TOUCH))), "refers to numpy.memmap"),
    "NumPy's frombuffer": (network() + called("numpy.core.multiarray", "frombuffer"), "multiarray.frombuffer"),
    "torch's loader": (network() + called("torch.storage", "_load_from_bytes"), "_load_from_bytes"),
    "a call of ndarray": (network(variable(called("numpy", "ndarray", b"K\x04\x85"))), "calls numpy.ndarray"),
    "a network with arguments": (called(*NETWORK, TOUCH), "with the wrong arguments"),
    "a persistent id": (network() + text("x") + b"Q", "persistent id"),
    # Sizes.
    "an array larger than its bytes": (network(variable(array(b"K\x05\x85"))), "16 bytes for 5 numbers"),
    "an array smaller than its bytes": (network(variable(array(b"K\x03\x85"))), "16 bytes for 3 numbers"),
    "an array of 2⁸⁰ numbers": (network(variable(array(b"(" + big(2**27) * 3 + b"t"))), "16 bytes for 2,4"),
    "an array of a negative size": (network(variable(array(b"J\xff\xff\xff\xff\x85"))), "impossible values"),
    "an array of many axes": (network(variable(array(b"(" + b"K\x01" * 9 + b"t"))), "impossible values"),
    "an array of 2⁶⁰ zeros": (
        network(variable(array(b"(" + big(2**60) + b"K\x00t", octets(b"")))),
        "impossible values",
    ),
    "an array with a list for a shape": (network(variable(array(b"]"))), "impossible values"),
    "an array of texts": (network(variable(array(data=text("x" * 16)))), "impossible values"),
    "an array of no order": (network(variable(array(fortran=b"N"))), "impossible values"),
    "an array that was never filled": (network(variable(array().partition(b"(K\x01")[0])), "isn't described"),
    "an array of objects": (network(variable(array(kind=dtype(text("O8"))))), "NumPy's type O8"),
    "an array of records": (network(variable(array(kind=dtype(text("V16"))))), "NumPy's type V16"),
    "a dtype of a nest": (network(variable(array(kind=dtype(b"N" + doubled(b"%s\x86"))))), "NumPy's type a tuple"),
    "a dtype given other attributes": (
        network(variable(array(kind=dtype() + b"}" + text("code") + b"]sb"))),
        "NumPy's type a list",
    ),
    "big-endian numbers": (network(variable(array(kind=dtype(order=text(">"))))), "byte order >"),
    "a buffer larger than its bytes": (
        network(variable(called("numpy.core.numeric", "_frombuffer", buffer(16), dtype(), b"K\x05\x85", text("C")))),
        "16 bytes for 5 numbers",
    ),
    "a buffer in an order that is a nest": (
        network(
            variable(called("numpy.core.numeric", "_frombuffer", buffer(16), dtype(), b"K\x04\x85", doubled_text()))
        ),
        FOUND,
    ),
    "a buffer of 2⁶⁰": (network(variable(b"\x96\0\0\0\0\0\0\0\x10")), "cut short"),
    "bytes of 2⁶⁰": (network(variable(b"\x8e\0\0\0\0\0\0\0\x10")), "cut short"),
    # Nests.
    "a network inside itself": (
        network() + b"q\x63}" + text("components") + b"}" + text("a") + b"h\x63ssb",
        "nests more networks",
    ),
    "networks side by side without end": (
        network(components=b"}")
        + b"q\x63}"
        + text("components")
        + b"}("
        + b"".join(text(str(i)) + b"h\x63" for i in range(200))
        + b"usb",
        "nests more networks|more steps",
    ),
    "one mapping in many networks": (
        b"]("
        + network(settings=b"}(" + b"".join(b"M" + struct.pack("<H", i) + b"N" for i in range(3000)) + b"u")
        + b"q\x63"
        + b"h\x63" * 1000
        + b"e",
        "more steps",
    ),
    "a variable twice": (network(b"](" + (text("a") + array() + b"\x86") * 2 + b"e"), "the variable a twice"),
    "a variable without a name": (network(b"](" + b"K\x01" + array() + b"\x86e"), "isn't a name with a value"),
    "a variable that is a text": (network(b"](" + text("ab") + b"e"), "isn't a name with a value"),
    "a long name": (network(variable(array(), "x" * 300)), "too long names"),
    "variables that are a mapping": (network(b"}"), FOUND),
    "settings that are a nest": (network(settings=b"N" + doubled(b"%s\x86")), FOUND),
    "nothing": (text(NETWORK[0]), "no network"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_networks_are_refused(kind, tmp_path):
    body, words = HOSTILE[kind]
    head = b"" if NETWORK[0].encode() in body[:1000] else HEAD
    refused(tmp_path / "x.pkl", whole(head + body), words)


class Shell:
    """Runs a command where it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch owned",)


def list_exploits():
    """Networks with an exploit in a setting, in a variable, and in place of the source text; before anything is patched."""
    for protocol in (3, 4):
        for place in ("resolution", "variables", "build_module_src"):
            made = Network(
                "Gs", write_variables(draw_stylegan1(TINY)), {"resolution": Shell()} if place == "resolution" else {}
            )
            made.state |= {"variables": [("lod", Shell())]} if place == "variables" else {}
            made.state |= {"build_module_src": Shell()} if place == "build_module_src" else {}
            yield dumps(made, protocol)


EXPLOITS = list(list_exploits())


def test_real_exploits_inside_of_networks_are_refused(tmp_path):
    for content in EXPLOITS:
        refused(tmp_path / "x.pkl", content, "refers to (posix|nt).system")


def test_a_setting_that_is_a_nest_takes_no_time(tmp_path):
    nest = [0]
    for _ in range(60):
        nest = [nest, nest]
    made = Network("Gs", write_variables(draw_stylegan1(TINY)), {"blur_filter": nest})
    refused(tmp_path / "x.pkl", dumps(made), "blur_filter a list: only")


def test_numbers_that_many_variables_share_are_bounded(tmp_path):
    shared = np.zeros(1000, np.float32)
    variables = {f"mapping/x{i}": shared for i in range(50)} | write_variables(draw_stylegan1(TINY))
    refused(tmp_path / "x.pkl", dumps(Network("Gs", variables, {})), "numbers where .* are stored")


def test_numbers_together_are_bounded(monkeypatch, tmp_path):
    monkeypatch.setattr(_torch, "MAX_NUMBERS", 1000)
    refused(tmp_path / "x.pkl", dumps(Network("Gs", write_variables(draw_stylegan1(TINY)), {})), "more than 1,000")


def test_every_cut_and_every_changed_byte_is_survived(tmp_path):
    """Whatever a byte is changed to: a GanvasError, or a reading; never another error, never a run."""
    content = whole(network(variable(array()), settings=b"}" + text("a") + b"K\x01s"))
    path = tmp_path / "x.pkl"
    for i in range(0, len(content), 2):
        for changed in (content[:i], *(content[:i] + bytes([value]) + content[i + 1 :] for value in (0, 82))):
            path.write_bytes(changed)
            with pytest.raises(GanvasError):
                checkpoints.read(path)
    assert [each.name for each in tmp_path.iterdir()] == ["x.pkl"]


def test_the_writer_names_nvidias_classes():
    content = dumps(Network("Gs", {"lod": np.zeros((), np.float32)}, {}), 3)
    assert b"cdnnlib.tflib.network\nNetwork\n" in content
    with pytest.raises(AssertionError, match="a file was run"):
        pickle.loads(content)
    assert turn(torch.zeros(2, 3, 4, 5)).shape == (4, 5, 3, 2)
