"""Editor files: the editor's metadata and its own tensors, both checked when they are read."""

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
"""The kind and version that a file's metadata states."""
TENSOR_PREFIX = "editor."
"""The prefix of the names of a method's own tensors in a file."""


@dataclass(frozen=True)
class EditorMetadata:
    """What every editor has and its file states. ``options`` and ``report`` are JSON objects."""

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


def write_editor(path: str | Path, own: Mapping[str, Tensor], metadata: EditorMetadata) -> None:
    """Write an editor's own tensors and its metadata. Raises GanvasError where the path can't be written."""
    fields = vars(metadata) | {
        "kind": KIND,
        "version": VERSION,
        "generator": {"name": metadata.generator_name, "fingerprint": metadata.generator},
    }
    description = {
        name: value for name, value in fields.items() if name not in ("gaussianize", "probe", "generator_name")
    }
    save_tensors(
        path, common_tensors(metadata) | {TENSOR_PREFIX + name: tensor for name, tensor in own.items()}, description
    )


def read_editor(path: str | Path) -> tuple[dict[str, Tensor], EditorMetadata]:
    """Read a method's own tensors and the editor's metadata; ``editors.load_editor`` builds the editor from them.

    Raises GanvasError for a file that is missing, cut short, or isn't an editor.
    """
    tensors, description = load_tensors(path)
    if description.get("kind") != KIND:
        raise GanvasError(f"{path} isn't an editor file of ganvas.")
    if description.get("version") != VERSION:
        raise GanvasError(
            f"{path} has version {description.get('version')!r} of editor files: this ganvas reads {VERSION}."
        )
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise GanvasError(f"{path} holds numbers that aren't finite.")
    try:
        metadata = _parse_metadata(description, tensors)
    except (KeyError, TypeError, IndexError):
        raise GanvasError(f"{path} is damaged: its description or tensors aren't an editor's.") from None
    own = {
        name.removeprefix(TENSOR_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(TENSOR_PREFIX)
    }
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor for name, tensor in own.items()}, metadata


def load_module(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors into a module on the "meta" device, after comparing names, shapes and dtypes.

    Raises GanvasError where they differ, so that a damaged file can't make a network of another size.
    """
    expected = module.state_dict()
    if expected.keys() != tensors.keys():
        name = sorted(expected.keys() ^ tensors.keys())[0]
        raise GanvasError(
            f"The editor's file is damaged: {name!r} is {'missing' if name in expected else 'unexpected'}."
        )
    for name, tensor in expected.items():
        if tensors[name].shape != tensor.shape or tensors[name].dtype != tensor.dtype:
            shape, expected_shape = tuple(tensors[name].shape), tuple(tensor.shape)
            raise GanvasError(
                f"The editor's file is damaged: {name!r} is {shape}, not {expected_shape}, or of another type."
            )
    module.load_state_dict(dict(tensors), assign=True)
    module.requires_grad_(False)


def common_tensors(metadata: EditorMetadata) -> dict[str, Tensor]:
    """Return the tensors that every editor has, by their names in files."""
    return {
        "gaussianize.scores": metadata.gaussianize.scores,
        "gaussianize.normals": metadata.gaussianize.normals,
        "probe.weight": metadata.probe.weight,
        "probe.bias": metadata.probe.bias,
    }


def _parse_metadata(description: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> EditorMetadata:
    """Build metadata from a file's description. Raises KeyError, TypeError or IndexError where it is damaged."""
    normal = Gaussianize(tensors["gaussianize.scores"], tensors["gaussianize.normals"])
    probe = Probe(tensors["probe.weight"], tensors["probe.bias"])
    attributes, kinds, owner = tuple(description["attributes"]), tuple(description["kinds"]), description["generator"]
    texts = (
        description["method"],
        description["scorer"],
        description["space"],
        owner["name"],
        owner["fingerprint"],
        *attributes,
    )
    k = len(attributes)
    if (
        not all(isinstance(text, str) for text in texts)
        or len(set(attributes)) != k
        or description["space"] not in ("w", "w+")
    ):
        raise TypeError
    if (
        len(kinds) != k
        or not set(kinds) <= set(KINDS)
        or not all(isinstance(description[x], dict) for x in ("options", "report"))
    ):
        raise TypeError
    knots = normal.scores.shape
    if knots != normal.normals.shape or len(knots) != 2 or knots[0] < 2 or knots[1] != k:
        raise TypeError
    if not all((x.diff(dim=0) > 0).all() for x in (normal.scores, normal.normals)):
        raise TypeError
    if probe.weight.ndim != 2 or probe.weight.shape[1] != k or probe.bias.shape != (k,):
        raise TypeError
    description = dict(description) | {"attributes": attributes, "kinds": kinds, "gaussianize": normal, "probe": probe}
    description |= {"generator": owner["fingerprint"], "generator_name": owner["name"]}
    return EditorMetadata(**{name: description[name] for name in EditorMetadata.__dataclass_fields__})
