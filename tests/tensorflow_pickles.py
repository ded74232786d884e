"""Pickles in the layout of NVIDIA's code for TensorFlow, written by Python's own pickle from objects that name its classes."""

from __future__ import annotations

import pickle
import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ganvas.generators.stylegan1 import StyleGAN1Architecture
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture

SOURCE = "open('owned', 'w').write('the source text of a pickle was run')"
Variables = dict[str, np.ndarray]


class Network:
    """A network as NVIDIA's class pickles itself; variables of components have their names and a slash before their own."""

    def __init__(self, name: str, variables: Variables, settings: dict[str, Any], version: int = 4) -> None:
        parts = ("synthesis", "mapping")
        own = {key: value for key, value in variables.items() if key.partition("/")[0] not in parts}
        components = {
            part: Network(f"G_{part}", under, settings, version)
            for part in parts
            if (under := {k[len(part) + 1 :]: v for k, v in variables.items() if k.startswith(f"{part}/")})
        }
        self.state = {
            "version": version,
            "name": name,
            "static_kwargs": dict(settings),
            "components": components,
            "build_module_src": SOURCE,
            "build_func_name": "G_main",
            # TensorFlow gives single numbers as NumPy's, not as arrays.
            "variables": [(key, value if value.ndim else value[()]) for key, value in own.items()],
        }

    def __getstate__(self) -> dict[str, Any]:
        return self.state


class EasyDict(dict):  # type: ignore[type-arg]
    """dnnlib's mapping."""


EasyDict.__module__ = "dnnlib.util"


def dumps(value: Any, protocol: int = 4, home: str = "dnnlib.tflib.network") -> bytes:
    """``value`` pickled while the modules exist that its classes say they are from, ``home`` that of networks."""
    Network.__module__ = home
    names = ("dnnlib", "dnnlib.tflib", "dnnlib.util", home)
    made = {name: ModuleType(name) for name in names}
    made[home].Network, made["dnnlib.util"].EasyDict = Network, EasyDict  # type: ignore[attr-defined]
    sys.modules |= made
    try:
        return pickle.dumps(value, protocol)
    finally:
        for name in made:
            del sys.modules[name]


def snapshot(variables: Variables, version: int = 4, names: tuple[str, ...] = ("G", "D", "Gs"), **settings: Any) -> Any:
    """What a training run pickles: G with other weights, a discriminator, and Gs."""
    other = {key: value + np.float32(1) for key, value in variables.items()}
    first = Network(names[0], other, EasyDict(settings), version)
    second = Network(names[1], {"4x4/Dense0/weight": np.zeros((3, 2), np.float32)}, settings, version)
    return first, second, Network(names[2], variables, EasyDict(settings), version)


def turn(value: Tensor) -> np.ndarray:
    """A kernel (out, in, height, width) or a matrix (out, in) in TensorFlow's order."""
    return (value.permute(2, 3, 1, 0) if value.ndim == 4 else value.T if value.ndim == 2 else value).numpy().copy()


def write_stylegan2(state: dict[str, Tensor], shape: StyleGAN2Architecture) -> Variables:
    """A StyleGAN2's weights as TensorFlow's variables."""
    made: Variables = {"lod": np.float32(0) * np.zeros(()), "dlatent_avg": state["mapping.w_avg"].numpy()}
    made["lod"] = np.zeros((), np.float32)
    made["synthesis/4x4/Const/const"] = state["synthesis.b4.const"][None].numpy()
    if shape.num_labels:
        made["mapping/LabelEmbed/weight"] = turn(state["mapping.embed.weight"])
        made["mapping/LabelEmbed/bias"] = turn(state["mapping.embed.bias"])
    for i in range(shape.mapping_layers):
        for part in ("weight", "bias"):
            made[f"mapping/Dense{i}/{part}"] = turn(state[f"mapping.fc{i}.{part}"])
    for layer in (*shape.iterate_layers(), *shape.iterate_outputs()):
        kind, side = layer.name.rpartition(".")[2], layer.resolution
        scope = {"conv0": "Conv0_up", "conv1": "Conv1" if side > 4 else "Conv", "torgb": "ToRGB"}[kind]
        start, weight = f"synthesis/{side}x{side}/{scope}", state[f"{layer.name}.weight"]
        made[f"{start}/weight"] = turn(weight.flip(2, 3) if layer.up else weight)
        made[f"{start}/bias"] = turn(state[f"{layer.name}.bias"])
        made[f"{start}/mod_weight"] = turn(state[f"{layer.name}.affine.weight"])
        made[f"{start}/mod_bias"] = turn(state[f"{layer.name}.affine.bias"] - 1)
        if kind != "torgb":
            made[f"{start}/noise_strength"] = state[f"{layer.name}.noise_strength"].numpy()
            made[f"synthesis/noise{layer.row}"] = state[f"{layer.name}.noise_const"][None, None].numpy()
        if f"synthesis.b{side}.skip.weight" in state:
            skip = state[f"synthesis.b{side}.skip.weight"].flip(2, 3)
            made[f"synthesis/{side}x{side}/Skip/weight"] = turn(skip)
    return made


def draw_stylegan1(shape: StyleGAN1Architecture, rate: float = 0.01, seed: int = 0) -> dict[str, Tensor]:
    """Random variables of a StyleGAN under TensorFlow's names, in PyTorch's order, as the paper's code would begin."""
    random = torch.Generator().manual_seed(seed)

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=random)

    made = {"lod": torch.zeros(()), "dlatent_avg": draw(shape.w_dim) / 4}
    width = shape.z_dim * (2 if shape.num_labels else 1)
    if shape.num_labels:
        made["mapping/LabelConcat/weight"] = draw(shape.z_dim, shape.num_labels)
    for i in range(shape.mapping_layers):
        out = shape.w_dim if i == shape.mapping_layers - 1 else shape.mapping_width
        made |= {f"mapping/Dense{i}/weight": draw(out, width) / rate, f"mapping/Dense{i}/bias": draw(out) / rate / 8}
        width = out
    made["synthesis/4x4/Const/const"] = draw(1, shape.widths[0], 4, 4)
    for i, side in enumerate(shape.row_resolutions):
        out, name = shape.widths[i // 2], list_scopes(shape)[i]
        if i:
            made[f"{name}/weight"] = draw(out, shape.widths[(i - 1) // 2], 3, 3)
        made |= {f"{name}/bias": draw(out) / 4, f"{name}/Noise/weight": draw(out) / 4}
        made |= {f"{name}/StyleMod/weight": draw(2 * out, shape.w_dim), f"{name}/StyleMod/bias": draw(2 * out) / 4}
        made[f"synthesis/noise{i}"] = draw(1, 1, side, side)
    for i, width in enumerate(shape.widths):
        lod = f"synthesis/ToRGB_lod{len(shape.widths) - 1 - i}"
        made |= {f"{lod}/weight": draw(shape.colours, width, 1, 1), f"{lod}/bias": draw(shape.colours) / 4}
    return made


def list_scopes(shape: StyleGAN1Architecture) -> list[str]:
    """TensorFlow's name of each layer."""
    kinds = ("Const", "Conv", *("Conv0_up", "Conv1") * len(shape.widths))
    return [f"synthesis/{side}x{side}/{kinds[i]}" for i, side in enumerate(shape.row_resolutions)]


def write_variables(variables: dict[str, Tensor]) -> Variables:
    """Variables in TensorFlow's order."""
    return {key: turn(value) if key.endswith("weight") else value.numpy() for key, value in variables.items()}
