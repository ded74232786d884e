"""StyleGAN3 networks in NVIDIA's pickles, which ``nvidia`` interprets and walks.

https://github.com/NVlabs/stylegan3 (training/networks_stylegan3.py). A network has ``synthesis.input`` and layers whose names are
listed in ``layer_names``; each layer stores its sampling rates, sizes (NumPy's arrays of width and height) and padding beside its
weights and filters. Rates and sizes are read, padding follows from them, and a file whose padding is another is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._pickle import ObjectRecord
from ganvas.checkpoints._torch import StoredTensor, read_tensors
from ganvas.errors import GanvasError
from ganvas.generators.stylegan3.architecture import MAX_FACTOR, MAX_LAYERS, MAX_SIDE, StyleGAN3Architecture
from ganvas.validation import parse

MARKER_NAMES = ("synthesis.input.freqs", "synthesis.input.phases")
"""Buffers that no other network of NVIDIA's has."""
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
