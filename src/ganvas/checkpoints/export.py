"""Write StyleGAN2 generators as the state dicts that other code loads: plain tensors in its names, no pickled classes.

- "nvidia": the names of stylegan2-ada-pytorch's ``G_ema.state_dict()``, https://github.com/NVlabs/stylegan2-ada-pytorch.
- "rosinality": ``{"g_ema": …, "latent_avg": …}``, https://github.com/rosinality/stylegan2-pytorch.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ganvas.checkpoints import rosinality
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.errors import GanvasError, unknown
from ganvas.generators.stylegan2.architecture import StyleGAN2Architecture
from ganvas.io.files import atomic_write

ExportFormat = Literal["rosinality", "nvidia"]


def export_checkpoint(checkpoint: Checkpoint, path: str | Path, layout: str) -> tuple[str, ...]:
    """Write the generator of a checkpoint to a .pt file, and return notes on what its reader has to be told.

    Raises GanvasError for a generator that the layout has no place for, and an unknown layout.
    """
    shape = checkpoint.metadata.get("shape")
    if checkpoint.family != "stylegan2" or not isinstance(shape, StyleGAN2Architecture):
        raise GanvasError(f"A generator of the family {checkpoint.family} can't be exported: only StyleGAN2's can.")
    if layout not in ("rosinality", "nvidia"):
        raise unknown("format", layout, ("rosinality", "nvidia"))
    if shape.shuffled or shape.bounded:
        raise GanvasError("This generator shuffles pixels or bounds its output: neither format has a place for it.")
    state = {name: value.detach().cpu().float().contiguous() for name, value in checkpoint.state.items()}
    value = _build_rosinality(state, shape) if layout == "rosinality" else _build_nvidia(state, shape)
    buffer = io.BytesIO()  # not to the file itself, whose name torch.save would store
    torch.save(value, buffer)
    with atomic_write(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
    return _describe_settings(shape, layout)


def _build_nvidia(state: Mapping[str, Tensor], shape: StyleGAN2Architecture) -> dict[str, Tensor]:
    """Add the filters, which are buffers of NVIDIA's modules."""
    filters = {}
    for i, resolution in enumerate(shape.blocks):
        block = f"synthesis.b{resolution}"
        skip = [f"{block}.skip"] if i and shape.architecture == "resnet" else []
        for module in (block, *([f"{block}.conv0"] if i else []), f"{block}.conv1", *skip):
            filters[f"{module}.resample_filter"] = _make_filter(1.0)
    return {**state, **filters}


def _build_rosinality(state: Mapping[str, Tensor], shape: StyleGAN2Architecture) -> dict[str, Any]:
    reasons = {
        f"takes labels ({shape.num_labels})": shape.num_labels > 0,
        f"has {shape.colours} colour channels": shape.colours != 3,
        f"is of the architecture {shape.architecture!r}": shape.architecture != "skip",
        f"has z of {shape.z_dim} numbers and w of {shape.w_dim}": shape.z_dim != shape.w_dim,
        f"has a learning rate multiplier of {shape.learning_rate_multiplier:g}": shape.learning_rate_multiplier != 0.01,
    }
    if found := [reason for reason, applies in reasons.items() if applies]:
        raise GanvasError(f"This generator {found[0]}, which rosinality's code has no place for: try --format nvidia.")
    weights: dict[str, Tensor] = {}
    for name, (there, _) in rosinality._list_names(shape).items():
        weights[there] = _add_unit_axes(there, state[name])
    for i in range(len(shape.blocks) - 1):
        weights[f"convs.{2 * i}.conv.blur.kernel"] = _make_filter(4.0)
        weights[f"to_rgbs.{i}.upsample.kernel"] = _make_filter(4.0)
    return {"g_ema": weights, "latent_avg": state["mapping.w_avg"].clone()}


def _add_unit_axes(name: str, weight: Tensor) -> Tensor:
    """Reshape a weight as rosinality stores it: with a batch axis, and biases of outputs as pictures of one pixel."""
    if name.startswith("noises."):
        return weight[None, None]
    if name.endswith((".conv.weight", "input.input")):
        return weight[None]
    if name.startswith("to_rgb") and name.endswith(".bias") and "modulation" not in name:
        return weight.reshape(1, -1, 1, 1)
    return weight.reshape(1) if name.endswith(".noise.weight") else weight


def _make_filter(gain: float) -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    kernel = torch.outer(taps, taps)
    return kernel / kernel.sum() * gain


def _describe_settings(shape: StyleGAN2Architecture, layout: str) -> tuple[str, ...]:
    widths = ", ".join(f"{r}: {width}" for r, width in zip(shape.blocks, shape.widths, strict=True))
    size = (
        f"resolution {shape.resolution}, w of {shape.w_dim}, {shape.mapping_layers} mapping layers, channels {widths}"
    )
    if layout == "rosinality":
        clamp = [f"activations were clamped at {shape.clamp:g}, which this code doesn't do"] if shape.clamp else []
        return (f"build model.Generator with {size}", *clamp)
    rate = f"learning rate multiplier {shape.learning_rate_multiplier:g}"
    rest = f"architecture {shape.architecture!r}, {rate}, clamp {shape.clamp}"
    return (f"build training.networks.Generator with z of {shape.z_dim}, {shape.num_labels} labels, {size}, {rest}",)
