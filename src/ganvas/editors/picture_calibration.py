"""Calibrate a compact editor in pictures: measure what its moves do there, and move what was asked for only.

A move holds the readings of codes, and pictures show more than a linear reading of a code does: a move for glasses that holds
the reading of sunglasses may darken them all the same. So the faces of some codes are drawn before and after each move, and a
scorer says how far every attribute changed: its response. The readings of codes are then corrected to agree with the
responses, as little as possible by Mahalanobis length and no more than the responses are sure of, and moves are solved for
again. A change of 1 then moves the attribute by one standard deviation on average as the scorer reads pictures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.data.entailment import ENTAILED
from ganvas.data.label import EARLY_SIDE
from ganvas.editors._compact_moves import (
    MIN_RESPONSE,
    MoveCalibrationSet,
    limit_lengths,
    linearize_codes,
    measure_moves,
    solve_within,
)
from ganvas.editors.base import collect_metadata, format_report
from ganvas.editors.compact import CompactEditor, compute_held_weights, copy_editor, parse_stored_options
from ganvas.editors.face_runs import MIN_FACES, FaceRun
from ganvas.errors import GanvasError, unknown
from ganvas.generators.base import Generator, map_seeds
from ganvas.io.images import LABEL_SIDE, downscale
from ganvas.seeds import CALIBRATION_SEED

CODES = 512
"""The codes on which moves are solved for."""
Responses = Float[Tensor, "faces moved read"]


@dataclass(frozen=True, eq=False)
class ResponseRun(FaceRun):
    """The responses of ``n`` faces to a change of ±1 of each attribute."""

    kind = "responses"
    tensors = ("responses",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.editor.local_moves is not None:
            names = ", ".join(self.editor.options["local"])
            raise GanvasError(f"This editor has local moves, of {names}: calibrate it first, and localize it then.")
        for name in self.editor.attributes:
            if name not in self.scorer.attributes:
                raise unknown("attribute", name, self.scorer.attributes)

    def measure_face(self, k: int) -> dict[str, Tensor]:
        """Measure face ``k``, up where it is even and down where it is odd."""
        ws = self.generator.expand(map_seeds(self.generator, [CALIBRATION_SEED + k]))
        before = self._read(ws)
        change = 1.0 if k % 2 == 0 else -1.0
        after = torch.cat([self._read(self.editor.edit_quietly(ws, {name: change})) for name in self.editor.attributes])
        return {"responses": change * (after - before)[None]}

    def load(self) -> Responses:
        """Load the responses of all faces, in standard deviations. Raises GanvasError where some are missing."""
        return self.load_tensors()["responses"]

    def _read(self, ws: Tensor) -> Tensor:
        picture = self.generator.synthesis(ws, resolution=min(EARLY_SIDE, self.generator.resolution))
        scores = self.scorer(downscale(picture, min(LABEL_SIDE, picture.shape[-1])))
        columns = [self.scorer.column(name) for name in self.editor.attributes]
        return self.editor.gaussianize(scores[:, columns])


@torch.no_grad()
def calibrate_moves_in_pictures(
    editor: CompactEditor, generator: Generator, responses: Responses, hold: float
) -> CompactEditor:
    """Return a copy of an editor whose moves change in pictures what is asked for, and hold the rest.

    ``responses``: of faces to its own moves, as ``ResponseRun.load`` returns. ``hold``: the weight of the other attributes'
    changes against the length of a move; attributes that the editor protects count more. Raises GanvasError for responses of
    another number of attributes, and for fewer than MIN_FACES.
    """
    k = len(editor.attributes)
    if responses.shape[1:] != (k, k) or len(responses) < MIN_FACES:
        raise GanvasError(
            f"Responses of {len(responses)} faces and {tuple(responses.shape[1:])} attributes don't calibrate {k} attributes."
        )
    w = map_seeds(generator, range(CALIBRATION_SEED, CALIBRATION_SEED + CODES))
    x = editor.pca.project(w)
    calibration = MoveCalibrationSet(x, editor.encoder(x), editor.decoder, editor.shell, editor.shell.readings)
    linearized = linearize_codes(calibration)
    before = editor.get_buffer("moves").double()
    readings = correct_readings(
        linearized.jacobian @ editor.shell.readings.double(), before, linearized.metric, responses.to(before)
    )
    config = parse_stored_options(editor.options)
    config = replace(config, hold=hold, entailed=config.entailed or ENTAILED)
    weights = compute_held_weights(config, editor.attributes)
    solved = solve_within(linearized, readings, readings, weights.to(readings), config.max_unit_length)
    # What pictures don't show to move keeps its move.
    shown = (responses.mean(0).diagonal() > 0) & solved.isfinite().all(1).to(responses.device)
    moves = limit_lengths(calibration, torch.where(shown.to(before.device)[:, None], solved, before).float())
    own, total = responses.mean(0).diagonal(), responses.mean(0).abs().sum(1)
    measured = {
        "calibrated_on": len(responses),
        **format_report(
            editor.attributes, before_in_pictures=own, others_in_pictures=(total - own.abs()) / max(k - 1, 1)
        ),
    }
    metadata = replace(collect_metadata(editor), report={**editor.report, **measured})
    moved = measure_moves(calibration, moves).response.clamp(min=MIN_RESPONSE)
    return copy_editor(editor, metadata, {"moves": moves, "responses": moved})


def correct_readings(
    readings: Float[Tensor, "dim attributes"],
    moves: Float[Tensor, "attributes dim"],
    length: Float[Tensor, "dim dim"],
    responses: Responses,
) -> Float[Tensor, "dim attributes"]:
    """Correct linear readings of a code so that they agree with the responses to moves.

    The correction is the mean of its posterior, where it is as likely in every direction of Mahalanobis length 1, by a variance
    that is estimated from the responses (empirical Bayes), and responses have the noise of a mean over faces.
    """
    mean, noise = responses.mean(0), float(responses.var(0).mean()) / len(responses)
    wrong = mean - moves @ readings
    along = torch.linalg.solve(length, moves.T)  # (dim, attributes)
    gram = moves @ along
    per_length = max(float(wrong.square().mean()) - noise, 0.0) / float(gram.diagonal().mean())
    if per_length == 0:
        return readings
    return readings + along @ torch.linalg.solve(gram + noise / per_length * torch.eye(len(gram)).to(gram), wrong)
