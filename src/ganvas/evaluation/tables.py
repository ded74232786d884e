"""Tables of what was measured: group-bys of the rows, and functions of ``ganvas.stats``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ganvas.evaluation import papers
from ganvas.evaluation.analysis import RowAnalysis, encode_texts, to_tensor
from ganvas.evaluation.faces import format_goal
from ganvas.evaluation.pages import PageSection, format_estimate, to_json
from ganvas.evaluation.protocols import JOINT_CHANGE
from ganvas.evaluation.published_directions import AIMED_COSINES
from ganvas.evaluation.rows import Frame
from ganvas.evaluation.runner import RANDOM_METHOD, STRANGERS_METHOD
from ganvas.metrics import Metric, list_metrics
from ganvas.stats import (
    Estimate,
    bootstrap_absolute_means,
    bootstrap_mean,
    bootstrap_ratio,
    estimate_proportion,
)

STRANGERS_PROTOCOL = "strangers"
SHOWN = (("paper", False), ("matched", False), ("equal", True))
"""The protocols, judged or not, of which tables show every metric with one value a code."""
SUMMARISED = frozenset(("change", "variation"))
"""Metrics that figures and the column of side effects show."""
READING_TITLES = ("target (σ)", "others for 1 σ", "distance for 1 σ", "Mahalanobis length for 1 σ", "left W")

TableValue = str | int | float | Estimate | None
TableRow = tuple[TableValue, ...]


@dataclass(frozen=True)
class Table:
    """A table for people, titles first. ``digits`` is for its estimates, by title; 2 for others."""

    name: str
    title: str
    text: str
    head: tuple[str, ...]
    rows: Sequence[TableRow]
    digits: Mapping[str, int] = field(default_factory=dict)

    def to_section(self, picture: str = "") -> PageSection:
        """Return the section of a page that shows it."""
        digits = [self.digits.get(title, 2) for title in self.head]
        rows = [tuple(_format_cell(cell, d) for cell, d in zip(row, digits, strict=True)) for row in self.rows]
        return PageSection(self.title, self.text, picture, [self.head, *rows])

    def to_json(self) -> dict[str, Any]:
        """Return what JSON holds of it."""
        return {"title": self.title, "text": self.text, "head": list(self.head), "rows": to_json(list(self.rows))}


def _format_cell(cell: TableValue, digits: int) -> str:
    if isinstance(cell, Estimate):
        return format_estimate(cell, digits)
    return "-" if cell is None else f"{cell:.{digits}f}" if isinstance(cell, float) else str(cell)


def list_shown(analysis: RowAnalysis, protocol: str, judged: bool) -> list[Metric]:
    """Return the metrics with one value a code that there are rows of."""
    return [
        m for m in list_metrics().values() if m.judged == judged and not m.each and (protocol, m.name) in analysis.parts
    ]


def build_paper(analysis: RowAnalysis) -> Table:
    """Show every method by the paper's protocol."""
    shown = [m for m in list_shown(analysis, "paper", False) if m.name not in ("distance", "renders")]
    rows: list[TableRow] = []
    for attribute in analysis.result.attributes:
        for method in analysis.list_methods():
            cells = [analysis.estimate("paper", m.name, attribute=attribute, method=method) for m in shown]
            drift = [
                analysis.estimate("paper", "drift", attribute=attribute, method=method, judge=judge)
                for judge in analysis.judges
            ]
            if any(cell.n for cell in cells):
                rows.append((format_goal(attribute), method, *cells, *drift))
    head = ("attribute", "method", *map(_title, shown), *(f"drift, {judge} (arrived)" for judge in analysis.judges))
    text = "Each method's own strengths, as the paper has it, so that methods differ in how far they went. " + _explain(
        shown
    )
    return Table("paper", "The paper's protocol, all methods", text, head, rows, _digits(shown))


def build_matched(analysis: RowAnalysis) -> Table:
    """Show every method at an equal change: all metrics that no judge reads."""
    shown = list_shown(analysis, "matched", False)
    rows: list[TableRow] = []
    for change in analysis.result.context.config.targets:
        for method in (*analysis.list_methods(), RANDOM_METHOD):
            protocol = "random" if method == RANDOM_METHOD else "matched"
            cells = [_estimate_main(analysis, protocol, m.name, method=method, change=change) for m in shown]
            if any(cell.n for cell in cells):
                rows.append((f"{change:g} σ", method, *cells))
    if rows and (STRANGERS_PROTOCOL, "identity") in analysis.parts:
        cells = [analysis.estimate(STRANGERS_PROTOCOL, m.name) for m in shown]
        rows.append(("", STRANGERS_METHOD, *(cell if cell.n else None for cell in cells)))
    text = (
        "Every method brings the same faces to the same change of the target, as the scorer of the labels reads it, wherever"
        " that takes them. Means over the attributes; arrived: over the faces that it brought there. " + _explain(shown)
    )
    title = "An equal change: codes and identity"
    return Table("matched", title, text, ("change", "method", *map(_title, shown)), rows, _digits(shown))


def _estimate_main(analysis: RowAnalysis, protocol: str, metric: str, **equal: Any) -> Estimate:
    """Estimate one metric over the attributes that the report is on."""
    rows = analysis.select(protocol, metric, **equal)
    return analysis.estimate(protocol, metric, rows[rows["attribute"].isin(analysis.result.attributes)])


def build_judged(analysis: RowAnalysis) -> Table:
    """Show every method at an equal change by each judge: all metrics that judges read."""
    shown = list_shown(analysis, "equal", True)
    change = analysis.result.context.config.targets[0]
    rows: list[TableRow] = []
    for method in (*analysis.list_methods(), RANDOM_METHOD):
        for judge in analysis.judges:
            protocol, equal = "random" if method == RANDOM_METHOD else "equal", {"change": change, "judge": judge}
            cells = [_estimate_main(analysis, protocol, m.name, method=method, **equal) for m in shown]
            if any(cell.n for cell in cells):
                tried = analysis.select(protocol, "drift", method=method, **equal)
                tried = tried[tried["attribute"].isin(analysis.result.attributes)]
                reached = to_tensor(tried["reached"].astype(float))
                share = estimate_proportion(reached, to_tensor(tried["code_id"]), encode_texts(tried["attribute"]))
                # Of random moves there are no rows by attribute.
                side = bootstrap_absolute_means(*analysis.pivot_changes(method, change, judge=judge))
                rows.append((method, judge, share, side, *cells))
    text = (
        f"Every face at exactly {change:+g} σ of the target by the same judge, between the two rendered pictures around that"
        " place. Means over the attributes that the judge has; arrived: over the faces that were brought there. Side effects:"
        " absolute mean signed change of an attribute that wasn't asked for, averaged over these: the paper's matrix (7), off"
        f" its diagonal, in σ. {_explain(shown)} Random moves are as long as the first InterfaceGAN's, at any change."
    )
    head = ("method", "judge", "reached (all)", "side effects (arrived)", *map(_title, shown))
    return Table("judged", "An equal change: effects by each judge", text, head, rows, _digits(shown))


def build_joint(analysis: RowAnalysis) -> Table:
    """Show edits of several attributes at once."""
    rows: list[TableRow] = []
    for method in analysis.list_methods("first"):
        mine = analysis.select("joint", "success", method=method)
        for edited in mine["attribute"].astype(str).unique():
            equal = {"method": method, "attribute": edited}
            cells = [analysis.estimate("joint", "target_change", judge=analysis.judges[0], **equal)]
            cells += [analysis.estimate("joint", "drift", judge=judge, **equal) for judge in analysis.judges]
            cells += [analysis.estimate("joint", "identity", **equal)]
            rows.append((method, edited, *cells))
    text = (
        "Two and three attributes in one edit, a change of 1 asked of each. Achieved: the mean change of those edited, as the"
        " labels' scorer reads it. Drift is of all others. All over all faces."
    )
    head = ("method", "edited", "achieved", *(f"drift, {judge}" for judge in analysis.judges), "identity")
    return Table("joint", "Several attributes at once", text, head, rows, {"identity": 3})


def build_codes(analysis: RowAnalysis) -> Table:
    """Show what needs no picture: readings, lengths, order and undo, DCI."""
    names = ("order", "together", "undo", "undo_all")
    # Columns of what this run didn't measure would be empty without a reason.
    dci = ("disentanglement", "completeness", "informativeness") if analysis.result.dci else ()
    rows: list[TableRow] = []
    for method in analysis.list_methods("first", "rest", "ablation"):
        cells = [analysis.estimate("order", name, method=method) for name in names]
        if method in analysis.result.dci:
            cells += [Estimate(**analysis.result.dci[method][name]) for name in dci]
        row = (*_estimate_readings(analysis, method, 0), *cells, *[None] * (len(names) + len(dci) - len(cells)))
        if any(isinstance(cell, Estimate) and cell.n for cell in row):
            rows.append((method, *row))
    text = (
        f"{analysis.result.context.config.latent} codes, edited by a change of 1 and read by the labels' probe; means over the"
        " attributes; for 1 σ: the geometric mean over the attributes of ratios of means, - where an attribute's target moves the"
        " wrong way. Order, together, undo: shares of the length of the whole move, 0 is best: between a then b and b then a,"
        " between a then b and both at once, what is left after +2 σ and -2 σ of one attribute and of all."
    )
    if dci:
        text += (
            " DCI (Eastwood and Williams, 2018), by a lasso on the scored fresh pictures: does each number of the code predict"
            " one attribute, is each attribute predicted by one number, and how much of it can be predicted; - for methods that"
            " have no code of their own."
        )
    head = ("method", *READING_TITLES, "order", "together", "undo", "undo of all", *dci)
    shares = ["others for 1 σ", "left W", "order", "together", "undo", "undo of all", *dci]
    title = f"Codes alone: readings, order and undo{', DCI' if dci else ''}"
    return Table("codes", title, text, head, rows, dict.fromkeys(shares, 3))


def _estimate_readings(analysis: RowAnalysis, method: str, labels: int) -> TableRow:
    """Return the columns of ``READING_TITLES`` for a method that learned from so many labels (0: all)."""

    def get(metric: str) -> Frame:
        return analysis.select("codes", metric, method=method, labels=labels).sort_values(["attribute", "code_id"])

    target = get("target_change")
    values, codes, strata = to_tensor(target["value"]), to_tensor(target["code_id"]), encode_texts(target["attribute"])
    others = [
        bootstrap_ratio(to_tensor(get(name)["value"]), values, codes, strata) if len(get(name)) else None
        for name in ("drift", "distance", "mahalanobis_length")
    ]
    return (bootstrap_mean(values, codes, strata), *others, analysis.estimate("codes", "left_w", get("left_w")))


def build_labels(analysis: RowAnalysis) -> Table:
    """Show quality by the number of labels."""
    tried = analysis.select("codes", "target_change")
    pairs = tried[tried["labels"] > 0][["method", "labels"]].drop_duplicates().sort_values(["method", "labels"])
    rows = [
        (str(method), f"{labels:,}", *_estimate_readings(analysis, method, labels))
        for method, labels in pairs.itertuples(index=False)
    ]
    text = (
        "What a method does that learned from so many labels, read by the probe of all labels, as in the table above."
    )
    head = ("method", "labels", *READING_TITLES)
    return Table("labels", "Label efficiency", text, head, rows, {"others for 1 σ": 3, "left W": 3})


def build_others(analysis: RowAnalysis) -> Table:
    """Show registered metrics that no other table has: of every attribute measured, or of one protocol only."""
    shown = {metric.name for protocol, judged in SHOWN for metric in list_shown(analysis, protocol, judged)}
    others = [m for m in list_metrics().values() if m.name not in shown | SUMMARISED]
    first = analysis.result.context.config.targets[0]
    rows: list[TableRow] = []
    digits = max([metric.digits for metric in others], default=2)
    for metric in others:
        for protocol in sorted(p for p, name in analysis.parts if name == metric.name):
            mine = analysis.parts[protocol, metric.name]
            change = JOINT_CHANGE if protocol in ("joint", "codes") else first
            mine = mine[(mine["labels"] == 0) & (mine["change"].isna() | (mine["change"] == np.float32(change)))]
            if protocol != "joint":  # whose attributes are several in one
                mine = mine[mine["attribute"].isin(analysis.result.attributes)]
            for (method, judge), group in mine.groupby(["method", "judge"], observed=True):
                rows.append((_title(metric), protocol, method, judge or "-", analysis.estimate("", metric.name, group)))
    text = (
        f"Means over the attributes, at a change of {first:g} σ where a protocol has equal changes; of a metric with a value"
        f" for each attribute of the judge, over these, too. {_explain(others)}"
    )
    head = ("metric", "protocol", "method", "judge", "mean")
    return Table("others", "Other registered metrics", text, head, rows, {"mean": digits})


def build_agreement(analysis: RowAnalysis) -> Table:
    """Show |cos| with published directions, where their files were given."""
    rows = [(name, *(cosines.get(a) for a in AIMED_COSINES)) for name, cosines in analysis.result.agreement.items()]
    text = (
        "|cos| of linear methods' directions with encoder4editing's (smile, age). Wanted of the SVM boundary: "
        + ", ".join(f"{name} {aim:g}" for name, aim in AIMED_COSINES.items())
        + "; independent published directions agree with each other at "
        + " and ".join(f"{value:g}" for value in papers.AGREEMENT.values())
        + ". The softness of InterfaceGAN's margin, its only free number, was set by this agreement."
    )
    title = "Agreement with published directions"
    return Table("agreement", title, text, ("method", *AIMED_COSINES), rows, dict.fromkeys(AIMED_COSINES, 3))


def build_costs(analysis: RowAnalysis) -> Table:
    """Show what methods cost on this machine; it differs from run to run."""
    rows = [(name, row["fit_seconds"], row["edit_ms"]) for name, row in analysis.result.timings.items()]
    text = "Seconds to fit and milliseconds for an edit of one code, on this machine, whatever else it did meanwhile."
    return Table("costs", "Costs", text, ("method", "seconds to fit", "ms an edit"), rows)


def _title(metric: Metric) -> str:
    """Return a metric's name with the denominator of its mean."""
    return f"{metric.name.replace('_', ' ')} ({'all' if metric.every_code else 'arrived'})"


def _explain(metrics: Sequence[Metric]) -> str:
    return " ".join(f"{metric.name.replace('_', ' ').capitalize()}: {metric.text}" for metric in metrics)


def _digits(metrics: Sequence[Metric]) -> dict[str, int]:
    return {_title(metric): metric.digits for metric in metrics}
