"""StyleGAN2 generators in the layout of rosinality's stylegan2-pytorch.

https://github.com/rosinality/stylegan2-pytorch (model.py): the same network as NVIDIA's under other names, always with
skips, in colour, and its mapping network learned at 0.01 of the rate.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ganvas.checkpoints._budget import ReadBudget, printable
from ganvas.checkpoints._torch import StoredTensor, tensors
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.errors import GanvasError
from ganvas.generators.base import draw_z
from ganvas.generators.stylegan2 import KIND, VERSION, StyleGAN2
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture

MARKER_NAMES = ("style.1.weight", "input.input", "conv1.conv.modulation.weight", "to_rgb1.conv.weight")
"""Weights that no other layout has together."""
MEAN_OF = 4096
"""Codes that the mean of W is taken over, where a file has none: those of seeds 0, 1, …"""


def fits(state: Mapping[str, StoredTensor]) -> bool:
    """Whether a state dict is a generator's of this layout."""
    return all(name in state for name in MARKER_NAMES)


def read(state: Mapping[str, StoredTensor], average: Any, budget: ReadBudget) -> Checkpoint:
    """The generator of a state dict; ``average``: the file's mean of W, or None.

    Raises GanvasError where weights are missing, too many, or of other shapes.
    """
    first = state["input.input"].shape
    sides = [
        s for s in (4 * 2**i for i in range(9)) if f"convs.{2 * (s.bit_length() - 4)}.conv.weight" in state or s == 4
    ]
    if first[2:] != (4, 4) or len(first) != 4 or len(state["style.1.weight"].shape) != 2:
        wide = state["style.1.weight"].shape
        raise GanvasError(
            f"{budget.origin} begins with {first} and {wide}: rosinality's begin with 4×4 pixels and a matrix."
        )
    widths = [first[1]]
    for i in range(len(sides) - 1):
        widths.append(_axis(state, f"convs.{2 * i}.conv.weight", 1, budget))
    w_dim, z_dim = state["style.1.weight"].shape
    depth = sum(name.startswith("style.") and name.endswith(".weight") for name in state)
    shape = StyleGAN2Architecture(sides[-1], tuple(widths), z_dim, w_dim, mapping_layers=depth)
    made, notes = tensors(state, budget, dict.fromkeys(state, "") | {name: name for name in state}), []
    own = {new: _shaped(made, old, size, budget) for new, (old, size) in _names(shape).items() if old in made}
    for layer, name in zip(shape.layers(), (f"noises.noise_{i}" for i in range(99)), strict=False):
        if name not in made:  # older files have none, and drew it anew each time
            random = torch.Generator().manual_seed(layer.row)
            side = (layer.resolution, layer.resolution)
            own[f"{layer.name}.noise_const"] = torch.randn(side, generator=random)
            notes = ["has no constant noise: some is drawn, the same each time"]
    known = {old for old, _ in _names(shape).values()}
    for name in made:
        if name not in known and not name.endswith(".kernel"):
            raise GanvasError(f"{budget.origin} has a weight {printable(name)!r} that rosinality's generator hasn't.")
    if isinstance(average, StoredTensor):
        own["mapping.w_avg"] = tensors({"latent_avg": average}, budget)["latent_avg"].reshape(-1)
    else:
        own["mapping.w_avg"] = _mean(own, shape)
        notes.append(f"has no mean of W: it's taken over {MEAN_OF:,} codes")
    about = {"kind": KIND, "family": "stylegan2", "version": VERSION, "shape": shape}
    return Checkpoint("stylegan2", "rosinality's checkpoint", own, about, tuple(notes))


def _axis(state: Mapping[str, StoredTensor], name: str, axis: int, budget: ReadBudget) -> int:
    if name not in state or len(state[name].shape) <= axis:
        raise GanvasError(f"{budget.origin} lacks the weights {name}.")
    return state[name].shape[axis]


def _names(shape: StyleGAN2Architecture) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Name here -> name there, and the shape here."""
    names = {"synthesis.b4.const": "input.input"}
    for i in range(shape.mapping_layers):
        names |= {f"mapping.fc{i}.{part}": f"style.{i + 1}.{part}" for part in ("weight", "bias")}
    for i, layer in enumerate(shape.layers()):
        there = f"convs.{i - 1}" if i else "conv1"
        names |= _affine(layer.name, there)
        names[f"{layer.name}.bias"] = f"{there}.activate.bias"
        names[f"{layer.name}.noise_strength"] = f"{there}.noise.weight"
        names[f"{layer.name}.noise_const"] = f"noises.noise_{i}"
    for i, layer in enumerate(shape.outputs()):
        there = f"to_rgbs.{i - 1}" if i else "to_rgb1"
        names |= _affine(layer.name, there) | {f"{layer.name}.bias": f"{there}.bias"}
    sizes = shape.weight_shapes()
    return {new: (old, sizes[new]) for new, old in names.items()}


def _affine(here: str, there: str) -> dict[str, str]:
    parts = {f"{here}.affine.{part}": f"{there}.conv.modulation.{part}" for part in ("weight", "bias")}
    return {f"{here}.weight": f"{there}.conv.weight"} | parts


def _shaped(made: Mapping[str, Tensor], name: str, size: tuple[int, ...], budget: ReadBudget) -> Tensor:
    """The weight without axes of one, which rosinality's have in other places."""
    found = made[name]
    if [n for n in found.shape if n != 1] != [n for n in size if n != 1]:
        raise GanvasError(f"{budget.origin} has {name} of shape {tuple(found.shape)}, where {size} belongs.")
    return found.reshape(size)


def _mean(state: Mapping[str, Tensor], shape: StyleGAN2Architecture) -> Tensor:
    network = StyleGAN2({**state, "mapping.w_avg": torch.zeros(shape.w_dim)}, shape)
    with torch.no_grad():
        return network.mapping(draw_z(network, range(MEAN_OF))).mean(0)
