"""Figures of a report: the papers' figures 3 and 4, all methods on the same faces, and the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ganvas.evaluation.context import EvaluationContext
from ganvas.evaluation.result import EvaluationResult
from ganvas.evaluation.success import make_goal
from ganvas.io import figures
from ganvas.io.files import atomic_write
from ganvas.io.images import downscale, encode_jpeg, to_bytes
from ganvas.types import WPlus

SHEET_SIDE = 144
"""Pixels of a picture's side on a sheet: reports are committed."""
STRENGTHS = (-1.0, 1.0, 2.0, 3.0)
"""Strengths of figure 3, in standard deviations towards the goal."""


def draw_figures(outcome: EvaluationResult, out: Path) -> dict[str, str]:
    """Write every figure that there are results for, and return their file names by what they show."""
    names: dict[str, str] = {}
    results, config = outcome.results, outcome.context.config
    if config.pictures:
        for attribute in outcome.attributes:
            pixels = draw_side_by_side(outcome, attribute)
            if pixels is not None:
                names[f"sheet {attribute}"] = _write(out / f"methods-{attribute}.jpg", encode_jpeg(pixels))
        pixels = draw_figure_3(outcome)
        if pixels is not None:
            names["figure 3"] = _write(out / "figure-3.jpg", encode_jpeg(pixels))
    for entry, _ in outcome.list_fitted("first"):
        rows = {a: found[entry.name] for a, found in results["paper"].items() if entry.name in found}
        if any(row["variation"] for row in rows.values()):
            names[f"figure 4 {entry.name}"] = _write(
                out / f"variation-{entry.slug}.png", draw_figure_4(rows, entry.name)
            )
    if any(found for found in results["curves"].values()):
        names["curves"] = _write(
            out / "curves.png", draw_curves(results["curves"], config.curve, _choose_judge(results, outcome))
        )
    if results["labels"]:
        names["labels"] = _write(out / "labels.png", draw_efficiency(results["labels"]))
    return names


def draw_side_by_side(outcome: EvaluationResult, attribute: str) -> Tensor | None:
    """Draw the same faces under every method at the largest equal change; white where a method didn't bring a face there."""
    change = outcome.context.config.targets[-1]
    trials = {
        entry.name: cell.matched[change]
        for entry, _ in outcome.list_fitted("first", "rest")
        if (cell := outcome.cells.get((entry.name, attribute))) is not None and change in cell.matched
    }
    if not trials:
        return None
    n = min(len(t) for t in trials.values())
    arrived = torch.stack([t.arrived[:n] for t in trials.values()]).sum(0)
    chosen = arrived.argsort(descending=True, stable=True)[: outcome.context.config.pictures].sort().values.tolist()
    first = next(iter(trials.values()))
    pictures = []
    for i in chosen:
        pictures.append(_render(outcome.context, first.before[i]))
        for t in trials.values():
            blank = torch.full_like(pictures[0], 255)
            pictures.append(_render(outcome.context, t.after[i]) if t.arrived[i] else blank)
    sign = "+" if make_goal(attribute).up else "-"
    columns = ["as drawn", *(name.replace(" ", "\n").replace("_", "\n") for name in trials)]
    return figures.draw_grid(pictures, [f"{attribute}\n{sign}{change:g} σ"] * len(chosen), columns)


@torch.no_grad()
def draw_figure_3(outcome: EvaluationResult) -> Tensor | None:
    """Draw edits of growing strength by the first compact variant and the first InterfaceGAN, one face an attribute."""
    pairs = outcome.list_fitted("first")
    shown = [next((p for p in pairs if p[0].family == family), None) for family in ("compact", "interfacegan")]
    pictures, rows = [], []
    for attribute in outcome.attributes:
        index, gap = outcome.context.select_faces(make_goal(attribute), 1)
        for entry, fit in [pair for pair in shown if pair is not None]:
            if gap or fit.editor is None or attribute not in fit.editor.attributes:
                continue
            ws, _ = outcome.context.make_codes(index)
            sign = 1 if make_goal(attribute).up else -1
            pictures.append(_render(outcome.context, ws[0]))
            for strength in STRENGTHS:
                pictures.append(_render(outcome.context, fit.editor.edit(ws, {attribute: sign * strength})[0]))
            rows.append(f"{'' if sign > 0 else 'less '}{attribute}\n{entry.name}")
    columns = ["as drawn", *(f"{strength:+g} σ" for strength in STRENGTHS)]
    return figures.draw_grid(pictures, rows, columns) if pictures else None


@torch.no_grad()
def _render(context: EvaluationContext, code: Tensor) -> Tensor:
    ws: WPlus = code.to(context.generator.device).expand(context.generator.num_ws, -1)[None]
    return to_bytes(downscale(context.generator.synthesis(ws), min(SHEET_SIDE, context.generator.resolution)))[0]


def draw_figure_4(rows: Mapping[str, Mapping[str, Any]], method: str) -> bytes:
    """Draw figure 4, equation (7) of Lesné et al., as a heat map, PNG bytes; a row where no edit arrived is white."""
    variations = [row["variation"] for row in rows.values()]
    columns = list(next(row for row in variations if row))
    values = [[(row or {}).get(a) or 0.0 for a in columns] for row in variations]
    names = [name if make_goal(name).up else f"less {name}" for name in rows]
    title = f"{method}: mean change of probability, equation (7)"
    return figures.draw_heat_map(torch.tensor(values), names, columns, title, 1.0)


def draw_curves(rows_by_attribute: Mapping[str, Any], changes: Sequence[float], judge: str) -> bytes:
    """Plot drift (by ``judge``) and identity against the change of the target, a column an attribute, PNG bytes."""
    from matplotlib.figure import Figure

    measures = [
        m for m in (judge, "identity") if any(m in by for rows in rows_by_attribute.values() for by in rows.values())
    ]
    names = list(dict.fromkeys(name for rows in rows_by_attribute.values() for name in rows))
    figure = Figure((3.4 * len(rows_by_attribute) + 2, 3.2 * len(measures)), dpi=100, layout="constrained")
    grid = figure.subplots(len(measures), len(rows_by_attribute), squeeze=False)
    for column, (attribute, rows) in enumerate(rows_by_attribute.items()):
        for row, measure in enumerate(measures):
            axes = grid[row][column]
            for k, name in enumerate(names):
                values = rows.get(name, {}).get(measure)
                points = [(x, v) for x, v in zip(changes, values or (), strict=False) if v["mean"] is not None]
                if points:
                    style = {"color": f"C{k % 10}", "linestyle": ("-", "--", ":")[k // 10 % 3], "linewidth": 1.3}
                    axes.plot([x for x, _ in points], [v["mean"] for _, v in points], label=name, **style)
                    low, high = ([v[end] for _, v in points] for end in ("low", "high"))
                    axes.fill_between([x for x, _ in points], low, high, color=f"C{k % 10}", alpha=0.08, linewidth=0)
            axes.set_title(attribute if make_goal(attribute).up else f"less {attribute}", fontsize=9)
            axes.set_xlabel("change of the target, σ", fontsize=8)
            axes.set_ylabel("identity, cosine" if measure == "identity" else f"drift, σ ({measure})", fontsize=8)
            axes.tick_params(labelsize=7)
    handles = {text: line for axes in grid.flat for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", fontsize=7)
    return figures.encode_figure(figure)


def draw_efficiency(rows_by_method: Mapping[str, Any]) -> bytes:
    """Plot the other readings' change against the number of labels, PNG bytes."""
    from matplotlib.figure import Figure

    figure = Figure((6, 3.4), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for name, rows in rows_by_method.items():
        points = [(int(n), row["others"]["mean"]) for n, row in rows.items() if row["others"]["mean"] is not None]
        axes.plot([n for n, _ in points], [v for _, v in points], marker="o", markersize=3, label=name)
    axes.set(xscale="log", xlabel="labels", ylabel="others' readings, σ for 1 σ of the target", ylim=(0, None))
    axes.legend(fontsize=8)
    return figures.encode_figure(figure)


def _choose_judge(results: Mapping[str, Any], outcome: EvaluationResult) -> str:
    """Return the judge that made no labels and has the most attributes, else the own scorer."""
    maker = outcome.context.data.scorer.rpartition(":")[0]
    fresh = [scale for scale in outcome.context.scales if scale.name != maker]
    return max(fresh, key=lambda scale: len(scale.attributes)).name if fresh else outcome.context.scales[0].name


def _write(path: Path, data: bytes) -> str:
    with atomic_write(path) as file:
        file.write_bytes(data)
    return path.name
