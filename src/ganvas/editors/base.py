"""Editors: they move codes so that attributes change. Also linear editors, which can be combined and orthogonalised."""

from __future__ import annotations

import hashlib
import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.data.dataset import LatentDataset
from ganvas.data.gaussianize import Gaussianize
from ganvas.data.probe import Probe
from ganvas.editors._reach import find_shortfall, measure_reach
from ganvas.editors.editor_files import EditorMetadata, collect_common_tensors, load_module, read_editor, write_editor
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator
from ganvas.io.fingerprints import hash_weights
from ganvas.precision import accept_any_float, accept_any_floats_in, convert_to_normal
from ganvas.types import Scores, W, WPlus

__all__ = [
    "Editor",
    "EditorMetadata",
    "LinearEditor",
    "build_metadata",
    "calibrate",
    "collect_metadata",
    "compute_response_gains",
    "find_shortfall",
    "find_unresponsive",
    "fingerprint",
    "format_report",
    "load_module",
    "measure_reach",
    "read_editor",
    "save_editor",
    "scale_to_deviation",
]

T = TypeVar("T")
GAIN_BOUNDS = (0.2, 10.0)
"""The bounds of a gain, so that an attribute that hardly responds doesn't drive codes out of the distribution."""


def build_metadata(
    method: str,
    data: LatentDataset,
    generator: Generator,
    options: Mapping[str, Any],
    report: Mapping[str, Any] | None = None,
) -> EditorMetadata:
    """Build the metadata of an editor that ``method`` fitted on ``data``.

    ``options`` are those of ``fit``, by which it can be fitted again; ``report`` is what was measured on held-out codes, a
    number or a mapping from attributes to numbers by its name, which `ganvas fit` prints.
    """
    return EditorMetadata(
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
        {} if report is None else report,
        data.units,
    )


class Editor(nn.Module, ABC):
    """A fitted map that moves codes so that named attributes change; it holds no generator.

    A change of 1.0 is one standard deviation of an attribute's Gaussianised score, as ``probe`` reads it, the same
    probe for every method; for a count it is one object. A change of 0 is the identity, exactly.
    Codes may have any float dtype, in any autograd mode: they come back in the dtype given, readings are float32.
    """

    method: str
    attributes: tuple[str, ...]
    generator: str
    """The fingerprint of the generator whose codes are moved."""
    space: str
    """The space of the codes that it was fitted on, "w" or "w+"; both can be edited."""
    gaussianize: Gaussianize
    probe: Probe
    """Like ``gaussianize``, with one column for each of ``attributes``."""
    kinds: tuple[str, ...] = ()
    """The kinds of the scores, as ``Scorer.kinds``."""
    generator_name: str = "?"
    scorer: str = "?"
    options: Mapping[str, Any] = {}
    """The options of ``fit``."""
    report: Mapping[str, Any] = {}
    """Measurements of ``fit`` on held-out codes."""
    units: Mapping[str, str] = {}
    """The units of attributes that have one, as ``Scorer.units``."""

    limits = ""
    """A sentence on what the generator can't draw, which ends warnings of edits that fall short; "" where there is none."""
    may_fall_short = False
    """Whether edits may change readings by less than is asked for: then ``edit`` warns of it."""

    input_dtype = torch.float32
    """The dtype that shifts are computed in; the sum of codes and shifts is as exact as codes are."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        accept_any_floats_in(cls, {"shift": None, "shift_rows": None, "read": torch.float32})

    def set_metadata(self, metadata: EditorMetadata) -> None:
        """Set the attributes that all editors have; constructors call it.

        Args:
            metadata: Method, attributes, generator, probe and all else that is stored with an editor.
        """
        for name, value in vars(metadata).items():
            setattr(self, name, value)
        # Copies, so that moving the editor to a device doesn't move the data's modules.
        self.gaussianize = Gaussianize(metadata.gaussianize.scores, metadata.gaussianize.normals)
        self.probe = Probe(metadata.probe.weight, metadata.probe.bias)

    def with_search_steps(self, steps: int) -> Editor:
        """Return the same editor, but searching each code for another number of steps.

        Args:
            steps: The number of steps.

        Returns:
            An editor with the same numbers, which leaves this one as it is.

        Raises:
            GanvasError: The editor doesn't search codes, or not in so many steps.
        """
        raise GanvasError(
            f"An editor of the method {self.method!r} doesn't search codes: leave the number of steps out."
        )

    @abstractmethod
    def shift(self, w: W, changes: Scores) -> W:
        """Compute what is added to every row of a code.

        Args:
            w: The mean of each code's rows (n, w_dim).
            changes: Changes (n, attributes), 1.0 a standard deviation (or an object).

        Returns:
            Shifts (n, w_dim).
        """

    def edit(self, ws: WPlus, changes: Mapping[str, float | Tensor]) -> WPlus:
        """Move codes so that attributes change, several together; ``ws`` itself is not modified.

        All rows of a code move by the shift for the rows' mean, except with editors that override ``shift_rows``. Warns where
        a code's only change falls short of what is asked for (``compute_reach``), with editors that may do so.

        Args:
            ws: Codes (n, num_ws, w_dim).
            changes: Attribute -> change, one number or a tensor of one number for each code; 1.0 is one standard deviation of the
                Gaussianised score (for a count, one object), and attributes that aren't named change by 0.

        Returns:
            The moved codes (n, num_ws, w_dim), in the dtype of ``ws``.

        Raises:
            GanvasError: An attribute is unknown, a change isn't finite, or there aren't as many changes as codes.
        """
        edited = self.edit_quietly(ws, changes)
        if self.may_fall_short:
            asked, reached = self._compare_readings(ws, edited, changes)
            # Several changes of a code may make up for each other on purpose, as those of ``solve_changes`` do.
            asked = asked * (asked.ne(0).sum(1, keepdim=True) == 1)
            if shortfall := find_shortfall(self.attributes, asked, reached):
                warnings.warn(f"{shortfall[1]} {self.limits}".strip(), stacklevel=2)
        return edited

    def edit_quietly(self, ws: WPlus, changes: Mapping[str, float | Tensor]) -> WPlus:
        """Move codes as ``edit`` does, without a warning: for searches and measurements.

        Args:
            ws: Codes (n, num_ws, w_dim).
            changes: Attribute -> change, as in ``edit``.

        Returns:
            The moved codes, as ``edit``.

        Raises:
            GanvasError: As in ``edit``.
        """
        matrix = self.parse_changes(changes, ws)
        moved = matrix.ne(0).any(1)
        if not moved.any():
            return ws
        nonzero = self.shift_rows(ws[moved].to(self.input_dtype), matrix[moved])
        shifts = nonzero.new_zeros(ws.shape[0], *nonzero.shape[1:])
        shifts[moved] = nonzero
        return (ws + shifts).to(ws.dtype)

    def compute_reach(self, ws: WPlus, changes: Mapping[str, float | Tensor]) -> Scores:
        """Compute the share of each change that an edit reaches, by the editor's own reading.

        Several changes at once may work against each other; an editor may shorten what codes of the generator can't hold.

        Args:
            ws: Codes (n, num_ws, w_dim).
            changes: Attribute -> change, as in ``edit``.

        Returns:
            Shares (n, attributes) from 0 to 1; 1 for attributes that don't change.

        Raises:
            GanvasError: As in ``edit``.
        """
        return self._compare_readings(ws, self.edit_quietly(ws, changes), changes)[1]

    @torch.no_grad()
    def _compare_readings(
        self, ws: WPlus, edited: WPlus, changes: Mapping[str, float | Tensor]
    ) -> tuple[Scores, Scores]:
        """Return the changes (n, attributes) and the shares of them that are reached."""
        asked = self.parse_changes(changes, ws)
        return asked, measure_reach(self.measure_change(ws, edited), asked)

    def measure_change(self, before: WPlus, after: WPlus) -> Scores:
        """Measure how far an edit moved the readings of codes, in units of changes: 1 where a change of 1 is reached.

        Args:
            before: Codes (n, num_ws, w_dim).
            after: The same codes, edited.

        Returns:
            Changes (n, attributes).
        """
        return self.read(after) - self.read(before)

    @accept_any_float()
    def shift_rows(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """Compute what is added to codes; overridden by editors that don't move all rows alike.

        Args:
            ws: Codes (n, num_ws, w_dim).
            changes: Changes (n, attributes).

        Returns:
            Shifts (n, 1, w_dim), the same for all rows, or (n, num_ws, w_dim).
        """
        return self.shift(ws.mean(1), changes)[:, None]

    @accept_any_float(torch.float32)
    def read(self, ws: WPlus) -> Scores:
        """Read the attributes of codes; to set a value, edit by ``target - read``.

        Args:
            ws: Codes (n, num_ws, w_dim).

        Returns:
            Readings (n, attributes) in the units of changes, float32.
        """
        return self.probe(ws.mean(1))

    def parse_changes(self, changes: Mapping[str, float | Tensor], ws: WPlus) -> Scores:
        """Check changes and convert them to a matrix.

        Args:
            changes: Attribute -> change, as in ``edit``.
            ws: The codes (n, num_ws, w_dim) that are moved.

        Returns:
            Changes (n, attributes).

        Raises:
            GanvasError: As in ``edit``.
        """
        matrix = ws.new_zeros(ws.shape[0], len(self.attributes), dtype=self.input_dtype)
        for name, change in changes.items():
            if name not in self.attributes:
                raise unknown("attribute", name, self.attributes)
            value = torch.as_tensor(change, dtype=self.input_dtype, device=ws.device)
            if not torch.isfinite(value).all():
                raise GanvasError(f"The change of {name!r} is {change}: it must be a finite number.")
            if value.numel() not in (1, len(ws)):
                raise GanvasError(
                    f"{value.numel()} changes of {name!r} for {len(ws)} codes: give one, or one per code."
                )
            matrix[:, self.attributes.index(name)] = value
        return matrix


@final
class LinearEditor(Editor):
    """An editor that moves every code along fixed ``directions``, each of which moves the probe's reading by 1.

    They are (attributes, w_dim), the same for all rows of a code, or (attributes, num_ws, w_dim), one for each row.
    """

    def __init__(self, metadata: EditorMetadata, directions: Float[Tensor, "attributes *rows w_dim"]) -> None:
        super().__init__()
        self.set_metadata(metadata)
        self.register_buffer("directions", convert_to_normal(directions))

    def shift(self, w: W, changes: Scores) -> W:
        """Return the sum of the directions multiplied by their changes; it doesn't depend on the code."""
        return changes @ _average_rows(self.get_buffer("directions")).to(changes)

    def shift_rows(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """Return the shift of each row. Raises GanvasError for codes of another number of rows than the directions have."""
        directions = self.get_buffer("directions").to(changes)
        directions = directions if directions.ndim == 3 else directions[:, None]
        if directions.shape[1] not in (1, ws.shape[1]):
            raise GanvasError(f"These directions are for codes of {directions.shape[1]} rows, not of {ws.shape[1]}.")
        return torch.tensordot(changes, directions, 1)

    def orthogonalize(self, attribute: str, *others: str) -> LinearEditor:
        """Return a copy whose direction of ``attribute`` is orthogonal to those of ``others``, calibrated as before.

        InterfaceGAN's conditional manipulation (Shen et al., 2020, section 3.3).
        Raises GanvasError for unknown names, and where nothing of the direction is left.
        """
        self._check_names(attribute, *others)
        directions, k = self.get_buffer("directions").clone(), self.attributes.index(attribute)
        rest = orthogonalize(directions.flatten(1), k, [self.attributes.index(name) for name in others])
        rest = rest.view(directions.shape[1:])
        response = _average_rows(rest[None])[0] @ self.probe.weight[:, k].to(rest)
        if others and (response < 1e-2 or attribute in others):
            raise GanvasError(
                f"Nothing of the direction of {attribute!r} is left without {', '.join(others)}: name fewer."
            )
        directions[k] = rest / response
        return LinearEditor(
            replace(collect_metadata(self), options=self._add_option("without", attribute, list(others))), directions
        )

    def combine(self, name: str, weights: Mapping[str, float]) -> LinearEditor:
        """Return a copy with one more attribute, ``name``: a change x of it is a change of ``weights[a] · x`` of each a.

        Its reading is the same combination, scaled so that a change of 1 moves it by 1; its "score" is that reading.
        Raises GanvasError for a name that is taken, unknown attributes, weights that aren't finite or cancel out.
        """
        self._check_names(*weights)
        if name in self.attributes or not name:
            raise GanvasError(
                f"The new attribute needs a name of its own, not {name!r}: pick one that the editor doesn't have."
            )
        if not weights or not all(isfinite(weight) for weight in weights.values()):
            raise GanvasError(f"{name!r} needs attributes with finite weights, like Smiling=1, not {dict(weights)}.")
        directions, old = self.get_buffer("directions"), collect_metadata(self)
        by = directions.new_tensor([weights.get(a, 0.0) for a in self.attributes])
        direction, reading = torch.tensordot(by, directions, 1), self.probe.weight.to(by) @ by
        response = _average_rows(direction[None])[0] @ reading
        if response < 1e-2:
            raise GanvasError(
                f"The directions of {', '.join(weights)} cancel each other out: nothing of {name!r} is left."
            )
        probe = _append_columns(
            Probe, (self.probe.weight, reading / response), (self.probe.bias, self.probe.bias.to(by) @ by / response)
        )
        line = torch.linspace(-10, 10, len(self.gaussianize.scores)).to(self.gaussianize.scores)
        normal = _append_columns(Gaussianize, (self.gaussianize.scores, line), (self.gaussianize.normals, line))
        metadata = replace(
            old,
            attributes=(*self.attributes, name),
            kinds=(*self.kinds, "value"),
            gaussianize=normal,
            probe=probe,
            options=self._add_option("combined", name, dict(weights)),
            report={key: value for key, value in self.report.items() if not isinstance(value, dict)},
        )
        return LinearEditor(metadata, torch.cat((directions, direction[None])))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], metadata: EditorMetadata) -> LinearEditor:
        """Build the editor from a file's tensors. Raises GanvasError for tensors of other names or shapes."""
        w_dim, k = metadata.probe.weight.shape
        rows = tensors["directions"].shape[1:-1][:1] if "directions" in tensors else ()
        with torch.device("meta"):
            editor = cls(metadata, torch.empty(k, *rows, w_dim))
        load_module(editor, tensors)
        return editor

    def _check_names(self, *names: str) -> None:
        for name in names:
            if name not in self.attributes:
                raise unknown("attribute", name, self.attributes)

    def _add_option(self, option: str, name: str, value: Any) -> dict[str, Any]:
        """Return the options with one more entry under ``option``, which records a change of the directions."""
        return {**self.options, option: {**self.options.get(option, {}), name: value}}


def calibrate(
    directions: Float[Tensor, "attributes w_dim"], probe: Probe, w: W
) -> tuple[Float[Tensor, "attributes w_dim"], Float[Tensor, " attributes"]]:
    """Scale directions so that each moves the probe's reading of its attribute by 1; return them and their gains.

    Their lengths don't matter. A gain is how many standard deviations of the codes ``w`` along a direction that takes, and
    bounded by ``GAIN_BOUNDS``: an attribute whose reading hardly moves along its direction is moved by less than 1.
    Raises GanvasError for a direction that is 0 or not finite.
    """
    # By the largest number first, since the squares of very small or large ones leave float32.
    largest = directions.abs().amax(1)
    if not (torch.isfinite(largest) & (largest > 0)).all():
        k = int((~(torch.isfinite(largest) & (largest > 0))).nonzero()[0])
        raise GanvasError(
            f"Direction {k}, counted from 0, has no length, or isn't finite: there is nothing to calibrate."
        )
    along = scale_to_deviation(torch.nn.functional.normalize(directions / largest[:, None], dim=1), w.to(directions))
    gain = compute_response_gains((along * probe.weight.T.to(along)).sum(1))
    return along * gain[:, None], gain


def scale_to_deviation(normals: Float[Tensor, "attributes w_dim"], w: W) -> Float[Tensor, "attributes w_dim"]:
    """Scale each unit normal to one standard deviation of the codes along it."""
    return normals * (w @ normals.T).std(0)[:, None]


def orthogonalize(
    directions: Float[Tensor, "attributes numbers"], k: int, others: list[int]
) -> Float[Tensor, " numbers"]:
    """Return direction ``k`` without its projection on the span of ``others``."""
    span = directions[others]
    return directions[k] - torch.linalg.pinv(span) @ (span @ directions[k])


def compute_response_gains(responses: Tensor) -> Tensor:
    """Return the factors of changes with which readings move by 1, from how far they move without; bounded by ``GAIN_BOUNDS``.

    Where a reading moves the wrong way no gain helps, and the smallest is taken.
    """
    return torch.where(responses > 0, 1 / responses.clamp(min=1e-6), GAIN_BOUNDS[0]).clamp(*GAIN_BOUNDS)


def format_report(names: tuple[str, ...], **columns: Tensor) -> dict[str, dict[str, float]]:
    """Return the tables of a report: from each column's name to one rounded number per attribute."""
    return {
        key: dict(zip(names, [round(x, 4) for x in column.tolist()], strict=True)) for key, column in columns.items()
    }


def find_unresponsive(names: tuple[str, ...], moved: Float[Tensor, " attributes"]) -> list[str]:
    """Return the attributes whose readings ``moved`` by less than half of a change."""
    return [name for name, change in zip(names, moved.tolist(), strict=True) if not change >= 0.5]


def collect_metadata(editor: Editor) -> EditorMetadata:
    """Return the metadata of an editor, as ``Editor.set_metadata`` took it."""
    return EditorMetadata(**{name: getattr(editor, name) for name in EditorMetadata.__dataclass_fields__})


def fingerprint(editor: Editor) -> str:
    """Return the sha256 of all that decides how an editor moves and reads codes: equal on any device, before and after saving."""
    identity = [editor.method, editor.attributes, editor.generator, editor.space, dict(editor.options)]
    text = json.dumps(identity, sort_keys=True)
    return hashlib.sha256(
        (text + hash_weights((collect_common_tensors(collect_metadata(editor)) | editor.state_dict()).items())).encode()
    ).hexdigest()


def save_editor(editor: Editor, path: str | Path, half: bool = False) -> None:
    """Write an editor as one safetensors file; equal editors give equal bytes. ``half``: save its matrices in float16.

    Raises GanvasError where the path can't be written, or a number is too large for float16.
    """
    own = {name: tensor.detach() for name, tensor in editor.state_dict().items()}
    if half:
        own = {name: t.half() if t.ndim > 1 and t.is_floating_point() else t for name, t in own.items()}
        if not all(torch.isfinite(tensor).all() for tensor in own.values()):
            raise GanvasError("This editor has numbers too large for float16: save it with half=False.")
    write_editor(path, own, collect_metadata(editor))


def _average_rows(directions: Tensor) -> Tensor:
    """Return what the mean of a code's rows moves by, (attributes, w_dim)."""
    return directions if directions.ndim == 2 else directions.mean(1)


def _append_columns(kind: Callable[..., T], *columns: tuple[Tensor, Tensor]) -> T:
    """Build a probe or a Gaussianisation with one more column in each of its tensors."""
    return kind(*(torch.cat((old, new[..., None].to(old)), -1) for old, new in columns))
