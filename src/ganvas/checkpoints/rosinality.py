"""StyleGAN2 generators in the layout of rosinality's stylegan2-pytorch.

https://github.com/rosinality/stylegan2-pytorch (model.py): the same network as NVIDIA's under other names, always with
skips, in colour, and with a learning rate multiplier of 0.01 in its mapping network.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._torch import StoredTensor, read_tensors
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.errors import GanvasError
from ganvas.generators.base import draw_z
from ganvas.generators.stylegan2 import KIND, VERSION, StyleGAN2
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture

MARKER_NAMES = ("style.1.weight", "input.input", "conv1.conv.modulation.weight", "to_rgb1.conv.weight")
"""Weights that no other layout has all of."""
W_AVG_SAMPLES = 4096
"""Codes whose mean is ``w_avg``, where a file has none: those of seeds 0, 1, …"""


def is_generator(state: Mapping[str, StoredTensor]) -> bool:
    """Return whether a state dict is a generator of this layout."""
    return all(name in state for name in MARKER_NAMES)


def read(state: Mapping[str, StoredTensor], average: Any, budget: ReadBudget) -> Checkpoint:
    """Read the generator in a state dict; ``average``: the file's mean of W, or None.

    Raises GanvasError where weights are missing, too many, or of other shapes.
    """
    first = state["input.input"].shape
    sides = [4] + [8 << i for i in range(8) if f"convs.{2 * i}.conv.weight" in state]
    if first[2:] != (4, 4) or len(first) != 4 or len(state["style.1.weight"].shape) != 2:
        second = state["style.1.weight"].shape
        raise GanvasError(
            f"{budget.origin} has input.input of shape {first} and style.1.weight of shape {second}: "
            "4×4 pixels and a matrix are expected."
        )
    widths = [first[1]]
    for i in range(len(sides) - 1):
        widths.append(_get_length(state, f"convs.{2 * i}.conv.weight", 1, budget))
    w_dim, z_dim = state["style.1.weight"].shape
    depth = sum(name.startswith("style.") and name.endswith(".weight") for name in state)
    shape = StyleGAN2Architecture(sides[-1], tuple(widths), z_dim, w_dim, mapping_layers=depth)
    weights, notes = read_tensors(state, budget, {name: name for name in state}), []
    names = _list_names(shape)
    own = {new: _reshape(weights, old, size, budget) for new, (old, size) in names.items() if old in weights}
    for layer, name in zip(shape.iterate_layers(), (f"noises.noise_{i}" for i in range(99)), strict=False):
        if name not in weights:  # older files have none, and drew it anew each time
            random = torch.Generator().manual_seed(layer.row)
            side = (layer.resolution, layer.resolution)
            own[f"{layer.name}.noise_const"] = torch.randn(side, generator=random)
            notes = ["has no constant noise: some is drawn, the same each time"]
    expected = {old for old, _ in names.values()}
    for name in weights:
        if name not in expected and not name.endswith(".kernel"):
            raise GanvasError(
                f"{budget.origin} has a weight {format_printable(name)!r}, which rosinality's generator doesn't have."
            )
    if isinstance(average, StoredTensor):
        own["mapping.w_avg"] = read_tensors({"latent_avg": average}, budget)["latent_avg"].reshape(-1)
    else:
        own["mapping.w_avg"] = _compute_w_avg(own, shape)
        notes.append(f"has no mean of W: it's taken over {W_AVG_SAMPLES:,} codes")
    metadata = {"kind": KIND, "family": "stylegan2", "version": VERSION, "shape": shape}
    return Checkpoint("stylegan2", "rosinality's checkpoint", own, metadata, tuple(notes))


def _get_length(state: Mapping[str, StoredTensor], name: str, axis: int, budget: ReadBudget) -> int:
    if name not in state or len(state[name].shape) <= axis:
        raise GanvasError(f"{budget.origin} lacks the weights {name}.")
    return state[name].shape[axis]


def _list_names(shape: StyleGAN2Architecture) -> dict[str, tuple[str, tuple[int, ...]]]:
    """List ganvas's name -> rosinality's name and ganvas's shape of every weight."""
    names = {"synthesis.b4.const": "input.input"}
    for i in range(shape.mapping_layers):
        names |= {f"mapping.fc{i}.{part}": f"style.{i + 1}.{part}" for part in ("weight", "bias")}
    for i, layer in enumerate(shape.iterate_layers()):
        there = f"convs.{i - 1}" if i else "conv1"
        names |= _affine(layer.name, there)
        names[f"{layer.name}.bias"] = f"{there}.activate.bias"
        names[f"{layer.name}.noise_strength"] = f"{there}.noise.weight"
        names[f"{layer.name}.noise_const"] = f"noises.noise_{i}"
    for i, layer in enumerate(shape.iterate_outputs()):
        there = f"to_rgbs.{i - 1}" if i else "to_rgb1"
        names |= _affine(layer.name, there) | {f"{layer.name}.bias": f"{there}.bias"}
    sizes = shape.list_weight_shapes()
    return {new: (old, sizes[new]) for new, old in names.items()}


def _affine(here: str, there: str) -> dict[str, str]:
    parts = {f"{here}.affine.{part}": f"{there}.conv.modulation.{part}" for part in ("weight", "bias")}
    return {f"{here}.weight": f"{there}.conv.weight"} | parts


def _reshape(weights: Mapping[str, Tensor], name: str, size: tuple[int, ...], budget: ReadBudget) -> Tensor:
    """Reshape a weight to ``size``, from which it may differ in axes of length one only."""
    weight = weights[name]
    if [n for n in weight.shape if n != 1] != [n for n in size if n != 1]:
        raise GanvasError(f"{budget.origin} has {name} of shape {tuple(weight.shape)}, where {size} belongs.")
    return weight.reshape(size)


def _compute_w_avg(state: Mapping[str, Tensor], shape: StyleGAN2Architecture) -> Tensor:
    network = StyleGAN2({**state, "mapping.w_avg": torch.zeros(shape.w_dim)}, shape)
    with torch.no_grad():
        return network.mapping(draw_z(network, range(W_AVG_SAMPLES))).mean(0)
