"""StyleGAN2 and StyleGAN3 networks as NVIDIA's stylegan2-ada-pytorch and stylegan3 repositories pickle them.

https://github.com/NVlabs/stylegan2-ada-pytorch (torch_utils/persistence.py, training/networks.py) and
https://github.com/NVlabs/stylegan3 (training/networks_stylegan2.py; ``nvidia_stylegan3`` has the other file). Such a pickle
carries the source text of its classes to be run when it is loaded; here it is skipped, since attributes and weights are enough.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from ganvas.checkpoints import nvidia_stylegan3
from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._mean import SAMPLES, compute_mean
from ganvas.checkpoints._networks import flatten_module, iterate_modules
from ganvas.checkpoints._objects import is_layer_class
from ganvas.checkpoints._pickle import ObjectRecord, PickleMachine, Vocabulary
from ganvas.checkpoints._torch import STORAGES, StoredTensor, TorchStorage, read_storage, read_tensors
from ganvas.checkpoints._torch import build_vocabulary as build_torch_vocabulary
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.errors import GanvasError
from ganvas.generators.stylegan2 import KIND, VERSION, StyleGAN2
from ganvas.generators.stylegan2.architecture import MAX_WIDTH, RESOLUTIONS, StyleGAN2Architecture
from ganvas.generators.stylegan2.resampling import TAPS
from ganvas.generators.stylegan3.architecture import StyleGAN3Architecture

NETWORKS = ("G_ema", "G")
"""The networks of a snapshot that are taken, in order of preference: the averaged one first."""


def read_pickle(data: memoryview, budget: ReadBudget) -> Any:
    """Read the value of a pickle that torch.save didn't write. Raises GanvasError for what no checkpoint needs."""
    return PickleMachine(data, build_vocabulary(budget), budget, is_layer_class=is_layer_class).run()


def build_vocabulary(budget: ReadBudget) -> Vocabulary:
    """Build the vocabulary of NVIDIA's pickles: as that of torch.save's files, with tensors' bytes inside of the pickle."""

    def load(data: Any) -> TorchStorage:
        return read_storage(data, budget)

    shared = build_torch_vocabulary(budget)
    tensors = {key: value for key, value in shared.items() if key not in STORAGES}
    return {**tensors, ("torch.storage", "_load_from_bytes"): load}


def find_generator(value: Any) -> str | None:
    """Return the key of the generator among the modules in a value, "" for the value itself; None where there is none."""
    names = [name for name, module in iterate_modules(value) if _is_generator(module)]
    return next((name for name in (*NETWORKS, *names) if name in names), None)


def read(value: Any, budget: ReadBudget) -> Checkpoint:
    """Read the generator in the value of a pickle, or of a file that torch.save wrote. Raises GanvasError for any other value."""
    items, name = value if isinstance(value, dict) else {"": value}, find_generator(value)
    if name is None:
        modules = [f"{format_printable(k)} ({format_printable(v.kind)})".lstrip() for k, v in iterate_modules(value)]
        held = ", ".join(modules[:8]) or "no network"
        raise GanvasError(f"{budget.origin} is a pickle with {held}: a Generator named G_ema or G is needed.")
    state, shape, notes = _read_generator(items[name], budget)
    family = "stylegan2" if isinstance(shape, StyleGAN2Architecture) else "stylegan3"
    metadata = {"kind": KIND, "family": family, "version": VERSION, "shape": shape}
    held = ", ".join(format_printable(key) for key in list(items)[:8])
    choice = [f"holds {held}; {name} is read"] if name else []
    return Checkpoint(family, "NVIDIA's pickle", state, metadata, (*choice, *notes))


def _is_generator(module: ObjectRecord) -> bool:
    parts = module.state.get("_modules")
    named = isinstance(parts, dict) and {"synthesis", "mapping"} <= parts.keys()
    return named and module.kind.rpartition(".")[2] == "Generator"


def _read_generator(
    network: ObjectRecord, budget: ReadBudget
) -> tuple[dict[str, Tensor], StyleGAN2Architecture | StyleGAN3Architecture, list[str]]:
    stored, layers = flatten_module(network, budget)
    if nvidia_stylegan3.is_generator(stored):
        _check_layers(layers, budget)
        return *nvidia_stylegan3.read_generator(stored, layers, budget), []
    synthesis, mapping = (layers.get(part, {}) for part in ("synthesis", "mapping"))
    if "synthesis.b4.const" not in stored:
        raise GanvasError(
            f"{budget.origin} holds a generator of another kind: only StyleGAN2's and StyleGAN3's can be read."
        )
    check_picture(stored, budget)
    resolution = _get_integer(synthesis, "img_resolution", budget)
    if resolution not in RESOLUTIONS:
        raise GanvasError(
            f"{budget.origin} has resolution {resolution}: only {', '.join(map(str, RESOLUTIONS))} can be read."
        )
    w_dim, num_labels = (_get_integer(mapping, name, budget, MAX_WIDTH) for name in ("w_dim", "c_dim"))
    embedded = _get_width(stored, "mapping.embed.weight", budget) if num_labels else w_dim
    shape = StyleGAN2Architecture(
        resolution,
        tuple(_get_width(stored, f"synthesis.b{2**i}.conv1.weight", budget) for i in range(2, resolution.bit_length())),
        z_dim=_get_integer(mapping, "z_dim", budget, MAX_WIDTH),
        w_dim=w_dim,
        num_labels=num_labels,
        colours=_get_integer(synthesis, "img_channels", budget, 3),
        mapping_layers=_get_integer(mapping, "num_layers", budget, 100),
        learning_rate_multiplier=_check_number(layers.get("mapping.fc0", {}).get("bias_gain"), budget),
        architecture=find_architecture(stored),
        clamp=_find_clamp(layers, budget),
        embed_features=None if embedded == w_dim else embedded,
    )
    _check_layers(layers, budget)
    # Networks that were built without noise.
    notes = [] if any(name.endswith("noise_const") for name in stored) else ["has no noise"]
    weights = {name: name for name in stored if not name.endswith("resample_filter")}
    state = read_tensors(stored, budget, weights)
    for name, size in shape.list_weight_shapes().items():
        if name.endswith(("noise_const", "noise_strength")) and notes:
            state[name] = torch.zeros(size)
    if "mapping.w_avg" not in state:  # networks that were built without (w_avg_beta=None)
        state["mapping.w_avg"] = compute_mean(state, shape, StyleGAN2)
        notes.append(f"has no mean of W: it's taken over {SAMPLES:,} codes")
    check_filters(read_tensors(stored, budget, {name: name for name in stored if name not in weights}), budget)
    return state, shape, notes


def _get_integer(state: dict[str, Any], name: str, budget: ReadBudget, maximum: int = 2**20) -> int:
    value = state.get(name)
    if type(value) is not int or not 0 <= value <= maximum:
        raise GanvasError(
            f"{budget.origin} has a generator whose {name} is {format_printable(value)}: 0 to {maximum} is possible."
        )
    return value


def _check_number(value: Any, budget: ReadBudget) -> float:
    if not isinstance(value, int | float) or not 0 < value < 1e6:
        raise GanvasError(f"{budget.origin} has a layer with a gain or clamp of {format_printable(value)}.")
    return float(value)


def _get_width(stored: dict[str, StoredTensor], name: str, budget: ReadBudget) -> int:
    if name not in stored or not stored[name].shape:
        raise GanvasError(f"{budget.origin} lacks the weights {name}: it isn't a whole StyleGAN2.")
    return stored[name].shape[0]


def check_picture(stored: Mapping[str, StoredTensor], budget: ReadBudget) -> None:
    """Raise GanvasError where pictures aren't squares, or have transparency."""
    const = stored["synthesis.b4.const"].shape
    blocks = [int(m[1]) for name in stored if (m := re.match(r"synthesis\.b(\d{1,5})\.conv1\.weight$", name))]
    if len(const) == 3 and const[1:] != (4, 4) and blocks:
        height, width = (side * max(blocks) // 4 for side in const[1:])
        raise GanvasError(
            f"{budget.origin} draws pictures {width} wide and {height} high: only squares of "
            f"{', '.join(map(str, RESOLUTIONS))} can be read."
        )
    for colours in (v.shape[0] for k, v in stored.items() if k.endswith("torgb.weight") and v.shape):
        check_channels(colours, budget)


def check_channels(channels: int, budget: ReadBudget) -> None:
    """Raise GanvasError where pictures are neither grey nor in colours without transparency."""
    if channels not in (1, 3):
        reason = " (colours and transparency)" if channels == 4 else ""
        raise GanvasError(f"{budget.origin} draws pictures of {channels} channels{reason}: 1 or 3 can be read.")


def find_architecture(stored: Mapping[str, StoredTensor]) -> Literal["skip", "resnet", "orig"]:
    """Find out how blocks are joined, by the layers that there are."""
    if "synthesis.b4.torgb.weight" in stored:
        return "skip"
    return "resnet" if "synthesis.b8.skip.weight" in stored else "orig"


def _find_clamp(layers: dict[str, dict[str, Any]], budget: ReadBudget) -> float | None:
    parts = ("conv0", "conv1", "torgb")
    clamps = [state.get("conv_clamp") for name, state in layers.items() if name.rpartition(".")[2] in parts]
    values = {None if value is None else _check_number(value, budget) for value in clamps}
    if len(values) != 1:
        raise GanvasError(f"{budget.origin} has layers with different clamps.")
    return values.pop()


def _check_layers(layers: dict[str, dict[str, Any]], budget: ReadBudget) -> None:
    """Raise GanvasError where a layer computes something else than StyleGAN2's do."""
    rate = layers.get("mapping.fc0", {}).get("bias_gain")
    for name, state in layers.items():
        last = name.rpartition(".")[2]
        if last in ("conv0", "conv1") or name.startswith("mapping.fc"):
            activation = state.get("activation")
            if activation != "lrelu":
                raise GanvasError(
                    f"{budget.origin} has the activation {format_printable(activation)} in {format_printable(name)}:"
                    " only lrelu can be read."
                )
        if name.startswith("mapping.fc") and _check_number(state.get("bias_gain"), budget) != rate:
            raise GanvasError(
                f"{budget.origin} has different learning rates in its mapping network, which can't be read."
            )


def check_filters(filters: dict[str, Tensor], budget: ReadBudget) -> None:
    """Raise GanvasError for filters of resampling other than StyleGAN2's own."""
    taps = torch.tensor(TAPS) / sum(TAPS)
    for name, value in filters.items():
        if value.shape != (4, 4) or not torch.allclose(value, taps[:, None] * taps, atol=1e-6):
            raise GanvasError(f"{budget.origin} resamples by another filter than 1-3-3-1, in {format_printable(name)}.")
