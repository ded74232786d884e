"""StyleGAN3 networks in NVIDIA's pickles, which ``nvidia`` interprets and walks, and as plain state dicts.

https://github.com/NVlabs/stylegan3 (training/networks_stylegan3.py). A network has ``synthesis.input`` and layers whose names are
listed in ``layer_names``; each layer stores its sampling rates, sizes (NumPy's arrays of width and height) and padding beside its
weights and filters. Rates and sizes are read, padding follows from them, and a file whose padding is another is refused.

A state dict, ``torch.save(G_ema.state_dict())``, has neither: rates follow from the sides in the layers' names and from the
margin of NVIDIA's code, and what no name or weight shows is as its defaults are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._layout import count_layers, get_length
from ganvas.checkpoints._mean import complete_mean
from ganvas.checkpoints._networks import StoredNetwork, describe_choice
from ganvas.checkpoints._pickle import ObjectRecord
from ganvas.checkpoints._torch import StoredTensor, read_tensors
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.errors import GanvasError
from ganvas.generators.stylegan3 import FAMILY, KIND, VERSION, StyleGAN3
from ganvas.generators.stylegan3.architecture import MAX_FACTOR, MAX_LAYERS, MAX_SIDE, StyleGAN3Architecture
from ganvas.validation import parse

MARKER_NAMES = ("synthesis.input.freqs", "synthesis.input.phases")
"""Buffers that no other network of NVIDIA's has."""
MARGIN, FILTER_SIZE, BANDWIDTH = 10, 6, 2.0
"""NVIDIA's defaults: pixels around all layers but the last two, taps of a filter over its factor, and waves a width."""
Attributes = Mapping[str, Any]


def is_generator(stored: Mapping[str, StoredTensor]) -> bool:
    """Return whether the tensors of a network are a StyleGAN3's."""
    return all(name in stored for name in MARKER_NAMES)


def read_generator(
    stored: Mapping[str, StoredTensor], modules: Mapping[str, Attributes], budget: ReadBudget
) -> tuple[dict[str, Tensor], StyleGAN3Architecture]:
    """Read a generator from its tensors and the plain attributes of its modules, both by name.

    Raises GanvasError where they contradict one another, or no such network is possible.
    """
    synthesis, mapping, features = (modules.get(name, {}) for name in ("synthesis", "mapping", "synthesis.input"))
    if any(name.startswith("mapping.embed_proj.") for name in stored):
        raise GanvasError(
            f"{budget.origin} holds a StyleGAN-XL, whose labels go through a network of their own: it can't be read; "
            "NVIDIA's StyleGAN2 and StyleGAN3 can."
        )
    names = synthesis.get("layer_names")
    if not isinstance(names, list) or not 1 <= len(names) <= MAX_LAYERS or not all(type(name) is str for name in names):
        raise GanvasError(f"{budget.origin} holds a StyleGAN3 without the names of 1 to {MAX_LAYERS} layers.")
    layers = [_read_layer(name, stored, modules.get(f"synthesis.{name}", {}), budget) for name in names]
    clamps = {_simplify(modules.get(f"synthesis.{name}", {}).get("conv_clamp")) for name in names}
    if len(clamps) != 1:
        raise GanvasError(f"{budget.origin} has layers with different clamps.")
    rate = _simplify(features.get("sampling_rate"))
    values = {
        "resolution": _simplify(synthesis.get("img_resolution")),
        "layers": [own for own, _ in layers],
        "input_channels": _simplify(features.get("channels")),
        "input_side": _read_side(features.get("size"), "synthesis.input", budget),
        "input_rate": int(rate) if isinstance(rate, float) and rate.is_integer() else rate,
        "bandwidth": _simplify(features.get("bandwidth")),
        **{name: _simplify(mapping.get(name)) for name in ("z_dim", "w_dim")},
        "num_labels": _simplify(mapping.get("c_dim")),
        "mapping_layers": _simplify(mapping.get("num_layers")),
        "learning_rate_multiplier": _simplify(modules.get("mapping.fc0", {}).get("bias_gain")),
        "clamp": clamps.pop(),
        "output_scale": _simplify(synthesis.get("output_scale")),
    }
    shape = parse(StyleGAN3Architecture, values, budget.origin)
    for name, (_, padding), layer in zip(names, layers, shape.iterate_layers(), strict=True):
        if layer.name != f"synthesis.{name}":
            raise GanvasError(f"{budget.origin} calls the layer {layer.name} {format_printable(name)}.")
        before, after = layer.padding
        if padding != [before, after, before, after]:
            raise GanvasError(
                f"{budget.origin} pads {layer.name} by {format_printable(str(padding))} pixels, where its sizes need "
                f"{before} before and {after} after."
            )
    return read_tensors(stored, budget), shape


def read(parts: Sequence[StoredNetwork], networks: Sequence[StoredNetwork], budget: ReadBudget) -> Checkpoint:
    """Read the first of ``parts``, state dicts of generators. Raises GanvasError for weights that aren't such a network's."""
    stored = parts[0].weights
    shape, state = _find_shape(stored, budget), read_tensors(stored, budget)
    state["mapping.w_avg"], remarks = complete_mean(state, shape, StyleGAN3, parts[:1], budget)
    taken = "doesn't say its layers' rates, bandwidth, clamp and learning rate multiplier: NVIDIA's defaults are taken"
    metadata = {"kind": KIND, "family": FAMILY, "version": VERSION, "shape": shape}
    notes = (*describe_choice(parts), taken, *remarks)
    return Checkpoint(FAMILY, "a state dict of NVIDIA's StyleGAN3", state, metadata, notes)


def _find_shape(stored: Mapping[str, StoredTensor], budget: ReadBudget) -> StyleGAN3Architecture:
    found = [match for name in stored if (match := re.fullmatch(r"(synthesis\.L(\d+)_(\d+)_(\d+))\.weight", name))]
    named = sorted((int(match[2]), match[1], int(match[3]), int(match[4])) for match in found)
    if not 2 <= len(named) <= MAX_LAYERS or [number for number, *_ in named] != list(range(len(named))):
        raise GanvasError(f"{budget.origin} holds a StyleGAN3 without 2 to {MAX_LAYERS} layers, numbered from 0 on.")
    margins = [0 if number >= len(named) - 2 else MARGIN for number, *_ in named]
    rates = [side - 2 * margin for (_, _, side, _), margin in zip(named, margins, strict=True)]
    layers = []
    for number, name, side, channels in named:
        before, rate, last = rates[max(number - 1, 0)], rates[number], number == len(named) - 1
        inner = max(before, rate) * (1 if last else 2)
        filters = {part: stored.get(f"{name}.{part}_filter") for part in ("up", "down")}
        taps = {part: 1 if value is None else (*value.shape, 0)[0] for part, value in filters.items()}
        expected = {
            part: 1 if last else FILTER_SIZE * inner // each
            for part, each in (("up", before), ("down", rate))
            if each > 0
        }
        if before < 1 or rate < 1 or inner % before or inner % rate or taps != expected:
            raise GanvasError(
                f"{budget.origin} has a StyleGAN3 whose layer {format_printable(name)} isn't of the sizes that NVIDIA's "
                "settings give: give the .pkl that its code writes."
            )
        down = filters["down"]
        own: dict[str, Any] = {
            "channels": channels,
            "side": side,
            "kernel": get_length(stored, f"{name}.weight", 3, 4, budget),
        }
        own |= {"up": inner // before, "down": inner // rate, "up_taps": taps["up"], "down_taps": taps["down"]}
        layers.append(own | {"radial": down is not None and len(down.shape) == 2})
    depth, labels = count_layers(stored, "mapping.fc{}.weight"), "mapping.embed.weight" in stored
    w_dim = get_length(stored, f"mapping.fc{depth - 1}.weight", 0, 2, budget)
    values = {
        "resolution": named[-1][2],
        "layers": layers,
        "input_channels": get_length(stored, "synthesis.input.weight", 0, 2, budget),
        "input_side": named[0][2],
        "input_rate": rates[0],
        "bandwidth": BANDWIDTH,
        "z_dim": get_length(stored, "mapping.fc0.weight", 1, 2, budget) - (w_dim if labels else 0),
        "w_dim": w_dim,
        "num_labels": get_length(stored, "mapping.embed.weight", 1, 2, budget) if labels else 0,
        "mapping_layers": depth,
    }
    return parse(StyleGAN3Architecture, values, budget.origin)


def _read_layer(
    name: str, stored: Mapping[str, StoredTensor], attributes: Attributes, budget: ReadBudget
) -> tuple[dict[str, Any], list[Any]]:
    """Read a layer's part of the architecture, and its padding."""
    place = f"the layer {format_printable(name)}"
    rates = [_simplify(attributes.get(f"{part}_sampling_rate")) for part in ("in", "tmp", "out")]
    if not all(type(rate) is int and 1 <= rate <= MAX_SIDE * MAX_FACTOR for rate in rates):
        raise GanvasError(f"{budget.origin} has sampling rates of {', '.join(map(str, rates))} in {place}.")
    incoming, inner, outgoing = rates
    if inner % incoming or inner % outgoing:
        raise GanvasError(f"{budget.origin} resamples from {incoming} by way of {inner} to {outgoing} in {place}.")
    own: dict[str, Any] = {
        "channels": _simplify(attributes.get("out_channels")),
        "side": _read_side(attributes.get("out_size"), place, budget),
        "kernel": _simplify(attributes.get("conv_kernel")),
        "up": inner // incoming,
        "down": inner // outgoing,
    }
    for part in ("up", "down"):
        taps = stored.get(f"synthesis.{name}.{part}_filter")
        count = _simplify(attributes.get(f"{part}_taps"))
        radial = part == "down" and attributes.get("down_radial") is True
        expected = (count,) * (2 if radial else 1)
        if taps is not None and taps.shape != expected or taps is None and count != 1:
            found = "none" if taps is None else f"one of shape {taps.shape}"
            raise GanvasError(f"{budget.origin} has {found} for the {part}_filter of {count} taps in {place}.")
        own[f"{part}_taps"] = count
    own["radial"] = attributes.get("down_radial") is True and own["down_taps"] != 1
    padding = attributes.get("padding")
    return own, [_simplify(value) for value in padding[:8]] if isinstance(padding, list) else []


def _read_side(value: Any, place: str, budget: ReadBudget) -> int:
    """Read the side of a square from NumPy's array of width and height."""
    state = value.state.get("state") if isinstance(value, ObjectRecord) and value.kind == "ndarray" else None
    sides: list[int] = []
    if isinstance(state, tuple) and len(state) == 5 and isinstance(state[2], ObjectRecord):
        code, about, data = state[2].state.get("code"), state[2].state.get("state"), state[4]
        plain = isinstance(about, tuple) and about[1:2] == ("<",) and state[1] == (2,) and code in ("i8", "i4")
        if plain and isinstance(data, memoryview) and len(data) == 2 * int(str(code)[1]):
            sides = np.frombuffer(data, f"<{code}").tolist()
    if not sides or not all(1 <= side <= MAX_SIDE for side in sides):
        raise GanvasError(
            f"{budget.origin} has {place} with a size of {sides or 'another kind'}: two sides of 1 to {MAX_SIDE} are expected."
        )
    if sides[0] != sides[1]:
        raise GanvasError(f"{budget.origin} draws {sides[0]}×{sides[1]} pixels in {place}: only squares can be read.")
    return sides[0]


def _simplify(value: Any) -> Any:
    """Return a number or None as it is, anything else as a short text, which no number is."""
    return value if value is None or type(value) in (int, float) else format_printable(value)
