"""Tables of the results of ``success``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ganvas.evaluation.papers import SUCCESS


def markdown(results: dict[str, Any]) -> str:
    """Format results as Markdown."""
    protocol, bound = results["protocol"], results["bound"]
    target, components = protocol["target"], bound["components"]
    lines = [
        f"# Success of {results['method']} on {results['generator'].split(':')[0]}",
        "",
        f"{protocol['n']} fresh faces an attribute (seeds from {protocol['seed']}, psi {protocol['psi']:g}), edited"
        f" with growing strength until p > {target} (towards absent: until p < {1 - target:.1f}), in steps of"
        f" {protocol['ladder']['step']:g} σ up to {protocol['ladder']['maximum']:g} σ, and no further than the"
        f" {bound['percentile']:g}th percentile of the Mahalanobis distances of sampled codes"
        f" ({bound['distance']:.1f}).",
        "Failed: faces that didn't arrive, and how many of them were stopped by that bound, not by the largest strength."
        f" Brackets: 95 % bootstrap interval. Base rate: share of {results['pool']} fresh faces with p > 0.5."
        f" Within {components}: success that also stays within the bound of the {components} leading components, a"
        " tighter one. Drift: mean |change| of the other attributes, in σ.",
        "",
    ]
    head, *rows = build_success_table(results)
    lines += [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    lines += [f"| {' | '.join(cells)} |" for cells in rows]
    return "\n".join(lines) + "\n"


def build_success_table(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Return the titles, then one row an attribute."""
    within = f"within {results['bound']['components']}"
    titles = (
        "attribute",
        "success",
        "paper",
        "failed (bound)",
        within,
        "strength (σ)",
        "drift (σ)",
        "Mahalanobis",
        "base rate",
    )
    return [titles, *(_row(name, row) for name, row in results["attributes"].items())]


def _row(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    return (
        name if row["towards"] == "present" else f"{name} (towards absent)",
        format_estimate(row["success"], 3),
        f"{SUCCESS[name][0]:.3f}" if name in SUCCESS else "",
        f"{row['failed']} ({row['failed_at_bound']})",
        format_estimate(row["success_leading"], 3),
        format_estimate(row["strength"], 2),
        format_estimate(row.get("off_target_drift"), 2),
        f"{_mean(row['mahalanobis_before'])} → {_mean(row['mahalanobis_after'])}",
        f"{row['base_rate']:.2f}",
    )


def format_estimate(value: Mapping[str, Any] | None, digits: int) -> str:
    """Format an estimate as a mean with its interval; "-" where there is none."""
    if value is None or value["mean"] is None:
        return "-"
    return f"{value['mean']:.{digits}f} [{value['low']:.{digits}f}, {value['high']:.{digits}f}]"


def _mean(value: dict[str, Any]) -> str:
    return "-" if value["mean"] is None else f"{value['mean']:.1f}"
