"""A StyleGAN2's weights in the names of other people's code, and wrapped as that code saves them."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from nvidia_pickles import importable
from torch import Tensor, nn

from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture

SHAPE = StyleGAN2Architecture(16, (12, 10, 8), 7, 7, mapping_layers=2)
"""Small, with codes as long as w, as most of the layouts have them."""


def rosinality(state: dict[str, Tensor], shape: StyleGAN2Architecture) -> dict[str, Tensor]:
    """The names of rosinality/stylegan2-pytorch: a kernel has an axis for the batch; no mean of W is among the weights."""
    made = {"input.input": state["synthesis.b4.const"][None]}
    for i in range(shape.mapping_layers):
        made |= {f"style.{i + 1}.{part}": state[f"mapping.fc{i}.{part}"] for part in ("weight", "bias")}
    for i, side in enumerate(shape.blocks):
        convolutions = (
            [("conv1", "conv1")] if side == 4 else [("conv0", f"convs.{2 * i - 2}"), ("conv1", f"convs.{2 * i - 1}")]
        )
        for old, new in convolutions:
            name = f"synthesis.b{side}.{old}"
            made |= _modulated(state, name, new)
            made[f"{new}.activate.bias"] = state[f"{name}.bias"]
            made[f"{new}.noise.weight"] = state[f"{name}.noise_strength"].reshape(1)
            number = 0 if side == 4 else 2 * i - (old == "conv0")
            made[f"noises.noise_{number}"] = state[f"{name}.noise_const"][None, None]
        new = "to_rgb1" if side == 4 else f"to_rgbs.{i - 1}"
        made |= _modulated(state, f"synthesis.b{side}.torgb", new)
        made[f"{new}.bias"] = state[f"synthesis.b{side}.torgb.bias"].reshape(1, -1, 1, 1)
    return made


def _modulated(state: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    parts = {f"{new}.conv.modulation.{part}": state[f"{old}.affine.{part}"] for part in ("weight", "bias")}
    return {f"{new}.conv.weight": state[f"{old}.weight"][None]} | parts


def genforce(state: dict[str, Tensor], shape: StyleGAN2Architecture) -> dict[str, Tensor]:
    """The names of genforce/genforce: kernels that double are turned, and a style's bias lacks the 1 that is added to it."""
    made = {
        "synthesis.early_layer.const": state["synthesis.b4.const"][None],
        "truncation.w_avg": state["mapping.w_avg"],
    }
    for i in range(shape.mapping_layers):
        made |= {f"mapping.dense{i}.{part}": state[f"mapping.fc{i}.{part}"] for part in ("weight", "bias")}
    for i, side in enumerate(shape.blocks):
        names = {f"layer{2 * i}": "conv1", f"output{i}": "torgb"} | ({f"layer{2 * i - 1}": "conv0"} if i else {})
        for new, old in names.items():
            old, new = f"synthesis.b{side}.{old}", f"synthesis.{new}"
            if f"{old}.weight" not in state:
                continue
            kernel = state[f"{old}.weight"]
            made[f"{new}.weight"] = kernel.flip(2, 3) if old.endswith("conv0") else kernel
            made[f"{new}.bias"] = state[f"{old}.bias"]
            made |= {
                f"{new}.style.weight": state[f"{old}.affine.weight"],
                f"{new}.style.bias": state[f"{old}.affine.bias"] - 1,
            }
            if not old.endswith("torgb"):
                made[f"{new}.noise"] = state[f"{old}.noise_const"][None, None]
                made[f"{new}.noise_strength"] = state[f"{old}.noise_strength"]
            if old.endswith("conv0"):
                made[f"{new}.filter.kernel"] = torch.ones(1, 1, 4, 4)
    return made


def encoder() -> dict[str, Tensor]:
    """A few weights of an encoder, as pSp and e4e have them beside their decoder."""
    names = ("input_layer.0.weight", "body.0.res_layer.1.weight", "styles.0.convs.0.weight")
    return {f"encoder.{name}": torch.zeros(2, 2, 3, 3) for name in names}


def prefixed(prefix: str, state: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """The same weights, each name behind ``prefix``."""
    return OrderedDict((prefix + name, value) for name, value in state.items())


class Layer(nn.Module):
    """Any layer, as another module's class."""


class Generator(Layer):
    """The module around them."""


Layer.__module__, Layer.__qualname__ = "model", "EqualLinear"
Generator.__module__, Generator.__qualname__ = "models.stylegan2.model", "Generator"


def as_module(state: dict[str, Tensor], attributes: dict[str, dict[str, Any]] | None = None) -> Generator:
    """A tree of modules with these weights, with attributes of layers by their names."""
    root = Generator()
    for name, value in state.items():
        *path, last = name.split(".")
        place: nn.Module = root
        for part in path:
            if part not in place._modules:
                place.add_module(part, Layer())
            place = place._modules[part]  # type: ignore[assignment]
        place.register_parameter(last, nn.Parameter(value))
    for name, values in (attributes or {}).items():
        for key, value in values.items():
            setattr(root.get_submodule(name), key, value)
    return root


def save_whole(module: nn.Module, path: Path, **options: Any) -> None:
    """Write what ``torch.save(module)`` makes: classes by reference, to modules that don't exist when it is read."""
    with importable(layer=Layer, generator=Generator):
        torch.save(module, path, **options)
