"""StyleGAN2 generators in the layout of rosinality's stylegan2-pytorch, alone or inside of what others built around it.

https://github.com/rosinality/stylegan2-pytorch (model.py): the same network as NVIDIA's under other names, always with
skips, and with a learning rate multiplier of 0.01 in its mapping network. A training run saves ``g_ema``, ``g``, ``d`` and
perhaps ``latent_avg``. pSp (https://github.com/eladrich/pixel2style2pixel), e4e (https://github.com/omertov/encoder4editing)
and ReStyle (https://github.com/yuval-alaluf/restyle-encoder) keep the same names below ``decoder.`` in their ``state_dict``,
beside an encoder, DataParallel below ``module.``, and Lightning below an attribute's name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._mean import MEAN_NAMES, complete_mean
from ganvas.checkpoints._networks import StoredNetwork, describe_choice
from ganvas.checkpoints._torch import StoredTensor, read_tensors
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.checkpoints.nvidia import check_channels
from ganvas.errors import GanvasError
from ganvas.generators.stylegan2 import KIND, VERSION, StyleGAN2
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture

MARKER_NAMES = ("input.input", "style.1.weight", "conv1.conv.modulation.weight", "to_rgb1.conv.weight")
"""Weights that no other layout has all of."""
MULTIPLIER = 0.01
NOISE_NOTE = "has no constant noise: some is drawn, the same each time"


def read(parts: Sequence[StoredNetwork], networks: Sequence[StoredNetwork], budget: ReadBudget) -> Checkpoint:
    """Read the first of ``parts``, the generators of this layout among all ``networks`` of a file.

    Raises GanvasError where weights are missing, too many, or of other shapes.
    """
    state = parts[0].weights
    shape = _find_shape(parts[0], budget)
    kept = {name: name for name in state if name.rpartition(".")[2] not in MEAN_NAMES}
    weights, notes = read_tensors(state, budget, kept), describe_choice(parts)
    names = _list_names(shape)
    own = {new: _reshape(weights, old, size, budget) for new, (old, size) in names.items() if old in weights}
    for layer, name in zip(shape.iterate_layers(), (f"noises.noise_{i}" for i in range(99)), strict=False):
        if name not in weights:  # older files have none, and drew it anew each time
            random = torch.Generator().manual_seed(layer.row)
            side = (layer.resolution, layer.resolution)
            own[f"{layer.name}.noise_const"] = torch.randn(side, generator=random)
            if NOISE_NOTE not in notes:
                notes.append(NOISE_NOTE)
    expected = {old for old, _ in names.values()}
    for name in weights:
        if name not in expected and not name.endswith(".kernel"):
            raise GanvasError(
                f"{budget.origin} has a weight {format_printable(name)!r}, which rosinality's generator doesn't have."
            )
    own["mapping.w_avg"], remarks = complete_mean(own, shape, StyleGAN2, [parts[0], *networks], budget)
    metadata = {"kind": KIND, "family": "stylegan2", "version": VERSION, "shape": shape}
    return Checkpoint("stylegan2", "rosinality's checkpoint", own, metadata, (*notes, *remarks))


def _find_shape(network: StoredNetwork, budget: ReadBudget) -> StyleGAN2Architecture:
    """Find the architecture from the weights' shapes, and what a pickled module says of its layers."""
    state = network.weights
    first, second = state["input.input"].shape, state["style.1.weight"].shape
    if len(first) == 4 and first[2:] != (4, 4):
        height, width = (side << sum(f"convs.{2 * i}.conv.weight" in state for i in range(8)) for side in first[2:])
        raise GanvasError(
            f"{budget.origin} has input.input of shape {first}, so its pictures are {width} wide and {height} high: "
            "4×4 pixels are expected, as only squares can be read."
        )
    if len(first) != 4 or len(second) != 2:
        raise GanvasError(
            f"{budget.origin} has input.input of shape {first} and style.1.weight of shape {second}: "
            "4×4 pixels and a matrix are expected."
        )
    sides = [4] + [8 << i for i in range(8) if f"convs.{2 * i}.conv.weight" in state]
    widths = [first[1]]
    for i in range(len(sides) - 1):
        widths.append(_get_length(state, f"convs.{2 * i}.conv.weight", 1, budget))
    w_dim, z_dim = second
    if z_dim > w_dim:
        raise GanvasError(
            f"{budget.origin} was exported from a conditional network: its mapping takes {z_dim} numbers for codes of "
            f"{w_dim}, and the embedding of labels that fills the rest is missing. Take the .pkl that it was made from."
        )
    colours = _get_length(state, "to_rgb1.conv.weight", 1, budget)
    check_channels(colours, budget)
    return StyleGAN2Architecture(
        sides[-1],
        tuple(widths),
        z_dim,
        w_dim,
        colours=colours,
        mapping_layers=sum(name.startswith("style.") and name.endswith(".weight") for name in state),
        learning_rate_multiplier=_find_multiplier(network, budget),
    )


def _find_multiplier(network: StoredNetwork, budget: ReadBudget) -> float:
    """Return the learning rate multiplier of the mapping: 0.01, unless a pickled module says otherwise."""
    value = network.layers.get("style.1", {}).get("lr_mul", MULTIPLIER)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < 1e6:
        raise GanvasError(f"{budget.origin} has a layer with a multiplier of {format_printable(value)}.")
    return float(value)


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
