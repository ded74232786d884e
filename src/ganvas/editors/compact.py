"""The compact semantic latent space: an auto-encoder of W whose first codes are the attributes.

Equations (1) to (6) of Gwilherm Lesné, Yann Gousseau, Saïd Ladjal and Alasdair Newson, *Espace latent compact et
sémantique pour l'édition désenchevêtrée d'images*, GRETSI 2023.

Codes w are projected on their first 60 principal components; an encoder maps them to 60 numbers c, a decoder maps c
back. The first K are trained to equal the Gaussianised attributes (2) and to be uncorrelated. An edit adds each
attribute's move to c, so that several attributes move at once, and the decoded move to w.

The loss (6) follows (3) to (5) as written, per sample, averaged over the batch: (3) sums squares over components that are
not whitened, (4) over attributes, (5) sums absolute values over the K×K matrix of the batch's correlation. Linear
layers are followed by leaky ReLU and batch norm, the code by batch norm.

Two recipes (``_compact_training.RECIPES``): "paper", as above; "fast" adds a linear path that is initialised as the best
linear solution of the same problem and trains a smaller network beside it, with larger weights of (4) and (5) at the same
ratio. By default edits of "fast" penalise changes of the other attributes (``hold``, below), and those of "paper" move c_k alone.

The paper moves c_k and keeps the other codes constant. Forty attributes of a face have far fewer independent directions
(Goatee and Mustache are read by nearly the same one), so keeping 39 codes constant drives an edit along directions of
nearly no variance, and out of W. ``hold`` adds the change of the other readings to the cost, as a weight: a change of
attribute k moves the code along the v that minimises ``|v|² + hold · (change of the other readings)²`` where the reading of
k moves by 1, with |v| the Mahalanobis length of the decoded move; both are measured on held-out codes. Only ``hold=None``
with ``residual=False`` is the paper's own edit, except for the scale of a change.

"fast" has two more differences. A move aims at the attribute's probability (``aim``), by a second ridge regression: for a
rare attribute, most of the variance of a normal score is among faces without it. And since a long move leaves the shell of
codes, where faces come apart, ``truncation`` moves everything but the changed attributes towards the mean of W, the more
the larger the change (``_compact_truncation``).

A change of 1 moves the probe's reading by 1: c_k follows a noisy label only in part, so each attribute's move is scaled,
on held-out codes. No move is longer than ``_compact_moves.MAX_LENGTH``; an attribute that then hardly responds is reported.
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
    CUSTOM_RECIPE,
    CompactConfig,
    check_reference,
    config_names,
    fit_to_data,
    parse_config,
    recipe_name,
    update_options,
)
from ganvas.editors._compact_moves import MoveCalibrationSet, MoveStatistics, calibrate_moves, measure_moves
from ganvas.editors._compact_network import losses, off_diagonal
from ganvas.editors._compact_training import CompactTraining, train_autoencoder
from ganvas.editors._compact_truncation import TypicalShell, shrink_to_shell
from ganvas.editors._fit import restore_editor
from ganvas.editors._networks import LatentClassifier, Perceptron, correlation, fit_latent_classifier
from ganvas.editors.base import Editor, EditorMetadata, editor_metadata, find_unresponsive, format_report
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.precision import accept_any_float
from ganvas.progress import Progress
from ganvas.types import Scores, W

NEEDS = "labels"
"""What the method learns from."""

TRAINING_SHARE = 0.7
"""The share of the codes that is trained on; the others are held out."""
CALIBRATION_CODES = 512
"""The number of held-out codes on which moves are calibrated."""
CHUNK_CODES = 4096
READER_WIDTH, READER_STEPS = 128, 1200
"""The width and the most steps of the network that predicts scores; fewer steps for few codes."""
Codes = Float[Tensor, "n dim"]


@dataclass(frozen=True)
class CompactNetworks:
    """The networks: from components to codes, back, and to normal scores."""

    encoder: Perceptron
    decoder: Perceptron
    reader: LatentClassifier


@final
class CompactEditor(Editor):
    """A fitted compact editor: it adds moves to compact codes c; conditional sampling uses ``encode`` and ``decode``, too."""

    def __init__(self, metadata: EditorMetadata, pca: PCA, parts: CompactNetworks) -> None:
        super().__init__()
        self.set_metadata(metadata)
        for field in fields(PCA):
            self.register_buffer(field.name, getattr(pca, field.name))
        self.encoder, self.decoder, self.reader = parts.encoder, parts.decoder, parts.reader
        self.eval()  # the reader has dropout
        self.register_buffer("doubt", torch.zeros(len(metadata.attributes)))
        self.register_buffer("moves", torch.eye(len(metadata.attributes), parts.encoder.linears[-1].out_features))
        self.shell = _build_shell(self)
        self.register_load_state_dict_post_hook(_rebuild_shell)

    @property
    def pca(self) -> PCA:
        """The principal components of W."""
        return PCA(**{field.name: self.get_buffer(field.name) for field in fields(PCA)})

    @accept_any_float()
    def encode(self, w: W) -> Codes:
        """Encode w to the compact codes c, (n, dim); the first K belong to ``attributes``."""
        return self.encoder(self.pca.project(w))

    @accept_any_float()
    def decode(self, c: Codes) -> W:
        """Decode c to the w that has the decoder's components, and nothing beyond them."""
        return self.pca.unproject(self.decoder(c))

    @accept_any_float(torch.float32)
    def predict_scores(self, w: W) -> Scores:
        """Predict the normal scores of codes, (n, K), by a network that reads more than the linear probe.

        The buffer ``doubt`` (K,) is the standard deviation of its errors on held-out codes.
        """
        return self.reader(self.pca.project(w) / self.shell.deviations)

    def shift(self, w: W, changes: Scores) -> W:
        """Return the truncated difference of the changed code and the code, both decoded.

        Without ``residual`` it is the difference of the decoded changed code and ``w`` itself. Of a code with different rows
        the mean is used, and every row moves alike. After +2 and then -2 the attribute's reading is back, but what was
        truncated isn't: edit the original code instead. An attribute with a change of 0 isn't held constant; it may change
        like one that isn't named.
        """
        return self.shift_named(w, changes, changes.abs())

    @accept_any_float()
    def shift_named(self, w: W, changes: Scores, named: Scores) -> W:
        """Return the same as ``shift``, with ``named`` (n, K): how much truncation keeps each reading (``shrink_to_shell``)."""
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
    progress: Progress = lambda step, steps: None,
    **options: Any,
) -> CompactEditor:
    """Fit the compact space of labelled codes; ``options`` are the fields of ``CompactConfig`` and of ``CompactTraining``.

    ``recipe``: the name of one of ``RECIPES``, or any such options; ``options`` take precedence over it.
    ``attributes``: only these, in this order. ``progress`` is called after each step. Measurements on held-out codes are in
    the editor's ``report``.
    Raises GanvasError for unknown or impossible options and for fewer than 10 codes.
    """
    settings, training = parse_config(recipe, options)
    data = data if attributes is None else data.select(tuple(attributes))
    if len(data) < 10:
        raise GanvasError(f"{len(data)} codes are too few: at least 10 are needed.")
    w, a = data.w.to(generator.device), data.normals().to(generator.device)
    rows, held = (index.to(generator.device) for index in data.split(TRAINING_SHARE, settings.seed))
    settings = fit_to_data(settings, w[rows], a.shape[1])
    pca = fit_pca(w[rows], settings.components)
    mref = check_reference(settings.mref, a[rows])
    x = pca.project(w)
    encoder, decoder = train_autoencoder(x[rows], a[rows], mref, settings.dim, training, settings.seed, progress)
    deviations = _compute_deviations(pca.variances, x.shape[1])
    steps = min(READER_STEPS, 10 + len(rows) // 10)
    reader = fit_latent_classifier(x[rows] / deviations, a[rows], READER_WIDTH, steps, settings.seed)
    with torch.no_grad():
        stored_options = {"recipe": recipe_name(recipe)} | asdict(settings) | asdict(training)
        editor = CompactEditor(
            editor_metadata("compact", data, generator, stored_options, {}),
            pca,
            CompactNetworks(encoder, decoder, reader),
        )
        editor.get_buffer("doubt").copy_((editor.predict_scores(w[held]) - a[held]).square().mean(0).sqrt())
        aims = _fit_aims(data, w, rows) if settings.aim == "probability" else editor.probe.weight
        measured = _calibrate_moves(editor, x[held][:CALIBRATION_CODES], aims)
        editor.report = _measure_report(editor, x[held], a[held], mref, measured) | {"trained_on": len(rows)}
    return editor


def from_tensors(tensors: Mapping[str, Tensor], metadata: EditorMetadata) -> CompactEditor:
    """Build the editor from a file. Raises GanvasError where its tensors and options don't match."""
    return restore_editor(lambda: _build_empty(metadata), tensors, metadata.method)


def _build_empty(metadata: EditorMetadata) -> CompactEditor:
    """Build an editor by ``metadata.options``, on the "meta" device."""
    options = update_options(metadata.options)
    settings, training = parse_config(
        CUSTOM_RECIPE, {name: options[name] for name in config_names(CompactConfig, CompactTraining)}
    )
    w_dim, k = metadata.probe.weight.shape
    sizes = (settings.components, settings.dim), (settings.dim, settings.components)
    encoder, decoder = (Perceptron(*size, training.width, training.depth, training.path) for size in sizes)
    pca = PCA(torch.empty(w_dim), torch.empty(settings.components, w_dim), torch.empty(w_dim))
    parts = CompactNetworks(encoder, decoder, LatentClassifier(settings.components, k, READER_WIDTH))
    return CompactEditor(metadata, pca, parts)


def _build_shell(editor: CompactEditor) -> TypicalShell:
    """Build the shell that long moves are truncated to."""
    deviations = _compute_deviations(editor.pca.variances, len(editor.pca.components))
    readings = editor.pca.components @ editor.probe.weight.to(deviations)
    return TypicalShell(deviations, readings, editor.options["truncation"])


def _rebuild_shell(editor: CompactEditor, _: object) -> None:
    editor.shell = _build_shell(editor)


def _compute_deviations(variances: Tensor, components: int) -> Tensor:
    """Return the standard deviations of the leading components; never 0, even where codes don't vary."""
    deviations = variances[:components].sqrt()
    smallest = 1e-6 * deviations.max().double()
    return torch.maximum(deviations, torch.where(smallest > 0, smallest, 1.0).to(deviations))


def _fit_aims(data: LatentDataset, w: W, rows: Tensor) -> Tensor:
    """Fit linear readings of probabilities, and of normal scores of other kinds, by ridge regression: (w_dim, K)."""
    probable = torch.tensor([kind == "probability" for kind in data.kinds]).to(data.scores.device)
    targets = torch.where(probable, torch.sigmoid(data.scores), data.normals()).to(w.device)
    return probe.fit_probe(w[rows], targets[rows]).weight


def _calibrate_moves(editor: CompactEditor, x: Tensor, aims: Tensor) -> MoveStatistics:
    """Set the moves by codes' components, and measure what they do."""
    moves = editor.get_buffer("moves")
    aims = editor.pca.components @ aims.to(x)
    calibration = MoveCalibrationSet(x, editor.encoder(x), editor.decoder, editor.shell, aims)
    moves.copy_(calibrate_moves(calibration, moves, editor.options["hold"]))
    return measure_moves(calibration, moves)


def _measure_report(
    editor: CompactEditor, x: Tensor, a: Scores, mref: Tensor, measured: MoveStatistics
) -> dict[str, Any]:
    """Measure the report on held-out codes; "response", "length" and "others" are those of ``MoveStatistics``."""
    parts = [(editor.encoder(rows), editor.decoder(editor.encoder(rows))) for rows in x.split(CHUNK_CODES)]
    c, y = (torch.cat(part) for part in zip(*parts, strict=True))
    recons, attr, corr = (float(loss) for loss in losses(x, c, y, a, mref))
    k = a.shape[1]
    centred = [t - t.mean(0) for t in (c[:, :k], a)]
    correlations = torch.cosine_similarity(*centred, dim=0)

    return {
        "held_out": len(x),
        "variance_in_components": float(editor.pca.share[x.shape[1] - 1]),
        "l_recons": recons,
        "l_attr": attr,
        "l_corr": corr,
        "reconstructed": 1 - recons / float(x.var(0, correction=0).sum()),
        "mean_correlation": float(correlations.mean()),
        "codes_off_diagonal": off_diagonal(correlation(c[:, :k])),
        "labels_off_diagonal": off_diagonal(correlation(a)),
        **format_report(editor.attributes, correlation=correlations, **vars(measured)),
        "unresponsive": find_unresponsive(editor.attributes, measured.response),
    }
