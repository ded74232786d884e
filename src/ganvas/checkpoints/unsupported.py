"""Networks that ganvas doesn't read, recognised by the names of their weights, so that a refusal says what would help.

Each kind's names are those of the repository in its row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ganvas.checkpoints._budget import ReadBudget
from ganvas.checkpoints._networks import StoredNetwork
from ganvas.checkpoints._torch import StoredTensor
from ganvas.errors import GanvasError

STYLEGAN2_HINT = (
    "ganvas reads StyleGAN and StyleGAN2 of NVIDIA's, rosinality's and genforce's code, and NVIDIA's StyleGAN3"
)
EDITOR_HINT = "there is no generator in it: give the file of the generator"
RESTORATION_HINT = (
    "it repairs photographs that it is given, and has no codes to draw from: give a plain StyleGAN2 instead"
)
CONDITION_HINT = "it draws from a picture that it is given, and has no codes of its own to edit"
CODES_COMMAND = "`ganvas import-codes`"
DISCRIMINATOR_NAMES = ("d", "d_ema", "netd", "discriminator")
MAX_NAMES = 5000
"""The most names that are looked at."""


@dataclass(frozen=True)
class UnsupportedKind:
    """A kind of file: what it is called, what would help, and patterns that are all found among its names."""

    kind: str
    hint: str
    patterns: tuple[str, ...]


def _describe(kind: str, hint: str, *patterns: str) -> UnsupportedKind:
    return UnsupportedKind(kind, hint, patterns)


WRAPPING_KINDS = (
    _describe(
        "GFPGAN (face restoration, TencentARC/GFPGAN)", RESTORATION_HINT, r"^(stylegan_decoder|condition_scale)\."
    ),
    _describe("GPEN (face restoration, yangxy/GPEN)", RESTORATION_HINT, r"^ecd\d+\."),
    _describe(
        "EG3D (three-dimensional, NVlabs/eg3d)",
        "its codes need a camera and a renderer: " + STYLEGAN2_HINT,
        r"^(class TriPlaneGenerator$|backbone\.synthesis\.|backbone\.mapping\.)",
    ),
    _describe(
        "StyleGAN-XL (autonomousvision/stylegan-xl)",
        STYLEGAN2_HINT,
        r"^(class SuperresGenerator$|mapping\.embed_proj\.)",
    ),
    _describe(
        "a projected GAN (autonomousvision/projected-gan)",
        "train it with that code's StyleGAN2 generator (--cfg=stylegan2) to read it here",
        r"^(synthesis\.(init\.init|feat_\d+|se_\d+)\.|class FastganSynthesis)",
    ),
)
"""Kinds whose files hold names that other kinds have, too: they are checked before any reader."""
KINDS = (
    *WRAPPING_KINDS,
    _describe("CodeFormer (face restoration, sczhou/CodeFormer)", RESTORATION_HINT, r"^fuse_convs_dict\."),
    _describe(
        "ESRGAN (super-resolution)",
        CONDITION_HINT,
        r"^(conv_first\.|model\.0\.weight)",
        r"(?i)^(body|RRDB_trunk|model\.1\.sub)\..*rdb1",
    ),
    _describe("FastGAN (odegeasslbc/FastGAN-pytorch)", STYLEGAN2_HINT, r"^init\.init\.0\.", r"^(feat|se)_\d+\."),
    _describe(
        "lucidrains' stylegan2-pytorch",
        "its layers differ from NVIDIA's: " + STYLEGAN2_HINT,
        r"^(S|SE)\.net\.\d+\.|^style_vectorizer\.",
        r"^(G|GE)\.(initial_block|initial_conv|blocks\.)",
    ),
    _describe(
        "lucidrains' lightweight-gan", STYLEGAN2_HINT, r"^(G|GE)\.(initial_conv\.\d|out_conv\.)", r"^(G|GE)\.layers\.\d"
    ),
    _describe(
        "MobileStyleGAN as its training saves it (bes-dev/MobileStyleGAN.pytorch)",
        "ganvas reads that network from the package random-face: load the generator 'ffhq'",
        r"(^|\.)layers\.\d+\.conv1\.conv_dw\.",
    ),
    _describe(
        "a BigGAN (ajbrock/BigGAN-PyTorch)",
        STYLEGAN2_HINT,
        r"^blocks\.0\.0\.(conv1|bn1)\.",
        r"^(shared\.|linear\.u0|output_layer\.|blocks\.0\.0\.bn1\.gain)",
    ),
    _describe("BigGAN-deep (huggingface/pytorch-pretrained-BigGAN)", STYLEGAN2_HINT, r"^(generator\.)?gen_z\."),
    _describe(
        "a progressive GAN (facebookresearch/pytorch_GAN_zoo)", STYLEGAN2_HINT, r"^scaleLayers\.", r"^toRGBLayers\."
    ),
    _describe(
        "a progressive GAN (genforce/genforce)", STYLEGAN2_HINT, r"^layer0\.weight$", r"^output0\.weight$", r"^lod$"
    ),
    _describe(
        "a StyleGAN (the first, rosinality/style-based-gan-pytorch)", STYLEGAN2_HINT, r"^(generator\.)?progression\.\d"
    ),
    _describe(
        "a StyleGAN (the first, genforce/genforce)", STYLEGAN2_HINT, r"^synthesis\.layer0\.", r"^mapping\.dense0\."
    ),
    _describe("a StyleGAN (the first)", STYLEGAN2_HINT, r"^g_synthesis\.|^synthesis\.blocks\.4x4\."),
    _describe("a StyleGAN2 in the names of BasicSR", STYLEGAN2_HINT, r"^style_mlp\.", r"^constant_input\."),
    _describe(
        "a StyleGAN2 in the names of MMGeneration", STYLEGAN2_HINT, r"(^|\.)style_mapping\.", r"(^|\.)constant_input\."
    ),
    _describe(
        "SWAGAN (rosinality's wavelet network)", STYLEGAN2_HINT, r"^(iwt|dwt)\.|^to_rgbs\.\d+\.(iwt|dwt)\.", r"^convs\."
    ),
    _describe("StyleSwin or another transformer", STYLEGAN2_HINT, r"^layers\.0\.blocks\.0\.", r"^(style\.|to_rgbs\.)"),
    # Files without a generator.
    _describe(
        "a diffusion model",
        "ganvas reads GANs only",
        r"^(model\.diffusion_model\.|unet\.|)(time_embed(ding)?|time_mlp|down_blocks|input_blocks|t_embedder)\.",
    ),
    _describe("a diffusion model (its schedule)", "ganvas reads GANs only", r"^(alphas_cumprod|betas)$"),
    _describe("an adapter (LoRA)", "ganvas reads whole generators only", r"lora_(A|B|up|down)"),
    _describe(
        "an autoencoder (VAE or VQGAN)",
        "ganvas reads GANs only",
        r"^(post_)?quant_conv\.|^quantize\.|^encoder\.conv_in\.|^first_stage_model\.",
    ),
    _describe(
        "an image-to-image network (pix2pix or CycleGAN)",
        CONDITION_HINT,
        r"^(model\.)+\d+\.(conv_block|model)\.\d|^model\.\d+\.conv_block\.",
    ),
    _describe("a network that recognises faces (ArcFace)", EDITOR_HINT, r"^input_layer\.0\.", r"^output_layer\.\d"),
    _describe(
        "an encoder of pSp, e4e or ReStyle without its decoder",
        EDITOR_HINT,
        r"^(encoder\.)?(input_layer|conv1)\.",
        r"^(encoder\.)?(body\.\d+\.|styles\.\d|layer\d)",
        r"^encoder\.|styles\.\d",
    ),
    _describe(
        "codes that rosinality's projector found", f"codes of W are read by {CODES_COMMAND}", r"^latent$", r"^img$"
    ),
    _describe(
        "a file of SeFa's factors", "a direction for a generator is read by `ganvas import-direction`", r"^eigvec$"
    ),
    _describe(
        "a discriminator",
        EDITOR_HINT,
        r"^(final_linear|decisionLayer|b4\.out|b4\.fc|to_logits|fromRGBLayers)\.|^b\d+\.fromrgb\.|^rf_big\.",
    ),
    _describe("a classifier (ResNet)", EDITOR_HINT, r"^layer1\.0\.", r"^fc\."),
    _describe("a classifier (Inception)", EDITOR_HINT, r"^Mixed_\d\w\.", r"^fc\."),
    _describe("a perceptual distance (LPIPS)", EDITOR_HINT, r"^lin\d\.model\.1\."),
    _describe("a classifier", EDITOR_HINT, r"^(classifier|conv_head|last_linear|logits|head\.(weight|bias|fc)$)"),
    _describe("a discriminator", EDITOR_HINT, r"\A((discriminator|netD|D|d)\..*(\n|\Z))+\Z"),
    _describe("a transformer", EDITOR_HINT, r"\.(attn|self_attn|self_attention|attention)\."),
)


def check_kind(networks: Sequence[StoredNetwork], budget: ReadBudget, kinds: Sequence[UnsupportedKind] = KINDS) -> None:
    """Raise GanvasError that names the kind of the networks in a file, where it is one of ``kinds``."""
    # A discriminator says what a file is only where nothing else does.
    networks = [n for n in networks if n.path.lower().rpartition(".")[2] not in DISCRIMINATOR_NAMES] or networks
    text = "\n".join(_list_names(networks))
    for kind in kinds:
        if all(re.search(pattern, text, re.MULTILINE) for pattern in kind.patterns):
            raise GanvasError(f"{budget.origin} is {kind.kind}, which can't be read: {kind.hint}.")


def check_codes(value: Any, networks: Sequence[StoredNetwork], budget: ReadBudget) -> None:
    """Raise GanvasError where a value is one tensor, or codes by name: tensors (rows, w_dim) or (n, rows, w_dim) of one shape."""
    if isinstance(value, StoredTensor):
        held = f"one tensor of shape {value.shape}, which is no generator"
        raise GanvasError(f"{budget.origin} holds {held}: codes of W are read by {CODES_COMMAND}.")
    named = networks[0].weights if len(networks) == 1 else {}
    plain = not any(name.endswith(("weight", "bias", "kernel")) for name in named)
    if plain and len({value.shape for value in named.values()}) == 1 and 1 < len(next(iter(named.values())).shape) < 4:
        raise GanvasError(f"{budget.origin} holds codes by name, not a generator: they are read by {CODES_COMMAND}.")


def _list_names(networks: Sequence[StoredNetwork]) -> list[str]:
    """List the classes and the weights' names, with and without the prefixes that wrappers put before them."""
    classes = [f"class {network.kind.rpartition('.')[2]}" for network in networks if network.kind]
    names = [name for network in networks for name in network.weights][:MAX_NAMES]
    return [
        *classes,
        *names,
        *(re.sub(r"^((module|model|state_dict|g_ema|netG|_orig_mod)\.)+", "", name) for name in names),
    ]
