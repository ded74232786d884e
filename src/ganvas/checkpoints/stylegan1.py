"""StyleGAN (1) generators in layouts of PyTorch: genforce's, rosinality's, and two older ports (``stylegan1_ports``).

https://github.com/genforce/genforce (models/stylegan_generator.py): ``generator_smooth`` or ``generator``, with
``synthesis.layer{i}`` (two a resolution), ``synthesis.output{i}`` (one a resolution), constant noise, a multiplier of 0.01 in
the mapping network, and doubling and convolution in one from 128 pixels on. TensorFlow's variables are read under these names.

https://github.com/rosinality/style-based-gan-pytorch (model.py): ``g_running`` or ``generator``, or a state dict by itself, with
``generator.progression.{i}`` and ``generator.to_rgb.{i}`` for each resolution up to 1024, whatever it was trained to; noise is
drawn anew each time, and there is no mean of W. The resolutions that were trained are those whose noise weights left 0.

Weights are stored before their gains of equalized learning rates (the root of 2 or 1 over the number of inputs).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ganvas.checkpoints import stylegan1_ports
from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._layout import count_layers, get_length, take_weight
from ganvas.checkpoints._mean import SAMPLES, compute_mean
from ganvas.checkpoints._torch import StoredTensor, read_tensors
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.errors import GanvasError
from ganvas.generators.stylegan1 import (
    BLUR_TAPS,
    FAMILY,
    KIND,
    NORM_EPSILON,
    RESOLUTIONS,
    VERSION,
    StyleGAN1,
    StyleGAN1Architecture,
)

NETWORKS = ("generator_smooth", "g_running", "g_ema", "generator")
"""The networks of a snapshot that are taken, in order of preference: the averaged one first."""
WRAPPER = "module."
"""What all names begin with where a network was saved inside of DataParallel."""
MARKERS = {
    "genforce": ("mapping.dense0.weight", "synthesis.layer0.const", "synthesis.layer0.style.weight"),
    "rosinality": (
        "style.1.linear.weight_orig",
        "generator.progression.0.conv1.input",
        "generator.progression.0.adain1.style.linear.weight_orig",
    ),
    "InterFaceGAN": ("mapping.dense0.linear.weight", "synthesis.layer0.first_layer"),
    "lernapparat": ("g_mapping.dense0.weight", "g_synthesis.blocks.4x4.const"),
}
"""Weights that no other layout has all of."""
GENFORCE_RATE, GENFORCE_FUSED_RESOLUTION = 0.01, 128
"""The mapping network's learning rate multiplier, and from where on doubling and convolution are one."""
SILENT_NOTE = "has no constant noise: none is added"
W_AVG_NOTE = f"has no mean of W: it's taken over {SAMPLES:,} codes"
NOISE_PARTS = {"noise_const": ".apply_noise.noise", "noise_strength": ".apply_noise.weight"}
"""ganvas's names for noise and its strength -> genforce's."""


def find_network(dicts: Mapping[str, Mapping[str, StoredTensor]]) -> str | None:
    """Return the name of the state dict to read, or None where none is a generator of these layouts."""
    names = [name for name, state in dicts.items() if _find_layout(state)]
    return next((name for name in (*NETWORKS, *names) if name in names), None)


def _find_layout(state: Mapping[str, StoredTensor]) -> str:
    """Return the name of a state dict's layout, or "" for another one."""
    start = WRAPPER if all(name.startswith(WRAPPER) for name in state) else ""
    return next((layout for layout, marks in MARKERS.items() if all(start + name in state for name in marks)), "")


def read(state: Mapping[str, StoredTensor], budget: ReadBudget) -> Checkpoint:
    """Read the generator in a state dict. Raises GanvasError where weights are missing, too many, or of other shapes."""
    layout, start = _find_layout(state), WRAPPER if all(name.startswith(WRAPPER) for name in state) else ""
    weights = read_tensors(state, budget, {name: name.removeprefix(start) for name in state})
    if layout == "rosinality":
        shape, own, notes = _convert_rosinality(weights, budget)
    elif layout == "lernapparat":
        renamed = stylegan1_ports.convert_lernapparat(weights)
        shape, own, notes = convert_genforce(renamed, budget, epsilon=stylegan1_ports.PYTORCH_EPSILON)
    else:
        renamed = stylegan1_ports.convert_interfacegan(weights) if layout == "InterFaceGAN" else weights
        shape, own, notes = convert_genforce(renamed, budget)
    return build_checkpoint(f"{layout}'s checkpoint", shape, own, notes)


def build_checkpoint(
    origin: str, shape: StyleGAN1Architecture, state: Mapping[str, Tensor], notes: list[str]
) -> Checkpoint:
    """Build the checkpoint of a StyleGAN from ganvas's own weights."""
    metadata = {"kind": KIND, "family": FAMILY, "version": VERSION, "shape": shape}
    return Checkpoint(FAMILY, origin, state, metadata, tuple(notes))


# genforce's names, which TensorFlow's variables are given, too.


def convert_genforce(
    weights: Mapping[str, Tensor],
    budget: ReadBudget,
    rate: float = GENFORCE_RATE,
    fused_resolution: int = GENFORCE_FUSED_RESOLUTION,
    epsilon: float = NORM_EPSILON,
) -> tuple[StyleGAN1Architecture, dict[str, Tensor], list[str]]:
    """Convert weights in genforce's names to an architecture, ganvas's weights, and notes.

    ``rate`` is the mapping network's learning rate multiplier; from ``fused_resolution`` on, doubling and convolution are one,
    by kernels that are stored the other way round. Raises GanvasError where weights are missing, too many, or of other shapes.
    """
    blocks = count_layers(weights, "synthesis.layer{}.style.weight") // 2
    skipped = _count_untrained(weights, blocks, budget)
    shape = replace(_find_genforce_shape(weights, blocks - skipped, budget), epsilon=epsilon)
    names = _list_genforce_names(shape.mapping_layers, 2 * blocks)
    unexpected = next((name for name in weights if name not in names.values() and not _is_constant(name)), None)
    if unexpected:
        raise GanvasError(f"{budget.origin} has {format_printable(unexpected)!r}, which no StyleGAN has.")
    last = f"synthesis.output{blocks - skipped - 1}"
    names |= {f"synthesis.torgb.{part}": f"{last}.{part}" for part in ("weight", "bias")}
    # Networks that were built without noise have neither of these, some ports no constant noise.
    missing = {part for part in NOISE_PARTS if not any(name.endswith(NOISE_PARTS[part]) for name in weights)}
    own = {}
    for name, size in shape.list_weight_shapes().items():
        if name.rpartition(".")[2] in missing or name == "mapping.w_avg" and names[name] not in weights:
            own[name] = torch.zeros(size)
            continue
        label = name == "mapping.embed.weight"
        value = take_weight(weights, names[name], size[::-1] if label else size, budget)
        own[name] = value.T if label else value * _compute_genforce_gain(name, size, rate)
        if name.endswith("affine.bias"):  # a channel's scale is stored without the 1 that it begins with
            own[name] = value + (torch.arange(size[0]) < size[0] // 2)
    for i, side in enumerate(shape.row_resolutions):
        if i and i % 2 == 0 and side >= fused_resolution:
            own[f"synthesis.layer{i}.weight"] = own[f"synthesis.layer{i}.weight"].flip(2, 3)
    own = {name: value.contiguous() for name, value in own.items()}
    notes = [SILENT_NOTE] if missing else []
    if names["mapping.w_avg"] not in weights:
        own["mapping.w_avg"] = compute_mean(own, shape, StyleGAN1)
        notes.append(W_AVG_NOTE)
    if skipped:
        notes.append(f"was trained up to {shape.resolution} of {2 << blocks} pixels")
    return shape, own, notes


def _is_constant(name: str) -> bool:
    """Return whether a name is that of a filter or of the level of detail, which aren't learned."""
    return name == "synthesis.lod" or name.endswith(".blur.kernel") or ".output" in name


def _count_untrained(weights: Mapping[str, Tensor], blocks: int, budget: ReadBudget) -> int:
    """Return the level of detail: how many of the finest resolutions progressive growing hadn't come to."""
    level = (
        float(weights["synthesis.lod"].flatten()[0]) if weights.get("synthesis.lod", torch.zeros(0)).numel() else 0.0
    )
    if level != int(level) or not 0 <= level < max(blocks - 1, 1):
        raise GanvasError(
            f"{budget.origin} was saved while it grew to a finer resolution (level of detail {level:g}): only generators "
            "between two such phases can be read."
        )
    return int(level)


def _find_genforce_shape(weights: Mapping[str, Tensor], blocks: int, budget: ReadBudget) -> StyleGAN1Architecture:
    resolution = _check_resolution(2 << blocks, budget)
    widths = tuple(get_length(weights, f"synthesis.layer{2 * i + 1}.weight", 0, 4, budget) for i in range(blocks))
    depth = count_layers(weights, "mapping.dense{}.weight")
    labels = "mapping.label_weight" in weights
    incoming = get_length(weights, "mapping.dense0.weight", 1, 2, budget)
    z_dim = get_length(weights, "mapping.label_weight", 1, 2, budget) if labels else incoming
    return StyleGAN1Architecture(
        resolution,
        widths,
        z_dim,
        w_dim=get_length(weights, f"mapping.dense{depth - 1}.weight", 0, 2, budget),
        num_labels=get_length(weights, "mapping.label_weight", 0, 2, budget) if labels else 0,
        colours=get_length(weights, f"synthesis.output{blocks - 1}.weight", 0, 4, budget),
        mapping_layers=depth,
        mapping_width=get_length(weights, "mapping.dense0.weight", 0, 2, budget),
    )


def _check_resolution(resolution: int, budget: ReadBudget) -> int:
    if resolution not in RESOLUTIONS:
        raise GanvasError(
            f"{budget.origin} has a StyleGAN of {resolution} pixels: only {', '.join(map(str, RESOLUTIONS))} can be read."
        )
    return resolution


def _list_genforce_names(depth: int, layers: int) -> dict[str, str]:
    """List ganvas's name -> genforce's name of every weight but the output layer's."""
    names = {
        "mapping.w_avg": "truncation.w_avg",
        "mapping.embed.weight": "mapping.label_weight",
        "synthesis.const": "synthesis.layer0.const",
    }
    for i in range(depth):
        names |= {f"mapping.fc{i}.{part}": f"mapping.dense{i}.{part}" for part in ("weight", "bias")}
    for i in range(layers):
        name = f"synthesis.layer{i}"
        names |= {
            **({f"{name}.weight": f"{name}.weight"} if i else {}),
            f"{name}.bias": f"{name}.bias",
            f"{name}.noise_const": f"{name}.apply_noise.noise",
            f"{name}.noise_strength": f"{name}.apply_noise.weight",
            f"{name}.affine.weight": f"{name}.style.weight",
            f"{name}.affine.bias": f"{name}.style.bias",
        }
    return names


def _compute_genforce_gain(name: str, size: tuple[int, ...], rate: float) -> float:
    """Compute the factor on a stored weight: that of its equalized learning rate, and in the mapping network ``rate``."""
    if not name.endswith(".weight"):
        return rate if name.startswith("mapping.fc") else 1.0
    inputs = torch.Size(size[1:]).numel()
    if name.startswith("mapping.fc"):
        return rate * (2 / inputs) ** 0.5
    return (1 / inputs) ** 0.5 if "affine" in name or "torgb" in name else (2 / inputs) ** 0.5


# rosinality's names.


def _convert_rosinality(
    weights: Mapping[str, Tensor], budget: ReadBudget
) -> tuple[StyleGAN1Architecture, dict[str, Tensor], list[str]]:
    stored = count_layers(weights, "generator.progression.{}.conv2.conv.weight_orig")
    trained = _count_trained(weights, stored, budget)
    w_dim = get_length(weights, "style.1.linear.weight_orig", 0, 2, budget)
    shape = StyleGAN1Architecture(
        _check_resolution(2 << trained, budget),
        tuple(
            get_length(weights, f"generator.progression.{i}.conv2.conv.weight_orig", 0, 4, budget)
            for i in range(trained)
        ),
        z_dim=get_length(weights, "style.1.linear.weight_orig", 1, 2, budget),
        w_dim=w_dim,
        colours=get_length(weights, f"generator.to_rgb.{trained - 1}.conv.weight_orig", 0, 4, budget),
        mapping_layers=count_layers(weights, "style.{}.linear.weight_orig", start=1, step=2),
        mapping_width=w_dim,
        epsilon=stylegan1_ports.PYTORCH_EPSILON,
        blurred_bias=True,
    )
    _check_filters(weights, budget)
    names, sizes = _list_rosinality_names(shape, weights), shape.list_weight_shapes()
    own = {name: torch.zeros(size) for name, size in sizes.items() if name not in names}
    for name, there in names.items():
        fused, size = there.endswith(".conv1.0.weight"), sizes[name]
        inputs = torch.Size(size[1:] or size).numel()
        value = take_weight(weights, there, (*size[:2][::-1], *size[2:]) if fused else size, budget)
        if there.endswith("weight_orig"):
            value = value * (2 / inputs) ** 0.5
        if fused:  # stored the other way round, and applied as a mean where TensorFlow's code takes a sum
            value = value.transpose(0, 1).flip(2, 3) * ((2 / inputs) ** 0.5 / 4)
        own[name] = value.contiguous()
    own["mapping.w_avg"] = compute_mean(own, shape, StyleGAN1)
    notes = [SILENT_NOTE, W_AVG_NOTE]
    if trained < stored:
        notes.append(f"was trained up to {shape.resolution} of {2 << stored} pixels")
    return shape, own, notes


def _check_filters(weights: Mapping[str, Tensor], budget: ReadBudget) -> None:
    """Raise GanvasError where a filter after doubling is another than 1-2-1."""
    taps = torch.tensor(BLUR_TAPS) / sum(BLUR_TAPS)
    for name, value in weights.items():
        filters = name.startswith("generator.progression.") and name.endswith((".conv1.1.weight", ".conv1.2.weight"))
        if filters and (value.shape[1:] != (1, 3, 3) or not torch.allclose(value, taps[:, None] * taps, atol=1e-6)):
            raise GanvasError(f"{budget.origin} resamples by another filter than 1-2-1, in {format_printable(name)}.")


def _count_trained(weights: Mapping[str, Tensor], stored: int, budget: ReadBudget) -> int:
    """Count the resolutions whose noise weights differ from the 0 that they began with."""
    for i in range(stored, 0, -1):
        names = [f"generator.progression.{i - 1}.noise{part}.weight_orig" for part in (1, 2)]
        if any(name in weights and bool(weights[name].any()) for name in names):
            return i
    raise GanvasError(
        f"{budget.origin} has a StyleGAN that wasn't trained: all its noise weights are 0, so its resolution isn't known."
    )


def _list_rosinality_names(shape: StyleGAN1Architecture, weights: Mapping[str, Tensor]) -> dict[str, str]:
    """List ganvas's name -> rosinality's name of every weight that has one."""
    names = {"synthesis.const": "generator.progression.0.conv1.input"}
    for i in range(shape.mapping_layers):
        names[f"mapping.fc{i}.weight"] = f"style.{2 * i + 1}.linear.weight_orig"
        names[f"mapping.fc{i}.bias"] = f"style.{2 * i + 1}.linear.bias"
    for i in range(len(shape.row_resolutions)):
        name, there, part = f"synthesis.layer{i}", f"generator.progression.{i // 2}", i % 2 + 1
        if part == 2:
            kernel, bias = f"{there}.conv2.conv.weight_orig", f"{there}.conv2.conv.bias"
        elif f"{there}.conv1.0.weight" in weights:
            kernel, bias = f"{there}.conv1.0.weight", f"{there}.conv1.0.bias"
        else:
            kernel, bias = f"{there}.conv1.1.conv.weight_orig", f"{there}.conv1.1.conv.bias"
        if i:
            names |= {f"{name}.weight": kernel, f"{name}.bias": bias}
        names[f"{name}.noise_strength"] = f"{there}.noise{part}.weight_orig"
        names[f"{name}.affine.weight"] = f"{there}.adain{part}.style.linear.weight_orig"
        names[f"{name}.affine.bias"] = f"{there}.adain{part}.style.linear.bias"
    last = f"generator.to_rgb.{len(shape.widths) - 1}.conv"
    return names | {"synthesis.torgb.weight": f"{last}.weight_orig", "synthesis.torgb.bias": f"{last}.bias"}
