"""The protocol of Lesné et al., section 4.3, for one editor, within the bound of the typical set.

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

from ganvas.control.search import StrengthLadder, reach_target
from ganvas.data.distribution import PERCENTILE, Distribution, fit_distribution
from ganvas.editors.base import Editor, fingerprint
from ganvas.errors import GanvasError, unknown
from ganvas.evaluation.context import make_code_scorer
from ganvas.evaluation.faces import POOL_STEP_FACES, TARGET_PROBABILITY, FacePool, get_dtype_name, grow_pool, make_goal
from ganvas.evaluation.pages import PageSection, format_estimate, render_markdown, to_json
from ganvas.evaluation.papers import ATTRIBUTES, SUCCESS
from ganvas.generators.base import Generator
from ganvas.io.files import write_json, write_text
from ganvas.metrics import Trial
from ganvas.metrics.codes import distance, mahalanobis
from ganvas.metrics.effects import drift, success, variation
from ganvas.progress import show_advance
from ganvas.recipe.files import check_output
from ganvas.scorers.base import Scorer
from ganvas.seeds import EVALUATION_SEED
from ganvas.stats import bootstrap_mean, estimate_proportion

LEADING_COMPONENTS = 60
"""Number of leading components within which success is also counted: the bound is tighter there."""
MAX_POOL_PER_FACE = 40
"""Fresh faces scored for one that is needed, before an attribute counts as too one-sided."""


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
            raise GanvasError(f"The number of pictures must be at least 1, not {self.n}.")
        if not math.isfinite(self.psi):
            raise GanvasError(f"psi must be a finite number, not {self.psi}.")


FULL_PROTOCOL = SuccessProtocol()
"""The paper's size."""


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
    """Run one trial an attribute. With ``out`` pictures' scores are kept there, and none is rendered again.

    Raises GanvasError for an unknown attribute, or one that too few faces lack.
    """
    check_protocol(scorer, editor, attributes)
    began = time.monotonic()
    typical_set = fit_distribution(generator, protocol.measured)
    goals = [make_goal(attribute) for attribute in attributes]
    with show_advance("Scoring fresh pictures") as advance:
        code_scorer, _ = make_code_scorer(generator, scorer, protocol.batch, out and out / "pool", advance)
        empty = FacePool(torch.zeros(0, len(scorer.attributes)), protocol.seed, protocol.psi)
        step = min(POOL_STEP_FACES, 2 * protocol.n)
        limit = MAX_POOL_PER_FACE * protocol.n + POOL_STEP_FACES
        pool = grow_pool(code_scorer, goals, protocol.n, empty, step, limit, step)
    trials = []
    for goal in goals:
        index = pool.find_lacking(code_scorer, goal)[: protocol.n]
        if len(index) < protocol.n:
            raise GanvasError(
                f"Only {len(index)} of {len(pool.scores)} pictures can be tried on {goal.attribute!r}, not {protocol.n}:"
                " ask for fewer, or for another attribute."
            )
        ws, before = pool.make_codes(generator, index), pool.scores[index]
        with show_advance(f"Editing {goal.attribute}") as advance:
            path = out and out / "trials" / goal.attribute
            reached = reach_target(
                editor,
                make_code_scorer(generator, scorer, protocol.batch, path, advance)[0],
                ws,
                goal.attribute,
                goal.get_target(TARGET_PROBABILITY),
                start=before.to(ws),
                ladder=protocol.ladder,
                within=typical_set,
            )
        trials.append(
            Trial(
                goal.attribute,
                scorer.attributes,
                scorer.kinds,
                before=ws.cpu(),
                after=reached.codes.cpu(),
                scores_before=before,
                scores_after=reached.scores.cpu(),
                arrived=reached.arrived.cpu(),
                strengths=reached.strengths.cpu(),
                stopped=reached.stopped.cpu(),
                renders=reached.renders.cpu(),
                typical_set=typical_set,
            )
        )
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
    result = run_trials(generator, scorer, editor, attributes, protocol, out)
    results = {
        "generator": f"{generator.name}:{generator.fingerprint}",
        "dtype": get_dtype_name(generator),
        "scorer": f"{scorer.name}:{scorer.fingerprint}",
        "editor": f"{editor.method}:{fingerprint(editor)}",
        "method": editor.method,
        "protocol": {**asdict(protocol), "target": TARGET_PROBABILITY},
        "bound": {"percentile": PERCENTILE, "distance": result.typical_set.bound, "components": LEADING_COMPONENTS},
        "pool": len(result.pool.scores),
        "seconds": round(result.seconds, 1),
        "attributes": {trial.attribute: _summarise_trial(trial, editor, result) for trial in result.trials},
    }
    write_json(out / "success.json", results)
    title = f"Success of {results['method']} on {generator.name}"
    section = PageSection("By attribute", "", table=build_success_table(results))
    write_text(
        out / "success.md", render_markdown(title, describe_protocol(results), [section], "success.json has all of it.")
    )
    return results


def _summarise_trial(trial: Trial, editor: Editor, result: SuccessResult) -> dict[str, Any]:
    """Return the numbers of one attribute."""
    typical_set = result.typical_set
    tight = typical_set.select_leading(min(LEADING_COMPONENTS, len(typical_set.bounds)))
    columns = [trial.attributes.index(a) for a in editor.attributes]
    device = editor.gaussianize.scores.device
    before, after = (
        editor.gaussianize(scores[:, columns].to(device)).cpu() for scores in (trial.scores_before, trial.scores_after)
    )
    seen = replace(
        trial,
        changes=after - before,
        others=torch.tensor([name != trial.attribute for name in editor.attributes]),
    )
    numbers = {
        "success": estimate_proportion(success(trial)),
        "success_leading": estimate_proportion((trial.arrived & tight.contains(trial.after)).float()),
        "strength": bootstrap_mean(trial.strengths),
        "distance_moved": bootstrap_mean(distance(trial)),
        "mahalanobis_before": bootstrap_mean(typical_set.mahalanobis(trial.before)),
        "mahalanobis_after": bootstrap_mean(mahalanobis(trial)),
    }
    if len(editor.attributes) > 1:
        numbers["off_target_drift"] = bootstrap_mean(torch.where(trial.arrived, drift(seen), torch.nan))
    row = variation(trial)[trial.arrived].double().mean(0).tolist()
    return {
        "towards": "present" if make_goal(trial.attribute).up else "absent",
        "n": len(trial),
        "base_rate": float((torch.sigmoid(result.pool.scores[:, trial.column]) > 0.5).double().mean()),
        "failed": int((~trial.arrived).sum()),
        "failed_at_bound": int(trial.stopped.sum()) if trial.stopped is not None else None,
        "renders": int(trial.renders.sum()) if trial.renders is not None else None,
        **to_json(numbers),
        "variation": to_json(dict(zip(trial.attributes, row, strict=True))),
    }


def describe_protocol(results: dict[str, Any]) -> str:
    """Describe the protocol, and the columns of the table."""
    protocol, bound = results["protocol"], results["bound"]
    return (
        f"{protocol['n']} fresh faces an attribute (seeds from {protocol['seed']}, psi {protocol['psi']:g}), edited"
        f" with growing strength until p > {protocol['target']} (towards absent: until p < {1 - protocol['target']:.1f}), in"
        f" steps of {protocol['ladder']['step']:g} σ up to {protocol['ladder']['maximum']:g} σ, and no further than the"
        f" {bound['percentile']:g}th percentile of the Mahalanobis distances of sampled codes ({bound['distance']:.1f})."
        " Failed: faces that didn't arrive, and how many of them were stopped by that bound, not by the largest strength."
        " Brackets: 95 % intervals, Wilson's for shares and bootstrapped over faces for means, which are over all faces, but for"
        f" drift, which is over those that arrived. Base rate: share of {results['pool']} fresh faces with p > 0.5. Within"
        f" {bound['components']}: success that also stays within the bound of the {bound['components']} leading components, a"
        " tighter one. Drift: mean |change| of the other attributes, in σ."
    )


def build_success_table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the titles, then one row an attribute."""
    within = f"within {results['bound']['components']}"
    measured = ("strength (σ)", "drift (σ)", "Mahalanobis", "base rate")
    titles = ("attribute", "success", "paper", "failed (bound)", within, *measured)
    return [titles, *(_format_row(name, row) for name, row in results["attributes"].items())]


def _format_row(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    before, after = row["mahalanobis_before"]["mean"], row["mahalanobis_after"]["mean"]
    return (
        name if row["towards"] == "present" else f"{name} (towards absent)",
        format_estimate(row["success"], 3),
        f"{SUCCESS[name][0]:.3f}" if name in SUCCESS else "",
        f"{row['failed']} ({row['failed_at_bound']})",
        format_estimate(row["success_leading"], 3),
        format_estimate(row["strength"], 2),
        format_estimate(row.get("off_target_drift"), 2),
        f"{before:.1f} → {after:.1f}",
        f"{row['base_rate']:.2f}",
    )
