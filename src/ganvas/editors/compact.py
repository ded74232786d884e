"""The compact semantic latent space: an auto-encoder of W whose first codes are the attributes.

Equations (1) to (6) of Gwilherm Lesné, Yann Gousseau, Saïd Ladjal and Alasdair Newson, *Espace latent compact et
sémantique pour l'édition désenchevêtrée d'images*, GRETSI 2023.

Codes w are projected on their first 60 principal components; an encoder makes 60 numbers c of them, a decoder turns
c back. The first K are trained to equal the Gaussianised attributes (2) and to be uncorrelated. An edit adds each
attribute's move to c, so that several attributes move at once, and what the decoder makes of it to w.

The loss (6) follows (3) to (5) as written, per sample, averaged over the batch: (3) sums squares over components that are
not whitened, (4) over attributes, (5) sums absolute values over the K×K matrix of the batch's correlation. Linear
layers are followed by leaky ReLU and batch norm, the code by batch norm.

Two recipes (``Training``): "paper", as above; "fast" adds a linear path that starts as the best linear solution of the
same problem and trains a smaller network beside it, with larger weights of (4) and (5) at the same ratio. Unless told
otherwise, edits of "fast" hold the other attributes softly (``hold``, below), and those of "paper" move c_k alone.

The paper moves c_k alone and holds the other codes still. Forty attributes of a face have far fewer independent
directions (what reads Goatee reads Mustache), so holding 39 codes still drives an edit along directions that hold next
to no variance, and out of W. ``hold`` makes that a price instead of a law: a change of attribute k moves the code along
the v that minimises ``|v|² + hold · (what the other readings move by)²`` where the reading of k moves by 1, with |v| the
Mahalanobis length of the decoded move; both are measured on held-out codes. Only ``hold=None`` with ``residual=False`` is
the paper's own edit, but for the scale of a change.

A change of 1 moves the probe's reading by 1: c_k follows a noisy label only in part, so each attribute's move is scaled,
measured on held-out codes. No move is longer than ``LONGEST``; an attribute that then hardly responds is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.dataset import LatentDataset
from ganvas.edit import About, Editor, about, fill
from ganvas.editors._compact_joint import Joint, Moments, empty, fit_moments
from ganvas.editors._compact_moves import Ground, Measured, calibrated, measure
from ganvas.editors._compact_network import Perceptron, correlation, losses, off_diagonal
from ganvas.editors._compact_training import RECIPES, Training, Watch, settled, train
from ganvas.errors import GanvasError, unknown
from ganvas.generator import Generator
from ganvas.pca import PCA, fit_pca
from ganvas.types import Scores, W

SHARE = 0.7
"""Of the codes are trained on; the others are held out."""
CALIBRATED_ON = 512
"""Held-out codes that gains are measured on."""
CHUNK = 4096
HOLD = 2.0
"""Of the "fast" recipe. On ffhq's labels a change of 1 is then 1.87 Mahalanobis lengths long on average, where moving c_k alone
takes 9.36, and other readings move as much (0.193 and 0.194); more hold moves them less and goes farther
(benchmarks/hold.py)."""
Codes = Float[Tensor, "n dim"]


@dataclass(frozen=True)
class Options:
    """What ``fit`` can be told, besides the fields of ``Training``.

    ``components`` of W and ``dim`` of the code: at most, where W or the attributes ask for other numbers.
    ``residual``: what lies beyond the components and what the auto-encoder doesn't reconstruct is carried through an edit;
    without it an edited code is the decoder's alone, as in the paper (a change of 0 stays the identity).
    ``hold``: how much a change keeps the other readings where they are; None moves c_k alone, as in the paper.
    ``mref``: M_ref of (5): "identity", "labels" (the labels' own correlation) or a K×K matrix in the attributes' order.
    """

    components: int = 60
    dim: int = 60
    residual: bool = True
    mref: str | tuple[tuple[float, ...], ...] = "identity"
    hold: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("components", "dim", "seed"):
            value = getattr(self, name)
            if type(value) is not int or value < (name != "seed"):
                raise GanvasError(f"{name} must be a whole number of at least {int(name != 'seed')}, not {value!r}.")
        if not isinstance(self.residual, bool):
            raise GanvasError(f"residual must be true or false, not {self.residual!r}.")


@final
class CompactEditor(Editor):
    """Edits by adding moves to codes c; ``encode`` and ``decode`` are open to others, like conditional sampling."""

    def __init__(self, about: About, pca: PCA, encoder: Perceptron, decoder: Perceptron, moments: Moments) -> None:
        super().__init__()
        self.describe(about)
        for field in fields(PCA):
            self.register_buffer(field.name, getattr(pca, field.name))
        self.encoder, self.decoder, self.joint = encoder, decoder, Joint(moments)
        self.register_buffer("moves", torch.eye(len(about.attributes), moments.codes.shape[0]).to(moments.mean))

    @property
    def pca(self) -> PCA:
        """The principal components of W."""
        return PCA(**{field.name: self.get_buffer(field.name) for field in fields(PCA)})

    def encode(self, w: W) -> Codes:
        """The compact codes c, (n, dim); the first K belong to ``attributes``."""
        return self.encoder(self.pca.project(w))

    def decode(self, c: Codes) -> W:
        """The w whose components the decoder gives, and nothing beyond them."""
        return self.pca.unproject(self.decoder(c))

    def shift(self, w: W, changes: Scores) -> W:
        """From the code as decoded (or, without ``residual``, from the code itself) to the changed code as decoded."""
        c = self.encode(w)
        target = c + changes @ self.get_buffer("moves")
        if not self.options["residual"]:
            return self.decode(target) - w
        return (self.decoder(target) - self.decoder(c)) @ self.get_buffer("components")


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    recipe: str | Training = "fast",
    attributes: tuple[str, ...] | list[str] | None = None,
    watch: Watch = lambda step, steps: None,
    **options: Any,
) -> CompactEditor:
    """Learn the compact space of labelled codes; ``options`` are the fields of ``Options`` and of ``Training``.

    ``attributes``: only these, in this order. ``watch`` hears of each step. What was measured on held-out codes
    is the editor's ``report``.
    Raises GanvasError for unknown or impossible options and for fewer than 10 codes.
    """
    settings, training = _settings(recipe, options)
    data = data if attributes is None else data.select(tuple(attributes))
    if len(data) < 10:
        raise GanvasError(f"{len(data)} codes are too few: at least 10 are needed.")
    w, a = data.w.to(generator.device), data.normals().to(generator.device)
    rows, held = (index.to(generator.device) for index in data.split(SHARE, settings.seed))
    settings, training = _fitting(settings, w[rows], a.shape[1]), settled(training, w.device)
    pca = fit_pca(w[rows], settings.components)
    mref = _reference(settings.mref, a[rows])
    x = pca.project(w)
    encoder, decoder = train(x[rows], a[rows], mref, settings.dim, training, settings.seed, watch)
    with torch.no_grad():
        moments = _moments(data, pca, encoder, w[rows], (data.probe(w[held]), a[held]))
        told = {"recipe": recipe if isinstance(recipe, str) else "own"} | asdict(settings) | asdict(training)
        editor = CompactEditor(about("compact", data, generator, told, {}), pca, encoder, decoder, moments)
        measured = _calibrate(editor, x[held][:CALIBRATED_ON])
        editor.report = _report(editor, x[held], a[held], mref, measured) | {"trained_on": len(rows)}
    return editor


def from_tensors(tensors: Mapping[str, Tensor], about: About) -> CompactEditor:
    """The editor of a file. Raises GanvasError where tensors and options don't belong together."""
    try:
        editor = _unfilled(about)
    except KeyError as error:
        raise GanvasError(f"The editor's file is damaged: its options lack {error}.") from None
    except GanvasError:
        raise
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise GanvasError("The editor's file is damaged: its options aren't a compact editor's.") from None
    fill(editor, tensors)
    return editor


def _unfilled(about: About) -> CompactEditor:
    """The editor that ``about.options`` tells of, on the "meta" device."""
    settings, training = _settings("paper", {name: about.options[name] for name in _names(Options, Training)})
    w_dim, k = about.probe.weight.shape
    with torch.device("meta"):
        sizes = (settings.components, settings.dim), (settings.dim, settings.components)
        encoder, decoder = (Perceptron(*size, training.width, training.depth, training.path) for size in sizes)
        pca = PCA(torch.empty(w_dim), torch.empty(settings.components, w_dim), torch.empty(w_dim))
        return CompactEditor(about, pca, encoder, decoder, empty(k, settings.dim, w_dim))


def _names(*classes: type) -> list[str]:
    return [field.name for cls in classes for field in fields(cls)]


def _settings(recipe: str | Training, options: Mapping[str, Any]) -> tuple[Options, Training]:
    """``options`` told apart by their names. Raises GanvasError for a name that neither has."""
    if isinstance(recipe, str) and recipe not in RECIPES:
        raise unknown("recipe", recipe, RECIPES)
    for name in options:
        if name not in _names(Options, Training):
            raise unknown("option", name, ["recipe", "attributes", *_names(Options, Training)])
    own: dict[str, Any] = {name: value for name, value in options.items() if name in _names(Options)}
    if isinstance(rows := own.get("mref"), list | tuple):
        own["mref"] = _numbers(rows)
    if recipe == "fast":
        own = {"hold": HOLD} | own
    own["hold"] = _price(own.get("hold"))
    base = RECIPES[recipe] if isinstance(recipe, str) else recipe
    return Options(**own), replace(base, **{name: value for name, value in options.items() if name not in own})


def _price(hold: Any) -> float | None:
    """``hold`` checked; the text "none" is None, as the command line says it."""
    if hold is None or isinstance(hold, str) and hold.lower() == "none":
        return None
    if isinstance(hold, bool) or not isinstance(hold, int | float) or not 0 <= hold < float("inf"):
        raise GanvasError(f'hold must be a number from 0 on, or "none" (c_k moves alone), not {hold!r}.')
    return hold


def _numbers(rows: list[Any] | tuple[Any, ...]) -> tuple[tuple[float, ...], ...]:
    """A matrix as tuples, () for what isn't rows. Raises GanvasError for an entry that isn't a number."""
    if not all(isinstance(row, list | tuple) for row in rows):
        return ()
    try:
        return tuple(tuple(map(float, row)) for row in rows)
    except (TypeError, ValueError, OverflowError):
        raise GanvasError("mref must be a matrix of numbers, or one of identity, labels.") from None


def _fitting(settings: Options, w: W, k: int) -> Options:
    """The settings with as many components and codes as there can be."""
    components = min(settings.components, w.shape[1], len(w) - 1)
    dim = settings.dim if components == settings.components else min(settings.dim, max(components, k))
    if dim < k:
        raise GanvasError(f"A code of {dim} numbers can't hold {k} attributes: raise dim, or pick fewer attributes.")
    return replace(settings, components=components, dim=dim)


def _reference(mref: Any, a: Scores) -> Tensor:
    """M_ref, (K, K). Raises GanvasError where it isn't a correlation matrix."""
    k = a.shape[1]
    if mref == "identity":
        return torch.eye(k).to(a)
    if mref == "labels":
        return correlation(a)
    if isinstance(mref, str):
        raise unknown("mref", mref, ["identity", "labels", "a matrix"])
    try:
        matrix = torch.tensor(mref, dtype=torch.float64)
    except (TypeError, ValueError):
        matrix = torch.empty(0)
    if matrix.shape != (k, k) or not torch.isfinite(matrix).all():
        raise GanvasError(f"mref must be a matrix of {k} rows and {k} columns, for {k} attributes.")
    if (
        (matrix - matrix.T).abs().max() > 1e-6
        or (matrix.diagonal() - 1).abs().max() > 1e-6
        or matrix.abs().max() > 1.001
    ):
        raise GanvasError("mref must be a correlation matrix: symmetric, from -1 to 1, with 1 on its diagonal.")
    return matrix.to(a)


def _moments(data: LatentDataset, pca: PCA, encoder: Perceptron, w: W, held: tuple[Tensor, Tensor]) -> Moments:
    readings = data.probe(w)
    codes = torch.cat([encoder(pca.project(rows)) for rows in w.split(CHUNK)])
    return fit_moments(readings, codes, w - pca.unproject(pca.project(w)), held)


def _calibrate(editor: CompactEditor, x: Tensor) -> Measured:
    """Set the moves by codes' components; what they then do."""
    pca, moves = editor.pca, editor.get_buffer("moves")
    weight = pca.components @ editor.probe.weight.to(pca.components)
    ground = Ground(editor.encoder(x), editor.decoder, pca.variances[: x.shape[1]].sqrt(), weight)
    moves.copy_(calibrated(ground, moves, editor.options["hold"]))
    return measure(ground, moves)


def _report(editor: CompactEditor, x: Tensor, a: Scores, mref: Tensor, measured: Measured) -> dict[str, Any]:
    """What is said about held-out codes; "response", "length" and "others" are of a change of 1, as ``Measured``."""
    parts = [(editor.encoder(rows), editor.decoder(editor.encoder(rows))) for rows in x.split(CHUNK)]
    c, y = (torch.cat(part) for part in zip(*parts, strict=True))
    recons, attr, corr = (float(loss) for loss in losses(x, c, y, a, mref))
    k = a.shape[1]
    centred = [t - t.mean(0) for t in (c[:, :k], a)]
    found = torch.cosine_similarity(*centred, dim=0)

    def named(values: Tensor) -> dict[str, float]:
        return {name: round(float(value), 4) for name, value in zip(editor.attributes, values, strict=True)}

    return {
        "held_out": len(x),
        "variance_in_components": float(editor.pca.share[x.shape[1] - 1]),
        "l_recons": recons,
        "l_attr": attr,
        "l_corr": corr,
        "reconstructed": 1 - recons / float(x.var(0, correction=0).sum()),
        "mean_correlation": float(found.mean()),
        "codes_off_diagonal": off_diagonal(correlation(c[:, :k])),
        "labels_off_diagonal": off_diagonal(correlation(a)),
        "correlation": named(found),
        **{name: named(values) for name, values in vars(measured).items()},
        "unresponsive": [name for name, r in zip(editor.attributes, measured.response, strict=True) if not r >= 0.5],
    }
