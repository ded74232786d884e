"""Small networks in the layouts of BigGAN-deep and Progressive GANs, and their pictures by formulas on the files' names."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from math import floor, prod, sqrt
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CONFIG = {
    "attention_layer_position": 1, "channel_width": 4, "class_embed_dim": 6, "eps": 1e-4, "n_stats": 6, "num_classes": 3,
    "layers": [[False, 4, 4], [True, 4, 2], [False, 2, 2], [True, 2, 1]], "output_dim": 16, "z_dim": 6,
}  # fmt: skip


def make_biggan_state(config: dict[str, Any] = CONFIG, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a BigGAN-deep under huggingface's names."""
    random = torch.Generator().manual_seed(seed)
    state, width, w_dim = {}, config["channel_width"], 2 * config["z_dim"]

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    def add_normed(name: str, *shape: int, bias: bool = True) -> None:
        u, v = F.normalize(draw(shape[0]), dim=0), F.normalize(draw(prod(shape[1:])), dim=0)
        # A large part along u and v, so that the norm is none that rounding decides.
        weight = draw(shape[0], prod(shape[1:])) / prod(shape[1:]) ** 0.5 + 2 * torch.outer(u, v)
        state.update({f"{name}.weight_orig": weight.reshape(shape), f"{name}.weight_u": u, f"{name}.weight_v": v})
        if bias:
            state[f"{name}.bias"] = draw(shape[0]) / 4

    def add_statistics(name: str, channels: int) -> None:
        state[f"{name}.running_means"] = draw(config["n_stats"], channels)
        state[f"{name}.running_vars"] = draw(config["n_stats"], channels).square() + 0.5

    state["embeddings.weight"] = draw(config["z_dim"], config["num_classes"])
    add_normed("generator.gen_z", 16 * config["layers"][0][1] * width, w_dim)
    place = 0
    for i, (_, before, after) in enumerate(config["layers"]):
        inputs, inner, outputs = before * width, before * width // 4, after * width
        if i == config["attention_layer_position"]:
            name = f"generator.layers.{place}.snconv1x1_"
            state[f"generator.layers.{place}.gamma"] = torch.tensor([0.7])
            add_normed(f"{name}theta", inputs // 8, inputs, 1, 1, bias=False)
            add_normed(f"{name}phi", inputs // 8, inputs, 1, 1, bias=False)
            add_normed(f"{name}g", inputs // 2, inputs, 1, 1, bias=False)
            add_normed(f"{name}o_conv", inputs, inputs // 2, 1, 1, bias=False)
            place += 1
        layer = f"generator.layers.{place}"
        sizes = [(inputs, inner, 1), (inner, inner, 3), (inner, inner, 3), (inner, outputs, 1)]
        for k, (channels, width_after, side) in enumerate(sizes):
            add_statistics(f"{layer}.bn_{k}", channels)
            for part in ("scale", "offset"):
                add_normed(f"{layer}.bn_{k}.{part}", channels, w_dim, bias=False)
            add_normed(f"{layer}.conv_{k}", width_after, channels, side, side)
        place += 1
    add_statistics("generator.bn", outputs)
    state |= {"generator.bn.weight": draw(outputs), "generator.bn.bias": draw(outputs)}
    add_normed("generator.conv_to_rgb", outputs, outputs, 3, 3)
    return state


def draw_biggan(
    state: dict[str, Tensor],
    z: Tensor,
    labels: Tensor,
    truncation: float = 1.0,
    config: dict[str, Any] = CONFIG,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """The pictures of a BigGAN-deep by its paper and by the names in the file, computed in ``dtype``."""
    state = {name: value.to(dtype) for name, value in state.items()}
    w = torch.cat((z.to(dtype), labels.to(dtype) @ state["embeddings.weight"].T), 1)
    place = truncation * (config["n_stats"] - 1)
    below, above = floor(place + 1e-9), min(floor(place + 1e-9) + 1, config["n_stats"] - 1)
    # The share of the one above goes to the one below, as in huggingface's code.
    share = place - below if place - below > 1e-9 else 1.0

    def weight(name: str) -> Tensor:
        full = state[f"{name}.weight_orig"]
        return full / (state[f"{name}.weight_u"] @ full.flatten(1) @ state[f"{name}.weight_v"])

    def convolve(x: Tensor, name: str) -> Tensor:
        kernel = weight(name)
        return F.conv2d(x, kernel, state.get(f"{name}.bias"), padding=kernel.shape[-1] // 2)

    def normalize(x: Tensor, name: str, scale: Tensor, offset: Tensor) -> Tensor:
        means, variances = state[f"{name}.running_means"], state[f"{name}.running_vars"]
        mean, variance = (each[below] * share + each[above] * (1 - share) for each in (means, variances))
        x = (x - mean[:, None, None]) / (variance[:, None, None] + config["eps"]).sqrt()
        return torch.relu(x * scale[..., None, None] + offset[..., None, None])

    x = w @ weight("generator.gen_z").T + state["generator.gen_z.bias"]
    x, place = x.reshape(len(x), 4, 4, -1).permute(0, 3, 1, 2), 0
    for i, (doubles, _, after) in enumerate(config["layers"]):
        if i == config["attention_layer_position"]:
            name = f"generator.layers.{place}"
            queries, keys, values = (convolve(x, f"{name}.snconv1x1_{part}") for part in ("theta", "phi", "g"))
            keys, values = (F.max_pool2d(each, 2).flatten(2) for each in (keys, values))
            shares = torch.einsum("ncq,nck->nqk", queries.flatten(2), keys).softmax(2)
            seen = torch.einsum("nqk,nck->ncq", shares, values).reshape(len(x), -1, *x.shape[2:])
            x, place = x + state[f"{name}.gamma"] * convolve(seen, f"{name}.snconv1x1_o_conv"), place + 1
        y, name = x, f"generator.layers.{place}"
        for k in range(4):
            scale, offset = (w @ weight(f"{name}.bn_{k}.{part}").T for part in ("scale", "offset"))
            y = normalize(y, f"{name}.bn_{k}", 1 + scale, offset)
            y = y.repeat_interleave(2, 2).repeat_interleave(2, 3) if doubles and k == 1 else y
            y = convolve(y, f"{name}.conv_{k}")
        x = x[:, : after * config["channel_width"]]
        x, place = y + (x.repeat_interleave(2, 2).repeat_interleave(2, 3) if doubles else x), place + 1
    x = normalize(x, "generator.bn", state["generator.bn.weight"], state["generator.bn.bias"])
    return torch.tanh(convolve(x, "generator.conv_to_rgb")[:, :3]).float()


def write_biggan(folder: Path, state: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    """A folder as huggingface's; ``changes`` of the config, where None leaves a key out."""
    folder.mkdir(exist_ok=True)
    torch.save(make_biggan_state() if state is None else state, folder / "pytorch_model.bin")
    config = {key: value for key, value in (CONFIG | changes).items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


GAN_ZOO_CONFIG = {
    "depthScale0": 8, "depthOtherScales": [6, 5], "perChannelNormalization": True, "equalizedlR": True, "alpha": 0,
    "leakyReluLeak": 0.2, "lossCriterion": "WGANGP", "categoryVectorDim": 0, "noiseVectorDim": 7, "attribKeysOrder": None,
}  # fmt: skip


def make_gan_zoo_state(config: dict[str, Any] = GAN_ZOO_CONFIG, seed: int = 0) -> dict[str, Tensor]:
    """Random weights of a Progressive GAN under pytorch_GAN_zoo's names."""
    random = torch.Generator().manual_seed(seed)
    widths = [config["depthScale0"], *config["depthOtherScales"]]
    sizes = {"formatLayer": (16 * widths[0], config["noiseVectorDim"]), "groupScale0.0": (widths[0], widths[0], 3, 3)}
    for i, (before, after) in enumerate(pairwise(widths)):
        sizes |= {f"scaleLayers.{i}.0": (after, before, 3, 3), f"scaleLayers.{i}.1": (after, after, 3, 3)}
    sizes |= {f"toRGBLayers.{i}": (3, width, 1, 1) for i, width in enumerate(widths)}
    state = {}
    for name, size in sizes.items():
        state[f"{name}.module.weight"] = torch.randn(size, generator=random)
        state[f"{name}.module.bias"] = torch.randn(size[:1], generator=random)
    return state


def draw_gan_zoo(state: dict[str, Tensor], z: Tensor, config: dict[str, Any] = GAN_ZOO_CONFIG) -> Tensor:
    """The pictures of a Progressive GAN, in float64, by its paper and by pytorch_GAN_zoo's names."""
    state = {name: value.double() for name, value in state.items()}

    def layer(x: Tensor, name: str) -> Tensor:
        kernel, bias = state[f"{name}.module.weight"], state[f"{name}.module.bias"]
        y = F.linear(x, kernel, bias) if kernel.ndim == 2 else F.conv2d(x, kernel, bias, padding=kernel.shape[-1] // 2)
        return y * sqrt(2 / prod(kernel.shape[1:])) if config["equalizedlR"] else y

    def normalize(x: Tensor) -> Tensor:
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

    def double(x: Tensor) -> Tensor:
        return x.repeat_interleave(2, 2).repeat_interleave(2, 3)

    def activate(x: Tensor) -> Tensor:
        return normalize(torch.where(x > 0, x, x * config["leakyReluLeak"]))

    x = layer(normalize(z.double()), "formatLayer").reshape(len(z), -1, 4, 4)
    x = activate(layer(activate(x), "groupScale0.0"))
    last, before = len(config["depthOtherScales"]), x
    for i in range(last):
        before = x
        x = activate(layer(activate(layer(double(x), f"scaleLayers.{i}.0")), f"scaleLayers.{i}.1"))
    image, older = layer(x, f"toRGBLayers.{last}"), double(layer(before, f"toRGBLayers.{last - 1}"))
    image = config["alpha"] * older + (1 - config["alpha"]) * image
    return (torch.tanh(image) if config["lossCriterion"] == "MSE" else image).float()


def write_gan_zoo(path: Path, state: dict[str, Tensor], **changes: Any) -> dict[str, Any]:
    """A file as pytorch_GAN_zoo's, with its config as an object; returns the config."""
    config = GAN_ZOO_CONFIG | changes
    names = ("models", "models.utils", "models.utils.config")
    modules = [ModuleType(name) for name in names]
    kind = type("BaseConfig", (), {"__module__": names[-1]})
    modules[-1].BaseConfig = kind  # type: ignore[attr-defined]
    held = kind()
    held.__dict__.update(config)
    before = {name: sys.modules.get(name) for name in names}
    sys.modules.update(zip(names, modules, strict=True))
    try:
        other = {name: value + 1 for name, value in state.items()}
        torch.save({"config": held, "netG": other, "netD": {"x": torch.zeros(2)}, "avgG": state}, path)
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    return config


def make_genforce_state(lod: float = 0, seed: int = 0, widths: tuple[int, ...] = (8, 6, 5)) -> dict[str, Tensor]:
    """Random weights of a Progressive GAN under genforce's names, z of 7 numbers."""
    random = torch.Generator().manual_seed(seed)
    sizes = {"layer0": (widths[0], 7, 4, 4), "layer1": (widths[0], widths[0], 3, 3)}
    for i in range(1, len(widths)):
        sizes |= {f"layer{2 * i}": (widths[i], widths[i - 1], 3, 3), f"layer{2 * i + 1}": (widths[i], widths[i], 3, 3)}
    sizes |= {f"output{i}": (3, width, 1, 1) for i, width in enumerate(widths)}
    state = {"lod": torch.tensor(float(lod))}
    for name, size in sizes.items():
        state |= {
            f"{name}.weight": torch.randn(size, generator=random),
            f"{name}.bias": torch.randn(size[:1], generator=random),
        }
    return state


def draw_genforce(state: dict[str, Tensor], z: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    """The pictures of a Progressive GAN by its paper and by genforce's names, computed in ``dtype``."""
    state = {name: value.to(dtype) for name, value in state.items()}
    blocks = sum(name.startswith("output") for name in state) // 2
    lod = float(state["lod"])

    def layer(x: Tensor, name: str, gain: float = sqrt(2), padding: int = 1) -> Tensor:
        kernel = state[f"{name}.weight"]
        return F.conv2d(x, kernel * gain / sqrt(prod(kernel.shape[1:])), state[f"{name}.bias"], padding=padding)

    def normalize(x: Tensor) -> Tensor:
        return x / (x.square().mean(1, keepdim=True) + 1e-8).sqrt()

    def double(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")

    x, images = z.to(dtype)[..., None, None], []
    for i in range(blocks):
        x = normalize(x)
        x = F.leaky_relu(layer(double(x) if i else x, f"layer{2 * i}", padding=1 if i else 3), 0.2)
        x = F.leaky_relu(layer(normalize(x), f"layer{2 * i + 1}"), 0.2)
        image = layer(normalize(x), f"output{i}", 1.0, 0)
        for _ in range(blocks - 1 - i):
            image = double(image)
        images.append(image)
    whole = floor(lod)
    share = lod - whole
    mixed = images[blocks - 1 - whole]
    return (mixed if not share else mixed * (1 - share) + images[blocks - 2 - whole] * share).float()


def convert_to_tensorflow(state: dict[str, Tensor], fused: bool) -> dict[str, Tensor]:
    """Genforce's weights under TensorFlow's names, with axes as PyTorch's: (out, in, height, width)."""
    blocks = sum(name.startswith("output") for name in state) // 2
    renamed = {"lod": state["lod"], "4x4/Dense/bias": state["layer0.bias"]}
    renamed["4x4/Dense/weight"] = state["layer0.weight"].flip(2, 3).permute(0, 2, 3, 1).reshape(-1, 7)
    for i in range(blocks):
        side = f"{4 << i}x{4 << i}"
        names = {f"output{i}": f"ToRGB_lod{blocks - 1 - i}", f"layer{2 * i + 1}": f"{side}/{'Conv1' if i else 'Conv'}"}
        if i:
            names[f"layer{2 * i}"] = f"{side}/{'Conv0_up' if fused else 'Conv0'}"
        for old, new in names.items():
            weight = state[f"{old}.weight"]
            renamed |= {f"{new}/weight": weight, f"{new}/bias": state[f"{old}.bias"]}
            if new.endswith("Conv0_up"):
                renamed[f"{new}/weight"] = weight.flip(2, 3).transpose(0, 1)
    return renamed
