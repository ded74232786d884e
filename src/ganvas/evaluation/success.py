"""The protocol of Lesné et al., section 4.3, within the bound of the typical set.

A face with p < 0.5 is edited with growing strength until p > 0.9. Strength stops where the code's Mahalanobis distance
from W passes the 99.9th percentile of sampled codes; what has not arrived by then is a failure. Age is CelebA's
"Young": it is tried towards old, from p > 0.5 to p < 0.1. Faces come from fresh seeds, so no editor learned from them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from ganvas.control.search import ScoredView, StrengthLadder, reach_target
from ganvas.data.distribution import PERCENTILE, Distribution, fit_distribution
from ganvas.editors.base import Editor, fingerprint
from ganvas.errors import GanvasError, unknown
from ganvas.evaluation.papers import ATTRIBUTES
from ganvas.evaluation.tables import markdown
from ganvas.evaluation.trials import EditGoal, FacePool, dtype_name, grow_pool, load_trial, save_trial
from ganvas.generators.base import Generator
from ganvas.io.files import write_json, write_text
from ganvas.metrics import (
    Trial,
    distance_moved,
    mahalanobis_after,
    off_target_drift,
    success,
    success_within,
    variation_row,
)
from ganvas.progress import show_advance
from ganvas.recipe.files import check_output
from ganvas.scorers.base import Scorer
from ganvas.seeds import EVALUATION_SEED
from ganvas.stats import Estimate, bootstrap_mean

DOWNWARD_ATTRIBUTES = ("Young",)
"""Attributes that are tried towards their absence: the paper's "age" makes faces older."""
TARGET_PROBABILITY = 0.9
"""The probability that ends an edit."""
LEADING_COMPONENTS = 60
"""Number of leading components within which success is also counted: the bound is tighter there."""


@dataclass(frozen=True)
class SuccessProtocol:
    """``n`` faces an attribute, drawn from ``seed`` upwards at ``psi``, edited along ``ladder``.

    ``measured`` codes fit the covariance of W, and as many give the bound.
    """

    n: int = 256
    seed: int = EVALUATION_SEED
    psi: float = 1.0
    ladder: StrengthLadder = StrengthLadder(0.5, 6.0, climb=True)  # noqa: RUF009 (frozen)
    batch: int = 8
    measured: int = 20_000

    def __post_init__(self) -> None:
        if self.n < 1:
            raise GanvasError(f"The number of faces must be at least 1, not {self.n}.")
        if not math.isfinite(self.psi):
            raise GanvasError(f"psi must be a finite number, not {self.psi}.")


FULL_PROTOCOL = SuccessProtocol()
"""The paper's size."""


def make_goal(attribute: str) -> EditGoal:
    """Return the goal of an attribute: the direction in which it is tried."""
    return EditGoal(attribute, up=attribute not in DOWNWARD_ATTRIBUTES)


def check_protocol(scorer: Scorer, editor: Editor, attributes: Sequence[str]) -> None:
    """Raise GanvasError where the protocol can't be run on an attribute, or there are none."""
    if not attributes:
        raise GanvasError(f"There are no attributes to try: name some of {', '.join(editor.attributes)}.")
    for attribute in attributes:
        for names in (scorer.attributes, editor.attributes):
            if attribute not in names:
                raise unknown("attribute", attribute, names)
        kind = scorer.kinds[scorer.column(attribute)]
        if kind != "probability":
            raise GanvasError(f"{attribute!r} is a {kind}: this protocol needs a probability.")


def run_protocol(
    view: ScoredView,
    editor: Editor,
    goal: EditGoal,
    pool: FacePool,
    n: int,
    ladder: StrengthLadder,
    typical_set: Distribution,
) -> Trial:
    """Run the protocol on the first ``n`` faces of the pool that ``goal`` can be tried on."""
    index = pool.find_lacking(view, goal)[:n]
    ws, before = pool.make_codes(view.generator, index), pool.scores[index]
    reached = reach_target(
        editor,
        view,
        ws,
        goal.attribute,
        goal.get_target(TARGET_PROBABILITY),
        start=before.to(ws),
        ladder=ladder,
        within=typical_set,
    )
    return Trial(
        attribute=goal.attribute,
        attributes=view.scorer.attributes,
        kinds=view.scorer.kinds,
        before=ws,
        after=reached.codes,
        scores_before=before,
        scores_after=reached.scores,
        arrived=reached.arrived,
        strengths=reached.strengths,
        stopped=reached.stopped,
        renders=reached.renders,
    )


@dataclass(frozen=True)
class SuccessResult:
    """All trials of one editor, with the faces and the bound that they share."""

    trials: tuple[Trial, ...]
    pool: FacePool
    typical_set: Distribution
    seconds: float


def run_trials(
    generator: Generator,
    scorer: Scorer,
    editor: Editor,
    attributes: Sequence[str],
    protocol: SuccessProtocol,
    out: Path | None,
) -> SuccessResult:
    """Run one trial an attribute. With ``out`` the pool's scores and finished trials are kept there and not made again.

    Raises GanvasError for an unknown attribute, or one that too few faces lack.
    """
    check_protocol(scorer, editor, attributes)
    began = time.monotonic()
    view = ScoredView(generator, scorer, protocol.batch)
    empty = FacePool(torch.zeros(0, len(scorer.attributes)), protocol.seed, protocol.psi)
    typical_set = fit_distribution(generator, protocol.measured)
    with show_advance("Scoring fresh faces") as advance:
        goals = [make_goal(a) for a in attributes]
        pool = grow_pool(replace(view, on_batch=advance), goals, protocol.n, empty, out and out / "pool.safetensors")
    trials = []
    for goal in goals:
        file = out and out / "trials" / f"{goal.attribute}.safetensors"
        key = {**_list_fingerprints(generator, scorer, editor), "protocol": asdict(protocol), "up": goal.up}
        trial = load_trial(file, key) if file else None
        if trial is None:
            with show_advance(f"Editing {goal.attribute}") as advance:
                reporting = replace(view, on_batch=advance)
                trial = run_protocol(reporting, editor, goal, pool, protocol.n, protocol.ladder, typical_set)
            if file:
                save_trial(file, trial, key)
        trials.append(trial)
    return SuccessResult(tuple(trials), pool, typical_set, time.monotonic() - began)


def run_success(
    generator: Generator,
    scorer: Scorer,
    editor: Editor,
    out: str | Path,
    attributes: Sequence[str] = ATTRIBUTES,
    protocol: SuccessProtocol = FULL_PROTOCOL,
) -> dict[str, Any]:
    """Run the protocol and write ``out``/success.json and success.md; started again it goes on where it was stopped.

    Returns what the JSON holds. Raises GanvasError as ``run_trials``, and where ``out`` can't be written.
    """
    out = Path(out)
    # Before the first picture is rendered: a folder that can't be written should not cost minutes.
    check_output(out / "success.json", (".json",))
    outcome = run_trials(generator, scorer, editor, attributes, protocol, out)
    results = build_success_report(generator, scorer, editor, protocol, outcome)
    write_json(out / "success.json", results)
    write_text(out / "success.md", markdown(results))
    return results


def build_success_report(
    generator: Generator, scorer: Scorer, editor: Editor, protocol: SuccessProtocol, outcome: SuccessResult
) -> dict[str, Any]:
    """Return every number of a run, as JSON holds it."""
    return {
        **_list_fingerprints(generator, scorer, editor),
        "method": editor.method,
        "protocol": {**asdict(protocol), "target": TARGET_PROBABILITY},
        "bound": {"percentile": PERCENTILE, "distance": outcome.typical_set.bound, "components": LEADING_COMPONENTS},
        "pool": len(outcome.pool.scores),
        "seconds": round(outcome.seconds, 1),
        "attributes": {trial.attribute: _summarise_trial(trial, editor, outcome) for trial in outcome.trials},
    }


def _list_fingerprints(generator: Generator, scorer: Scorer, editor: Editor) -> dict[str, str]:
    """Return what a trial depends on."""
    return {
        "generator": f"{generator.name}:{generator.fingerprint}",
        "dtype": dtype_name(generator),
        "scorer": f"{scorer.name}:{scorer.fingerprint}",
        "editor": f"{editor.method}:{fingerprint(editor)}",
    }


def _summarise_trial(trial: Trial, editor: Editor, outcome: SuccessResult) -> dict[str, Any]:
    """Return the numbers of one attribute."""
    probabilities = torch.sigmoid(outcome.pool.scores[:, trial.column])
    goal = make_goal(trial.attribute)
    tight = outcome.typical_set.select_leading(min(LEADING_COMPONENTS, len(outcome.typical_set.bounds)))
    columns = [trial.attributes.index(a) for a in editor.attributes]
    narrowed = replace(
        trial,
        attributes=editor.attributes,
        scores_before=trial.scores_before[:, columns],
        scores_after=trial.scores_after[:, columns],
    )
    numbers = {
        "success": bootstrap_mean(success(trial)),
        "success_leading": bootstrap_mean(success_within(trial, tight)),
        "strength": bootstrap_mean(trial.strengths),
        "distance_moved": bootstrap_mean(distance_moved(trial)),
        "mahalanobis_before": bootstrap_mean(outcome.typical_set.mahalanobis(trial.before)),
        "mahalanobis_after": bootstrap_mean(mahalanobis_after(trial, outcome.typical_set)),
    }
    if len(editor.attributes) > 1:
        numbers["off_target_drift"] = bootstrap_mean(off_target_drift(narrowed, editor.gaussianize))
    row = variation_row(trial).tolist()
    return {
        "towards": "present" if goal.up else "absent",
        "n": len(trial),
        "base_rate": float((probabilities > 0.5).double().mean()),
        "failed": int((~trial.arrived).sum()),
        "failed_at_bound": int(trial.stopped.sum()) if trial.stopped is not None else None,
        "renders": int(trial.renders.sum()) if trial.renders is not None else None,
        **{name: _to_json(value) for name, value in numbers.items()},
        "variation": {a: v if math.isfinite(v) else None for a, v in zip(trial.attributes, row, strict=True)},
    }


def _to_json(value: Estimate) -> dict[str, float | int | None]:
    """Return an estimate with None for nan."""
    return {k: v if math.isfinite(v) else None for k, v in asdict(value).items()}
