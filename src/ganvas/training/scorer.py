"""Train the celeba40 scorer: on CelebA's labels, then on generated faces whose scores were smoothed through W.

The loss keeps the 40 scores from being correlated more than the labels are in two ways:

- each attribute's faces are weighted so that, among them, it is independent of Male, Young and Smiling;
- a logit's residual, given its own label, must not predict the other labels (a penalty on their correlation in the batch).

Both use real faces and their labels only. A second round (``generated``) learns from generated faces too: their scores
by the first round's network, blurred to match (see ``scorers/celeba40.py``), are smoothed by a ridge regression from W,
because W is smooth and a network's errors are not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ganvas.errors import GanvasError
from ganvas.io.fingerprints import hash_weights
from ganvas.scorers.celeba40 import ATTRIBUTES, Network, convert_channels_last, match_softness
from ganvas.training.celeba import CALIBRATION_TENTH, TEST_TENTH, FaceSet
from ganvas.training_loop import Epochs, TrainingCheckpoint, minimize, one_cycle, solve_convex

ANCHORS = ("Male", "Young", "Smiling")
"""Attributes that training makes each other attribute nearly independent of."""
BALANCE_POWERS = {"Young": 0.6}
"""The power of an attribute's weights where it isn't 1. Older women are rare: at full weight the few of them would decide
what age looks like, and no face would be surely old."""
LABEL_SMOOTHING = 0.04
"""What a label is moved towards a half, twice: 0 and 1 become 0.02 and 0.98."""


@dataclass(frozen=True)
class ScorerConfig:
    """How to train. ``penalty`` weighs the squared correlations of a logit's residual with the other labels."""

    epochs: int = 8
    batch: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.02
    penalty: float = 0.003
    generated_share: float = 0.5
    """The share of generated faces in a batch of the second round."""
    seed: int = 0


def balance_weights(labels: Tensor, max_weight: float = 8.0) -> Tensor:
    """Compute weights (n, attributes), of mean 1, under which each attribute is nearly independent of ANCHORS.

    ``p(anchors) p(attribute) / p(anchors, attribute)``, at most ``max_weight``, to a power of BALANCE_POWERS; three faces are
    added to each count.
    """
    anchors = [ATTRIBUTES.index(name) for name in ANCHORS]
    weights = torch.ones_like(labels)
    for k in range(labels.shape[1]):
        others = [i for i in anchors if i != k]
        cells = (labels[:, others].long() << torch.arange(len(others))).sum(1)
        values = labels[:, k].long()
        joint = torch.full((2 ** len(others), 2), 3.0)
        joint.index_put_((cells, values), torch.ones(len(labels)), accumulate=True)
        joint /= joint.sum()
        ratio = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True) / joint
        weights[:, k] = ratio.clamp(max=max_weight)[cells, values] ** BALANCE_POWERS.get(ATTRIBUTES[k], 1.0)
    return weights / weights.mean(0)


def compute_leakage_penalty(logits: Tensor, labels: Tensor) -> Tensor:
    """Measure how much logits predict other attributes' labels beyond their own: squared correlations, summed per attribute.

    A logit's residual is its difference from the mean logit of its own label; the correlation expected by chance in a
    batch of this size is subtracted.
    """
    on = (logits * labels).sum(0) / labels.sum(0).clamp(min=1)
    off = (logits * (1 - labels)).sum(0) / (1 - labels).sum(0).clamp(min=1)
    residual = logits - torch.where(labels > 0.5, on, off)
    residual = residual / (residual.std(0, keepdim=True) + 1e-3)
    standard = (labels - labels.mean(0)) / (labels.std(0) + 1e-3)
    correlation = residual.T @ standard / len(logits)
    beyond_chance = (correlation.square() - 1 / len(logits)).clamp(min=0)
    return beyond_chance.fill_diagonal_(0).sum() / labels.shape[1]


def augment_with_blur(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Move, mirror, recolour and blur pictures (n, 3, h, w) of 0 … 255 and add noise; in [-1, 1]."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=random) - 0.5

    n, x = len(pixels), pixels.float() / 127.5 - 1
    scale, angle = 1 + 0.16 * uniform(n), 0.2 * uniform(n)
    mirror = uniform(n).sign()
    matrix = torch.zeros(n, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = scale * angle.cos() * mirror, -scale * angle.sin()
    matrix[:, 1, 0], matrix[:, 1, 1] = scale * angle.sin() * mirror, scale * angle.cos()
    matrix[:, :, 2] = 0.12 * uniform(n, 2)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = (x - mean) * (1 + 0.6 * uniform(n, 1, 1, 1)) + mean + 0.4 * uniform(n, 1, 1, 1)
    grey = x.mean(1, keepdim=True)
    x = (grey + (x - grey) * (1 + 0.6 * uniform(n, 1, 1, 1))) * (1 + 0.1 * uniform(n, 3, 1, 1))
    sigma = 0.9 * float(uniform(1) + 0.5)
    x = match_softness(x, sigma) if sigma > 0.3 else x
    noise = torch.randn(x.shape, generator=random) * 0.024 * float(uniform(1) + 0.5)
    return (x + noise).clamp(-1, 1).contiguous(memory_format=torch.channels_last)


def augment_with_cutout(pixels: Tensor, random: torch.Generator) -> Tensor:
    """Move, mirror and strongly recolour pictures (n, 3, h, w) of 0 … 255, and erase a box of half of them; in [-1, 1].

    Boxes as in DeVries and Taylor, *Improved Regularization of Convolutional Neural Networks with Cutout*, 2017,
    https://arxiv.org/abs/1708.04552. No blur and no noise.
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, generator=random)

    n, (height, width) = len(pixels), pixels.shape[2:]
    x = (pixels.float() / 255).clamp(1e-3, 1) ** uniform(0.6, 1.6, n, 1, 1, 1)
    matrix = torch.zeros(n, 2, 3)
    # Each axis has its own scale, and no picture is turned: faces are aligned.
    matrix[:, 0, 0] = uniform(0.85, 1.15, n) * uniform(-1, 1, n).sign()
    matrix[:, 1, 1] = uniform(0.85, 1.15, n)
    matrix[:, :, 2] = uniform(-0.1, 0.1, n, 2)
    grid = F.affine_grid(matrix, list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False) * 2 - 1
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * uniform(0, 1.6, n, 1, 1, 1)
    x = x * uniform(0.6, 1.4, n, 1, 1, 1) * uniform(0.85, 1.15, n, 3, 1, 1) + uniform(-0.2, 0.2, n, 1, 1, 1)
    side = uniform(0.15, 0.4, 2, n) * (uniform(0, 1, n) < 0.5)
    middle = uniform(0, 1, 2, n)
    rows, columns = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    inside = (rows - middle[0, :, None, None]).abs() < side[0, :, None, None] / 2
    inside = inside & ((columns - middle[1, :, None, None]).abs() < side[1, :, None, None] / 2)
    x = torch.where(inside[:, None], uniform(-1, 1, n, 3, 1, 1), x)
    return x.clamp(-1, 1).contiguous(memory_format=torch.channels_last)


AUGMENTATIONS = {"cnn": augment_with_cutout}
"""The augmentation of an architecture where it isn't ``augment_with_blur``."""


@dataclass(frozen=True)
class GeneratedFaces:
    """Generated ``pixels`` (n, 3, SIZE, SIZE) uint8 and their ``targets`` (n, 40): smoothed logits."""

    pixels: Tensor
    targets: Tensor


def compute_label_loss(logits: Tensor, labels: Tensor, weights: Tensor, penalty: float) -> Tensor:
    """Compute the weighted cross-entropy with smoothed labels plus the leakage penalty."""
    smooth = labels * (1 - LABEL_SMOOTHING) + LABEL_SMOOTHING / 2
    entropy = F.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
    return (entropy * weights).mean() + penalty * compute_leakage_penalty(logits, labels)


def train_network(
    faces: FaceSet,
    network: Network,
    config: ScorerConfig,
    generated: GeneratedFaces | None = None,
    checkpoint: Path | None = None,
    report: Callable[[str], None] = print,
) -> Network:
    """Train ``network`` on the faces outside the test and calibration tenths, and return it.

    With ``checkpoint``, a stopped run goes on, and ends with the same weights.
    Raises GanvasError for a checkpoint that is damaged or of another run, and for fewer faces than a batch.
    """
    real = faces.select((faces.tenths != TEST_TENTH) & (faces.tenths != CALIBRATION_TENTH))
    weights = balance_weights(real.labels)
    network = convert_channels_last(network).train()
    share = config.generated_share if generated else 0.0
    count = round(config.batch * (1 - share))
    if not count:
        raise GanvasError(f"A batch of {config.batch} with a share of {share} of generated faces has no real one.")
    steps = len(real.pixels) // count
    if not steps:
        raise GanvasError(f"Training takes at least {count} faces outside the held-out tenths, not {len(real.pixels)}.")
    spread = generated.targets.std(0) if generated else None
    augment = AUGMENTATIONS.get(network.arch, augment_with_blur)

    def loss(step: int) -> Tensor:
        index, random = epochs.select_rows(step, count), epochs.random
        pixels = real.pixels[index]
        if generated:
            rows = torch.randint(len(generated.pixels), (config.batch - count,), generator=random)
            pixels = torch.cat((pixels, generated.pixels[rows]))
        logits = network(augment(pixels, random))
        value = compute_label_loss(logits[:count], real.labels[index], weights[index], config.penalty)
        if generated:
            error = (logits[count:] - generated.targets[rows]) / spread
            value = value + 0.5 * F.smooth_l1_loss(error, torch.zeros_like(error))
        return value

    def report_epoch(epoch: int, mean_loss: float) -> None:
        report(f"epoch {epoch} of {config.epochs}: loss {mean_loss:.4f}")

    epochs = Epochs(steps, config.seed * 10_007, len(real.pixels), report_epoch)
    run = _describe_run(network, config, real, generated)
    rate, momentum = one_cycle(0.2)
    minimize(
        loss,
        _create_optimizer(network, config),
        steps * config.epochs,
        schedule=rate,
        momentum=momentum,
        epochs=epochs,
        checkpoint=TrainingCheckpoint(checkpoint, network, run) if checkpoint else None,
    )
    return network.eval()


def _create_optimizer(network: Network, config: ScorerConfig) -> torch.optim.Optimizer:
    """Create AdamW; the layers after the features start from random weights and have three times their learning rate."""
    features = list(network.get_submodule("features").parameters())
    feature_ids = {id(parameter) for parameter in features}
    return torch.optim.AdamW(
        [
            {"params": features, "lr": config.learning_rate},
            {"params": [p for p in network.parameters() if id(p) not in feature_ids], "lr": 3 * config.learning_rate},
        ],
        weight_decay=config.weight_decay,
    )


def _describe_run(
    network: Network, config: ScorerConfig, real: FaceSet, generated: GeneratedFaces | None
) -> dict[str, Any]:
    """Describe what a training depends on, as JSON: a checkpoint of another one is refused."""
    return {
        "options": asdict(config),
        "arch": network.arch,
        "faces": len(real.labels),
        "labels": hash_weights([("labels", real.labels)]),
        "generated": None if generated is None else hash_weights(asdict(generated).items()),
    }


def calibrate_network(network: nn.Module, faces: FaceSet) -> tuple[Tensor, Tensor]:
    """Fit Platt's scaling on the calibration tenth, which has CelebA's own mix of faces: training weighted them differently."""
    held_out = faces.select(faces.tenths == CALIBRATION_TENTH)
    return fit_platt(predict_logits(network, held_out.pixels), held_out.labels)


def fit_platt(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Fit (scale, offset), each (attributes,), that make logits (n, attributes) probabilities; scales are positive."""
    logits, labels = logits.detach().double(), labels.double()
    log_scale = torch.zeros(logits.shape[1], dtype=torch.double, requires_grad=True)
    offset = torch.zeros(logits.shape[1], dtype=torch.double, requires_grad=True)

    def loss() -> Tensor:
        entropy = F.binary_cross_entropy_with_logits(logits * log_scale.exp() + offset, labels, reduction="none")
        # A rare attribute has few positives here: the prior keeps its scale near 1.
        return entropy.sum() + log_scale.square().sum()

    solve_convex(loss, [log_scale, offset], 200)
    return log_scale.detach().exp().float(), offset.detach().float()


@torch.no_grad()
def predict_logits(network: nn.Module, pixels: Tensor, softness: float = 0.0, batch: int = 256) -> Tensor:
    """Predict uncalibrated logits (n, attributes) of uint8 pictures (n, 3, SIZE, SIZE): means over each and its mirror image."""
    network.eval()
    logits = []
    for part in pixels.split(batch):
        x = match_softness(part.float() / 127.5 - 1, softness).contiguous(memory_format=torch.channels_last)
        logits.append((network(x) + network(x.flip(3))) / 2)
    return torch.cat(logits)
