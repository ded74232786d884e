"""Results as titled tables, which Markdown and the page share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ganvas.evaluation import papers
from ganvas.evaluation.further_sections import build_further_sections
from ganvas.evaluation.headline import build_headline_sections
from ganvas.evaluation.html_page import PageSection
from ganvas.evaluation.table_cells import (
    JUDGE_MEASURES,
    Results,
    Row,
    format_goal,
    format_matched,
    format_number,
    format_random_pairs,
    format_verdict,
)
from ganvas.evaluation.tables import format_estimate
from ganvas.evaluation.verdicts import DRIFT_AIM, SUCCESS_AIM

INTERVALS_NOTE = " Brackets: 95 % bootstrap intervals over faces."


def build_sections(
    results: Results, timings: Results, pictures: Mapping[str, str], judges: Sequence[str]
) -> list[PageSection]:
    """Build all sections of a report, the main comparison first. ``judges``: the own scorer, then the others."""
    return [
        *build_headline_sections(results),
        *_build_verdict_sections(results),
        *_build_paper_sections(results, judges),
        *(PageSection(f"Figure 4: {n[9:]}", FIGURE_4_TEXT, pictures[n]) for n in pictures if n.startswith("figure 4")),
        *(
            [PageSection("Figure 3: growing strength", FIGURE_3_TEXT, pictures["figure 3"])]
            if "figure 3" in pictures
            else []
        ),
        *_build_matched_sections(results, judges),
        *(PageSection(f"All methods: {n[6:]}", SHEET_TEXT, pictures[n]) for n in pictures if n.startswith("sheet")),
        *([PageSection("Curves", CURVES_TEXT, pictures["curves"])] if "curves" in pictures else []),
        *build_further_sections(results, timings, pictures, judges),
    ]


FIGURE_3_TEXT = (
    "Each attribute on one face, with growing strength, by both families; in standard deviations of the reading."
)
FIGURE_4_TEXT = (
    "Each row edits one attribute until the scorer is sure of it; colours say how much the probability of every attribute"
    " changed on average over the edits that arrived (equation 7). The ideal is one coloured cell a row."
)
SHEET_TEXT = (
    "The same faces under every method at the same change of the target; white where a method didn't bring the face"
    " there."
)
CURVES_TEXT = (
    "Drift and identity where the target has changed by so much, between the two rendered pictures around that place; bands"
    " are 95 % bootstrap intervals over the faces that were brought there."
)


def _build_verdict_sections(results: Results) -> list[PageSection]:
    verdicts = results["verdicts"]
    sections = []
    if verdicts["success"]:
        text = f"At the paper's protocol the best editor is to succeed on {SUCCESS_AIM:g} of the faces, for each attribute."
        rows = [
            (
                format_goal(r["attribute"]),
                r["method"],
                format_estimate(r["success"], 3),
                _format_pair(papers.SUCCESS, r["attribute"]),
                format_verdict(r["holds"]),
            )
            for r in verdicts["success"]
        ]
        titles = ("attribute", "best editor", "success", "paper: compact / InterfaceGAN", "holds")
        sections.append(PageSection("Verdict: success", text, table=[titles, *rows]))
    if verdicts["matched"]:
        text = (
            f"At the same change of the target the best compact variant's drift is to be at most {DRIFT_AIM:g} of the better of"
            " the InterfaceGANs', with identity no lower, on the faces that both brought there. The judges that made no labels"
            f" count; the one that made them is shown beside. {' '.join(verdicts['summary'])}" + INTERVALS_NOTE
        )
        sections.append(
            PageSection(
                "Verdict: drift at matched change",
                text,
                table=[VERDICT_TITLES, *map(_format_verdict_row, verdicts["matched"])],
            )
        )
    if verdicts["tried"]:
        rows = [
            (r["method"], f"{r['change']:g} σ", str(r["faces"]), f"{r['drift']:.2f}", f"{r['holds']} of {r['rows']}")
            for r in verdicts["tried"]
        ]
        titles = ("variant", "change", "faces, at most", "drift, ratio", f"at most {DRIFT_AIM:g} on")
        sections.append(PageSection("Verdict: what was tried", VARIANTS_NOTE, table=[titles, *rows]))
    return sections


VARIANTS_NOTE = (
    "Variants of the compact editor against the better InterfaceGAN at matched change: the mean ratio of drifts over attributes"
    " and judges that made no labels, on the faces that both brought there; ablations on a few faces only."
)
VERDICT_TITLES = (
    "attribute",
    "change",
    "judge",
    "made the labels",
    "compact",
    "InterfaceGAN",
    "drift, ratio",
    "drift holds",
    "identity, difference",
    "identity holds",
)


def _format_verdict_row(row: Results) -> Row:
    return (
        format_goal(row["attribute"]),
        f"{row['change']:g} σ",
        row["judge"],
        "no" if row["fresh"] else "yes",
        row["compact"],
        row["interfacegan"],
        format_estimate(row["drift"], 2),
        format_verdict(row["drift_holds"]),
        format_estimate(row["identity"], 3),
        format_verdict(row["identity_holds"]),
    )


def _build_paper_sections(results: Results, judges: Sequence[str]) -> list[PageSection]:
    text = (
        "Lesné et al., section 4.3: a face with p < 0.5 is edited with growing strength until p > 0.9, within the Mahalanobis"
        " bound of W; Young goes from p > 0.5 to p < 0.1. Identity: cosine of dlib's face embeddings before and after"
        " (equation 8), over edits that arrived. Drift: mean |change| of the other attributes, in σ." + INTERVALS_NOTE
    )
    drifts = [f"drift ({judge})" for judge in judges]
    titles = (
        "method",
        "n",
        "success",
        "stopped",
        "strength (σ)",
        "identity",
        "dlib's distance",
        "no face",
        *drifts,
        "Mahalanobis",
    )
    sections = []
    for attribute, rows in results["paper"].items():
        body = [_format_paper_row(name, row, judges) for name, row in rows.items()]
        paper_rows = _list_paper_rows(attribute, len(titles))
        sections.append(
            PageSection(
                f"The paper's protocol: {format_goal(attribute)}",
                text,
                table=[titles, *body, *paper_rows, *format_random_pairs(results, titles)],
            )
        )
        text = ""
    return sections


def _format_paper_row(name: str, row: Results, judges: Sequence[str]) -> Row:
    return (
        name,
        str(row["n"]),
        format_estimate(row["success"], 3),
        format_number(row["stopped"]),
        format_estimate(row["strength"], 2),
        format_estimate(row["identity"], 3),
        format_estimate(row["identity_distance"], 3),
        format_number(row["no_face"]),
        *(format_estimate(row["drift"].get(judge), 2) for judge in judges),
        format_estimate(row["mahalanobis"], 1),
    )


def _list_paper_rows(attribute: str, width: int) -> list[Row]:
    """Return the paper's own numbers, in the columns of ``_build_paper_sections``."""
    if attribute not in papers.SUCCESS:
        return []
    rows = []
    for k, name in enumerate(("in the paper: compact", "in the paper: InterfaceGAN")):
        row = [name, "256", f"{papers.SUCCESS[attribute][k]:.3f}", *[""] * (width - 3)]
        row[5] = f"{papers.IDENTITY[attribute][k]:.3f}"
        rows.append(tuple(row))
    return rows


def _build_matched_sections(results: Results, judges: Sequence[str]) -> list[PageSection]:
    text = (
        "Every method brings the same faces to the same change of the target's normal score, wherever that takes them. Target:"
        " how far it moved for each judge. Beyond: the drift that correlation with the target doesn't explain. Moved: the"
        " Mahalanobis length of the move; left: the share of codes that left the distribution. Random: moves in random"
        f" directions, as far as {results['floor']['as_far_as']} went, the floor." + INTERVALS_NOTE
    )
    titles = ["method", "reached"]
    for judge in judges:
        titles += [f"{what} ({judge})" for what in JUDGE_MEASURES]
    titles += ["identity", "no face", "distance", "moved", "left"]
    sections = []
    for attribute, by_change in results["matched"].items():
        for change, rows in by_change.items():
            floor = results["floor"]["attributes"].get(attribute, {}).get(change)
            body = [format_matched(name, row, judges) for name, row in rows.items()]
            body += [format_matched("random", floor, judges)] if floor else []
            title = f"Matched change: {format_goal(attribute)} by {change} σ"
            sections.append(
                PageSection(title, text, table=[tuple(titles), *body, *format_random_pairs(results, titles)])
            )
            text = ""
    return sections


def to_markdown(title: str, about: str, sections: Sequence[PageSection], end: str) -> str:
    """Format the sections as a Markdown file, pictures included."""
    parts = [f"# {title}", about]
    for section in sections:
        parts += [f"## {section.title}", *([section.text] if section.text else [])]
        if section.table:
            head, *rows = section.table
            lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
            parts.append("\n".join([*lines, *(f"| {' | '.join(map(_escape, row))} |" for row in rows)]))
        if section.picture:
            parts.append(f"![{section.title}]({section.picture})")
    return "\n\n".join([*parts, end]) + "\n"


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def _format_pair(values: Mapping[str, tuple[float, float]], attribute: str) -> str:
    return " / ".join(f"{value:.3f}" for value in values[attribute]) if attribute in values else "-"
