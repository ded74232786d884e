"""Trains the digit counter on MultiMNIST, on pictures changed as ``digit_images`` says, and measures it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ganvas.data.multimnist_files import MultiMnist, read_multimnist
from ganvas.errors import GanvasError, unknown
from ganvas.io.files import save_tensors
from ganvas.scorers.count import MAX_COUNT, SIDE, Counter, CounterNetwork, CountLogits, compute_margin, to_network_input
from ganvas.training import checkpoint as training_checkpoint
from ganvas.training.digit_images import DigitImages, draw_augmented
from ganvas.types import DTYPES

HELD_OUT = 2000
"""Pictures of the training set, at most a tenth, that aren't learned from: probabilities are calibrated on them."""
CHUNK = 100
"""Steps between checkpoints."""


@dataclass(frozen=True)
class CounterConfig:
    """How long, how fast, and the ``dtype`` of convolutions."""

    steps: int = 1400
    batch: int = 128
    rate: float = 3e-3
    decay: float = 0.02
    class_weight: float = 0.5
    dtype: str = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise unknown("dtype", self.dtype, DTYPES)


def read_digit_images(data: MultiMnist) -> DigitImages:
    """A part of a set, at 64×64."""
    size, most = data.pixels.shape[-1], max(max(map(len, data.digits)), 1)
    rows = [to_network_input(part[:, None].expand(-1, 3, -1, -1) / 127.5 - 1)[:, 0] for part in data.pixels.split(512)]
    boxes, digits = torch.zeros(len(data), most, 4), torch.full((len(data), most), -1)
    for i, (around, classes) in enumerate(zip(data.boxes, data.digits, strict=True)):
        if classes:
            boxes[i, : len(classes)] = torch.tensor(around) * (SIDE / size)
            digits[i, : len(classes)] = torch.tensor(classes)
    return DigitImages(torch.cat(rows).mul(255).round().to(torch.uint8), boxes, digits)


def train_counter(
    folders: Sequence[str | Path],
    out: str | Path,
    options: CounterConfig = CounterConfig(),
    watch: Callable[[int, int], object] = lambda step, steps: None,
) -> dict[str, Any]:
    """Train on the training parts of ``folders`` and write the counter to ``out``; what was measured on their test parts.

    A checkpoint beside ``out`` lets a run that was stopped go on, to the same weights. Raises GanvasError for folders that
    hold no MultiMNIST, a checkpoint of another run, and an ``out`` that can't be written.
    """
    sets = [read_digit_images(read_multimnist(folder, "train")) for folder in folders]
    held, learned = ([p.part(_held(p, kept)) for p in sets] for kept in (True, False))
    network = train(_joined(learned), options, checkpoint=Path(out).with_suffix(".checkpoint.safetensors"), watch=watch)
    counter = Counter(network, calibrate(network, _joined(held), options.seed))
    found = {str(Path(folder).name): measure_counter(counter, read_multimnist(folder, "test")) for folder in folders}
    save_counter(counter, out, {"options": asdict(options), "measured": found, "learned_from": sum(map(len, learned))})
    Path(out).with_suffix(".checkpoint.safetensors").unlink(missing_ok=True)
    return found


def train(
    data: DigitImages,
    options: CounterConfig = CounterConfig(),
    checkpoint: Path | None = None,
    watch: Callable[[int, int], object] = lambda step, steps: None,
) -> CounterNetwork:
    """Learn; a ``checkpoint`` is written every ``CHUNK`` steps. Equal arguments give equal weights on one machine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = CounterNetwork().to(memory_format=torch.channels_last).train()  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.AdamW(network.parameters(), options.rate, weight_decay=options.decay)
    run = asdict(options) | {"n": len(data), "ink": int(data.grey.sum())}
    done = training_checkpoint.load_checkpoint(checkpoint, network, optimizer, run) if checkpoint else 0
    for chunk in range(done, math.ceil(options.steps / CHUNK)):
        random = torch.Generator().manual_seed(options.seed * 100_003 + chunk)
        for step in range(chunk * CHUNK, min((chunk + 1) * CHUNK, options.steps)):
            for group in optimizer.param_groups:
                group["lr"] = options.rate * warmup_cosine(step, options.steps)
            loss = _loss(network, data, options, random)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            watch(step + 1, options.steps)
        if not torch.isfinite(loss.detach()):
            raise GanvasError(f"The training went astray (loss {float(loss.detach())}): lower its rate.")
        if checkpoint:
            training_checkpoint.save_checkpoint(checkpoint, chunk + 1, network, optimizer, run)
    return network.eval().requires_grad_(False)


def calibrate(network: CounterNetwork, held: DigitImages, seed: int, n: int = 20_000) -> Tensor:
    """Scale and offset (2,) that make a margin the logit of being right, on changed pictures of ``held``."""
    random = torch.Generator().manual_seed(seed + 1)
    margins, right = [], []
    for _ in range(max(n // 500, 1)):
        x, targets = draw_augmented(held, 500, random)
        with torch.no_grad():
            logits = network(x).count
        there = torch.rand(500, generator=random) < targets.chance
        margins.append(compute_margin(logits))
        right.append(logits.argmax(1) == (targets.count + there).clamp(max=MAX_COUNT))
    x, y = torch.cat(margins).double(), torch.cat(right).double()
    found = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    descent = torch.optim.LBFGS([found], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        descent.zero_grad()
        value = F.binary_cross_entropy_with_logits(found[0] * x + found[1], y)
        value.backward()
        return value

    descent.step(loss)
    return found.detach().float()


@torch.no_grad()
def measure_counter(counter: Counter, data: MultiMnist) -> dict[str, float]:
    """On a test part: shares of pictures whose count is right, and all classes with it; of digits found; how sure it is.

    ``classes``: the share of the 10 numbers of each picture that are right, of those classes that are in it or were counted in
    it. ``sure``: the share of pictures with p(sure) ≥ 0.9; ``right_where_sure``: that of right counts among them, 0 of none.
    """
    rows = [counter(part[:, None].expand(-1, 3, -1, -1) / 127.5 - 1) for part in data.pixels.split(256)]
    scores = torch.cat(rows)
    count, classes, sure = scores[:, 0].long(), scores[:, 1:11].long(), scores[:, 11].sigmoid()
    right, alike = count == data.counts, classes == data.per_class
    shown = (classes > 0) | (data.per_class > 0)
    found = torch.minimum(classes, data.per_class).sum() / data.per_class.sum()
    certain = sure >= 0.9
    values = {
        "n": len(data),
        "count": right.float().mean(),
        "classes": alike[shown].float().mean(),
        "digits_found": found,
        "all_classes": alike.all(1).float().mean(),
        "sure": certain.float().mean(),
        "right_where_sure": right[certain].float().mean() if certain.any() else 0.0,
        "mean_p_sure": sure.mean(),
    }
    return {key: float(value) for key, value in values.items()}


def save_counter(counter: Counter, path: str | Path, about: dict[str, Any]) -> None:
    """Write a counter in float16; ``calibration`` stays as it is."""
    state = {key: value for key, value in counter.network.state_dict().items() if "num_batches" not in key}
    tensors = {key: value.half() for key, value in state.items()} | {"calibration": counter.calibration}
    save_tensors(path, tensors, {"scorer": "count", "version": 1} | about)


def _loss(network: CounterNetwork, data: DigitImages, options: CounterConfig, random: torch.Generator) -> Tensor:
    x, targets = draw_augmented(data, options.batch, random)
    with torch.autocast("cpu", torch.bfloat16, enabled=options.dtype == "bfloat16"):
        logits = CountLogits(*(part.float() for part in network(x.contiguous(memory_format=torch.channels_last))))
    count, classes = targets.soft()
    of_count = F.cross_entropy(logits.count, count)
    of_classes = -(classes * logits.classes.log_softmax(2)).sum((1, 2)).mean()
    return of_count + options.class_weight * of_classes


def _held(data: DigitImages, kept: bool) -> Tensor:
    """The last pictures of a set are held out."""
    rows = torch.arange(len(data))
    return (rows >= len(data) - min(HELD_OUT, len(data) // 10)) == kept


def _joined(sets: list[DigitImages]) -> DigitImages:
    """Sets as one; those with fewer digits a picture get empty places."""
    most = max(p.digits.shape[1] for p in sets)
    boxes = [F.pad(p.boxes, (0, 0, 0, most - p.boxes.shape[1])) for p in sets]
    digits = [F.pad(p.digits, (0, most - p.digits.shape[1]), value=-1) for p in sets]
    return DigitImages(torch.cat([p.grey for p in sets]), torch.cat(boxes), torch.cat(digits))


def warmup_cosine(step: int, steps: int) -> float:
    """Up over the first tenth, then down as a cosine."""
    done = (step + 1) / steps
    return min(done / 0.1, 1) * (1 + math.cos(math.pi * done)) / 2
