"""Generators and scorers take any float dtype in any autograd mode; ``test_editors`` says it of editors."""

from __future__ import annotations

import pytest
import tiny_networks
import torch
from autograd_modes import DTYPES, MODES, check_any_float
from torch import Tensor

from ganvas.checkpoints.load import load_generator
from ganvas.errors import GanvasError
from ganvas.generators import dcgan
from ganvas.generators.base import Generator, truncate
from ganvas.generators.mobilestylegan import MobileStyleGAN
from ganvas.generators.stylegan2 import StyleGAN2, layers, resampling
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture
from ganvas.generators.toy import Toy
from ganvas.scorers import list_scorers, load_scorer
from ganvas.scorers.base import Scorer
from ganvas.scorers.from_examples import FEATURES, ExamplesScorer

SIZES = {"z_dim": 6, "w_dim": 7, "mapping_layers": 2}
SHAPES = {
    "skip": StyleGAN2Architecture(16, (12, 10, 8), **SIZES),
    "alone": StyleGAN2Architecture(128, (8, 8, 8, 8, 8, 4), **SIZES),
    "resnet": StyleGAN2Architecture(16, (12, 10, 8), architecture="resnet", clamp=0.9, **SIZES),
    "labels": StyleGAN2Architecture(16, (12, 10), num_labels=3, colours=1, bounded=True, shuffled=True, **SIZES),
}
STEPS = (
    dcgan.DcganLayer("linear", "a"),
    dcgan.DcganLayer("norm", "n"),
    dcgan.DcganLayer("relu"),
    dcgan.DcganLayer("reshape", shape=(4, 4, 4)),
    dcgan.DcganLayer("deconvolution", "b", stride=2, padding=1),
    dcgan.DcganLayer("tanh"),
)


def make_dcgan(space: str) -> dcgan.Dcgan:
    random = torch.Generator().manual_seed(0)
    weights = {"a.weight": (64, 6), "b.weight": (4, 3, 4, 4), "n.running_mean": (64,), "n.running_var": (64,)}
    state = {name: torch.rand(size, generator=random) + 0.1 for name, size in weights.items()}
    return dcgan.Dcgan(state, dcgan.DcganArchitecture(6, STEPS, space))


def make_generator(family: str, dtype: torch.dtype) -> Generator:
    if family == "toy":
        return Toy(dtype=dtype)
    if family == "mobilestylegan":
        return MobileStyleGAN(tiny_networks.state() | {"w_avg": torch.zeros(tiny_networks.DIM)}, "tiny", dtype)
    if family.startswith("dcgan"):
        return make_dcgan(family.removeprefix("dcgan "))
    state = layers.initialize_weights(SHAPES[family], torch.Generator().manual_seed(0))
    return StyleGAN2(state, SHAPES[family], family, dtype)


@pytest.fixture(scope="module", params=["toy", "mobilestylegan", "dcgan z", "dcgan first", *SHAPES])
def generator(request) -> Generator:
    return make_generator(request.param, torch.float32)


def labels_of(generator: Generator, like: Tensor) -> Tensor | None:
    """A label each, in the codes' dtype."""
    return torch.eye(generator.num_labels).to(like)[:2] if generator.num_labels else None


def test_generators_map_and_draw_in_any_dtype_and_mode(generator):
    random = torch.Generator().manual_seed(1)
    z = torch.randn(2, generator.z_dim, generator=random)
    ws = generator.w_avg + torch.randn(2, generator.num_ws, generator.w_dim, generator=random) / 4
    check_any_float(lambda z: generator.mapping(z, labels_of(generator, z)), z, None)
    check_any_float(lambda z: generator.mapping(z=z, labels=labels_of(generator, z)), z, None)
    check_any_float(generator.synthesis, ws, torch.float32)
    check_any_float(lambda w: truncate(w, generator.w_avg, 0.7), ws[:, 0], None)


@pytest.mark.parametrize("family", ["toy", "mobilestylegan", *SHAPES])
def test_a_generator_draws_in_its_own_dtype(family):
    generator = make_generator(family, torch.bfloat16)
    ws = generator.w_avg + torch.randn(2, generator.num_ws, generator.w_dim) / 4
    for dtype in DTYPES:
        for mode in MODES.values():
            with mode():
                images = generator.synthesis(ws.to(dtype))
            assert images.dtype == torch.float32
            torch.testing.assert_close(images, generator.synthesis(ws.to(dtype).float()), rtol=0, atol=1e-5)
    leaf = ws.double().requires_grad_()
    generator.synthesis(leaf).mean().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


def test_a_generator_in_float64_maps_in_float64():
    network = make_generator("mobilestylegan", torch.float32).double()
    z = torch.randn(2, network.z_dim, dtype=torch.float64)
    exact, rounded = network.mapping(z), network.mapping(z.float())
    assert exact.dtype == torch.float64
    assert 0 < (exact - rounded).abs().max() < 1e-5


def test_what_was_first_used_in_inference_mode_learns_later():
    generator = make_generator("skip", torch.float32)
    ws = torch.randn(1, generator.num_ws, generator.w_dim, requires_grad=True)
    for cached in (resampling._table, resampling._product):
        cached.cache_clear()
    with torch.inference_mode():
        generator.synthesis(ws)
        loaded, scorer = load_generator("toy"), load_scorer("celeba40")
    generator.synthesis(ws).mean().backward()
    leaf = loaded.expand(loaded.w_avg[None]).clone().requires_grad_()
    scorer(loaded.synthesis(leaf)).mean().backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()


@pytest.fixture(scope="module", params=[*list_scorers(), "examples"])
def scorer(request) -> Scorer:
    try:
        if request.param == "examples":
            frozen = FEATURES["celeba40"]()
            width = frozen.describe(torch.zeros(1, 3, 64, 64)).shape[1]
            return ExamplesScorer("Hat", "celeba40", torch.linspace(-1, 1, width), torch.tensor(0.5), frozen)
        return load_scorer(request.param)
    except GanvasError as error:
        pytest.skip(str(error))


def test_scorers_read_pictures_of_any_dtype_in_any_mode(scorer):
    x = torch.linspace(-0.9, 0.9, 64)
    smooth = torch.stack((x[:, None] * x, (3 * x).sin().expand(64, 64), x[:, None].expand(64, 64).abs()))
    check_any_float(scorer, torch.stack((smooth, torch.full((3, 64, 64), -1.0))), torch.float32)


def test_scores_have_finite_gradients(scorer):
    """Blank and constant pictures are where square roots, norms and logarithms have none."""
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    images = torch.cat((torch.full_like(noise, -1.0), torch.full_like(noise, 1.0), torch.zeros_like(noise), noise))
    images.requires_grad_()
    scores = scorer(images)
    assert scores.isfinite().all()
    if not scores.requires_grad:
        pytest.skip("not differentiable")
    (gradient,) = torch.autograd.grad(scores.sum(), images)
    assert gradient.isfinite().all()
