"""Winograd's way gives what a direct convolution gives."""

import pytest
import torch
import torch.nn.functional as F

from ganvas.generators.stylegan2 import StyleGAN2, winograd
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture
from ganvas.generators.stylegan2.layers import initialize_weights

pytestmark = pytest.mark.numerics


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(4, 4), (8, 12), (96, 32), (16, 64)])
@pytest.mark.parametrize(("incoming", "outgoing"), [(5, 3), (64, 96)])
def test_it_is_the_convolution(n, height, width, incoming, outgoing):
    random = torch.Generator().manual_seed(n + height)
    x = torch.randn(n, incoming, height, width, generator=random).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(outgoing, incoming, 3, 3, generator=random)
    found = winograd.convolve(x, winograd.fold_kernel(kernel))
    wanted = F.conv2d(x.double(), kernel.double(), padding=1)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert float((found - wanted).norm() / wanted.norm()) < 3e-6


def test_channels_are_weighed_on_their_way_in_and_out():
    random = torch.Generator().manual_seed(0)
    x = torch.randn(2, 16, 8, 32, generator=random).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(24, 16, 3, 3, generator=random)
    incoming, outgoing, bias = (torch.randn(size, generator=random) for size in ((2, 16), (2, 24), (24,)))
    found = winograd.convolve(x, winograd.fold_kernel(kernel), incoming, outgoing, bias)
    wanted = F.conv2d(x * incoming[:, :, None, None], kernel, padding=1) * outgoing[:, :, None, None]
    torch.testing.assert_close(found, wanted + bias[:, None, None], rtol=1e-4, atol=1e-3)


def test_it_is_exact_on_whole_tiles_of_a_single_pixel():
    """The identity: each pixel of each tile comes back to its own place."""
    x = torch.arange(64.0).view(1, 1, 8, 8).contiguous(memory_format=torch.channels_last)
    kernel = torch.zeros(1, 1, 3, 3)
    kernel[0, 0, 1, 1] = 1
    torch.testing.assert_close(winograd.convolve(x, winograd.fold_kernel(kernel)), x, rtol=0, atol=2e-4)


def test_a_generator_draws_the_same_with_it_and_with_gradients():
    shape = StyleGAN2Architecture(32, (128,) * 4, z_dim=16, w_dim=16, mapping_layers=2)
    random = torch.Generator().manual_seed(0)
    state = {
        name: value + 0.3 * torch.randn(value.shape, generator=random) * name.endswith(("bias", "noise_strength"))
        for name, value in initialize_weights(shape, random).items()
    }
    network = StyleGAN2(state, shape)
    assert [name for name in network.weights if name.endswith("winograd")] == ["synthesis/b32/conv1/winograd"]
    assert not any(name.endswith("winograd") for name in StyleGAN2(state, shape, dtype=torch.bfloat16).weights)
    ws = network.expand(network.mapping(torch.randn(2, 16, generator=torch.Generator().manual_seed(1))))
    fast, direct = network.synthesis(ws), network.synthesis(ws.clone().requires_grad_()).detach()
    assert float((fast - direct).norm() / direct.norm()) < 3e-6
    assert network.synthesis(ws[:0]).shape == (0, 3, 32, 32)


def test_sides_that_tiles_dont_fill_are_refused():
    with pytest.raises(ValueError, match="4 doesn't divide the sides 6 and 8"):
        winograd.convolve(torch.zeros(1, 2, 6, 8), winograd.fold_kernel(torch.zeros(3, 2, 3, 3)))
