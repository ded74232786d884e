"""StyleGAN (1): what every generator keeps to, on a tiny one, and the network again as published."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tensorflow_pickles import draw_stylegan1, list_scopes
from test_generators import (  # noqa: F401 (they run on the fixture below)
    test_a_seed_is_a_picture,
    test_bad_resolution,
    test_bad_seed,
    test_equal_codes_equal_pixels,
    test_equal_codes_equal_pixels_however_they_lie_in_memory,
    test_gradients_flow,
    test_it_is_frozen,
    test_labels_for_an_unconditional_one,
    test_shapes,
    test_smaller_pictures_show_the_same,
    test_the_fingerprint_is_the_weights,
    test_truncation,
    test_w_avg_is_the_mean,
)

from ganvas import fit, label, load_scorer
from ganvas.checkpoints import stylegan1
from ganvas.checkpoints._budget import ReadBudget
from ganvas.checkpoints.load import load_generator
from ganvas.checkpoints.tensorflow import _list_stylegan1_names
from ganvas.editors.masked import MaskedEditor, parse_rows
from ganvas.editors.published import fit_rows
from ganvas.errors import GanvasError
from ganvas.generators.base import sample
from ganvas.generators.stylegan1 import StyleGAN1, StyleGAN1Architecture
from ganvas.inversion.imported_codes import import_codes, load_imported_codes

TINY = StyleGAN1Architecture(32, (8, 7, 6, 6), 10, 9, mapping_layers=3, mapping_width=11)
SHAPES = {
    "tiny": TINY,
    "labels": StyleGAN1Architecture(16, (8, 6, 5), 10, 9, num_labels=3, mapping_layers=2, mapping_width=9),
    "grey": StyleGAN1Architecture(8, (5, 4), 4, 4, colours=1, mapping_layers=1, mapping_width=4),
}


def convert(variables, **changes):
    """ganvas's architecture and weights of TensorFlow's variables (in PyTorch's order)."""
    names = _list_stylegan1_names(sum("ToRGB" in name for name in variables) // 2, 20)
    renamed = {names[key]: value.T if "LabelConcat" in key else value for key, value in variables.items()}
    return stylegan1.convert_genforce(renamed, ReadBudget("x"), **changes)


# The network again, as published: pixels repeated or a transposed convolution, a filter, noise, bias, norm, style.


def map_z(variables, z, labels=None, rate=0.01):
    if labels is not None:
        z = torch.cat((z, labels @ variables["mapping/LabelConcat/weight"].T), 1)
    x = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
    i = 0
    while f"mapping/Dense{i}/weight" in variables:
        weight = variables[f"mapping/Dense{i}/weight"]
        gain = (2 / weight.shape[1]) ** 0.5 * rate
        x = F.leaky_relu(x @ (weight * gain).T + variables[f"mapping/Dense{i}/bias"] * rate, 0.2)
        i += 1
    return x


def draw_pictures(variables, shape, ws, fused=128, epsilon=1e-8):
    """What the paper's code computes, with the noise that is stored."""
    x = None
    for i, (side, name) in enumerate(zip(shape.row_resolutions, list_scopes(shape), strict=True)):
        kernel = variables.get(f"{name}/weight")
        if kernel is None:
            x = variables[f"{name}/const"].expand(len(ws), -1, -1, -1)
        else:
            kernel = kernel * (2 / kernel[0].numel()) ** 0.5
            if i % 2:
                x = F.conv2d(x, kernel, padding=1)
            else:
                if side >= fused:
                    wide = F.pad(kernel, (1, 1, 1, 1))
                    wide = wide[..., 1:, 1:] + wide[..., :-1, 1:] + wide[..., 1:, :-1] + wide[..., :-1, :-1]
                    x = F.conv_transpose2d(x, wide.transpose(0, 1), stride=2, padding=1)
                else:
                    x = F.conv2d(F.interpolate(x, scale_factor=2), kernel, padding=1)
                taps = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 16
                x = F.conv2d(x, taps.expand(x.shape[1], 1, 3, 3), padding=1, groups=x.shape[1])
        x = x + variables[f"synthesis/noise{i}"] * variables[f"{name}/Noise/weight"][:, None, None]
        x = F.leaky_relu(x + variables[f"{name}/bias"][:, None, None], 0.2)
        x = x - x.mean((2, 3), keepdim=True)
        x = x / (x.square().mean((2, 3), keepdim=True) + epsilon).sqrt()
        style = ws[:, i] @ variables[f"{name}/StyleMod/weight"].T / shape.w_dim**0.5
        scale, shift = (style + variables[f"{name}/StyleMod/bias"]).reshape(len(ws), 2, -1, 1, 1).unbind(1)
        x = x * (scale + 1) + shift
    weight = variables["synthesis/ToRGB_lod0/weight"]
    x = F.conv2d(x, weight / weight.shape[1] ** 0.5, variables["synthesis/ToRGB_lod0/bias"])
    return x.expand(-1, 3, -1, -1)


def relative_error(found, expected):
    return float((found - expected).abs().max() / expected.std())


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """A tiny StyleGAN whose mean is its own, loaded by its path from the folder that the tests run in."""
    shape, state, _ = convert({k: v for k, v in draw_stylegan1(TINY, seed=4).items() if k != "dlatent_avg"})
    # So that pictures have about the range of a trained network's.
    state = {key: value / 8 if "torgb" in key else value for key, value in state.items()}
    folder = tmp_path_factory.mktemp("stylegan1")
    stylegan1.build_checkpoint("x", shape, state, []).save(folder / "tiny")
    patch = pytest.MonkeyPatch()
    patch.chdir(folder)
    yield load_generator("tiny")
    patch.undo()


@pytest.mark.parametrize("kind", SHAPES)
def test_pictures_are_those_of_the_published_network(kind):
    shape, variables = SHAPES[kind], draw_stylegan1(SHAPES[kind])
    found, state, notes = convert(variables)
    assert (found, notes) == (shape, [])
    network = StyleGAN1(state, shape)
    z = torch.randn(3, shape.z_dim, generator=torch.Generator().manual_seed(1))
    labels = torch.eye(3) if shape.num_labels else None
    w = network.mapping(z, labels)
    assert relative_error(w, map_z(variables, z, labels)) < 1e-5
    ws = torch.randn(3, network.num_ws, network.w_dim, generator=torch.Generator().manual_seed(2))
    assert relative_error(network.synthesis(ws), draw_pictures(variables, shape, ws)) < 2e-5


def test_kernels_that_double_are_the_other_way_round_where_they_are_fused():
    variables = draw_stylegan1(TINY)
    for fused in (0, 16, 32):
        _, state, _ = convert(variables, fused_resolution=fused)
        network = StyleGAN1(state, TINY)
        ws = torch.randn(2, network.num_ws, network.w_dim, generator=torch.Generator().manual_seed(2))
        assert relative_error(network.synthesis(ws), draw_pictures(variables, TINY, ws, fused)) < 2e-5


def test_rows_say_where_they_act(generator):
    assert generator.row_resolutions == (4, 4, 8, 8, 16, 16, 32, 32)
    assert [len(weight) for weight in generator.style_weights()] == [16, 16, 14, 14, 12, 12, 12, 12]
    ws = sample(generator, 1, psi=1)
    for i in range(generator.num_ws):
        moved = ws.clone()
        moved[:, i] += 1
        assert (generator.synthesis(moved) - generator.synthesis(ws)).abs().max() > 1e-3


def test_a_bias_before_the_filter_is_less_along_the_border():
    _, state, _ = convert(draw_stylegan1(TINY))
    for name in state:
        if "noise" in name:
            state[name] = torch.zeros_like(state[name])
    ws = torch.randn(1, 8, 9, generator=torch.Generator().manual_seed(2))
    after = StyleGAN1(state, TINY)
    before = StyleGAN1(state, StyleGAN1Architecture(32, (8, 7, 6, 6), 10, 9, 0, 3, 3, 11, blurred_bias=True))
    assert after.fingerprint != before.fingerprint
    assert (after.synthesis(ws) - before.synthesis(ws)).abs().max() > 0.01


def test_editors_of_w_and_rows_of_w_plus_work_on_it(generator, tmp_path):
    data = label(generator, load_scorer("toy"), 300, out=tmp_path / "labels")
    name = max(data.attributes, key=lambda each: len(data.select([each]).scores.unique()))
    ws = sample(generator, 2)
    for method in ("mean_difference", "sefa"):
        editor = fit(method, data.select([name]), generator)
        edited = editor.edit(ws, {editor.attributes[0]: 1.0})
        assert edited.shape == ws.shape
        assert (generator.synthesis(edited) - generator.synthesis(ws)).abs().max() > 1e-4
        coarse = MaskedEditor(editor, parse_rows("4-8px", generator), generator.num_ws).edit(
            ws, {editor.attributes[0]: 1.0}
        )
        assert torch.equal(coarse[:, 4:], ws[:, 4:])
        assert torch.equal(coarse[:, :4], edited[:, :4])


@pytest.mark.parametrize("rows", [6, 10, 18])
def test_codes_and_directions_of_another_networks_rows_are_refused(rows, generator, tmp_path):
    """StyleGAN2's rows begin with one at 4 pixels, StyleGAN's with two: neither means the other's."""
    np.save(tmp_path / "own.npy", np.ones((1, 8, 9), np.float32))
    assert torch.equal(import_codes(tmp_path / "own.npy", generator).ws, torch.ones(1, 8, 9))
    np.save(tmp_path / "w.npy", np.ones((rows, 9), np.float32))
    assert len(load_imported_codes(tmp_path / "w.npy", generator)) == rows
    with pytest.raises(GanvasError, match="holds a direction of .* it must have 1 or 8 as 'tiny' has"):
        fit_rows(torch.ones(rows, 9), generator, tmp_path / "w.npy")
    np.save(tmp_path / "others.npy", np.ones((2, rows, 9), np.float32))
    with pytest.raises(GanvasError, match=r"with its own 8 rows\.$"):
        import_codes(tmp_path / "others.npy", generator)


def test_labels_change_a_conditional_generator_and_are_asked_for():
    shape = SHAPES["labels"]
    network = StyleGAN1(convert(draw_stylegan1(shape))[1], shape, "tiny")
    z = torch.zeros(2, shape.z_dim) + 1
    w = network.mapping(z, torch.eye(3)[:2])
    assert (w[0] - w[1]).abs().max() > 0.01
    with pytest.raises(GanvasError, match="'tiny' is conditional: give 3 labels"):
        network.mapping(z)
    with pytest.raises(GanvasError, match=r"have shape \(2, 3\), not \(2, 4\)"):
        network.mapping(z, torch.zeros(2, 4))
    with pytest.raises(GanvasError, match="have shape"):
        network.synthesis(torch.zeros(1, 2, 3))


def test_wrong_weights_and_shapes_are_refused_in_one_line():
    _, state, _ = convert(draw_stylegan1(TINY))
    for changed, words in (
        ({k: v for k, v in state.items() if k != "synthesis.const"}, "'synthesis.const' is missing"),
        (state | {"mapping.w_avg": torch.zeros(3)}, r"'mapping.w_avg' has shape \(3,\), not \(9,\)"),
        (state | {"more": torch.zeros(3)}, "'more' isn't one of them"),
    ):
        with pytest.raises(GanvasError, match=words):
            StyleGAN1(changed, TINY)
    for values, words in (
        ((24, (4, 4)), "resolution '24'"),
        ((8, (4,)), "needs 2 widths, not 1"),
        ((8, (4, 4), 4, 4, 0, 4), "1 or 3 colours, not 4"),
    ):
        with pytest.raises(GanvasError, match=words):
            StyleGAN1Architecture(*values)
