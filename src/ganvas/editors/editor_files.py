"""Editor files: the editor's metadata and its own tensors, both checked when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from ganvas.data.gaussianize import Gaussianize
from ganvas.data.probe import Probe
from ganvas.errors import GanvasError, unknown
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.fingerprints import NamedTool
from ganvas.scorers.base import Kind, Unit
from ganvas.validation import parse, validated

HEADER_FIELDS = ("method", "attributes", "kinds", "scorer", "space", "options", "report")
"""What a header states of the metadata as it is."""
COMMON_TENSORS = ("gaussianize.scores", "gaussianize.normals", "probe.weight", "probe.bias")
"""The names of the tensors that every editor has."""
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
    units: Mapping[str, str] = field(default_factory=dict)


@validated
class EditorHeader:
    """The part of the metadata that a file states as JSON."""

    method: str
    attributes: tuple[str, ...]
    kinds: tuple[Kind, ...]
    generator: NamedTool
    scorer: str
    space: Literal["w", "w+"]
    options: dict[str, Any]
    report: dict[str, Any]
    kind: Literal["editor"] = "editor"
    version: Literal[1] = 1
    units: dict[str, Unit] | None = None
    """The units of attributes that have one; older files have none."""
    WRITTEN_IF_SET: ClassVar = ("units",)

    def __post_init__(self) -> None:
        if len(set(self.attributes)) != len(self.attributes) or len(self.kinds) != len(self.attributes):
            raise GanvasError("an editor's attributes differ and have one kind each.")
        for name in self.units or ():
            if name not in self.attributes:
                raise unknown("attribute of units", name, self.attributes)


def write_editor(path: str | Path, own: Mapping[str, Tensor], metadata: EditorMetadata) -> None:
    """Write an editor's own tensors and its metadata. Raises GanvasError where the path can't be written."""
    owner = NamedTool(metadata.generator_name, metadata.generator)
    stated: dict[str, Any] = {name: getattr(metadata, name) for name in HEADER_FIELDS}
    header = asdict(EditorHeader(**stated, generator=owner, units=dict(metadata.units)))
    if not metadata.units:
        header.pop("units")
    tensors = {TENSOR_PREFIX + name: tensor for name, tensor in own.items()}
    save_tensors(path, collect_common_tensors(metadata) | tensors, header)


def read_editor(path: str | Path) -> tuple[dict[str, Tensor], EditorMetadata]:
    """Read a method's own tensors and the editor's metadata; ``editors.load_editor`` builds the editor from them.

    Raises GanvasError for a file that is missing, cut short, or isn't an editor.
    """
    tensors, description = load_tensors(path)
    if description.get("kind") != "editor":
        raise GanvasError(f"{path} isn't an editor file of ganvas.")
    header = parse(EditorHeader, description, path, complete=True)
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise GanvasError(f"{path} holds numbers that aren't finite.")
    metadata = _add_tensors(header, tensors)
    if metadata is None:
        raise GanvasError(f"{path} is damaged: it lacks tensors that every editor has, or their shapes don't fit.")
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


def collect_common_tensors(metadata: EditorMetadata) -> dict[str, Tensor]:
    """Return the tensors that every editor has, by their names in files."""
    normal, probe = metadata.gaussianize, metadata.probe
    return dict(zip(COMMON_TENSORS, (normal.scores, normal.normals, probe.weight, probe.bias), strict=True))


def _add_tensors(header: EditorHeader, tensors: Mapping[str, Tensor]) -> EditorMetadata | None:
    """Build metadata from a file's header and tensors; None where tensors are missing or don't fit."""
    common, k = [tensors.get(name) for name in COMMON_TENSORS], len(header.attributes)
    scores, normals, weight, bias = common
    if scores is None or normals is None or weight is None or bias is None:
        return None
    knots = scores.shape
    if knots != normals.shape or len(knots) != 2 or knots[0] < 2 or knots[1] != k:
        return None
    if not all((x.diff(dim=0) > 0).all() for x in (scores, normals)):
        return None
    if weight.ndim != 2 or weight.shape[1] != k or bias.shape != (k,):
        return None
    stated: dict[str, Any] = {name: getattr(header, name) for name in HEADER_FIELDS}
    stated |= {"generator": header.generator.fingerprint, "generator_name": header.generator.name}
    stated["units"] = header.units or {}
    return EditorMetadata(**stated, gaussianize=Gaussianize(scores, normals), probe=Probe(weight, bias))
