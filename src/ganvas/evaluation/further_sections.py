"""Sections beside the main tables: several attributes at once, codes, labels, costs, and what could not be measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch

from ganvas.evaluation.html_page import PageSection
from ganvas.evaluation.papers import AGREEMENT
from ganvas.evaluation.published_directions import AIMS
from ganvas.evaluation.table_cells import (
    JUDGE_MEASURES,
    Results,
    Row,
    format_matched,
    format_number,
    format_random_pairs,
)
from ganvas.evaluation.tables import format_estimate
from ganvas.stats import bootstrap_mean


def build_further_sections(
    results: Results, timings: Results, pictures: Mapping[str, str], judges: Sequence[str]
) -> list[PageSection]:
    """Build all of these sections that there are results for."""
    return [
        *_build_joint_edits(results, judges),
        *_build_order_and_undo(results),
        *_build_agreement(results),
        *_build_dci(results),
        *_build_label_efficiency(results, pictures),
        *_build_readings(results, timings),
        *_build_middle_codes(results),
        *_build_other_attributes(results, judges),
        *_build_gaps(results),
    ]


def _build_joint_edits(results: Results, judges: Sequence[str]) -> list[PageSection]:
    rows = [
        (
            name,
            edited,
            format_estimate(row["achieved"], 2),
            format_estimate(row["least"], 2),
            *(format_estimate(row["drift"].get(judge), 2) for judge in judges),
            format_estimate(row["identity"], 3),
            format_number(row["no_face"]),
        )
        for name, entries in results["together"].items()
        for edited, row in entries.items()
    ]
    if not rows:
        return []
    text = (
        "Two and three attributes in one edit, a change of 1 asked of each. Achieved: the mean change of those edited, as the own"
        " scorer sees it; least: of the one that changed least. Drift is of all others."
    )
    titles = ("method", "edited", "achieved", "least", *(f"drift ({judge})" for judge in judges), "identity", "no face")
    return [
        PageSection("Several attributes at once", text, table=[titles, *rows, *format_random_pairs(results, titles)])
    ]


def _build_order_and_undo(results: Results) -> list[PageSection]:
    entries = results["ways"]
    if not entries:
        return []
    text = (
        "Shares of the length of the whole move, on codes alone; 0 is what one wants. Order: between a then b and b then a."
        " Together: between a then b and both at once. Undo: what is left after +2 σ and -2 σ, of one attribute and of all."
    )
    columns = ("order", "together", "undo", "undo_all")
    rows = [(name, *(format_estimate(row[what], 3) for what in columns)) for name, row in entries.items()]
    return [PageSection("Order and undo", text, table=[("method", "order", "together", "undo", "undo of all"), *rows])]


def _build_agreement(results: Results) -> list[PageSection]:
    """Build the table of |cos| with published directions, where their files were given."""
    entries = results.get("published") or {}
    if not entries:
        return []
    names = list(AIMS)
    text = (
        "|cos| of linear methods' directions with encoder4editing's (smile, age). Wanted of the SVM boundary: "
        + ", ".join(f"{name} {aim:g}" for name, aim in AIMS.items())
        + "; independent published directions agree with each other at "
        + " and ".join(f"{value:g}" for value in AGREEMENT.values())
        + ". The softness of InterfaceGAN's margin, its"
        " only free number, was set by this agreement, and is the same in all tables."
    )
    rows = [(method, *(f"{row[n]:.3f}" if n in row else "-" for n in names)) for method, row in entries.items()]
    return [PageSection("Agreement with published directions", text, table=[("method", *names), *rows])]


def _build_dci(results: Results) -> list[PageSection]:
    columns = ("disentanglement", "completeness", "informativeness")
    rows = [(name, *(format_estimate(row[what], 3) for what in columns)) for name, row in results["dci"].items()]
    if not rows:
        return []
    text = (
        "Eastwood and Williams, 2018: does each number of the code predict one attribute (disentanglement), is each attribute"
        " predicted by one number (completeness), and how much of it can be predicted at all (share of the variance on"
        f" codes left out). Lasso, on {results['pool']['faces']:,} scored fresh faces. A linear editor's code:"
        " where a face stands along each direction."
    )
    return [PageSection("The codes: DCI", text, table=[("method", *columns), *rows])]


def _build_label_efficiency(results: Results, pictures: Mapping[str, str]) -> list[PageSection]:
    rows = [
        (
            name,
            f"{int(n):,}",
            format_estimate(row["target"], 2),
            format_estimate(row["others"], 3),
            format_estimate(row["mahalanobis"], 2),
        )
        for name, entries in results["labels"].items()
        for n, row in entries.items()
    ]
    if not rows:
        return []
    text = (
        "What a method does that learned from so many labels, read by the probe of all labels: how far a change of 1 moves the"
        " target, what else moves for each σ of it, and the move's Mahalanobis length. Means over the attributes, which the"
        " bootstrap draws."
    )
    titles = ("method", "labels", "target (σ)", "others (σ)", "length")
    return [PageSection("Label efficiency", text, pictures.get("labels", ""), [titles, *rows])]


def _build_readings(results: Results, timings: Results) -> list[PageSection]:
    rows = [
        (name, *_format_readings(entries.values()), *_format_cost(timings.get(name, {})))
        for name, entries in results["readings"].items()
    ]
    if not rows:
        return []
    text = (
        "On codes alone, means over the attributes: how far a change of 1 moves the probe's reading, what the other readings do"
        " for each σ of it, the move's length in W and its Mahalanobis length in the 60 leading components, the share of codes"
        " that leave the distribution; and what a method costs on this machine. Brackets: the bootstrap draws attributes."
    )
    guides = {name: report["guide"] for name, report in results["reports"].items() if "guide" in report}
    text += "".join(f" {name} was guided by {guide}." for name, guide in guides.items())
    titles = ("method", "target (σ)", "others (σ)", "distance", "length", "left", "seconds to fit", "ms an edit")
    return [PageSection("Readings, ablations and costs", text, table=[titles, *rows])]


def _format_readings(rows: Any) -> Row:
    entries = list(rows)

    def mean(what: str, digits: int) -> str:
        values = [row[what]["mean"] for row in entries if row[what]["mean"] is not None]
        return format_estimate(asdict(bootstrap_mean(torch.tensor(values))), digits) if values else "-"

    return (mean("target", 2), mean("others", 3), mean("distance", 2), mean("mahalanobis", 2), mean("left", 3))


def _format_cost(row: Results) -> Row:
    seconds, edit = row.get("fit_seconds"), row.get("edit_ms")
    return ("-" if seconds is None else f"{seconds:.1f}", "-" if edit is None else f"{edit:.2f}")


def _build_middle_codes(results: Results) -> list[PageSection]:
    rows = [
        (
            name,
            attribute,
            format_estimate(row["crowd"], 2),
            format_estimate(row["farther"], 2),
            format_estimate(row["left"], 3),
        )
        for name, entries in results["middle"].items()
        for attribute, row in entries.items()
    ]
    if not rows:
        return []
    text = (
        "The paper's reason for Gaussianisation (section 4.1): without it, codes near p = 0.5 would be implausible. Crowd: how"
        " many codes lie near that place, 1 as many as near a normal distribution's mean. Farther: by how much the Mahalanobis"
        " distance of the decoded code grows when c_k is put there; left: how many then lie beyond the bound."
    )
    return [PageSection("Codes near p = 0.5", text, table=[("method", "attribute", "crowd", "farther", "left"), *rows])]


def _build_other_attributes(results: Results, judges: Sequence[str]) -> list[PageSection]:
    rows = [
        (
            attribute,
            *format_matched(name, row, judges[:2])[: 2 + 4 * len(judges[:2])],
            format_estimate(row["identity"], 3),
            format_number(row["no_face"]),
        )
        for attribute, entries in results["everywhere"].items()
        for name, row in entries.items()
    ]
    if not rows:
        return []
    titles = ["attribute", "method", "reached"]
    for judge in judges[:2]:
        titles += [f"{what} ({judge})" for what in JUDGE_MEASURES]
    titles += ["identity", "no face"]
    table = [titles, *rows, *format_random_pairs(results, titles)]
    return [PageSection("The other attributes, at the first change", "", table=table)]


def _build_gaps(results: Results) -> list[PageSection]:
    rows = [(gap["what"], gap["method"], gap["attribute"], gap["why"]) for gap in results["gaps"]]
    if not rows:
        return []
    return [PageSection("What could not be measured", "", table=[("what", "method", "attribute", "why"), *rows])]
