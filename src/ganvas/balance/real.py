"""Balance a set from real pictures: each is inverted, edited until the judge's scores meet the conditions, or discarded.

A picture that meets the conditions already is left out. Any other is inverted, and the judge, a scorer of pictures, says how
far it is from the conditions: the editor moves it by that, and again by the rest, up to ``MAX_ATTEMPTS`` times.

Pictures are taken ``BATCH_SIZE`` at a time; the codes of a batch are one file, which recipes refer to by
its sha256, and each picture that is kept carries its own code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ganvas.balance.sets import BalancedSet, BalanceRequest, counts_objects
from ganvas.control.conditions import (
    RANGE_MARGIN_SIGMA,
    Range,
    aim_inside,
    compute_object_ranges,
    convert_to_normal_score,
)
from ganvas.data.codes import Codes, load_codes, save_codes
from ganvas.editors.base import Editor
from ganvas.editors.composed import ComposedEditor, ObjectInversionConfig
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import downscale, find_pictures, from_bytes, read_picture
from ganvas.progress import Progress
from ganvas.recipe.model import EditStep, FromCodes, Recipe
from ganvas.recipe.rendering import Tools, compute_code
from ganvas.scorers.base import Scorer
from ganvas.types import Images, Scores, WPlus

BATCH_SIZE = 8
MAX_ATTEMPTS = 4
"""Edits of one picture."""
ALREADY_KEY, INVERSION_KEY, UNREADABLE_KEY = "already", "inversion", "picture"
"""Keys of the report: pictures that meet the conditions already, inversions by whether they preserve the attributes,
and pictures that can't be read."""


@dataclass(frozen=True)
class Inverter:
    """``invert`` maps pictures (n, 3, side, side) to codes; a set is made with one ``name``."""

    name: str
    invert: Callable[[Images], WPlus]


@dataclass(frozen=True)
class PictureSource:
    """Real pictures by number: ``names`` of all, and ``read``, which raises GanvasError for one that is damaged."""

    sha256: str
    names: tuple[str, ...]
    read: Callable[[int], Images]


def load_inverter(
    generator: Generator,
    method: str = "",
    space: str = "w+",
    encoder: str | Path | None = None,
    editor: Editor | None = None,
) -> Inverter:
    """Make an inverter of ``ganvas.inversion``. ``encoder``: a file, by default the one that ships; ``method``: "encoder",
    "optimize", "both" or "objects"; by default the last where the ``editor`` composes objects, else the first where there is
    an encoder.

    Raises GanvasError for an encoder of another generator, the method "encoder" where there is none, and the method "objects"
    without such an editor of this generator.
    """
    from ganvas import inversion

    composing = not method and encoder is None and space == "w+" and isinstance(editor, ComposedEditor)
    if method == "objects" or composing:
        if encoder is not None:
            raise GanvasError("The method 'objects' takes no encoder: leave one of them out.")
        named = inversion.check_composing(editor, generator, space)
        settings = " ".join(f"{value:g}" for value in vars(ObjectInversionConfig()).values())
        name = f"objects, {settings}, {hash_weights(named.state_dict().items())[:12]}"
        return Inverter(name, lambda images: inversion.invert_objects(images, named).ws)
    network = inversion.load_encoder(generator) if encoder is None else inversion.read_encoder(encoder, generator)
    method = method or ("optimize" if network is None else "encoder")
    if network is None and method != "optimize":
        raise GanvasError(
            f"No encoder ships for generator {generator.name!r}: give an encoder's file, or use the method 'optimize'."
        )
    within = None if method == "encoder" else inversion.fit_w_distribution(generator)

    def codes(pictures: Images) -> WPlus:
        return inversion.invert(pictures, generator, space, method, encoder=network, distribution=within).ws

    weights = "" if network is None or method == "optimize" else f", {hash_weights(network.state_dict().items())[:12]}"
    return Inverter(f"{method}, {space}{weights}", codes)


def open_pictures(path: str | Path, size: int) -> PictureSource:
    """Open the pictures in a folder, a MultiMNIST folder (its training part) or one of its parquet files, as squares of ``size``.

    Raises GanvasError where there are none, or a parquet file isn't MultiMNIST's.
    """
    path = Path(path)
    if path.suffix == ".parquet" or (path / "train.parquet").exists():
        folder, part = (path.parent, path.stem) if path.suffix == ".parquet" else (path, "train")
        return _multimnist(folder, part, size)
    if not path.is_dir():
        raise GanvasError(f"There is no folder {path}: give a folder of pictures, or a MultiMNIST set.")
    files = find_pictures([path])
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())

    def read(i: int) -> Images:
        photo = read_picture(files[i])
        if photo.shape[2] != photo.shape[3]:
            raise GanvasError(f"{files[i]} has {photo.shape[3]}×{photo.shape[2]} pixels: pictures must be square.")
        return downscale(photo, size)

    return PictureSource(digest.hexdigest(), tuple(file.name for file in files), read)


def _multimnist(folder: Path, part: str, size: int) -> PictureSource:
    from ganvas.data.multimnist_files import read_multimnist

    pixels = read_multimnist(folder, part).pixels
    digest = hashlib.sha256(pixels.numpy().tobytes()).hexdigest()

    def read(i: int) -> Images:
        return downscale(from_bytes(pixels[i, None, :, :, None].expand(-1, -1, -1, 3)), size)

    return PictureSource(digest, tuple(f"{part}-{i:05d}" for i in range(len(pixels))), read)


@torch.no_grad()
def balance_from(
    tools: Tools,
    scorer: Scorer,
    request: BalanceRequest,
    origin: PictureSource,
    inverter: Inverter,
    out: str | Path,
    progress: Progress = lambda kept, n: None,
) -> dict[str, Any]:
    """Fill ``out`` as ``balance`` does, but from real pictures, until there are no more. The request's seed isn't used.

    The labels have the picture that each came from (``source``), and the judge's scores of it (``NAME_before``).
    Raises GanvasError for conditions on attributes that the editor doesn't have, and a folder that holds another set.
    """
    editor = tools.required_editor
    if request.way is not None:
        raise GanvasError(f"Real pictures are always edited: there is no choice of a way, like {request.way!r}.")
    if request.label is not None:
        raise GanvasError("Real pictures have no label of a generator: leave it out.")
    if not any(condition.attribute in editor.attributes for condition in request.conditions):
        raise GanvasError(f"The editor has none of these attributes: it knows {', '.join(editor.attributes)}.")
    made = BalancedSet.open(
        out, replace(request, seed=0), "real", tools, scorer, **{"from": origin.sha256, "inverter": inverter.name}
    )
    targets = compute_object_ranges(request.conditions, editor, counts_objects(editor))
    balancer = _RealBalancer(tools, made, targets, origin, inverter)
    while not made.full and made.state["tried"] < len(origin.names):
        for number, scores, code in balancer.load_batch(made.state["tried"]):
            balancer.process_picture(number, scores, code)
            progress(made.state["kept"], request.n)
            if made.full:
                break
        made.write()
    return made.state


Code = tuple[Codes, int]
"""A codes file, and a row of it."""


@dataclass(frozen=True)
class _RealBalancer:
    """The tools, set and ranges (in the editor's units) that all pictures are edited with."""

    tools: Tools
    made: BalancedSet
    targets: Mapping[str, Range]
    origin: PictureSource
    inverter: Inverter

    def load_batch(self, start: int) -> list[tuple[int, Scores | None, Code | None]]:
        """Load the pictures from ``start`` to the end of its batch, and invert those that must be edited.

        Returns their numbers, their scores (None: unreadable), and their codes (None: not to be edited).
        """
        tools, first = self.tools, start - start % BATCH_SIZE
        read = {i: self._read_picture(i) for i in range(first, min(first + BATCH_SIZE, len(self.origin.names)))}
        failing = {i: both[0] for i, both in read.items() if both and self.made.find_failed(both[1]) is not None}
        file = self.made.out / f"codes-{first // BATCH_SIZE:05d}.safetensors"
        # In the middle of a batch its codes exist already.
        if failing and (start == first or not file.exists()):
            with torch.enable_grad():  # optimisation needs it
                inverted = self.inverter.invert(torch.cat(list(failing.values())).to(tools.generator.device))
            save_codes(file, inverted, tools.generator)
        codes = load_codes(file, tools.generator) if failing else None
        rows = {i: (codes, row) for row, i in enumerate(failing) if codes is not None}
        return [(i, both and both[1], rows.get(i)) for i, both in read.items() if i >= start]

    def process_picture(self, number: int, real: Scores | None, code: Code | None) -> None:
        """Edit a picture, then keep or discard it."""
        made, state = self.made, self.made.state
        state["tried"] += 1
        if real is None:
            return made.discard(UNREADABLE_KEY, "unreadable")
        if code is None:
            state[ALREADY_KEY] = state.get(ALREADY_KEY, 0) + 1
            return None
        codes, source = code[0], self.origin.names[number]
        recipe, picture, scores, preserved = self._edit_picture(codes, code[1], real)
        inversions = state.setdefault(INVERSION_KEY, {"same": 0, "changed": 0})
        inversions["same" if preserved else "changed"] += 1
        before = {f"{name}_before": value for name, value in made.label_values(real).items() if name in made.ranges}
        name = f"{Path(source).stem}-{number:05d}.png"
        return made.add(name, picture, scores, recipe, {"source": source}, before, codes)

    def _edit_picture(self, codes: Codes, row: int, real: Scores) -> tuple[Recipe, Images, Scores, bool]:
        """Edit a code until it meets the conditions or ``MAX_ATTEMPTS`` are over.

        Returns its recipe, its picture, its scores, and whether the inversion preserved the attributes of the real picture.
        """
        made, tools = self.made, self.tools.with_codes(codes)
        recipe = Recipe(tools.generator_name, FromCodes(codes.sha256, row), tools.dtype, None, tools.editor_name)
        picture = tools.generator.synthesis(compute_code(recipe, tools))
        scores = made.score(picture)
        preserved = all(made.format_value(name, scores) == made.format_value(name, real) for name in made.ranges)
        for _ in range(MAX_ATTEMPTS):
            shift = {} if made.find_failed(scores) is None else self._compute_shifts(scores, tools.required_editor)
            if not shift:
                break
            recipe = replace(recipe, edits=(*recipe.edits, EditStep(shift=shift)))
            picture = tools.generator.synthesis(compute_code(recipe, tools))
            scores = made.score(picture)
        return recipe if recipe.edits else replace(recipe, editor=None), picture, scores, preserved

    def _compute_shifts(self, scores: Scores, editor: Editor) -> dict[str, float]:
        """Compute how far each attribute must change, in the editor's units, for the judge's scores to meet the conditions."""
        shifts = {}
        for name, (low, high) in self.targets.items():
            k, reading = editor.attributes.index(name), float(scores[0, self.made.scorer.column(name)])
            objects = editor.kinds[k] == "count" and counts_objects(editor)
            reading = reading if objects else convert_to_normal_score(editor, k, reading)
            shift = aim_inside(reading, low, high, 0.0 if objects else RANGE_MARGIN_SIGMA) - reading
            if shift:
                shifts[name] = shift
        return shifts

    def _read_picture(self, i: int) -> tuple[Images, Scores] | None:
        """Read and score a picture; None where it is damaged."""
        try:
            picture = self.origin.read(i)
        except GanvasError:
            return None
        return picture, self.made.score(picture.to(self.tools.generator.device))
