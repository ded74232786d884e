"""Tables of a report: group-bys of the rows, and functions of ``ganvas.stats``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ganvas.evaluation import papers
from ganvas.evaluation.faces import format_goal
from ganvas.evaluation.judges import is_same_attribute
from ganvas.evaluation.pages import PageSection, format_estimate, to_json
from ganvas.evaluation.published_directions import AIMS
from ganvas.evaluation.runner import RANDOM, STRANGERS, EvaluationResult
from ganvas.metrics import Metric, list_metrics
from ganvas.stats import (
    Estimate,
    bootstrap_absolute_means,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_ratio,
    estimate_proportion,
    in_selection_half,
    judge_claim,
)

if TYPE_CHECKING:
    import pandas as pd

SUCCESS_AIM = 0.97
"""Success that the best editor is to reach."""
DRIFT_AIM = 0.7
"""The compact editor's drift, at most, as a share of InterfaceGAN's."""
MIN_ARRIVED_SHARE = 0.5
"""The share of faces that an editor has to bring to a change, to stand for its family there."""
FAMILIES = ("compact", "interfacegan")
PAPERS = {"success": papers.SUCCESS, "identity": papers.IDENTITY}
HALVES_NOTE = (
    "Which of several methods is best is decided on every other face, and the numbers are of the remaining ones. Yes and no: the"
    " whole 95 % interval is on that side; open: it isn't."
)

Cell = str | int | float | Estimate | None
Row = tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table for people, titles first. ``digits`` is for its estimates, by title; 2 for others."""

    name: str
    title: str
    text: str
    head: tuple[str, ...]
    rows: Sequence[Row]
    digits: Mapping[str, int] = field(default_factory=dict)

    def to_section(self, picture: str = "") -> PageSection:
        """Return the section of a page that shows it."""
        digits = [self.digits.get(title, 2) for title in self.head]
        rows = [tuple(_format_cell(cell, d) for cell, d in zip(row, digits, strict=True)) for row in self.rows]
        return PageSection(self.title, self.text, picture, [self.head, *rows])

    def to_json(self) -> dict[str, Any]:
        """Return what JSON holds of it."""
        return {"title": self.title, "text": self.text, "head": list(self.head), "rows": to_json(list(self.rows))}


def _format_cell(cell: Cell, digits: int) -> str:
    if isinstance(cell, Estimate):
        return format_estimate(cell, digits)
    return "-" if cell is None else f"{cell:.{digits}f}" if isinstance(cell, float) else str(cell)


@dataclass(frozen=True)
class RowTables:
    """Builds tables from the rows of a finished run."""

    result: EvaluationResult

    @cached_property
    def rows(self) -> pd.DataFrame:
        """All rows."""
        return self.result.rows

    @cached_property
    def parts(self) -> dict[tuple[str, str], pd.DataFrame]:
        """The rows by protocol and metric."""
        return dict(iter(self.rows.groupby(["protocol", "metric"], observed=True)))

    @cached_property
    def judges(self) -> list[str]:
        """The judges' names, the own scorer's first."""
        return [scale.name for scale in self.result.context.scales]

    def select(self, protocol: str, metric: str, **equal: Any) -> pd.DataFrame:
        """Return the rows of one metric in one protocol whose columns are ``equal``."""
        rows = self.parts.get((protocol, metric))
        if rows is None:
            return self.rows.iloc[:0]
        for column, value in equal.items():
            rows = rows[rows[column] == (np.float32(value) if column == "change" else value)]
        return rows

    def list_methods(self, *groups: str, family: str = "") -> list[str]:
        """Return the names of the methods of some groups (all but ablations without any), or of a family."""
        entries = [e for e in self.result.entries if e.group in (groups or ("first", "rest"))]
        return [e.name for e in entries if not family or e.family == family]

    def build(self) -> list[Table]:
        """Return all tables that there are rows for, at most twelve."""
        tables = [
            self.build_headline(),
            self.build_success_claims(),
            self.build_families(),
            self.build_paper(),
            self.build_matched(),
            self.build_judged(),
            self.build_variants(),
            self.build_joint(),
            self.build_codes(),
            self.build_labels(),
            self.build_agreement(),
        ]
        return [table for table in tables if table.rows]

    # What is compared, and what is claimed.

    def choose_best(self, protocol: str, metric: str, names: Sequence[str], larger: bool, **equal: Any) -> str | None:
        """Return the method of ``names`` that is best on the half of the codes that serves to choose; the first of equals.

        Of those that reached the target on enough of these codes, where any did: an editor that hardly ever arrives has the
        drift and the identity of its easiest faces.
        """
        rows = self.select(protocol, metric, **equal)
        rows = rows[in_selection_half(_tensor(rows["code_id"])).numpy()]
        every = list_metrics()[metric].every_code
        means, often = {}, set()
        for name in names:
            mine = rows[rows["method"] == name]
            values = (mine if every else mine[mine["reached"]])["value"].dropna()
            if len(values):
                means[name] = float(values.mean()) * (1 if larger else -1)
                often |= {name} if every or mine["reached"].mean() >= MIN_ARRIVED_SHARE else set()
        means = {name: mean for name, mean in means.items() if name in often} or means
        return max(means, key=lambda name: means[name]) if means else None

    def pair(
        self, protocol: str, metric: str, a: str, b: str, reported: bool = True, **equal: Any
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the values of two methods on the same codes, the codes, and the attributes as strata.

        nan for what didn't arrive, unless the metric is of every code. ``reported``: only codes that didn't serve to choose.
        """
        rows = self.select(protocol, metric, **equal)
        if not list_metrics()[metric].every_code:
            rows = rows[rows["reached"]]
        keys = ["attribute", "judge", "code_id"]
        sides = [rows[rows["method"] == name].drop_duplicates(keys).set_index(keys)["value"] for name in (a, b)]
        both = sides[0].to_frame("a").join(sides[1].to_frame("b"), how="inner").sort_index().reset_index()
        if reported:
            both = both[~in_selection_half(_tensor(both["code_id"])).numpy()]
        strata = both.groupby(["attribute", "judge"], observed=True).ngroup()
        return _tensor(both["a"]), _tensor(both["b"]), _tensor(both["code_id"]), _tensor(strata)

    def pivot_changes(self, method: str, change: float, **equal: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return a method's signed changes of what wasn't asked for, (n, attributes), the codes, and the edited attributes."""
        rows = self.select("equal", "change", method=method, change=change, **equal)
        rows = rows[rows["reached"]]
        pairs = rows[["attribute", "of"]].drop_duplicates()
        asked = [of for attribute, of in pairs.itertuples(index=False) if is_same_attribute(attribute, of)]
        keys = list(zip(rows["attribute"], rows["of"], strict=True))
        entailed = {(a, of) for a, of in pairs.itertuples(index=False) if is_same_attribute(a, of)} if asked else set()
        rows = rows[[key not in entailed for key in keys]]
        wide = rows.pivot(index=["attribute", "code_id"], columns="of", values="value") if len(rows) else None
        if wide is None:
            return torch.zeros(0, 1), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long)
        index = wide.index.to_frame(index=False)
        return (
            torch.from_numpy(wide.to_numpy(np.float64).copy()),
            _tensor(index["code_id"]),
            _encode(index["attribute"]),
        )

    def build_headline(self) -> Table:
        """The paper's protocol beside the paper's own numbers, for both families."""
        names = [name for family in FAMILIES for name in self.list_methods(family=family)]
        rows: list[Row] = []
        for attribute in self.result.attributes:
            for metric, numbers in PAPERS.items():
                cells = [self.estimate("paper", metric, attribute=attribute, method=name) for name in names]
                if not any(cell.n for cell in cells):
                    continue
                paper = numbers.get(attribute, (None, None))
                difference = self.compare(metric, attribute)
                rows.append((format_goal(attribute), metric, *cells, *paper, *difference))
        strangers = self.estimate(STRANGERS_PROTOCOL, "identity")
        text = (
            "Lesné et al., section 4.3: a face with p < 0.5 is edited with growing strength until p > 0.9, within the Mahalanobis"
            " bound of W; Young goes from p > 0.5 to p < 0.1. Success is over all faces, identity over those that arrived."
            " The paper's numbers are of another generator and scorer, without a stated bound. Last: the best compact variant"
            f" minus the better InterfaceGAN, on the same faces. {HALVES_NOTE}"
        )
        if strangers.n:
            text += f" Two different faces have an identity of {format_estimate(strangers, 3)}."
        head = ("attribute", "measure", *names, "paper: compact", "paper: InterfaceGAN", "compared", "difference", "is")
        return Table(
            "headline", "The paper's protocol, beside the paper's numbers", text, head, rows, dict.fromkeys(head, 3)
        )

    def compare(self, metric: str, attribute: str) -> Row:
        """Compare the families' best by the paper's protocol: their names, the difference, and where it lies."""
        best = [
            self.choose_best("paper", metric, self.list_methods(family=family), True, attribute=attribute)
            for family in FAMILIES
        ]
        if best[0] is None or best[1] is None:
            return ("-", None, "-")
        a, b, codes, _ = self.pair("paper", metric, best[0], best[1], attribute=attribute)
        difference = bootstrap_difference(a, b, codes)
        return (f"{best[0]} / {best[1]}", difference, describe_difference(difference))

    def build_success_claims(self) -> Table:
        """Whether the best editor succeeds often enough."""
        rows: list[Row] = []
        for attribute in self.result.attributes:
            best = self.choose_best("paper", "success", self.list_methods(), True, attribute=attribute)
            if best is not None:
                mine = self.select("paper", "success", attribute=attribute, method=best)
                mine = mine[~in_selection_half(_tensor(mine["code_id"])).numpy()]
                found = estimate_proportion(_tensor(mine["value"]), _tensor(mine["code_id"]))
                rows.append((format_goal(attribute), best, found, judge_claim(found, at_least=SUCCESS_AIM)))
        text = f"The best editor is to succeed on {SUCCESS_AIM:g} of all faces, for each attribute. {HALVES_NOTE}"
        head = ("attribute", "best editor", "success (all faces)", "holds")
        return Table("success", "Claim: success", text, head, rows, {"success (all faces)": 3})

    def build_families(self) -> Table:
        """Both families at an equal change by each judge."""
        rows: list[Row] = []
        for attribute in self.result.attributes:
            for change in self.result.context.config.targets:
                for judge in self.judges:
                    row = self._compare_families(attribute, change, judge)
                    rows += [row] if row else []
        text = (
            "At the same change of the target by the same judge the best compact variant's drift and side effects are to be at"
            f" most {DRIFT_AIM:g} of the better InterfaceGAN's, with identity no lower. Ratios of means and differences are of"
            " the same faces, those that both brought there. Drift: mean |change| of the other attributes; side effects: their"
            f" absolute mean signed change. {HALVES_NOTE}"
        )
        head = (
            *("attribute", "change", "judge", "made the labels", "compact", "InterfaceGAN"),
            *("drift, ratio", "drift holds", "side effects, ratio", "side effects hold"),
            *("identity, difference", "identity holds"),
        )
        digits = {"identity, difference": 3}
        return Table("families", "Claim: effects at an equal change", text, head, rows, digits)

    def _compare_families(self, attribute: str, change: float, judge: str) -> Row | None:
        equal = {"attribute": attribute, "change": change}
        best = [
            self.choose_best("equal", "drift", self.list_methods(family=family), False, judge=judge, **equal)
            for family in FAMILIES
        ]
        if best[0] is None or best[1] is None:
            return None
        ours, theirs = best[0], best[1]
        a, b, codes, _ = self.pair("equal", "drift", ours, theirs, judge=judge, **equal)
        drift = bootstrap_ratio(a, b, codes)
        side = self.compare_side_effects(ours, theirs, change, attribute=attribute, judge=judge)
        identity = None
        if ("matched", "identity") in self.parts:
            a, b, codes, _ = self.pair("matched", "identity", ours, theirs, **equal)
            identity = bootstrap_difference(a, b, codes)
        return (
            *(format_goal(attribute), f"{change:g} σ", judge, "no" if judge in self.result.fresh_judges else "yes"),
            *(ours, theirs, drift, judge_claim(drift, at_most=DRIFT_AIM), side, judge_claim(side, at_most=DRIFT_AIM)),
            *(identity, judge_claim(identity, at_least=0)),
        )

    def compare_side_effects(self, ours: str, theirs: str, change: float, **equal: Any) -> Estimate:
        """Estimate the ratio of two methods' side effects, on the codes that both brought to the change."""
        (a, codes, _), (b, others, _) = (self.pivot_changes(name, change, **equal) for name in (ours, theirs))
        shared = codes[torch.isin(codes, others) & ~in_selection_half(codes)]
        mine, rival = (values[torch.searchsorted(places, shared)] for values, places in ((a, codes), (b, others)))
        return bootstrap_absolute_means(mine, shared, against=rival)

    # What was measured.

    def estimate(self, protocol: str, metric: str, rows: pd.DataFrame | None = None, **equal: Any) -> Estimate:
        """Estimate one metric of the selected rows, over its own denominator; attributes weigh alike."""
        rows = self.select(protocol, metric, **equal) if rows is None else rows
        registered = list_metrics().get(metric)
        if registered is None or not registered.every_code:
            rows = rows[rows["reached"]]
        function = estimate_proportion if registered is not None and registered.share else bootstrap_mean
        return function(_tensor(rows["value"]), _tensor(rows["code_id"]), _encode(rows["attribute"]))

    def list_shown(self, protocol: str, judged: bool) -> list[Metric]:
        """Return the metrics with one value a code that there are rows of."""
        return [
            m for m in list_metrics().values() if m.judged == judged and not m.each and (protocol, m.name) in self.parts
        ]

    def build_paper(self) -> Table:
        """Every method by the paper's protocol."""
        shown = [m for m in self.list_shown("paper", False) if m.name not in ("distance", "renders")]
        rows: list[Row] = []
        for attribute in self.result.attributes:
            for method in self.list_methods():
                cells = [self.estimate("paper", m.name, attribute=attribute, method=method) for m in shown]
                drift = [
                    self.estimate("paper", "drift", attribute=attribute, method=method, judge=judge)
                    for judge in self.judges
                ]
                if any(cell.n for cell in cells):
                    rows.append((format_goal(attribute), method, *cells, *drift))
        head = ("attribute", "method", *map(_title, shown), *(f"drift, {judge} (arrived)" for judge in self.judges))
        text = (
            "Each method's own strengths, as the paper has it, so that methods differ in how far they went. "
            + _explain(shown)
        )
        return Table("paper", "The paper's protocol, all methods", text, head, rows, _digits(shown))

    def build_matched(self) -> Table:
        """Every method at an equal change: what isn't judged."""
        shown = self.list_shown("matched", False)
        rows: list[Row] = []
        for change in self.result.context.config.targets:
            for method in (*self.list_methods(), RANDOM):
                protocol = "random" if method == RANDOM else "matched"
                cells = [self._estimate_main(protocol, m.name, method=method, change=change) for m in shown]
                if any(cell.n for cell in cells):
                    rows.append((f"{change:g} σ", method, *cells))
        if rows and (STRANGERS_PROTOCOL, "identity") in self.parts:
            cells = [self.estimate(STRANGERS_PROTOCOL, m.name) for m in shown]
            rows.append(("", STRANGERS, *(cell if cell.n else None for cell in cells)))
        text = (
            "Every method brings the same faces to the same change of the target, as the scorer of the labels reads it, wherever"
            " that takes them. Means over the attributes; arrived: over the faces that it brought there. "
            + _explain(shown)
        )
        title = "An equal change: codes and identity"
        return Table("matched", title, text, ("change", "method", *map(_title, shown)), rows, _digits(shown))

    def _estimate_main(self, protocol: str, metric: str, **equal: Any) -> Estimate:
        """Estimate one metric over the attributes that the report is on."""
        rows = self.select(protocol, metric, **equal)
        return self.estimate(protocol, metric, rows[rows["attribute"].isin(self.result.attributes)])

    def build_judged(self) -> Table:
        """Every method at an equal change by each judge: what the judges say."""
        shown = self.list_shown("equal", True)
        change = self.result.context.config.targets[0]
        rows: list[Row] = []
        for method in (*self.list_methods(), RANDOM):
            for judge in self.judges:
                protocol, equal = "random" if method == RANDOM else "equal", {"change": change, "judge": judge}
                cells = [self._estimate_main(protocol, m.name, method=method, **equal) for m in shown]
                if any(cell.n for cell in cells):
                    tried = self.select(protocol, "drift", method=method, **equal)
                    tried = tried[tried["attribute"].isin(self.result.attributes)]
                    reached = estimate_proportion(
                        torch.from_numpy(tried["reached"].to_numpy(np.float64).copy()),
                        _tensor(tried["code_id"]),
                        _encode(tried["attribute"]),
                    )
                    rows.append((method, judge, reached, self._estimate_side_effects(method, change, judge), *cells))
        text = (
            f"Every face at exactly {change:+g} σ of the target by the same judge, between the two rendered pictures around that"
            " place. Means over the attributes that the judge has; arrived: over the faces that were brought there. Side effects:"
            " absolute mean signed change of an attribute that wasn't asked for, averaged over these: the paper's matrix (7), off"
            f" its diagonal, in σ. {_explain(shown)} Random moves are as long as the first InterfaceGAN's, at any change."
        )
        head = ("method", "judge", "reached (all)", "side effects (arrived)", *map(_title, shown))
        return Table("judged", "An equal change: effects by each judge", text, head, rows, _digits(shown))

    def _estimate_side_effects(self, method: str, change: float, judge: str) -> Estimate | None:
        if method == RANDOM:
            return None
        rows = self.select("equal", "change", method=method, change=change, judge=judge)
        if not len(rows):
            return None
        values, codes, attributes = self.pivot_changes(method, change, judge=judge)
        names = sorted(rows[rows["reached"]]["attribute"].unique())
        main = torch.tensor([k for k, name in enumerate(names) if name in self.result.attributes], dtype=torch.long)
        keep = torch.isin(attributes, main)
        return bootstrap_absolute_means(values[keep], codes[keep], attributes[keep])

    def build_variants(self) -> Table:
        """Variants of the compact editor against the better InterfaceGAN."""
        rivals = self.list_methods(family="interfacegan")
        rows: list[Row] = []
        for change in self.result.context.config.targets:
            for entry in self.result.entries:
                parts: list[tuple[Tensor, Tensor, Tensor]] = []
                for attribute in self.result.attributes if entry.method == "compact" else ():
                    for judge in self.result.fresh_judges:
                        equal = {"attribute": attribute, "change": change, "judge": judge}
                        rival = self.choose_best("equal", "drift", rivals, False, **equal)
                        if rival is not None:
                            parts.append(self.pair("equal", "drift", entry.name, rival, **equal)[:3])
                strata = (
                    torch.cat([torch.full((len(p[0]),), k) for k, p in enumerate(parts)]) if parts else torch.zeros(0)
                )
                if len(strata):
                    a, b, codes = (torch.cat(values) for values in zip(*parts, strict=True))
                    ratio = bootstrap_ratio(a, b, codes, strata)
                    rows.append((entry.name, f"{change:g} σ", ratio.n, ratio, judge_claim(ratio, at_most=DRIFT_AIM)))
        text = (
            "The geometric mean, over attributes and judges that made no labels, of the ratio of mean drifts, on the faces that"
            " both brought to the change by that judge; ablations on a few faces only."
        )
        head = ("variant", "change", "faces", "drift, ratio", f"at most {DRIFT_AIM:g}")
        return Table("variants", "Variants of the compact editor against InterfaceGAN", text, head, rows)

    def build_joint(self) -> Table:
        """Several attributes in one edit."""
        rows: list[Row] = []
        for method in self.list_methods("first"):
            mine = self.select("joint", "success", method=method)
            for edited in mine["attribute"].astype(str).unique():
                equal = {"method": method, "attribute": edited}
                cells = [self.estimate("joint", "target_change", judge=self.judges[0], **equal)]
                cells += [self.estimate("joint", "drift", judge=judge, **equal) for judge in self.judges]
                cells += [self.estimate("joint", "identity", **equal)]
                rows.append((method, edited, *cells))
        text = (
            "Two and three attributes in one edit, a change of 1 asked of each. Achieved: the mean change of those edited, as the"
            " labels' scorer reads it. Drift is of all others. All over all faces."
        )
        head = ("method", "edited", "achieved", *(f"drift, {judge}" for judge in self.judges), "identity")
        return Table("joint", "Several attributes at once", text, head, rows, {"identity": 3})

    def build_codes(self) -> Table:
        """What needs no picture: readings, lengths, order and undo, DCI."""
        names = ("order", "together", "undo", "undo_all")
        dci = ("disentanglement", "completeness", "informativeness")
        rows: list[Row] = []
        for method in self.list_methods("first", "rest", "ablation"):
            cells = [self.estimate("order", name, method=method) for name in names]
            if method in self.result.dci:
                cells += [Estimate(**self.result.dci[method][name]) for name in dci]
            row = (*self._estimate_readings(method, 0), *cells, *[None] * (7 - len(cells)))
            if any(isinstance(cell, Estimate) and cell.n for cell in row):
                rows.append((method, *row))
        text = (
            f"{self.result.context.config.latent} codes, edited by a change of 1 and read by the labels' probe; means over the"
            " attributes, per σ: ratios of means. Order, together, undo: shares of the length of the whole move, 0 is what one"
            " wants: between a then b and b then a, between a then b and both at once, what is left after +2 σ and -2 σ of one"
            " attribute and of all. DCI (Eastwood and Williams, 2018), by a lasso on the scored fresh faces: does each number of"
            " the code predict one attribute, is each attribute predicted by one number, and how much of it can be predicted."
        )
        head = ("method", *READING_TITLES, "order", "together", "undo", "undo of all", *dci)
        digits = dict.fromkeys(("others for 1 σ", "left W", "order", "together", "undo", "undo of all", *dci), 3)
        return Table("codes", "Codes alone: readings, order and undo, DCI", text, head, rows, digits)

    def _estimate_readings(self, method: str, labels: int) -> Row:
        """Return the columns of ``READING_TITLES`` for a method that learned from so many labels (0: all)."""

        def get(metric: str) -> pd.DataFrame:
            return self.select("codes", metric, method=method, labels=labels).sort_values(["attribute", "code_id"])

        target = get("target_change")
        values, codes, strata = _tensor(target["value"]), _tensor(target["code_id"]), _encode(target["attribute"])
        others = [
            bootstrap_ratio(_tensor(get(name)["value"]), values, codes, strata) if len(get(name)) else None
            for name in ("drift", "distance", "mahalanobis_length")
        ]
        return (bootstrap_mean(values, codes, strata), *others, self.estimate("codes", "left_w", get("left_w")))

    def build_labels(self) -> Table:
        """Quality by the number of labels."""
        tried = self.select("codes", "target_change")
        pairs = tried[tried["labels"] > 0][["method", "labels"]].drop_duplicates().sort_values(["method", "labels"])
        rows = [
            (str(method), f"{labels:,}", *self._estimate_readings(method, labels))
            for method, labels in pairs.itertuples(index=False)
        ]
        text = "What a method does that learned from so many labels, read by the probe of all labels, as in the table above."
        head = ("method", "labels", *READING_TITLES)
        return Table("labels", "Label efficiency", text, head, rows, {"others for 1 σ": 3, "left W": 3})

    def build_agreement(self) -> Table:
        """|cos| with published directions, where their files were given."""
        rows = [(name, *(cosines.get(a) for a in AIMS)) for name, cosines in self.result.agreement.items()]
        text = (
            "|cos| of linear methods' directions with encoder4editing's (smile, age). Wanted of the SVM boundary: "
            + ", ".join(f"{name} {aim:g}" for name, aim in AIMS.items())
            + "; independent published directions agree with each other at "
            + " and ".join(f"{value:g}" for value in papers.AGREEMENT.values())
            + ". The softness of InterfaceGAN's margin, its only free number, was set by this agreement."
        )
        title = "Agreement with published directions"
        return Table("agreement", title, text, ("method", *AIMS), rows, dict.fromkeys(AIMS, 3))

    def build_costs(self) -> Table:
        """What methods cost on this machine; it differs from run to run."""
        rows = [(name, row["fit_seconds"], row["edit_ms"]) for name, row in self.result.timings.items()]
        text = (
            "Seconds to fit and milliseconds for an edit of one code, on this machine, whatever else it did meanwhile."
        )
        return Table("costs", "Costs", text, ("method", "seconds to fit", "ms an edit"), rows)


STRANGERS_PROTOCOL = "strangers"
READING_TITLES = ("target (σ)", "others for 1 σ", "distance for 1 σ", "Mahalanobis length for 1 σ", "left W")


def describe_difference(difference: Estimate) -> str:
    """Return "ahead" or "behind" for a difference whose interval lies above or below 0, else "even"."""
    if not difference.n:
        return "-"
    return "ahead" if difference.low > 0 else "behind" if difference.high < 0 else "even"


def _title(metric: Metric) -> str:
    """Return a metric's name with the denominator of its mean."""
    return f"{metric.name.replace('_', ' ')} ({'all' if metric.every_code else 'arrived'})"


def _explain(metrics: Sequence[Metric]) -> str:
    return " ".join(f"{metric.name.replace('_', ' ').capitalize()}: {metric.text}" for metric in metrics)


def _digits(metrics: Sequence[Metric]) -> dict[str, int]:
    return {_title(metric): metric.digits for metric in metrics}


def _tensor(column: pd.Series) -> Tensor:
    """Return a column of numbers."""
    values = column.to_numpy()
    return torch.from_numpy(values.astype(np.float64 if values.dtype.kind == "f" else np.int64))


def _encode(column: pd.Series) -> Tensor:
    """Return a number for each text, in the order of texts."""
    return torch.from_numpy(np.unique(column.astype(str).to_numpy(), return_inverse=True)[1].astype(np.int64))
