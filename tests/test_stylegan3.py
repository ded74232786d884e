"""StyleGAN3: its pictures against a plain reference, the laws of its codes and its transform, its files and NVIDIA's pickles."""

import os
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from nvidia_pickles import Network, called, dumps, whole
from stylegan3 import design, design_filters, draw_weights, features, low_pass, rival
from unstable_sums import UnsteadySums

from ganvas import checkpoints, cli, fit, label, load_generator, load_scorer
from ganvas.editors import load_editor, save
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, map_seeds, sample, truncate
from ganvas.generators.stylegan3 import StyleGAN3, layers
from ganvas.generators.stylegan3.architecture import FilteredLayerArchitecture, StyleGAN3Architecture
from ganvas.io.files import load_tensors, save_tensors
from ganvas.recipe.files import load_recipe
from ganvas.recipe.model import FromCodes, InputTransform, from_json, to_json
from ganvas.recipe.rendering import Tools, compute_code, render

TOLERANCE = 1e-4
"""Of the standard deviation of the expected picture."""
SIZES = {"z_dim": 6, "w_dim": 7}
NETWORKS = {
    "t": design(32, "t", 4, 0.012, **SIZES),
    "r": design(32, "r", 5, 0.006, **SIZES),
    "labels": design(16, "t", 3, 0.015, num_labels=3, **SIZES),
}


def handmade() -> tuple[StyleGAN3Architecture, dict[str, torch.Tensor]]:
    """A network with what no published one has: filters of odd lengths that aren't symmetric, other factors, a small clamp."""
    own = (
        FilteredLayerArchitecture(5, 21, 3, 3, 2, 7, 5),
        FilteredLayerArchitecture(4, 30, 5, 2, 1, 3, 1),
        FilteredLayerArchitecture(6, 20, 1, 1, 3, 1, 4, True),
        FilteredLayerArchitecture(1, 20, 1, 1, 1, 1, 1),
    )
    shape = StyleGAN3Architecture(20, own, 3, 18, 8, 1.5, mapping_layers=3, clamp=0.8, output_scale=0.5, **SIZES)
    state = draw_weights(shape)
    return shape, {name: value / value.norm() if "filter" in name else value for name, value in state.items()}


NETWORKS["handmade"] = handmade()


def made(kind: str = "t", dtype: torch.dtype = torch.float32) -> StyleGAN3:
    shape, state = NETWORKS[kind]
    return StyleGAN3(state, shape, kind, dtype)


def codes(generator: Generator, n: int = 3, seed: int = 5) -> torch.Tensor:
    """Codes with different rows."""
    return torch.randn(n, generator.num_ws, generator.w_dim, generator=torch.Generator().manual_seed(seed))


def turned(angle: float = 20.0, x: float = 0.1, y: float = -0.2) -> torch.Tensor:
    generator = made()
    generator.set_transform(angle, x, y)
    return generator.transform


# Against the plain reference.


@pytest.mark.numerics
@pytest.mark.parametrize("moved", [False, True])
@pytest.mark.parametrize("kind", NETWORKS)
def test_pictures_are_those_of_the_published_network(kind, moved):
    generator, (shape, state) = made(kind), NETWORKS[kind]
    if moved:
        generator.set_transform(20, 0.1, -0.2)
    ws = codes(generator)
    wanted = rival(state, shape, ws, turned() if moved else None)
    found = generator.synthesis(ws)
    assert float((found - wanted).abs().max() / wanted.std()) < 5e-5


@pytest.mark.parametrize("kind", NETWORKS)
def test_in_float64_the_reference_and_the_network_are_one(kind):
    shape, state = NETWORKS[kind]
    state = {name: value.double() for name, value in state.items()}
    ws, still = codes(made(kind)).double(), torch.eye(3).double()
    found = layers.synthesis(layers.fold_weights(state, shape, torch.float64), shape, ws, still)
    torch.testing.assert_close(found, rival(state, shape, ws), rtol=1e-7, atol=1e-7)


def test_the_handmade_network_crops_pads_and_clamps():
    shape = NETWORKS["handmade"][0]
    skipped = [side for layer in shape.iterate_layers() for side in layer.skipped]
    crops = [layer.crops for layer in shape.iterate_layers()]
    assert min(skipped) < 0 < max(skipped)
    assert any(before != after for before, after in crops)
    assert float(made("handmade").synthesis(codes(made("handmade"))).abs().max()) == pytest.approx(0.8 * 0.5)


@pytest.mark.parametrize("kind", ["t", "r"])
def test_filters_keep_a_constant_and_stop_high_frequencies(kind):
    """The design that tests and benchmarks use, by the sum of the taps and at twice the cutoff."""
    taps = low_pass(12, 4.0, 12.0, 32, kind == "r")
    assert float(taps.sum()) == pytest.approx(1, abs=0.03)
    wave = torch.exp(2j * torch.pi * torch.arange(12) * 14 / 32).to(torch.complex64)
    line = taps if taps.ndim == 1 else taps.sum(0)
    assert abs(complex(line.to(torch.complex64) @ wave)) < 0.02


@pytest.mark.parametrize("config", ["t", "r"])
@pytest.mark.parametrize("resolution", [128, 256, 512, 1024])
def test_the_published_sizes_are_possible(config, resolution):
    shape, _ = design_filters(resolution, config)
    assert (len(shape.row_resolutions), shape.is_radial, shape.layers[-1].side) == (16, config == "r", resolution)
    assert list(shape.row_resolutions) == sorted(shape.row_resolutions)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_filtered_in_parts_are_the_same(kind, dtype, monkeypatch):
    generator = made(kind, dtype)
    ws = codes(generator)
    wanted = generator.synthesis(ws)
    monkeypatch.setattr(layers, "MAX_INNER_FEATURES", 1)
    monkeypatch.setattr(layers, "CHANNEL_GROUP", 2)
    torch.testing.assert_close(generator.synthesis(ws), wanted, rtol=1e-4, atol=1e-5)


# The transform.


def test_a_transform_turns_and_moves_what_is_drawn():
    """A quarter turn of a network without margins at the edges is a rotation of the features' array."""
    shape, state = NETWORKS["t"]
    generator = made()
    w, folded = codes(generator)[:, 0], generator._folded()
    still = layers.draw_features(folded, shape, w * 0, torch.eye(3))
    code = state["synthesis.input.affine.bias"]
    assert float(code[2:].abs().max()) > 0
    neutral = dict(folded) | {"synthesis.input.affine.bias": torch.tensor([1.0, 0, 0, 0])}
    still = layers.draw_features(neutral, shape, w * 0, torch.eye(3))
    generator.set_transform(angle=90)
    torch.testing.assert_close(
        layers.draw_features(neutral, shape, w * 0, generator.transform), still.rot90(1, (2, 3)), rtol=1e-4, atol=1e-4
    )
    pixel = 1 / shape.input_rate
    generator.set_transform(x=2 * pixel, y=3 * pixel)
    moved = layers.draw_features(neutral, shape, w * 0, generator.transform)
    torch.testing.assert_close(moved[:, :, 3:, 2:], still[:, :, :-3, :-2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        layers.draw_features(folded, shape, w, turned()), features(state, shape, w, turned()), rtol=1e-4, atol=1e-4
    )


def test_a_transform_is_no_part_of_the_fingerprint_and_can_be_taken_back():
    generator, other = made(), made()
    ws = codes(generator)
    before = generator.synthesis(ws)
    generator.set_transform(30, 0.1, 0.2)
    assert generator.fingerprint == other.fingerprint
    assert not torch.allclose(generator.synthesis(ws), before, atol=1e-2)
    assert torch.equal(generator.synthesis(ws), generator.synthesis(ws))
    generator.set_transform()
    assert torch.equal(generator.synthesis(ws), before)
    with pytest.raises(GanvasError, match="finite numbers, not nan"):
        generator.set_transform(float("nan"))


# Codes.


@pytest.mark.numerics
@pytest.mark.parametrize("kind", NETWORKS)
def test_equal_codes_equal_pixels_and_each_picture_is_its_own_codes(kind):
    generator = made(kind)
    labels = torch.eye(3) if kind == "labels" else None
    w = generator.mapping(torch.randn(3, 6, generator=torch.Generator().manual_seed(1)), labels)
    with UnsteadySums():
        first = generator.synthesis(generator.expand(w))
        assert torch.equal(first, generator.synthesis(w[:, None].repeat(1, generator.num_ws, 1)))
    ws = codes(generator, 4)
    together = generator.synthesis(ws)
    singles = torch.cat([generator.synthesis(one[None]) for one in ws])
    torch.testing.assert_close(together, singles, rtol=1e-5, atol=1e-5)
    assert together.shape == (4, 3, generator.resolution, generator.resolution)
    assert generator.synthesis(ws[:0]).shape[0] == 0


@pytest.mark.parametrize("kind", NETWORKS)
def test_each_row_acts_and_gradients_agree_with_differences(kind):
    shape, state = NETWORKS[kind]
    folded = layers.fold_weights({name: value.double() for name, value in state.items()}, shape, torch.float64)
    ws, moved = codes(made(kind), 1).double().requires_grad_(), turned().double()
    (slope,) = torch.autograd.grad(layers.synthesis(folded, shape, ws, moved).square().sum(), ws)
    assert (slope.abs().sum(2) > 0).all()
    direction = torch.randn(ws.shape, generator=torch.Generator().manual_seed(2)).double()
    with torch.no_grad():
        ends = [layers.synthesis(folded, shape, ws + step * direction, moved).square().sum() for step in (1e-8, -1e-8)]
    assert float((ends[0] - ends[1]) / 2e-8) == pytest.approx(float((slope * direction).sum()), rel=1e-5)


@pytest.mark.parametrize("kind", NETWORKS)
def test_bfloat16_is_near_float32_and_of_the_same_fingerprint(kind):
    exact, half = made(kind), made(kind, torch.bfloat16)
    ws = codes(exact)
    wanted = exact.synthesis(ws)
    assert half.fingerprint == exact.fingerprint
    assert half.synthesis(ws).dtype == torch.float32
    assert float((half.synthesis(ws) - wanted).square().mean() / wanted.var()) < 1e-3


def test_large_pictures_are_the_same_one_by_one_and_together():
    shape, state = design(128, "t", 6, 0.01, **SIZES)
    generator = StyleGAN3(state, shape)
    ws = codes(generator, 2)
    together = generator.synthesis(ws.clone().requires_grad_()).detach()
    torch.testing.assert_close(generator.synthesis(ws), together, rtol=1e-4, atol=1e-5)


def test_rows_say_where_they_act_and_smaller_pictures_are_shrunk():
    generator = made()
    assert generator.row_resolutions == (16, 16, 32, 32, 32, 32)
    assert [tuple(weight.shape) for weight in generator.style_weights()][:2] == [(4, 7), (6, 7)]
    assert not any(weight.requires_grad for weight in generator.parameters())
    ws = codes(generator)
    small = generator.synthesis(ws, resolution=16)
    torch.testing.assert_close(small, torch.nn.functional.avg_pool2d(generator.synthesis(ws), 2))
    with pytest.raises(GanvasError, match=r"resolution.*7.*pick one of"):
        generator.synthesis(ws, resolution=7)
    with pytest.raises(GanvasError, match="have shape"):
        generator.synthesis(ws[:, 1:])


def test_labels_change_a_conditional_generator_and_are_asked_for():
    generator, z = made("labels"), torch.randn(2, 6)
    first, second = torch.eye(3)[[0, 0]], torch.eye(3)[[1, 1]]
    assert not torch.allclose(generator.mapping(z, first), generator.mapping(z, second))
    assert sample(generator, 2, labels=first).shape == (2, generator.num_ws, 7)
    with pytest.raises(GanvasError, match="give 3 labels"):
        generator.mapping(z)
    with pytest.raises(GanvasError, match="takes no labels"):
        made().mapping(z, first)


def test_equal_weights_used_otherwise_are_another_generator():
    shape, state = NETWORKS["t"]
    ways = [
        shape,
        *(replace(shape, **change) for change in ({"clamp": 9.0}, {"output_scale": 1.0}, {"bandwidth": 1.0})),
    ]
    assert len({StyleGAN3(state, way).fingerprint for way in ways}) == len(ways)


def test_editors_of_w_and_w_plus_are_fitted_and_edit(tmp_path):
    """One that learns from labels, one in closed form from the styles; both belong to this generator alone."""
    generator, other = made("t"), made("r")
    data = label(generator, load_scorer("toy"), 300, out=tmp_path / "labels")
    varied = max(data.attributes, key=lambda name: len(data.select([name]).scores.unique()))
    for method in ("mean_difference", "sefa"):
        editor = fit(method, data.select([varied]), generator)
        ws = sample(generator, 2)
        assert torch.equal(editor.edit(ws, {varied: 0.0}), ws)
        moved = editor.edit(ws, {varied: 1.0})
        assert not torch.equal(moved, ws)
        assert not torch.equal(generator.synthesis(moved), generator.synthesis(ws))
        save(editor, tmp_path / f"{method}.safetensors")
        assert torch.equal(load_editor(tmp_path / f"{method}.safetensors", generator).edit(ws, {varied: 1.0}), moved)
        with pytest.raises(GanvasError, match=generator.fingerprint[:12]):
            load_editor(tmp_path / f"{method}.safetensors", other)


# Files.


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resolution": 64}, "32 pixels by a kernel of 1"),
        ({"layers": ()}, "layers must have at least 1"),
        ({"bandwidth": -1.0}, "bandwidth must be a number of at least 0"),
        ({"input_rate": 0}, "input_rate must be a whole number of at least 1"),
        ({"w_dim": 10**9}, "w_dim must be a whole number of at most 4096"),
        ({"clamp": 0.0}, "clamp must be a number above 0"),
    ],
)
def test_impossible_architectures_are_refused(changes, words):
    with pytest.raises(GanvasError, match=words):
        replace(NETWORKS["t"][0], **changes)


@pytest.mark.parametrize(
    ("number", "changes", "words"),
    [
        (0, {"up": 12, "up_taps": 6}, "6 taps can't resample by 12"),
        (0, {"side": 4096, "down": 16, "down_taps": 16}, "pixels inside: too many"),
        (0, {"down": 3, "down_taps": 18}, "resamples 16 pixels by 2/3"),
        (-1, {"channels": 4}, "1 or 3 colours, not 4"),
        (-1, {"kernel": 3}, "a kernel of 1"),
    ],
)
def test_impossible_layers_are_refused(number, changes, words, tmp_path):
    shape, path = NETWORKS["t"][0], tmp_path / "g.safetensors"
    about = {"kind": "generator", "family": "stylegan3", "version": 1, "shape": asdict(shape)}
    about["shape"]["layers"][number].update(changes)
    save_tensors(path, NETWORKS["t"][1], about)
    with pytest.raises(GanvasError, match=words):
        load_generator(path)


def test_wrong_weights_are_refused():
    shape, state = NETWORKS["t"]
    name = next(iter(shape.iterate_layers())).name
    for change, words in (
        ({f"{name}.magnitude_ema": torch.tensor(-1.0)}, "magnitude_ema' is -1"),
        ({f"{name}.bias": torch.zeros(99)}, r"has shape \(99,\), not"),
        ({"more": torch.zeros(1)}, "isn't one of them"),
    ):
        with pytest.raises(GanvasError, match=words):
            StyleGAN3(state | change, shape)


def array(*values: int) -> np.ndarray:
    return np.array(values)


def network(kind: str) -> Network:
    """A network as the tree of modules that NVIDIA's code has."""
    shape, state = NETWORKS[kind]

    def under(prefix: str) -> dict[str, torch.Tensor]:
        start = f"{prefix}."
        return {k[len(start) :]: v for k, v in state.items() if k.startswith(start) and "." not in k[len(start) :]}

    def dense(prefix: str, rate: float, activation: str) -> Network:
        gains = {"weight_gain": np.float64(rate) / np.sqrt(7), "bias_gain": rate, "activation": activation}
        return Network("FullyConnectedLayer", under(prefix), {}, **gains)

    features = Network(
        "SynthesisInput", under("synthesis.input"), {"affine": dense("synthesis.input.affine", 1, "linear")},
        w_dim=shape.w_dim, channels=shape.input_channels, size=array(shape.input_side, shape.input_side),
        sampling_rate=float(shape.input_rate), bandwidth=np.float64(shape.bandwidth),
    )  # fmt: skip
    modules = {"input": features}
    for layer in shape.iterate_layers():
        before, after = layer.padding
        inner = layer.incoming_rate * layer.up
        modules[layer.name.removeprefix("synthesis.")] = Network(
            "SynthesisLayer", under(layer.name), {"affine": dense(f"{layer.name}.affine", 1, "linear")},
            in_channels=layer.incoming, out_channels=layer.outgoing, in_size=array(layer.incoming_side, layer.incoming_side),
            out_size=array(layer.side, layer.side), in_sampling_rate=layer.incoming_rate, tmp_sampling_rate=inner,
            out_sampling_rate=layer.rate, conv_kernel=layer.kernel, conv_clamp=shape.clamp, up_factor=layer.up,
            up_taps=layer.up_taps, down_factor=layer.down, down_taps=layer.down_taps, down_radial=layer.radial,
            padding=[before, after, before, after],
        )  # fmt: skip
    names = [name for name in modules if name != "input"]
    image = {"img_resolution": shape.resolution, "img_channels": shape.layers[-1].channels}
    synthesis = Network("SynthesisNetwork", {}, modules, output_scale=shape.output_scale, layer_names=names, **image)
    rows = [f"fc{i}" for i in range(shape.mapping_layers)]
    inner_ones = {row: dense(f"mapping.{row}", shape.learning_rate_multiplier, "lrelu") for row in rows}
    inner_ones |= {"embed": dense("mapping.embed", 1, "linear")} if shape.num_labels else {}
    sizes = {"z_dim": shape.z_dim, "c_dim": shape.num_labels, "w_dim": shape.w_dim, "num_layers": shape.mapping_layers}
    mapping = Network("MappingNetwork", under("mapping"), inner_ones, **sizes)
    return Network("Generator", {}, {"synthesis": synthesis, "mapping": mapping}, **image)


def find_module(top: Network, *names: str) -> dict:
    for name in names:
        top = top.state["_modules"][name]
    return top.state


def written(path: Path, kind: str = "t", protocol: int = 4) -> Path:
    path.write_bytes(dumps({"G": None, "D": None, "G_ema": network(kind), "augment_pipe": None}, protocol))
    return path


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("kind", NETWORKS)
def test_every_architecture_comes_back_from_nvidias_pickle_and_from_ganvass_own_file(kind, protocol, tmp_path):
    path, direct = written(tmp_path / "g.pkl", kind, protocol), made(kind)
    generator = load_generator(path)
    assert (generator.shape, generator.fingerprint) == (direct.shape, direct.fingerprint)
    ws = codes(direct, 2)
    assert torch.equal(generator.synthesis(ws), direct.synthesis(ws))
    checkpoints.read(path).save(tmp_path / "own.safetensors")
    again = load_generator(tmp_path / "own.safetensors")
    assert (again.shape, again.fingerprint) == (direct.shape, direct.fingerprint)
    assert torch.equal(again.synthesis(ws), direct.synthesis(ws))
    lines = "\n".join(checkpoints.describe_file(path))
    for words in ("NVIDIA's pickle", "stylegan3", "alias-free", generator.fingerprint, "G_ema is read"):
        assert words in lines


# State dicts.


@pytest.mark.parametrize("start", ["", "module.", "G_ema."])
@pytest.mark.parametrize("kind", ["t", "r", "labels"])
def test_state_dicts_come_back(kind, start, tmp_path):
    (shape, state), direct = NETWORKS[kind], made(kind)
    torch.save({start + name: value for name, value in state.items()}, tmp_path / "g.pt")
    checkpoint = checkpoints.read(tmp_path / "g.pt")
    generator = checkpoint.build_generator("g")
    assert (generator.shape, generator.fingerprint) == (shape, direct.fingerprint)
    assert any("NVIDIA's defaults are taken" in note for note in checkpoint.notes)


def test_a_state_dict_without_a_mean_gets_one(tmp_path):
    _, state = NETWORKS["labels"]
    torch.save({name: value for name, value in state.items() if name != "mapping.w_avg"}, tmp_path / "g.pt")
    generator = load_generator(tmp_path / "g.pt")
    torch.testing.assert_close(generator.w_avg, map_seeds(generator, range(4096)).mean(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"synthesis.L0_36_6.weight": "synthesis.L0_38_6.weight"}, "isn't of the sizes that NVIDIA's settings give"),
        ({"synthesis.L0_36_6.weight": "synthesis.L0_12_6.weight"}, "isn't of the sizes"),
        ({"synthesis.L0_36_6.up_filter": "x"}, "isn't of the sizes|isn't one of them"),
        ({"synthesis.L2_52_6.weight": "synthesis.L7_52_6.weight"}, "numbered from 0 on"),
        ({"mapping.fc0.weight": "mapping.fc9.weight"}, "lacks the weights|layers"),
        ({"synthesis.input.affine.weight": "more"}, "is missing|isn't one of them"),
    ],
)
def test_state_dicts_that_lie_are_refused_in_one_line(changes, words, tmp_path):
    _, state = NETWORKS["t"]
    renamed = {changes.get(name, name): value for name, value in state.items()}
    assert renamed.keys() != state.keys()
    torch.save(renamed, tmp_path / "g.pt")
    with pytest.raises(GanvasError, match=words) as caught:
        load_generator(tmp_path / "g.pt")
    assert "\n" not in str(caught.value)


FIRST, LAST = "L0_36_6", "L4_32_3"
LIES = {
    "a size that doesn't fit its padding": (
        FIRST,
        {"out_size": array(34, 34)},
        "calls the layer synthesis.L0_34_6|pads",
    ),
    "a negative size": (FIRST, {"out_size": array(-36, -36)}, r"size of \[-36, -36\]"),
    "a size of 10¹²": (FIRST, {"out_size": array(10**12, 10**12)}, "two sides of 1 to 4096"),
    "a size of one number": (FIRST, {"out_size": array(36)}, "two sides"),
    "a size that is a number": (FIRST, {"out_size": 36}, "two sides"),
    "a size of halves": (FIRST, {"out_size": np.array([36.0, 36.0])}, "two sides"),
    "a size in big-endian": (FIRST, {"out_size": np.array([36, 36], ">i8")}, "two sides"),
    "a rectangle": (FIRST, {"out_size": array(36, 68)}, "36×68 pixels"),
    "a negative rate": (FIRST, {"in_sampling_rate": -16}, "sampling rates of -16, 32, 16"),
    "a rate of 0": (FIRST, {"tmp_sampling_rate": 0}, "sampling rates of 16, 0, 16"),
    "a rate that is a text": (FIRST, {"out_sampling_rate": "16"}, "sampling rates"),
    "rates that don't divide": (FIRST, {"tmp_sampling_rate": 33}, "resamples from 16 by way of 33"),
    "rates far apart": (FIRST, {"in_sampling_rate": 1}, "up must be a whole number of at most 16"),
    "another padding": (FIRST, {"padding": [9, 9, 9, 9]}, "where its sizes need 9 before and 8 after"),
    "a padding of lists": (FIRST, {"padding": [[9]] * 4}, "where its sizes need"),
    "no padding": (FIRST, {"padding": None}, "where its sizes need"),
    "taps that lie": (FIRST, {"up_taps": 10**9}, "for the up_filter of 1000000000 taps"),
    "a filter that isn't radial": (FIRST, {"down_radial": True}, "for the down_filter of 12 taps"),
    "a kernel of 9": (FIRST, {"conv_kernel": 9}, "kernel must be a whole number of at most 7"),
    "channels that lie": (FIRST, {"out_channels": 99}, "calls the layer synthesis.L0_36_99 L0_36_6"),
    "another clamp": (FIRST, {"conv_clamp": 3}, "different clamps"),
    "filters of the last layer": (LAST, {"up_taps": 6}, "has none for the up_filter of 6 taps"),
    "a frequency that lies": ("input", {"sampling_rate": 1e9}, "input_rate must be a whole number of at most 4096"),
    "a broken rate": ("input", {"sampling_rate": 15.5}, "input_rate must be a whole number"),
    "channels of the features": ("input", {"channels": 5}, "synthesis.L0_36_6.affine.weight|input.weight"),
    "a band that is a list": ("input", {"bandwidth": [[2.0]]}, "bandwidth must be a finite number, not 'a list'"),
}


@pytest.mark.parametrize("kind", LIES)
def test_attributes_that_lie_are_refused_in_one_line(kind, tmp_path):
    module, changes, words = LIES[kind]
    top, path = network("t"), tmp_path / "g.pkl"
    find_module(top, "synthesis", module).update(changes)
    path.write_bytes(dumps({"G_ema": top}))
    with pytest.raises(GanvasError, match=words) as caught:
        load_generator(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_tensors_and_names_that_lie_are_refused_in_one_line(tmp_path):
    path = tmp_path / "g.pkl"

    def refused(words, *names, part="", key="", value=None):
        top = network("t")
        state = find_module(top, *names)
        (state[part] if part else state)[key] = value
        path.write_bytes(dumps({"G_ema": top}))
        with pytest.raises(GanvasError, match=words) as caught:
            load_generator(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500

    layer = ("synthesis", FIRST)
    refused("one of shape", *layer, part="_buffers", key="up_filter", value=torch.zeros(11))
    refused("finite", *layer, part="_buffers", key="up_filter", value=torch.full((12,), torch.nan))
    refused("has none for the up_filter", *layer, part="_buffers", key="up_filter")
    refused("magnitude_ema' is 0", *layer, part="_buffers", key="magnitude_ema", value=torch.tensor(0.0))
    refused("transform", "synthesis", "input", part="_buffers", key="transform", value=torch.zeros(2, 2))
    refused("isn't one of them", "synthesis", part="_buffers", key="more", value=torch.zeros(2))
    refused("names of 1 to 64 layers", "synthesis", key="layer_names", value=[FIRST] * 1000)
    refused("names of 1 to 64 layers", "synthesis", key="layer_names", value={"a": 1})
    refused("sampling rates of None", "synthesis", key="layer_names", value=["L0_36_6", "nothing"])
    refused("resolution must be", "synthesis", key="img_resolution", value=-32)
    refused("different learning rates", "mapping", "fc1", key="bias_gain", value=0.5)


def test_a_stylegan_xl_is_refused_by_name(tmp_path):
    top, path = network("labels"), tmp_path / "g.pkl"
    find_module(top, "mapping")["_modules"]["embed_proj"] = Network(
        "FullyConnectedLayer", {"weight": torch.zeros(3)}, {}
    )
    path.write_bytes(dumps({"G_ema": top}))
    with pytest.raises(GanvasError, match="StyleGAN-XL"):
        load_generator(path)


def test_arrays_without_content_and_nests_are_refused(tmp_path):
    """NumPy's arrays are never built: what a file says of one is kept, and read where a size belongs."""
    path = tmp_path / "g.pkl"
    rebuild = ("numpy.core.multiarray", "_reconstruct")
    empty = called(*rebuild, b"N", b"N", b"N")
    bodies = {
        called(*rebuild): "with the wrong arguments",
        called("numpy", "ndarray", b"J\xff\xff\xff\x7f"): "calls numpy.ndarray, which checkpoints only name",
        empty: "no network",
        empty + b"K\x01b": "no network",
    }
    for body, words in bodies.items():
        path.write_bytes(whole(body))
        with pytest.raises(GanvasError, match=words):
            load_generator(path)


def test_damaged_files_of_ganvass_own_are_refused(tmp_path):
    path = tmp_path / "own.safetensors"
    checkpoints.read(written(tmp_path / "g.pkl")).save(path)
    tensors, about = load_tensors(path)
    for change in ({"extra": 1}, {"layers": 3}, {"bandwidth": "x"}, {"layers": [{"channels": 3}]}):
        save_tensors(path, tensors, about | {"shape": about["shape"] | change})
        with pytest.raises(GanvasError, match="damaged"):
            load_generator(path)
    lacking = deepcopy(about)
    del lacking["shape"]["layers"][0]["radial"]
    save_tensors(path, tensors, lacking)
    with pytest.raises(GanvasError, match="radial is missing"):
        load_generator(path)


# Commands and recipes.


def run(*arguments):
    with pytest.raises(SystemExit) as stop:
        cli.main([*map(str, arguments)])
    return stop.value.code or 0


@torch.no_grad()
def test_commands_turn_and_move_pictures_and_recipes_keep_it(tmp_path, capsys):
    shape, state = NETWORKS["t"]
    about = {"kind": "generator", "family": "stylegan3", "version": 1, "shape": asdict(shape)}
    save_tensors(tmp_path / "g.safetensors", state, about)
    weights, out, again = (tmp_path / name for name in ("g.safetensors", "out.png", "again.png"))
    generator = load_generator(weights)
    before = generator.transform.clone()
    for name, extra in {"edit": (), "mix": ("--with", 3, "--rows", "0-1")}.items():
        moved = ("--rotate", 20, "--translate", "0.1,-0.2", "--out", out)
        assert run(name, weights, "--seed", 1, *extra, *moved) == 0
        recipe, _ = load_recipe(out)
        assert recipe.transform == InputTransform(20.0, 0.1, -0.2)
        assert from_json(to_json(recipe), "here") == recipe
        assert run("render", out, "--generator", weights, "--out", again) == 0
        assert again.read_bytes() == out.read_bytes()
        tools = Tools(generator, "float32")
        pictures = render(recipe, tools)
        ws = compute_code(recipe, tools)
        assert torch.equal(generator.transform, before) and not torch.equal(pictures, generator.synthesis(ws))
        assert torch.equal(pictures, generator.with_transform(20, 0.1, -0.2).synthesis(ws))
    assert run("sample", weights, "-n", 2, "--rotate", -90, "--out", tmp_path / "two") == 0
    assert load_recipe(tmp_path / "two" / "seed0001.png")[0].transform == InputTransform(-90.0)
    assert run("animate", weights, "--to", 3, "--frames", 2, "--translate", "0,0.5", "--out", tmp_path / "a.gif") == 0
    assert all(each.transform == InputTransform(y=0.5) for each in load_recipe(tmp_path / "a.json")[0].pictures)
    assert "transform" not in to_json(replace(recipe, transform=None))
    capsys.readouterr()
    assert run("edit", "toy", "--rotate", 5, "--out", again) == 1
    assert "'toy' isn't a StyleGAN3" in capsys.readouterr().err
    for wrong in ("0.1", "a,b", "1,2,3", "0,nan"):
        assert run("edit", weights, "--translate", wrong, "--out", again) == 1
        assert "Error: " in capsys.readouterr().err
    with pytest.raises(GanvasError, match="can't turn or move"):
        replace(recipe, start=FromCodes("c", 0), mix=None, photo="p")


# What the original code computed.

CASES = Path(os.environ.get("GANVAS_CASES", "")) / "stylegan3"


@pytest.mark.skipif(
    not os.environ.get("GANVAS_CASES") or not CASES.is_dir(),
    reason="the cases aren't here: GANVAS_CASES names the folder that has stylegan3/",
)
@pytest.mark.parametrize("name", ["stylegan3-t", "stylegan3-r", "stylegan3-t-conditional"])
@torch.no_grad()
def test_pictures_are_those_of_the_original_code(name, tmp_path):
    path = CASES / f"{name}.pkl"
    generator = load_generator(path)
    expected = {key: torch.from_numpy(value) for key, value in np.load(CASES / f"{name}.expected.npz").items()}
    w = generator.mapping(expected["z"], expected.get("c"))
    assert float((generator.expand(w) - expected["ws"]).abs().max()) < 1e-5
    checkpoints.read(path).save(tmp_path / "own.safetensors")
    again = load_generator(tmp_path / "own.safetensors")
    assert again.fingerprint == generator.fingerprint

    def check(found, key):
        assert float((found - expected[key]).abs().max() / expected[key].std()) < TOLERANCE

    for network in (generator, again):
        check(network.synthesis(network.expand(w)), "image")
        check(network.synthesis(network.expand(truncate(w, network.w_avg, 0.7))), "image_psi07")
        network.set_transform(30, 0.1, 0.2)
        torch.testing.assert_close(network.transform, expected["transform"])
        check(network.synthesis(expected["ws"]), "image_transformed")
