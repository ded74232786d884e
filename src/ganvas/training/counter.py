"""Train the digit counter on MultiMNIST, and measure it.

Pictures are augmented towards what generators draw: other sharpness, contrast and slant, noise, more digits than the set has,
or none, and digits that are faint or in part missing. The target of a digit that is faint or cut is a probability: the network
learns not to be sure of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ganvas.data.multimnist_files import MultiMnist, read_multimnist
from ganvas.io.files import save_tensors
from ganvas.progress import Progress
from ganvas.scorers.count import (
    CLASSES,
    MAX_CLASS_COUNT,
    MAX_COUNT,
    SIDE,
    Counter,
    CounterNetwork,
    CountLogits,
    compute_margin,
    to_network_input,
)
from ganvas.training_loop import Epochs, TrainingCheckpoint, minimize, seed_random_state, solve_convex
from ganvas.types import Dtype
from ganvas.validation import Natural, NonNegative, Positive, PositiveInt, validated

MAX_HELD_OUT = 2000
"""Pictures of the training set, at most a tenth of it, that only calibrate probabilities."""
CHECKPOINT_STEPS = 100
"""Steps between checkpoints."""
FAINT_RANGE = (0.15, 0.5)
"""A digit whose remaining share of ink is at most the first counts as absent, from the second on as present."""


@validated
class CounterConfig:
    """How to train the counter; ``dtype`` is that of convolutions."""

    steps: PositiveInt = 1400
    batch: PositiveInt = 128
    rate: Positive = 3e-3
    decay: NonNegative = 0.02
    class_weight: NonNegative = 0.5
    dtype: Dtype = "float32"
    seed: Natural = 0


@dataclass(frozen=True)
class DigitImages:
    """Pictures ``grey`` (n, 64, 64) uint8 with ``boxes`` (n, digits, 4) in pixels and ``digits`` (n, digits), -1 where
    there is none."""

    grey: Tensor
    boxes: Tensor
    digits: Tensor

    def __len__(self) -> int:
        return len(self.grey)

    def select(self, rows: Tensor | slice) -> DigitImages:
        """Return the pictures of these rows."""
        return DigitImages(self.grey[rows], self.boxes[rows], self.digits[rows])


@dataclass(frozen=True)
class DigitTargets:
    """The number of digits, and of each class, that are present, and one more (of class ``more``) with probability ``chance``."""

    count: Int[Tensor, " n"]
    classes: Int[Tensor, "n 10"]
    more: Int[Tensor, " n"]
    chance: Float[Tensor, " n"]

    def to_probabilities(self) -> tuple[Float[Tensor, "n counts"], Float[Tensor, "n 10 alike"]]:
        """Return the probability of each count, and of each count of each class."""
        one_hot = F.one_hot(self.more, CLASSES)
        count = _interpolate_one_hot(self.count, self.count + 1, self.chance, MAX_COUNT)
        return count, _interpolate_one_hot(self.classes, self.classes + one_hot, self.chance[:, None], MAX_CLASS_COUNT)


def read_digit_images(data: MultiMnist) -> DigitImages:
    """Convert a part of a MultiMNIST set to pictures of 64×64."""
    size, most_digits = data.pixels.shape[-1], max(max(map(len, data.digits)), 1)
    rows = [to_network_input(part[:, None].expand(-1, 3, -1, -1) / 127.5 - 1)[:, 0] for part in data.pixels.split(512)]
    boxes, digits = torch.zeros(len(data), most_digits, 4), torch.full((len(data), most_digits), -1)
    for i, (corners, classes) in enumerate(zip(data.boxes, data.digits, strict=True)):
        if classes:
            boxes[i, : len(classes)] = torch.tensor(corners) * (SIDE / size)
            digits[i, : len(classes)] = torch.tensor(classes)
    return DigitImages(torch.cat(rows).mul(255).round().to(torch.uint8), boxes, digits)


def train_counter(
    folders: Sequence[str | Path],
    out: str | Path,
    config: CounterConfig = CounterConfig(),
    progress: Progress = lambda step, steps: None,
) -> dict[str, Any]:
    """Train on the training parts of ``folders``, write the counter to ``out``, and return what is measured on the test parts.

    ``progress`` takes the number of steps done and of all. A stopped run continues from a checkpoint beside ``out``, to
    the same weights. Raises GanvasError for folders that hold no MultiMNIST, a checkpoint of another run, and an ``out``
    that can't be written.
    """
    sets = [read_digit_images(read_multimnist(folder, "train")) for folder in folders]
    held_out = [images.select(_is_held_out(images)) for images in sets]
    trained = [images.select(~_is_held_out(images)) for images in sets]
    network = train_counter_network(
        _join_sets(trained), config, checkpoint=Path(out).with_suffix(".checkpoint.safetensors"), progress=progress
    )
    counter = Counter(network, calibrate_counter(network, _join_sets(held_out), config.seed))
    measured = {str(Path(folder).name): measure_counter(counter, read_multimnist(folder, "test")) for folder in folders}
    save_counter(
        counter, out, {"options": asdict(config), "measured": measured, "learned_from": sum(map(len, trained))}
    )
    Path(out).with_suffix(".checkpoint.safetensors").unlink(missing_ok=True)
    return measured


def train_counter_network(
    data: DigitImages,
    config: CounterConfig = CounterConfig(),
    checkpoint: Path | None = None,
    progress: Progress = lambda step, steps: None,
) -> CounterNetwork:
    """Train a network; a ``checkpoint`` is written every CHECKPOINT_STEPS steps.

    Equal arguments give equal weights on one machine. Raises GanvasError where the loss isn't finite.
    """
    with seed_random_state(config.seed):
        network = CounterNetwork().to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    run = asdict(config) | {"n": len(data), "ink": int(data.grey.sum())}
    epochs = Epochs(CHECKPOINT_STEPS, config.seed * 100_003)
    minimize(
        lambda step: _compute_loss(network, data, config, epochs.random),
        torch.optim.AdamW(network.parameters(), config.rate, weight_decay=config.decay),
        config.steps,
        epochs=epochs,
        checkpoint=TrainingCheckpoint(checkpoint, network, run) if checkpoint else None,
        progress=progress,
    )
    return network.eval().requires_grad_(False)


def calibrate_counter(network: CounterNetwork, held_out: DigitImages, seed: int, n: int = 20_000) -> Tensor:
    """Fit scale and offset (2,) that make a margin the logit of a right count, on ``n`` augmented pictures of ``held_out``."""
    random = torch.Generator().manual_seed(seed + 1)
    margins, right = [], []
    for _ in range(max(n // 500, 1)):
        x, targets = draw_augmented(held_out, 500, random)
        with torch.no_grad():
            logits = network(x).count
        present = torch.rand(500, generator=random) < targets.chance
        margins.append(compute_margin(logits))
        right.append(logits.argmax(1) == (targets.count + present).clamp(max=MAX_COUNT))
    x, y = torch.cat(margins).double(), torch.cat(right).double()
    platt = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    solve_convex(lambda: F.binary_cross_entropy_with_logits(platt[0] * x + platt[1], y), [platt], 100)
    return platt.detach().float()


@torch.no_grad()
def measure_counter(counter: Counter, data: MultiMnist) -> dict[str, float]:
    """Measure a counter on a test part: shares of right counts and of digits found, and how sure it is.

    ``count``: the share of pictures whose count is right; ``all_classes``: whose number of each class is right.
    ``classes``: the share of right numbers, of those classes that are in a picture or were counted in it.
    ``sure``: the share of pictures with p(sure) ≥ 0.9; ``right_where_sure``: that of right counts among them, 0 of none.
    """
    rows = [counter(part[:, None].expand(-1, 3, -1, -1) / 127.5 - 1) for part in data.pixels.split(256)]
    scores = torch.cat(rows)
    count, classes, sure = scores[:, 0].long(), scores[:, 1:11].long(), scores[:, 11].sigmoid()
    right, right_classes = count == data.counts, classes == data.per_class
    counted = (classes > 0) | (data.per_class > 0)
    digits_found = torch.minimum(classes, data.per_class).sum() / data.per_class.sum()
    is_sure = sure >= 0.9
    values = {
        "n": len(data),
        "count": right.float().mean(),
        "classes": right_classes[counted].float().mean(),
        "digits_found": digits_found,
        "all_classes": right_classes.all(1).float().mean(),
        "sure": is_sure.float().mean(),
        "right_where_sure": right[is_sure].float().mean() if is_sure.any() else 0.0,
        "mean_p_sure": sure.mean(),
    }
    return {key: float(value) for key, value in values.items()}


def save_counter(counter: Counter, path: str | Path, metadata: dict[str, Any]) -> None:
    """Write a counter in float16, its ``calibration`` as it is, with ``metadata``."""
    state = {key: value for key, value in counter.network.state_dict().items() if "num_batches" not in key}
    tensors = {key: value.half() for key, value in state.items()} | {"calibration": counter.calibration}
    save_tensors(path, tensors, {"scorer": "count", "version": 1} | metadata)


def draw_augmented(data: DigitImages, n: int, random: torch.Generator) -> tuple[Tensor, DigitTargets]:
    """Draw ``n`` random pictures (n, 1, 64, 64), augmented, and their targets."""
    first, second = (data.select(torch.randint(len(data), (n,), generator=random)) for _ in range(2))
    x, count = first.grey / 255, (first.digits >= 0).sum(1)
    classes = F.one_hot(first.digits + 1, CLASSES + 1).sum(1)[:, 1:]
    combined = (torch.rand(n, generator=random) < 0.25) & ~_overlap(first.boxes, second.boxes)
    x = torch.where(combined[:, None, None], torch.maximum(x, second.grey / 255), x)
    added = F.one_hot(second.digits + 1, CLASSES + 1).sum(1)[:, 1:]
    count, classes = count + combined * added.sum(1), classes + combined[:, None] * added
    x, more, chance, faded = _fade_first_digits(x, first, random)
    # The faded digit is no longer among those that are surely present.
    one_hot = F.one_hot(more, CLASSES) * faded[:, None]
    targets = DigitTargets(count - faded.long(), classes - one_hot, more, chance)
    return _distort(x[:, None], random), targets


def _fade_first_digits(
    images: Tensor, first: DigitImages, random: torch.Generator
) -> tuple[Tensor, Int[Tensor, " n"], Float[Tensor, " n"], Tensor]:
    """Erase, fade or cut the first digit of some pictures; return them, its class, the probability that it is present, and
    which pictures changed (bool)."""
    n = len(images)
    faded = (torch.rand(n, generator=random) < 0.35) & (first.digits[:, 0] >= 0)
    kind = torch.randint(3, (n, 1, 1), generator=random)
    remaining = torch.rand(n, generator=random)
    y, x = (torch.arange(SIDE) + 0.5).reshape(-1, 1), (torch.arange(SIDE) + 0.5).reshape(1, -1)
    x0, y0, x1, y1 = (first.boxes[:, 0, k, None, None] for k in range(4))
    inside = (x > x0 - 1) & (x < x1 + 1) & (y > y0 - 1) & (y < y1 + 1) & faded[:, None, None]
    # Erased; faint; cut from above, below, the left or the right.
    edge = remaining[:, None, None]
    sides = torch.stack([(y - y0) / (y1 - y0) + 0 * x, (y1 - y) / (y1 - y0) + 0 * x, (x - x0) / (x1 - x0) + 0 * y])
    side = sides[torch.randint(3, (n,), generator=random), torch.arange(n)]
    kept = torch.where(kind == 0, 0.0, torch.where(kind == 1, edge, (side < edge).float()))
    changed = torch.where(inside, images * kept, images)
    before, after = (torch.where(inside, image, 0.0).sum((1, 2)) for image in (images, changed))
    chance = ((after / before.clamp(min=1e-3) - FAINT_RANGE[0]) / (FAINT_RANGE[1] - FAINT_RANGE[0])).clamp(0, 1)
    return changed, first.digits[:, 0].clamp(min=0), torch.where(faded, chance, 0.0), faded


def _distort(x: Tensor, random: torch.Generator) -> Tensor:
    """Change sharpness, contrast, size and slant at random, and add noise."""

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(len(x), 1, 1, 1, generator=random)

    zoom, shear, turn = uniform(1.05, 1.25), uniform(-0.15, 0.15), uniform(-0.1, 0.1)
    rows = [torch.cat((zoom * turn.cos(), shear - turn.sin(), 0 * zoom), 3), torch.cat((turn.sin(), zoom, 0 * zoom), 3)]
    changed = F.grid_sample(x, F.affine_grid(torch.cat(rows, 2)[:, 0], list(x.shape), False), align_corners=False)
    # Half stay as they are: bilinear sampling softens.
    x = torch.where(uniform(0, 1) < 0.5, changed, x)
    x = torch.lerp(x, F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 3, 1), uniform(-0.5, 0.8)).clamp(0, 1)
    x = x.clamp(min=1e-6) ** uniform(0.6, 1.6) * uniform(0.7, 1.0) + uniform(-0.03, 0.06)
    noise = torch.randn(x.shape, generator=random) * uniform(0, 0.08) * (uniform(0, 1) < 0.5)
    return (x + noise).clamp(0, 1)


def _overlap(first: Tensor, second: Tensor, gap: float = 1.0) -> Tensor:
    """Return whether any two boxes of the pairs (n, digits, 4) are nearer than ``gap``, (n,) bool; empty ones never are."""
    a, b = first[:, :, None], second[:, None]
    apart = (a[..., 2] + gap <= b[..., 0]) | (b[..., 2] + gap <= a[..., 0])
    apart |= (a[..., 3] + gap <= b[..., 1]) | (b[..., 3] + gap <= a[..., 1])
    real = (a[..., 2] > a[..., 0]) & (b[..., 2] > b[..., 0])
    return (real & ~apart).any(2).any(1)


def _interpolate_one_hot(low: Tensor, high: Tensor, chance: Tensor, largest: int) -> Tensor:
    low, high = (F.one_hot(value.clamp(0, largest), largest + 1).float() for value in (low, high))
    return torch.lerp(low, high, chance[..., None])


def _compute_loss(network: CounterNetwork, data: DigitImages, config: CounterConfig, random: torch.Generator) -> Tensor:
    x, targets = draw_augmented(data, config.batch, random)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.dtype == "bfloat16"):
        logits = CountLogits(*(part.float() for part in network(x.contiguous(memory_format=torch.channels_last))))
    count, classes = targets.to_probabilities()
    of_count = F.cross_entropy(logits.count, count)
    of_classes = -(classes * logits.classes.log_softmax(2)).sum((1, 2)).mean()
    return of_count + config.class_weight * of_classes


def _is_held_out(data: DigitImages) -> Tensor:
    """Return which pictures are held out, (n,) bool: the last ones of a set."""
    return torch.arange(len(data)) >= len(data) - min(MAX_HELD_OUT, len(data) // 10)


def _join_sets(sets: list[DigitImages]) -> DigitImages:
    """Join sets; the rows of those with fewer digits a picture are padded."""
    most_digits = max(p.digits.shape[1] for p in sets)
    boxes = [F.pad(p.boxes, (0, 0, 0, most_digits - p.boxes.shape[1])) for p in sets]
    digits = [F.pad(p.digits, (0, most_digits - p.digits.shape[1]), value=-1) for p in sets]
    return DigitImages(torch.cat([p.grey for p in sets]), torch.cat(boxes), torch.cat(digits))
