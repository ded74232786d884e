"""StyleGAN2 and StyleGAN3 networks as NVIDIA's stylegan2-ada-pytorch and stylegan3 repositories pickle them.

https://github.com/NVlabs/stylegan2-ada-pytorch (torch_utils/persistence.py, training/networks.py) and
https://github.com/NVlabs/stylegan3 (training/networks_stylegan2.py; ``nvidia_stylegan3`` has the other file). Such a pickle
carries the source text of its classes to be run when it is loaded; here it is skipped, since attributes and weights are enough.
"""

from __future__ import annotations

from typing import Any, Literal, TypeGuard

import numpy as np
import torch
from torch import Tensor

from ganvas.checkpoints import nvidia_stylegan3
from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._pickle import Call, ObjectRecord, PickleMachine, Vocabulary
from ganvas.checkpoints._torch import MAX_NAME_LENGTH, StoredTensor, TorchStorage, read_storage, read_tensors
from ganvas.checkpoints._torch import build_vocabulary as build_torch_vocabulary
from ganvas.checkpoints.checkpoint import Checkpoint
from ganvas.errors import GanvasError
from ganvas.generators.stylegan2 import KIND, VERSION
from ganvas.generators.stylegan2.architecture import MAX_WIDTH, RESOLUTIONS, StyleGAN2Architecture
from ganvas.generators.stylegan2.resampling import TAPS
from ganvas.generators.stylegan3.architecture import StyleGAN3Architecture

NETWORKS = ("G_ema", "G")
"""The networks of a snapshot that are taken, in order of preference: the averaged one first."""
NUMPY_DTYPES = {"f8": "<f8", "f4": "<f4", "i8": "<i8", "i4": "<i4", "b1": "|b1"}
MAX_DEPTH, MAX_MODULES = 8, 1000
"""The most modules inside one another, and in all."""


def read(data: memoryview, budget: ReadBudget) -> Checkpoint:
    """Read the generator in a pickle. Raises GanvasError for any other pickle."""
    value = PickleMachine(data, build_vocabulary(budget), budget).run()
    items = value if isinstance(value, dict) else {"a network": value}
    networks = {key: item for key, item in items.items() if _is_network(item)}
    name = next((name for name in (*NETWORKS, "a network") if name in networks), "")
    if not name or networks[name].kind != "Generator":
        held = (
            ", ".join(f"{format_printable(k)} ({format_printable(v.kind)})" for k, v in list(networks.items())[:8])
            or "no network"
        )
        raise GanvasError(f"{budget.origin} is a pickle with {held}: a Generator named G_ema or G is needed.")
    state, shape, notes = _read_generator(networks[name], budget)
    family = "stylegan2" if isinstance(shape, StyleGAN2Architecture) else "stylegan3"
    metadata = {"kind": KIND, "family": family, "version": VERSION, "shape": shape}
    held = ", ".join(format_printable(key) for key in list(items)[:8])
    return Checkpoint(family, "NVIDIA's pickle", state, metadata, (f"holds {held}; {name} is read", *notes))


def build_vocabulary(budget: ReadBudget) -> Vocabulary:
    """Build the vocabulary of NVIDIA's pickles."""

    def persistent(meta: Any) -> ObjectRecord:
        if not isinstance(meta, dict) or meta.get("type") != "class" or not isinstance(meta.get("class_name"), str):
            raise budget.damage("it has a persistent object that is no network")
        state = meta.get("state")
        return ObjectRecord(meta["class_name"], state if isinstance(state, dict) else {})

    def load(data: Any) -> TorchStorage:
        return read_storage(data, budget)

    def kind(code: Any, *rest: Any) -> ObjectRecord:
        if type(code) is not str or code not in NUMPY_DTYPES:
            raise budget.refusal(f"has numbers of NumPy's type {format_printable(code)}")
        return ObjectRecord("dtype", {"code": code})

    def scalar(dtype: Any, data: Any) -> float:
        if not isinstance(dtype, ObjectRecord) or dtype.kind != "dtype" or not isinstance(data, memoryview):
            raise budget.damage("a number of NumPy in it has no type or no bytes")
        code = kind(dtype.state.get("code")).state["code"]  # the file can have set another one since
        form = np.dtype(NUMPY_DTYPES[code])
        if len(data) != form.itemsize:
            raise budget.damage("a number of NumPy in it is cut short")
        return np.frombuffer(data, form)[0].item()

    def array(kind: Any, shape: Any, code: Any) -> ObjectRecord:
        return ObjectRecord("ndarray")  # its attributes, which follow, are read where one is needed

    def names(*lists: Any) -> set[str]:
        values = lists[0] if lists else []
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise budget.damage("it has a set that isn't of names")
        budget.spend(len(values))  # one list can be made into many sets
        return set(values)

    def mapping() -> dict[str, Any]:
        return {}

    own: dict[tuple[str, str], Call | None] = {
        ("torch_utils.persistence", "_reconstruct_persistent_obj"): persistent,
        ("torch.storage", "_load_from_bytes"): load,
        ("numpy", "dtype"): kind,
        ("numpy.core.multiarray", "scalar"): scalar,
        ("numpy._core.multiarray", "scalar"): scalar,
        ("numpy", "ndarray"): None,
        ("numpy.core.multiarray", "_reconstruct"): array,
        ("numpy._core.multiarray", "_reconstruct"): array,
        ("dnnlib.util", "EasyDict"): mapping,
        ("builtins", "set"): names,
    }
    shared = build_torch_vocabulary(budget)
    return {key: value for key, value in shared.items() if key[0] in ("torch._utils", "collections")} | own


def _is_network(value: Any) -> TypeGuard[ObjectRecord]:
    return isinstance(value, ObjectRecord) and "_modules" in value.state


def _read_generator(
    network: ObjectRecord, budget: ReadBudget
) -> tuple[dict[str, Tensor], StyleGAN2Architecture | StyleGAN3Architecture, list[str]]:
    stored: dict[str, StoredTensor] = {}
    layers: dict[str, dict[str, Any]] = {}
    _walk(network, "", stored, layers, budget)
    if nvidia_stylegan3.is_generator(stored):
        _check_layers(layers, budget)
        return *nvidia_stylegan3.read_generator(stored, layers, budget), []
    synthesis, mapping = (layers.get(part, {}) for part in ("synthesis", "mapping"))
    if "synthesis.b4.const" not in stored:
        raise GanvasError(
            f"{budget.origin} holds a generator of another kind: only StyleGAN2's and StyleGAN3's can be read."
        )
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
        architecture=_find_architecture(stored),
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
    _check_filters(read_tensors(stored, budget, {name: name for name in stored if name not in weights}), budget)
    return state, shape, notes


def _walk(
    network: ObjectRecord,
    name: str,
    stored: dict[str, StoredTensor],
    layers: dict[str, dict[str, Any]],
    budget: ReadBudget,
) -> None:
    """Collect parameters and buffers by name in ``stored``, and each module's plain attributes in ``layers``."""
    if name.count(".") > MAX_DEPTH or len(layers) > MAX_MODULES:
        raise budget.refusal("nests more modules than a generator has")
    layers[name] = network.state
    for part in ("_parameters", "_buffers"):
        items = network.state.get(part)
        for key, value in items.items() if isinstance(items, dict) else ():
            if isinstance(value, StoredTensor) and len(str(key)) <= MAX_NAME_LENGTH:
                stored[f"{name}.{key}".lstrip(".")] = value
    modules = network.state.get("_modules")
    for key, value in modules.items() if isinstance(modules, dict) else ():
        if isinstance(value, ObjectRecord) and len(str(key)) <= MAX_NAME_LENGTH:
            if key == "" or "." in str(key):  # torch allows no such names, and depth is counted by dots
                raise budget.refusal(f"has a module called {format_printable(key)!r}")
            _walk(value, f"{name}.{key}".lstrip("."), stored, layers, budget)


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


def _find_architecture(stored: dict[str, StoredTensor]) -> Literal["skip", "resnet", "orig"]:
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


def _check_filters(filters: dict[str, Tensor], budget: ReadBudget) -> None:
    taps = torch.tensor(TAPS) / sum(TAPS)
    for name, value in filters.items():
        if value.shape != (4, 4) or not torch.allclose(value, taps[:, None] * taps, atol=1e-6):
            raise GanvasError(f"{budget.origin} resamples by another filter than 1-3-3-1, in {format_printable(name)}.")
