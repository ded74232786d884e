"""Figure 1a: codes on a plane, coloured by their count, in W and in W+.

McInnes, Healy and Melville, *UMAP*, 2018, https://arxiv.org/abs/1802.03426, where the package umap-learn is installed (it
comes with the extra ``umap``); else scikit-learn's t-SNE, and the report says so.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from experiments.multimnist import encoders
from experiments.multimnist.context import CountContext
from experiments.multimnist.labelled_codes import W_PLUS_COUNTED, W_PLUS_PIXELS
from experiments.multimnist.latent_classifiers import SAMPLED, select_counts
from experiments.multimnist.section import ReportSection, SectionTable
from ganvas.data.dataset import LatentDataset
from ganvas.io.figures import encode_figure

NAME, TITLE = "umap", "Codes by count (figure 1a)"
COMPONENTS = 50
"""Principal components that are laid out: neighbours in hundreds of numbers are found slowly, and no better."""
NEIGHBOURS = 15


@dataclass(frozen=True)
class CodePlane:
    """Codes of one kind: ``places`` (n, 2), ``counts`` (n,); ``neighbour_agreement``: the share of a code's nearest
    neighbours that have its count, among the codes and on the plane, and ``chance``: of any two codes."""

    name: str
    places: np.ndarray
    counts: Tensor
    neighbour_agreement: tuple[float, float]
    chance: float


def run(context: CountContext) -> ReportSection:
    """Draw sampled codes and, where there are real images, codes of W+ by an encoder that saw counts and by one that didn't."""
    sets = [(SAMPLED, context.labels)]
    if context.folder is not None:
        sets += [(kind.name, encoders.inverted_codes(context, kind=kind)) for kind in (W_PLUS_COUNTED, W_PLUS_PIXELS)]
    way = "UMAP" if find_spec("umap") else "t-SNE (for UMAP, `pip install ganvas[umap]`)"
    planes = []
    for name, data in sets:
        context.log(f"Laying out codes, {name}, by {way} …")
        planes.append(make_plane(name, data, context.config.umap, context.seed % 2**31))
    rows = [(p.name, f"{len(p.counts):,}", *(f"{x:.2f}" for x in (p.chance, *p.neighbour_agreement))) for p in planes]
    head = ("codes", "how many", "by chance", "among codes", "on the plane")
    table = SectionTable(f"Share of a code's {NEIGHBOURS} nearest neighbours that have its count", head, rows)
    intro = (
        f"{way} of {COMPONENTS} principal components. W: sampled codes with the counter's count of their pictures; W+:"
        f" codes of real images, inverted, with the images' own. {encoders.describe_training_bias(context)}"
    )
    data = {
        "way": way,
        "planes": [{"name": p.name, "alike": p.neighbour_agreement, "chance": p.chance} for p in planes],
    }
    return ReportSection(NAME, TITLE, intro, (table,), {"umap": draw_figure_1(planes)}, data)


def make_plane(name: str, data: LatentDataset, max_codes: int, seed: int) -> CodePlane:
    """Lay out the first ``max_codes`` codes; equal input gives equal places."""
    from sklearn.decomposition import PCA

    counts = select_counts(data).flatten()[:max_codes]
    vectors = data.codes[:max_codes].flatten(1).numpy()
    codes = PCA(min(COMPONENTS, *vectors.shape), random_state=seed).fit_transform(vectors)
    places = lay_out(codes, seed)
    _, each = counts.unique(return_counts=True)
    chance = float((each / len(counts)).square().sum())
    return CodePlane(
        name, places, counts, (neighbour_agreement(codes, counts), neighbour_agreement(places, counts)), chance
    )


def lay_out(codes: np.ndarray, seed: int) -> np.ndarray:
    """Return places (n, 2) on a plane for codes (n, numbers)."""
    try:
        from umap import UMAP
    except ImportError:
        from sklearn.manifold import TSNE

        return TSNE(perplexity=min(30, (len(codes) - 1) / 3), random_state=seed).fit_transform(codes)
    with warnings.catch_warnings():
        # It says that a seed keeps it to one core.
        warnings.simplefilter("ignore")
        return UMAP(n_neighbors=min(NEIGHBOURS, len(codes) - 1), random_state=seed).fit_transform(codes)


def neighbour_agreement(codes: np.ndarray, counts: Tensor) -> float:
    """Return the share of nearest neighbours with the same count."""
    from sklearn.neighbors import NearestNeighbors

    k = min(NEIGHBOURS, len(codes) - 1)
    near = NearestNeighbors(n_neighbors=k + 1).fit(codes).kneighbors(codes, return_distance=False)[:, 1:]
    return float((counts[torch.from_numpy(near)] == counts[:, None]).float().mean())


def draw_figure_1(planes: list[CodePlane]) -> bytes:
    """Draw a PNG with a panel for each kind of codes."""
    from matplotlib.figure import Figure

    drawn = Figure((4.5 * len(planes), 4.3), dpi=120, layout="constrained")
    values = sorted({int(c) for p in planes for c in p.counts.unique()})
    for i, p in enumerate(planes):
        axes = drawn.add_subplot(1, len(planes), i + 1)
        for value in values:
            there = (p.counts == value).numpy()
            axes.scatter(*p.places[there].T, s=4, color=f"C{value}", label=str(value), linewidths=0)
        axes.set_title(p.name)
        axes.set_xticks([])
        axes.set_yticks([])
    drawn.axes[-1].legend(title="count", markerscale=3, fontsize=8)
    return encode_figure(drawn)
