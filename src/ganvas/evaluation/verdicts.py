"""Verdicts by attribute: success, drift at matched change, identity, each beside its aim and the paper's numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ganvas.evaluation.context import EvaluationContext
from ganvas.evaluation.method_trials import MethodTrials
from ganvas.evaluation.methods import MethodEntry
from ganvas.evaluation.summaries import mean_difference, mean_ratio, measure_identity, measure_per_code
from ganvas.metrics import Trial, success
from ganvas.stats import Estimate, bootstrap_mean

SUCCESS_AIM = 0.97
"""Success that the best editor is to reach."""
DRIFT_AIM = 0.7
"""The best compact variant's drift, at most, as a share of the better InterfaceGAN's."""

MIN_ARRIVED_SHARE = 0.5
"""The share of faces that an editor has to bring to a change, to stand for its family there."""

Cells = Mapping[tuple[str, str], MethodTrials]
"""By method and attribute."""


@dataclass(frozen=True)
class SuccessVerdict:
    """The best editor's success on an attribute."""

    attribute: str
    method: str
    success: Estimate
    holds: bool


@dataclass(frozen=True)
class MatchedVerdict:
    """One attribute at one change of the target, for one judge: the best compact variant and the better InterfaceGAN.

    ``drift``: the compact's over InterfaceGAN's, on the faces that both brought there. ``identity``: the compact's minus
    InterfaceGAN's, None without face embeddings. ``fresh``: the judge made no labels.
    """

    attribute: str
    change: float
    judge: str
    fresh: bool
    compact: str
    interfacegan: str
    drift: Estimate
    identity: Estimate | None
    drift_holds: bool
    identity_holds: bool | None

    @property
    def holds(self) -> bool:
        """Whether both drift and identity hold."""
        return self.drift_holds and self.identity_holds is not False


def judge_success(cells: Cells, entries: Sequence[MethodEntry], attributes: Sequence[str]) -> list[SuccessVerdict]:
    """Return one verdict an attribute that anything was tried on: the method with the highest mean, the first of equals."""
    rows = []
    for attribute in attributes:
        papers = {e.name: c.paper for e in entries if (c := cells.get((e.name, attribute))) is not None}
        estimates = {name: bootstrap_mean(success(t)) for name, t in papers.items() if t is not None}
        if estimates:
            best = max(estimates, key=lambda name: estimates[name].mean)
            rows.append(SuccessVerdict(attribute, best, estimates[best], estimates[best].mean >= SUCCESS_AIM))
    return rows


def judge_matched(
    context: EvaluationContext, cells: Cells, entries: Sequence[MethodEntry], attributes: Sequence[str]
) -> list[MatchedVerdict]:
    """Return one verdict for each attribute, change and judge for which both families brought some faces there."""
    rows = []
    for attribute in attributes:
        for change in context.config.targets:
            for judge in range(len(context.scales)):
                row = _compare_at(context, cells, entries, attribute, change, judge)
                if row is not None:
                    rows.append(row)
    return rows


def summarise_variants(
    context: EvaluationContext, cells: Cells, entries: Sequence[MethodEntry], attributes: Sequence[str]
) -> list[dict[str, Any]]:
    """Summarise variants of the compact editor at matched change, the one that drifts least first.

    For each and each change the mean ratio of its drift to the better InterfaceGAN's, over attributes and judges that made no
    labels, on the faces that both brought there, and on how many of these rows it is at most ``DRIFT_AIM``.
    """
    summaries = []
    for entry in entries:
        if entry.method != "compact":
            continue
        alone = [replace(entry, family="compact"), *(e for e in entries if e.family == "interfacegan")]
        for change in context.config.targets:
            rows = [
                _compare_at(context, cells, alone, attribute, change, judge)
                for attribute in attributes
                for judge, scale in enumerate(context.scales)
                if _is_fresh(context, scale.name)
            ]
            shares = [row.drift for row in rows if row is not None and row.drift.n]
            if shares:
                mean = sum(share.mean for share in shares) / len(shares)
                holds = sum(share.mean <= DRIFT_AIM for share in shares)
                faces = max(share.n for share in shares)
                summaries.append(
                    {
                        "method": entry.name,
                        "change": change,
                        "drift": mean,
                        "holds": holds,
                        "rows": len(shares),
                        "faces": faces,
                    }
                )
    return sorted(summaries, key=lambda row: (row["change"], row["drift"]))


def _is_fresh(context: EvaluationContext, judge: str) -> bool:
    """Return whether a judge made no labels."""
    return judge != context.data.scorer.rpartition(":")[0]


def select_representatives(trials: Mapping[str, Trial]) -> dict[str, Trial]:
    """Select the trials that may stand for their family: an editor that hardly ever arrives has the drift of its easiest faces.

    All, where none arrives often enough.
    """
    often = {name: trial for name, trial in trials.items() if trial.arrived.float().mean() >= MIN_ARRIVED_SHARE}
    return often or dict(trials)


def _compare_at(
    context: EvaluationContext, cells: Cells, entries: Sequence[MethodEntry], attribute: str, change: float, judge: int
) -> MatchedVerdict | None:
    """Compare the families' best trials at one change by one judge; None where one has none."""
    best: list[tuple[str, Trial]] = []
    for family in ("compact", "interfacegan"):
        trials = {
            e.name: cell.matched[change]
            for e in entries
            if e.family == family and (cell := cells.get((e.name, attribute))) is not None and change in cell.matched
        }
        drifts = {
            name: measure_per_code(context, trial, judge).nanmean()
            for name, trial in select_representatives(trials).items()
        }
        drifts = {name: float(value) for name, value in drifts.items() if not value.isnan()}
        if not drifts:
            return None
        name = min(drifts, key=lambda name: drifts[name])
        best.append((name, trials[name]))
    (ours, a), (theirs, b) = best
    share = mean_ratio(measure_per_code(context, a, judge), measure_per_code(context, b, judge))
    ours_identity, theirs_identity = measure_identity(a), measure_identity(b)
    difference = None
    if ours_identity is not None and theirs_identity is not None:
        difference = mean_difference(ours_identity, theirs_identity)
    scale = context.scales[judge]
    return MatchedVerdict(
        attribute,
        change,
        scale.name,
        _is_fresh(context, scale.name),
        ours,
        theirs,
        share,
        difference,
        bool(share.n > 0 and share.mean <= DRIFT_AIM),
        None if difference is None or difference.n == 0 else difference.mean >= 0,
    )


def summarise_verdicts(matched: Sequence[MatchedVerdict]) -> list[str]:
    """Format, for each judge that made no labels and each change, on how many attributes it holds, and where it doesn't."""
    lines = []
    for judge, change in dict.fromkeys((m.judge, m.change) for m in matched if m.fresh):
        rows = [m for m in matched if (m.judge, m.change) == (judge, change)]
        lost = [m for m in rows if not m.holds]
        line = f"{judge}, {change:+g} σ: holds on {len(rows) - len(lost)} of {len(rows)} attributes."
        lines.append(line + ("" if not lost else f" Not on {', '.join(_explain(m) for m in lost)}."))
    return lines


def _explain(row: MatchedVerdict) -> str:
    """Format why a verdict doesn't hold."""
    parts = [] if row.drift_holds else [f"drift {row.drift.mean:.2f} of {row.interfacegan}'s"]
    if row.identity_holds is False and row.identity is not None:
        parts.append(f"identity lower by {-row.identity.mean:.3f}")
    return f"{row.attribute} ({', '.join(parts)})"
