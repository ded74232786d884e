"""The base of editors that learn a map of codes: whitened components, gains, and measurements on held-out codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.data.dataset import LatentDataset
from ganvas.data.pca import fit_pca
from ganvas.editors._fit import FitConfig
from ganvas.editors._latent_classifier import LatentClassifier
from ganvas.editors.base import GAIN_BOUNDS, Editor, EditorMetadata, load_module, response_gains
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.types import Scores, W

TRAINING_SHARE = 0.7
"""The share of the codes that is trained on; the others are held out."""
CALIBRATION_CODES = 256
"""The number of held-out codes on which gains are measured."""
CALIBRATION_PSI = 0.7
"""The truncation of every other of them: such codes are often edited, and a map may move them more than others."""
MIN_CODES = 20
"""The least number of codes to fit on."""
Components = Float[Tensor, "n components"]
E = TypeVar("E", bound="LatentEditor")
L = TypeVar("L", bound=FitConfig)


class WhitenedSpace(nn.Module):
    """The leading principal components of W, whitened: coordinates x have mean 0 and variance 1 along each."""

    def __init__(self, mean: Tensor, components: Tensor, deviations: Tensor) -> None:
        super().__init__()
        self.mean, self.components, self.deviations = (nn.Buffer(t) for t in (mean, components, deviations))

    def project(self, w: W) -> Components:
        """Return the coordinates of codes."""
        return ((w - self.mean) @ self.components.T) / self.deviations

    def unproject(self, displacement: Components) -> W:
        """Return what codes move by when their coordinates move by ``displacement``."""
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
    def move(self, x: Components, changes: Scores) -> Components:
        """Return what to add to coordinates, for changes in the map's own units."""

    def shift(self, w: W, changes: Scores) -> W:
        """Return the map's move as a move of w; what lies beyond the components doesn't change."""
        return self.frame.unproject(self.move(self.frame.project(w), self.scale_changes(changes)))

    def scale_changes(self, changes: Scores) -> Scores:
        """Convert changes to the map's own units, by the gains."""
        return changes * torch.where(changes > 0, self.gains[0], self.gains[1])


@dataclass(frozen=True)
class FitData:
    """The training and the held-out codes.

    ``w`` (n, w_dim), their coordinates ``x`` (n, components) and normal scores ``a`` (n, K); the same of held-out codes.
    """

    frame: WhitenedSpace
    w: Tensor
    x: Tensor
    a: Tensor
    held_w: Tensor
    held_x: Tensor
    held_a: Tensor


def prepare_fit(data: LatentDataset, generator: Generator, options: L) -> tuple[FitData, L]:
    """Whiten the codes of ``data`` and split them by the seed; return ``options`` with at most as many components as exist.

    Raises GanvasError for fewer than ``MIN_CODES`` codes.
    """
    if len(data) < MIN_CODES:
        raise GanvasError(f"{len(data)} codes are too few: at least {MIN_CODES} are needed.")
    w, a = data.w.to(generator.device), data.normals().to(generator.device, torch.float32)
    rows, held = (index.to(generator.device) for index in data.split(TRAINING_SHARE, options.seed))
    options = replace(options, components=min(options.components, w.shape[1], len(rows) - 1))
    pca = fit_pca(w[rows], options.components)
    frame = WhitenedSpace(pca.mean, pca.components, pca.variances[: len(pca.components)].sqrt())
    x = frame.project(w)
    return FitData(frame, w[rows], x[rows], a[rows], w[held], x[held], a[held]), options


@torch.no_grad()
def calibrate_gains(editor: LatentEditor, fit_data: FitData, codes: int = CALIBRATION_CODES) -> None:
    """Set the gains so that a change of 1 moves the mean reading of held-out codes by 1; twice, since maps aren't linear."""
    for _ in range(2):
        response = measure_responses(editor, fit_data, codes)["response"]
        editor.gains.copy_((editor.gains * response_gains(response)).clamp(*GAIN_BOUNDS))


@torch.no_grad()
def measure_responses(editor: LatentEditor, fit_data: FitData, codes: int = CALIBRATION_CODES) -> dict[str, Tensor]:
    """Measure what changes of 1 and -1 of each attribute do on average over held-out codes, (2, K) each.

    "response": how far its own reading moves, divided by the change. "length": the mean Mahalanobis length of the move.
    "others": the mean |change| of the other readings, as means over codes.
    """
    x, k = fit_data.held_x[:codes].clone(), len(editor.attributes)
    x[::2] *= CALIBRATION_PSI
    weight = fit_data.frame.unproject(torch.eye(x.shape[1]).to(x)) @ editor.probe.weight.to(x)
    response, length, others = x.new_zeros(2, k), x.new_zeros(2, k), x.new_zeros(2, k)
    for j in range(k):
        for side, change in enumerate((1.0, -1.0)):
            changes = x.new_zeros(len(x), k)
            changes[:, j] = change
            displacement = editor.move(x, editor.scale_changes(changes))
            readings = (displacement @ weight).mean(0)
            response[side, j] = readings[j] / change
            length[side, j] = displacement.norm(dim=1).mean()
            others[side, j] = (readings.abs().sum() - readings[j].abs()) / max(k - 1, 1)
    return {"response": response, "length": length, "others": others}


@torch.no_grad()
def fit_report(
    editor: LatentEditor, fit_data: FitData, classifier: LatentClassifier, codes: int = CALIBRATION_CODES
) -> dict[str, Any]:
    """Measure the report on held-out codes."""

    def round_values(values: Tensor) -> dict[str, float]:
        return {name: round(float(value), 4) for name, value in zip(editor.attributes, values, strict=True)}

    readings = classifier(fit_data.held_x)
    correlations = torch.cosine_similarity(
        readings - readings.mean(0), fit_data.held_a - fit_data.held_a.mean(0), dim=0
    )
    measured = {name: values.mean(0) for name, values in measure_responses(editor, fit_data, codes).items()}
    return {
        "trained_on": len(fit_data.x),
        "held_out": len(fit_data.held_x),
        "classifier_correlation": float(correlations.mean()),
        "classifier": round_values(correlations),
        "gain": round_values(editor.gains.mean(0)),
        **{name: round_values(values) for name, values in measured.items()},
        "unresponsive": [n for n, r in zip(editor.attributes, measured["response"], strict=True) if not r >= 0.5],
    }


def restore_editor(
    build_empty: Callable[[EditorMetadata], E], tensors: Mapping[str, Tensor], metadata: EditorMetadata
) -> E:
    """Build the editor from a file; ``build_empty`` builds it from its options, on the "meta" device.

    Raises GanvasError where its tensors and options don't match.
    """
    try:
        with torch.device("meta"):
            editor = build_empty(metadata)
    except KeyError as error:
        raise GanvasError(f"The editor's file is damaged: its options lack {error}.") from None
    except GanvasError:
        raise
    except (TypeError, ValueError, OverflowError, RuntimeError):
        raise GanvasError(f"The editor's file is damaged: its options aren't those of {metadata.method}.") from None
    load_module(editor, tensors)
    return editor.eval()


def read_config(kind: type[L], metadata: EditorMetadata) -> L:
    """Read a file's options. Raises KeyError or GanvasError where they are missing or impossible."""
    return kind(**{name: metadata.options[name] for name in kind.__dataclass_fields__})


def make_empty_frame(metadata: EditorMetadata, options: FitConfig) -> WhitenedSpace:
    """Build a whitened space of the right sizes, without values."""
    w_dim = metadata.probe.weight.shape[0]
    return WhitenedSpace(torch.empty(w_dim), torch.empty(options.components, w_dim), torch.empty(options.components))
