"""Published directions as an editor: read without running code, fitted to a generator's rows, calibrated.

Files are .npy, .npz, .pt or safetensors, of shape (w_dim,), (1, w_dim) or (rows, w_dim). The rows are the generator's own, or
those of a StyleGAN2 of any resolution: https://github.com/NVlabs/stylegan2, two for each resolution but the first.
GANSpace's and SeFa's files hold many directions, of which one goes by its number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from math import log2
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.data.dataset import LatentDataset
from ganvas.data.gaussianize import Gaussianize
from ganvas.data.probe import Probe
from ganvas.editors._component_files import check_no_channels, read_arrays, read_components
from ganvas.editors.base import Editor, EditorMetadata, LinearEditor, compute_response_gains
from ganvas.editors.masked import MaskedEditor
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator, sample
from ganvas.generators.stylegan2.rows import is_stylegan2, list_row_resolutions
from ganvas.io.files import load_tensors, read_npy
from ganvas.seeds import LABEL_SEED
from ganvas.types import W

IMPORTED = "imported"
"""The method of these editors."""
SAMPLED_CODES = 4000
"""The number of codes on which a standard deviation is measured where there are no labels."""
READABLE_SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".safetensors")
MIN_RESPONSE = 1e-3
"""As a share of the direction's norm: rows whose mean is shorter have no direction in W."""


@dataclass(frozen=True)
class DirectionScale:
    """A calibrated direction: what a change of 1 is, its probe and Gaussianisation (one column each), and in words."""

    direction: Tensor
    moved: float
    gain: float
    weight: Tensor
    bias: Tensor
    normal: Gaussianize
    kind: str
    description: str


def import_directions(
    files: Mapping[str, str | Path],
    generator: Generator,
    data: LatentDataset | None = None,
    like: Mapping[str, str] | None = None,
    components: Mapping[str, int] | None = None,
) -> Editor:
    """Make an editor with one attribute for each name in ``files``.

    ``components``: of names whose files hold many directions (GANSpace's, SeFa's), the number of the one to take, from 0.

    A name that is one of ``data``'s attributes, or is ``like`` one, is calibrated as fitted editors are: a change of 1
    moves the probe's reading of that attribute by 1. Where the direction moves it down, ``name`` reads its opposite; but
    a direction with the attribute's very own name is turned around. Any other name has natural units: a change of 1
    moves codes by one standard deviation of W along the direction. ``report`` says which was done.

    Raises GanvasError for files that can't be read or don't fit the generator, and unknown names in ``like``.
    """
    like = dict(like or {})
    known_attributes = data.attributes if data is not None else ()
    for name, attribute in like.items():
        if name not in files:
            raise unknown("direction", name, files)
        if attribute not in known_attributes:
            raise unknown("attribute", attribute, known_attributes or ["none: there are no labels for this generator"])
    like = {name: name for name in files if name in known_attributes} | like
    components = dict(components or {})
    directions = {name: read_direction(path, name, components.get(name)) for name, path in files.items()}
    fitted = {name: fit_rows(direction, generator, files[name]) for name, direction in directions.items()}
    w = sample(generator, SAMPLED_CODES, 1.0, LABEL_SEED)[:, 0] if data is None else data.w.to(generator.device)
    rows, stacked = _stack_directions(list(fitted.values()), generator.num_ws)
    scales = [
        _scale_direction(name, direction, rows, w, data, like.get(name))
        for name, direction in zip(fitted, stacked, strict=True)
    ]
    editor = LinearEditor(
        _build_metadata(generator, data, files, directions, (like, components), scales),
        torch.stack([s.direction for s in scales]).float(),
    )
    return editor if len(rows) == generator.num_ws else MaskedEditor(editor, rows, generator.num_ws)


def read_direction(path: str | Path, name: str = "", component: int | None = None) -> Float[Tensor, "rows w_dim"]:
    """Read the direction in a file, one row or several. Of several tensors in a file the one called ``name`` is taken.

    ``component``: the number, from 0, of the direction in a file that has many.
    Raises GanvasError where the file is missing, of another format, damaged, would have to run code to be read, or holds
    anything but finite numbers that aren't all 0.
    """
    path, value = Path(path), _read_file(Path(path))
    axes = read_components(path, value) if isinstance(value, dict) else None
    if component is not None:
        if axes is None:
            raise GanvasError(f"{path} holds no numbered components: GANSpace's (.npz) and SeFa's (eigvec) files do.")
        if not 0 <= component < len(axes):
            raise GanvasError(f"{path} has no component {component}: they go from 0 to {len(axes) - 1}.")
        value = axes[component]
    elif axes is not None:
        raise GanvasError(f"{path} holds {len(axes)} components: choose one by its number, with --component 0.")
    if isinstance(value, dict):
        if name not in value and len(value) != 1:
            raise GanvasError(f"{path} holds {len(value)} tensors and none called {name!r}: one direction is needed.")
        value = value[name] if name in value else next(iter(value.values()))
    if not isinstance(value, Tensor) or value.is_complex() or value.layout != torch.strided or value.is_quantized:
        raise GanvasError(f"{path} holds no direction: a tensor of numbers is needed.")
    direction = value.detach().float()
    while direction.ndim > 2 and len(direction) == 1:
        direction = direction[0]
    if direction.ndim not in (1, 2) or not direction.numel():
        raise GanvasError(f"{path} holds {tuple(value.shape)} numbers: a direction is (w_dim,) or (rows, w_dim).")
    if not torch.isfinite(direction).all() or not direction.any():
        raise GanvasError(f"{path} is no direction: its numbers must be finite, and not all 0.")
    return direction.reshape(-1, direction.shape[-1])


def count_components(path: str | Path) -> int:
    """Count the numbered directions of a GANSpace or SeFa file; 0 for any other. Raises GanvasError as ``read_direction``."""
    value = _read_file(Path(path))
    axes = read_components(Path(path), value) if isinstance(value, dict) else None
    return 0 if axes is None else len(axes)


def _read_file(path: Path) -> Any:
    """Read the tensor in a file, or its tensors by name."""
    suffix = path.suffix.lower()
    check_no_channels(path)
    if suffix not in READABLE_SUFFIXES:
        raise GanvasError(
            f"{path} isn't a file of directions: its name must end in one of {', '.join(READABLE_SUFFIXES)}."
        )
    if not path.is_file():
        raise GanvasError(f"There is no file {path}.")
    if suffix == ".npy":
        return torch.from_numpy(read_npy(path).astype("float32"))
    if suffix == ".npz":
        return read_arrays(path)
    if suffix == ".safetensors":
        return load_tensors(path)[0]
    from ganvas.checkpoints import read_tensors

    return read_tensors(path)


def fit_rows(
    direction: Float[Tensor, "rows w_dim"], generator: Generator, path: str | Path
) -> Float[Tensor, "num_ws w_dim"]:
    """Fit a direction to the generator's rows: each is the mean of the foreign rows at its resolution.

    Where no foreign row acts at that resolution, those of the nearest are taken. Foreign rows are StyleGAN2's: 4, 8, 8,
    16, 16, …, and the largest once more. Raises GanvasError for another width or number of rows.
    """
    n, width = direction.shape
    if width != generator.w_dim:
        need = f"(1, {generator.w_dim}) or (rows, {generator.w_dim})"
        raise GanvasError(f"{path} holds a direction of width {width}: {generator.name!r} needs {need}.")
    own = generator.row_resolutions
    if n in (1, len(own)):
        return direction.expand(len(own), -1).to(generator.device)
    if not (generator.has_stylegan2_rows and is_stylegan2(n)):
        others = ", or StyleGAN2's (18 for 1024 pixels, 2 less for each half)" if generator.has_stylegan2_rows else ""
        expected = f"1 or {len(own)} as {generator.name!r} has{others}"
        raise GanvasError(f"{path} holds a direction of {n} rows: it must have {expected}.")
    foreign = torch.tensor(list_row_resolutions(n))
    rows = []
    for resolution in own:
        distances = (foreign.log2() - log2(resolution)).abs()
        rows.append(direction[distances == distances.min()].mean(0))
    return torch.stack(rows).to(generator.device)


def _stack_directions(directions: list[Tensor], num_ws: int) -> tuple[tuple[int, ...], Tensor]:
    """Return the rows that any direction moves, and the directions: (n, w_dim) if these rows move alike, else by rows."""
    stacked = torch.stack(directions)
    rows = tuple(stacked.ne(0).any(2).any(0).nonzero().flatten().tolist())
    alike = all(torch.equal(stacked[:, row], stacked[:, rows[0]]) for row in rows)
    return rows, stacked[:, rows[0]] if alike else stacked


def _scale_direction(
    name: str, direction: Tensor, rows: tuple[int, ...], w: W, data: LatentDataset | None, like: str | None
) -> DirectionScale:
    """Scale ``direction`` to a change of 1, by the attribute ``like`` of ``data`` or in natural units."""
    mean = direction if direction.ndim == 1 else direction[list(rows)].mean(0)
    if mean.norm() < MIN_RESPONSE * direction.norm() / len(rows) ** 0.5:
        raise GanvasError(
            f"The rows of {name!r} cancel each other out, so nothing of it can be read in W: leave it out."
        )
    unit = mean / mean.norm()
    along = w @ unit
    natural = direction * (along.std() / mean.norm())
    if data is None or like is None:
        weight = (unit / along.std())[:, None]
        description = f"{name}: natural units, a change of 1 is one standard deviation of W along it"
        return DirectionScale(
            natural, 1.0, 1.0, weight, -(w.mean(0) @ weight), _identity_gaussianize(data), "value", description
        )
    k = data.attributes.index(like)
    moved = float(unit @ data.probe.weight[:, k].to(unit)) * float(along.std())
    turned = moved < 0 and name == like
    sign = -1.0 if moved < 0 else 1.0
    gain = float(compute_response_gains(torch.tensor(abs(moved))))
    description = f"{name}: a change of 1 moves {like} {'down' if moved < 0 and not turned else 'up'} by " + (
        "1" if abs(gain * moved * sign - 1) < 0.01 else f"{abs(gain * moved):.2f} (it hardly responds)"
    )
    description += "; it was turned around" if turned else ""
    normal, probe, kind = data.gaussianize.select([k]), data.probe.select([k]), data.kinds[k]
    if sign < 0 and not turned:
        normal, probe = Gaussianize(-normal.scores.flip(0), -normal.normals.flip(0)), Probe(-probe.weight, -probe.bias)
        kind = kind if kind == "probability" else "value"
    scaled = natural * gain * (sign if turned else 1.0)
    return DirectionScale(scaled, moved, gain, probe.weight, probe.bias, normal, kind, description)


def _identity_gaussianize(data: LatentDataset | None) -> Gaussianize:
    """Make the identity, for scores that are readings already, with as many knots as the data's."""
    knots = 2 if data is None else len(data.gaussianize.scores)
    line = torch.linspace(-10, 10, knots, dtype=torch.float64)[:, None]
    return Gaussianize(line, line)


def _build_metadata(
    generator: Generator,
    data: LatentDataset | None,
    files: Mapping[str, str | Path],
    directions: Mapping[str, Tensor],
    choices: tuple[Mapping[str, str], Mapping[str, int]],
    scales: list[DirectionScale],
) -> EditorMetadata:
    """Build the metadata; ``choices``: the attribute that a name is like, and the component that it is."""
    like, components = choices

    def concatenate(parts: list[Tensor]) -> Tensor:
        return torch.cat([part.cpu() for part in parts], -1)

    origins = {
        name: {
            "file": Path(path).name,
            "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
            "shape": list(directions[name].shape),
            **({"component": components[name]} if name in components else {}),
        }
        for name, path in files.items()
    }
    report = {
        "units": [s.description for s in scales],
        "moved": {name: round(s.moved, 4) for name, s in zip(files, scales, strict=True)},
        "gain": {name: round(s.gain, 4) for name, s in zip(files, scales, strict=True)},
    }
    return EditorMetadata(
        IMPORTED,
        tuple(files),
        tuple(s.kind for s in scales),
        generator.fingerprint,
        generator.name,
        data.scorer if data is not None else "none:none",
        "w" if scales[0].direction.ndim == 1 else "w+",
        Gaussianize(concatenate([s.normal.scores for s in scales]), concatenate([s.normal.normals for s in scales])),
        Probe(concatenate([s.weight for s in scales]).float(), concatenate([s.bias for s in scales]).float()),
        {"files": origins, "like": dict(like)},
        report,
    )
