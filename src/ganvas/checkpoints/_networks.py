"""Networks in a file: mappings of names to tensors, whole modules, and parts of either under a prefix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ganvas.checkpoints._budget import ReadBudget, format_printable
from ganvas.checkpoints._pickle import ObjectRecord
from ganvas.checkpoints._torch import MAX_NAME_LENGTH, StoredTensor, find_state_dicts

AVERAGED_NAMES = ("g_ema", "generator_ema", "ema_generator", "netg_ema", "generator_smooth", "g_running", "avgg", "ema")
"""What training scripts call the averaged generator, in lower case."""
GENERATOR_NAMES = ("decoder", "generator", "g", "netg")
MAX_DEPTH, MAX_MODULES = 8, 1000
"""The most modules inside one another, and in all."""
MODULE_STEPS = 10
"""What a module costs of the budget."""
MAX_PARTS = 64
"""The most generators in one file."""


@dataclass(frozen=True)
class StoredNetwork:
    """Weights by name, not read yet; of a pickled module also the class and the attributes of each layer."""

    path: str
    """The keys and prefixes that lead to it in the file, with dots between."""
    weights: Mapping[str, StoredTensor]
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    kind: str = ""
    neighbours: tuple[str, ...] = ()
    """What else stands beside it in the same mapping, by the beginning of its names: "encoder"."""

    @property
    def rank(self) -> int:
        """Its place in the order of preference: averaged generators, then others, then what has no such name."""
        order = (*AVERAGED_NAMES, *GENERATOR_NAMES)
        parts = self.path.lower().split(".")
        return min((order.index(part) for part in parts if part in order), default=len(order))


def find_networks(value: Any, budget: ReadBudget) -> list[StoredNetwork]:
    """Find all mappings of names to tensors and all pickled modules in a value, in mappings only."""
    found = [StoredNetwork(name, weights) for name, weights in find_state_dicts(value)]
    once = {id(record): (name, record) for name, record in iterate_modules(value)}
    return found + [StoredNetwork(name, *flatten_module(record, budget), record.kind) for name, record in once.values()]


def iterate_modules(value: Any) -> Iterator[tuple[str, ObjectRecord]]:
    """Yield the pickled modules of a value: itself, or those of a mapping by their keys."""
    items = value.items() if isinstance(value, dict) else [("", value)]
    for name, item in items:
        if isinstance(name, str) and isinstance(item, ObjectRecord) and "_modules" in item.state:
            yield name, item


def flatten_module(
    network: ObjectRecord, budget: ReadBudget
) -> tuple[dict[str, StoredTensor], dict[str, dict[str, Any]]]:
    """Collect the parameters and buffers of a pickled module by name, and each inner module's attributes."""
    stored: dict[str, StoredTensor] = {}
    layers: dict[str, dict[str, Any]] = {}
    _walk(network, "", stored, layers, budget)
    return stored, layers


def _walk(
    network: ObjectRecord,
    name: str,
    stored: dict[str, StoredTensor],
    layers: dict[str, dict[str, Any]],
    budget: ReadBudget,
) -> None:
    if name.count(".") > MAX_DEPTH or len(layers) > MAX_MODULES:
        raise budget.refusal("nests more modules than a generator has")
    budget.spend(MODULE_STEPS)  # one module can stand inside of many
    layers[name] = network.state
    for part in ("_parameters", "_buffers"):
        items = network.state.get(part)
        for key, value in items.items() if isinstance(items, dict) else ():
            budget.spend(1)
            if isinstance(value, StoredTensor) and len(str(key)) <= MAX_NAME_LENGTH:
                stored[f"{name}.{key}".lstrip(".")] = value
    modules = network.state.get("_modules")
    for key, value in modules.items() if isinstance(modules, dict) else ():
        if isinstance(value, ObjectRecord) and len(str(key)) <= MAX_NAME_LENGTH:
            if key == "" or "." in str(key):  # torch allows no such names, and depth is counted by dots
                raise budget.refusal(f"has a module called {format_printable(key)!r}")
            _walk(value, f"{name}.{key}".lstrip("."), stored, layers, budget)


def find_parts(networks: Sequence[StoredNetwork], markers: Sequence[str], budget: ReadBudget) -> list[StoredNetwork]:
    """Find the networks that have all weights of ``markers``, under any prefix, which is removed; the best name first."""
    found = []
    for network in networks:
        names = [name for name in network.weights if f".{name}".endswith(f".{markers[0]}")]
        for prefix in (name.removesuffix(markers[0]) for name in names):
            if all(prefix + marker in network.weights for marker in markers):
                if len(found) >= MAX_PARTS:
                    raise budget.refusal(f"holds more than {MAX_PARTS} generators")
                found.append(_cut_prefix(network, prefix))
    return sorted(found, key=lambda network: network.rank)


def _cut_prefix(network: StoredNetwork, prefix: str) -> StoredNetwork:
    path = ".".join(part for part in (network.path, prefix.rstrip(".")) if part)
    weights = {name.removeprefix(prefix): value for name, value in network.weights.items() if name.startswith(prefix)}
    layers = {name.removeprefix(prefix): value for name, value in network.layers.items() if name.startswith(prefix)}
    others = {name.partition(".")[0]: None for name in network.weights if not name.startswith(prefix)}
    return StoredNetwork(path, weights, layers, network.kind, tuple(others))


def describe_choice(parts: Sequence[StoredNetwork]) -> list[str]:
    """Describe in notes which of several generators is read, and what beside it is left out."""
    names = [format_printable(part.path) or "one without a name" for part in parts[:8]]
    notes = [f"holds {', '.join(names)}; {names[0]} is read"] if len(names) > 1 else []
    inside = {name.partition(".")[0] for part in parts for name in part.path.split(".")}
    others = [format_printable(name) for name in parts[0].neighbours if name not in inside]
    return [*notes, *([f"{', '.join(others[:8])} beside the generator is left out"] if others else [])]
