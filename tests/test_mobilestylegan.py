"""Laws of the fast synthesis on a tiny network, and its pictures against OpenVINO's."""

import pytest
import tiny_networks
import torch

from ganvas.errors import GanvasError
from ganvas.generators import mobilestylegan
from ganvas.generators.base import draw_z, sample
from ganvas.generators.early_head import EarlyHead, read_heads, save_heads
from ganvas.generators.mobilestylegan import MobileStyleGAN, invert_haar
from ganvas.io.files import save_tensors


@pytest.fixture(scope="module")
def network() -> MobileStyleGAN:
    return MobileStyleGAN(tiny_networks.state(blocks=3) | {"w_avg": torch.zeros(tiny_networks.DIM)}, "tiny")


@pytest.fixture
def codes(network) -> torch.Tensor:
    return torch.randn(3, network.num_ws, network.w_dim, generator=torch.Generator().manual_seed(5))


def test_shapes(network, codes):
    assert network.row_resolutions == (4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 32)
    assert network.resolution == 64
    assert network.synthesis(codes).shape == (3, 3, 64, 64)
    assert [len(weight) for weight in network.style_weights()] == [8, 8, 2, 8, 8, 2, 8, 8, 2, 8, 8]


def test_a_batch_is_its_codes_bit_for_bit(network, codes):
    together = network.synthesis(codes)
    assert torch.equal(together, torch.cat([network.synthesis(code[None]) for code in codes]))


def test_every_row_matters(network, codes):
    before = network.synthesis(codes[:1])
    for row in range(network.num_ws):
        changed = codes[:1].clone()
        changed[:, row] += 1
        assert (network.synthesis(changed) - before).abs().max() > 1e-4, row


def test_gradients_flow_and_change_nothing(network, codes):
    plain = network.synthesis(codes)
    leaf = codes.clone().requires_grad_()
    picture = network.synthesis(leaf)
    assert torch.allclose(picture, plain, atol=1e-5)
    picture.square().mean().backward()
    assert (leaf.grad.norm(dim=2) > 0).all()


def test_gradient_is_the_slope(network, codes):
    direction = torch.randn(codes.shape, generator=torch.Generator().manual_seed(1))
    leaf = codes.clone().requires_grad_()
    network.synthesis(leaf).sum().backward()
    ahead, behind = (network.synthesis(codes + step * direction).double().sum() for step in (1e-2, -1e-2))
    assert torch.isclose((leaf.grad * direction).sum().double(), (ahead - behind) / 2e-2, rtol=0.02)


@pytest.mark.parametrize("rows", [4, 8, 12])
def test_strips_equal_whole_layers(network, codes, monkeypatch, rows):
    whole = network.synthesis(codes)
    monkeypatch.setattr(mobilestylegan, "MIN_STRIP_RESOLUTION", 8)
    monkeypatch.setattr(mobilestylegan, "STRIP_ROWS", rows)
    assert torch.allclose(network.synthesis(codes), whole, atol=1e-5)


def test_bfloat16_is_the_same_picture(codes, network):
    half = MobileStyleGAN(
        tiny_networks.state(blocks=3) | {"w_avg": torch.zeros(tiny_networks.DIM)}, "tiny", torch.bfloat16
    )
    exact, rough = network.synthesis(codes), half.synthesis(codes)
    assert rough.dtype == torch.float32
    assert (rough - exact).square().mean() < 1e-3 * exact.square().mean()


@pytest.fixture
def early(network):
    """A network with a head for 32 pixels, which passes random weights on."""
    torch.manual_seed(0)
    head = EarlyHead(8, 8 + 2 + 8 + 8, 4)
    other = MobileStyleGAN(tiny_networks.state(blocks=3) | {"w_avg": torch.zeros(tiny_networks.DIM)}, "tiny")
    other.add_heads({32: head})
    return other


def test_a_head_draws_early_and_changes_nothing_else(network, early, codes):
    assert early.fingerprint == network.fingerprint
    assert torch.equal(early.synthesis(codes), network.synthesis(codes))
    small = early.synthesis(codes, resolution=32)
    assert small.shape == (3, 3, 32, 32)
    assert not torch.allclose(small, network.synthesis(codes, resolution=32), atol=1e-3)
    # Without a head of its size a picture is the whole one, shrunken.
    assert torch.equal(early.synthesis(codes, resolution=16), network.synthesis(codes, resolution=16))
    assert torch.equal(small[1:2], early.synthesis(codes[1:2], resolution=32))


def test_a_head_sees_every_row(early, codes):
    leaf = codes.clone().requires_grad_()
    picture = early.synthesis(leaf, resolution=32)
    assert torch.allclose(picture, early.synthesis(codes, resolution=32), atol=1e-5)
    picture.square().mean().backward()
    assert (leaf.grad.norm(dim=2) > 0).all()


def test_a_trained_head_draws_the_shrunken_picture(network, codes):
    """A network whose last block only doubles: a head can learn it exactly."""
    head, parts = EarlyHead(8, 8 + 2 + 8 + 8, 24), []
    for code in torch.randn(24, network.num_ws, network.w_dim, generator=torch.Generator().manual_seed(1)):
        styles = network.compute_styles(code)
        for x, following in network.iterate_features(styles):
            if x.shape[2] == 16:
                parts.append((x, torch.cat(following)[None]))
        parts[-1] = (*parts[-1], network.synthesis(code[None], resolution=32))
    x, following, pictures = (torch.cat(part) for part in zip(*parts, strict=True))
    optimizer = torch.optim.Adam(head.parameters(), 1e-2)
    with torch.enable_grad():
        for _ in range(150):
            optimizer.zero_grad()
            loss = (invert_haar(head(x, following)) - pictures).square().mean()
            loss.backward()
            optimizer.step()
    assert loss.item() < 0.25 * float(pictures.var())


def test_heads_are_saved_and_read(early, codes, tmp_path):
    path = tmp_path / "heads.safetensors"
    early.heads["32"].half().float()
    save_heads(path, {32: early.heads["32"]}, early.fingerprint)
    before = early.synthesis(codes, resolution=32)
    early.add_heads(read_heads(path, early.fingerprint))
    assert torch.equal(early.synthesis(codes, resolution=32), before)
    with pytest.raises(GanvasError, match="another generator"):
        read_heads(path, "0" * 64)
    save_tensors(path, {"32.enter.weight": torch.zeros(4, 8, 1, 1)}, {"kind": "early heads", "fingerprint": "a"})
    with pytest.raises(GanvasError, match="is damaged"):
        read_heads(path, "a")
    save_tensors(path, {"x": torch.zeros(1)}, {})
    with pytest.raises(GanvasError, match="no early heads"):
        read_heads(path, "a")


def test_invert_haar_keeps_energy_and_flat_areas():
    bands = torch.randn(2, 12, 5, 5, generator=torch.Generator().manual_seed(0))
    # It takes half the bands: the transform itself is orthogonal.
    assert torch.isclose(invert_haar(bands / 2).square().sum(), bands.square().sum())
    flat = torch.zeros(1, 4, 2, 2)
    flat[:, 0] = 1
    assert (invert_haar(flat) == 1).all()


def test_codes_of_another_shape(network):
    with pytest.raises(GanvasError, match=r"\(n, 11, 8\), not \(1, 10, 8\)"):
        network.synthesis(torch.zeros(1, 10, 8))


def test_a_state_of_something_else():
    with pytest.raises(GanvasError, match="missing"):
        MobileStyleGAN({"weight": torch.zeros(1)}, "tiny")


def test_equals_openvino(ffhq, ffhq_files):
    openvino = pytest.importorskip("openvino", reason="openvino isn't installed: nothing to compare with")
    core = openvino.Core()
    # Threads bound to a core wait for seconds where that core is busy.
    options = {"INFERENCE_PRECISION_HINT": "f32", "ENABLE_CPU_PINNING": False}
    models = [core.read_model(*ffhq_files[i : i + 2]) for i in (0, 2)]
    mapping, synthesis = (core.compile_model(model, "CPU", options) for model in models)
    z = draw_z(ffhq, range(3))
    ws = sample(ffhq, 3, psi=1)
    for i in range(3):
        w = torch.from_numpy(mapping([z[i : i + 1].numpy()])[0])
        assert (w - ws[i, :1]).abs().max() < 1e-4
        picture = torch.from_numpy(synthesis([ws[i, :1].numpy()])[0])
        assert (ffhq.synthesis(ws[i : i + 1]) - picture).abs().max() <= 1e-3


@pytest.mark.parametrize("name", [*sorted(tiny_networks.state()), "w_avg"])
def test_weights_of_other_shapes_are_one_line(name):
    whole = tiny_networks.state() | {"w_avg": torch.zeros(tiny_networks.DIM)}
    MobileStyleGAN(whole, "tiny")
    for value in (None, torch.zeros(5), torch.zeros(3, 2, 1), torch.zeros(())):
        changed = {key: item for key, item in whole.items() if key != name}
        with pytest.raises(GanvasError, match="not MobileStyleGAN's weights") as caught:
            MobileStyleGAN(changed | ({} if value is None else {name: value}), "tiny")
        assert "\n" not in str(caught.value)
    with pytest.raises(GanvasError, match="'more' isn't one of them"):
        MobileStyleGAN(whole | {"more": torch.zeros(1)}, "tiny")
    with pytest.raises(GanvasError, match="missing|no blocks"):
        MobileStyleGAN({key: item for key, item in whole.items() if not key.startswith("blocks")}, "tiny")
