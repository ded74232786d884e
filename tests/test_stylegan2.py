"""StyleGAN2: the laws of its layers against a plain reference, of its codes, and of its file."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from unstable_sums import UnsteadySums

from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, sample
from ganvas.generators.stylegan2 import StyleGAN2, layers, read_generator, resampling, save_generator
from ganvas.generators.stylegan2.architecture import RESOLUTIONS, StyleGAN2Architecture

SHAPES = {
    "skip": StyleGAN2Architecture(16, (12, 10, 8), 6, 7, mapping_layers=2),
    "grey": StyleGAN2Architecture(8, (8, 6), 6, 6, colours=1, mapping_layers=2),
    "resnet": StyleGAN2Architecture(16, (12, 10, 8), 6, 7, mapping_layers=3, architecture="resnet", clamp=0.9),
    "orig": StyleGAN2Architecture(16, (12, 10, 8), 6, 7, mapping_layers=2, architecture="orig", bounded=True),
    "shuffled": StyleGAN2Architecture(16, (12, 10), 6, 7, mapping_layers=2, shuffled=True),
    "labels": StyleGAN2Architecture(8, (8, 6), 6, 7, num_labels=3, mapping_layers=2, clamp=256.0),
    "embedding": StyleGAN2Architecture(8, (8, 6), 6, 7, num_labels=3, mapping_layers=2, embed_features=5),
}


def state_of(shape: StyleGAN2Architecture, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights that use everything: noise, biases and the mean of W are not 0."""
    random = torch.Generator().manual_seed(seed)
    state = layers.initialize_weights(shape, random)
    for name, value in state.items():
        if name.endswith(("bias", "noise_strength", "w_avg")):
            value.add_(torch.randn(value.shape, generator=random) / 4)
    return state


def made(kind: str = "skip", dtype: torch.dtype = torch.float32) -> StyleGAN2:
    return StyleGAN2(state_of(SHAPES[kind]), SHAPES[kind], kind, dtype)


def codes(generator: Generator, n: int = 3, seed: int = 5) -> torch.Tensor:
    """Codes with different rows."""
    return torch.randn(n, generator.num_ws, generator.w_dim, generator=torch.Generator().manual_seed(seed))


# The network again, as published: zeros between pixels, a filter pass, one kernel a picture.


def filtered(x: torch.Tensor, before: int, after: int, gain: float = 1.0) -> torch.Tensor:
    taps = torch.tensor(resampling.TAPS)
    kernel = (taps[:, None] * taps / taps.sum() ** 2 * gain).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(x, (before, after, before, after)), kernel, groups=x.shape[1])


def zeros_between(x: torch.Tensor) -> torch.Tensor:
    y = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    y[:, :, ::2, ::2] = x
    return y


def modulated(x, weight, style, up=False, demodulate=True):
    pictures = []
    for one, s in zip(x, style, strict=True):
        kernel = weight * s[:, None, None]
        if demodulate:
            kernel = kernel * (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).rsqrt()
        if up:
            y = filtered(F.conv_transpose2d(one[None], kernel.transpose(0, 1), stride=2), 1, 1, 4)
        else:
            y = F.conv2d(one[None], kernel, padding=weight.shape[-1] // 2)
        pictures.append(y)
    return torch.cat(pictures)


def reference(state, shape: StyleGAN2Architecture, ws: torch.Tensor) -> torch.Tensor:
    def style(name, row):
        weight = state[f"{name}.affine.weight"] / shape.w_dim**0.5
        return F.linear(ws[:, row], weight, state[f"{name}.affine.bias"])

    def clamped(x, gain=1.0):
        return x if shape.clamp is None else x.clamp(-shape.clamp * gain, shape.clamp * gain)

    def layer(x, name, row, up, gain=1.0):
        y = modulated(x, state[f"{name}.weight"], style(name, row), up)
        y = y + state[f"{name}.noise_const"] * state[f"{name}.noise_strength"] + state[f"{name}.bias"][:, None, None]
        return clamped(F.leaky_relu(y, 0.2) * 2**0.5 * gain, gain)

    x, image, row = state["synthesis.b4.const"].expand(len(ws), -1, -1, -1), None, 0
    for r in shape.blocks:
        name, residual = f"synthesis.b{r}", None
        if r > 4:
            if shape.architecture == "resnet":
                kernel = state[f"{name}.skip.weight"]
                residual = F.conv2d(x, kernel / kernel.shape[1] ** 0.5)
                residual = filtered(zeros_between(residual), 2, 1, 4) * 0.5**0.5
            x, row = layer(x, f"{name}.conv0", row, True), row + 1
        x, row = layer(x, f"{name}.conv1", row, False, 1.0 if residual is None else 0.5**0.5), row + 1
        x = x if residual is None else x + residual
        if image is not None:
            image = filtered(zeros_between(image), 2, 1, 4)
        if f"{name}.torgb.weight" in state:
            weight = state[f"{name}.torgb.weight"] / x.shape[1] ** 0.5
            drawn = modulated(x, weight, style(f"{name}.torgb", row), demodulate=False)
            drawn = clamped(drawn + state[f"{name}.torgb.bias"][:, None, None])
            image = drawn if image is None else image + drawn
    assert image is not None
    if shape.shuffled:
        image = F.pixel_shuffle(image, 2)
    return image.tanh() if shape.bounded else image


@pytest.mark.numerics
@pytest.mark.parametrize("kind", SHAPES)
def test_pictures_are_those_of_the_published_network(kind):
    generator, shape = made(kind), SHAPES[kind]
    ws = codes(generator)
    wanted = reference(state_of(shape), shape, ws)
    torch.testing.assert_close(generator.synthesis(ws), wanted.expand(-1, 3, -1, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", SHAPES)
def test_smaller_pictures_are_the_output_layers_so_far(kind):
    generator, shape = made(kind), SHAPES[kind]
    ws = codes(generator)
    if shape.architecture == "skip" and shape.resolution == 16:
        wanted = reference(state_of(shape), replace(shape, resolution=8, widths=shape.widths[:-1]), ws)
    else:  # grey and labelled ones have 8 pixels already; others have one output layer
        wanted = F.avg_pool2d(generator.synthesis(ws), shape.resolution // 8)
    torch.testing.assert_close(
        generator.synthesis(ws, resolution=8), wanted.expand(-1, 3, -1, -1), rtol=1e-4, atol=1e-4
    )


@pytest.mark.numerics
@pytest.mark.parametrize("kind", SHAPES)
def test_bfloat16_draws_nearly_the_same(kind):
    ws = codes(made(kind))
    fine, coarse = made(kind).synthesis(ws), made(kind, torch.bfloat16).synthesis(ws)
    assert coarse.dtype == torch.float32
    assert float((fine - coarse).norm() / fine.norm()) < 2e-2


@pytest.mark.parametrize("size", [1, 3])
def test_folded_filters_equal_filter_and_convolution(size):
    random = torch.Generator().manual_seed(size)
    x, weight = torch.randn(2, 3, 6, 6, generator=random), torch.randn(5, 3, size, size, generator=random)
    up = resampling.join_phases(F.conv2d(x, resampling.fold_up(weight), padding=1))
    if size == 3:
        wanted = filtered(F.conv_transpose2d(x, weight.transpose(0, 1), stride=2), 1, 1, 4)
    else:
        wanted = filtered(zeros_between(F.conv2d(x, weight)), 2, 1, 4)
    torch.testing.assert_close(up, wanted)
    down = F.conv2d(resampling.split_phases(x), resampling.fold_down(weight), padding=1)
    edge = 1 + size // 2
    torch.testing.assert_close(down, F.conv2d(filtered(x, edge, edge), weight, stride=2))


def test_phases_join_and_split():
    x = torch.randn(2, 8, 4, 6)
    assert torch.equal(resampling.split_phases(resampling.join_phases(x)), x)
    assert torch.equal(resampling.join_phases(x)[:, :, 1::2, 0::2], x[:, 4:6])


@pytest.mark.numerics
@pytest.mark.parametrize("sums", [UnsteadySums, nullcontext])
def test_equal_rows_are_a_w_code_and_equal_codes_equal_pixels(sums):
    generator = made()
    w = generator.mapping(torch.randn(2, generator.z_dim))
    with sums():
        first = generator.synthesis(generator.expand(w))
        assert torch.equal(first, generator.synthesis(w[:, None].repeat(1, generator.num_ws, 1)))
        assert torch.equal(first, generator.synthesis(generator.expand(w)))


@pytest.mark.numerics
def test_every_picture_depends_on_its_own_code_alone():
    generator = made()
    ws = codes(generator, 4)
    together = generator.synthesis(ws)
    torch.testing.assert_close(
        together, torch.cat([generator.synthesis(one[None]) for one in ws]), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(together.flip(0), generator.synthesis(ws.flip(0)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", SHAPES)
def test_each_row_acts_and_gradients_agree_with_differences(kind):
    state = {name: value.double() for name, value in state_of(SHAPES[kind]).items()}
    shape = SHAPES[kind]
    folded = layers.fold_weights(state, shape, torch.float64)
    ws = codes(made(kind), 1).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: layers.synthesis(folded, shape, x)[:, :, ::5, ::5], ws)
    (slope,) = torch.autograd.grad(layers.synthesis(folded, shape, ws).square().sum(), ws)
    assert (slope.abs().sum(2) > 0).all()


def test_demodulation_takes_the_scale_of_a_style_away():
    shape = SHAPES["skip"]
    state, layer = state_of(shape), next(shape.iterate_layers())
    scaled = dict(state)
    for part in ("weight", "bias"):
        scaled[f"{layer.name}.affine.{part}"] = 7 * state[f"{layer.name}.affine.{part}"]
    ws = codes(made())
    one, other = StyleGAN2(state, shape).synthesis(ws), StyleGAN2(scaled, shape).synthesis(ws)
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_the_mapping_sees_the_direction_of_z_alone():
    generator, z = made(), torch.randn(3, 6)
    torch.testing.assert_close(generator.mapping(z), generator.mapping(5 * z), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["labels", "embedding"])
def test_a_conditional_mapping_is_that_of_the_published_network(kind):
    shape, state, z = SHAPES[kind], state_of(SHAPES[kind]), torch.randn(3, 6)

    def normal(x):
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

    labels = torch.eye(3)
    embedded = F.linear(labels, state["mapping.embed.weight"] / 3**0.5, state["mapping.embed.bias"])
    x, rate = torch.cat((normal(z), normal(embedded)), 1), shape.learning_rate_multiplier
    for i in range(shape.mapping_layers):
        weight, bias = state[f"mapping.fc{i}.weight"], state[f"mapping.fc{i}.bias"]
        x = F.leaky_relu(F.linear(x, weight * rate / weight.shape[1] ** 0.5, bias * rate), 0.2) * 2**0.5
    torch.testing.assert_close(made(kind).mapping(z, labels), x, rtol=1e-4, atol=1e-5)


def test_labels_change_a_conditional_generator_and_are_asked_for():
    generator, z = made("labels"), torch.randn(2, 6)
    first, second = torch.eye(3)[[0, 0]], torch.eye(3)[[1, 1]]
    assert not torch.allclose(generator.mapping(z, first), generator.mapping(z, second))
    assert sample(generator, 2, labels=first).shape == (2, generator.num_ws, 7)
    with pytest.raises(GanvasError, match="give 3 labels"):
        generator.mapping(z)
    with pytest.raises(GanvasError, match="takes no labels"):
        made().mapping(torch.randn(2, 6), first)
    with pytest.raises(GanvasError, match="shape"):
        generator.mapping(z, torch.eye(4)[[0, 0]])


def test_rows_say_where_they_act():
    generator = made()
    assert generator.row_resolutions == (4, 8, 8, 16, 16, 16)
    assert [weight.shape for weight in generator.style_weights()] == [
        (12, 7),
        (12, 7),
        (10, 7),
        (10, 7),
        (8, 7),
        (8, 7),
    ]
    assert not any(weight.requires_grad for weight in generator.parameters())


def test_a_grey_generator_repeats_its_channel():
    generator = made("grey")
    images = generator.synthesis(codes(generator))
    assert images.shape == (3, 3, 8, 8)
    assert torch.equal(images[:, 0], images[:, 2])


def test_training_draws_noise_anew_and_use_does_not():
    shape, state = SHAPES["skip"], state_of(SHAPES["skip"])
    folded, ws = layers.fold_weights(state, shape, torch.float32), codes(made(), 1)
    random = torch.Generator().manual_seed(0)
    one, other = (layers.synthesis(folded, shape, ws, random) for _ in range(2))
    assert not torch.equal(one, other)


@pytest.mark.numerics
@pytest.mark.parametrize("kind", SHAPES)
def test_saved_and_read_it_is_the_same(kind, tmp_path):
    generator, path = made(kind), tmp_path / "g.safetensors"
    save_generator(path, state_of(SHAPES[kind]), SHAPES[kind], training={"images": 3})
    again = read_generator(path, kind)
    assert (again.name, again.fingerprint, again.shape) == (kind, generator.fingerprint, generator.shape)
    ws = codes(generator)
    with UnsteadySums():
        assert torch.equal(again.synthesis(ws), generator.synthesis(ws))
    before = path.read_bytes()
    save_generator(path, state_of(SHAPES[kind]), SHAPES[kind], training={"images": 3})
    assert path.read_bytes() == before


def test_half_precision_files_are_half_the_size_and_have_their_own_fingerprint(tmp_path):
    shape, state = SHAPES["skip"], state_of(SHAPES["skip"])
    save_generator(tmp_path / "whole.safetensors", state, shape)
    save_generator(tmp_path / "half.safetensors", state, shape, torch.float16)
    whole, half = read_generator(tmp_path / "whole.safetensors"), read_generator(tmp_path / "half.safetensors")
    assert half.name == "half"
    assert half.fingerprint != whole.fingerprint
    ws = codes(whole)
    assert float((whole.synthesis(ws) - half.synthesis(ws)).norm() / whole.synthesis(ws).norm()) < 5e-3


def test_wrong_files_and_weights_are_refused_in_one_line(tmp_path):
    shape, state = SHAPES["skip"], state_of(SHAPES["skip"])
    with pytest.raises(GanvasError, match="'mapping.fc0.bias' is missing"):
        StyleGAN2({k: v for k, v in state.items() if k != "mapping.fc0.bias"}, shape)
    with pytest.raises(GanvasError, match="isn't one of them"):
        StyleGAN2(state | {"more": torch.zeros(1)}, shape)
    with pytest.raises(GanvasError, match=r"has shape \(2,\), not"):
        StyleGAN2(state | {"mapping.w_avg": torch.zeros(2)}, shape)
    path = tmp_path / "g.safetensors"
    with pytest.raises(GanvasError, match="no file"):
        read_generator(path)
    save_generator(path, state, shape)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(GanvasError, match="whole safetensors"):
        read_generator(path)
    from ganvas.io.files import load_tensors, save_tensors

    save_tensors(path, {"x": torch.zeros(1)}, {"kind": "editor"})
    with pytest.raises(GanvasError, match="isn't a StyleGAN2"):
        read_generator(path)
    save_generator(path, state, shape)
    tensors, about = load_tensors(path)
    assert "embed_features" not in about["shape"]  # files of networks that have no use for it stay as they were
    wrong = [("embed_features", "x"), ("embed_features", 10**9)]
    for key, value in (*wrong, ("widths", 3), ("widths", [1.5, 2, 3]), ("z_dim", 10**9), ("clamp", "x"), ("extra", 1)):
        save_tensors(path, tensors, about | {"shape": about["shape"] | {key: value}})
        with pytest.raises(GanvasError, match="damaged"):
            read_generator(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resolution": 48}, "Unknown resolution '48'"),
        ({"widths": (4, 4)}, "needs 3 widths"),
        ({"widths": (4, 4, 0)}, "at least 1"),
        ({"architecture": "dense"}, "Unknown architecture"),
        ({"colours": 2}, "1 or 3 colours"),
        ({"z_dim": 0}, "z_dim must be a whole number of at least 1"),
        ({"num_labels": 3, "embed_features": 0}, "embed_features must be a whole number of at least 1"),
        ({"embed_features": 4}, "can't be embedded"),
    ],
)
def test_impossible_shapes_are_refused(changes, words):
    with pytest.raises(GanvasError, match=words):
        StyleGAN2Architecture(**({"resolution": 16, "widths": (4, 4, 4)} | changes))


def test_codes_of_another_shape_are_refused():
    with pytest.raises(GanvasError, match="have shape"):
        made().synthesis(torch.zeros(1, 4, 7))


def test_all_resolutions_draw():
    for resolution in RESOLUTIONS[:5]:
        shape = StyleGAN2Architecture(
            resolution, (2,) * (resolution.bit_length() - 2), 2, 2, mapping_layers=1, colours=1
        )
        generator = StyleGAN2(state_of(shape), shape)
        assert generator.synthesis(codes(generator, 1)).shape == (1, 3, resolution, resolution)


def test_equal_weights_drawn_otherwise_are_another_generator():
    shape = StyleGAN2Architecture(8, (8, 8), z_dim=8, w_dim=8, mapping_layers=1)
    state = {name: torch.zeros(size) for name, size in shape.list_weight_shapes().items()}
    changed = ({}, {"bounded": True}, {"clamp": 1.0}, {"learning_rate_multiplier": 0.1})
    ways = [replace(shape, **change) for change in changed]
    assert len({StyleGAN2(state, way).fingerprint for way in ways}) == len(ways)


@pytest.mark.numerics
@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("changes", [{}, {"clamp": 0.5, "bounded": True}])
def test_large_pictures_are_the_same_one_by_one_and_together(architecture, dtype, changes):
    """Where gradients are asked for, pictures are drawn together and styles scale features, not kernels."""
    shape = StyleGAN2Architecture(
        256, (32, 32, 32, 32, 32, 8, 4), 8, 16, mapping_layers=2, architecture=architecture, **changes
    )
    network = StyleGAN2(state_of(shape), shape, dtype=dtype)
    ws = network.expand(network.mapping(torch.randn(3, 8, generator=torch.Generator().manual_seed(1))))
    together = network.synthesis(ws.clone().requires_grad_()).detach()
    for found, wanted in ((network.synthesis(ws), together), (network.synthesis(ws[1:2]), together[1:2])):
        assert float((found - wanted).norm() / wanted.norm()) < (3e-6 if dtype == torch.float32 else 0.03)
    assert network.synthesis(ws[:0]).shape == (0, 3, 256, 256)
