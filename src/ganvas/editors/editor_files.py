"""An editor as a file: what it says of itself, its own tensors, and both read with suspicion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ganvas.data.gaussianize import Gaussianize
from ganvas.data.probe import Probe
from ganvas.errors import GanvasError
from ganvas.io.files import load_tensors, save_tensors
from ganvas.scorers.base import KINDS

KIND, VERSION = "editor", 1
"""What a file's description says it is."""
STATE = "editor."
"""Before the names of a method's own tensors in a file."""


@dataclass(frozen=True)
class EditorMetadata:
    """What every editor knows of itself, and what its file says. ``options`` and ``report`` are JSON objects."""

    method: str
    attributes: tuple[str, ...]
    kinds: tuple[str, ...]
    generator: str
    generator_name: str
    scorer: str
    space: str
    gaussianize: Gaussianize
    probe: Probe
    options: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)


def write_editor(path: str | Path, own: Mapping[str, Tensor], about: EditorMetadata) -> None:
    """Write an editor's own tensors and what it knows of itself. Raises GanvasError where the path can't be written."""
    known = vars(about) | {
        "kind": KIND,
        "version": VERSION,
        "generator": {"name": about.generator_name, "fingerprint": about.generator},
    }
    told = {name: value for name, value in known.items() if name not in ("gaussianize", "probe", "generator_name")}
    save_tensors(path, common_tensors(about) | {STATE + name: tensor for name, tensor in own.items()}, told)


def read_editor(path: str | Path) -> tuple[dict[str, Tensor], EditorMetadata]:
    """A method's own tensors and what the editor knows of itself; ``editors.load_editor`` makes the editor of them.

    Raises GanvasError for a file that is missing, cut short, or no editor.
    """
    tensors, told = load_tensors(path)
    if told.get("kind") != KIND:
        raise GanvasError(f"{path} isn't an editor that ganvas wrote.")
    if told.get("version") != VERSION:
        raise GanvasError(f"{path} has version {told.get('version')!r} of editor files: this ganvas reads {VERSION}.")
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise GanvasError(f"{path} holds numbers that aren't finite.")
    try:
        known = _known(told, tensors)
    except (KeyError, TypeError, IndexError):
        raise GanvasError(f"{path} is damaged: its description or tensors aren't an editor's.") from None
    own = {name.removeprefix(STATE): tensor for name, tensor in tensors.items() if name.startswith(STATE)}
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in own.items()}, known


def load_module(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors into a module, made on the "meta" device, after comparing names, shapes and types.

    Raises GanvasError where they differ: a damaged file can't make a network of another size.
    """
    wanted = module.state_dict()
    if wanted.keys() != tensors.keys():
        name = sorted(wanted.keys() ^ tensors.keys())[0]
        raise GanvasError(f"The editor's file is damaged: {name!r} is {'missing' if name in wanted else 'unexpected'}.")
    for name, tensor in wanted.items():
        if tensors[name].shape != tensor.shape or tensors[name].dtype != tensor.dtype:
            found, expected = tuple(tensors[name].shape), tuple(tensor.shape)
            raise GanvasError(f"The editor's file is damaged: {name!r} is {found}, not {expected}, or of another type.")
    module.load_state_dict(dict(tensors), assign=True)
    module.requires_grad_(False)


def common_tensors(about: EditorMetadata) -> dict[str, Tensor]:
    """The tensors that every editor has."""
    return {
        "gaussianize.scores": about.gaussianize.scores,
        "gaussianize.normals": about.gaussianize.normals,
        "probe.weight": about.probe.weight,
        "probe.bias": about.probe.bias,
    }


def _known(told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> EditorMetadata:
    """Raises KeyError or TypeError where something is missing or of another form."""
    normal = Gaussianize(tensors["gaussianize.scores"], tensors["gaussianize.normals"])
    probe = Probe(tensors["probe.weight"], tensors["probe.bias"])
    attributes, kinds, owner = tuple(told["attributes"]), tuple(told["kinds"]), told["generator"]
    texts = (told["method"], told["scorer"], told["space"], owner["name"], owner["fingerprint"], *attributes)
    k = len(attributes)
    if (
        not all(isinstance(text, str) for text in texts)
        or len(set(attributes)) != k
        or told["space"] not in ("w", "w+")
    ):
        raise TypeError
    if (
        len(kinds) != k
        or not set(kinds) <= set(KINDS)
        or not all(isinstance(told[x], dict) for x in ("options", "report"))
    ):
        raise TypeError
    knots = normal.scores.shape
    if knots != normal.normals.shape or len(knots) != 2 or knots[0] < 2 or knots[1] != k:
        raise TypeError
    if not all((x.diff(dim=0) > 0).all() for x in (normal.scores, normal.normals)):
        raise TypeError
    if probe.weight.ndim != 2 or probe.weight.shape[1] != k or probe.bias.shape != (k,):
        raise TypeError
    told = dict(told) | {"attributes": attributes, "kinds": kinds, "gaussianize": normal, "probe": probe}
    told |= {"generator": owner["fingerprint"], "generator_name": owner["name"]}
    return EditorMetadata(**{name: told[name] for name in EditorMetadata.__dataclass_fields__})
