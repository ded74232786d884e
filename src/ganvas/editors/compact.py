"""The compact semantic latent space: an auto-encoder of W whose first codes are the attributes.

Equations (1) to (6) of Gwilherm Lesné, Yann Gousseau, Saïd Ladjal and Alasdair Newson, *Espace latent compact et
sémantique pour l'édition désenchevêtrée d'images*, GRETSI 2023.

Codes w are projected on their first 60 principal components; an encoder makes 60 numbers c of them, a decoder turns
c back. The first K are trained to equal the Gaussianised attributes (2) and to be uncorrelated. An edit adds each
attribute's move to c, so that several attributes move at once, and what the decoder makes of it to w.

The loss (6) follows (3) to (5) as written, per sample, averaged over the batch: (3) sums squares over components that are
not whitened, (4) over attributes, (5) sums absolute values over the K×K matrix of the batch's correlation. Linear
layers are followed by leaky ReLU and batch norm, the code by batch norm.

Two recipes (``RECIPES``): "paper", as above; "fast" adds a linear path that starts as the best linear solution of the
same problem and trains a smaller network beside it, with larger weights of (4) and (5) at the same ratio. Unless told
otherwise, edits of "fast" hold the other attributes softly (``hold``, below), and those of "paper" move c_k alone.

The paper moves c_k alone and holds the other codes still. Forty attributes of a face have far fewer independent
directions (what reads Goatee reads Mustache), so holding 39 codes still drives an edit along directions that hold next
to no variance, and out of W. ``hold`` makes that a price instead of a law: a change of attribute k moves the code along
the v that minimises ``|v|² + hold · (what the other readings move by)²`` where the reading of k moves by 1, with |v| the
Mahalanobis length of the decoded move; both are measured on held-out codes. Only ``hold=None`` with ``residual=False`` is
the paper's own edit, but for the scale of a change.

Two more things of "fast" that the paper hasn't. A move aims at the attribute's probability (``aim``), by a second ridge
regression: of what few faces have, most of a normal score's spread tells faces without it apart. And a long move leaves the shell
where codes are, so that faces come apart before they are old: ``truncation`` draws all that a change doesn't name towards
the mean of W, the more the larger the change (``_compact_truncation``).

A change of 1 moves the probe's reading by 1: c_k follows a noisy label only in part, so each attribute's move is scaled,
measured on held-out codes. No move is longer than ``LONGEST``; an attribute that then hardly responds is reported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.data import probe
from ganvas.data.dataset import LatentDataset
from ganvas.data.pca import PCA, fit_pca
from ganvas.editors._compact_config import (
    OWN,
    CompactConfig,
    check_reference,
    config_names,
    current,
    fit_to_data,
    parse_config,
    recipe_name,
)
from ganvas.editors._compact_moves import MoveCalibrationSet, MoveStatistics, calibrate_moves, measure_moves
from ganvas.editors._compact_network import Perceptron, correlation, losses, off_diagonal
from ganvas.editors._compact_training import CompactTraining, TrainingProgress, train_autoencoder
from ganvas.editors._compact_truncation import TypicalShell, shrink_to_shell
from ganvas.editors._latent_classifier import ClassifierData, LatentClassifier, fit_latent_classifier
from ganvas.editors.base import Editor, EditorMetadata, editor_metadata, load_module
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.precision import accept_any_float
from ganvas.types import Scores, W

NEEDS = "labels"
"""What it learns from."""

SHARE = 0.7
"""Of the codes are trained on; the others are held out."""
CALIBRATED_ON = 512
"""Held-out codes that gains are measured on."""
CHUNK = 4096
READER_WIDTH, READER_STEPS = 128, 1200
"""Of the network that expects scores; steps at most, fewer for few codes."""
Codes = Float[Tensor, "n dim"]


@dataclass(frozen=True)
class CompactNetworks:
    """The networks: of components to codes, back, and to normal scores."""

    encoder: Perceptron
    decoder: Perceptron
    reader: LatentClassifier


@final
class CompactEditor(Editor):
    """Edits by adding moves to codes c; ``encode`` and ``decode`` are open to others, like conditional sampling."""

    def __init__(self, about: EditorMetadata, pca: PCA, parts: CompactNetworks) -> None:
        super().__init__()
        self.describe(about)
        for field in fields(PCA):
            self.register_buffer(field.name, getattr(pca, field.name))
        self.encoder, self.decoder, self.reader = parts.encoder, parts.decoder, parts.reader
        self.eval()  # the reader leaves numbers out while it learns
        self.register_buffer("doubt", torch.zeros(len(about.attributes)))
        self.register_buffer("moves", torch.eye(len(about.attributes), parts.encoder.linears[-1].out_features))
        self.shell = _build_shell(self)
        self.register_load_state_dict_post_hook(_rebuild_shell)

    @property
    def pca(self) -> PCA:
        """The principal components of W."""
        return PCA(**{field.name: self.get_buffer(field.name) for field in fields(PCA)})

    @accept_any_float()
    def encode(self, w: W) -> Codes:
        """The compact codes c, (n, dim); the first K belong to ``attributes``."""
        return self.encoder(self.pca.project(w))

    @accept_any_float()
    def decode(self, c: Codes) -> W:
        """The w whose components the decoder gives, and nothing beyond them."""
        return self.pca.unproject(self.decoder(c))

    @accept_any_float(torch.float32)
    def expect(self, w: W) -> Scores:
        """The normal scores to expect of codes, (n, K): a network sees what a linear probe can't. Scores scatter about
        them by ``doubt`` (K,), their standard deviation on held-out codes."""
        return self.reader(self.pca.project(w) / self.shell.deviations)

    def shift(self, w: W, changes: Scores) -> W:
        """From the code as decoded (or, without ``residual``, from the code itself) to the changed code as decoded, drawn in.

        Of a code with different rows their mean is looked at, and every row moves alike. After +2 and then -2 the attribute's
        reading is back, but not what was drawn in: edit from the first code, not back. An attribute with a change of 0
        isn't held where it is; it is free to follow, like one that isn't named.
        """
        return self.moved(w, changes, changes.abs())

    @accept_any_float()
    def moved(self, w: W, changes: Scores, named: Scores) -> W:
        """``shift``, where ``named`` (n, K) says which readings a long move doesn't draw in:
        ``_compact_truncation.shrink_to_shell``."""
        c = self.encode(w)
        target = c + changes @ self.get_buffer("moves")
        if not self.options["residual"]:
            return self.decode(target) - w
        x, moved = self.pca.project(w), self.decoder(target) - self.decoder(c)
        return (shrink_to_shell(x, x + moved, named, self.shell) - x) @ self.get_buffer("components")


def fit(
    data: LatentDataset,
    generator: Generator,
    *,
    recipe: str | Mapping[str, Any] = "fast",
    attributes: tuple[str, ...] | list[str] | None = None,
    watch: TrainingProgress = lambda step, steps: None,
    **options: Any,
) -> CompactEditor:
    """Learn the compact space of labelled codes; ``options`` are the fields of ``CompactConfig`` and of ``CompactTraining``.

    ``recipe.model``: the name of one of ``RECIPES``, or any such options; ``options`` go before it.
    ``attributes``: only these, in this order. ``watch`` hears of each step. What was measured on held-out codes
    is the editor's ``report``.
    Raises GanvasError for unknown or impossible options and for fewer than 10 codes.
    """
    settings, training = parse_config(recipe, options)
    data = data if attributes is None else data.select(tuple(attributes))
    if len(data) < 10:
        raise GanvasError(f"{len(data)} codes are too few: at least 10 are needed.")
    w, a = data.w.to(generator.device), data.normals().to(generator.device)
    rows, held = (index.to(generator.device) for index in data.split(SHARE, settings.seed))
    settings = fit_to_data(settings, w[rows], a.shape[1])
    pca = fit_pca(w[rows], settings.components)
    mref = check_reference(settings.mref, a[rows])
    x = pca.project(w)
    encoder, decoder = train_autoencoder(x[rows], a[rows], mref, settings.dim, training, settings.seed, watch)
    deviations = _deviations(pca.variances, x.shape[1])
    steps = min(READER_STEPS, 10 + len(rows) // 10)
    reader = fit_latent_classifier(ClassifierData(x[rows] / deviations, a[rows]), READER_WIDTH, steps, settings.seed)
    with torch.no_grad():
        told = {"recipe": recipe_name(recipe)} | asdict(settings) | asdict(training)
        editor = CompactEditor(
            editor_metadata("compact", data, generator, told, {}), pca, CompactNetworks(encoder, decoder, reader)
        )
        editor.get_buffer("doubt").copy_((editor.expect(w[held]) - a[held]).square().mean(0).sqrt())
        aims = _aims(data, w, rows) if settings.aim == "probability" else editor.probe.weight
        measured = _calibrate(editor, x[held][:CALIBRATED_ON], aims)
        editor.report = _report(editor, x[held], a[held], mref, measured) | {"trained_on": len(rows)}
    return editor


def from_tensors(tensors: Mapping[str, Tensor], about: EditorMetadata) -> CompactEditor:
    """The editor of a file. Raises GanvasError where tensors and options don't belong together."""
    try:
        editor = _unfilled(about)
    except KeyError as error:
        raise GanvasError(f"The editor's file lacks the option {error}: fit it again with this version.") from None
    except GanvasError:
        raise
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise GanvasError("The editor's file is damaged: its options aren't a compact editor's.") from None
    load_module(editor, tensors)
    return editor


def _unfilled(about: EditorMetadata) -> CompactEditor:
    """The editor that ``about.options`` tells of, on the "meta" device."""
    options = current(about.options)
    settings, training = parse_config(
        OWN, {name: options[name] for name in config_names(CompactConfig, CompactTraining)}
    )
    w_dim, k = about.probe.weight.shape
    with torch.device("meta"):
        sizes = (settings.components, settings.dim), (settings.dim, settings.components)
        encoder, decoder = (Perceptron(*size, training.width, training.depth, training.path) for size in sizes)
        pca = PCA(torch.empty(w_dim), torch.empty(settings.components, w_dim), torch.empty(w_dim))
        parts = CompactNetworks(encoder, decoder, LatentClassifier(settings.components, k, READER_WIDTH))
        return CompactEditor(about, pca, parts)


def _build_shell(editor: CompactEditor) -> TypicalShell:
    """Where long moves are kept."""
    deviations = _deviations(editor.pca.variances, len(editor.pca.components))
    readings = editor.pca.components @ editor.probe.weight.to(deviations)
    return TypicalShell(deviations, readings, editor.options["truncation"])


def _rebuild_shell(editor: CompactEditor, _: object) -> None:
    editor.shell = _build_shell(editor)


def _deviations(variances: Tensor, components: int) -> Tensor:
    """Standard deviations of the leading components; never 0, where codes don't vary at all."""
    deviations = variances[:components].sqrt()
    least = 1e-6 * deviations.max().double()
    return torch.maximum(deviations, torch.where(least > 0, least, 1.0).to(deviations))


def _aims(data: LatentDataset, w: W, rows: Tensor) -> Tensor:
    """(w_dim, K): by ridge regressions, how codes move probabilities; scores of other kinds, made normal."""
    probable = torch.tensor([kind == "probability" for kind in data.kinds]).to(data.scores.device)
    targets = torch.where(probable, torch.sigmoid(data.scores), data.normals()).to(w.device)
    return probe.fit_probe(w[rows], targets[rows]).weight


def _calibrate(editor: CompactEditor, x: Tensor, aims: Tensor) -> MoveStatistics:
    """Set the moves by codes' components; what they then do."""
    moves = editor.get_buffer("moves")
    aims = editor.pca.components @ aims.to(x)
    ground = MoveCalibrationSet(x, editor.encoder(x), editor.decoder, editor.shell, aims)
    moves.copy_(calibrate_moves(ground, moves, editor.options["hold"]))
    return measure_moves(ground, moves)


def _report(editor: CompactEditor, x: Tensor, a: Scores, mref: Tensor, measured: MoveStatistics) -> dict[str, Any]:
    """What is said about held-out codes; "response", "length" and "others" are of a change of 1, as ``MoveStatistics``."""
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
