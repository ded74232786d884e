"""Learn moves of W+ that change one region of pictures, and leave the rest as it was.

A move of a code changes the whole picture. For faces without an attribute, the change of an editor is refined towards where a
scorer is sure of it (``refine_changes``); the picture is blended into the original one in the attribute's region; and the code is
optimised until it draws that composite, as in *semantic diffusion* (Zhu et al., *In-Domain GAN Inversion for Real Image Editing*,
2020, https://arxiv.org/abs/2004.00049, section 3.3), here from the edited code. The mean of the optimised codes less the original
ones is a direction for each row of W+. No attribute's score is in the loss, whose errors a code of a single face would follow; a
scorer chooses the faces that are averaged, those with the attribute afterwards, and the unit. What is particular to single faces,
such as where a composite has a seam, cancels in the mean.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.control.refinement import DEFAULT_CORRECTIONS, refine_changes
from ganvas.editors.base import collect_metadata, fingerprint
from ganvas.editors.compact import CompactEditor, CompactNetworks
from ganvas.editors.picture_calibration import MIN_RESPONSE
from ganvas.engines import run_shards
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator, map_seeds
from ganvas.generators.regions import Region, blend_edit, find_regions
from ganvas.inversion.optimization import WhitenedCoordinates
from ganvas.inversion.perceptual_loss import PerceptualLoss
from ganvas.inversion.quality import fit_w_distribution
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.io.store import Store
from ganvas.progress import Progress
from ganvas.scorers.base import Scorer
from ganvas.seeds import LOCAL_SEED
from ganvas.types import Images, WPlus

KIND, VERSION = "local moves", 1
MIN_FACES = 8
MAX_SEEDS = 64
"""The most seeds among which a face without the attribute is looked for."""
SIDE = 256
"""The side of the pictures that are compared."""
DEFAULT_CHANGE = 1.5
"""The change that is refined, in standard deviations, where no other is given."""
LOCAL_LIMIT = 2.0
"""The change, in standard deviations, up to which moves are local alone: the option ``local_limit``."""
LEARNING_RATE = 0.05
REGION_WEIGHT = 1.0
"""The weight of absolute errors within the region, beside those of the whole picture: it is small."""
MOVE_WEIGHT = 0.02
"""The weight of the mean square of what is added to the edited code, in whitened coordinates."""
MIN_READING = 0.5
"""The least change of the reading, in standard deviations, by the mean of the moves: with less, there is nothing to see."""


@dataclass(frozen=True)
class LocalMoveRun:
    """The local moves of ``n`` faces for an attribute; ``make_shard``, of one face, is the worker of engines.

    ``steps``: of the optimisation of each face. ``change``: of the attribute, in standard deviations, before it is refined.
    ``beside``: the changes of other attributes that the edit has, too, such as glasses for sunglasses.
    """

    editor: CompactEditor
    generator: Generator
    scorer: Scorer
    attribute: str
    n: int
    out: str | Path
    steps: int = 40
    change: float = DEFAULT_CHANGE
    beside: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.n < MIN_FACES:
            raise GanvasError(f"The number of faces must be at least {MIN_FACES}, not {self.n}.")
        if self.steps < 1 or not all(math.isfinite(each) for each in (self.change, *self.beside.values())):
            raise GanvasError("Local moves need at least 1 step, and changes that are finite numbers.")
        if self.change <= 0:
            raise GanvasError(f"The change must be above 0, since what faces lack is added, not {self.change:g}.")
        if self.attribute in self.beside:
            raise GanvasError(f"{self.attribute} can't be beside itself: name another attribute, or none.")
        for name in (self.attribute, *self.beside):
            for known in (self.editor.attributes, self.scorer.attributes):
                if name not in known:
                    raise unknown("attribute", name, known)
        if self.scorer.kinds[self.scorer.column(self.attribute)] != "probability":
            raise GanvasError(
                f"{self.attribute} is a number: only what a picture has or hasn't is learned as a local move."
            )
        if not self.regions:
            raise GanvasError(
                f"{self.attribute} shows in the whole picture of {self.generator.name!r}: only what has a region is local."
            )

    @property
    def regions(self) -> tuple[Region, ...]:
        """The regions that the moves are to change."""
        return find_regions(self.generator.name, [self.attribute])

    @cached_property
    def coordinates(self) -> WhitenedCoordinates:
        """The whitened coordinates of W."""
        return WhitenedCoordinates.from_distribution(fit_w_distribution(self.generator), self.generator.device)

    def describe(self) -> dict[str, Any]:
        """Describe all that a shard depends on."""
        return {
            "kind": KIND,
            "version": VERSION,
            "generator": self.generator.fingerprint,
            "editor": fingerprint(self.editor),
            "scorer": self.scorer.fingerprint,
            "dtype": str(self.generator.dtype).removeprefix("torch."),
            "attribute": self.attribute,
            "edit": {self.attribute: self.change, **self.beside},
            "regions": repr(self.regions),
            "steps": self.steps,
        }

    def make_missing(self, progress: Progress | None = None, **engine: Any) -> None:
        """Learn from the faces that are missing; ``engine``: options of ``run_shards``."""
        missing = {k: 1 for k in range(self.n) if self._load_face(k) is None}
        done = self.n - len(missing)
        callback = None if progress is None else lambda faces, _: progress(done + faces, self.n)
        run_shards(self.make_shard, missing, gpu=self.generator.device.type == "cuda", progress=callback, **engine)

    @torch.no_grad()
    def make_shard(self, k: int, advance: Callable[[int], object]) -> str:
        """Learn from face ``k``, and return the shard's name."""
        ws = self.find_face(k)
        before = self._draw(ws)
        asked = {self.attribute: self.change, **self.beside}
        refined = refine_changes(self.editor, self._draw, self.scorer, ws, asked, corrections=DEFAULT_CORRECTIONS)
        edited = self.editor.edit_quietly(ws, refined.changes)
        composite = blend_edit(before, self._draw(edited), self.regions)
        optimized = self.draw_composite(edited, composite)
        Store(self.out).save(self._name_shard(k), {"moves": (optimized - ws).float().cpu()}, self.describe())
        advance(1)
        return self._name_shard(k)

    def find_face(self, k: int) -> WPlus:
        """Return the code of the first face without the attribute, of seeds that belong to face ``k`` alone."""
        for seed in range(LOCAL_SEED + MAX_SEEDS * k, LOCAL_SEED + MAX_SEEDS * (k + 1)):
            ws = self.generator.expand(map_seeds(self.generator, [seed]))
            if self._score(self._draw(ws)) < 0:
                return ws
        raise GanvasError(f"Of {MAX_SEEDS} faces all have {self.attribute} already: there is nothing to learn from.")

    def draw_composite(self, ws: WPlus, composite: Images) -> WPlus:
        """Optimise a code (1, num_ws, w_dim) until it draws a composite (1, 3, side, side), and return it."""
        start = self.coordinates.whiten(ws).detach()
        mask = torch.stack([region.build_mask(*composite.shape[2:]) for region in self.regions]).amax(0).to(composite)
        with torch.enable_grad():
            loss_function = PerceptualLoss(composite, weights=(1, 1, 0, 0))
            moved = torch.zeros_like(start, requires_grad=True)
            optimizer = torch.optim.Adam([moved], LEARNING_RATE, (0.9, 0.95))
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
            for _ in range(self.steps):
                picture = self._draw(self.coordinates.unwhiten(start + moved))
                inside = ((picture - composite).abs() * mask).sum() / (3 * mask.sum())
                loss = loss_function.compute_distance(picture) + REGION_WEIGHT * inside
                loss = loss + MOVE_WEIGHT * moved.square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        return self.coordinates.unwhiten(start + moved.detach())

    def load(self) -> Float[Tensor, "faces num_ws w_dim"]:
        """Load the moves of all faces. Raises GanvasError where some are missing."""
        faces = [self._load_face(k) for k in range(self.n)]
        missing = [k for k, face in enumerate(faces) if face is None]
        if missing:
            raise GanvasError(f"{self.out} has no whole {self._name_shard(missing[0])}: learn it again.")
        return torch.cat([face for face in faces if face is not None])

    @torch.no_grad()
    def average_moves(self) -> tuple[Float[Tensor, "num_ws w_dim"], int]:
        """Average the moves of the faces whose pictures have the attribute afterwards; return how many these are, too.

        Raises GanvasError where some are missing, and for fewer than MIN_FACES.
        """
        moves = self.load()
        shown = [k for k, move in enumerate(moves) if self._score(self._draw_moved(k, move)) > 0]
        if len(shown) < MIN_FACES:
            raise GanvasError(
                f"Only {len(shown)} of {self.n} faces have {self.attribute} after the edit, and {MIN_FACES} are needed: use more"
                " faces, a larger change, or another change beside it."
            )
        return moves[shown].mean(0), len(shown)

    @torch.no_grad()
    def measure_change(self, move: Float[Tensor, "num_ws w_dim"]) -> float:
        """Measure the mean change of the reading when ``move`` is added to the faces' codes, in standard deviations."""
        after = [self._read(self._draw_moved(k, move)) for k in range(self.n)]
        before = [self._read(self._draw(self.find_face(k))) for k in range(self.n)]
        return (math.fsum(after) - math.fsum(before)) / self.n

    def _draw_moved(self, k: int, move: Float[Tensor, "num_ws w_dim"]) -> Images:
        """Draw face ``k`` with a move in its region."""
        ws = self.find_face(k)
        return blend_edit(self._draw(ws), self._draw(ws + move.to(ws)), self.regions)

    def _name_shard(self, k: int) -> str:
        return f"local-{self.attribute}-{k:05d}.safetensors"

    def _load_face(self, k: int) -> Tensor | None:
        tensors = Store(self.out).load(self._name_shard(k), self.describe(), "moves", 1)
        return None if tensors is None else tensors["moves"]

    def _draw(self, ws: WPlus) -> Images:
        return self.generator.synthesis(ws, resolution=min(SIDE, self.generator.resolution)).float()

    def _score(self, picture: Images) -> float:
        scores = self.scorer(downscale(picture, min(LABEL_SIDE, picture.shape[-1])))
        return float(scores[0, self.scorer.column(self.attribute)])

    def _read(self, picture: Images) -> float:
        k = self.editor.attributes.index(self.attribute)
        return float(self.editor.gaussianize.select([k])(torch.tensor([[self._score(picture)]])))


@torch.no_grad()
def add_local_moves(editor: CompactEditor, runs: list[LocalMoveRun]) -> CompactEditor:
    """Return a copy of an editor that moves the attributes of ``runs`` locally.

    A change of 1 moves the scorer's reading by 1 in the mean over faces, as far as that is linear: it is measured with the whole
    mean of a run's moves, on its own faces. Raises GanvasError for an attribute of two runs, as ``average_moves``, and
    for moves that hardly change what is read.
    """
    names = [run.attribute for run in runs]
    if len(set(names)) != len(names) or not names:
        raise GanvasError(f"Name each attribute once, and at least one, not {names}.")
    kept = [] if editor.local_moves is None else editor.local_moves
    moves = dict(zip(editor.options.get("local", ()), kept, strict=True))
    own = torch.ones(len(editor.attributes)) if editor.responses is None else editor.responses.clone()
    changes: dict[str, float] = {}
    for run in runs:
        mean, shown = run.average_moves()
        changes[run.attribute] = run.measure_change(mean)
        if changes[run.attribute] < MIN_READING:
            raise GanvasError(
                f"The mean of {shown} moves for {run.attribute} changes its reading by {changes[run.attribute]:.2f} σ:"
                f" {MIN_READING} are needed."
            )
        moves[run.attribute] = (mean / changes[run.attribute]).to(editor.probe.weight)
    for name, move in moves.items():
        k = editor.attributes.index(name)
        own[k] = (move.mean(0) @ editor.probe.weight[:, k]).clamp(min=MIN_RESPONSE)
    options = {**editor.options, "local": list(moves), "local_limit": LOCAL_LIMIT}
    report = {**editor.report.get("local_change", {}), **{name: round(change, 4) for name, change in changes.items()}}
    metadata = replace(collect_metadata(editor), options=options, report={**editor.report, "local_change": report})
    parts = CompactNetworks(editor.encoder, editor.decoder, editor.reader)
    copy = CompactEditor(metadata, editor.pca, parts, own, torch.stack(list(moves.values())))
    for buffer in ("doubt", "moves"):
        copy.get_buffer(buffer).copy_(editor.get_buffer(buffer))
    return copy.to(editor.get_buffer("moves").device)
