"""What editors share that learn a map of codes: whitened components, gains, and what is measured on held-out codes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.data.dataset import LatentDataset
from ganvas.data.pca import PCA, fit_pca
from ganvas.editors._fit import FitConfig
from ganvas.editors._latent_classifier import LatentClassifier
from ganvas.editors.base import GAINS, Editor, EditorMetadata, load_module, response_gains
from ganvas.errors import GanvasError
from ganvas.generators.base import Generator
from ganvas.types import Scores, W

TRAINING_SHARE = 0.7
"""Of the codes are trained on; the others are held out."""
CALIBRATION_CODES = 256
"""Held-out codes that gains are measured on."""
PSI = 0.7
"""Every other of them is truncated to this: people edit such codes, and a map may move them more than the others."""
MIN_CODES = 20
"""Codes, at least."""
Components = Float[Tensor, "n components"]
E = TypeVar("E", bound="LatentEditor")
L = TypeVar("L", bound=FitConfig)


class WhitenedSpace(nn.Module):
    """The leading principal components of W, whitened: x has mean 0 and variance 1 along each; the rest is left alone."""

    def __init__(self, mean: Tensor, components: Tensor, deviations: Tensor) -> None:
        super().__init__()
        self.mean, self.components, self.deviations = (nn.Buffer(t) for t in (mean, components, deviations))

    def project(self, w: W) -> Components:
        """The coordinates of codes."""
        return ((w - self.mean) @ self.components.T) / self.deviations

    def unproject(self, displacement: Components) -> W:
        """What codes move by where their coordinates move by ``moved``."""
        return (displacement * self.deviations) @ self.components


class LatentEditor(Editor, ABC):
    """An editor whose map works on ``WhitenedSpace``; ``response_gains`` multiply changes, so that 1 moves the probe by 1.

    ``response_gains`` (2, attributes), upwards and downwards: a map that follows normal scores, which W doesn't, may differ.
    """

    def __init__(self, metadata: EditorMetadata, frame: WhitenedSpace) -> None:
        super().__init__()
        self.set_metadata(metadata)
        self.frame = frame
        self.gains = nn.Buffer(torch.ones(2, len(metadata.attributes)))

    @abstractmethod
    def move(self, x: Components, changes: Scores) -> Components:
        """What to add to coordinates, for changes in the map's own units."""

    def shift(self, w: W, changes: Scores) -> W:
        """The map's own move, whatever lies beyond the components being carried along."""
        return self.frame.unproject(self.move(self.frame.project(w), self.scale_changes(changes)))

    def scale_changes(self, changes: Scores) -> Scores:
        """Changes in the map's own units."""
        return changes * torch.where(changes > 0, self.gains[0], self.gains[1])


@dataclass(frozen=True)
class FitData:
    """What is learned from: codes ``w`` (n, w_dim), their coordinates ``x`` (n, components) and normal scores ``a`` (n, K).

    What is measured on, held-out codes, has as many rows as there are left.
    """

    frame: WhitenedSpace
    w: Tensor
    x: Tensor
    a: Tensor
    held_w: Tensor
    held_x: Tensor
    held_a: Tensor


def prepare_fit(data: LatentDataset, generator: Generator, options: L) -> tuple[FitData, L]:
    """The whitened codes of ``data``, split by the seed; ``options`` with as many components as there can be.

    Raises GanvasError for fewer than FEWEST codes.
    """
    if len(data) < MIN_CODES:
        raise GanvasError(f"{len(data)} codes are too few: at least {MIN_CODES} are needed.")
    w, a = data.w.to(generator.device), data.normals().to(generator.device, torch.float32)
    rows, held = (index.to(generator.device) for index in data.split(TRAINING_SHARE, options.seed))
    options = replace(options, components=min(options.components, w.shape[1], len(rows) - 1))
    pca = fit_pca(w[rows], options.components)
    frame = fit_frame(pca)
    x = frame.project(w)
    return FitData(frame, w[rows], x[rows], a[rows], w[held], x[held], a[held]), options


def fit_frame(pca: PCA) -> WhitenedSpace:
    """The frame of the components."""
    return WhitenedSpace(pca.mean, pca.components, pca.variances[: len(pca.components)].sqrt())


@torch.no_grad()
def calibrate_gains(editor: LatentEditor, fit_data: FitData, codes: int = CALIBRATION_CODES) -> None:
    """Set the gains on held-out codes, so that a change of 1 moves the probe's reading by 1; twice, since the way is curved."""
    for _ in range(2):
        response = measure_responses(editor, fit_data, codes)["response"]
        editor.gains.copy_((editor.gains * response_gains(response)).clamp(*GAINS))


@torch.no_grad()
def measure_responses(editor: LatentEditor, fit_data: FitData, codes: int = CALIBRATION_CODES) -> dict[str, Tensor]:
    """Of a change of each attribute, for what a change of 1 does on average over held-out codes.

    "response" (2, K): how far its own reading moves, upwards and downwards. "length" (K,): the mean Mahalanobis length of
    the move. "others" (K,): the mean |change| of the other readings, as means over codes.
    """
    x, k = fit_data.held_x[:codes].clone(), len(editor.attributes)
    x[::2] *= PSI
    weight = fit_data.frame.unproject(torch.eye(x.shape[1]).to(x)) @ editor.probe.weight.to(x)
    response, length, others = x.new_zeros(2, k), x.new_zeros(2, k), x.new_zeros(2, k)
    for j in range(k):
        for side, change in enumerate((1.0, -1.0)):
            wanted = x.new_zeros(len(x), k)
            wanted[:, j] = change
            displacement = editor.move(x, editor.scale_changes(wanted))
            readings = (displacement @ weight).mean(0)
            response[side, j] = readings[j] / change
            length[side, j] = displacement.norm(dim=1).mean()
            others[side, j] = (readings.abs().sum() - readings[j].abs()) / max(k - 1, 1)
    return {"response": response, "length": length, "others": others}


@torch.no_grad()
def fit_report(
    editor: LatentEditor, fit_data: FitData, classifier: LatentClassifier, codes: int = CALIBRATION_CODES
) -> dict[str, Any]:
    """What ``fit`` says about held-out codes."""

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
    """The editor of a file: ``unfilled`` makes it from its options, on the "meta" device.

    Raises GanvasError where tensors and options don't belong together.
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
    """The options that a file tells of. Raises KeyError or GanvasError where they aren't."""
    return kind(**{name: metadata.options[name] for name in kind.__dataclass_fields__})


def make_empty_frame(metadata: EditorMetadata, options: FitConfig) -> WhitenedSpace:
    """A frame of the right sizes."""
    w_dim = metadata.probe.weight.shape[0]
    return WhitenedSpace(torch.empty(w_dim), torch.empty(options.components, w_dim), torch.empty(options.components))


def config_to_json(options: FitConfig) -> dict[str, Any]:
    """Options as JSON."""
    return asdict(options)
