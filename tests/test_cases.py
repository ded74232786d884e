"""Small files of the kinds that people publish, in the folder that GANVAS_CASES names: what its README says is right for each."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from ganvas import checkpoints, load_generator
from ganvas.errors import GanvasError
from ganvas.generators.base import truncate

CASES = Path(os.environ.get("GANVAS_CASES") or "/nowhere")
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="GANVAS_CASES names no folder of cases")
TOLERANCE = 1e-4
"""Of the standard deviation of the expected picture."""

READ = (
    "nvidia/embed-features-32.pkl",
    "nvidia/pti-tuned.pt",
    "nvidia/state-dict.pt",
    "genforce/genforce-stylegan2.pth",
    "rosinality/e4e-bundle.pt",
    "rosinality/latent-avg-2d.pt",
    "rosinality/latent-avg-per-row.pt",
    "rosinality/prefix-g_ema.pt",
    "rosinality/prefix-generator.ckpt",
    "rosinality/prefix-module.pt",
    "rosinality/psp-bundle.pt",
    "rosinality/whole-module.pt",
    "codes/own.pkl",
    "downloads/network.pkl",
    "downloads/network.pkl.gz",
    "downloads/network.tar.gz",
    "downloads/network.zip",
)
WITHOUT_MEAN = ("rosinality/prefix-g_ema.pt", "rosinality/prefix-generator.ckpt", "rosinality/whole-module.pt")
SAME = (
    ("rosinality/latent-avg-2d.pt", "rosinality/latent-avg-per-row.pt"),
    ("rosinality/prefix-g_ema.pt", "rosinality/prefix-generator.ckpt"),
    ("downloads/network.pkl", "downloads/network.pkl.gz"),
    ("downloads/network.pkl", "downloads/network.tar.gz"),
    ("downloads/network.pkl", "downloads/network.zip"),
)
REFUSED = {
    "nvidia/rgba.pkl": "4 channels .*transparency.*1 or 3",
    "nvidia/rectangle.pkl": "16 wide and 32 high",
    "nvidia/rectangle-wide.pkl": "56 wide and 32 high",
    "rosinality/exported-conditional.pt": "conditional network.*labels",
    "rosinality/factor.pt": "SeFa.*import-direction",
    "codes/latents.pt": r"one tensor of shape \(3, 8, 48\).*import-codes",
    "codes/0.pt": "one tensor.*import-codes",
    "codes/by-name.pt": "codes by name.*import-codes",
    "codes/projector-rosinality.pt": "codes.*import-codes",
    "codes/projected_w.npz": "NumPy.*import-codes",
    "codes/w_plus.npy": "NumPy.*import-codes",
    "downloads/quota.pkl": "a web page .*Quota exceeded.*download",
    "downloads/virus-scan.pkl": "a web page .*Virus scan.*download",
    "downloads/github-page.pt": "a web page.*download",
    "downloads/access-denied.pkl": "server's answer .*AccessDenied.*download",
    "downloads/not-found.pt": "server's answer .*Not Found.*download",
    "downloads/entry-not-found.bin": "server's answer .*Entry not found.*download",
    "downloads/lfs-pointer.pkl": "pointer of Git LFS.*git lfs pull",
    "downloads/empty.pkl": "is empty",
    "downloads/truncated.pkl": "cut short",
    "downloads/picture.pkl": "PNG picture",
    "refused/lucidrains-stylegan2.pt": "lucidrains' stylegan2-pytorch",
    "refused/lucidrains-lightweight-gan.pt": "lucidrains' lightweight-gan",
    "refused/fastgan.pth": "FastGAN",
    "refused/gfpgan.pth": "GFPGAN",
    "refused/mobilestylegan-training.ckpt": "MobileStyleGAN.*'ffhq'",
    "refused/ajbrock-biggan-G_ema.pth": "BigGAN",
    "refused/eg3d.pkl": "EG3D",
    "refused/encoder-only.pt": "encoder.*no generator",
    "refused/discriminator-only.pt": "discriminator.*no generator",
    "refused/classifier.pth": "classifier.*no generator",
    "refused/diffusion-unet.bin": "diffusion model",
    "refused/torchscript-traced.pt": "TorchScript",
    "refused/generator.onnx": "ONNX",
    "refused/generator.h5": "HDF5",
}


def find_expected(name: str) -> dict[str, torch.Tensor]:
    path = CASES / name
    path = next(path.with_name(f"{path.name[:i]}.expected.npz") for i in range(len(path.name), 0, -1)
                if path.with_name(f"{path.name[:i]}.expected.npz").is_file())  # fmt: skip
    return {key: torch.from_numpy(value) for key, value in np.load(path).items()}


@pytest.mark.parametrize("name", READ)
@torch.no_grad()
def test_pictures_are_those_of_the_original_code(name, tmp_path):
    generator, expected = load_generator(CASES / name), find_expected(name)
    w = generator.mapping(expected["z"], expected.get("c"))
    ws = expected["ws"] if "ws" in expected else generator.expand(expected["w"])
    torch.testing.assert_close(generator.expand(w), ws, rtol=1e-4, atol=1e-4)
    for psi, key in ((1, "image"), (0.7, "image_psi07")):
        if key in expected:
            images = generator.synthesis(generator.expand(truncate(w, generator.w_avg, psi)))
            assert float((images - expected[key]).abs().max() / expected[key].std()) < TOLERANCE
    assert ("image_psi07" in expected) == (name not in WITHOUT_MEAN)
    assert ("has no mean of W" in " ".join(checkpoints.read(CASES / name).notes)) == (name in WITHOUT_MEAN)
    checkpoints.read(CASES / name).save(tmp_path / "g.safetensors")
    assert load_generator(tmp_path / "g.safetensors").fingerprint == generator.fingerprint


@pytest.mark.parametrize(("first", "second"), SAME)
def test_one_network_has_one_fingerprint(first, second):
    assert load_generator(CASES / first).fingerprint == load_generator(CASES / second).fingerprint


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_checkpoint_is_refused_by_its_kind_in_one_line(name):
    with pytest.raises(GanvasError, match=REFUSED[name]) as caught:
        load_generator(CASES / name)
    assert str(caught.value).isprintable() and "without a card" not in str(caught.value)
