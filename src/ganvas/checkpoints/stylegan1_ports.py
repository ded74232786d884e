"""Two older ports of StyleGAN (1) to PyTorch, whose weights are given genforce's names.

https://github.com/genforce/interfacegan (models/stylegan_generator_model.py): ``synthesis.layer{i}.epilogue`` and
``mapping.dense{i}.linear``; kernels that double lie as TensorFlow's do from 128 pixels on.

https://github.com/lernapparat/lernapparat (style_gan/pytorch_style_gan.ipynb): ``g_mapping`` and ``g_synthesis.blocks.4x4``, …;
neither noise nor a mean of W is stored, and PyTorch's own instance normalization is used.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

PYTORCH_EPSILON = 1e-5
"""What PyTorch adds to a channel's variance by default."""
INTERFACEGAN_PARTS = (
    (".linear.weight", ".weight"),
    (".wscale.bias", ".bias"),
    (".epilogue.style_mod.dense.", ".style."),
    (".epilogue.", "."),
    (".first_layer", ".const"),
    (".conv.weight", ".weight"),
)
"""Parts of InterFaceGAN's names, and of genforce's."""


def convert_interfacegan(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename InterFaceGAN's weights as genforce's."""
    renamed = {}
    for name, value in weights.items():
        if name == "truncation.truncation":  # the share of truncation for each row, which a user chooses here
            continue
        fused = name.startswith("synthesis.layer") and name.count(".") == 2 and value.ndim == 4
        fused = fused and name.endswith(".weight")
        for there, here in INTERFACEGAN_PARTS:
            name = name.replace(there, here)
        renamed[name] = value.permute(3, 2, 0, 1) if fused else value
    return renamed


def convert_lernapparat(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename lernapparat's weights as genforce's; those of filters are left out."""
    names = {"g_synthesis.blocks.4x4.const": "synthesis.layer0.const", "truncation.avg_latent": "truncation.w_avg"}
    i = 0
    while f"g_synthesis.blocks.{4 << i}x{4 << i}.epi1.style_mod.lin.weight" in weights:
        block = f"g_synthesis.blocks.{4 << i}x{4 << i}"
        kernels = (f"{block}.conv0_up", f"{block}.conv1") if i else (block, f"{block}.conv")
        for k, kernel in enumerate(kernels):
            layer, after = f"synthesis.layer{2 * i + k}", f"{block}.epi{k + 1}"
            names |= {
                f"{kernel}.weight": f"{layer}.weight",
                f"{kernel}.bias": f"{layer}.bias",
                f"{after}.top_epi.noise.weight": f"{layer}.apply_noise.weight",
                f"{after}.style_mod.lin.weight": f"{layer}.style.weight",
                f"{after}.style_mod.lin.bias": f"{layer}.style.bias",
            }
        i += 1
    names |= {f"g_synthesis.torgb.{part}": f"synthesis.output{i - 1}.{part}" for part in ("weight", "bias")}
    kept = {name: value for name, value in weights.items() if not name.endswith(".intermediate.kernel")}
    return {names.get(name, name.replace("g_mapping.", "mapping.")): value for name, value in kept.items()}
