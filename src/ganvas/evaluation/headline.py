"""The paper's protocol beside the paper's own numbers: success and identity of both families, and which is ahead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ganvas.evaluation.html_page import PageSection
from ganvas.evaluation.method_trials import MethodTrials
from ganvas.evaluation.methods import MethodEntry
from ganvas.evaluation.papers import IDENTITY, SUCCESS
from ganvas.evaluation.summaries import mean_difference, measure_identity
from ganvas.evaluation.table_cells import Results, Row, format_goal
from ganvas.evaluation.tables import format_estimate
from ganvas.evaluation.verdicts import MIN_ARRIVED_SHARE
from ganvas.metrics import Trial, success
from ganvas.stats import Estimate

PAPERS = {"success": SUCCESS, "identity": IDENTITY}
FAMILIES = ("compact", "interfacegan")


@dataclass(frozen=True)
class FamilyComparison:
    """The best compact variant and the better InterfaceGAN on one attribute by one measure, on the same faces.

    ``difference``: the first minus the second, with its interval; identity's is over the faces that both brought there.
    ``why``: facts about the edits that may explain a loss.
    """

    attribute: str
    measure: str
    compact: str
    interfacegan: str
    difference: Estimate
    why: str

    @property
    def verdict(self) -> str:
        """ "ahead", "behind", or "even" where the interval holds 0."""
        return format_difference(self.difference.low, self.difference.high)


def format_difference(low: float, high: float) -> str:
    """Return "ahead" or "behind" for a difference whose interval lies above or below 0, else "even"."""
    return "ahead" if low > 0 else "behind" if high < 0 else "even"


def compare_families(
    cells: Mapping[tuple[str, str], MethodTrials],
    entries: Sequence[MethodEntry],
    attributes: Sequence[str],
    results: Results,
) -> list[FamilyComparison]:
    """Compare the families on each attribute and measure that both have trials of. ``results``: the numbers of these trials."""
    rows = []
    for attribute in attributes:
        for measure in PAPERS:
            best = [_choose_best(cells, entries, attribute, family, measure, results) for family in FAMILIES]
            if None in best:
                continue
            (ours, a), (theirs, b) = [pair for pair in best if pair is not None]
            values = [success(t) if measure == "success" else measure_identity(t) for t in (a, b)]
            if values[0] is not None and values[1] is not None:
                difference = mean_difference(values[0], values[1])
                if difference.n:
                    rows.append(
                        FamilyComparison(
                            attribute,
                            measure,
                            ours,
                            theirs,
                            difference,
                            _explain(measure, (a, b), attribute, results, (ours, theirs)),
                        )
                    )
    return rows


def _choose_best(
    cells: Mapping[tuple[str, str], MethodTrials],
    entries: Sequence[MethodEntry],
    attribute: str,
    family: str,
    measure: str,
    results: Results,
) -> tuple[str, Trial] | None:
    means = {}
    for entry in entries:
        numbers = results["paper"].get(attribute, {}).get(entry.name)
        # An editor that hardly ever arrives has the identity of its easiest faces.
        if (
            entry.family == family
            and numbers
            and numbers[measure] is not None
            and numbers["success"].mean >= MIN_ARRIVED_SHARE
        ):
            means[entry.name] = numbers[measure].mean
    means = {name: mean for name, mean in means.items() if mean == mean}  # nan: nothing arrived
    if not means:
        return None
    name = max(means, key=lambda name: means[name])
    trial = cells[name, attribute].paper
    return None if trial is None else (name, trial)


def _explain(
    measure: str, trials: tuple[Trial, Trial], attribute: str, results: Results, names: tuple[str, str]
) -> str:
    if measure == "success":
        failed = [int((~t.arrived).sum()) for t in trials]
        stopped = [int(t.stopped.sum()) if t.stopped is not None else 0 for t in trials]
        return f"{failed[0]} failures, {stopped[0]} of them at the bound of W, against {failed[1]} and {stopped[1]}"
    numbers = [results["paper"][attribute][name] for name in names]
    return (
        f"moves of {numbers[0]['moved'].mean:.1f} Mahalanobis lengths against {numbers[1]['moved'].mean:.1f},"
        f" {numbers[0]['strength'].mean:+.2f} σ against {numbers[1]['strength'].mean:+.2f}"
    )


def format_comparisons(rows: Sequence[Results]) -> list[str]:
    """Format, for each measure, where ours is ahead, even or behind, beside the paper's result, and why it is behind."""
    lines = []
    for measure, papers in PAPERS.items():
        mine = [row for row in rows if row["measure"] == measure]
        if not mine:
            continue
        ours = _group_verdicts({row["attribute"]: row["verdict"] for row in mine})
        paper_verdicts = {
            a: format_difference(v[0] - v[1], v[0] - v[1])
            for a, v in papers.items()
            if a in {r["attribute"] for r in mine}
        }
        paper = f" The paper's: {_group_verdicts(paper_verdicts)}." if paper_verdicts else ""
        lost = [f"{format_goal(r['attribute'])}: {r['why']}" for r in mine if r["verdict"] == "behind"]
        lines.append(
            f"{measure.capitalize()}, compact against InterfaceGAN: {ours}.{paper}"
            + (f" Behind on {'; '.join(lost)}." if lost else "")
        )
    return lines


def _group_verdicts(verdicts: Mapping[str, str]) -> str:
    """Format verdicts by attribute like "ahead on a, b; behind on c"."""
    groups: dict[str, list[str]] = {}
    for attribute, verdict in verdicts.items():
        groups.setdefault(verdict, []).append(format_goal(attribute))
    return "; ".join(
        f"{verdict} on {', '.join(groups[verdict])}" for verdict in ("ahead", "even", "behind") if verdict in groups
    )


def build_headline_sections(results: Results) -> list[PageSection]:
    """Build the main table: both families' methods at the paper's protocol, with the paper's own numbers beside them."""
    names = [m["name"] for m in results["made"]["methods"] if m["family"] in FAMILIES]
    names = [name for name in names if any(name in rows for rows in results["paper"].values())]
    if not names:
        return []
    ahead = {(row["attribute"], row["measure"]): row["verdict"] for row in results["verdicts"]["paper"]}
    rows: list[Row] = []
    for attribute, numbers in results["paper"].items():
        for measure, papers in PAPERS.items():
            cells = [format_estimate(numbers[name][measure], 3) if name in numbers else "-" for name in names]
            paper_values = [f"{value:.3f}" for value in papers[attribute]] if attribute in papers else ["-", "-"]
            rows.append((format_goal(attribute), measure, *cells, *paper_values, ahead.get((attribute, measure), "-")))
    pairs = results["random_pairs"]
    chance = (
        ""
        if pairs is None
        else f" Two different random faces have an identity of {format_estimate(pairs['identity'], 3)}."
    )
    text = (
        "Brackets: 95 % bootstrap intervals over faces. The paper's numbers are of another generator and scorer, without a stated"
        " bound. Last: the best compact variant against the better InterfaceGAN, on the same faces; even where the interval"
        f" of the difference holds 0.{chance} {' '.join(format_comparisons(results['verdicts']['paper']))}"
    )
    titles = ("attribute", "measure", *names, "the paper's compact", "the paper's InterfaceGAN", "compact is")
    return [PageSection("The paper's protocol, beside the paper's numbers", text, table=[titles, *rows])]
