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

from ganvas.balance.generated import (
    BalanceRequest,
    counts_objects,
    editor_ranges,
    format_values,
    label_values,
    normal_score,
    request_key,
)
from ganvas.balance.score_ranges import ScoreRanges, score_ranges
from ganvas.balance.set_files import BalancedSetWriter
from ganvas.control.conditions import Range
from ganvas.data.codes import Codes, load_codes, save_codes
from ganvas.editors.base import Editor
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import LABEL_SIDE, downscale, find_pictures, from_bytes, read_picture, to_bytes
from ganvas.progress import Progress
from ganvas.recipe.model import EditStep, FromCodes, Recipe
from ganvas.recipe.rendering import Tools, compute_code
from ganvas.scorers.base import Scorer
from ganvas.types import Images, Scores, WPlus

WAY, BATCH_SIZE = "real", 8
MAX_ATTEMPTS = 4
"""Edits of one picture."""
RANGE_MARGIN_SIGMA = 0.25
"""How far, in standard deviations, an edit goes into a range, at most to its middle: at its border half of the pictures
miss it."""
ALREADY_KEY, INVERSION_KEY, UNREADABLE_KEY = "already", "inversion", "picture"
"""Keys of the report: pictures that meet the conditions already, inversions by whether they preserve the attributes,
and pictures that can't be read."""


@dataclass(frozen=True)
class Inverter:
    """``invert`` maps pictures (n, 3, side, side) to codes, each by itself; a set is made with one ``name``."""

    name: str
    invert: Callable[[Images], WPlus]


@dataclass(frozen=True)
class PictureSource:
    """Real pictures by number: ``names`` of all, and ``read``, which raises GanvasError for one that is damaged."""

    sha256: str
    names: tuple[str, ...]
    read: Callable[[int], Images]


def load_inverter(
    generator: Generator, method: str = "", space: str = "w+", encoder: str | Path | None = None
) -> Inverter:
    """Make an inverter of ``ganvas.inversion``. ``encoder``: a file, by default the one that ships; ``method``: "encoder",
    "optimize" or "both", by default the first where there is an encoder.

    Raises GanvasError for an encoder of another generator, and the method "encoder" where there is none.
    """
    from ganvas import inversion

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
    ranges = score_ranges(request.conditions, scorer, editor)
    if not any(c.attribute in editor.attributes for c in request.conditions):
        raise GanvasError(f"The editor has none of these attributes: it knows {', '.join(editor.attributes)}.")
    key = request_key(replace(request, seed=0), WAY, tools, scorer) | {"from": origin.sha256, "inverter": inverter.name}
    writer = BalancedSetWriter.open(Path(out), key)
    balancer = _RealBalancer(tools, scorer, ranges, editor_ranges(request.conditions, editor), origin, inverter, writer)
    while writer.state["kept"] < request.n and writer.state["tried"] < len(origin.names):
        for judged in balancer.load_batch(writer.state["tried"]):
            balancer.process_picture(judged)
            progress(writer.state["kept"], request.n)
            if writer.state["kept"] == request.n:
                break
        writer.write()
    return writer.state


@dataclass(frozen=True)
class _JudgedPicture:
    """A picture of the batch, with the judge's scores, and the row of its code, None where it isn't edited."""

    number: int
    scores: Scores | None
    codes: Codes | None = None
    row: int | None = None


@dataclass(frozen=True)
class _RealBalancer:
    """The tools, judge and conditions that all pictures are edited with."""

    tools: Tools
    scorer: Scorer
    ranges: ScoreRanges
    editor_targets: Mapping[str, Range]
    origin: PictureSource
    inverter: Inverter
    writer: BalancedSetWriter

    def load_batch(self, start: int) -> list[_JudgedPicture]:
        """Load the pictures from ``start`` to the end of its batch, and invert those that must be edited."""
        k, tools = start // BATCH_SIZE, self.tools
        read = [self._read_picture(i) for i in range(k * BATCH_SIZE, min((k + 1) * BATCH_SIZE, len(self.origin.names)))]
        failing = [
            i for i, (_, scores) in enumerate(read) if scores is not None and self._find_failed(scores) is not None
        ]
        file = self.writer.out / f"codes-{k:05d}.safetensors"
        # In the middle of a batch its codes exist already.
        if failing and (start % BATCH_SIZE == 0 or not file.exists()):
            pictures = [picture for picture, _ in (read[i] for i in failing) if picture is not None]
            with torch.enable_grad():  # optimisation needs it
                inverted = self.inverter.invert(torch.cat(pictures).to(tools.generator.device))
            save_codes(file, inverted, tools.generator)
        codes = load_codes(file, tools.generator) if failing else None
        rows = {i: row for row, i in enumerate(failing)}
        judged = [_JudgedPicture(k * BATCH_SIZE + i, scores, codes, rows.get(i)) for i, (_, scores) in enumerate(read)]
        return judged[start - k * BATCH_SIZE :]

    def process_picture(self, judged: _JudgedPicture) -> None:
        """Edit a picture, then keep or discard it."""
        state = self.writer.state
        state["tried"] += 1
        if judged.scores is None:
            return self.writer.discard(UNREADABLE_KEY, "unreadable")
        if judged.codes is None or judged.row is None:
            state[ALREADY_KEY] = state.get(ALREADY_KEY, 0) + 1
            return None
        recipe, picture, scores, preserved = self._edit_picture(judged.codes, judged.row, judged.scores)
        inversions = state.setdefault(INVERSION_KEY, {"same": 0, "changed": 0})
        inversions["same" if preserved else "changed"] += 1
        failed = self._find_failed(scores)
        if failed is not None:
            return self.writer.discard(failed, format_values(failed, scores, self.scorer))
        before = label_values(judged.scores, self.scorer)
        row = {"source": self.origin.names[judged.number]} | label_values(scores, self.scorer)
        row |= {f"{name}_before": before[name] for name in self.ranges.ranges}
        name = f"{Path(self.origin.names[judged.number]).stem}-{judged.number:05d}.png"
        return self.writer.keep(name, to_bytes(picture)[0], recipe, row, judged.codes)

    def _edit_picture(self, codes: Codes, row: int, real: Scores) -> tuple[Recipe, Images, Scores, bool]:
        """Edit a code until it meets the conditions or ``MAX_ATTEMPTS`` are over.

        Returns its recipe, its picture, its scores, and whether the inversion preserved the attributes of the real picture.
        """
        editor, tools = self.tools.required_editor, self.tools.with_codes(codes)
        start = FromCodes(codes.sha256, row)
        recipe = Recipe(tools.generator_name, start, tools.dtype, None, tools.editor_name)
        picture = tools.generator.synthesis(compute_code(recipe, tools))
        scores = self._score(picture)
        names = self.ranges.ranges
        preserved = all(
            format_values(name, scores, self.scorer) == format_values(name, real, self.scorer) for name in names
        )
        for _ in range(MAX_ATTEMPTS):
            shift = {} if self._find_failed(scores) is None else self._compute_shifts(scores, editor)
            if not shift:
                break
            recipe = replace(recipe, edits=(*recipe.edits, EditStep(shift=shift)))
            picture = tools.generator.synthesis(compute_code(recipe, tools))
            scores = self._score(picture)
        editor_name = recipe.editor if recipe.edits else None
        return replace(recipe, editor=editor_name), picture, scores, preserved

    def _compute_shifts(self, scores: Scores, editor: Editor) -> dict[str, float]:
        """Compute how far each attribute must change, in the editor's units, for the judge's scores to meet the conditions."""
        shifts = {}
        for name, (low, high) in self.editor_targets.items():
            k, score = editor.attributes.index(name), float(scores[0, self.scorer.column(name)])
            objects = editor.kinds[k] == "count" and counts_objects(editor)
            reading = score if objects else normal_score(editor, k, score)
            inside = 0.0 if objects else RANGE_MARGIN_SIGMA
            if low is not None and high is not None:
                inside = min(inside, (high - low) / 2)
            if low is not None and reading < low:
                shifts[name] = low + inside - reading
            if high is not None and reading > high:
                shifts[name] = high - inside - reading
        return shifts

    def _read_picture(self, i: int) -> tuple[Images | None, Scores | None]:
        try:
            picture = self.origin.read(i)
        except GanvasError:
            return None, None
        return picture, self._score(picture.to(self.tools.generator.device))

    def _score(self, picture: Images) -> Scores:
        return self.scorer(downscale(picture, min(LABEL_SIDE, self.tools.generator.resolution)))

    def _find_failed(self, scores: Scores) -> str | None:
        return self.ranges.find_failed(dict(zip(self.scorer.attributes, scores[0].tolist(), strict=True)))
