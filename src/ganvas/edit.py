"""What an editor is: it moves codes so that attributes change. Its file, and editors that are directions."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.dataset import LatentDataset
from ganvas.errors import GanvasError, unknown
from ganvas.files import load_tensors, save_tensors
from ganvas.gaussianize import Gaussianize
from ganvas.generator import Generator, hash_weights
from ganvas.probe import Probe
from ganvas.scorer import KINDS
from ganvas.types import Scores, W, WPlus

KIND, VERSION = "editor", 1
"""What a file's description says it is."""
STATE = "editor."
"""Before the names of a method's own tensors in a file."""
GAINS = (0.2, 10.0)
"""The bounds of what a change is multiplied with: an attribute that hardly responds isn't driven out of the distribution."""


@dataclass(frozen=True)
class About:
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


def about(
    method: str, data: LatentDataset, generator: Generator, options: Mapping[str, Any], report: Mapping[str, Any]
) -> About:
    """What an editor fitted on ``data`` knows of itself."""
    return About(
        method,
        data.attributes,
        data.kinds,
        data.generator,
        generator.name,
        data.scorer,
        data.space,
        data.gaussianize,
        data.probe,
        options,
        report,
    )


class Editor(nn.Module, ABC):
    """Exists only fitted; holds no generator.

    A change of 1.0 is one standard deviation of an attribute's Gaussianised score, as the ``probe`` reads it, the same
    probe for every method; for a count it is one object. A change of 0 is the identity, exactly.
    """

    method: str
    attributes: tuple[str, ...]
    generator: str
    """The fingerprint of the generator whose codes it moves."""
    space: str
    """Where it learned, "w" or "w+"; it edits both."""
    gaussianize: Gaussianize
    probe: Probe
    """Both have one column for each of ``attributes``."""
    kinds: tuple[str, ...] = ()
    """What the scorer's columns hold, as ``Scorer.kinds``."""
    generator_name: str = "?"
    scorer: str = "?"
    options: Mapping[str, Any] = {}
    """What ``fit`` was told."""
    report: Mapping[str, Any] = {}
    """What ``fit`` measured on held-out codes."""

    def describe(self, about: About) -> None:
        """Take on what every editor knows; constructors call it."""
        for name, value in vars(about).items():
            setattr(self, name, value)

    @abstractmethod
    def shift(self, w: W, changes: Scores) -> W:
        """What to add to each row of a code whose rows' mean is ``w`` (n, w_dim), for changes (n, attributes)."""

    def edit(self, ws: WPlus, changes: Mapping[str, float | Tensor]) -> WPlus:
        """Codes moved by ``changes`` (attribute -> number, or one number a code); ``ws`` is left as it is.

        Several attributes are moved together. Every row of a code moves by the shift found for the rows' mean.
        Raises GanvasError for an unknown attribute, a change that isn't finite, or as many changes as there aren't codes.
        """
        wanted = self.changes(changes, ws)
        moved = wanted.ne(0).any(1)
        if not moved.any():
            return ws
        shift = ws.new_zeros(ws.shape[0], ws.shape[2])
        shift[moved] = self.shift(ws[moved].mean(1), wanted[moved])
        return ws + shift[:, None]

    def read(self, ws: WPlus) -> Scores:
        """Where codes stand, (n, attributes), in the units of ``changes``: set a value by editing ``target - read``."""
        return self.probe(ws.mean(1))

    def changes(self, changes: Mapping[str, float | Tensor], ws: WPlus) -> Scores:
        """``changes`` as a matrix (n, attributes), checked."""
        matrix = ws.new_zeros(ws.shape[0], len(self.attributes))
        for name, change in changes.items():
            if name not in self.attributes:
                raise unknown("attribute", name, self.attributes)
            value = torch.as_tensor(change, dtype=ws.dtype, device=ws.device)
            if not torch.isfinite(value).all():
                raise GanvasError(f"The change of {name!r} is {change}: it must be a finite number.")
            if value.numel() not in (1, len(ws)):
                raise GanvasError(f"{value.numel()} changes of {name!r} for {len(ws)} codes: give one, or one a code.")
            matrix[:, self.attributes.index(name)] = value
        return matrix


@final
class LinearEditor(Editor):
    """Moves every code along fixed ``directions`` (attributes, w_dim), of which each moves the probe's reading by 1."""

    def __init__(self, about: About, directions: Float[Tensor, "attributes w_dim"]) -> None:
        super().__init__()
        self.describe(about)
        self.register_buffer("directions", directions)

    def shift(self, w: W, changes: Scores) -> W:
        """The sum of the directions by their changes, wherever the code is."""
        return changes @ self.get_buffer("directions").to(changes)

    def without(self, attribute: str, *others: str) -> LinearEditor:
        """The editor whose direction of ``attribute`` is orthogonal to those of ``others``, at the same calibration.

        InterfaceGAN's conditional manipulation (Shen et al., 2020, section 3.3).
        Raises GanvasError for unknown names, and where nothing of the direction is left.
        """
        for name in (attribute, *others):
            if name not in self.attributes:
                raise unknown("attribute", name, self.attributes)
        directions, k = self.get_buffer("directions").clone(), self.attributes.index(attribute)
        kept = directions[[self.attributes.index(name) for name in others]]
        rest = directions[k] - torch.linalg.pinv(kept) @ (kept @ directions[k])
        response = rest @ self.probe.weight[:, k].to(rest)
        if others and (response < 1e-2 or attribute in others):
            raise GanvasError(f"Nothing of the direction of {attribute!r} is left beside {', '.join(others)}.")
        directions[k] = rest / response
        return LinearEditor(about_of(self), directions)


def calibrate(directions: Float[Tensor, "attributes w_dim"], probe: Probe) -> tuple[Tensor, Tensor]:
    """Directions scaled so that each moves the probe's reading of its attribute by 1, and the gains that did it.

    ``directions`` come in natural units, a standard deviation of something each; gains are bounded by ``GAINS``.
    """
    gain = gains((directions * probe.weight.T.to(directions)).sum(1))
    return directions * gain[:, None], gain


def gains(responses: Tensor) -> Tensor:
    """What changes are multiplied with so that readings move by 1, from how far they move by themselves; bounded.

    Where they move the wrong way no gain helps, and the least does the least harm.
    """
    return torch.where(responses > 0, 1 / responses.clamp(min=1e-6), GAINS[0]).clamp(*GAINS)


def about_of(editor: Editor) -> About:
    """The inverse of ``Editor.describe``."""
    return About(**{name: getattr(editor, name) for name in About.__dataclass_fields__})


def fingerprint(editor: Editor) -> str:
    """sha256 of all that decides how an editor moves and reads codes: equal on any device, before and after saving."""
    told = [editor.method, editor.attributes, editor.generator, editor.space, dict(editor.options)]
    text = json.dumps(told, sort_keys=True)
    return hashlib.sha256((text + hash_weights((_common(editor) | editor.state_dict()).items())).encode()).hexdigest()


def save_editor(editor: Editor, path: str | Path, half: bool = False) -> None:
    """Write an editor as one safetensors file; equal editors give equal bytes. ``half``: its matrices in float16.

    Raises GanvasError where the path can't be written, or a number is too large for float16.
    """
    own = {name: tensor.detach() for name, tensor in editor.state_dict().items()}
    if half:
        own = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in own.items()}
        if not all(torch.isfinite(tensor).all() for tensor in own.values()):
            raise GanvasError("This editor has numbers too large for float16: save it in full.")
    known = vars(about_of(editor)) | {
        "kind": KIND,
        "version": VERSION,
        "generator": {"name": editor.generator_name, "fingerprint": editor.generator},
    }
    told = {name: value for name, value in known.items() if name not in ("gaussianize", "probe", "generator_name")}
    save_tensors(path, _common(editor) | {STATE + name: tensor for name, tensor in own.items()}, told)


def read_editor(path: str | Path) -> tuple[dict[str, Tensor], About]:
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


def fill(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
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


def _common(editor: Editor) -> dict[str, Tensor]:
    return {
        "gaussianize.scores": editor.gaussianize.scores,
        "gaussianize.normals": editor.gaussianize.normals,
        "probe.weight": editor.probe.weight,
        "probe.bias": editor.probe.bias,
    }


def _known(told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> About:
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
    return About(**{name: told[name] for name in About.__dataclass_fields__})
