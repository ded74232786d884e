"""Balancing a set from real pictures: each is inverted, edited until the judge agrees, and kept or discarded.

A picture that is as asked already stays where it is. Any other becomes a code, by whatever function is given for that,
and the judge, who looks at pictures, says how far it is from what was asked: the editor moves it by that, and again by
what is still lacking, up to ``MAX_ATTEMPTS`` times. Pictures are taken ``BATCH`` at a time; the codes of a batch are one file,
which recipes know by its sha256, and each picture that is kept carries its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ganvas.balance.generated import (
    BalanceProgress,
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
from ganvas.io.images import LABEL_SIDE, downscale, from_bytes, photos_in, read_picture, to_bytes
from ganvas.recipe.model import EditStep, FromCodes, Recipe
from ganvas.recipe.rendering import Tools, compute_code
from ganvas.scorers.base import Scorer
from ganvas.types import Images, Scores, WPlus

WAY, BATCH = "real", 8
MAX_ATTEMPTS = 4
"""Edits of one picture."""
INSIDE = 0.25
"""How far, in standard deviations, an edit goes into a range, but never past its middle: its border is met by half of the
pictures."""
ALREADY, LOST, UNREADABLE = "already", "inversion", "picture"
"""Counted: pictures that are as asked as they are, inversions that do or don't show the same, pictures that can't be read."""


@dataclass(frozen=True)
class Inverter:
    """Pictures (n, 3, side, side) to codes, each by itself; ``name`` says by which means: another one is another set."""

    name: str
    codes: Callable[[Images], WPlus]


@dataclass(frozen=True)
class PictureSource:
    """Real pictures by number: ``names`` of all, and ``read``, which raises GanvasError for one that is damaged."""

    sha256: str
    names: tuple[str, ...]
    read: Callable[[int], Images]


def load_inverter(
    generator: Generator, method: str = "", space: str = "w+", encoder: str | Path | None = None
) -> Inverter:
    """``ganvas.inversion`` as an inverter. ``encoder``: a file, by default the one that ships; ``method``: "encoder",
    "optimize" or "both", by default the first where there is an encoder.

    Raises GanvasError for an encoder of another generator, and the method "encoder" where there is none.
    """
    from ganvas import inversion

    found = inversion.load_encoder(generator) if encoder is None else inversion.read_encoder(encoder, generator)
    method = method or ("optimize" if found is None else "encoder")
    if found is None and method != "optimize":
        raise GanvasError(
            f"No encoder ships for generator {generator.name!r}: name the file of one, or invert by 'optimize'."
        )
    within = None if method == "encoder" else inversion.fit_w_distribution(generator)

    def codes(pictures: Images) -> WPlus:
        return inversion.invert(pictures, generator, space, method, encoder=found, distribution=within).ws

    weights = "" if found is None or method == "optimize" else f", {hash_weights(found.state_dict().items())[:12]}"
    return Inverter(f"{method}, {space}{weights}", codes)


def open_pictures(path: str | Path, size: int) -> PictureSource:
    """The pictures in a folder, a MultiMNIST folder (its training part) or one of its parquet files, as squares of ``size``.

    Raises GanvasError where there are none, or a parquet file is of something else.
    """
    path = Path(path)
    if path.suffix == ".parquet" or (path / "train.parquet").exists():
        folder, part = (path.parent, path.stem) if path.suffix == ".parquet" else (path, "train")
        return _multimnist(folder, part, size)
    if not path.is_dir():
        raise GanvasError(f"There is no folder {path}.")
    files = photos_in([path])
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
    order: BalanceRequest,
    origin: PictureSource,
    inverter: Inverter,
    out: str | Path,
    watch: BalanceProgress = lambda kept, n: None,
) -> dict[str, Any]:
    """Fill ``out`` as ``balance.generated`` does, from real pictures; ends where there are no more. ``order`` has no
    use for its seed.

    The labels have the picture that each came from (``source``), and what the judge had read there (``NAME_before``).
    Raises GanvasError for conditions that the editor can do nothing for, and a folder that holds another set.
    """
    editor = tools.required_editor
    if order.way is not None:
        raise GanvasError(f"Real pictures are edited: there is no choice of a way, like {order.way!r}.")
    if order.label is not None:
        raise GanvasError("Real pictures are edited as they are: there is no choice of a label.")
    wanted = score_ranges(order.conditions, scorer, editor)
    if not any(c.attribute in editor.attributes for c in order.conditions):
        raise GanvasError(f"The editor can't change what is asked for: it knows {', '.join(editor.attributes)}.")
    about = request_key(replace(order, seed=0), WAY, tools, scorer) | {"from": origin.sha256, "inverter": inverter.name}
    kept = BalancedSetWriter.open(Path(out), about)
    work = _Work(tools, scorer, wanted, editor_ranges(order.conditions, editor), origin, inverter, kept)
    while kept.state["kept"] < order.n and kept.state["tried"] < len(origin.names):
        for judged in work.batch(kept.state["tried"]):
            work.one(judged)
            watch(kept.state["kept"], order.n)
            if kept.state["kept"] == order.n:
                break
        kept.write()
    return kept.state


@dataclass(frozen=True)
class _Judged:
    """A picture of the batch: what the judge reads there, and the row of its code, None where it needs none."""

    number: int
    scores: Scores | None
    codes: Codes | None = None
    row: int | None = None


@dataclass(frozen=True)
class _Work:
    """What all pictures are edited with."""

    tools: Tools
    scorer: Scorer
    wanted: ScoreRanges
    where: Mapping[str, Range]
    origin: PictureSource
    inverter: Inverter
    kept: BalancedSetWriter

    def batch(self, start: int) -> list[_Judged]:
        """The pictures from ``start`` to the end of its batch, inverted where they have to be."""
        k, tools = start // BATCH, self.tools
        read = [self._read(i) for i in range(k * BATCH, min((k + 1) * BATCH, len(self.origin.names)))]
        lacking = [i for i, (_, scores) in enumerate(read) if scores is not None and self._missed(scores) is not None]
        file = self.kept.out / f"codes-{k:05d}.safetensors"
        # In the middle of a batch its codes are here already.
        if lacking and (start % BATCH == 0 or not file.exists()):
            pictures = [picture for picture, _ in (read[i] for i in lacking) if picture is not None]
            with torch.enable_grad():  # optimisation needs it
                found = self.inverter.codes(torch.cat(pictures).to(tools.generator.device))
            save_codes(file, found, tools.generator)
        codes = load_codes(file, tools.generator) if lacking else None
        rows = {i: row for row, i in enumerate(lacking)}
        judged = [_Judged(k * BATCH + i, scores, codes, rows.get(i)) for i, (_, scores) in enumerate(read)]
        return judged[start - k * BATCH :]

    def one(self, judged: _Judged) -> None:
        """Keep or discard what becomes of a picture."""
        state = self.kept.state
        state["tried"] += 1
        if judged.scores is None:
            return self.kept.discard(UNREADABLE, "unreadable")
        if judged.codes is None or judged.row is None:
            state[ALREADY] = state.get(ALREADY, 0) + 1
            return None
        recipe, picture, scores, same = self._brought(judged.codes, judged.row, judged.scores)
        counted = state.setdefault(LOST, {"same": 0, "changed": 0})
        counted["same" if same else "changed"] += 1
        missed = self._missed(scores)
        if missed is not None:
            return self.kept.discard(missed, format_values(missed, scores, self.scorer))
        before = label_values(judged.scores, self.scorer)
        row = {"source": self.origin.names[judged.number]} | label_values(scores, self.scorer)
        row |= {f"{name}_before": before[name] for name in self.wanted.ranges}
        name = f"{Path(self.origin.names[judged.number]).stem}-{judged.number:05d}.png"
        return self.kept.keep(name, to_bytes(picture)[0], recipe, row, judged.codes)

    def _brought(self, codes: Codes, row: int, real: Scores) -> tuple[Recipe, Images, Scores, bool]:
        """The recipe of a code that was edited as long as it helps, its picture, its scores, and whether the picture of the
        code itself had what the real one had."""
        editor, tools = self.tools.required_editor, self.tools.with_codes(codes)
        start = FromCodes(codes.sha256, row)
        recipe = Recipe(tools.generator_name, start, tools.dtype, None, tools.editor_name)
        picture = tools.generator.synthesis(compute_code(recipe, tools))
        scores = self._scores(picture)
        names = self.wanted.ranges
        same = all(format_values(name, scores, self.scorer) == format_values(name, real, self.scorer) for name in names)
        for _ in range(MAX_ATTEMPTS):
            shift = {} if self._missed(scores) is None else self._lacking(scores, editor)
            if not shift:
                break
            recipe = replace(recipe, edits=(*recipe.edits, EditStep(shift=shift)))
            picture = tools.generator.synthesis(compute_code(recipe, tools))
            scores = self._scores(picture)
        named = recipe.editor if recipe.edits else None
        return replace(recipe, editor=named), picture, scores, same

    def _lacking(self, scores: Scores, editor: Editor) -> dict[str, float]:
        """By how much each attribute has to change, in the editor's units, to be as asked by the judge."""
        found = {}
        for name, (low, high) in self.where.items():
            k, score = editor.attributes.index(name), float(scores[0, self.scorer.column(name)])
            objects = editor.kinds[k] == "count" and counts_objects(editor)
            here = score if objects else normal_score(editor, k, score)
            inside = 0.0 if objects else INSIDE
            if low is not None and high is not None:
                inside = min(inside, (high - low) / 2)
            if low is not None and here < low:
                found[name] = low + inside - here
            if high is not None and here > high:
                found[name] = high - inside - here
        return found

    def _read(self, i: int) -> tuple[Images | None, Scores | None]:
        try:
            picture = self.origin.read(i)
        except GanvasError:
            return None, None
        return picture, self._scores(picture.to(self.tools.generator.device))

    def _scores(self, picture: Images) -> Scores:
        return self.scorer(downscale(picture, min(LABEL_SIDE, self.tools.generator.resolution)))

    def _missed(self, scores: Scores) -> str | None:
        return self.wanted.missed(dict(zip(self.scorer.attributes, scores[0].tolist(), strict=True)))
