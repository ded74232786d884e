"""The compact semantic latent space: an auto-encoder of W whose first codes are the attributes.

Equations (1) to (6) of Gwilherm Lesné, Yann Gousseau, Saïd Ladjal and Alasdair Newson, *Espace latent compact et
sémantique pour l'édition désenchevêtrée d'images*, GRETSI 2023.

Codes w are projected on their first 60 principal components; an encoder maps them to 60 numbers c, a decoder maps c
back. The first K are trained to equal the Gaussianised attributes (2) and to be uncorrelated. An edit adds each
attribute's move to c, so that several attributes move at once, and the decoded move to w.

The loss (6) follows (3) to (5) as written, per sample, averaged over the batch: (3) sums squares over components that are
not whitened, (4) over attributes, (5) sums absolute values over the K×K matrix of the batch's correlation. Linear
layers are followed by leaky ReLU and batch norm, the code by batch norm.

Three recipes (``RECIPES``): "paper-text", as above; "paper", as the authors' public code has it: (3) is a mean over the 512
dimensions of w, (5) is over all codes, scores end at ±3.1, the leaky ReLU is less leaky, components are of 10,000 codes, and an
edited code keeps what lies beyond them; "fast" adds a linear path that is initialised as the best linear solution of the same
problem and trains a smaller network beside it, with larger weights of (4) and (5) at the same ratio. By default edits of
"fast" penalise changes of the other attributes (``hold``, below), and those of the others move c_k alone.
The authors' histogram has 201 bins of logits up to ±40; ours has as many as there are scores (``gaussianize``).

The paper moves c_k and keeps the other codes constant. Forty attributes of a face have far fewer independent directions
(Goatee and Mustache are read by nearly the same one), so keeping 39 codes constant drives an edit along directions of
nearly no variance, and out of W. ``hold`` adds the change of the other readings to the cost, as a weight: a change of
attribute k moves the code along the v that minimises ``|v|² + hold · (change of the other readings)²`` where the reading of
k moves by 1, with |v| the Mahalanobis length of the decoded move; both are measured on held-out codes. Protected attributes
weigh more, so that an edit leaves gender, age and skin where they were unless it is asked to change them. Only ``hold=None``
with ``residual=False`` is the paper's own edit, except for the scale of a change.

"fast" has two more differences. A move aims at the attribute's probability (``aim``), by a second ridge regression: for a
rare attribute, most of the variance of a normal score is among faces without it. And since a long move leaves the shell of
codes, where faces come apart, ``truncation`` moves everything but the changed attributes towards the mean of W, the more
the larger the change (``shrink_to_shell``).

Directions of W end, too: no move is longer than ``max_move_length``, however large the changes. With ``keep_typical`` edited
codes also stay as typical in P as they were (``ganvas.data.p_space``), which takes about a tenth of a change of 1: moves are
calibrated without it. An edit that is shortened says so.

Moves for ``details``, such as hair's colour, are those of W in all rows of W+ but the coarse ones: poses and shapes stay.
Moves for attributes in the option ``local``, such as glasses, are directions of W+ that change one region of pictures only, and
not of compact codes; ``ganvas.training.local_moves`` learns them. Glasses come apart along a straight line: beyond the option
``local_limit`` the local part of a change falls, and compact codes move for the rest (``split_changes``). In conditional samples
compact codes move for all attributes.

A change of 1 moves the probe's reading by 1: c_k follows a noisy label only in part, so each attribute's move is scaled,
on held-out codes. No move is longer than ``MAX_LENGTH``; an attribute that then hardly responds is reported.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from types import MappingProxyType
from typing import Any, final

import torch
from jaxtyping import Float
from torch import Tensor

from ganvas.data import probe
from ganvas.data.correlation import correlate_pairs
from ganvas.data.dataset import LatentDataset
from ganvas.data.p_space import PSpace
from ganvas.data.pca import PCA, fit_pca
from ganvas.editors._compact_files import check_local_options, check_p_options
from ganvas.editors._compact_moves import (
    MIN_RESPONSE,
    MoveCalibrationSet,
    MoveStatistics,
    TypicalShell,
    calibrate_moves,
    measure_moves,
    shrink_to_shell,
    solve_split_changes,
    split_changes,
)
from ganvas.editors._compact_network import (
    COARSE_RESOLUTION,
    CUSTOM_RECIPE,
    Codes,
    CompactConfig,
    build_reference,
    compute_losses,
    find_recipe_name,
    fit_to_data,
    measure_off_diagonal,
    parse_recipe,
    train_autoencoder,
)
from ganvas.editors._fit import restore_editor, update_options
from ganvas.editors._networks import SLOPE, LatentClassifier, Perceptron, compute_correlation, fit_latent_classifier
from ganvas.editors.base import (
    Editor,
    EditorMetadata,
    build_metadata,
    find_unresponsive,
    format_report,
)
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator, map_seeds
from ganvas.precision import accept_any_float
from ganvas.progress import Progress
from ganvas.seeds import label_seeds
from ganvas.types import Scores, W, WPlus

NEEDS = "labels"
"""What the method learns from."""
REPORTS = ("quick", "labels")
"""The parts of reports that the method is in beside the full comparison."""

TRAINING_SHARE = 0.7
"""The share of the codes that is trained on; the others are held out."""
CALIBRATION_CODES = 512
"""The number of held-out codes on which moves are calibrated."""
CHUNK_CODES = 4096
P_CODES = 10_000
"""Codes that P is fitted on."""
OPTIONS_BEFORE = {
    "protected": (),
    "protection": 1.0,
    "entailed": {},
    "max_move_length": None,
    "max_unit_length": None,
    "keep_typical": False,
    "details": (),
    "coarse_rows": 0,
    "keep_beyond": False,
    "correlated": "attributes",
    "max_score": None,
    "pca_codes": None,
    "slope": SLOPE,
}
"""Options that files of before don't have, as those files were made: their recipe "paper" is today's "paper-text"."""
OPTIONAL_TENSORS = ("responses", "local_moves", "p_mean", "p_whitening", "p_slope")
"""Tensors that some editors have."""
READER_WIDTH, READER_STEPS = 128, 1200
"""The width and the most steps of the network that predicts scores; fewer steps for few codes."""


@dataclass(frozen=True)
class CompactNetworks:
    """The networks: from components to codes, back, and to normal scores."""

    encoder: Perceptron
    decoder: Perceptron
    reader: LatentClassifier


@final
class CompactEditor(Editor):
    """A fitted compact editor: it adds moves to compact codes c; conditional sampling uses ``encode`` and ``decode``, too."""

    may_fall_short = True

    responses: Tensor | None
    """How far a change of 1 moves each reading by compact codes (K,), where moves are calibrated in pictures; None: by 1."""
    local_moves: Float[Tensor, "local num_ws w_dim"] | None
    """What a change of 1 adds to each row of W+, for each attribute of the option ``local``; None: there are none."""
    p_mean: Tensor | None
    p_whitening: Float[Tensor, "whitened w_dim"] | None
    p_slope: Tensor | None
    """``mean``, ``whitening`` and ``slope`` (1,) of P (``PSpace``), where the option ``keep_typical`` is on."""

    def __init__(
        self,
        metadata: EditorMetadata,
        pca: PCA,
        parts: CompactNetworks,
        optional: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        """Build the editor; ``optional`` has those of ``OPTIONAL_TENSORS`` that it has."""
        super().__init__()
        self.set_metadata(metadata)
        for field in fields(PCA):
            self.register_buffer(field.name, getattr(pca, field.name))
        self.encoder, self.decoder, self.reader = parts.encoder, parts.decoder, parts.reader
        self.eval()  # the reader has dropout
        self.register_buffer("doubt", torch.zeros(len(metadata.attributes)))
        self.register_buffer("moves", torch.eye(len(metadata.attributes), parts.encoder.linears[-1].out_features))
        for name in OPTIONAL_TENSORS:
            self.register_buffer(name, optional.get(name))
        self.shell = _build_shell(self)
        self.register_load_state_dict_post_hook(_rebuild_shell)

    @property
    def pca(self) -> PCA:
        """The principal components of W."""
        return PCA(**{field.name: self.get_buffer(field.name) for field in fields(PCA)})

    @property
    def p_space(self) -> PSpace | None:
        """The space in which edited codes stay typical; None: edits are straight."""
        if self.p_mean is None or self.p_whitening is None or self.p_slope is None:
            return None
        return PSpace(self.p_mean, self.p_whitening, float(self.p_slope))

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

    def measure_change(self, before: WPlus, after: WPlus) -> Scores:
        """Measure the change of the readings, by what a change of 1 moves them by."""
        changed = super().measure_change(before, after)
        responses = torch.ones_like(changed[0]) if self.responses is None else self.responses.to(changed)
        if coarse := self.options.get("coarse_rows", 0):
            share = 1 - coarse / before.shape[1] * self._find_details(changed)
            responses = responses * share.clamp(min=1 / before.shape[1])
        measured = changed / responses
        if self.local_moves is not None:
            columns = self._local_columns
            readings = (self.local_moves.mean(1) * self.probe.weight.T[columns].to(self.local_moves)).sum(1)
            local = readings.clamp(min=MIN_RESPONSE).to(changed)
            limit = self.options["local_limit"]
            measured[:, columns] = solve_split_changes(changed[:, columns], limit, local, responses[columns])
        return measured

    @property
    def _local_columns(self) -> list[int]:
        return [self.attributes.index(name) for name in self.options.get("local", ())]

    def _find_details(self, like: Tensor) -> Tensor:
        """Return 1 for each of the option ``details``, 0 for other attributes (K,)."""
        details = self.options.get("details", ())
        return torch.tensor([float(name in details) for name in self.attributes]).to(like)

    @accept_any_float()
    def shift_rows(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """Return the shift by compact codes, which stay typical where the editor keeps them so, plus that by local moves.

        Raises GanvasError for codes of another number of rows than the local moves have.
        """
        if self.local_moves is None:
            return self._shift_codes(ws, changes)
        columns = self._local_columns
        if not changes[:, columns].any():
            return self._limit_length(self._shift_codes(ws, changes))
        if ws.shape[1] != self.local_moves.shape[1]:
            raise GanvasError(
                f"{', '.join(self.options['local'])} move codes of {self.local_moves.shape[1]} rows, not of {ws.shape[1]}."
            )
        local, rest = split_changes(changes[:, columns], self.options["local_limit"])
        by_codes = changes.index_copy(1, torch.tensor(columns, device=changes.device), rest)
        changed = by_codes.ne(0).any(1)[:, None, None]
        shift = torch.where(changed, self._shift_codes(ws, by_codes), 0)
        # Local moves aren't mended, which would take from what is worn.
        shift = self._limit_length(shift + torch.tensordot(local, self.local_moves.to(local), 1))
        return shift if self.p_space is None else self.p_space.limit_distance(ws, shift)

    def _limit_length(self, shift: Float[Tensor, "n rows w_dim"]) -> Float[Tensor, "n rows w_dim"]:
        """Shorten shifts whose rows have a Mahalanobis length above ``max_move_length`` within the components, in the mean."""
        longest = update_options(self.options).get("max_move_length")
        if not longest:
            return shift
        length = (self.pca.components.to(shift) @ shift.mT / self.shell.deviations.to(shift)[:, None]).norm(dim=1)
        return shift * (longest / length.mean(1).clamp(min=longest))[:, None, None]

    def _shift_codes(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """Return the shift by moves of compact codes whose codes stay typical, where the editor keeps them so."""
        shift = self._shift_straight(ws, changes)
        return shift if self.p_space is None else self.p_space.keep_typical(ws, shift)

    def _shift_straight(self, ws: WPlus, changes: Scores) -> Float[Tensor, "n rows w_dim"]:
        """Return the shift by moves of compact codes, without the changes of details in the coarse rows."""
        shift, coarse = super().shift_rows(ws, changes), self.options.get("coarse_rows", 0)
        shapes = changes * (1 - self._find_details(changes))
        if not 0 < coarse < ws.shape[1] or torch.equal(shapes, changes):
            return shift
        changed = shapes.ne(0).any(1)[:, None, None]
        first = torch.where(changed, super().shift_rows(ws, shapes), 0)
        return torch.cat((first.expand(-1, coarse, -1), shift.expand(-1, ws.shape[1] - coarse, -1)), 1)

    def shift(self, w: W, changes: Scores) -> W:
        """Return the truncated difference of the changed code and the code, both decoded.

        Without ``residual`` it is the difference of the decoded changed code and ``w`` itself or, with ``keep_beyond``, what of w
        lies within the components. Of a code with different rows
        the mean is used, and every row moves alike. After +2 and then -2 the attribute's reading is back, but what was
        truncated isn't: edit the original code instead. An attribute with a change of 0 isn't held constant; it may change
        like one that isn't named. Local moves are of the rows of W+: here, compact codes move for all attributes,
        and ``keep_typical`` does nothing.
        """
        return self.shift_named(w, changes, self.shell.add_protected(changes.abs()))

    @accept_any_float()
    def shift_named(self, w: W, changes: Scores, named: Scores) -> W:
        """Return the same as ``shift``, with ``named`` (n, K): how much truncation keeps each reading (``shrink_to_shell``)."""
        c = self.encode(w)
        target = c + changes @ self.get_buffer("moves")
        x = self.pca.project(w)
        if not self.options["residual"]:
            return self.decode(target) - (self.pca.unproject(x) if self.options.get("keep_beyond") else w)
        moved = self.decoder(target) - self.decoder(c)
        if max_move_length := update_options(self.options).get("max_move_length"):
            length = (moved / self.shell.deviations).norm(dim=1, keepdim=True)
            share = (max_move_length / length.clamp(min=max_move_length)).to(changes)
            target, named = c + share * (changes @ self.get_buffer("moves")), share * named
            moved = self.decoder(target) - self.decoder(c)
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
    """Fit the compact space of labelled codes; ``options`` are the fields of ``CompactConfig``.

    ``recipe``: the name of one of ``RECIPES``, or any such options; ``options`` take precedence over it.
    ``attributes``: only these, in this order. ``progress`` is called after each step. Measurements on held-out codes are in
    the editor's ``report``.
    Raises GanvasError for unknown or impossible options and for fewer than 10 codes.
    """
    config = parse_recipe(recipe, options)
    data = data if attributes is None else data.select(tuple(attributes))
    if len(data) < 10:
        raise GanvasError(f"{len(data)} codes are too few: at least 10 are needed.")
    w, a = data.w.to(generator.device), data.normals().to(generator.device)
    a = a if config.max_score is None else a.clamp(-config.max_score, config.max_score)
    rows, held = (index.to(generator.device) for index in data.split(TRAINING_SHARE, config.seed))
    config = fit_to_data(config, w[rows], a.shape[1])
    space = fit_p_space(generator) if config.keep_typical else None
    if set(config.details) & set(data.attributes):
        config = replace(config, coarse_rows=sum(side < COARSE_RESOLUTION for side in generator.row_resolutions))
    pca = fit_pca(w[rows[: config.pca_codes]], config.components)
    mref = build_reference(config.mref, a[rows])
    x = pca.project(w)
    encoder, decoder = train_autoencoder(x[rows], a[rows], mref, config, progress)
    deviations = _compute_deviations(pca.variances, x.shape[1])
    steps = min(READER_STEPS, 10 + len(rows) // 10)
    reader = fit_latent_classifier(x[rows] / deviations, a[rows], READER_WIDTH, steps, config.seed)
    with torch.no_grad():
        stored_options = {"recipe": find_recipe_name(recipe)} | _to_json(asdict(config))
        optional = {}
        if space is not None:
            optional = {
                "p_mean": space.mean,
                "p_whitening": space.whitening,
                "p_slope": torch.tensor([space.slope]).to(w),
            }
        metadata = build_metadata("compact", data, generator, stored_options, {})
        editor = CompactEditor(metadata, pca, CompactNetworks(encoder, decoder, reader), optional)
        editor.get_buffer("doubt").copy_((editor.predict_scores(w[held]) - a[held]).square().mean(0).sqrt())
        aims = _fit_aims(data, w, rows) if config.aim == "probability" else editor.probe.weight
        weights = None if config.hold is None else compute_held_weights(config, data.attributes).to(w)
        _calibrate_moves(editor, x[rows][:CALIBRATION_CODES], aims, weights)
        measured = measure_moves(_prepare_moves(editor, x[held][:CALIBRATION_CODES], aims), editor.get_buffer("moves"))
        editor.report = _measure_report(editor, x[held], a[held], mref, measured) | {"trained_on": len(rows)}
    return editor


def fit_p_space(generator: Generator) -> PSpace:
    """Fit P on codes of the generator: those of labels may be few, or truncated."""
    with torch.no_grad():
        return PSpace.fit(map_seeds(generator, label_seeds(P_CODES)).float(), generator.w_slope)


def from_tensors(tensors: Mapping[str, Tensor], metadata: EditorMetadata) -> CompactEditor:
    """Build the editor from a file. Raises GanvasError where its tensors and options don't match."""
    shapes = {name: tensors[name].shape for name in OPTIONAL_TENSORS if name in tensors}
    editor = restore_editor(lambda: _build_empty(metadata, shapes), tensors, metadata.method)
    if editor.p_space and not 0 < editor.p_space.slope <= 1:
        raise GanvasError(f"The slope of P must be above 0 and at most 1, not {editor.p_space.slope:g}.")
    return editor


def copy_editor(editor: CompactEditor, metadata: EditorMetadata, tensors: Mapping[str, Tensor]) -> CompactEditor:
    """Copy an editor, all of its tensors too, with other metadata and with ``tensors`` instead of those of these names."""
    copied = copy.deepcopy(editor)
    copied.set_metadata(metadata)
    for name, tensor in tensors.items():
        copied.register_buffer(name, tensor.detach().clone())
    copied.shell = _build_shell(copied)
    return copied.to(editor.get_buffer("moves").device)


def _build_empty(metadata: EditorMetadata, shapes: Mapping[str, torch.Size]) -> CompactEditor:
    """Build an editor by ``metadata.options``, on the "meta" device; ``shapes``: of the optional tensors that its file has."""
    config = parse_stored_options(metadata.options)
    w_dim, k = metadata.probe.weight.shape
    sizes = (config.components, config.dim), (config.dim, config.components)
    encoder, decoder = (Perceptron(*size, config.width, config.depth, config.path, config.slope) for size in sizes)
    pca = PCA(torch.empty(w_dim), torch.empty(config.components, w_dim), torch.empty(w_dim))
    parts = CompactNetworks(encoder, decoder, LatentClassifier(config.components, k, READER_WIDTH))
    check_local_options(metadata, shapes.get("local_moves"))
    check_p_options(metadata, shapes)
    if "responses" in shapes:
        shapes = {**shapes, "responses": torch.Size((k,))}
    return CompactEditor(metadata, pca, parts, {name: torch.empty(shape) for name, shape in shapes.items()})


def parse_stored_options(options: Mapping[str, Any]) -> CompactConfig:
    """Parse the options that an editor's file holds. Raises GanvasError for impossible values."""
    merged = OPTIONS_BEFORE | update_options(options)
    return parse_recipe(CUSTOM_RECIPE, {name: merged[name] for name in CompactConfig.__dataclass_fields__})


def _to_json(options: dict[str, Any]) -> dict[str, Any]:
    """Convert tuples of names to the lists that a file has, so that an editor is described alike before and after saving."""
    entailed = {name: list(others) for name, others in options["entailed"].items()}
    names = {name: list(options[name]) for name in ("protected", "details")}
    return options | names | {"entailed": entailed}


def _build_shell(editor: CompactEditor) -> TypicalShell:
    """Build the shell that long moves are truncated to."""
    deviations = _compute_deviations(editor.pca.variances, len(editor.pca.components))
    readings = editor.pca.components @ editor.probe.weight.to(deviations)
    protected = [name in editor.options.get("protected", ()) for name in editor.attributes]
    return TypicalShell(deviations, readings, editor.options["truncation"], protected)


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


def compute_held_weights(config: CompactConfig, attributes: Sequence[str]) -> Tensor:
    """Return how much a move for attribute k (row) holds the reading of attribute j (column), (K, K).

    A protected one counts ``protection`` times. What k entails isn't held, nor the reading that the move is for.
    """
    factor = torch.ones(len(attributes), len(attributes))
    for j, held in enumerate(attributes):
        for k, named in enumerate(attributes):
            if held in config.entailed.get(named, ()):
                factor[k, j] = 0.0
            elif held in config.protected:
                factor[k, j] = config.protection
    return (config.hold or 0.0) * factor.fill_diagonal_(0.0)


def _calibrate_moves(editor: CompactEditor, x: Tensor, aims: Tensor, weights: Tensor | None) -> None:
    """Set the moves by codes' components."""
    moves, longest = editor.get_buffer("moves"), update_options(editor.options).get("max_unit_length")
    moves.copy_(calibrate_moves(_prepare_moves(editor, x, aims), moves, weights, longest))


def _prepare_moves(editor: CompactEditor, x: Tensor, aims: Tensor) -> MoveCalibrationSet:
    """Return what moves of codes' components are measured on."""
    aims = editor.pca.components @ aims.to(x)
    return MoveCalibrationSet(x, editor.encoder(x), editor.decoder, editor.shell, aims)


def _measure_report(
    editor: CompactEditor, x: Tensor, a: Scores, mref: Tensor, measured: MoveStatistics
) -> dict[str, Any]:
    """Measure the report on held-out codes; "response", "length" and "others" are those of ``MoveStatistics``."""
    parts = [(editor.encoder(rows), editor.decoder(editor.encoder(rows))) for rows in x.split(CHUNK_CODES)]
    c, y = (torch.cat(part) for part in zip(*parts, strict=True))
    recons, attr, corr = (float(loss) for loss in compute_losses(x, c, y, a, mref))
    k = a.shape[1]
    correlations = correlate_pairs(c[:, :k], a)

    return {
        "held_out": len(x),
        "variance_in_components": float(editor.pca.share[x.shape[1] - 1]),
        "l_recons": recons,
        "l_attr": attr,
        "l_corr": corr,
        "reconstructed": 1 - recons / float(x.var(0, correction=0).sum()),
        "mean_correlation": float(correlations.mean()),
        "codes_off_diagonal": measure_off_diagonal(compute_correlation(c[:, :k])),
        "labels_off_diagonal": measure_off_diagonal(compute_correlation(a)),
        **format_report(editor.attributes, correlation=correlations, **vars(measured)),
        "unresponsive": find_unresponsive(editor.attributes, measured.response),
    }
