"""What every generator keeps to, whatever its family; and the toy's planted truth."""

import copy
import inspect

import numpy as np
import pytest
import torch
from unstable_sums import UnsteadySums

from ganvas import generators
from ganvas.checkpoints.load import load_generator
from ganvas.errors import GanvasError
from ganvas.generators import find_card, list_generators
from ganvas.generators.base import draw_z, sample, truncate
from ganvas.generators.toy import PLANTED
from ganvas.io.images import downscale, from_bytes, to_bytes
from ganvas.recipe.rendering import load_tools
from ganvas.scorers import list_scorers, load_scorer


@pytest.fixture(scope="module", params=list_generators())
def generator(request):
    try:
        return load_generator(request.param)
    except GanvasError as error:
        pytest.skip(str(error))


def test_shapes(generator):
    ws = sample(generator, 2)
    assert ws.shape == (2, generator.num_ws, generator.w_dim)
    assert generator.w_avg.shape == (generator.w_dim,)
    assert list(generator.row_resolutions) == sorted(generator.row_resolutions)
    images = generator.synthesis(ws)
    assert images.shape == (2, 3, generator.resolution, generator.resolution)
    assert images.dtype == ws.dtype == torch.float32
    for weight in generator.style_weights():
        assert weight.shape[1] == generator.w_dim


def test_it_is_frozen(generator):
    assert not any(p.requires_grad for p in generator.parameters())


def test_equal_codes_equal_pixels(generator):
    ws = sample(generator, 2)
    before = ws.clone()
    images = generator.synthesis(ws)
    assert torch.equal(images, generator.synthesis(ws))
    assert torch.equal(ws, before)
    assert (images[0] - images[1]).abs().max() > 0.01


@pytest.mark.parametrize("size", [5, 64])
def test_a_seed_is_numpys_own_stream_whatever_was_drawn_before(size):
    """An odd number of values leaves one over, which the next seed doesn't get."""
    toy, seeds = copy.copy(load_generator("toy")), (7, 0, 2**32 - 1, 7)
    toy.z_dim = size
    expected = np.stack([np.random.RandomState(seed).randn(size) for seed in seeds])
    assert torch.equal(draw_z(toy, seeds), torch.tensor(expected, dtype=torch.float32))


@pytest.mark.numerics
def test_equal_codes_equal_pixels_however_they_lie_in_memory(generator):
    """Also on a processor whose last bits depend on that."""
    expanded = sample(generator, 2)
    shifted = torch.cat((torch.zeros(1), expanded.flatten()))[1:].view(expanded.shape)
    turned = expanded.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert shifted.data_ptr() % 64
    with UnsteadySums(), torch.no_grad():
        images = generator.synthesis(expanded)
        for ws in (expanded.contiguous(), shifted, turned):
            assert torch.equal(images, generator.synthesis(ws))


def test_smaller_pictures_show_the_same(generator):
    ws = sample(generator, 1, seed=3)
    with torch.no_grad():
        whole = generator.synthesis(ws)
        assert torch.equal(generator.synthesis(ws, resolution=generator.resolution), whole)
        for size in (generator.resolution // 2, generator.resolution // 4):
            small = generator.synthesis(ws, resolution=size)
            assert small.shape == (1, 3, size, size)
            assert small.dtype == torch.float32
            expected = downscale(whole, size)
            assert (small - expected).square().mean() < 0.1 * expected.var()


@pytest.mark.parametrize("size", [0, -8, 7, 2048])
def test_bad_resolution(generator, size):
    with pytest.raises(GanvasError, match=f"resolution.*{size}.*[pP]ick one of.*{generator.resolution}"):
        generator.synthesis(sample(generator, 1), resolution=size)


def test_a_seed_is_a_picture(generator):
    batch = sample(generator, 4, seed=10)
    for i in range(4):
        assert torch.allclose(sample(generator, 1, seed=10 + i)[0], batch[i], atol=1e-5)


def test_truncation(generator):
    w = generator.mapping(torch.randn(2, generator.z_dim, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(truncate(w, generator.w_avg, 1), w)
    assert torch.equal(sample(generator, 2, psi=0), generator.expand(generator.w_avg.expand(2, -1)))
    near, far = sample(generator, 64, psi=0.5), sample(generator, 64, psi=1)
    assert torch.allclose((near - generator.w_avg) * 2, far - generator.w_avg, atol=1e-4)


def test_w_avg_is_the_mean(generator):
    w = sample(generator, 2000, psi=1, seed=500_000)[:, 0]
    assert ((w.mean(0) - generator.w_avg).abs() < 6 * w.std(0) / 2000**0.5).all()


def test_the_fingerprint_is_the_weights(generator):
    other = load_generator(generator.name, dtype=torch.bfloat16)
    assert other.fingerprint == generator.fingerprint
    assert len(generator.fingerprint) == 64
    ws = sample(generator, 1)
    assert torch.equal(sample(other, 1), ws)
    side = min(256, generator.resolution)  # bfloat16 takes seconds where a processor has no instructions for it
    pictures = [each.synthesis(ws, resolution=side) for each in (other, generator)]
    assert (pictures[0] - pictures[1]).square().mean() < 4e-4  # 40 dB


@pytest.mark.parametrize("has_instructions", [True, False])
def test_auto_is_bfloat16_where_the_device_has_instructions(monkeypatch, has_instructions):
    monkeypatch.setattr(generators, "has_bfloat16_instructions", lambda device: has_instructions)
    expected = "bfloat16" if has_instructions else "float32"
    assert generators.choose_dtype("auto", "cpu") == expected
    assert (
        generators.choose_dtype("float32", "cpu") == "float32"
        and generators.choose_dtype("bfloat16", "cpu") == "bfloat16"
    )
    assert load_generator("toy", dtype="auto").dtype == getattr(torch, expected)
    assert load_tools("toy", "auto").dtype == expected  # what recipes name
    assert ("bfloat16 is slow here" in generators.describe_torch()) is not has_instructions


def test_instructions_of_this_processor():
    # A processor without AVX-512 has none; nothing else is said of one that has it.
    if torch.backends.cpu.get_cpu_capability() == "AVX2":
        assert not generators.has_bfloat16_instructions("cpu")
    assert not generators.has_bfloat16_instructions("mps")


@pytest.mark.parametrize("load", [load_generator, lambda name, dtype: load_tools(name, dtype)])
def test_an_unknown_dtype_is_named(load):
    with pytest.raises(GanvasError, match="Unknown dtype 'float23': did you mean 'float32'"):
        load("toy", dtype="float23")


def test_gradients_flow(generator):
    if generator.resolution > 256:
        pytest.skip("test_mobilestylegan does it on a small network")
    ws = sample(generator, 2).clone().requires_grad_()
    generator.synthesis(ws).square().mean().backward()
    assert (ws.grad.norm(dim=2) > 0).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"n": 0}, "at least 1, a whole number, not 0"),
        ({"n": -1}, "at least 1, a whole number, not -1"),
        ({"n": 1.5}, "a whole number, not 1.5"),
        ({"psi": "a"}, "psi must be a finite number, 1 or less for natural pictures, not 'a'"),
        ({"psi": float("nan")}, "not nan"),
        ({"seed": "7"}, "The seed must be a whole number, not '7'"),
    ],
)
def test_bad_arguments_of_sample(arguments, says):
    generator = load_generator("toy")
    with pytest.raises(GanvasError, match=says):
        inspect.unwrap(sample)(generator, **{"n": 1, **arguments})  # without the tests' checks of types


def test_numpys_numbers_are_numbers():
    generator = load_generator("toy")
    drawn = inspect.unwrap(sample)(generator, np.int64(2), np.float32(1), np.int64(3))
    assert torch.equal(drawn, sample(generator, 2, 1.0, 3))


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_bad_seed(generator, seed):
    with pytest.raises(GanvasError, match=str(seed)):
        sample(generator, 1, seed=seed)


def test_labels_for_an_unconditional_one(generator):
    if not generator.num_labels:
        with pytest.raises(GanvasError, match="takes no labels"):
            sample(generator, 1, labels=torch.zeros(1, 3))


def test_unknown_names():
    with pytest.raises(GanvasError, match=r"Unknown generator 'fhq': did you mean 'ffhq'\? Pick one of ffhq, faces64"):
        load_generator("fhq")
    with pytest.raises(GanvasError, match=r"Unknown scorer 'tyo': did you mean 'toy'"):
        load_scorer("tyo")
    with pytest.raises(GanvasError, match="Unknown device 'gpu'"):
        load_generator("toy", device="gpu")
    with pytest.raises(GanvasError, match="dtype"):
        load_generator("toy", dtype=torch.int32)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_no_gpu():
    with pytest.raises(GanvasError, match="'cuda' isn't available on this machine: pick one of cpu"):
        load_generator("toy", device="cuda")


@pytest.mark.parametrize("name", list_generators())
def test_cards_name_what_exists(name):
    found = find_card(name)
    assert found.about
    assert found.licence
    assert found.scorer in list_scorers()


@pytest.fixture(scope="module")
def toy():
    return load_generator("toy")


@pytest.fixture(scope="module")
def scorer():
    return load_scorer("toy")


class TestToy:
    """The truth that is planted."""

    def test_directions_are_orthonormal(self, toy):
        directions = torch.stack(list(toy.planted.values()))
        assert torch.allclose(directions @ directions.T, torch.eye(len(PLANTED)), atol=1e-6)

    def test_the_scorer_reads_what_is_planted(self, toy, scorer):
        ws = sample(toy, 256, psi=1)
        expected = 2 * toy.compute_coordinates(ws)
        right = scorer.column("Right")
        expected[:, right] = 4 * torch.tanh(expected[:, right] / 4)
        assert torch.allclose(scorer(toy.synthesis(ws)), expected, atol=0.05)

    def test_a_direction_moves_its_attribute_alone(self, toy):
        ws = sample(toy, 8, psi=1)
        for k, direction in enumerate(toy.planted.values()):
            moved = toy.compute_coordinates(ws + direction) - toy.compute_coordinates(ws)
            assert torch.allclose(moved, torch.eye(len(PLANTED))[k].expand(8, -1), atol=1e-5)

    def test_the_distribution_entangles(self, toy):
        coordinates = toy.compute_coordinates(sample(toy, 4000, psi=1))
        assert torch.allclose(coordinates.std(0), torch.ones(len(PLANTED)), atol=0.1)
        names, found = list(PLANTED), torch.corrcoef(coordinates.T)
        expected = torch.eye(len(names))
        for k, name in enumerate(names):
            if PLANTED[name].other:
                other = names.index(PLANTED[name].other)
                expected[k, other] = expected[other, k] = PLANTED[name].correlation
        assert torch.allclose(found, expected, atol=0.08)

    @pytest.mark.parametrize("size", [32, 256])
    def test_scores_survive_bytes_and_sizes(self, toy, scorer, size):
        images = toy.synthesis(sample(toy, 64, psi=0.7))
        scores, kept = scorer(images), scorer(from_bytes(to_bytes(downscale(images, size))))
        for k in range(len(PLANTED)):
            assert torch.corrcoef(torch.stack((scores[:, k], kept[:, k])))[0, 1] > 0.99

    def test_the_order_of_pictures_does_not_matter(self, toy, scorer):
        images = toy.synthesis(sample(toy, 8))
        order = torch.randperm(8, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(scorer(images)[order], scorer(images[order]), atol=1e-5)

    def test_pictures_stay_in_range(self, toy):
        assert toy.synthesis(8 * sample(toy, 256, psi=1)).abs().max() <= 1
