"""Figures of a report: the papers' figures 3 and 4, all methods on the same faces, and curves; at most eight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ganvas.errors import GanvasError
from ganvas.evaluation.analysis import RowAnalysis
from ganvas.evaluation.context import EvaluationContext
from ganvas.evaluation.faces import format_goal, make_goal
from ganvas.evaluation.methods import FAMILIES
from ganvas.evaluation.pages import PageSection
from ganvas.evaluation.protocols import edit_pool
from ganvas.evaluation.tables import build_labels
from ganvas.io import figures
from ganvas.io.files import atomic_write
from ganvas.io.images import downscale, encode_jpeg, to_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHEET_SIDE = 144
"""Pixels of a picture's side on a sheet: reports are committed."""
MAX_SHEETS = 4
"""Attributes that have a sheet of all methods."""
STRENGTHS = (-1.0, 1.0, 2.0, 3.0)
"""Strengths of figure 3, in standard deviations towards the goal."""
STYLE: dict[Any, Any] = {
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "lines.linewidth": 1.3,
    "lines.markersize": 3,
    "legend.frameon": False,
    "image.cmap": "RdBu_r",
}
"""The one style of all plots."""


@contextmanager
def use_style() -> Iterator[None]:
    """Plot in the report's style inside."""
    from matplotlib import rc_context

    with rc_context(STYLE):
        yield


def draw_figures(analysis: RowAnalysis, out: Path) -> list[PageSection]:
    """Write every figure that there are results for, and return their sections."""
    sections = []
    if analysis.result.context.config.pictures:
        pixels = draw_growing_strength(analysis)
        if pixels is not None:
            text = "Each attribute on one face, with growing strength, by both families; in σ of the reading."
            sections.append(_write(out, "figure-3.jpg", "Figure 3: growing strength", text, encode_jpeg(pixels)))
        for attribute in analysis.result.attributes[:MAX_SHEETS]:
            pixels = draw_side_by_side(analysis, attribute)
            if pixels is not None:
                text = (
                    "The same faces under every method at the same change of the target; white where a method didn't bring the"
                    " face there."
                )
                title = f"All methods: {format_goal(attribute)}"
                sections.append(_write(out, f"methods-{attribute}.jpg", title, text, encode_jpeg(pixels)))
    with use_style():
        plots = (
            ("variation.png", "Figure 4: what else changes", VARIATION_TEXT, plot_variation(analysis)),
            ("curves.png", "Effects by the change of the target", CURVES_TEXT, plot_curves(analysis)),
            ("labels.png", "Effects by the number of labels", LABELS_TEXT, plot_efficiency(analysis)),
        )
        for name, title, text, figure in plots:
            if figure is not None:
                sections.append(_write(out, name, title, text, figures.encode_figure(figure)))
    return sections


VARIATION_TEXT = (
    "Each row edits one attribute until the labels' scorer is sure of it; colours say how much the probability of every attribute"
    " changed on average over the edits that arrived (equation 7). The ideal is one coloured cell a row."
)
CURVES_TEXT = (
    "Drift by a judge that made no labels, where there is one, at exactly this change of the target by the same judge; identity"
    " at the change by the labels' scorer. Bands: 95 % bootstrap intervals over the faces that were brought there."
)
LABELS_TEXT = (
    "The other attributes' readings, for 1 σ of the target, by the number of labels that a method learned from."
)


def draw_side_by_side(analysis: RowAnalysis, attribute: str) -> Tensor | None:
    """Draw the same faces under every method at the largest equal change; white where a method didn't bring a face there."""
    context = analysis.result.context
    change = context.config.targets[-1]
    rows = analysis.select("matched", "success", attribute=attribute, change=change)
    fitted = [
        (e.name, editor)
        for e, editor in analysis.result.list_fitted("first", "rest")
        if (rows["method"] == e.name).any()
    ]
    if not fitted:
        return None
    wide = rows.pivot(index="code_id", columns="method", values="reached")[[name for name, _ in fitted]].dropna()
    counts = wide.astype(int).sum(axis=1).to_numpy()
    chosen = np.sort(np.argsort(-counts, kind="stable")[: context.config.pictures])
    codes = wide.index.to_numpy()[chosen]
    columns: list[list[Tensor]] = []
    for name, editor in fitted:
        mine = rows[rows["method"] == name].set_index("code_id").loc[codes]
        ws, moved, _ = edit_pool(context, editor, attribute, codes, mine["strength"].to_numpy())
        if not columns:
            columns.append([_render(context, code) for code in ws])
        blank = torch.full_like(columns[0][0], 255)
        columns.append(
            [_render(context, c) if there else blank for c, there in zip(moved, mine["reached"], strict=True)]
        )
    titles = ["as drawn", *(name.replace(" ", "\n").replace("_", "\n") for name, _ in fitted)]
    side = f"{attribute}\n{make_goal(attribute).sign * change:+g} σ"
    return figures.draw_grid(
        [picture for row in zip(*columns, strict=True) for picture in row], [side] * len(codes), titles
    )


@torch.no_grad()
def draw_growing_strength(analysis: RowAnalysis) -> Tensor | None:
    """Draw edits of growing strength by the first compact variant and the first InterfaceGAN, one face an attribute."""
    context, pairs = analysis.result.context, analysis.result.list_fitted("first")
    shown = [pair for family in FAMILIES for pair in [p for p in pairs if p[0].family == family][:1]]
    pictures, rows = [], []
    for attribute in analysis.result.attributes:
        try:
            ws, _ = context.make_codes(context.select_faces(make_goal(attribute), 1))
        except GanvasError:
            continue  # Recorded where it was tried.
        for entry, editor in shown:
            if attribute in editor.attributes:
                pictures.append(_render(context, ws[0]))
                for strength in STRENGTHS:
                    pictures.append(
                        _render(context, editor.edit_quietly(ws, {attribute: make_goal(attribute).sign * strength})[0])
                    )
                rows.append(f"{format_goal(attribute)}\n{entry.name}")
    columns = ["as drawn", *(f"{strength:+g} σ" for strength in STRENGTHS)]
    return figures.draw_grid(pictures, rows, columns) if pictures else None


@torch.no_grad()
def _render(context: EvaluationContext, code: Tensor) -> Tensor:
    ws = code.to(context.generator.device)[None]
    return to_bytes(downscale(context.generator.synthesis(ws), min(SHEET_SIDE, context.generator.resolution)))[0]


def plot_variation(analysis: RowAnalysis) -> Figure | None:
    """Plot figure 4 of Lesné et al., equation (7), for the first method of each family; a row where no edit arrived is white."""
    from matplotlib.figure import Figure

    rows = analysis.select("paper", "variation", judge=analysis.judges[0])
    rows = rows[rows["reached"]]
    names = [
        name for family in FAMILIES for name in analysis.list_methods(family=family)[:1]
    ] or analysis.list_methods()[:1]
    names = [name for name in names if (rows["method"] == name).any()]
    if not names:
        return None
    columns, attributes = list(analysis.result.context.scales[0].attributes), analysis.result.attributes
    figure = Figure((max(2.5 + 0.25 * len(columns), 5.0), len(names) * (2.0 + 0.25 * len(attributes))))
    for axes, name in zip(figure.subplots(len(names), 1, squeeze=False).flat, names, strict=True):
        mine = rows[rows["method"] == name].groupby(["attribute", "of"], observed=True)["value"].mean().unstack()
        matrix = mine.reindex(index=attributes, columns=columns).fillna(0.0).to_numpy(np.float64)
        image = axes.imshow(matrix, vmin=-1, vmax=1, aspect="equal")
        axes.set_xticks(range(len(columns)), columns, rotation=90)
        axes.set_yticks(range(len(attributes)), [format_goal(a) for a in attributes])
        axes.grid(visible=False)
        axes.set_title(f"{name}\nmean change of probability, equation (7)")
        figure.colorbar(image, ax=axes, shrink=0.8)
    return figure


def plot_curves(analysis: RowAnalysis) -> Figure | None:
    """Plot drift by one judge, and identity, against the change of the target, a column an attribute."""
    scales = analysis.result.context.scales
    fresh = [scale for scale in scales if scale.name in analysis.result.fresh_judges]
    judge = max(fresh or scales[:1], key=lambda scale: len(scale.attributes)).name
    measures = [m for m in (("drift", judge), ("identity", "")) if ("equal", m[0]) in analysis.parts]
    attributes = analysis.result.attributes
    if not measures:
        return None
    figure, grid = _make_figure(len(measures), len(attributes), (3.4, 3.2), 2)
    for column, attribute in enumerate(attributes):
        for row, (metric, by) in enumerate(measures):
            axes = grid[row][column]
            rows = analysis.select("equal", metric, attribute=attribute, judge=by)
            for k, name in enumerate(analysis.list_methods()):
                mine = rows[rows["method"] == name]
                points = [(float(c), analysis.estimate("equal", metric, part)) for c, part in mine.groupby("change")]
                _plot_line(axes, [p for p in points if p[1].n], name, k)
            axes.set(title=format_goal(attribute), xlabel="change of the target, σ")
            axes.set_ylabel("identity, cosine" if metric == "identity" else f"drift, σ ({judge})")
    _add_legend(figure, grid)
    return figure


def plot_efficiency(analysis: RowAnalysis) -> Figure | None:
    """Plot the other readings' change against the number of labels."""
    rows = [row for row in build_labels(analysis).rows if row[3] is not None]
    if not rows:
        return None
    figure, grid = _make_figure(1, 1, (4.5, 3.4), 1.5)
    for k, name in enumerate(dict.fromkeys(row[0] for row in rows)):
        _plot_line(
            grid[0][0], [(int(str(row[1]).replace(",", "")), row[3]) for row in rows if row[0] == name], str(name), k
        )
    grid[0][0].set(xscale="log", xlabel="labels", ylabel="others' readings, σ for 1 σ of the target", ylim=(0, None))
    _add_legend(figure, grid)
    return figure


def _make_figure(rows: int, columns: int, size: tuple[float, float], margin: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure((size[0] * columns + margin, size[1] * rows))
    return figure, figure.subplots(rows, columns, squeeze=False)


def _plot_line(axes: Any, points: Sequence[tuple[float, Any]], name: str, k: int) -> None:
    """Plot estimates with their intervals; ``k`` numbers the lines of a figure."""
    if points:
        style = {"color": f"C{k % 10}", "linestyle": ("-", "--", ":")[k // 10 % 3]}
        x = [x for x, _ in points]
        axes.plot(x, [e.mean for _, e in points], label=name, marker="o", **style)
        axes.fill_between(x, [e.low for _, e in points], [e.high for _, e in points], color=style["color"], alpha=0.08)


def _add_legend(figure: Figure, grid: Any) -> None:
    handles = {text: line for axes in grid.flat for line, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper")


def _write(out: Path, name: str, title: str, text: str, data: bytes) -> PageSection:
    with atomic_write(out / name) as file:
        file.write_bytes(data)
    return PageSection(title, text, name)
