"""Plots of results: the variation matrix, faces beside their projections, the principal components' variance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from ganvas.data.pca import PCA
from ganvas.generators.base import Generator, map_seeds
from ganvas.io import figures
from ganvas.io.images import downscale, to_bytes


def plot_variation(results: dict[str, Any]) -> bytes:
    """Plot equation (7) of Lesné et al. as a heat map, PNG bytes; a row where no edit arrived is white.

    ``results`` is what ``success.run_success`` returns. Colours are full at a change of 1.
    """
    rows = {name: row["variation"] for name, row in results["attributes"].items()}
    columns = list(next(iter(rows.values())))
    matrix = torch.tensor([[0.0 if row[a] is None else row[a] for a in columns] for row in rows.values()])
    names = [name if results["attributes"][name]["towards"] == "present" else f"less {name}" for name in rows]
    return figures.draw_heat_map(matrix, names, columns, "Mean change of probability, equation (7)", 1.0)


@torch.no_grad()
def draw_projection(
    generator: Generator,
    pca: PCA,
    seeds: Sequence[int],
    size: int,
    track: Callable[[Sequence[Tensor]], Iterable[Tensor]] = iter,
) -> Tensor:
    """Draw figure 1 of Lesné et al., (height, width, 3), uint8: faces (psi 1), each beside its projection on the components.

    ``track`` iterates over the codes and may show progress.
    """
    w = map_seeds(generator, seeds)
    codes = generator.expand(torch.stack((w, pca.unproject(pca.project(w))), 1).flatten(0, 1))
    size = min(size, generator.resolution)
    pictures = [to_bytes(downscale(generator.synthesis(ws[None]), size))[0] for ws in track(list(codes))]
    columns = [text for seed in seeds for text in (str(seed), f"{len(pca.components)} components")]
    return figures.draw_grid(pictures, [""], columns)


def plot_elbow(pca: PCA) -> bytes:
    """Plot the share of the variance that the first components hold, PNG bytes."""
    from matplotlib.figure import Figure

    figure = Figure((7, 3.5), dpi=120, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(range(1, len(pca.variances) + 1), pca.share.tolist())
    axes.axvline(len(pca.components), linestyle="--", linewidth=1, color="grey")
    axes.set(xlabel="principal components of W", ylabel="share of the variance", ylim=(0, 1.02))
    return figures.encode_figure(figure)
