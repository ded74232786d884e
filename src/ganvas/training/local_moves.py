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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.control.refinement import DEFAULT_CORRECTIONS, refine_changes
from ganvas.editors.base import collect_metadata
from ganvas.editors.compact import CompactEditor, copy_editor
from ganvas.editors.face_runs import MIN_FACES, FaceRun
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import map_seeds
from ganvas.generators.regions import Region, blend_edit, find_regions
from ganvas.inversion.optimization import WhitenedCoordinates
from ganvas.inversion.perceptual_loss import PerceptualLoss
from ganvas.inversion.quality import fit_w_distribution
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.seeds import LOCAL_SEED
from ganvas.types import Images, WPlus

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
"""The weight of absolute errors within the region, beside those of the whole picture, of which it is a small part."""
MOVE_WEIGHT = 0.02
"""The weight of the mean square of what is added to the edited code, in whitened coordinates."""
MIN_READING = 0.5
"""The least change of the reading, in standard deviations, by the mean of the moves: with less, there is nothing to see."""


@dataclass(frozen=True, eq=False)
class LocalMoveRun(FaceRun):
    """The local moves of ``n`` faces for an attribute.

    ``steps``: of the optimisation of each face. ``change``: of the attribute, in standard deviations, before it is refined.
    ``beside``: the changes of other attributes that the edit has, too, such as glasses for sunglasses.
    """

    attribute: str
    steps: int = 40
    change: float = DEFAULT_CHANGE
    beside: Mapping[str, float] = field(default_factory=dict)

    kind = "local moves"
    tensors = ("moves", "codes")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1 or not all(math.isfinite(each) for each in (self.change, *self.beside.values())):
            raise GanvasError("Local moves need at least 1 step, and changes that are finite numbers.")
        if self.change <= 0:
            raise GanvasError(f"The change must be above 0, since what faces lack is added, not {self.change:g}.")
        if self.attribute in self.beside:
            raise GanvasError(
                f"{self.attribute} can't be beside itself: name another attribute, or learn them one after the other."
            )
        for name in (self.attribute, *self.beside):
            for known in (self.editor.attributes, self.scorer.attributes):
                if name not in known:
                    raise unknown("attribute", name, known)
        if self.scorer.kinds[self.scorer.column(self.attribute)] != "probability":
            raise GanvasError(
                f"{self.attribute} is a number: only what a picture has or hasn't is learned as a local move."
            )
        if not self.regions or any(region.parts for region in self.regions):
            raise GanvasError(
                f"{self.attribute} has no ellipse of its own in pictures of {self.generator.name!r}, or one that follows the"
                " face's parts: only what shows in one is learned as a local move."
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
        """Describe what a shard depends on; ``version`` stands for the code's own constants."""
        return super().describe() | {
            "attribute": self.attribute,
            "edit": {self.attribute: self.change, **self.beside},
            "regions": repr(self.regions),
            "steps": self.steps,
        }

    def name_shard(self, k: int) -> str:
        """Return the name of the shard of face ``k``."""
        return f"local-{self.attribute}-{k:05d}.safetensors"

    def measure_face(self, k: int) -> dict[str, Tensor]:
        """Learn from face ``k``: its code, and the move that draws the edit in the region."""
        ws = self.find_face(k)
        before = self._draw(ws)
        asked = {self.attribute: self.change, **self.beside}
        refined = refine_changes(self.editor, self._draw, self.scorer, ws, asked, corrections=DEFAULT_CORRECTIONS)
        edited = self.editor.edit_quietly(ws, refined.changes)
        composite = blend_edit(before, self._draw(edited), self.regions)
        return {"codes": ws.float(), "moves": (self.draw_composite(edited, composite) - ws).float()}

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

    @torch.no_grad()
    def average_moves(self) -> tuple[Float[Tensor, "num_ws w_dim"], int, float]:
        """Average the moves of the faces whose pictures have the attribute afterwards.

        Returns the mean, of how many faces it is, and by how much it changes the reading of all faces in the mean, in standard
        deviations. Raises GanvasError where faces are missing, for fewer than MIN_FACES, and where the mean hardly changes the
        reading.
        """
        loaded = {name: tensor.to(self.generator.device) for name, tensor in self.load_tensors().items()}
        codes, moves = loaded["codes"].split(1), loaded["moves"]
        before = [self._draw(ws) for ws in codes]
        drawn = [self._draw_moved(*face) for face in zip(before, codes, moves, strict=True)]
        shown = [k for k, picture in enumerate(drawn) if self._score(picture) > 0]
        if len(shown) < MIN_FACES:
            raise GanvasError(
                f"Only {len(shown)} of {self.n} faces have {self.attribute} after the edit, and {MIN_FACES} are needed: use more"
                " faces, a larger change, or another change beside it."
            )
        mean = moves[shown].mean(0)
        changes = [
            self._read(self._draw_moved(picture, ws, mean)) - self._read(picture)
            for picture, ws in zip(before, codes, strict=True)
        ]
        changed = math.fsum(changes) / self.n
        if changed < MIN_READING:
            raise GanvasError(
                f"The mean of {len(shown)} moves for {self.attribute} changes its reading by {changed:.2f} σ: {MIN_READING} are"
                " needed."
            )
        return mean.cpu(), len(shown), changed

    def _draw_moved(self, before: Images, ws: WPlus, move: Float[Tensor, "num_ws w_dim"]) -> Images:
        """Draw a face with a move in its region."""
        return blend_edit(before, self._draw(ws + move), self.regions)

    def _draw(self, ws: WPlus) -> Images:
        return self.generator.synthesis(ws, resolution=min(SIDE, self.generator.resolution)).float()

    def _score(self, picture: Images) -> float:
        scores = self.scorer(downscale(picture, min(LABEL_SIDE, picture.shape[-1])))
        return float(scores[0, self.scorer.column(self.attribute)])

    def _read(self, picture: Images) -> float:
        k = self.editor.attributes.index(self.attribute)
        return float(self.editor.gaussianize.select([k])(torch.tensor([[self._score(picture)]])))


@torch.no_grad()
def add_local_moves(editor: CompactEditor, runs: Sequence[LocalMoveRun]) -> CompactEditor:
    """Return a copy of an editor that moves the attributes of ``runs`` locally, beside those that it moves so already.

    A change of 1 moves the scorer's reading by 1 in the mean over faces, as far as that is linear: it is measured with the whole
    mean of a run's moves, on its own faces. Raises GanvasError for an attribute of two runs, and as ``average_moves``.
    """
    check_runs(editor, runs)
    kept = [] if editor.local_moves is None else editor.local_moves
    moves = dict(zip(editor.options.get("local", ()), kept, strict=True))
    report = {key: dict(editor.report.get(key, {})) for key in ("local_change", "local_faces")}
    for run in runs:
        mean, faces, changed = run.average_moves()
        moves[run.attribute] = (mean / changed).to(editor.probe.weight)
        report["local_change"][run.attribute] = round(changed, 4)
        report["local_faces"][run.attribute] = faces
    options = {**editor.options, "local": list(moves), "local_limit": editor.options.get("local_limit", LOCAL_LIMIT)}
    metadata = replace(collect_metadata(editor), options=options, report={**editor.report, **report})
    return copy_editor(editor, metadata, {"local_moves": torch.stack(list(moves.values()))})


def check_runs(editor: CompactEditor, runs: Sequence[LocalMoveRun]) -> None:
    """Raise GanvasError where there is no run, two are of one attribute, or one is of another editor."""
    if any(run.editor is not editor for run in runs):
        raise GanvasError("Local moves are added to the editor whose edits they were learned from, not to another one.")
    names = [run.attribute for run in runs]
    if len({*names}) != len(names) or not names:
        raise GanvasError(f"Name each attribute once, and at least one, not {names}.")
