"""Methods that train a network on codes: options, whitened components, one way to fit, gains and reports."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.data.correlation import correlate_pairs
from ganvas.data.dataset import LatentDataset
from ganvas.data.pca import fit_pca
from ganvas.editors._networks import LatentClassifier, fit_latent_classifier, fit_network
from ganvas.editors.base import (
    GAIN_BOUNDS,
    Editor,
    EditorMetadata,
    build_metadata,
    compute_response_gains,
    find_unresponsive,
    format_report,
    load_module,
)
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.progress import Progress
from ganvas.training_loop import LossFunction, seed_random_state
from ganvas.types import Scores, W
from ganvas.validation import Natural, Positive, PositiveInt, validated

TRAINING_SHARE = 0.7
"""The share of the codes that is trained on; the others are held out."""
CALIBRATION_CODES = 256
"""The number of codes on which gains are measured: of those trained on, since the report is of held-out ones."""
CALIBRATION_PSI = 0.7
"""The truncation of every other of them: such codes are often edited, and a map may move them more than others."""
MIN_CODES = 20
"""The least number of codes to fit on."""
RENAMED_OPTIONS = {
    "climb": "optimization_steps",
    "jumps": "edit_steps",
    "knowledge": "classifier_steps",
    "longest": "max_move_length",
    "longest_unit": "max_unit_length",
    "own": "part_columns",
    "together": "max_attributes",
}
"""Options of editors' files by their former names."""
Components = Float[Tensor, "n components"]
ConfigT = TypeVar("ConfigT", bound="FitConfig")
EditorT = TypeVar("EditorT", bound="LatentEditor")
AnyEditor = TypeVar("AnyEditor", bound=Editor)


@validated
class FitConfig:
    """Options of every method that trains a network on codes.

    ``components``: the number of leading principal components of W that the network reads and moves, at most; the rest of
    a code stays as it is. ``width``: of hidden layers. ``steps``, ``batch`` and ``rate``: of Adam. ``classifier_steps``: the
    number of training steps of the latent classifier, which is trained first.
    """

    components: PositiveInt = 128
    width: PositiveInt = 256
    steps: PositiveInt = 1000
    batch: PositiveInt = 512
    rate: Positive = 2e-3
    classifier_steps: PositiveInt = 800
    seed: Natural = 0


def update_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Rename the options of an older editor's file, and replace ``bfloat16`` by ``dtype``."""
    renamed = {RENAMED_OPTIONS.get(name, name): value for name, value in options.items()}
    if "bfloat16" in renamed:
        renamed["dtype"] = "bfloat16" if renamed.pop("bfloat16") else "float32"
    return renamed


class WhitenedSpace(nn.Module):
    """Coordinates x of W with mean 0 and variance 1 along each: its leading principal components, whitened.

    Or all channels, standardised, where ``components`` is the identity matrix.
    """

    def __init__(self, mean: Tensor, components: Tensor, deviations: Tensor) -> None:
        super().__init__()
        self.mean, self.components, self.deviations = (nn.Buffer(t) for t in (mean, components, deviations))

    def project(self, w: W) -> Components:
        """Return the coordinates of codes."""
        return ((w - self.mean) @ self.components.T) / self.deviations

    def unproject_move(self, displacement: Components) -> W:
        """Return what codes move by when their coordinates move by ``displacement``; the mean isn't added."""
        return (displacement * self.deviations) @ self.components


class LatentEditor(Editor, ABC):
    """An editor with a map on ``WhitenedSpace``, its ``frame``; ``gains`` multiply changes, so that 1 moves the probe by 1.

    ``gains`` (2, attributes): for positive and negative changes, which a map that isn't linear may respond to differently.
    """

    def __init__(self, metadata: EditorMetadata, frame: WhitenedSpace) -> None:
        super().__init__()
        self.set_metadata(metadata)
        self.frame = frame
        self.gains = nn.Buffer(torch.ones(2, len(metadata.attributes)))

    @abstractmethod
    def compute_move(self, x: Components, changes: Scores) -> Components:
        """Return what to add to coordinates, for changes in the map's own units."""

    def shift(self, w: W, changes: Scores) -> W:
        """Return the map's move as a move of w; what lies beyond the components doesn't change."""
        return self.frame.unproject_move(self.compute_move(self.frame.project(w), self.scale_changes(changes)))

    def scale_changes(self, changes: Scores) -> Scores:
        """Convert changes to the map's own units, by the gains."""
        return changes * torch.where(changes > 0, self.gains[0], self.gains[1])


@dataclass(frozen=True)
class FitData:
    """The training and the held-out codes, and the latent classifier, which was fitted on the former.

    ``w`` (n, w_dim), their coordinates ``x`` (n, components) and normal scores ``a`` (n, attributes); the same of held-out
    codes. ``whitening`` (components, rank): the matrix from the coordinates to whitened components; None if they are such.
    """

    frame: WhitenedSpace
    classifier: LatentClassifier
    w: Tensor
    x: Tensor
    a: Tensor
    held_w: Tensor
    held_x: Tensor
    held_a: Tensor
    whitening: Tensor | None = None


@dataclass(frozen=True)
class NetworkFit(Generic[EditorT, ConfigT]):
    """A fitted editor, the data that it was fitted on, and its config with as many components as there are."""

    editor: EditorT
    data: FitData
    config: ConfigT


def fit_network_editor(
    method: str,
    data: LatentDataset,
    generator: Generator,
    config: ConfigT,
    build: Callable[[EditorMetadata, WhitenedSpace, ConfigT], EditorT],
    create_loss: Callable[[EditorT, FitData, ConfigT], LossFunction],
    progress: Progress = lambda step, steps: None,
    *,
    options: Mapping[str, Any] | None = None,
    n_measured: int = CALIBRATION_CODES,
    standardize_only: bool = False,
) -> NetworkFit[EditorT, ConfigT]:
    """Fit an editor that trains a network: a latent classifier first, then the network, then gains and the report.

    ``build`` makes the untrained editor; all its parameters that require gradients are trained on what ``create_loss`` returns,
    with the global random state seeded, and restored at the end. ``options`` are stored beside the config's. Gains are measured
    on ``n_measured`` of the codes trained on, the report on as many held-out ones. ``standardize_only``: see ``prepare_fit``.
    Raises GanvasError for fewer than ``MIN_CODES`` codes, and where the loss isn't finite.
    """
    fit_data, config = prepare_fit(data, generator, config, standardize_only)
    metadata = build_metadata(method, data, generator, asdict(config) | dict(options or {}), {})
    with seed_random_state(config.seed):
        editor = build(metadata, fit_data.frame, config).to(generator.device)
        loss = create_loss(editor, fit_data, config)
        trained = [parameter for parameter in editor.parameters() if parameter.requires_grad]
        fit_network(trained, loss, config.steps, config.rate, progress=progress)
    editor.eval().requires_grad_(False)
    calibrate_gains(editor, fit_data, n_measured)
    editor.report = measure_report(editor, fit_data, n_measured)
    return NetworkFit(editor, fit_data, config)


def prepare_fit(
    data: LatentDataset, generator: Generator, config: ConfigT, standardize_only: bool = False
) -> tuple[FitData, ConfigT]:
    """Whiten the codes of ``data``, split them by the seed, and fit the latent classifier.

    ``standardize_only``: the coordinates are the channels of W, each standardised, in place of whitened components.
    Returns ``config`` with at most as many components as exist. Raises GanvasError for fewer than ``MIN_CODES`` codes.
    """
    if len(data) < MIN_CODES:
        raise GanvasError(f"{len(data)} codes are too few: at least {MIN_CODES} are needed.")
    w, a = data.w.to(generator.device), data.normals().to(generator.device, torch.float32)
    rows, held = (index.to(generator.device) for index in data.split(TRAINING_SHARE, config.seed))
    rank = min(w.shape[1], len(rows) - 1)
    config = replace(config, components=w.shape[1] if standardize_only else min(config.components, rank))
    pca = fit_pca(w[rows], min(config.components, rank))
    frame = WhitenedSpace(pca.mean, pca.components, pca.variances[: len(pca.components)].sqrt())
    whitening = None
    if standardize_only:
        deviations = w[rows].std(0).clamp(min=1e-6)
        whitening = deviations[:, None] * frame.components.T / frame.deviations
        frame = WhitenedSpace(pca.mean, torch.eye(w.shape[1]).to(w), deviations)
    x = frame.project(w)
    classifier = fit_latent_classifier(x[rows], a[rows], config.width, config.classifier_steps, config.seed)
    return FitData(frame, classifier, w[rows], x[rows], a[rows], w[held], x[held], a[held], whitening), config


@torch.no_grad()
def calibrate_gains(editor: LatentEditor, fit_data: FitData, n: int = CALIBRATION_CODES) -> None:
    """Set the gains so that a change of 1 moves the probe's mean reading of ``n`` of the codes trained on by 1.

    Twice, since maps aren't linear.
    """
    for _ in range(2):
        response = measure_responses(editor, fit_data, fit_data.x[:n])["response"]
        editor.gains.copy_((editor.gains * compute_response_gains(response)).clamp(*GAIN_BOUNDS))


@torch.no_grad()
def measure_responses(editor: LatentEditor, fit_data: FitData, coordinates: Components) -> dict[str, Tensor]:
    """Measure what changes of 1 and -1 of each attribute do to the probe's readings of codes, (2, attributes) each.

    Every other code is truncated to psi ``CALIBRATION_PSI`` first.
    "response": how far its own reading moves in the mean, divided by the change. "length": the mean Mahalanobis length of the
    move. "others": the absolute mean change of the other readings, averaged over these.
    """
    x, k = coordinates.clone(), len(editor.attributes)
    x[::2] *= CALIBRATION_PSI
    weight = fit_data.frame.unproject_move(torch.eye(x.shape[1]).to(x)) @ editor.probe.weight.to(x)
    response, length, others = x.new_zeros(2, k), x.new_zeros(2, k), x.new_zeros(2, k)
    for j in range(k):
        for side, change in enumerate((1.0, -1.0)):
            changes = x.new_zeros(len(x), k)
            changes[:, j] = change
            displacement = editor.compute_move(x, editor.scale_changes(changes))
            readings = (displacement @ weight).mean(0)
            response[side, j] = readings[j] / change
            whitened = displacement if fit_data.whitening is None else displacement @ fit_data.whitening
            length[side, j] = whitened.norm(dim=1).mean()
            others[side, j] = (readings.abs().sum() - readings[j].abs()) / max(k - 1, 1)
    return {"response": response, "length": length, "others": others}


@torch.no_grad()
def measure_report(editor: LatentEditor, fit_data: FitData, n: int = CALIBRATION_CODES) -> dict[str, Any]:
    """Measure the classifier on all held-out codes, and edits on ``n`` of them; return the report."""
    held_x = fit_data.held_x
    correlations = correlate_pairs(fit_data.classifier(held_x), fit_data.held_a)
    measured = {name: values.mean(0) for name, values in measure_responses(editor, fit_data, held_x[:n]).items()}
    return {
        "trained_on": len(fit_data.x),
        "held_out": len(held_x),
        "edited": min(n, len(held_x)),
        "classifier_correlation": float(correlations.mean()),
        **format_report(editor.attributes, classifier=correlations, gain=editor.gains.mean(0), **measured),
        "unresponsive": find_unresponsive(editor.attributes, measured["response"]),
    }


def restore_network_editor(
    config_type: type[ConfigT],
    build: Callable[[EditorMetadata, WhitenedSpace, ConfigT], EditorT],
    tensors: Mapping[str, Tensor],
    metadata: EditorMetadata,
) -> EditorT:
    """Build an editor of ``fit_network_editor`` from a file. Raises GanvasError where its tensors and options don't match."""

    def build_empty() -> EditorT:
        options = update_options(metadata.options)
        config = config_type(**{name: options[name] for name in config_type.__dataclass_fields__})
        w_dim = metadata.probe.weight.shape[0]
        frame = WhitenedSpace(torch.empty(w_dim), torch.empty(config.components, w_dim), torch.empty(config.components))
        return build(metadata, frame, config)

    return restore_editor(build_empty, tensors, metadata.method)


@dataclass(frozen=True)
class NetworkMethod(Generic[EditorT, ConfigT]):
    """What a method fitted by ``fit_network_editor`` consists of; gives its module ``fit`` and ``from_tensors``.

    ``build``, ``create_loss``, ``n_measured`` and ``standardize_only``: see ``fit_network_editor``.
    """

    name: str
    config_type: type[ConfigT]
    build: Callable[[EditorMetadata, WhitenedSpace, ConfigT], EditorT]
    create_loss: Callable[[EditorT, FitData, ConfigT], LossFunction]
    n_measured: int = CALIBRATION_CODES
    standardize_only: bool = False

    def fit(
        self,
        data: LatentDataset,
        generator: Generator,
        *,
        progress: Progress = lambda step, steps: None,
        **options: Any,
    ) -> EditorT:
        """Fit the network on labelled codes; ``options`` are the fields of ``config_type``.

        ``progress`` is called after each step of training. Measurements on held-out codes are in the editor's ``report``.
        Raises GanvasError for unknown or impossible options, and for too few codes.
        """
        fitted = fit_network_editor(
            self.name,
            data,
            generator,
            self.config_type(**options),
            self.build,
            self.create_loss,
            progress,
            n_measured=self.n_measured,
            standardize_only=self.standardize_only,
        )
        return fitted.editor

    def from_tensors(self, tensors: Mapping[str, Tensor], metadata: EditorMetadata) -> EditorT:
        """Build the editor from a file. Raises GanvasError where its tensors and options don't match."""
        return restore_network_editor(self.config_type, self.build, tensors, metadata)


def restore_editor(build_empty: Callable[[], AnyEditor], tensors: Mapping[str, Tensor], method: str) -> AnyEditor:
    """Build an editor from a file; ``build_empty`` builds it from its options, on the "meta" device.

    Raises GanvasError where its tensors and options don't match.
    """
    try:
        with torch.device("meta"):
            editor = build_empty()
    except KeyError as error:
        raise GanvasError(f"The editor's file is damaged: its options lack {error}.") from None
    except GanvasError:
        raise
    except (TypeError, ValueError, OverflowError, RuntimeError, AttributeError):
        raise GanvasError(f"The editor's file is damaged: its options aren't those of {method}.") from None
    load_module(editor, tensors)
    return editor.eval()
