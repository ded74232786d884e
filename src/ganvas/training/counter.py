"""Train the digit counter on MultiMNIST, augmented by ``digit_images``, and measure it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.data.multimnist_files import MultiMnist, read_multimnist
from ganvas.errors import GanvasError
from ganvas.io.files import save_tensors
from ganvas.progress import Progress
from ganvas.scorers.count import MAX_COUNT, SIDE, Counter, CounterNetwork, CountLogits, compute_margin, to_network_input
from ganvas.training import checkpoint as training_checkpoint
from ganvas.training.digit_images import DigitImages, draw_augmented
from ganvas.types import Dtype
from ganvas.validation import Natural, NonNegative, Positive, PositiveInt, validated

MAX_HELD_OUT = 2000
"""Pictures of the training set, at most a tenth of it, that only calibrate probabilities."""
CHECKPOINT_STEPS = 100
"""Steps between checkpoints."""


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
    network = train(
        _join_sets(trained), config, checkpoint=Path(out).with_suffix(".checkpoint.safetensors"), progress=progress
    )
    counter = Counter(network, calibrate(network, _join_sets(held_out), config.seed))
    measured = {str(Path(folder).name): measure_counter(counter, read_multimnist(folder, "test")) for folder in folders}
    save_counter(
        counter, out, {"options": asdict(config), "measured": measured, "learned_from": sum(map(len, trained))}
    )
    Path(out).with_suffix(".checkpoint.safetensors").unlink(missing_ok=True)
    return measured


def train(
    data: DigitImages,
    config: CounterConfig = CounterConfig(),
    checkpoint: Path | None = None,
    progress: Progress = lambda step, steps: None,
) -> CounterNetwork:
    """Train a network; a ``checkpoint`` is written every CHECKPOINT_STEPS steps.

    Equal arguments give equal weights on one machine. Raises GanvasError where the loss isn't finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        network = CounterNetwork().to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(network.parameters(), config.rate, weight_decay=config.decay)
    run = asdict(config) | {"n": len(data), "ink": int(data.grey.sum())}
    done = training_checkpoint.load_checkpoint(checkpoint, network, optimizer, run) if checkpoint else 0
    for chunk in range(done, math.ceil(config.steps / CHECKPOINT_STEPS)):
        random = torch.Generator().manual_seed(config.seed * 100_003 + chunk)
        for step in range(chunk * CHECKPOINT_STEPS, min((chunk + 1) * CHECKPOINT_STEPS, config.steps)):
            for group in optimizer.param_groups:
                group["lr"] = config.rate * warmup_cosine(step, config.steps)
            loss = _loss(network, data, config, random)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            progress(step + 1, config.steps)
        if not torch.isfinite(loss.detach()):
            raise GanvasError(f"The training diverged (loss {float(loss.detach())}): choose a lower learning rate.")
        if checkpoint:
            training_checkpoint.save_checkpoint(checkpoint, chunk + 1, network, optimizer, run)
    return network.eval().requires_grad_(False)


def calibrate(network: CounterNetwork, held_out: DigitImages, seed: int, n: int = 20_000) -> Tensor:
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
    optimizer = torch.optim.LBFGS([platt], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.binary_cross_entropy_with_logits(platt[0] * x + platt[1], y)
        value.backward()
        return value

    optimizer.step(loss)
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


def _loss(network: CounterNetwork, data: DigitImages, config: CounterConfig, random: torch.Generator) -> Tensor:
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


def warmup_cosine(step: int, steps: int) -> float:
    """Return the learning rate's factor: it rises over the first tenth, then falls as a cosine."""
    done = (step + 1) / steps
    return min(done / 0.1, 1) * (1 + math.cos(math.pi * done)) / 2
